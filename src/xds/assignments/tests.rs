use std::time::Duration;

mod client;
mod random;
mod rekey;
mod room;
mod siblings;
mod waypoint;
mod work;

use super::*;
use crate::model::{
    ClusterRole, Endpoint, EndpointShard, NetworkGateway, PortProtocol, Service, ServiceKey, ServicePort,
    TlsMode, Transport, Workload, WorkloadParts,
};
use crate::registry::ClusterWriter;
use crate::xds::watchers::Dirty;

const NAME: &str = "outbound|80||a.ns.svc.cluster.local";

struct World {
    registry: Arc<Registry>,
    assignments: Assignments,
    west: ClusterWriter,
}

impl World {
    fn new() -> Self {
        let registry = Registry::new();
        let mut west = registry.writer("west".into(), ClusterRole::Config).expect("first writer");
        west.set_networks(Some("net-west".into()), vec![gateway("172.30.0.2")]);
        west.set(service_key(), shard(1));
        let assignments = Assignments::new(Arc::clone(&registry), Arc::default(), Arc::default());
        Self { registry, assignments, west }
    }

    /// One in which no bytes stay.
    fn without_room() -> Self {
        let World { registry, assignments, west } = Self::new();
        Self { registry, assignments: assignments.keeping_in(&Cache::new(0)), west }
    }

    fn watch(&self, stream: u64) -> (Arc<StreamHandle>, Arc<AssignmentCell>) {
        let handle = StreamHandle::new(stream);
        let cell = self.assignments.watch(&NAME.into(), eds_key(), &handle);
        (handle, cell)
    }

    fn push(&self) {
        let changes = self.registry.changes().take();
        let mut marks = Marks::new(None);
        for (key, change) in &changes.services {
            self.assignments.service_changed(&key.hostname, change.record, &mut marks);
        }
        for key in changes.hidden.keys() {
            self.assignments.hidden_changed(&key.hostname, &mut marks);
        }
        for network in &changes.networks {
            self.assignments.network_changed(network, &mut marks);
        }
        marks.wake();
    }
}

fn service_key() -> ServiceKey {
    ServiceKey::new("ns", "a.ns.svc.cluster.local")
}

fn eds_key() -> EdsKey {
    EdsKey::plain("east", "net-east", &service_key())
}

fn gateway(address: &str) -> NetworkGateway {
    NetworkGateway {
        network: "net-west".into(),
        cluster: "west".into(),
        address: address.parse().expect("address"),
        port: 15443,
        hbone_port: 0,
    }
}

fn shard(endpoints: u8) -> EndpointShard {
    shard_of("west", "net-west", endpoints)
}

fn shard_of(cluster: &str, network: &str, endpoints: u8) -> EndpointShard {
    let port = ServicePort {
        number: 80,
        name: "http".into(),
        transport: Transport::Tcp,
        protocol: PortProtocol::Http,
    };
    let record = Service { key: service_key(), ports: vec![port], ..Service::default() };
    let workload = Arc::new(Workload::from(WorkloadParts {
        cluster: cluster.into(),
        network: network.into(),
        tls_mode: TlsMode::Istio,
        ..WorkloadParts::default()
    }));
    let endpoint = |last| Endpoint::new([10, 0, 0, last].into(), 8080, "http", Arc::clone(&workload));
    EndpointShard::new(cluster.into(), Some(Arc::new(record)), (1..=endpoints).map(endpoint).collect())
}

#[test]
fn content_that_flips_back_before_the_push_still_reaches_who_saw_the_other() {
    flips_back(World::new());
    flips_back(World::without_room());
}

fn flips_back(mut world: World) {
    let (old, cell) = world.watch(1);
    let before = world.assignments.current(&cell);
    world.push();
    old.take();
    world.west.set(service_key(), shard(2));
    let (late, cell) = world.watch(2);
    assert_ne!(world.assignments.current(&cell).hash, before.hash, "a miss sees what is not pushed yet");
    world.west.set(service_key(), shard(1));
    world.push();
    assert!(late.take().names.contains(&(ResourceType::Endpoint, NAME.into())));
    assert_eq!(world.assignments.current(&cell).hash, before.hash);
    world.push();
    assert_eq!(late.take(), Dirty::default(), "told once");
}

