//! What Gateways open on routers.

use std::sync::Arc;

use envoy_types::pb::envoy::config::core::v3::{DataSource, data_source};
use envoy_types::pb::envoy::config::listener::v3 as lds;
use envoy_types::pb::envoy::config::route::v3 as rds;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as tls;
use prost::Message;

use super::connections;
use super::fixtures::{HOST, around, built_under, decode, find, names, port, service, unpack};
use super::requests::{forward, prefix, to, virtual_service};
use super::validate::{Generated, document, envoy};
use crate::model::policy::{
    AuthorizationAction, AuthorizationPolicy, AuthorizationRule, Gateway, GatewayHostName, GatewayServer,
    HostPattern, HttpMatch, MeshConfig, MtlsMode, PeerAuthentication, PolicyId, PolicyMeta, ServerTls,
    ServerTlsMode, Sources, TcpRoute, TlsVersion, VirtualService, WorkloadSelector,
};
use crate::model::{InterceptionMode, PortProtocol, ProxyKind};
use crate::registry::{PolicyObject, PolicySnapshot};
use crate::view::{Client, OutboundKey, WorkloadMtls};
use crate::xds::resources::{
    GatewayListeners, GatewayRoutes, InboundPolicy, InboundPort, files, gateway_listeners, gateway_routes,
    inbound, route, sni_listener,
};

fn id(name: &str) -> PolicyMeta {
    PolicyMeta { created: 1, id: PolicyId::new("edge", name) }
}

fn server(port: u16, protocol: PortProtocol, hosts: &[&str], mode: Option<ServerTlsMode>) -> GatewayServer {
    let host = |text: &&str| {
        let (namespace, host) = text.split_once('/').unwrap_or(("", text));
        let namespace = (!namespace.is_empty()).then(|| namespace.into());
        GatewayHostName { namespace, host: HostPattern::new(host) }
    };
    GatewayServer {
        port,
        protocol,
        port_name: "p".into(),
        bind: None,
        hosts: hosts.iter().map(host).collect(),
        tls: mode.map(|mode| ServerTls {
            mode,
            min_version: TlsVersion::V1_2,
            max_version: TlsVersion::V1_3,
            cipher_suites: Vec::new(),
            subject_alt_names: Vec::new(),
            client_optional: false,
        }),
        https_redirect: false,
    }
}

fn gateway(name: &str, servers: Vec<GatewayServer>) -> PolicyObject {
    PolicyObject::Gateway(Arc::new(Gateway {
        meta: id(name),
        selector: WorkloadSelector::default(),
        servers,
        problems: Vec::new(),
    }))
}

fn bound(gateway: &str, told: VirtualService) -> PolicyObject {
    PolicyObject::VirtualService(Arc::new(VirtualService {
        gateways: vec![format!("edge/{gateway}").into()],
        ..told
    }))
}

fn key(gateways: &[&str]) -> OutboundKey {
    OutboundKey {
        kind: ProxyKind::Router,
        gateways: gateways.iter().map(|name| PolicyId::new("edge", *name)).collect(),
        ..super::fixtures::sidecar(InterceptionMode::Redirect)
    }
}

fn policies(objects: Vec<PolicyObject>) -> PolicySnapshot {
    PolicySnapshot::with(MeshConfig::default(), objects)
}

fn made(key: &OutboundKey, policies: &PolicySnapshot) -> (GatewayListeners, GatewayRoutes) {
    let guards = InboundPolicy { trust_domains: vec!["mesh.org".into()], ..InboundPolicy::default() };
    let services = [service("helloworld", vec![port(80, PortProtocol::Http)])];
    around(key, policies, &services, |around| (gateway_listeners(around, &guards), gateway_routes(around)))
}

/// Domain, number of routes, and whether plain requests are refused, of one route configuration.
fn domains(
    routes: &GatewayRoutes,
    name: &str,
    key: &OutboundKey,
    policies: &PolicySnapshot,
) -> Vec<(String, usize, bool)> {
    let hosts = routes.hosts.get(name).unwrap_or_else(|| panic!("no {name} in {:?}", routes.hosts.keys()));
    let table: rds::RouteConfiguration = decode(&route(name, &Client::new(key, policies), hosts.iter()));
    let of = |host: rds::VirtualHost| (host.domains.join(","), host.routes.len(), host.require_tls != 0);
    table.virtual_hosts.into_iter().map(of).collect()
}

