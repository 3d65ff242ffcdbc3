//! Envoy clusters after policies.

use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::cluster::{
    DiscoveryType, LbConfig, LbPolicy, common_lb_config,
};
use envoy_types::pb::envoy::config::cluster::v3::{self as cds};
use envoy_types::pb::envoy::config::core::v3::transport_socket;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as tls;
use envoy_types::pb::envoy::extensions::upstreams::http::v3 as upstream;

use super::fixtures::{self, HOST, built_under, find, gateway, names, port, service, sidecar, unpack};
use crate::model::policy::{
    ClientTls, ClientTlsMode, ConnectionPool, DestinationRule, Distribute, HashKey, HashTable, HostPattern,
    HttpPool, HttpUpgrade, LoadBalancer, LocalityLb, MeshConfig, OutlierDetection, PolicyId, PolicyMeta,
    SimpleLb, Subset, TcpKeepalive, TcpPool, TrafficPolicy, TrafficSettings, WorkloadSelector, ZoneAwareLb,
};
use crate::model::{
    Dialect, EntryFacts, ExportTo, Features, InlineAddress, InlineEndpoint, InterceptionMode, PortProtocol,
    Resolution, Service, TrafficDistribution, Workload,
};
use crate::registry::{PolicyObject, PolicySnapshot};

pub(super) fn rule(settings: TrafficSettings) -> DestinationRule {
    DestinationRule {
        meta: PolicyMeta { created: 1, id: PolicyId::new("sample", "rule") },
        host: HostPattern::new(HOST),
        policy: TrafficPolicy { settings, ports: Vec::new() },
        subsets: Vec::new(),
        selector: WorkloadSelector::default(),
        export_to: ExportTo::Unset,
    }
}

pub(super) fn subset(name: &str, settings: TrafficSettings) -> Subset {
    let labels = [("version".into(), name.into())].into_iter().collect();
    Subset { name: name.into(), labels, policy: TrafficPolicy { settings, ports: Vec::new() } }
}

pub(super) fn policies(mesh: MeshConfig, rule: Option<DestinationRule>) -> PolicySnapshot {
    PolicySnapshot::with(mesh, rule.map(|rule| PolicyObject::DestinationRule(Arc::new(rule))))
}

fn http() -> Service {
    service("helloworld", vec![port(80, PortProtocol::Http)])
}

fn one(service: &Service, mesh: MeshConfig, settings: Option<TrafficSettings>) -> cds::Cluster {
    let policies = policies(mesh, settings.map(rule));
    let made = built_under(service, &sidecar(InterceptionMode::Redirect), &policies, &[]);
    find(&made.clusters, &format!("outbound|{}||{HOST}", service.ports[0].number))
}

fn discovery(cluster: &cds::Cluster) -> DiscoveryType {
    match cluster.cluster_discovery_type {
        Some(cds::cluster::ClusterDiscoveryType::Type(kind)) => DiscoveryType::try_from(kind).expect("known"),
        ref other => panic!("{other:?}"),
    }
}

fn balanced(load_balancer: LoadBalancer) -> cds::Cluster {
    let settings = TrafficSettings { load_balancer: Some(load_balancer), ..TrafficSettings::default() };
    one(&http(), MeshConfig::default(), Some(settings))
}

#[test]
fn r4_3_each_subset_has_a_cluster_with_its_own_settings() {
    let random = TrafficSettings {
        load_balancer: Some(LoadBalancer { simple: Some(SimpleLb::Random), ..LoadBalancer::default() }),
        ..TrafficSettings::default()
    };
    let rule = DestinationRule {
        subsets: vec![subset("v1", TrafficSettings::default()), subset("v2", random)],
        ..rule(TrafficSettings::default())
    };
    let policies = policies(MeshConfig::default(), Some(rule));
    let made = built_under(&http(), &sidecar(InterceptionMode::Redirect), &policies, &[]);
    let of = |subset: &str| format!("outbound|80|{subset}|{HOST}");
    assert_eq!(names(&made.clusters), [of(""), of("v1"), of("v2")]);
    let v2: cds::Cluster = find(&made.clusters, &of("v2"));
    assert_eq!(v2.lb_policy(), LbPolicy::Random);
    assert_eq!(v2.eds_cluster_config.expect("EDS").service_name, of("v2"));
    let socket = v2.transport_socket_matches[0].transport_socket.clone().expect("socket");
    let Some(transport_socket::ConfigType::TypedConfig(any)) = socket.config_type else { panic!("none") };
    assert_eq!(unpack::<tls::UpstreamTlsContext>(&any).sni, format!("outbound_.80_.v2_.{HOST}"));
    let behind = built_under(&http(), &gateway(), &policies, &[]);
    assert!(names(&behind.clusters).contains(&format!("outbound_.80_.v1_.{HOST}").as_str()), "R7.1");
    assert!(String::from_utf8_lossy(&behind.sni_chains.concat()).contains("outbound_.80_.v2_."), "R7.2");
}

