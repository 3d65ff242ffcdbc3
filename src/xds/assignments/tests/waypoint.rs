//! What a change of a waypoint costs, counted (R4.37).

use super::client::{Client, node, push};
use super::*;
use crate::model::{ExportTo, Features, Node, ProxyKind};
use crate::xds::hub::{Hub, Settings};

const SIDECARS: usize = 5;
const ROUTERS: usize = 3;

struct Mesh {
    hub: Arc<Hub>,
    west: ClusterWriter,
    clients: Vec<Client>,
}

fn waypoint_key() -> ServiceKey {
    ServiceKey::new("ns", "w.ns.svc.cluster.local")
}

fn other_key() -> ServiceKey {
    ServiceKey::new("ns", "other.ns.svc.cluster.local")
}

fn record(shard: EndpointShard, change: impl FnOnce(&mut Service)) -> EndpointShard {
    let mut record = Service::clone(shard.service.as_deref().expect("a record"));
    change(&mut record);
    EndpointShard { service: Some(Arc::new(record)), ..shard }
}

/// The service, with so many endpoints and a waypoint.
fn served(endpoints: u8) -> EndpointShard {
    record(shard_of("west", "", endpoints), |record| {
        record.ingress_waypoint = Some(waypoint_key());
        record.vips = vec![("west".into(), vec![[10, 96, 0, 1].into()])];
    })
}

fn waypoint(endpoints: u8) -> EndpointShard {
    record(shard_of("west", "", endpoints), |record| {
        record.key = waypoint_key();
        record.ports[0].number = 15008;
    })
}

impl Mesh {
    fn new() -> Self {
        let registry = Registry::new();
        let mut west = registry.writer("west".into(), ClusterRole::Config).expect("first writer");
        west.set(service_key(), served(1));
        west.set(other_key(), record(shard_of("west", "", 1), |record| record.key = other_key()));
        let features = Features { ambient: true, ..Features::default() };
        let mesh = MeshRules::default().with_features(features);
        let settings = Settings { mesh, ..Settings::default() };
        let hub = Arc::new(Hub::new(registry, settings, None));
        let client = |number: usize| {
            let own = node("west", "ns", &format!("p{number}"));
            let kind = if number < SIDECARS { ProxyKind::Sidecar } else { ProxyKind::Router };
            let mut client = Client::new(&hub, Node { kind, ..own });
            for key in [service_key(), other_key()] {
                client.watch(&hub, &format!("outbound|80||{}", key.hostname).into());
            }
            client
        };
        let clients = (0..SIDECARS + ROUTERS).map(client).collect();
        let mut mesh = Self { hub, west, clients };
        mesh.cost();
        mesh
    }

    /// Builds of the push of what is written, and how many assignments sidecars and routers were sent.
    fn cost(&mut self) -> (u64, usize, usize) {
        let hub = Arc::clone(&self.hub);
        let builds = || hub.counts.assignment_builds.load(Ordering::Relaxed);
        let before = builds();
        push(&hub);
        let sent: Vec<_> = self.clients.iter_mut().map(|client| client.listen(&hub).len()).collect();
        let (sidecars, routers) = sent.split_at(SIDECARS);
        (builds() - before, sidecars.iter().sum(), routers.iter().sum())
    }

    fn routers_hold(&mut self) -> Vec<Option<u128>> {
        let name: Name = NAME.into();
        let held = |client: &Client| client.held.get(&name).copied();
        self.clients[SIDECARS..].iter().map(held).collect()
    }
}

#[test]
fn r4_37_a_change_of_a_waypoint_rebuilds_what_read_it_and_nothing_else() {
    let mut mesh = Mesh::new();
    let empty = mesh.routers_hold();
    mesh.west.set(waypoint_key(), waypoint(1));
    assert_eq!(mesh.cost(), (1, 0, ROUTERS), "it comes");
    let one = mesh.routers_hold();
    mesh.west.set(waypoint_key(), waypoint(2));
    assert_eq!(mesh.cost(), (1, 0, ROUTERS), "it grows");
    mesh.west.set(waypoint_key(), waypoint(1));
    assert_eq!(mesh.cost(), (1, 0, ROUTERS), "it shrinks");
    assert_eq!(mesh.routers_hold(), one);
    mesh.west.remove(&waypoint_key());
    assert_eq!(mesh.cost(), (1, 0, ROUTERS), "it goes");
    assert_eq!(mesh.routers_hold(), empty, "nothing is sent past it");
    mesh.west.set(service_key(), served(2));
    assert_eq!(mesh.cost(), (2, SIDECARS, 0), "the service itself");
}

#[test]
fn r4_37_a_waypoint_that_nobody_may_see_is_followed() {
    let hidden = |endpoints| record(waypoint(endpoints), |record| record.export_to = ExportTo::Nowhere);
    let mut mesh = Mesh::new();
    mesh.west.set(waypoint_key(), hidden(1));
    mesh.cost();
    let one = mesh.routers_hold();
    mesh.west.set(waypoint_key(), hidden(2));
    assert_eq!(mesh.cost(), (1, 0, ROUTERS), "it grows");
    assert_ne!(mesh.routers_hold(), one);
    mesh.west.set(waypoint_key(), hidden(1));
    assert_eq!(mesh.cost(), (1, 0, ROUTERS), "it shrinks");
    assert_eq!(mesh.routers_hold(), one);
}

#[test]
fn r4_37_labels_decide_at_once_and_nothing_stays_listed() {
    let mut mesh = Mesh::new();
    mesh.west.set(waypoint_key(), waypoint(1));
    mesh.cost();
    let through = mesh.routers_hold();
    mesh.west.set(service_key(), record(served(1), |record| record.ingress_waypoint = None));
    mesh.cost();
    assert_ne!(mesh.routers_hold(), through);
    mesh.west.set(service_key(), served(1));
    mesh.cost();
    assert_eq!(mesh.routers_hold(), through);
    mesh.clients.clear();
    assert!(mesh.hub.assignments.readers.is_empty());
}
