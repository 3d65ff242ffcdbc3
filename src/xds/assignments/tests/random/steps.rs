//! What may happen in a random world.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU32;

use prop::sample::select;

use super::super::client::node;
use super::*;
use crate::model::policy::{
    CaptureMode, ClientTls, ClientTlsMode, DestinationRule, Distribute, EgressHost, EgressListener,
    EgressNamespace, Failover, LoadBalancer, LocalityLb, MeshConfig, MtlsMode, OutlierDetection,
    PeerAuthentication, PolicyId, PolicyMeta, PortPolicy, ServiceSettings, Sidecar, SidecarPort, Subset,
    TrafficPolicy, TrafficSettings, WorkloadSelector, ZoneAwareLb,
};
use crate::model::{
    Discoverability, EntryFacts, ExportTo, Exposure, Health, InlineAddress, InlineEndpoint, Labels, Locality,
    Node, ProxyKind, Resolution, Standing, TrafficDistribution, WorkloadCell, WorkloadId,
};
use crate::view::LOCAL_CLUSTER;

pub(super) const CLUSTERS: [&str; 4] = ["c1", "c2", "c3", "c4"];
const NETWORKS: &[&str] = &["", "n1", "n2", "n3"];
const NAMESPACES: &[&str] = &["a", "b", "istio-system"];
/// Services by namespace and host: one host is in several namespaces.
const SERVICES: &[(&str, &str)] =
    &[("a", "x.a.svc.cluster.local"), ("a", "y.example"), ("b", "y.example"), ("istio-system", "y.example")];
pub(super) const NAMES: [&str; 10] = [
    LOCAL_CLUSTER,
    "outbound|80||x.a.svc.cluster.local",
    "outbound|80|v1|x.a.svc.cluster.local",
    "outbound|90||x.a.svc.cluster.local",
    "outbound_.80_._.x.a.svc.cluster.local",
    "outbound|80||y.example",
    "outbound|80|v1|y.example",
    "outbound|80||nobody.example",
    "inbound|80||",
    "inbound-vip|80|http|x.a.svc.cluster.local",
];
const PATTERNS: &[&str] =
    &["x.a.svc.cluster.local", "y.example", "*.svc.cluster.local", "*.a.svc.cluster.local", "*.example", "*"];
const LOCALITIES: &[&str] = &["", "r1/z1/s1", "r1/z2/s1", "r2/z1/s1"];
/// Names of the ports 80, 90 and 15008 of a service.
const PORTS: &[&[&str]] = &[&["http"], &["web"], &["http", "other"], &["http", "other", "web"]];
/// Addresses of a proxy.
const FAMILIES: &[&[&str]] = &[&["10.9.0.1"], &["fd00::1"], &["10.9.0.1", "fd00::1"]];
const NODES: &[&str] = &["", "n1", "n2"];
const LABELS: &[&[(&str, &str)]] = &[
    &[],
    &[("app", "a"), ("version", "v1")],
    &[("app", "b"), ("version", "v1"), ("networking.istio.io/tunnel", "http")],
    &[("app", "a"), ("version", "v2"), ("istio.io/draining", "yes")],
    &[("app", "a"), ("pod-template-hash", "6d4f")],
    &[("app", "a"), ("gateway.istio.io/managed", "istio.io-mesh-controller")],
    &[("app", "b"), ("gateway.istio.io/managed", "istio.io-gateway-controller")],
    &[("gateway.istio.io/managed", "istio.io-eastwest-controller"), ("topology.istio.io/network", "n2")],
];
/// Proxies at a time.
const SLOTS: usize = 8;

/// How a whole world answers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mode {
    pub(super) peer: bool,
    pub(super) ambient: bool,
    pub(super) dual_stack: bool,
    /// Whether there is next to no room for bytes (D18).
    pub(super) cramped: bool,
}