#[test]
fn tls_that_follows_the_clients_version_leaves_protocols_to_each_pool() {
    let of = |use_client_protocol, upgrade| {
        let pool = HttpPool { use_client_protocol, upgrade, ..HttpPool::default() };
        let settings = TrafficSettings {
            connection_pool: Some(ConnectionPool { http: pool, ..ConnectionPool::default() }),
            tls: Some(secured(ClientTlsMode::Simple)),
            ..TrafficSettings::default()
        };
        let cluster = one(&http(), MeshConfig::default(), Some(settings));
        let socket = cluster.transport_socket.expect("TLS");
        let Some(transport_socket::ConfigType::TypedConfig(any)) = socket.config_type else { panic!("none") };
        unpack::<tls::UpstreamTlsContext>(&any).common_tls_context.expect("common").alpn_protocols
    };
    assert_eq!(of(true, HttpUpgrade::Default), [""; 0], "one of both would be offered by the other's pool");
    assert_eq!(of(false, HttpUpgrade::Upgrade), ["h2"]);
    assert_eq!(of(false, HttpUpgrade::Default), [""; 0]);
}

#[test]
fn load_balancing_is_what_the_rule_says() {
    let round = balanced(LoadBalancer {
        simple: Some(SimpleLb::RoundRobin),
        warmup: Some(Duration::from_secs(30)),
        ..LoadBalancer::default()
    });
    assert_eq!(round.lb_policy(), LbPolicy::RoundRobin);
    assert!(
        matches!(round.lb_config, Some(LbConfig::RoundRobinLbConfig(one)) if one.slow_start_config.is_some())
    );
    let hash = |table| LoadBalancer { hash: Some((HashKey::SourceIp, table)), ..LoadBalancer::default() };
    let ring = balanced(hash(HashTable::Ring(1024)));
    assert_eq!(ring.lb_policy(), LbPolicy::RingHash);
    assert!(
        matches!(ring.lb_config, Some(LbConfig::RingHashLbConfig(one)) if one.minimum_ring_size.is_some())
    );
    assert_eq!(balanced(hash(HashTable::Maglev(None))).lb_policy(), LbPolicy::Maglev);
    let picked = balanced(LoadBalancer { simple: Some(SimpleLb::Passthrough), ..LoadBalancer::default() });
    assert_eq!(
        (discovery(&picked), picked.lb_policy()),
        (DiscoveryType::OriginalDst, LbPolicy::ClusterProvided)
    );
    assert!(picked.transport_socket_matches.is_empty(), "nobody knows whom the client picked");
}

#[test]
fn r4_36_localities_are_weighed_only_where_something_is_configured() {
    use common_lb_config::LocalityConfigSpecifier::{LocalityWeightedLbConfig, ZoneAwareLbConfig};
    let of = |cluster: cds::Cluster| cluster.common_lb_config.expect("lb").locality_config_specifier;
    assert_eq!(of(balanced(LoadBalancer::default())), None, "the mesh's default failover");
    let distribute = LocalityLb {
        distribute: vec![Distribute { from: "a".into(), to: vec![("a".into(), 100)] }],
        ..LocalityLb::default()
    };
    let lb = |locality, zone_aware| LoadBalancer { locality, zone_aware, ..LoadBalancer::default() };
    assert!(matches!(of(balanced(lb(Some(distribute.clone()), None))), Some(LocalityWeightedLbConfig(_))));
    let off = LocalityLb { enabled: false, ..LocalityLb::default() };
    let mesh = MeshConfig { locality_lb: Some(distribute.clone()), ..MeshConfig::default() };
    let settings = |lb| TrafficSettings { load_balancer: Some(lb), ..TrafficSettings::default() };
    assert_eq!(
        of(one(&http(), mesh.clone(), Some(settings(lb(Some(off), None))))),
        None,
        "off ends the search"
    );
    assert!(of(one(&http(), mesh, None)).is_some());
    let zone =
        of(balanced(lb(Some(distribute), Some(ZoneAwareLb { enabled: false, ..ZoneAwareLb::default() }))));
    assert!(matches!(zone, Some(ZoneAwareLbConfig(one)) if one.routing_enabled.is_some()), "R4.29: it wins");
    let near = Service { traffic_distribution: TrafficDistribution::PreferSameZone, ..http() };
    assert!(of(one(&near, MeshConfig::default(), None)).is_some(), "R4.30");
}