#[test]
fn a_cell_that_goes_leaves_the_reader_entry_of_its_successor() {
    leaves_its_successor(World::new());
    leaves_its_successor(World::without_room());
}

fn leaves_its_successor(mut world: World) {
    let (first, gone) = world.watch(1);
    world.assignments.current(&gone);
    world.assignments.unwatch(&gone, &first);
    let (second, cell) = world.watch(2);
    world.assignments.current(&cell);
    world.push();
    second.take();
    // What happens late to the former cell: a push that had picked it up, and another end of a watch.
    world.west.set(service_key(), shard(3));
    world.assignments.current(&gone);
    world.assignments.unwatch(&gone, &first);
    world.push();
    second.take();
    world.west.set_networks(Some("net-west".into()), vec![gateway("172.30.0.3")]);
    world.push();
    assert!(!second.take().names.is_empty(), "the gateway's change reaches the watcher");
    world.assignments.unwatch(&cell, &second);
    assert!(world.assignments.readers.is_empty() && world.assignments.topics.is_empty(), "nothing is left");
}

#[test]
fn a_gateway_change_during_the_first_build_is_never_missed() {
    let mut world = World::new();
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    for round in 0..200_u32 {
        assert!(std::time::Instant::now() < deadline, "in time");
        let address = format!("172.30.{}.{}", round / 200, round % 200 + 3);
        let (handle, cell) = world.watch(u64::from(round) + 1);
        let World { registry, assignments, west } = &mut world;
        let sent = std::thread::scope(|scope| {
            let reading = scope.spawn(|| assignments.current(&cell));
            west.set_networks(Some("net-west".into()), vec![gateway(&address)]);
            let mut marks = Marks::new(None);
            for network in &registry.changes().take().networks {
                assignments.network_changed(network, &mut marks);
            }
            marks.wake();
            reading.join().expect("reads")
        });
        let told = !handle.take().names.is_empty();
        assert!(told || sent.hash == assignments.current(&cell).hash, "round {round}");
        assignments.unwatch(&cell, &handle);
    }
}

#[test]
fn d35_a_demotion_builds_and_tells_only_assignments_with_endpoints_of_that_cluster() {
    let mut world = World::new();
    let other_name = "outbound|80||b.ns.svc.cluster.local";
    let mut east = world.registry.writer("east".into(), ClusterRole::Remote).expect("first writer");
    let other = ServiceKey::new("ns", "b.ns.svc.cluster.local");
    east.set(other, shard_of("east", "net-east", 1));
    east.set(service_key(), shard_of("east", "net-east", 1));
    let (stream, cell) = world.watch(1);
    let before = world.assignments.current(&cell);
    let bystander = StreamHandle::new(2);
    let unaffected = world.assignments.watch(&other_name.into(), eds_key(), &bystander);
    world.assignments.current(&unaffected);
    world.push();
    stream.take();
    let builds = |world: &World| world.assignments.counts.assignment_builds.load(Ordering::Relaxed);
    let count = builds(&world);

    assert!(world.west.set_standing(crate::model::Standing::Demoted));
    world.push();
    assert_ne!(world.assignments.current(&cell).hash, before.hash);
    world.assignments.current(&unaffected);
    assert_eq!(builds(&world) - count, 1, "the other one is still valid");
    assert!(!stream.take().names.is_empty());
    assert!(bystander.take().names.is_empty());

    assert!(!world.west.set_standing(crate::model::Standing::Demoted), "nothing differs");
    assert!(world.west.set_standing(crate::model::Standing::Regular));
    world.push();
    assert_eq!(world.assignments.current(&cell).hash, before.hash, "as it was");
}
