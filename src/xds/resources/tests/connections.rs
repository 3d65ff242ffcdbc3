//! Listeners for connections, and what a Sidecar lets through.

use std::sync::Arc;

use envoy_types::pb::envoy::config::listener::v3 as lds;
use envoy_types::pb::envoy::config::listener::v3::filter::ConfigType;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::{TcpProxy, tcp_proxy};

use super::clusters::entry;
use super::fixtures::{
    HOST, built, built_under, decode, everything, find, names, port, service, sidecar, unpack,
};
use super::requests::{snapshot, to, virtual_service};
use crate::model::policy::{
    CaptureMode, EgressHost, EgressListener, EgressNamespace, HostPattern, MeshConfig, OutboundPolicy,
    PolicyId, PolicyMeta, Sidecar, SidecarPort, Sources, TcpMatch, TcpRoute, TlsMatch, TlsRoute,
    VirtualService, WorkloadSelector,
};
use crate::model::{EntryFacts, InterceptionMode, PortProtocol, Resolution, Service};
use crate::registry::{PolicyObject, PolicySnapshot};
use crate::view::{Client, OutboundKey};
use crate::xds::resources::{self, SharedChain, shared};

fn key() -> OutboundKey {
    sidecar(InterceptionMode::Redirect)
}

pub(super) fn tls(names: &[&str], subset: &str) -> TlsRoute {
    TlsRoute {
        matches: vec![TlsMatch {
            server_names: names.iter().map(|name| (*name).into()).collect(),
            subnets: Vec::new(),
            sources: Sources::default(),
        }],
        to: vec![to(HOST, subset, 1)],
    }
}

fn tcp_of(chain: &lds::FilterChain) -> TcpProxy {
    match &chain.filters[0].config_type {
        Some(ConfigType::TypedConfig(any)) => unpack(any),
        other => panic!("{other:?}"),
    }
}

fn composed(
    chains: &[SharedChain],
    http: Option<&crate::xds::resource::Entry>,
    policies: &PolicySnapshot,
) -> lds::Listener {
    let key = key();
    decode(&shared(chains[0].port, http, chains, &Client::new(&key, policies)).entry.encoded)
}

fn names_of(listener: &lds::Listener) -> Vec<Vec<String>> {
    let matched =
        |chain: &lds::FilterChain| chain.filter_chain_match.clone().unwrap_or_default().server_names;
    listener.filter_chains.iter().map(matched).collect()
}

#[test]
fn names_of_two_services_under_one_virtual_service_occur_once() {
    let named = |host: &str| Service {
        key: crate::model::ServiceKey::new("sample", host),
        ..entry(Resolution::Dns, &["a.example"])
    };
    let (a, b, any) = (named("a.example"), named("b.example"), named("*"));
    let told = VirtualService {
        tls: vec![tls(&["a.example", "b.example"], "v1")],
        ..virtual_service(&["a.example", "b.example"], Vec::new())
    };
    let policies = snapshot([told]);
    let world = [a, b, any];
    let made = |one: &Service| built_under(one, &key(), &policies, &world).chains;
    let chains: Vec<_> = world.iter().flat_map(made).collect();
    let client_key = key();
    let client = Client::new(&client_key, &policies);
    let shared = shared(443, None, &chains, &client);
    assert_eq!(shared.conflicts, 0, "they lead to one place");
    let names = names_of(&decode(&shared.entry.encoded));
    assert_eq!(names, [vec!["a.example".to_owned(), "b.example".to_owned()], Vec::new()], "`*` is no name");
}

#[test]
fn what_two_chains_match_stays_with_the_first_and_is_counted() {
    let headless = |name: &str| {
        let mut service = service(name, vec![port(5432, PortProtocol::Tcp)]);
        service.resolution = Resolution::Passthrough;
        service.vips.clear();
        service
    };
    let policies = registry_only();
    let made = |name: &str| built_under(&headless(name), &key(), &policies, &[]).chains;
    let chains = [made("pg-all"), made("pg-primary")].concat();
    let client_key = key();
    let shared = shared(5432, None, &chains, &Client::new(&client_key, &policies));
    let listener: lds::Listener = decode(&shared.entry.encoded);
    assert_eq!((listener.filter_chains.len(), shared.conflicts), (1, 2), "both pods are the older one's");
}