/// The first Envoy cluster under these switches.
fn switched(service: &Service, settings: Option<TrafficSettings>, features: Features) -> cds::Cluster {
    let made = fixtures::switched(service, &policies(MeshConfig::default(), settings.map(rule)), features);
    find(&made.clusters, &format!("outbound|{}||{HOST}", service.ports[0].number))
}

#[test]
fn r4_36_a_switch_weighs_localities_everywhere() {
    use common_lb_config::LocalityConfigSpecifier::LocalityWeightedLbConfig;
    let features = Features { locality_weighted: true, ..Features::default() };
    let weighed = |cluster: cds::Cluster| {
        let common = cluster.common_lb_config.expect("lb");
        matches!(common.locality_config_specifier, Some(LocalityWeightedLbConfig(_)))
    };
    assert!(
        weighed(switched(&http(), None, features)) && !weighed(switched(&http(), None, Features::default()))
    );
}

#[test]
fn r5_21_a_switch_sends_sidecars_the_endpoints_of_headless_services() {
    let headless = Service { resolution: Resolution::Passthrough, ..http() };
    assert_eq!(discovery(&switched(&headless, None, Features::default())), DiscoveryType::OriginalDst);
    let features = Features { eds_for_headless: true, ..Features::default() };
    assert_eq!(discovery(&switched(&headless, None, features)), DiscoveryType::Eds);
}

fn with_outlier(told: OutlierDetection, service: &Service) -> cds::Cluster {
    let settings = TrafficSettings { outlier_detection: Some(told), ..TrafficSettings::default() };
    one(service, MeshConfig::default(), Some(settings))
}

#[test]
fn a_gateway_is_left_out_only_for_its_own_errors_and_never_all_endpoints_at_once() {
    assert_eq!(
        one(&http(), MeshConfig::default(), None).outlier_detection,
        None,
        "only where it is asked for"
    );
    let made = with_outlier(OutlierDetection::default(), &http()).outlier_detection.expect("asked for");
    let value = |of: Option<envoy_types::pb::google::protobuf::UInt32Value>| of.map(|of| of.value);
    assert_eq!(value(made.enforcing_consecutive_5xx), Some(0));
    assert_eq!(value(made.consecutive_gateway_failure), Some(5));
    assert_eq!(value(made.enforcing_consecutive_gateway_failure), Some(100));
    assert_eq!(value(made.max_ejection_percent), Some(50));
    let told = OutlierDetection {
        consecutive_5xx: Some(3),
        max_ejection_percent: Some(100),
        ..OutlierDetection::default()
    };
    let made = with_outlier(told, &http()).outlier_detection.expect("asked for");
    assert_eq!((value(made.consecutive_5xx), value(made.max_ejection_percent)), (Some(3), Some(100)));
    assert_eq!(made.consecutive_gateway_failure, None);
    let gateways = OutlierDetection { consecutive_gateway: Some(7), ..OutlierDetection::default() };
    let made = with_outlier(gateways, &http()).outlier_detection.expect("asked for");
    assert_eq!(
        (value(made.enforcing_consecutive_5xx), value(made.consecutive_gateway_failure)),
        (Some(0), Some(7))
    );
    let mesh = MeshConfig { outlier_detection: Some(OutlierDetection::default()), ..MeshConfig::default() };
    assert!(one(&http(), mesh, None).outlier_detection.is_some(), "Q19");
}

#[test]
fn r4_10_the_panic_threshold_follows_whether_unhealthy_endpoints_are_sent() {
    let panic = |cluster: cds::Cluster| {
        cluster.common_lb_config.and_then(|lb| lb.healthy_panic_threshold).map(|percent| percent.value)
    };
    assert_eq!(panic(one(&http(), MeshConfig::default(), None)), Some(0.0));
    let told = OutlierDetection { min_health_percent: 30, ..OutlierDetection::default() };
    assert_eq!(panic(with_outlier(told.clone(), &http())), Some(30.0));
    let near = Service { traffic_distribution: TrafficDistribution::PreferSameZone, ..http() };
    assert_eq!(
        panic(with_outlier(told.clone(), &near)),
        Some(0.0),
        "a distribution sends unhealthy ones always"
    );
    let ready_only = Features { auto_send_unhealthy: false, ..Features::default() };
    assert_eq!(panic(switched(&http(), None, ready_only.clone())), None, "Envoy's own");
    let settings = |told| TrafficSettings { outlier_detection: Some(told), ..TrafficSettings::default() };
    assert_eq!(panic(switched(&http(), Some(settings(told.clone())), ready_only)), Some(30.0));
    let all = Features { send_unhealthy: true, ..Features::default() };
    assert_eq!(panic(switched(&http(), Some(settings(told)), all)), Some(0.0));
}

