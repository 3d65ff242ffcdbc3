//! A real Envoy reads what policies make of clusters, listeners and routes.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::bootstrap::v3 as bootstrap;
use envoy_types::pb::envoy::config::cluster::v3 as cds;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::listener::v3 as lds;
use envoy_types::pb::envoy::config::route::v3 as rds;
use envoy_types::pb::envoy::extensions::bootstrap::internal_listener::v3::InternalListener as InternalListenerExtension;
use envoy_types::pb::envoy::extensions::transport_sockets::internal_upstream::v3 as internal;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as tls;
use envoy_types::util::pack_any;
use prost::{Message, Name};

use super::clusters::{entry, policies, pool, rule, secured, subset};
use super::connections;
use super::fixtures::{HOST, around, built_under, decode, everything, gateway, service, sidecar, unpack};
use super::requests::{forward, prefix, snapshot, to, virtual_service};
use crate::model::policy::{
    Abort, AuthorizationPolicy, ClientTls, ClientTlsMode, Cors, Delay, DestinationRule, Fault, HashKey,
    HashTable, HttpAction, HttpMatch, LoadBalancer, LocalityLb, MeshConfig, Mirror, OutboundPolicy,
    OutlierDetection, Percent, Redirect, RegexRewrite, Retries, Rewrite, SimpleLb, Sources, TcpMatch,
    TcpRoute, TextMatch, TrafficSettings, VirtualService, ZoneAwareLb,
};
use crate::model::{Dialect, InterceptionMode, PortProtocol, Resolution, Service};
use crate::registry::{PolicyObject, PolicySnapshot};
use crate::view::{Client, InternalListener, OutboundKey};
use crate::xds::resource::{Entry, ResourceList};
use crate::xds::resources::{self, filters, listener, shared, sni_listener};

pub(crate) fn envoy() -> Option<PathBuf> {
    let named = std::env::var_os("ENVOY").map(PathBuf::from);
    let made = concat!(env!("CARGO_MANIFEST_DIR"), "/target/envoy-1.40.0");
    let found = named.or_else(|| Some(PathBuf::from(made))).filter(|path| path.exists());
    assert!(found.is_some() || std::env::var_os("CI").is_none(), "CI needs an Envoy: run `make envoy`");
    found
}

/// Everything of one kind, each name once.
fn decoded<M: Message + Default>(entries: Vec<Entry>) -> Vec<M> {
    ResourceList::new(entries).entries().iter().map(|entry| decode(&entry.encoded)).collect()
}