#[test]
fn of_routes_that_share_a_name_the_first_keeps_it() {
    let told = VirtualService {
        tls: vec![tls(&["a.example", "b.example"], "v1"), tls(&["b.example", "c.example"], "v2")],
        ..virtual_service(&[HOST], Vec::new())
    };
    let world = service("helloworld", vec![port(443, PortProtocol::Tls)]);
    let made = built_under(&world, &key(), &snapshot([told]), std::slice::from_ref(&world));
    let names = names_of(&find(&made.listeners, "10.96.0.10_443"));
    let names: Vec<_> = names.iter().map(|names| names.join(" ")).collect();
    assert_eq!(names, ["a.example b.example", "c.example", ""]);
}

#[test]
fn connections_are_shared_out_by_tcp_routes() {
    let told = VirtualService {
        tcp: vec![
            TcpRoute {
                matches: vec![TcpMatch {
                    subnets: vec!["10.96.0.0/16".parse().expect("block")],
                    sources: Sources::default(),
                }],
                to: vec![to(HOST, "v1", 1)],
            },
            TcpRoute { matches: Vec::new(), to: vec![to(HOST, "v1", 3), to(HOST, "v2", 1)] },
        ],
        ..virtual_service(&[HOST], Vec::new())
    };
    let world = service("helloworld", vec![port(3306, PortProtocol::Tcp)]);
    let made = built_under(&world, &key(), &snapshot([told]), std::slice::from_ref(&world));
    let listener: lds::Listener = find(&made.listeners, "10.96.0.10_3306");
    assert_eq!(listener.filter_chains.len(), 2, "the port's own chain is not needed");
    let matched = listener.filter_chains[0].filter_chain_match.as_ref().expect("match");
    assert_eq!(matched.prefix_ranges[0].address_prefix, "10.96.0.0");
    let Some(tcp_proxy::ClusterSpecifier::WeightedClusters(weighted)) =
        tcp_of(&listener.filter_chains[1]).cluster_specifier
    else {
        panic!("not weighted")
    };
    assert_eq!(weighted.clusters.iter().map(|one| one.weight).collect::<Vec<_>>(), [3, 1]);
}

#[test]
fn tls_routes_go_by_server_name_and_the_rest_to_the_port() {
    let told = VirtualService {
        tls: vec![tls(&["a.example", "*.b.example"], "v1"), tls(&["a.example", "*.b.example"], "v2")],
        ..virtual_service(&[HOST], Vec::new())
    };
    let world = service("helloworld", vec![port(443, PortProtocol::Tls)]);
    let made = built_under(&world, &key(), &snapshot([told]), std::slice::from_ref(&world));
    let listener: lds::Listener = find(&made.listeners, "10.96.0.10_443");
    assert_eq!(listener.filter_chains.len(), 2, "of two routes with one match the first is kept");
    assert_eq!(listener.listener_filters.len(), 1);
    assert_eq!(listener.filter_chains[0].filter_chain_match.as_ref().expect("match").server_names.len(), 2);
    assert!(listener.filter_chains[1].filter_chain_match.is_none());
}

#[test]
fn hosts_without_an_address_share_a_listener_by_server_name() {
    let outside = entry(Resolution::Dns, &["a.example"]);
    let made = built(&outside, &key());
    assert!(made.listeners.is_empty());
    let listener = composed(&made.chains, None, &PolicySnapshot::default());
    assert_eq!(listener.name, "0.0.0.0_443");
    assert_eq!(listener.filter_chains[0].filter_chain_match.as_ref().expect("match").server_names, [HOST]);
    assert_eq!(listener.default_filter_chain.as_ref().expect("default").name, "PassthroughFilterChain");
    assert_eq!(listener.listener_filters.len(), 1);
    let twice = [made.chains.clone(), made.chains].concat();
    assert_eq!(
        composed(&twice, None, &PolicySnapshot::default()).filter_chains.len(),
        1,
        "a match occurs once"
    );
}

#[test]
fn blocks_of_addresses_join_the_http_listener_of_their_port() {
    let facts =
        EntryFacts { blocks: vec!["198.51.100.0/24".parse().expect("block")], ..EntryFacts::default() };
    let outside = Service {
        ports: vec![port(80, PortProtocol::Tcp)],
        entry: Some(Arc::new(facts)),
        ..entry(Resolution::Passthrough, &[])
    };
    let made = built(&outside, &key());
    let http = built(&service("helloworld", vec![port(80, PortProtocol::Http)]), &key());
    let listener = composed(&made.chains, http.listeners.first(), &PolicySnapshot::default());
    assert_eq!(listener.filter_chains.len(), 2);
    let matched = listener.filter_chains[1].filter_chain_match.as_ref().expect("match");
    assert_eq!(matched.prefix_ranges[0].address_prefix, "198.51.100.0");
}