pub(super) fn mode() -> impl Strategy<Value = Mode> {
    let rare = || prop::bool::weighted(0.25);
    (rare(), rare(), rare(), any::<bool>()).prop_map(|(peer, ambient, dual_stack, cramped)| Mode {
        peer,
        ambient,
        dual_stack,
        cramped,
    })
}

#[derive(Clone, Debug)]
pub(super) enum Step {
    Shard(usize, ServiceKey, Option<Box<Service>>, Vec<Pod>),
    NoShard(usize, ServiceKey),
    Networks(usize, Option<NetworkId>, Vec<NetworkGateway>),
    Standing(usize, Standing),
    /// Something else for as long as the proxies take to read all that they watch: what was pushed is true again then,
    /// but not what they hold.
    Detour(usize, Aside),
    Withdraw(usize),
    Pod(WorkloadId, Option<Box<WorkloadCell>>),
    Policy(PolicyObject),
    NoPolicy(PolicyKind, PolicyId),
    Mesh(Box<MeshConfig>),
    Join(usize, Box<Node>),
    Leave(usize),
    Watch(usize, usize),
    Unwatch(usize, usize),
    /// Reads all that a proxy watches.
    Ask(usize),
    /// A proxy looks at what it was told before the next push.
    Listen(usize),
    Push,
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    let slot = || 0..SLOTS;
    let name = || 0..NAMES.len();
    prop_oneof![
        12 => shard_step(),
        2 => (cluster(), service()).prop_map(|(at, key)| Step::NoShard(at, key)),
        4 => networks(),
        3 => (cluster(), select(&[Standing::Regular, Standing::Demoted, Standing::Dropped][..]))
            .prop_map(|(at, standing)| Step::Standing(at, standing)),
        8 => (cluster(), aside()).prop_map(|(at, aside)| Step::Detour(at, aside)),
        1 => cluster().prop_map(Step::Withdraw),
        6 => pod_step(),
        6 => rule(),
        3 => peer_authentication(),
        3 => sidecar(),
        4 => gone(),
        3 => mesh_config(),
        4 => join(),
        1 => slot().prop_map(Step::Leave),
        6 => (slot(), name()).prop_map(|(slot, name)| Step::Watch(slot, name)),
        1 => (slot(), name()).prop_map(|(slot, name)| Step::Unwatch(slot, name)),
        8 => slot().prop_map(Step::Ask),
        2 => slot().prop_map(Step::Listen),
        16 => Just(Step::Push),
    ]
}

/// What is otherwise for a while.
#[derive(Clone, Debug)]
pub(super) enum Aside {
    /// What the endpoints of the cluster are worth.
    Standing(Standing),
    /// The cluster has nothing of a service.
    Nothing(ServiceKey),
}

fn aside() -> impl Strategy<Value = Aside> {
    prop_oneof![
        select(&[Standing::Demoted, Standing::Dropped][..]).prop_map(Aside::Standing),
        service().prop_map(Aside::Nothing),
    ]
}

/// Something to see, and somebody who looks.
pub(super) fn start() -> impl Strategy<Value = Vec<Step>> {
    let shards = prop::collection::vec(shard_step(), 4);
    let joins = prop::collection::vec(join(), 6);
    let watches =
        (0..SLOTS).flat_map(|slot| (0..NAMES.len()).step_by(2).map(move |name| Step::Watch(slot, name)));
    let watches: Vec<_> = watches.collect();
    (shards, prop::collection::vec(networks(), 3), joins)
        .prop_map(move |(shards, networks, joins)| [shards, networks, joins, watches.clone()].concat())
}

fn cluster() -> impl Strategy<Value = usize> {
    0..CLUSTERS.len()
}

fn service() -> impl Strategy<Value = ServiceKey> {
    select(SERVICES).prop_map(|(namespace, host)| ServiceKey::new(namespace, host))
}

fn name(of: &'static [&'static str]) -> impl Strategy<Value = Name> {
    select(of).prop_map(Name::from)
}

