mod collisions;
mod gateways;
mod headless;
mod networks;
mod places;
mod sight;

use std::sync::atomic::Ordering;

use super::*;
use crate::model::policy::{
    CaptureMode, Destination, DestinationRule, EgressHost, EgressListener, EgressNamespace, Headers,
    HostPattern, HttpAction, HttpRoute, MeshConfig, OutboundPolicy, PolicyId, PolicyKind, PolicyMeta,
    Sidecar, Subset, TrafficPolicy, VirtualService, Weighted, WorkloadSelector,
};
use crate::model::{
    ClusterRole, Dialect, EndpointShard, ExportTo, InterceptionMode, IpFamilies, Labels, PortProtocol,
    ProxyKind, Service, ServicePort, Transport,
};
use crate::registry::{ClusterWriter, PolicyObject, PolicyWrite};

struct Mesh {
    registry: Arc<Registry>,
    outbounds: Outbounds,
    counts: Arc<Counts>,
    east: ClusterWriter,
}

fn host(name: &str) -> String {
    format!("{name}.sample.svc.cluster.local")
}

fn record(name: &str) -> Service {
    let port = ServicePort {
        number: 80,
        name: "http".into(),
        transport: Transport::Tcp,
        protocol: PortProtocol::Http,
    };
    Service { key: ServiceKey::new("sample", host(name)), ports: vec![port], ..Service::default() }
}

fn key(namespace: &str) -> OutboundKey {
    OutboundKey {
        kind: ProxyKind::Sidecar,
        cluster: "east".into(),
        network: "net-east".into(),
        requested_view: Default::default(),
        namespace: namespace.into(),
        dns_domain: format!("{namespace}.svc.cluster.local").into(),
        mode: InterceptionMode::Redirect,
        dialect: Dialect::Vanilla,
        families: IpFamilies::V4,
        bind: None,
        east_west: false,
        sidecar: None,
        gateways: Vec::new(),
        tunnels: Vec::new(),
        targets: Vec::new(),
        labels: Labels::new(),
    }
}

impl Mesh {
    /// A mesh with these services.
    fn new(services: &[&str]) -> Self {
        let registry = Registry::new();
        let mut east = registry.writer("east".into(), ClusterRole::Config).expect("first writer");
        for name in services {
            east.set(
                record(name).key,
                EndpointShard::new("east".into(), Some(Arc::new(record(name))), Vec::new()),
            );
        }
        registry.changes().take();
        let counts = Arc::new(Counts::default());
        let outbounds = Outbounds::new(Arc::clone(&registry), Arc::default(), Arc::clone(&counts));
        Self { registry, outbounds, counts, east }
    }

    fn join(&self, stream: u64, key: OutboundKey) -> (Arc<StreamHandle>, Arc<Outbound>) {
        let handle = StreamHandle::new(stream);
        let outbound = self.outbounds.join(key, &handle);
        outbound.watch_lists(&handle);
        (handle, outbound)
    }

    /// Works off what changed; how many services were built for that.
    fn push(&self) -> u64 {
        let before = self.counts.service_builds.load(Ordering::Relaxed);
        let changes = self.registry.changes().take();
        let (now, mut marks) = (Instant::now(), Marks::new(None));
        let keys: Vec<_> = changes.services.keys().cloned().collect();
        self.outbounds.policies_changed(&changes.policies, now, &mut marks);
        self.outbounds.services_changed(&keys, now, &mut marks);
        self.outbounds.networks_changed(&changes.networks, now, &mut marks);
        marks.wake();
        self.counts.service_builds.load(Ordering::Relaxed) - before
    }

    fn write(&self, object: PolicyObject) -> u64 {
        self.registry.write_policies([PolicyWrite::set(object)]);
        self.push()
    }

    fn remove(&self, kind: PolicyKind, name: &str) -> u64 {
        self.registry.write_policies([PolicyWrite::remove(kind, PolicyId::new("sample", name))]);
        self.push()
    }
}

fn meta(name: &str) -> PolicyMeta {
    PolicyMeta { created: 1, id: PolicyId::new("sample", name) }
}

fn rule(hosts: &str, export_to: ExportTo, subset: &str) -> PolicyObject {
    PolicyObject::DestinationRule(Arc::new(DestinationRule {
        meta: meta("rule"),
        host: HostPattern::new(hosts),
        policy: TrafficPolicy::default(),
        subsets: vec![Subset {
            name: subset.into(),
            labels: Labels::new(),
            policy: TrafficPolicy::default(),
        }],
        selector: WorkloadSelector::default(),
        export_to,
    }))
}

