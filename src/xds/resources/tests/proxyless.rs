//! What clients of gRPC get that resolve names themselves (control-plane-surface §7).

use envoy_types::pb::envoy::config::cluster::v3 as cds;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{DiscoveryType, LbPolicy};
use envoy_types::pb::envoy::config::listener::v3 as lds;
use envoy_types::pb::envoy::config::route::v3 as rds;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;

use super::clusters::{policies, rule, subset};
use super::fixtures::{
    HOST, around, built, built_under, everything, find, fixed, names, port, service, sidecar, table, unpack,
};
use super::requests::{forward, snapshot, to, virtual_service};
use crate::model::policy::{
    ClientTls, ClientTlsMode, Cors, DestinationRule, Fault, HashKey, HashTable, LoadBalancer, MeshConfig,
    SimpleLb, TrafficSettings,
};
use crate::model::{Dialect, InterceptionMode, PortProtocol, Resolution, Service};
use crate::view::OutboundKey;
use crate::xds::resources::{ServiceResources, host};

fn key() -> OutboundKey {
    OutboundKey { dialect: Dialect::Grpc, ..sidecar(InterceptionMode::Redirect) }
}

fn one() -> Service {
    service("helloworld", vec![port(80, PortProtocol::Http)])
}

fn under(settings: TrafficSettings) -> ServiceResources {
    built_under(&one(), &key(), &policies(MeshConfig::default(), Some(rule(settings))), &[])
}

fn tls(mode: ClientTlsMode) -> TrafficSettings {
    TrafficSettings { tls: Some(ClientTls { mode, ..ClientTls::default() }), ..TrafficSettings::default() }
}

/// The only Envoy cluster.
fn cluster(made: &ServiceResources) -> cds::Cluster {
    find(&made.clusters, &format!("outbound|80||{HOST}"))
}

#[test]
fn a_listener_for_each_name_leads_to_the_routes_of_one_service() {
    let made = built(&service("helloworld", everything()), &key());
    assert_eq!(made.clusters.len(), everything().len(), "whatever is spoken on a port");
    let listener: lds::Listener = find(&made.listeners, &format!("{HOST}:3306"));
    assert!(listener.address.is_none() && listener.filter_chains.is_empty());
    let api = listener.api_listener.and_then(|api| api.api_listener).expect("an API listener");
    let manager: hcm::HttpConnectionManager = unpack(&api);
    let filters: Vec<_> = manager.http_filters.iter().map(|filter| filter.name.as_str()).collect();
    assert_eq!(filters, ["envoy.filters.http.fault", "envoy.filters.http.router"]);
    let Some(hcm::http_connection_manager::RouteSpecifier::Rds(rds)) = manager.route_specifier else {
        panic!("no RDS");
    };
    assert_eq!(rds.route_config_name, format!("outbound|3306||{HOST}"));
    let short = ["helloworld", "helloworld.sample", "helloworld.sample.svc"];
    let expected: Vec<_> = std::iter::once(HOST).chain(short).map(|name| format!("{name}:80")).collect();
    assert_eq!(names(&made.listeners)[..4], expected);
    // A client compares all of what it was asked for, the port as well.
    let table = table(&made, &key(), &Default::default());
    assert_eq!(table.name, format!("outbound|80||{HOST}"));
    assert_eq!(table.virtual_hosts.len(), 1, "its own and no catch-all");
    let domains = &table.virtual_hosts[0].domains;
    assert!(expected.iter().all(|name| domains.contains(name)) && domains.contains(&HOST.to_owned()));
}