#[test]
fn r7_2_gateway_objects_say_which_services_are_led_to() {
    let passing =
        |hosts: &[&str]| server(15443, PortProtocol::Tls, hosts, Some(ServerTlsMode::AutoPassthrough));
    let leads = |hosts: &[&str]| {
        let (key, policies) = (key(&["a"]), policies(vec![gateway("a", vec![passing(hosts)])]));
        let made =
            built_under(&service("helloworld", vec![port(80, PortProtocol::Http)]), &key, &policies, &[]);
        let passthroughs = Client::new(&key, &policies).passthroughs();
        let listener: lds::Listener =
            decode(&sni_listener(&key, &passthroughs[0], made.sni_chains.iter()).encoded);
        let name = format!("outbound_.80_._.{HOST}");
        assert!(names(&made.clusters).contains(&name.as_str()), "R7.1: clusters do not follow the hosts");
        (listener.name, listener.filter_chains.len())
    };
    assert_eq!(leads(&["*.local"]), ("0.0.0.0_15443".into(), 1));
    assert_eq!(leads(&["sample/*.local"]).1, 1);
    for others in ["other/*.local", "*.example", "helloworld", "x.helloworld.sample.svc.cluster.local"] {
        assert_eq!(leads(&[others]).1, 0, "{others}");
    }
    // Only a Gateway that leads mesh traffic on takes the place of the implicit port.
    let ports = |servers| {
        let policies = policies(vec![gateway("a", servers)]);
        let router = OutboundKey { east_west: true, ..key(&["a"]) };
        let passthroughs = Client::new(&router, &policies).passthroughs();
        let conflicts = made(&router, &policies).0.conflicts;
        (passthroughs.iter().map(|one| one.port).collect::<Vec<_>>(), conflicts)
    };
    assert_eq!(ports(vec![]), (vec![15443], 0));
    assert_eq!(ports(vec![server(80, PortProtocol::Http, &["*"], None)]), (vec![15443], 0));
    assert_eq!(ports(vec![server(15443, PortProtocol::Http, &["*"], None)]), (vec![15443], 1));
    let leading = || server(15444, PortProtocol::Tls, &["*"], Some(ServerTlsMode::AutoPassthrough));
    assert_eq!(ports(vec![leading()]), (vec![15444], 0));
}

#[test]
fn the_oldest_server_of_a_place_says_whether_it_leads_mesh_traffic_on() {
    let ingress = || server(443, PortProtocol::Tls, &["m.org"], Some(ServerTlsMode::IstioMutual));
    let ingress = || vec![GatewayServer { protocol: PortProtocol::Https, ..ingress() }];
    let leading = |bind: Option<&str>| {
        let server = server(443, PortProtocol::Tls, &["*"], Some(ServerTlsMode::AutoPassthrough));
        vec![GatewayServer { bind: bind.map(|ip| ip.parse().expect("an address")), ..server }]
    };
    let of = |first: Vec<GatewayServer>, second: Vec<GatewayServer>| {
        let aged = |name: &str, created, servers| {
            PolicyObject::Gateway(Arc::new(Gateway {
                meta: PolicyMeta { created, ..id(name) },
                selector: WorkloadSelector::default(),
                servers,
                problems: Vec::new(),
            }))
        };
        let (key, policies) = (key(&["a", "b"]), policies(vec![aged("b", 1, first), aged("a", 2, second)]));
        let (listeners, _) = made(&key, &policies);
        (listeners.entries.len(), Client::new(&key, &policies).passthroughs().len(), listeners.conflicts)
    };
    for bind in [None, Some("0.0.0.0")] {
        assert_eq!(of(ingress(), leading(bind)), (1, 0, 1), "the younger one is left out: {bind:?}");
        assert_eq!(of(leading(bind), ingress()), (0, 1, 1), "{bind:?}");
        assert_eq!(of(leading(None), leading(bind)), (0, 1, 0), "one place, one listener: {bind:?}");
    }
    assert_eq!(of(ingress(), leading(Some("127.0.0.9"))), (1, 1, 0), "another place");
}