fn routes(hosts: &str, to: &str) -> PolicyObject {
    let destination = Destination { host: to.into(), subset: "".into(), port: None };
    PolicyObject::VirtualService(Arc::new(VirtualService {
        meta: meta("routes"),
        hosts: vec![HostPattern::new(hosts)],
        gateways: vec!["mesh".into()],
        export_to: ExportTo::Unset,
        http: vec![HttpRoute::new(HttpAction::Forward(vec![Weighted {
            destination,
            weight: 1,
            headers: Headers::default(),
        }]))],
        tls: Vec::new(),
        tcp: Vec::new(),
    }))
}

fn sidecar(name: &str, hosts: &str) -> PolicyObject {
    let egress = EgressListener {
        port: None,
        bind: None,
        socket: None,
        capture: CaptureMode::Default,
        hosts: vec![EgressHost { namespace: EgressNamespace::Any, host: HostPattern::new(hosts) }],
    };
    PolicyObject::Sidecar(Arc::new(Sidecar {
        meta: meta(name),
        selector: WorkloadSelector::default(),
        egress: vec![egress],
        ingress: Vec::new(),
        outbound_policy: None,
        inbound_pool: None,
    }))
}

fn clusters(outbound: &Outbound) -> Vec<String> {
    let list = outbound.clusters();
    list.entries().iter().map(|entry| entry.name.to_string()).filter(|name| name.contains('|')).collect()
}

#[test]
fn d14_one_destination_rule_changes_one_service_of_each_world_that_reads_it() {
    let mesh = Mesh::new(&["a", "b", "c"]);
    let (_one, sample) = mesh.join(1, key("sample"));
    let (_two, other) = mesh.join(2, key("other"));
    let private = ExportTo::Namespaces(["sample".into()].into());
    assert_eq!(mesh.write(rule(&host("a"), private, "v1")), 1, "one service of one world");
    assert!(clusters(&sample).contains(&format!("outbound|80|v1|{}", host("a"))));
    assert_eq!(clusters(&other).len(), 3);
    assert_eq!(mesh.write(rule(&host("a"), ExportTo::Unset, "v1")), 2, "another object, both worlds read it");
    assert_eq!(clusters(&other).len(), 4);
    assert_eq!(
        mesh.write(rule("*.sample.svc.cluster.local", ExportTo::Unset, "v1")),
        6,
        "every service of both worlds"
    );
    assert_eq!(mesh.remove(PolicyKind::DestinationRule, "rule"), 6);
    assert_eq!(mesh.remove(PolicyKind::DestinationRule, "rule"), 0, "nothing to remove");
}

#[test]
fn a_virtual_service_changes_its_host_and_follows_its_destinations() {
    let mut mesh = Mesh::new(&["a", "b"]);
    let (_stream, outbound) = mesh.join(1, key("sample"));
    let before = outbound.route(&"80".into()).expect("route");
    assert_eq!(mesh.write(routes(&host("a"), &host("b"))), 1);
    assert_ne!(outbound.route(&"80".into()).expect("route"), before);
    let mut changed = record("b");
    changed.ports[0].number = 8080;
    let shard = EndpointShard::new("east".into(), Some(Arc::new(changed)), Vec::new());
    mesh.east.set(record("b").key, shard);
    assert_eq!(mesh.push(), 2, "what leads there names another port now");
    let table = outbound.route(&"80".into()).expect("route");
    assert!(String::from_utf8_lossy(&table.any).contains(&format!("outbound|8080||{}", host("b"))));
    assert_eq!(mesh.counts.unknown_destinations.load(Ordering::Relaxed), 0);
    mesh.remove(PolicyKind::VirtualService, "routes");
    mesh.write(routes(&host("a"), "no.where"));
    assert_eq!(mesh.counts.unknown_destinations.load(Ordering::Relaxed), 1);
}

#[test]
fn a_host_becomes_a_service_and_stops_being_one() {
    let mut mesh = Mesh::new(&["b"]);
    let (_stream, outbound) = mesh.join(1, key("sample"));
    mesh.write(routes(&host("a"), &host("b")));
    let text = || String::from_utf8_lossy(&outbound.route(&"80".into()).expect("route").any).into_owned();
    let virtual_host = format!("{}:80", host("a"));
    assert!(text().contains(&virtual_host));
    let shard = || EndpointShard::new("east".into(), Some(Arc::new(record("a"))), Vec::new());
    mesh.east.set(record("a").key, shard());
    mesh.push();
    assert!(text().contains(&virtual_host) && clusters(&outbound).len() == 2);
    mesh.east.set(record("a").key, EndpointShard::new("east".into(), None, Vec::new()));
    mesh.push();
    assert!(text().contains(&virtual_host), "its routes stay");
    mesh.remove(PolicyKind::VirtualService, "routes");
    assert!(!text().contains(&virtual_host));
}