pub(super) fn pool() -> ConnectionPool {
    ConnectionPool {
        tcp: TcpPool {
            max_connections: Some(7),
            connect_timeout: Some(Duration::from_millis(1500)),
            keepalive: Some(TcpKeepalive {
                probes: Some(3),
                time: Some(Duration::from_secs(60)),
                interval: None,
            }),
            max_connection_duration: Some(Duration::from_secs(600)),
            idle_timeout: Some(Duration::from_secs(50)),
        },
        http: HttpPool {
            max_pending_requests: Some(8),
            max_requests_per_connection: Some(9),
            max_concurrent_streams: Some(10),
            ..HttpPool::default()
        },
    }
}

#[test]
fn connection_pools_limit_an_envoy_cluster() {
    let settings = TrafficSettings { connection_pool: Some(pool()), ..TrafficSettings::default() };
    let made = one(&http(), MeshConfig::default(), Some(settings));
    let threshold = &made.circuit_breakers.as_ref().expect("breakers").thresholds[0];
    let value = |of: Option<envoy_types::pb::google::protobuf::UInt32Value>| of.map(|of| of.value);
    assert_eq!((value(threshold.max_connections), value(threshold.max_requests)), (Some(7), Some(u32::MAX)));
    assert_eq!(value(threshold.max_pending_requests), Some(8));
    let timeout = made.connect_timeout.as_ref().expect("timeout");
    assert_eq!((timeout.seconds, timeout.nanos), (1, 500_000_000));
    let keepalive = made.upstream_connection_options.as_ref().and_then(|options| options.tcp_keepalive);
    assert_eq!(value(keepalive.expect("keepalive").keepalive_time), Some(60));
    let options = made.typed_extension_protocol_options.values().next().expect("options");
    let options: upstream::HttpProtocolOptions = unpack(options);
    let common = options.common_http_protocol_options.expect("common");
    assert_eq!(value(common.max_requests_per_connection), Some(9));
    let slow = MeshConfig { connect_timeout: Duration::from_secs(3), ..MeshConfig::default() };
    assert_eq!(one(&http(), slow, None).connect_timeout.expect("timeout").seconds, 3);
}

#[test]
fn upgraded_services_are_called_with_http2() {
    let mesh = MeshConfig { h2_upgrade: true, ..MeshConfig::default() };
    let made = one(&http(), mesh, None);
    let options: upstream::HttpProtocolOptions =
        unpack(made.typed_extension_protocol_options.values().next().expect("options"));
    assert!(format!("{:?}", options.upstream_protocol_options).contains("Http2ProtocolOptions"));
    let tcp = service("helloworld", vec![port(80, PortProtocol::Tcp)]);
    let mesh = MeshConfig { h2_upgrade: true, ..MeshConfig::default() };
    assert!(one(&tcp, mesh, None).typed_extension_protocol_options.is_empty());
}

pub(super) fn secured(mode: ClientTlsMode) -> ClientTls {
    ClientTls { mode, ..ClientTls::default() }
}

fn context(made: &cds::Cluster) -> Option<tls::UpstreamTlsContext> {
    let socket = made.transport_socket.as_ref()?;
    let transport_socket::ConfigType::TypedConfig(any) = socket.config_type.as_ref()?;
    Some(unpack(any))
}

