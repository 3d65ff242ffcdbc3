//! Records decide which projection a proxy has: who watches follows them.

use super::client::{Client, node, push};
use super::*;
use crate::model::{ExportTo, Locality, Node, TrafficDistribution};
use crate::xds::hub::{Hub, Settings};

const HOST: &str = "a.example";
const NAME: &str = "outbound|80||a.example";

/// A service of this namespace with endpoints on nodes of their own, and its record as `change` has it.
fn told(namespace: &str, endpoints: u8, change: impl FnOnce(&mut Service)) -> (ServiceKey, EndpointShard) {
    let port = ServicePort {
        number: 80,
        name: "http".into(),
        transport: Transport::Tcp,
        protocol: PortProtocol::Http,
    };
    let key = ServiceKey::new(namespace, HOST);
    let mut record = Service { key: key.clone(), ports: vec![port], ..Service::default() };
    change(&mut record);
    let endpoint = |last: u8| {
        let parts = WorkloadParts {
            cluster: "west".into(),
            locality: Locality::parse(&format!("r/z{last}")),
            node: format!("n{last}").into(),
            ..WorkloadParts::default()
        };
        Endpoint::new([10, 0, 0, last].into(), 8080, "http", parts)
    };
    let endpoints = (1..=endpoints).map(endpoint).collect();
    (key, EndpointShard::new("west".into(), Some(Arc::new(record)), endpoints))
}

struct Mesh {
    hub: Arc<Hub>,
    west: ClusterWriter,
    client: Client,
}

impl Mesh {
    /// A proxy of namespace `b` on node `n1` that watches the service of namespace `a`, two endpoints and all.
    fn new() -> Self {
        let registry = Registry::new();
        let mut west = registry.writer("west".into(), ClusterRole::Config).expect("first writer");
        let (key, shard) = told("a", 2, |_| {});
        west.set(key, shard);
        let hub = Arc::new(Hub::new(registry, Settings::default(), None));
        let place = Locality::parse("r/z1");
        let client = Node { node_name: "n1".into(), locality: place, ..node("west", "b", "p") };
        let client = Client::new(&hub, client);
        let mut mesh = Self { hub, west, client };
        mesh.client.watch(&mesh.hub, &NAME.into());
        mesh.push();
        mesh
    }

    fn push(&mut self) -> bool {
        push(&self.hub);
        self.client.listen(&self.hub).contains(&Name::from(NAME))
    }

    fn set(&mut self, (key, shard): (ServiceKey, EndpointShard)) {
        self.west.set(key, shard);
    }

    fn key(&self) -> EdsKey {
        self.client.cell(&NAME.into()).key().clone()
    }

    /// Tells of a service: the proxy must be sent other bytes than before, those of another key.
    fn switches(&mut self, told: (ServiceKey, EndpointShard)) -> EdsKey {
        self.set(told);
        self.is_switched()
    }

    fn is_switched(&mut self) -> EdsKey {
        let (key, held) = (self.key(), self.client.held.clone());
        assert!(self.push(), "it is told");
        assert_ne!(self.key(), key);
        assert_eq!(self.key(), self.hub.assignments.key(&self.client.view(), NAME));
        assert_ne!(self.client.held, held, "other bytes");
        self.key()
    }
}

#[test]
fn r4_2_a_service_that_is_no_longer_exported_to_a_proxy_is_taken_from_it_and_given_back() {
    let mut mesh = Mesh::new();
    let own = ExportTo::Namespaces(["a".into()].into());
    let key = mesh.switches(told("a", 2, |record| record.export_to = own));
    assert_eq!(key.namespace, None);
    assert_eq!(mesh.switches(told("a", 2, |_| {})).namespace, Some("a".into()));
}

#[test]
fn r4_2_a_service_of_the_proxys_own_namespace_takes_the_place_of_another_until_it_goes() {
    let mut mesh = Mesh::new();
    assert_eq!(mesh.switches(told("b", 1, |_| {})).namespace, Some("b".into()));
    mesh.west.remove(&ServiceKey::new("b", HOST));
    assert_eq!(mesh.is_switched().namespace, Some("a".into()));
    mesh.west.remove(&ServiceKey::new("a", HOST));
    assert_eq!(mesh.is_switched().namespace, None, "nobody has it any more");
    assert_eq!(mesh.switches(told("c", 1, |_| {})).namespace, Some("c".into()));
}

#[test]
fn r4_2_of_services_of_other_namespaces_the_oldest_counts_whenever_that_changes() {
    let mut mesh = Mesh::new();
    mesh.set(told("a", 2, |record| record.created = 5));
    assert!(!mesh.push(), "the same assignment");
    assert_eq!(mesh.switches(told("c", 1, |record| record.created = 1)).namespace, Some("c".into()));
    assert_eq!(mesh.switches(told("c", 1, |record| record.created = 9)).namespace, Some("a".into()));
}

#[test]
fn r4_9_a_service_that_is_served_from_the_own_node_is_another_for_every_node() {
    let mut mesh = Mesh::new();
    assert_eq!(mesh.switches(told("a", 2, |record| record.node_local = true)).node, Some("n1".into()));
    assert_eq!(mesh.switches(told("a", 2, |_| {})).node, None);
}

#[test]
fn r4_30_a_service_that_prefers_its_own_zone_is_another_for_every_zone() {
    let mut mesh = Mesh::new();
    let prefers = |record: &mut Service| record.traffic_distribution = TrafficDistribution::PreferSameZone;
    let labels = mesh.switches(told("a", 2, prefers)).labels.expect("labels are compared");
    assert!(labels.contains(&("topology.kubernetes.io/zone".into(), "z1".into())));
    assert_eq!(mesh.switches(told("a", 2, |_| {})).labels, None);
}