#[test]
fn requests_are_routed_as_virtual_services_bound_to_the_gateway_say() {
    let routes = || {
        vec![forward(vec![prefix("/a")], vec![to(HOST, "", 1)]), forward(Vec::new(), vec![to(HOST, "", 1)])]
    };
    let redirecting =
        GatewayServer { https_redirect: true, ..server(80, PortProtocol::Http, &["r.org"], None) };
    let policies = policies(vec![
        gateway("a", vec![server(80, PortProtocol::Http, &["*.a.org", "other/b.org"], None), redirecting]),
        gateway("b", vec![server(80, PortProtocol::Http, &["c.org"], None)]),
        bound("a", virtual_service(&["x.a.org", "b.org", "c.org"], routes())),
        bound("b", VirtualService { meta: id("wide"), ..virtual_service(&["*"], routes()) }),
    ]);
    let key = key(&["a", "b"]);
    let (listeners, routes) = made(&key, &policies);
    assert_eq!((names(&listeners.entries), listeners.conflicts), (vec!["0.0.0.0_80"], 0));
    let expected = [("c.org", 2, false), ("r.org", 0, true), ("x.a.org", 2, false)];
    let expected = expected.map(|(domain, routes, tls)| (domain.to_owned(), routes, tls));
    assert_eq!(domains(&routes, "http.80", &key, &policies), expected);
    assert!(routes.reads.hosts.contains(HOST));
    let listener: lds::Listener = find(&listeners.entries, "0.0.0.0_80");
    let Some(lds::filter::ConfigType::TypedConfig(any)) = &listener.filter_chains[0].filters[0].config_type
    else {
        panic!("no config");
    };
    let manager: hcm::HttpConnectionManager = unpack(any);
    assert_eq!(manager.use_remote_address.map(|flag| flag.value), Some(true));
    let sanitize = hcm::http_connection_manager::ForwardClientCertDetails::SanitizeSet;
    assert_eq!(manager.forward_client_cert_details, i32::from(sanitize), "Z-19");
}

#[test]
fn what_takes_everything_hides_no_route_of_a_younger_virtual_service() {
    let one = |name: &str, created, routes| VirtualService {
        meta: PolicyMeta { created, ..id(name) },
        ..virtual_service(&["a.org"], routes)
    };
    let rest = |to_host: &str| forward(Vec::new(), vec![to(to_host, "", 1)]);
    let policies = policies(vec![
        gateway("a", vec![server(80, PortProtocol::Http, &["*"], None)]),
        bound("a", one("old", 1, vec![forward(vec![prefix("/a")], vec![to(HOST, "", 1)]), rest("rest.old")])),
        bound("a", one("new", 2, vec![forward(vec![prefix("/b")], vec![to(HOST, "", 1)]), rest("rest.new")])),
    ]);
    let key = key(&["a"]);
    let (_, tables) = made(&key, &policies);
    let hosts = tables.hosts["http.80"].iter();
    let table: rds::RouteConfiguration = decode(&route("http.80", &Client::new(&key, &policies), hosts));
    let path = |one: &rds::Route| match &one.r#match.as_ref().expect("a match").path_specifier {
        Some(rds::route_match::PathSpecifier::Prefix(path)) => path.clone(),
        other => panic!("{other:?}"),
    };
    let routes = &table.virtual_hosts[0].routes;
    assert_eq!(routes.iter().map(path).collect::<Vec<_>>(), ["/a", "/b", "/"]);
    assert!(format!("{:?}", routes[2].action).contains("rest.old"), "the oldest one");
}

#[test]
fn the_first_chain_of_a_match_stays_and_the_others_are_counted() {
    let simple = || Some(ServerTlsMode::Files { certificate: "/c".into(), key: "/k".into(), ca: None });
    let policies = policies(vec![gateway(
        "a",
        vec![
            server(443, PortProtocol::Https, &["a.org", "b.org"], simple()),
            server(443, PortProtocol::Https, &["b.org", "c.org"], simple()),
            server(443, PortProtocol::Https, &["a.org"], simple()),
            server(443, PortProtocol::Http, &["*"], None),
            server(80, PortProtocol::Http, &["*"], None),
            server(80, PortProtocol::Https, &["*"], simple()),
            server(80, PortProtocol::Http2, &["*"], None),
        ],
    )]);
    let (listeners, routes) = made(&key(&["a"]), &policies);
    assert_eq!((names(&listeners.entries), listeners.conflicts), (vec!["0.0.0.0_80", "0.0.0.0_443"], 4));
    let listener: lds::Listener = find(&listeners.entries, "0.0.0.0_443");
    let matched = |chain: &lds::FilterChain| chain.filter_chain_match.clone().expect("a match").server_names;
    let all: Vec<_> = listener.filter_chains.iter().map(matched).collect();
    assert_eq!(all, [vec!["a.org".to_owned(), "b.org".to_owned()], vec!["c.org".to_owned()]]);
    assert!(routes.hosts.contains_key("https.443.p.a.edge"));
}