#[test]
fn r5_28_addresses_of_other_clusters_yield_to_own_ones() {
    let elsewhere = OutboundKey { cluster: "south".into(), ..key() };
    let made = built(&service("helloworld", vec![port(3306, PortProtocol::Tcp)]), &elsewhere);
    assert!(made.listeners.is_empty());
    assert_eq!(names(&made.fallback_listeners), ["10.96.0.10_3306"]);
}

fn registry_only() -> PolicySnapshot {
    PolicySnapshot::with(
        MeshConfig { outbound_policy: OutboundPolicy::RegistryOnly, ..MeshConfig::default() },
        [],
    )
}

#[test]
fn unknown_destinations_end_under_registry_only() {
    let (policies, key) = (registry_only(), key());
    let made = resources::fixed(&Client::new(&key, &policies));
    let listener: lds::Listener = find(&made.listeners, "virtualOutbound");
    let Some(tcp_proxy::ClusterSpecifier::Cluster(cluster)) =
        tcp_of(&listener.filter_chains[1]).cluster_specifier
    else {
        panic!("no cluster")
    };
    assert_eq!(cluster, "BlackHoleCluster");
    let http = built_under(&service("helloworld", vec![port(80, PortProtocol::Http)]), &key, &policies, &[]);
    let listener: lds::Listener = find(&http.listeners, "0.0.0.0_80");
    let otherwise = tcp_of(listener.default_filter_chain.as_ref().expect("default"));
    assert_eq!(otherwise.stat_prefix, "BlackHoleCluster");
}

#[test]
fn pods_of_headless_services_have_chains_where_unknown_destinations_end() {
    let mut headless = service("db", vec![port(5432, PortProtocol::Tcp)]);
    headless.resolution = Resolution::Passthrough;
    headless.vips.clear();
    assert!(built(&headless, &key()).chains.is_empty(), "the catch-all does");
    let made = built_under(&headless, &key(), &registry_only(), &[]);
    assert!(made.reads.addresses);
    let listener = composed(&made.chains, None, &registry_only());
    assert_eq!(listener.filter_chains[0].filter_chain_match.as_ref().expect("match").prefix_ranges.len(), 2);
}

fn egress(port: Option<u16>, hosts: &[(EgressNamespace, &str)]) -> EgressListener {
    EgressListener {
        port: port.map(|number| SidecarPort { number, protocol: PortProtocol::Http, name: "p".into() }),
        bind: None,
        socket: None,
        capture: CaptureMode::Default,
        hosts: hosts
            .iter()
            .map(|(namespace, host)| EgressHost {
                namespace: namespace.clone(),
                host: HostPattern::new(*host),
            })
            .collect(),
    }
}

fn restricted(egress: Vec<EgressListener>) -> (OutboundKey, PolicySnapshot) {
    restricted_with(egress, None)
}

fn restricted_with(
    egress: Vec<EgressListener>,
    routes: Option<VirtualService>,
) -> (OutboundKey, PolicySnapshot) {
    let id = PolicyId::new("sample", "default");
    let sidecar = Sidecar {
        meta: PolicyMeta { created: 1, id: id.clone() },
        selector: WorkloadSelector::default(),
        egress,
        ingress: Vec::new(),
        outbound_policy: Some(OutboundPolicy::RegistryOnly),
        inbound_pool: None,
    };
    let routes = routes.map(|one| PolicyObject::VirtualService(Arc::new(one)));
    let objects = [PolicyObject::Sidecar(Arc::new(sidecar))].into_iter().chain(routes);
    let policies = PolicySnapshot::with(MeshConfig::default(), objects);
    (OutboundKey { sidecar: Some(id), ..key() }, policies)
}