#[test]
fn tls_is_what_the_rule_says_else_mesh_mtls_where_the_endpoint_can() {
    let of = |told: ClientTls| {
        let settings = TrafficSettings { tls: Some(told), ..TrafficSettings::default() };
        one(&http(), MeshConfig::default(), Some(settings))
    };
    let plain = of(secured(ClientTlsMode::Disable));
    assert!(plain.transport_socket.is_none() && plain.transport_socket_matches.is_empty());
    let mutual = of(secured(ClientTlsMode::IstioMutual));
    assert!(mutual.transport_socket_matches.is_empty());
    assert_eq!(context(&mutual).expect("TLS").sni, format!("outbound_.80_._.{HOST}"));
    let told = ClientTls {
        sni: "example.com".into(),
        subject_alt_names: vec!["example.com".into()],
        ..secured(ClientTlsMode::Simple)
    };
    let simple = context(&of(told)).expect("TLS");
    assert_eq!(simple.sni, "example.com");
    let common = simple.common_tls_context.expect("common");
    let Some(tls::common_tls_context::ValidationContextType::ValidationContext(verified)) =
        common.validation_context_type
    else {
        panic!("not verified")
    };
    assert!(verified.trusted_ca.is_some() && verified.match_typed_subject_alt_names.len() == 1);
    let by_sni = ClientTls { sni: "example.com".into(), ..secured(ClientTlsMode::Simple) };
    let common = context(&of(by_sni)).expect("TLS").common_tls_context.expect("common");
    let Some(tls::common_tls_context::ValidationContextType::ValidationContext(by_sni)) =
        common.validation_context_type
    else {
        panic!("not verified")
    };
    assert_eq!(
        by_sni.match_typed_subject_alt_names, verified.match_typed_subject_alt_names,
        "as if it was named"
    );
    assert!(by_sni.trusted_ca.is_some());
    let files = ClientTls {
        client_certificate: "/c.pem".into(),
        private_key: "/k.pem".into(),
        ca_certificates: "/r.pem".into(),
        ..secured(ClientTlsMode::Mutual)
    };
    let common = context(&of(files)).expect("TLS").common_tls_context.expect("common");
    assert_eq!(common.tls_certificates.len(), 1);
    let off = one(&http(), MeshConfig { auto_mtls: false, ..MeshConfig::default() }, None);
    assert!(off.transport_socket_matches.is_empty());
}

#[test]
fn identities_hold_under_every_alias_of_the_trust_domain() {
    let names = |mesh| format!("{:?}", one(&http(), mesh, None).transport_socket_matches[0]);
    let mesh = MeshConfig { trust_domain_aliases: vec!["old.example".into()], ..MeshConfig::default() };
    let aliased = String::from_utf8_lossy(names(mesh).as_bytes()).len();
    assert!(aliased > names(MeshConfig::default()).len());
    let foreign = MeshConfig {
        trust_domain: Some("elsewhere".into()),
        trust_domain_aliases: vec!["old.example".into()],
        ..MeshConfig::default()
    };
    assert_eq!(names(foreign), names(MeshConfig::default()), "identities of other domains stay as they are");
}

pub(super) fn entry(resolution: Resolution, hosts: &[&str]) -> Service {
    let inline = |host: &&str| InlineEndpoint {
        address: InlineAddress::Host((*host).into()),
        port: 443,
        port_name: "p".into(),
        weight: None,
        workload: Arc::new(Workload::default()),
    };
    Service {
        resolution,
        vips: Vec::new(),
        accounts: Default::default(),
        entry: Some(Arc::new(EntryFacts {
            mesh_external: true,
            inline: hosts.iter().map(inline).collect(),
            ..EntryFacts::default()
        })),
        ..service("helloworld", vec![port(443, PortProtocol::Tls)])
    }
}

#[test]
fn names_of_service_entries_are_resolved_by_envoy() {
    let of = |resolution, hosts: &[&str]| one(&entry(resolution, hosts), MeshConfig::default(), None);
    let strict = of(Resolution::Dns, &["a.example", "b.example"]);
    assert_eq!(discovery(&strict), DiscoveryType::StrictDns);
    assert_eq!(strict.load_assignment.as_ref().expect("inline").endpoints[0].lb_endpoints.len(), 2);
    assert!(strict.transport_socket_matches.is_empty(), "outside the mesh");
    let logical = of(Resolution::DnsRoundRobin, &["a.example", "b.example"]);
    assert_eq!(logical.load_assignment.expect("inline").endpoints[0].lb_endpoints.len(), 1);
    let none = built_under(
        &entry(Resolution::Dns, &[]),
        &sidecar(InterceptionMode::Redirect),
        &PolicySnapshot::default(),
        &[],
    );
    assert_eq!(none, Default::default(), "nothing to resolve");
    let original = of(Resolution::Passthrough, &[]);
    assert_eq!(discovery(&original), DiscoveryType::OriginalDst);
}

#[test]
fn proxies_of_the_mesh_are_told_the_service_and_its_rule() {
    let key = sidecar(InterceptionMode::Redirect);
    let policies = policies(MeshConfig::default(), Some(rule(TrafficSettings::default())));
    let of = |key: &crate::view::OutboundKey| -> cds::Cluster {
        find(&built_under(&http(), key, &policies, &[]).clusters, &format!("outbound|80||{HOST}"))
    };
    assert_eq!(of(&key).metadata, None);
    let istio = crate::view::OutboundKey { dialect: Dialect::Istio, ..key.clone() };
    let metadata = of(&istio).metadata.expect("metadata");
    let fields = &metadata.filter_metadata["istio"].fields;
    assert!(fields.contains_key("services") && fields.contains_key("config"));
    assert!(format!("{:?}", fields["services"]).contains("helloworld"));
}