/// The route configurations that the chains of a listener lead to, in order.
fn led_to(listeners: &GatewayListeners, name: &str) -> Vec<String> {
    let listener: lds::Listener = find(&listeners.entries, name);
    let manager = |chain: &lds::FilterChain| {
        let filter = chain.filters.last().expect("a filter");
        let Some(lds::filter::ConfigType::TypedConfig(any)) = &filter.config_type else { panic!("none") };
        match unpack::<hcm::HttpConnectionManager>(any).route_specifier {
            Some(hcm::http_connection_manager::RouteSpecifier::Rds(rds)) => rds.route_config_name,
            other => panic!("{other:?}"),
        }
    };
    listener.filter_chains.iter().map(manager).collect()
}

#[test]
fn plain_servers_on_addresses_of_their_own_serve_nothing_of_each_other() {
    let at = |bind: Option<&str>, host: &str| {
        let bind = bind.map(|ip| ip.parse().expect("an address"));
        GatewayServer { bind, ..server(8080, PortProtocol::Http, &[host], None) }
    };
    let routes = || vec![forward(Vec::new(), vec![to(HOST, "", 1)])];
    let policies = policies(vec![
        gateway("a", vec![at(Some("10.0.0.1"), "internal.example"), at(None, "any.example")]),
        gateway("b", vec![at(Some("192.0.2.1"), "public.example"), at(Some("0.0.0.0"), "all.example")]),
        bound("a", virtual_service(&["internal.example", "any.example"], routes())),
        bound(
            "b",
            VirtualService {
                meta: id("b"),
                ..virtual_service(&["public.example", "internal.example", "all.example"], routes())
            },
        ),
    ]);
    let key = key(&["a", "b"]);
    let (listeners, tables) = made(&key, &policies);
    assert_eq!(listeners.conflicts, 0, "one place, one chain");
    for (ip, table, hosts) in [
        ("10.0.0.1", "http.8080.10.0.0.1", &["internal.example"][..]),
        ("192.0.2.1", "http.8080.192.0.2.1", &["public.example"]),
        ("0.0.0.0", "http.8080", &["all.example", "any.example"]),
    ] {
        assert_eq!(led_to(&listeners, &format!("{ip}_8080")), [table]);
        let served: Vec<_> = domains(&tables, table, &key, &policies).into_iter().map(|one| one.0).collect();
        assert_eq!(served, hosts, "{ip}");
    }
}

#[test]
fn servers_that_end_tls_serve_nothing_of_each_other_whatever_their_ports_are_called() {
    let named = |name: &str, host: &str, mode| GatewayServer {
        port_name: name.into(),
        ..server(443, PortProtocol::Https, &[host], mode)
    };
    let routes = || vec![forward(Vec::new(), vec![to(HOST, "", 1)])];
    for [open, closed] in [["https", "https"], ["", ""]] {
        let policies = policies(vec![
            gateway(
                "a",
                vec![
                    named(open, "open.org", of_files(None)),
                    named(closed, "closed.org", of_files(Some("/absent/ca"))),
                ],
            ),
            bound("a", virtual_service(&["open.org", "closed.org"], routes())),
        ]);
        let key = key(&["a"]);
        let (listeners, tables) = made(&key, &policies);
        let led = led_to(&listeners, "0.0.0.0_443");
        assert_eq!(led[0], format!("https.443.{open}.a.edge"));
        for (table, host) in led.iter().zip(["open.org", "closed.org"]) {
            let served = domains(&tables, table, &key, &policies);
            assert_eq!(served, [(host.to_owned(), 1, false)], "{table}");
        }
    }
    // Dots of names do not make two servers one.
    let policies = policies(vec![
        gateway("b", vec![named("p.a", "open.org", of_files(None))]),
        gateway("a.b", vec![named("p", "closed.org", of_files(Some("/absent/ca")))]),
    ]);
    let led = led_to(&made(&key(&["b", "a.b"]), &policies).0, "0.0.0.0_443");
    assert_ne!(led[0], led[1]);
}

/// TLS with files that nobody has.
fn of_files(ca: Option<&str>) -> Option<ServerTlsMode> {
    let (certificate, key) = ("/absent/chain".into(), "/absent/key".into());
    Some(ServerTlsMode::Files { certificate, key, ca: ca.map(Into::into) })
}