fn locality() -> impl Strategy<Value = Locality> {
    select(LOCALITIES).prop_map(Locality::parse)
}

fn labels() -> impl Strategy<Value = Labels> {
    select(LABELS).prop_map(|labels| labels.iter().map(|&(key, value)| (key.into(), value.into())).collect())
}

/// An endpoint, but for its cluster.
#[derive(Clone, Debug)]
pub(super) struct Pod {
    number: u8,
    endpoint: Endpoint,
    parts: WorkloadParts,
}

fn pod() -> impl Strategy<Value = Pod> {
    let place = (select(NETWORKS), locality(), name(NODES), labels(), any::<bool>());
    let health = select(
        &[Health::Healthy, Health::Healthy, Health::Unhealthy, Health::Draining, Health::Terminating][..],
    );
    let port = (name(&["http", "http", "web"]), select(&[8080_u16, 8081][..]), 0..4_u32, 0..8_u8);
    (1..14_u8, place, health, port).prop_map(
        |(number, (network, locality, node, labels, mtls), health, (port_name, port, weight, rare))| {
            let address = IpAddr::from([10, 0, 0, number]);
            let addresses = match number {
                13 => Vec::new(),
                12 => vec![address, "fd00::12".parse().expect("an address")],
                _ => vec![address],
            };
            let own = if rare == 0 { Discoverability::SameCluster } else { Discoverability::Always };
            let parts = WorkloadParts {
                namespace: if rare == 1 { "b".into() } else { "a".into() },
                name: format!("pod{number}").into(),
                addresses: addresses.clone().into(),
                network: network.into(),
                locality,
                node,
                tls_mode: if mtls { TlsMode::Istio } else { TlsMode::Disabled },
                redirected: rare == 2,
                labels,
                ..WorkloadParts::default()
            };
            let endpoint = Endpoint {
                addresses: addresses.into(),
                health,
                weight: NonZeroU32::new(weight),
                exposure: Exposure::new(own, true),
                ..Endpoint::new(address, port, port_name, WorkloadParts::default())
            };
            Pod { number, endpoint, parts }
        },
    )
}

pub(super) fn shard(
    cluster: &str,
    key: &ServiceKey,
    record: Option<Box<Service>>,
    pods: Vec<Pod>,
) -> EndpointShard {
    let own = |pod: Pod| {
        let parts = WorkloadParts { cluster: cluster.into(), ..pod.parts };
        (pod.number, Endpoint { workload: parts.into(), ..pod.endpoint })
    };
    // Each once, and always in the same order: another order alone is not told (R6.1).
    let endpoints: BTreeMap<u8, Endpoint> = pods.into_iter().map(own).collect();
    let record = record.map(|record| Arc::new(Service { key: key.clone(), ..*record }));
    EndpointShard::new(cluster.into(), record, endpoints.into_values().collect())
}

fn shard_step() -> impl Strategy<Value = Step> {
    let record = prop::option::weighted(0.9, record());
    (cluster(), service(), record, prop::collection::vec(pod(), 0..6))
        .prop_map(|(at, key, record, pods)| Step::Shard(at, key, record.map(Box::new), pods))
}

fn export_to() -> impl Strategy<Value = ExportTo> {
    let only =
        |namespaces: &[&str]| ExportTo::Namespaces(namespaces.iter().map(|&name| name.into()).collect());
    select(vec![
        ExportTo::Everywhere,
        ExportTo::Everywhere,
        ExportTo::Unset,
        ExportTo::Nowhere,
        only(&["a"]),
        only(&["b", "istio-system"]),
    ])
}