#[test]
fn r4_2_a_sidecar_shows_the_hosts_it_names_on_the_ports_it_names() {
    let sample = || EgressNamespace::Named("sample".into());
    let ports = |listeners| {
        let (key, policies) = restricted(listeners);
        let made = built_under(&service("helloworld", everything()), &key, &policies, &[]);
        let numbers = |entries: &[crate::xds::resource::Entry]| entries.len();
        (numbers(&made.clusters), numbers(&made.listeners))
    };
    assert_eq!(ports(Vec::new()), (8, 8), "one that names nothing shows everything");
    assert_eq!(ports(vec![egress(None, &[(EgressNamespace::Any, "*")])]), (8, 8));
    assert_eq!(ports(vec![egress(None, &[(sample(), "*.other")])]), (0, 0));
    assert_eq!(ports(vec![egress(None, &[(EgressNamespace::Named("far".into()), "*")])]), (0, 0));
    assert_eq!(ports(vec![egress(None, &[(EgressNamespace::Nobody, "*")])]), (0, 0));
    assert_eq!(ports(vec![egress(Some(80), &[(sample(), "*")])]), (1, 1));
    let both = vec![egress(Some(80), &[(sample(), "*.other")]), egress(None, &[(sample(), "*")])];
    assert_eq!(ports(both), (8, 7), "a port's own listener is the only one for it");
}

#[test]
fn what_a_sidecar_hides_has_clusters_only_where_a_route_leads_there() {
    let shown = || vec![egress(None, &[(EgressNamespace::Any, "shown.example")])];
    let world = service("helloworld", vec![port(80, PortProtocol::Http)]);
    let made = |routes| {
        let (key, policies) = restricted_with(shown(), routes);
        let made = built_under(&world, &key, &policies, &[]);
        (made.clusters.len(), made.listeners.len(), made.virtual_hosts.len())
    };
    let leading = |host| VirtualService {
        tcp: vec![TcpRoute { matches: Vec::new(), to: vec![to(HOST, "", 1)] }],
        ..virtual_service(&[host], Vec::new())
    };
    assert_eq!(made(None), (0, 0, 0));
    assert_eq!(made(Some(leading("hidden.example"))), (0, 0, 0));
    assert_eq!(made(Some(leading("shown.example"))), (1, 0, 0));
}

#[test]
fn a_sidecars_own_listener_binds_where_it_says() {
    let own = EgressListener {
        bind: Some("127.0.0.5".parse().expect("ip")),
        capture: CaptureMode::None,
        ..egress(Some(80), &[(EgressNamespace::Any, "*")])
    };
    let (key, policies) = restricted(vec![own]);
    let made = built_under(&service("helloworld", vec![port(80, PortProtocol::Http)]), &key, &policies, &[]);
    let listener: lds::Listener = find(&made.listeners, "127.0.0.5_80");
    assert_eq!(listener.bind_to_port.map(|flag| flag.value), Some(true));
}

#[test]
fn a_sidecars_unix_socket_leads_to_the_hosts_it_names_and_nothing_else_does() {
    let socket = |protocol| EgressListener {
        port: Some(SidecarPort { number: 0, protocol, name: "".into() }),
        socket: Some("unix:///run/out".into()),
        ..egress(None, &[(EgressNamespace::Any, "*")])
    };
    let ports = vec![port(70, PortProtocol::Tcp), port(80, PortProtocol::Http), port(81, PortProtocol::Http)];
    let world = service("helloworld", ports);
    let made = |listeners| {
        let (key, policies) = restricted(listeners);
        built_under(&world, &key, &policies, &[])
    };
    let path = |listener: &lds::Listener| match listener.address.clone().and_then(|address| address.address) {
        Some(envoy_types::pb::envoy::config::core::v3::address::Address::Pipe(pipe)) => pipe.path,
        other => panic!("{other:?}"),
    };
    let http = made(vec![socket(PortProtocol::Http)]);
    assert_eq!((names(&http.listeners), http.clusters.len()), (vec!["unix:///run/out"], 3));
    let listener: lds::Listener = find(&http.listeners, "unix:///run/out");
    assert_eq!(
        (path(&listener), listener.bind_to_port.map(|flag| flag.value)),
        ("/run/out".into(), Some(true))
    );
    let routes: Vec<_> = http.virtual_hosts.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(routes, ["unix:///run/out"], "once, although two ports speak HTTP");
    assert!(String::from_utf8_lossy(&http.virtual_hosts[0].1).contains(&format!("outbound|80||{HOST}")));
    let tcp = made(vec![socket(PortProtocol::Tcp)]);
    let listener: lds::Listener = find(&tcp.listeners, "unix:///run/out");
    assert_eq!((path(&listener), tcp.listeners.len(), tcp.virtual_hosts.len()), ("/run/out".into(), 1, 0));
    assert_eq!(listener.filter_chains.len(), 1);
    let both = made(vec![socket(PortProtocol::Http), egress(None, &[(EgressNamespace::Any, "*")])]);
    assert_eq!(both.listeners.len(), 4, "its addresses beside it where another listener names it");
}