#[test]
fn files_of_servers_are_secrets_that_only_their_routers_have() {
    let servers = vec![
        server(443, PortProtocol::Https, &["f.org"], of_files(None)),
        server(443, PortProtocol::Https, &["g.org"], of_files(Some("/absent/ca"))),
    ];
    let policies = policies(vec![gateway("a", servers)]);
    let (own, other) = (key(&["a"]), key(&[]));
    let (listeners, _) = made(&own, &policies);
    let listener: lds::Listener = find(&listeners.entries, "0.0.0.0_443");
    let text = format!("{listener:?}");
    assert!(!text.contains("Filename") && listener.filter_chains.len() == 2, "not in the listener: {text}");
    for (name, of_root) in [("file-cert:/absent/chain~/absent/key", false), ("file-root:/absent/ca", true)] {
        let secret: tls::Secret = decode(&files(name, &Client::new(&own, &policies)).expect("a secret"));
        assert_eq!(secret.name, name);
        let named = |path: &str| {
            let specifier = Some(data_source::Specifier::Filename(path.to_owned()));
            Some(DataSource { specifier, ..Default::default() })
        };
        match secret.r#type.expect("content") {
            tls::secret::Type::TlsCertificate(chain) if !of_root => {
                assert_eq!(chain.certificate_chain, named("/absent/chain"));
                assert_eq!(chain.private_key, named("/absent/key"));
            }
            tls::secret::Type::ValidationContext(context) if of_root => {
                assert_eq!(context.trusted_ca, named("/absent/ca"));
            }
            other => panic!("{name}: {other:?}"),
        }
        assert!(files(name, &Client::new(&other, &policies)).is_none(), "no Gateway of theirs: {name}");
    }
    assert!(files("file-cert:/absent/chain~/etc/key", &Client::new(&own, &policies)).is_none());
}

#[test]
fn servers_listen_where_the_service_leads_their_ports_and_conditions_are_on_the_ports_they_name() {
    let on = |port| HttpMatch { sources: Sources { port: Some(port), ..Sources::default() }, ..prefix("/") };
    let routes =
        vec![forward(vec![on(80)], vec![to(HOST, "", 1)]), forward(vec![on(8080)], vec![to(HOST, "", 1)])];
    let leading = server(443, PortProtocol::Tls, &["*.local"], Some(ServerTlsMode::AutoPassthrough));
    let policies = policies(vec![
        gateway("a", vec![server(80, PortProtocol::Http, &["*"], None), leading]),
        bound("a", virtual_service(&["a.org"], routes)),
    ]);
    let key = key(&["a"]).listening(&policies, [(80, 8080), (80, 8081), (443, 15443), (7, 8)]);
    assert_eq!(key.targets, [(80, 8080), (443, 15443)], "the first one counts, and only ports of servers");
    let (listeners, routes) = made(&key, &policies);
    assert_eq!(names(&listeners.entries), ["0.0.0.0_8080"]);
    assert_eq!(domains(&routes, "http.8080", &key, &policies), [("a.org".to_owned(), 1, false)]);
    let passing = Client::new(&key, &policies).passthroughs();
    assert_eq!(passing.iter().map(|one| one.port).collect::<Vec<_>>(), [15443]);
}

fn every_shape() -> PolicySnapshot {
    let mutual = || Some(ServerTlsMode::IstioMutual);
    let passing = || Some(ServerTlsMode::Passthrough);
    let tcp = vec![TcpRoute { matches: Vec::new(), to: vec![to(HOST, "", 1), to("no.where", "", 2)] }];
    let routes = || vec![forward(vec![prefix("/a")], vec![to(HOST, "", 1)])];
    policies(vec![
        gateway(
            "a",
            vec![
                server(80, PortProtocol::Http, &["*"], None),
                server(443, PortProtocol::Https, &["a.org", "*.a.org"], mutual()),
                server(443, PortProtocol::Tls, &["*"], passing()),
                server(443, PortProtocol::Tls, &["m.org"], mutual()),
                server(9000, PortProtocol::Tcp, &["*"], None),
                server(15443, PortProtocol::Tls, &["*.local"], Some(ServerTlsMode::AutoPassthrough)),
                server(444, PortProtocol::Https, &["*", "x.org"], mutual()),
                server(445, PortProtocol::Https, &["f.org"], of_files(None)),
                server(445, PortProtocol::Https, &["g.org"], of_files(Some("/absent/ca"))),
            ],
        ),
        bound(
            "a",
            VirtualService {
                tcp,
                tls: vec![connections::tls(&["t.org", "*.t.org"], ""), connections::tls(&["t.org"], "")],
                ..virtual_service(&["t.org", "*.t.org", "a.org", "m.org"], routes())
            },
        ),
    ])
}