fn record() -> impl Strategy<Value = Service> {
    use TrafficDistribution::{Any, PreferSameNode, PreferSameZone};
    let ports = select(PORTS);
    let distribution = select(&[Any, Any, Any, PreferSameZone, PreferSameNode][..]);
    let sticky = prop::bool::weighted(0.2);
    let flags = (prop::bool::weighted(0.2), sticky, prop::bool::weighted(0.3), 0..10_u8);
    let waypoint = prop::option::weighted(0.3, service());
    (ports, export_to(), distribution, 0..4_i64, flags, waypoint).prop_map(
        |(ports, export_to, traffic_distribution, created, (node_local, sticky, entry, rare), waypoint)| {
            let port = |(name, number): (&&str, u16)| ServicePort {
                number,
                name: (*name).into(),
                transport: Transport::Tcp,
                protocol: PortProtocol::Http,
            };
            let labels = sticky.then(|| ("istio.io/persistent-session".into(), "cookie".into()));
            Service {
                ports: ports.iter().zip([80, 90, 15008]).map(port).collect(),
                export_to,
                traffic_distribution,
                created,
                node_local,
                vips: waypoint.iter().map(|_| (CLUSTERS[0].into(), vec![[10, 96, 0, 1].into()])).collect(),
                ingress_waypoint: waypoint,
                labels: labels.into_iter().collect(),
                resolution: if rare == 0 { Resolution::Dns } else { Resolution::ClientSide },
                entry: entry.then(|| Arc::new(facts(rare))),
                ..Service::default()
            }
        },
    )
}

fn facts(rare: u8) -> EntryFacts {
    let socket = InlineEndpoint {
        address: InlineAddress::Unix("/run/socket".into()),
        port: 0,
        port_name: "http".into(),
        weight: None,
        workload: Arc::default(),
    };
    EntryFacts { inline: (rare < 4).then_some(socket).into_iter().collect(), ..EntryFacts::default() }
}

fn networks() -> impl Strategy<Value = Step> {
    let gateway =
        (select(NETWORKS), 1..4_u8, select(&[15443_u16, 15443, 0][..]), select(&[0_u16, 15008][..]));
    let gateways = prop::collection::vec(gateway, 0..4);
    (cluster(), select(NETWORKS), gateways).prop_map(|(at, network, gateways)| {
        let gateway = |(network, number, port, hbone_port): (&str, u8, u16, u16)| NetworkGateway {
            network: network.into(),
            cluster: CLUSTERS[at].into(),
            address: match number {
                3 => "fd00::3".parse().expect("an address"),
                _ => [172, 30, at as u8, number].into(),
            },
            port,
            hbone_port,
        };
        let named = gateways.into_iter().filter(|(network, ..)| !network.is_empty());
        let network = (!network.is_empty()).then(|| network.into());
        Step::Networks(at, network, named.map(gateway).collect())
    })
}

fn workload() -> impl Strategy<Value = WorkloadId> {
    (select(&CLUSTERS[..]), name(NAMESPACES), name(&["p1", "p2"]))
        .prop_map(|(cluster, namespace, name)| WorkloadId { cluster: cluster.into(), namespace, name })
}

fn pod_step() -> impl Strategy<Value = Step> {
    let services = prop::collection::vec(service(), 0..3);
    let known = prop::option::weighted(0.8, (select(NETWORKS), locality(), name(NODES), labels(), services));
    (workload(), known).prop_map(|(id, known)| {
        let cell = known.map(|(network, locality, node, labels, services)| {
            let parts =
                WorkloadParts { network: network.into(), locality, node, labels, ..WorkloadParts::of(&id) };
            let services = services.into_iter().collect();
            Box::new(WorkloadCell { services, ..WorkloadCell::from(parts) })
        });
        Step::Pod(id, cell)
    })
}

fn join() -> impl Strategy<Value = Step> {
    let families = select(FAMILIES);
    let said = (select(NETWORKS), locality(), name(NODES), labels(), 0..8_u8);
    let kind = select(&[ProxyKind::Sidecar, ProxyKind::Sidecar, ProxyKind::Router][..]);
    (0..SLOTS, workload(), kind, families, said).prop_map(
        |(slot, id, kind, addresses, (network, locality, node_name, labels, rare))| {
            let own = Node {
                kind,
                addresses: addresses.iter().map(|address| address.parse().expect("an address")).collect(),
                network: network.into(),
                requested_view: if rare == 0 { vec!["n1".into(), "n2".into()] } else { Vec::new() },
                locality,
                node_name,
                labels,
                sends_hbone: rare != 1,
                ..node(&id.cluster, &id.namespace, &id.name)
            };
            Step::Join(slot, Box::new(own))
        },
    )
}