#[test]
fn nothing_is_in_an_envoy_cluster_that_clients_refuse() {
    let balancer = |simple, hash| TrafficSettings {
        load_balancer: Some(LoadBalancer { simple, hash, ..LoadBalancer::default() }),
        ..TrafficSettings::default()
    };
    let by = |table| balancer(None, Some((HashKey::Header("x".into()), table)));
    for (settings, policy) in [
        (TrafficSettings::default(), LbPolicy::RoundRobin),
        (balancer(Some(SimpleLb::LeastRequest), None), LbPolicy::RoundRobin),
        (balancer(Some(SimpleLb::Random), None), LbPolicy::RoundRobin),
        (balancer(Some(SimpleLb::Passthrough), None), LbPolicy::RoundRobin),
        (by(HashTable::Maglev(Some(65_537))), LbPolicy::RingHash),
        (by(HashTable::Ring(64)), LbPolicy::RingHash),
    ] {
        let cluster = cluster(&under(settings));
        assert_eq!(cluster.lb_policy, i32::from(policy));
        let eds = cds::cluster::ClusterDiscoveryType::Type(DiscoveryType::Eds.into());
        assert_eq!(cluster.cluster_discovery_type, Some(eds));
        assert!(cluster.transport_socket.is_none() && cluster.transport_socket_matches.is_empty());
        assert!(cluster.outlier_detection.is_none() && cluster.typed_extension_protocol_options.is_empty());
    }
    assert_eq!(fixed(&key()), ServiceResources::default());
}

#[test]
fn names_that_somebody_would_have_to_resolve_are_left_out_and_headless_services_are_not() {
    let resolved = |resolution| built(&Service { resolution, ..one() }, &key());
    assert_eq!(resolved(Resolution::Dns).clusters, []);
    let headless = resolved(Resolution::Passthrough);
    assert_eq!((headless.clusters.len(), headless.virtual_hosts.len()), (1, 1));
}

#[test]
fn tls_is_the_meshs_or_none_and_never_plaintext_in_its_place() {
    assert!(cluster(&under(tls(ClientTlsMode::Disable))).transport_socket.is_none());
    assert!(cluster(&under(tls(ClientTlsMode::IstioMutual))).transport_socket.is_some());
    for mode in [ClientTlsMode::Simple, ClientTlsMode::Mutual] {
        let made = under(tls(mode));
        assert!(made.clusters.is_empty() && made.listeners.is_empty() && made.virtual_hosts.is_empty());
        assert_eq!(made.reads.left_out.len(), 1);
        // A subset of its own does not stand for the whole.
        let v1 = subset("v1", tls(ClientTlsMode::Disable));
        let rule = DestinationRule { subsets: vec![v1], ..rule(tls(mode)) };
        let made = built_under(&one(), &key(), &policies(MeshConfig::default(), Some(rule)), &[]);
        assert_eq!(names(&made.clusters), [format!("outbound|80|v1|{HOST}")]);
        assert!(made.listeners.is_empty());
    }
}

#[test]
fn routes_have_settings_only_of_filters_that_clients_have() {
    let mut told = forward(Vec::new(), vec![to(HOST, "", 1)]);
    told.cors = Some(Cors::default());
    told.fault = Some(Fault { delay: None, abort: None });
    let policies = snapshot([virtual_service(&[HOST], vec![told])]);
    let table: rds::RouteConfiguration =
        table(&built_under(&one(), &key(), &policies, &[one()]), &key(), &policies);
    let filters: Vec<_> = table.virtual_hosts[0].routes[0].typed_per_filter_config.keys().collect();
    assert_eq!(filters, ["envoy.filters.http.fault"]);
}

#[test]
fn a_host_of_a_virtual_service_alone_has_a_listener_unless_it_has_a_wildcard() {
    let told = |name: &str| virtual_service(&[name], vec![forward(Vec::new(), vec![to(HOST, "", 1)])]);
    let made = |name: &str| {
        let told = told(name);
        around(&key(), &snapshot([told.clone()]), &[one()], |around| host(name, &told, around))
    };
    let own = made("api.example.org");
    assert_eq!(names(&own.listeners), ["api.example.org:80"]);
    assert_eq!(own.virtual_hosts[0].0.as_str(), "outbound|80||api.example.org");
    let any = made("*.example.org");
    assert!(any.listeners.is_empty() && any.virtual_hosts.is_empty() && any.chains.is_empty());
}