/// A bootstrap that holds these resources and asks for the rest at a server that is not there.
pub(crate) fn document(made: Generated) -> bootstrap::Bootstrap {
    let mut xds = decode::<cds::Cluster>(&resources::cluster::black_hole().encoded);
    xds.name = "xds-grpc".to_owned();
    let mut clusters = decoded::<cds::Cluster>(made.clusters);
    for cluster in clusters.iter_mut().filter(|one| one.eds_cluster_config.is_none()) {
        // Envoy ends where such a cluster of the bootstrap asks the stream for secrets.
        let matched = cluster.transport_socket_matches.iter_mut();
        let sockets = matched.filter_map(|one| one.transport_socket.as_mut());
        sockets.chain(&mut cluster.transport_socket).for_each(without_stream);
    }
    clusters.push(xds);
    let mut listeners = decoded::<lds::Listener>(made.listeners);
    listeners.extend(made.routes.into_iter().enumerate().map(|(at, table)| inline(at, table)));
    let envoy = core::grpc_service::EnvoyGrpc { cluster_name: "xds-grpc".to_owned(), ..Default::default() };
    let service = core::GrpcService {
        target_specifier: Some(core::grpc_service::TargetSpecifier::EnvoyGrpc(envoy)),
        ..Default::default()
    };
    bootstrap::Bootstrap {
        bootstrap_extensions: vec![internal_listeners()],
        node: Some(core::Node { id: "n".to_owned(), cluster: "c".to_owned(), ..Default::default() }),
        static_resources: Some(bootstrap::bootstrap::StaticResources {
            clusters,
            listeners,
            ..Default::default()
        }),
        dynamic_resources: Some(bootstrap::bootstrap::DynamicResources {
            ads_config: Some(core::ApiConfigSource {
                api_type: core::api_config_source::ApiType::Grpc.into(),
                transport_api_version: core::ApiVersion::V3.into(),
                grpc_services: vec![service],
                ..Default::default()
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// Makes a client's TLS the same with the roots of a file, and without a certificate, where it asks the stream for both.
fn without_stream(socket: &mut core::TransportSocket) {
    let Some(core::transport_socket::ConfigType::TypedConfig(any)) = &mut socket.config_type else { return };
    if any.type_url == internal::InternalUpstreamTransport::type_url() {
        let mut outer: internal::InternalUpstreamTransport = unpack(any);
        outer.transport_socket.iter_mut().for_each(without_stream);
        *any = pack_any(outer);
    }
    if any.type_url != tls::UpstreamTlsContext::type_url() {
        return;
    }
    use tls::common_tls_context::ValidationContextType as Kind;
    let mut context: tls::UpstreamTlsContext = unpack(any);
    let common = context.common_tls_context.as_mut().expect("a context");
    common.tls_certificate_sds_secret_configs.clear();
    if let Some(Kind::CombinedValidationContext(combined)) = &mut common.validation_context_type {
        let mut names = combined.default_validation_context.take().expect("names");
        names.trusted_ca = resources::tls::file("/etc/ssl/certs/ca-certificates.crt");
        common.validation_context_type = Some(Kind::ValidationContext(names));
    }
    *any = pack_any(context);
}

/// What internal listeners need of a bootstrap.
pub(super) fn internal_listeners() -> core::TypedExtensionConfig {
    core::TypedExtensionConfig {
        name: "envoy.bootstrap.internal_listener".to_owned(),
        typed_config: Some(pack_any(InternalListenerExtension::default())),
    }
}

/// A listener with a route configuration inside.
fn inline(at: usize, table: rds::RouteConfiguration) -> lds::Listener {
    let mut listener = lds::Listener { name: format!("routes-{at}"), ..Default::default() };
    listener.address = resources::parts::address([127, 0, 0, 99].into(), u16::try_from(at + 1).expect("few"));
    listener.filter_chains = vec![listener::chain("", None, filters::http_outbound_inline(table))];
    listener
}

#[derive(Default)]
pub(crate) struct Generated {
    pub(super) clusters: Vec<Entry>,
    pub(super) listeners: Vec<Entry>,
    pub(super) routes: Vec<rds::RouteConfiguration>,
}

/// What routers get under these policies.
pub(crate) fn opened(key: &OutboundKey, policies: &PolicySnapshot, services: &[Service]) -> Generated {
    let client = Client::new(key, policies);
    let guards = resources::InboundPolicy {
        trust_domains: vec!["cluster.local".into()],
        authorization: policies.of::<AuthorizationPolicy>("sample").to_vec(),
        ..resources::InboundPolicy::default()
    };
    let (listeners, routes) = around(key, policies, services, |around| {
        (resources::gateway_listeners(around, &guards), resources::gateway_routes(around))
    });
    let clusters = services.iter().flat_map(|service| built_under(service, key, policies, services).clusters);
    let tables = routes.hosts.iter();
    Generated {
        clusters: clusters.collect(),
        listeners: listeners.entries,
        routes: tables.map(|(name, hosts)| decode(&resources::route(name, &client, hosts.iter()))).collect(),
    }
}

pub(crate) fn generated(key: &OutboundKey, policies: &PolicySnapshot, services: &[Service]) -> Generated {
    let client = Client::new(key, policies);
    let mut all = vec![resources::fixed(&client)];
    all.extend(services.iter().map(|service| built_under(service, key, policies, services)));
    for told in policies.scopes::<VirtualService>() {
        let known = services.iter().any(|service| service.key.hostname.as_str() == told.as_str());
        if let Some(told_of) = client.virtual_service_of(told).filter(|_| !known) {
            all.push(around(key, policies, services, |around| resources::host(told, told_of, around)));
        }
    }
    let mut made = Generated::default();
    let hosts: Vec<_> = all.iter().flat_map(|part| &part.virtual_hosts).collect();
    let names: std::collections::BTreeSet<_> = hosts.iter().map(|(name, _)| name).collect();
    for name in names {
        let of = hosts.iter().filter(|(other, _)| other == name).map(|(_, host)| host);
        made.routes.push(decode(&resources::route(name, &client, of)));
    }
    let passthroughs = client.passthroughs();
    let sni: Vec<_> = passthroughs
        .iter()
        .enumerate()
        .map(|(at, one)| sni_listener(key, one, all.iter().filter_map(|part| part.sni_chains.get(at))))
        .collect();
    let chains: Vec<_> = all.iter().flat_map(|part| part.chains.clone()).collect();
    let ports: std::collections::BTreeSet<_> = chains.iter().map(|chain| chain.port).collect();
    for part in all {
        made.clusters.extend(part.clusters);
        made.clusters.extend(part.placed.into_values().flatten());
        made.listeners.extend(part.listeners.into_iter().chain(part.fallback_listeners));
    }
    made.listeners.extend(sni);
    let composed = ports.into_iter().map(|port| {
        let name = shared(port, None, [], &client).entry.name;
        let http = made.listeners.iter().find(|entry| entry.name == name);
        shared(port, http, chains.iter().filter(|chain| chain.port == port), &client).entry
    });
    let mut listeners: Vec<_> = composed.collect();
    listeners.append(&mut made.listeners);
    made.listeners = listeners;
    made
}

fn all_settings() -> Vec<TrafficSettings> {
    let none = TrafficSettings::default;
    let lb = |load_balancer| TrafficSettings { load_balancer: Some(load_balancer), ..none() };
    let hash = |key, table| lb(LoadBalancer { hash: Some((key, table)), ..LoadBalancer::default() });
    let simple = |simple| {
        let warmup = Some(Duration::from_secs(10));
        lb(LoadBalancer { simple: Some(simple), warmup, ..LoadBalancer::default() })
    };
    let tls = |tls| TrafficSettings { tls: Some(tls), ..none() };
    let cookie = HashKey::Cookie { name: "c".into(), path: "/".into(), ttl: Some(Duration::ZERO) };
    let priority = LocalityLb { failover_priority: vec!["app".into()], ..LocalityLb::default() };
    vec![
        none(),
        hash(cookie, HashTable::Ring(1024)),
        hash(HashKey::SourceIp, HashTable::Maglev(Some(65537))),
        hash(HashKey::Header("x".into()), HashTable::Maglev(None)),
        hash(HashKey::QueryParameter("x".into()), HashTable::Ring(1)),
        simple(SimpleLb::LeastRequest),
        simple(SimpleLb::RoundRobin),
        simple(SimpleLb::Random),
        simple(SimpleLb::Passthrough),
        lb(LoadBalancer { locality: Some(priority), ..LoadBalancer::default() }),
        lb(LoadBalancer { zone_aware: Some(ZoneAwareLb::default()), ..LoadBalancer::default() }),
        TrafficSettings { outlier_detection: Some(OutlierDetection::default()), ..none() },
        TrafficSettings {
            outlier_detection: Some(OutlierDetection {
                consecutive_local_origin: Some(3),
                split_external_local_origin: true,
                min_health_percent: 20,
                ..OutlierDetection::default()
            }),
            ..none()
        },
        TrafficSettings { connection_pool: Some(pool()), ..none() },
        tls(secured(ClientTlsMode::Disable)),
        tls(secured(ClientTlsMode::IstioMutual)),
        tls(secured(ClientTlsMode::Simple)),
        tls(ClientTls { sni: "a.example".into(), ..secured(ClientTlsMode::Simple) }),
        tls(ClientTls {
            sni: "a.example".into(),
            insecure_skip_verify: true,
            ..secured(ClientTlsMode::Simple)
        }),
        tls(ClientTls {
            subject_alt_names: vec!["a".into(), "spiffe://a/b".into()],
            ..secured(ClientTlsMode::Simple)
        }),
        tls(ClientTls { credential_name: "c".into(), ..secured(ClientTlsMode::Mutual) }),
    ]
}

fn all_routes() -> VirtualService {
    let mut rich = forward(
        vec![HttpMatch {
            headers: vec![("x".into(), None), ("y".into(), Some(TextMatch::Prefix("".into())))],
            without_headers: vec![("z".into(), None)],
            query: vec![("q".into(), None)],
            authority: Some(TextMatch::Regex(".*".into())),
            ..prefix("/api.v1")
        }],
        vec![to(HOST, "v1", 1), to("no.where", "", 99)],
    );
    rich.rewrite = Rewrite { uri: "/".into(), ..Rewrite::default() };
    rich.timeout = Some(Duration::from_secs(1));
    rich.retries = Some(Retries {
        attempts: 2,
        per_try_timeout: Some(Duration::from_millis(10)),
        conditions: vec!["gateway-error".into()],
        codes: vec![404],
        other_localities: true,
        skip_previous: true,
        backoff: Some(Duration::from_millis(30)),
    });
    rich.fault = Some(Fault {
        delay: Some(Delay { fixed: Duration::from_millis(1), share: Percent::ALL }),
        abort: Some(Abort { status: Err(14), share: Percent::ALL }),
    });
    rich.cors = Some(Cors {
        origins: vec![TextMatch::Regex(".*".into())],
        methods: vec!["GET".into()],
        max_age: Some(Duration::from_secs(60)),
        ..Cors::default()
    });
    rich.mirrors = vec![Mirror { destination: to("no.where", "", 1).destination, share: Percent::ALL }];
    rich.headers.request.set = vec![("x".into(), "%REQ(y)%".into()), ("host".into(), "h".into())];
    rich.headers.response.remove = vec!["server".into()];
    let mut by_regex = forward(
        vec![HttpMatch {
            uri: Some(TextMatch::Regex("/a+".into())),
            ignore_case: true,
            ..HttpMatch::default()
        }],
        vec![to(HOST, "", 1)],
    );
    let regex = RegexRewrite { pattern: "a(.)".into(), substitution: r"\1".into() };
    by_regex.rewrite = Rewrite { regex: Some(regex), ..Rewrite::default() };
    let mut moved = forward(vec![prefix("/m")], Vec::new());
    moved.action = HttpAction::Redirect(Redirect {
        uri: "%PREFIX()%/n".into(),
        scheme: "https".into(),
        code: 302,
        ..Redirect::default()
    });
    let long = format!("/{}", "long/".repeat(60).trim_end_matches('/'));
    let mut short = forward(vec![prefix(&long)], vec![to(HOST, "", 1)]);
    short.rewrite = Rewrite { uri: "/".into(), ..Rewrite::default() };
    let last = forward(Vec::new(), vec![to(HOST, "", 1)]);
    let matched =
        |block: &str| TcpMatch { subnets: vec![block.parse().expect("block")], sources: Sources::default() };
    let both = TcpMatch {
        subnets: ["10.0.0.0/8", "10.9.0.0/8", "11.0.0.0/8"].map(|block| block.parse().expect("block")).into(),
        sources: Sources::default(),
    };
    VirtualService {
        tcp: vec![
            TcpRoute {
                matches: vec![matched("10.0.0.0/8"), matched("10.0.0.0/8"), both],
                to: vec![to(HOST, "", 1)],
            },
            TcpRoute { matches: Vec::new(), to: vec![to(HOST, "v1", 1), to(HOST, "", 2)] },
        ],
        tls: vec![
            connections::tls(&["a.example", "*.example"], "v1"),
            connections::tls(&["b.example", "a.example"], "v2"),
            connections::tls(&["*"], ""),
        ],
        ..virtual_service(
            &[HOST, "web.example", "*.wild.example", "*"],
            vec![rich, by_regex, moved, short, last],
        )
    }
}

fn keys() -> Vec<OutboundKey> {
    let captured = sidecar(InterceptionMode::Redirect);
    let tunnels = |listeners: &[InternalListener]| listeners.to_vec();
    vec![
        OutboundKey { tunnels: tunnels(&[InternalListener::ConnectOriginate]), ..captured.clone() },
        OutboundKey {
            tunnels: tunnels(&[
                InternalListener::ForwardInnerConnect,
                InternalListener::InnerConnectOriginate,
            ]),
            ..gateway()
        },
        OutboundKey { dialect: Dialect::Istio, ..captured.clone() },
        captured,
        sidecar(InterceptionMode::None),
        gateway(),
    ]
}

/// A ServiceEntry of something in the mesh.
pub(super) fn inside() -> Service {
    let facts = Arc::new(crate::model::EntryFacts::default());
    Service { entry: Some(facts), ..entry(Resolution::default(), &[]) }
}

fn services() -> Vec<Service> {
    let named = |name: &str, service: Service| Service {
        key: crate::model::ServiceKey::new("sample", format!("{name}.example.org")),
        ..service
    };
    let mut headless = service("db", everything());
    headless.resolution = Resolution::Passthrough;
    headless.vips.clear();
    vec![
        service("helloworld", everything()),
        headless,
        named("dns", entry(Resolution::Dns, &["a.example", "b.example"])),
        named("one", entry(Resolution::DnsRoundRobin, &["a.example"])),
        Service {
            key: crate::model::ServiceKey::new("sample", "a.example"),
            ..entry(Resolution::Dns, &["a.example"])
        },
        Service { key: crate::model::ServiceKey::new("sample", "*"), ..entry(Resolution::Passthrough, &[]) },
        Service { key: crate::model::ServiceKey::new("sample", "*.x.local"), ..inside() },
        named(
            "any",
            Service {
                ports: vec![super::fixtures::port(8443, PortProtocol::Tcp)],
                ..entry(Resolution::Passthrough, &[])
            },
        ),
    ]
}

#[test]
fn a_real_envoy_accepts_what_policies_make() {
    let Some(envoy) = envoy() else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let registry_only = MeshConfig { outbound_policy: OutboundPolicy::RegistryOnly, ..MeshConfig::default() };
    let with_routes = |mesh, rule: DestinationRule| {
        let objects = [
            PolicyObject::VirtualService(Arc::new(all_routes())),
            PolicyObject::DestinationRule(Arc::new(rule)),
        ];
        PolicySnapshot::with(mesh, objects)
    };
    let subsets = || DestinationRule {
        subsets: all_settings()
            .into_iter()
            .enumerate()
            .map(|(at, one)| subset(&format!("s{at}"), one))
            .collect(),
        ..rule(TrafficSettings::default())
    };
    let mut worlds = vec![
        PolicySnapshot::default(),
        snapshot([all_routes()]),
        with_routes(registry_only, subsets()),
        policies(MeshConfig::default(), Some(subsets())),
    ];
    worlds
        .extend(all_settings().into_iter().take(5).map(|one| with_routes(MeshConfig::default(), rule(one))));
    let mut refused = Vec::new();
    for (at, policies) in worlds.iter().enumerate() {
        for (which, key) in keys().iter().enumerate() {
            let made = document(generated(key, policies, &services()));
            let file = directory.path().join(format!("{at}-{which}.pb"));
            std::fs::write(&file, made.encode_to_vec()).expect("written");
            let arguments = ["--mode", "validate", "--log-level", "error", "--concurrency", "1", "-c"];
            let answer = Command::new(&envoy).args(arguments).arg(&file).output().expect("Envoy starts");
            let said = String::from_utf8_lossy(&answer.stderr).into_owned();
            if !answer.status.success() {
                refused.push(format!("world {at}, proxy {which}: {said}"));
            }
        }
    }
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}