/// Few objects of each kind, so that they are changed, moved and removed.
fn meta() -> impl Strategy<Value = PolicyMeta> {
    (name(NAMESPACES), name(&["p1", "p2"]), 0..3_i64)
        .prop_map(|(namespace, name, created)| PolicyMeta { created, id: PolicyId { namespace, name } })
}

fn gone() -> impl Strategy<Value = Step> {
    let kinds = [PolicyKind::DestinationRule, PolicyKind::PeerAuthentication, PolicyKind::Sidecar];
    (prop::sample::select(kinds.to_vec()), meta()).prop_map(|(kind, meta)| Step::NoPolicy(kind, meta.id))
}

fn selector() -> impl Strategy<Value = WorkloadSelector> {
    select(&[None, None, Some("a"), Some("b")][..]).prop_map(|app| {
        WorkloadSelector::new(app.map(|app| ("app".into(), app.into())).into_iter().collect())
    })
}

fn locality_lb() -> impl Strategy<Value = LocalityLb> {
    let region = vec![Failover { from: "r1".into(), to: "r2".into() }];
    let shares = Distribute { from: "r1/*".into(), to: vec![("r1/z1".into(), 80), ("r2/*".into(), 20)] };
    let keys: Vec<Name> = ["topology.kubernetes.io/region", "app", "kubernetes.io/hostname", "version=v1"]
        .into_iter()
        .map(Name::from)
        .collect();
    select(vec![
        LocalityLb::default(),
        LocalityLb { enabled: false, ..LocalityLb::default() },
        LocalityLb { distribute: vec![shares], ..LocalityLb::default() },
        LocalityLb { failover: region.clone(), ..LocalityLb::default() },
        LocalityLb { failover_priority: keys.clone(), ..LocalityLb::default() },
        LocalityLb { failover: region, failover_priority: keys, ..LocalityLb::default() },
    ])
}

fn zone_aware() -> impl Strategy<Value = ZoneAwareLb> {
    (any::<bool>(), any::<bool>()).prop_map(|(enabled, labels)| ZoneAwareLb {
        enabled,
        failover: vec![Failover { from: "r2".into(), to: "r1".into() }],
        failover_priority: labels.then(|| "app".into()).into_iter().collect(),
        ..ZoneAwareLb::default()
    })
}

fn outliers() -> impl Strategy<Value = OutlierDetection> {
    select(&[0_u32, 0, 50][..])
        .prop_map(|min_health_percent| OutlierDetection { min_health_percent, ..OutlierDetection::default() })
}

fn settings() -> impl Strategy<Value = TrafficSettings> {
    use ClientTlsMode::{Disable, IstioMutual, Simple};
    let tls = select(&[Disable, IstioMutual, Simple][..])
        .prop_map(|mode| ClientTls { mode, ..ClientTls::default() });
    let balancer = (prop::option::weighted(0.6, locality_lb()), prop::option::weighted(0.2, zone_aware()))
        .prop_map(|(locality, zone_aware)| LoadBalancer { locality, zone_aware, ..LoadBalancer::default() });
    let some = |weight| prop::option::weighted(weight, Just(()));
    (prop::option::weighted(0.6, balancer), prop::option::weighted(0.5, outliers()), some(0.3), tls).prop_map(
        |(load_balancer, outlier_detection, secured, tls)| TrafficSettings {
            load_balancer,
            outlier_detection,
            tls: secured.map(|()| tls),
            ..TrafficSettings::default()
        },
    )
}