#[test]
fn a_real_envoy_accepts_every_shape_of_gateways_and_inbound_listeners() {
    let Some(envoy) = envoy() else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let (key, policies) = (key(&["a"]), every_shape());
    let (listeners, _) = made(&key, &policies);
    assert_eq!(
        names(&listeners.entries),
        ["0.0.0.0_80", "0.0.0.0_443", "0.0.0.0_444", "0.0.0.0_445", "0.0.0.0_9000"]
    );
    assert_eq!(listeners.conflicts, 1, "t.org of the second route");
    let passing =
        built_under(&service("helloworld", vec![port(80, PortProtocol::Http)]), &key, &policies, &[]);
    let passthroughs = Client::new(&key, &policies).passthroughs();
    let sni = sni_listener(&key, &passthroughs[0], passing.sni_chains.iter());
    let mut worlds = vec![Generated {
        clusters: passing.clusters,
        listeners: listeners.entries.into_iter().chain([sni]).collect(),
        ..Generated::default()
    }];
    let modes = [MtlsMode::Permissive, MtlsMode::Strict, MtlsMode::Disable];
    for (mode, named) in modes.into_iter().flat_map(|mode| modes.map(|named| (mode, named))) {
        for interception in [InterceptionMode::Redirect, InterceptionMode::Tproxy, InterceptionMode::None] {
            worlds.push(inbound_world(mode, named, interception));
        }
    }
    let mut refused = Vec::new();
    for (at, made) in worlds.into_iter().enumerate() {
        let file = directory.path().join(format!("{at}.pb"));
        let mut made = document(made);
        let statics = made.static_resources.as_mut().expect("resources");
        let mut seen = std::collections::BTreeSet::new();
        statics.clusters.retain(|cluster| seen.insert(cluster.name.clone()));
        std::fs::write(&file, made.encode_to_vec()).expect("written");
        let arguments = ["--mode", "validate", "--log-level", "error", "--concurrency", "1", "-c"];
        let answer =
            std::process::Command::new(&envoy).args(arguments).arg(&file).output().expect("Envoy starts");
        if !answer.status.success() {
            refused.push(format!("world {at}: {}", String::from_utf8_lossy(&answer.stderr)));
        }
    }
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}

/// Ports of every protocol and a named one without a service.
fn inbound_world(mode: MtlsMode, named: MtlsMode, interception: InterceptionMode) -> Generated {
    let asked = PeerAuthentication {
        meta: id("mtls"),
        selector: WorkloadSelector::new([("a".into(), "b".into())].into_iter().collect()),
        mode: Some(mode),
        ports: vec![(81, Some(named)), (90, Some(named)), (7000, Some(named))],
    };
    let policies = policies(vec![PolicyObject::PeerAuthentication(Arc::new(asked))]);
    guarded(&policies, "edge", interception)
}

/// Ports of every protocol of a workload whose labels are all `b`, guarded by one policy of each action.
pub(crate) fn guarded(
    policies: &PolicySnapshot,
    namespace: &str,
    interception: InterceptionMode,
) -> Generated {
    let actions = [
        AuthorizationAction::Audit,
        AuthorizationAction::Custom,
        AuthorizationAction::Deny,
        AuthorizationAction::Allow,
    ];
    let authorization = actions.map(|action| {
        Arc::new(AuthorizationPolicy {
            meta: id(&format!("{action:?}")),
            selector: WorkloadSelector::default(),
            targets: None,
            dry_run: false,
            action,
            rules: vec![AuthorizationRule::default()],
            problems: Vec::new(),
        })
    });
    let policy = InboundPolicy {
        trust_domains: vec!["mesh.org".into()],
        mtls: WorkloadMtls::of(policies, namespace, |_| Some("b")),
        authorization: authorization.into(),
        detection_timeout: Some(std::time::Duration::from_millis(100)),
        ..InboundPolicy::default()
    };
    let protocols = [PortProtocol::Http, PortProtocol::Http2, PortProtocol::Tcp, PortProtocol::Auto];
    let numbers = [80, 81, 89, 90];
    let ports = protocols.into_iter().zip(numbers).map(|(protocol, port)| InboundPort {
        service: None,
        service_port: port,
        target_port: port,
        protocol,
        bind: None,
        application: None,
        pool: None,
    });
    let ports: Vec<_> = ports.collect();
    let made = inbound(&ports, &super::fixtures::workload(interception), &policy);
    Generated { clusters: made.clusters, listeners: made.listeners, ..Generated::default() }
}