#[test]
fn a_sidecar_changes_the_worlds_it_selects_and_has_proxies_look_again() {
    let mesh = Mesh::new(&["a", "b"]);
    let (stream, plain) = mesh.join(1, key("sample"));
    let (elsewhere, _far) = mesh.join(2, key("other"));
    assert_eq!(mesh.write(sidecar("default", &host("a"))), 0, "no world has it yet");
    assert!(stream.take().view && !elsewhere.take().view);
    let selected = OutboundKey { sidecar: Some(PolicyId::new("sample", "default")), ..key("sample") };
    let (_three, narrow) = mesh.join(3, selected);
    assert_eq!((clusters(&narrow).len(), clusters(&plain).len()), (1, 2));
    mesh.write(sidecar("default", &host("b")));
    assert!(clusters(&narrow).contains(&format!("outbound|80||{}", host("b"))));
    mesh.write(routes(&host("b"), &host("a")));
    let all = clusters(&narrow);
    assert!(all.contains(&format!("outbound|80||{}", host("a"))), "hidden, but a route leads there: {all:?}");
}

#[test]
fn the_mesh_wide_document_changes_everything_and_what_was_asked_for() {
    let mesh = Mesh::new(&["a", "b"]);
    let (stream, outbound) = mesh.join(1, key("sample"));
    outbound.watch_route(&"80".into(), &stream);
    let before = outbound.route(&"80".into());
    let listeners = outbound.listeners().hash();
    let config = MeshConfig { outbound_policy: OutboundPolicy::RegistryOnly, ..MeshConfig::default() };
    mesh.registry.write_mesh_config(config);
    assert_eq!(mesh.push(), 2);
    assert_ne!(outbound.route(&"80".into()), before);
    assert_ne!(outbound.listeners().hash(), listeners);
    let dirty = stream.take();
    assert!(dirty.view && dirty.names.contains(&(ResourceType::Route, "80".into())));
}

#[test]
fn policies_about_other_hosts_build_nothing() {
    let mesh = Mesh::new(&["a", "b"]);
    let (_stream, _outbound) = mesh.join(1, key("sample"));
    let lists = mesh.counts.list_builds.load(Ordering::Relaxed);
    assert_eq!(mesh.write(rule("elsewhere.example", ExportTo::Unset, "v1")), 0);
    assert_eq!(mesh.counts.list_builds.load(Ordering::Relaxed), lists);
}

#[test]
fn r4_2_of_one_host_in_several_namespaces_the_own_one_is_seen() {
    let mut mesh = Mesh::new(&[]);
    for (namespace, port) in [("far", 81), ("sample", 82)] {
        let mut service = record("a");
        service.key = ServiceKey::new(namespace, "shared.example");
        service.ports[0].number = port;
        mesh.east
            .set(service.key.clone(), EndpointShard::new("east".into(), Some(Arc::new(service)), Vec::new()));
    }
    mesh.push();
    let (_one, own) = mesh.join(1, key("sample"));
    let (_two, far) = mesh.join(2, key("far"));
    assert_eq!(clusters(&own), ["outbound|82||shared.example"]);
    assert_eq!(clusters(&far), ["outbound|81||shared.example"]);
    mesh.east.set(
        ServiceKey::new("sample", "shared.example"),
        EndpointShard::new("east".into(), None, Vec::new()),
    );
    mesh.push();
    assert!(clusters(&own).contains(&"outbound|81||shared.example".to_owned()), "the other one appears");
}

#[test]
fn d18_routes_without_room_are_built_for_who_asks_and_told_when_they_differ() {
    let mut mesh = Mesh::new(&["a", "b"]);
    mesh.outbounds = mesh.outbounds.keeping_in(&Cache::new(0));
    let (stream, outbound) = mesh.join(1, key("sample"));
    outbound.watch_route(&"80".into(), &stream);
    let read = || outbound.route(&"80".into()).expect("route");
    let (before, builds) = (read(), mesh.counts.route_builds.load(Ordering::Relaxed));
    assert_eq!((read(), mesh.counts.route_builds.load(Ordering::Relaxed)), (before.clone(), builds + 1));
    assert_eq!(mesh.outbounds.cache.values(ResourceType::Route).bytes, 0);
    stream.take();
    mesh.write(rule(&host("a"), ExportTo::Unset, "v1"));
    assert!(stream.take().names.is_empty(), "the route is as it was");
    let mut changed = record("b");
    changed.ports[0].number = 8080;
    mesh.east.set(record("b").key, EndpointShard::new("east".into(), Some(Arc::new(changed)), Vec::new()));
    mesh.push();
    assert!(stream.take().names.contains(&(ResourceType::Route, "80".into())));
    assert_ne!(read(), before);
    mesh.push();
    assert!(stream.take().names.is_empty(), "told once");
    let values = mesh.outbounds.cache.values(ResourceType::Route);
    assert_eq!((values.hits, values.misses, values.entries), (0, 3, 0), "{values:?}");
    assert!(mesh.outbounds.listed(ResourceType::Cluster).bytes > 0);
}