fn traffic() -> impl Strategy<Value = TrafficPolicy> {
    let port = settings().prop_map(|settings| PortPolicy { port: 80, settings });
    (settings(), prop::option::weighted(0.2, port))
        .prop_map(|(settings, port)| TrafficPolicy { settings, ports: port.into_iter().collect() })
}

fn rule() -> impl Strategy<Value = Step> {
    let wanted = select(&[("version", "v1"), ("app", "a"), ("topology.kubernetes.io/region", "r1")][..]);
    let subset = (wanted, traffic()).prop_map(|((key, value), policy)| Subset {
        name: "v1".into(),
        labels: Labels::from([(key, value)]),
        policy,
    });
    (meta(), select(PATTERNS), traffic(), prop::option::of(subset), selector(), export_to()).prop_map(
        |(meta, host, policy, subset, selector, export_to)| {
            Step::Policy(PolicyObject::DestinationRule(Arc::new(DestinationRule {
                meta,
                host: HostPattern::new(host),
                policy,
                subsets: subset.into_iter().collect(),
                selector,
                export_to,
            })))
        },
    )
}

fn peer_authentication() -> impl Strategy<Value = Step> {
    let mode =
        || select(&[None, Some(MtlsMode::Disable), Some(MtlsMode::Permissive), Some(MtlsMode::Strict)][..]);
    (meta(), selector(), mode(), prop::option::of(mode())).prop_map(|(meta, selector, mode, port)| {
        Step::Policy(PolicyObject::PeerAuthentication(Arc::new(PeerAuthentication {
            meta,
            selector,
            mode,
            ports: port.map(|mode| (8080, mode)).into_iter().collect(),
        })))
    })
}

fn sidecar() -> impl Strategy<Value = Step> {
    let namespace = select(vec![
        EgressNamespace::Any,
        EgressNamespace::Nobody,
        EgressNamespace::Named("a".into()),
        EgressNamespace::Named("b".into()),
    ]);
    let host = (namespace, select(PATTERNS))
        .prop_map(|(namespace, host)| EgressHost { namespace, host: HostPattern::new(host) });
    let listener =
        (prop::bool::weighted(0.3), prop::collection::vec(host, 1..3)).prop_map(|(port, hosts)| {
            let port =
                port.then(|| SidecarPort { number: 80, protocol: PortProtocol::Http, name: "p".into() });
            EgressListener { port, bind: None, socket: None, capture: CaptureMode::Default, hosts }
        });
    (meta(), selector(), prop::collection::vec(listener, 0..3)).prop_map(|(meta, selector, egress)| {
        Step::Policy(PolicyObject::Sidecar(Arc::new(Sidecar {
            meta,
            selector,
            egress,
            ingress: Vec::new(),
            outbound_policy: None,
            inbound_pool: None,
        })))
    })
}

fn mesh_config() -> impl Strategy<Value = Step> {
    let own = || ExportTo::Namespaces(["".into()].into());
    let default = move || select(vec![ExportTo::Everywhere, ExportTo::Everywhere, own(), ExportTo::Nowhere]);
    let root = select(&["istio-system", "istio-system", "a"][..]);
    let local = prop::option::weighted(0.2, name(PATTERNS));
    let balance = (
        prop::option::weighted(0.8, locality_lb()),
        prop::option::weighted(0.2, zone_aware()),
        prop::option::weighted(0.4, outliers()),
    );
    (balance, root, local, default(), default()).prop_map(
        |((locality_lb, zone_aware_lb, outlier_detection), root, local, services, rules)| {
            let local = local.map(|host| ServiceSettings { cluster_local: true, hosts: vec![host] });
            Step::Mesh(Box::new(MeshConfig {
                root_namespace: root.into(),
                locality_lb,
                zone_aware_lb,
                outlier_detection,
                service_settings: local.into_iter().collect(),
                default_service_export_to: services,
                default_destination_rule_export_to: rules,
                ..MeshConfig::default()
            }))
        },
    )
}
