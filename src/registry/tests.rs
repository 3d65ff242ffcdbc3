//! What writers do to the store.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::*;
use crate::model::{
    ClusterId, ClusterRole, Discoverability, Endpoint, EndpointShard, ExportTo, Exposure, NetworkGateway,
    Quirk, Quirks, Service, ServiceKey, SpiffeId, Workload, WorkloadId, WorkloadParts,
};

fn key() -> ServiceKey {
    ServiceKey::new("ns", "a.ns.svc.cluster.local")
}

fn shard(cluster: &str, account: &str, endpoints: u8) -> EndpointShard {
    let workload = Arc::new(Workload::from(WorkloadParts {
        cluster: cluster.into(),
        account: SpiffeId::parse(&format!("spiffe://cluster.local/ns/ns/sa/{account}")),
        ..WorkloadParts::default()
    }));
    let endpoint = |last| Endpoint::new([10, 0, 0, last].into(), 8080, "http", Arc::clone(&workload));
    let record = Service { key: key(), ..Service::default() };
    EndpointShard::new(cluster.into(), Some(Arc::new(record)), (1..=endpoints).map(endpoint).collect())
}

fn gateway(network: &str, cluster: &str, address: &str) -> NetworkGateway {
    NetworkGateway {
        network: network.into(),
        cluster: cluster.into(),
        address: address.parse().expect("address"),
        port: 15443,
        hbone_port: 0,
    }
}

fn writer(registry: &Arc<Registry>, cluster: &str, role: ClusterRole) -> ClusterWriter {
    registry.writer(cluster.into(), role).expect("first writer")
}

fn state(shards: impl IntoIterator<Item = (ServiceKey, EndpointShard)>) -> ClusterState {
    let pod = WorkloadId { cluster: "c1".into(), namespace: "ns".into(), name: "p".into() };
    ClusterState {
        networks: NetworkClaim {
            network: Some("n1".into()),
            gateways: vec![gateway("n1", "c1", "172.30.0.1")],
            hosts: Vec::new(),
        },
        shards: shards.into_iter().map(|(key, shard)| (key, Arc::new(shard))).collect(),
        workloads: vec![WorkloadParts::of(&pod).into()],
    }
}

#[test]
fn r5_25_shards_stand_config_cluster_first_then_by_id() {
    let registry = Registry::new();
    let mut config = writer(&registry, "m", ClusterRole::Config);
    let mut others = ["z", "a"].map(|cluster| writer(&registry, cluster, ClusterRole::Remote));
    others.iter_mut().for_each(|writer| {
        let cluster = writer.cluster().clone();
        writer.set(key(), shard(&cluster, "x", 1));
    });
    config.set(key(), shard("m", "x", 1));
    let snapshot = registry.service(&key()).expect("a cell").load();
    let order: Vec<ClusterId> = snapshot.shards.iter().map(|shard| shard.cluster.clone()).collect();
    assert_eq!(order, ["m", "a", "z"].map(ClusterId::from));
}

#[test]
fn d13_a_held_cell_keeps_its_identity_and_its_tombstone_has_a_version() {
    let registry = Registry::new();
    let mut writer = writer(&registry, "c1", ClusterRole::Config);
    writer.set(key(), shard("c1", "x", 1));
    let held = registry.service(&key()).expect("a cell");
    let alive = held.load().version;
    writer.remove(&key());
    let tombstone = held.load();
    assert!(tombstone.version > alive && tombstone.service.is_none() && tombstone.shards.is_empty());
    writer.set(key(), shard("c1", "x", 1));
    assert!(Arc::ptr_eq(&held, &registry.service(&key()).expect("a cell")));
    assert!(held.load().version > tombstone.version, "versions are never used again");
    drop(held);
    writer.remove(&key());
    assert!(registry.service(&key()).is_none(), "nobody holds it: it is forgotten");
    assert!(registry.host("a.ns.svc.cluster.local").is_empty());
}

#[test]
fn d12_pods_are_found_by_name_and_the_vanished_ones_are_swept() {
    let registry = Registry::new();
    let mut writer = writer(&registry, "c1", ClusterRole::Config);
    let id = |name: &str| WorkloadId { cluster: "c1".into(), namespace: "ns".into(), name: name.into() };
    let pods = |names: &[&str]| ClusterState {
        workloads: names.iter().map(|name| WorkloadParts::of(&id(name)).into()).collect(),
        ..ClusterState::default()
    };
    writer.replace(pods(&["a", "b", "c"]));
    assert_eq!(registry.workload(&id("b")).map(|cell| cell.id()), Some(id("b")));
    assert_eq!(registry.workload(&WorkloadId { cluster: "c2".into(), ..id("b") }), None);
    registry.changes().take();
    writer.replace(pods(&["a", "c", "d"]));
    assert_eq!(registry.changes().take().workloads, [id("b"), id("d")].into());
    assert_eq!((registry.workload_count(), registry.workload(&id("b"))), (3, None));
    let moved = WorkloadParts { node: "n1".into(), ..WorkloadParts::of(&id("a")) };
    writer.apply([(id("a"), Some(moved.into())), (id("c"), Some(WorkloadParts::of(&id("c")).into()))], []);
    assert_eq!(registry.changes().take().workloads, [id("a")].into());
}

#[test]
fn replacing_by_equal_content_publishes_nothing() {
    let registry = Registry::new();
    let mut writer = writer(&registry, "c1", ClusterRole::Config);
    writer.replace(state([(key(), shard("c1", "x", 2))]));
    registry.changes().take();
    let publishes = registry.counts().publishes.load(Ordering::Relaxed);
    writer.replace(state([(key(), shard("c1", "x", 2))]));
    assert_eq!(registry.counts().publishes.load(Ordering::Relaxed), publishes);
    assert!(registry.changes().take().is_empty());
}

#[test]
fn replacing_sweeps_what_vanished_and_only_that() {
    let registry = Registry::new();
    let mut writer = writer(&registry, "c1", ClusterRole::Config);
    let other = ServiceKey::new("ns", "b.ns.svc.cluster.local");
    writer.replace(state([(key(), shard("c1", "x", 1)), (other.clone(), shard("c1", "x", 1))]));
    registry.changes().take();
    writer.replace(state([(key(), shard("c1", "x", 1))]));
    let changes = registry.changes().take();
    assert_eq!(changes.services.keys().collect::<Vec<_>>(), [&other]);
    assert!(registry.service(&other).is_none() && registry.service(&key()).is_some());
}

#[test]
fn r6_1_a_service_that_goes_to_zero_and_back_keeps_its_record() {
    let registry = Registry::new();
    let mut writer = writer(&registry, "c1", ClusterRole::Config);
    writer.set(key(), shard("c1", "x", 1));
    registry.changes().take();
    let record = || registry.service(&key()).expect("a cell").load().record_version;
    let before = record();
    for endpoints in [0, 1] {
        writer.set(key(), shard("c1", "x", endpoints));
        assert_eq!(registry.changes().take().services[&key()], ServiceChange { record: false });
    }
    assert_eq!(record(), before);
}

#[test]
fn d14_each_network_has_a_version_of_its_own() {
    let registry = Registry::new();
    let mut writer = writer(&registry, "c1", ClusterRole::Config);
    let gateways = |second: &str| vec![gateway("n1", "c1", "172.30.0.1"), gateway("n2", "c1", second)];
    writer.set_networks(Some("n1".into()), gateways("172.30.1.1"));
    let before = registry.networks();
    registry.changes().take();
    writer.set_networks(Some("n1".into()), gateways("172.30.1.2"));
    let after = registry.networks();
    assert_eq!(registry.changes().take().networks, ["n2".into()].into());
    assert_eq!(before.part(&"n1".into()).version, after.part(&"n1".into()).version);
    assert!(before.part(&"n2".into()).version < after.part(&"n2".into()).version);
    writer.withdraw();
    let gone = registry.networks().part(&"n2".into());
    assert!(gone.gateways.is_empty() && gone.version > after.part(&"n2".into()).version, "a tombstone");
}

#[test]
fn d13_a_cell_made_again_while_it_is_buried_is_still_found_by_its_host() {
    let registry = Registry::new();
    let mut leaving = writer(&registry, "c1", ClusterRole::Config);
    let mut joining = writer(&registry, "c2", ClusterRole::Remote);
    for _ in 0..2_000 {
        leaving.set(key(), shard("c1", "x", 1));
        std::thread::scope(|scope| {
            scope.spawn(|| leaving.remove(&key()));
            joining.set(key(), shard("c2", "x", 1));
        });
        assert_eq!(registry.host("a.ns.svc.cluster.local").len(), 1);
        joining.remove(&key());
    }
}

#[test]
fn a_writer_sweeps_what_a_dropped_one_left_behind() {
    let registry = Registry::new();
    let other = ServiceKey::new("ns", "b.ns.svc.cluster.local");
    let mut first = writer(&registry, "c1", ClusterRole::Config);
    first.replace(state([(key(), shard("c1", "x", 1)), (other.clone(), shard("c1", "x", 1))]));
    drop(first);
    assert!(registry.service(&other).is_some(), "an outage never pushes emptiness");
    let mut second = writer(&registry, "c1", ClusterRole::Config);
    second.replace(state([(key(), shard("c1", "x", 1))]));
    assert!(registry.service(&other).is_none());
    second.withdraw();
    assert!(registry.services().is_empty() && registry.workload_count() == 0);
}

fn record_with(cluster: &str, ports: &[(u16, &str)]) -> EndpointShard {
    let ports = ports.iter().map(|&(number, name)| crate::model::ServicePort {
        number,
        name: name.into(),
        transport: crate::model::Transport::Tcp,
        protocol: crate::model::PortProtocol::Http,
    });
    let record = Service { key: key(), ports: ports.collect(), ..Service::default() };
    EndpointShard::new(cluster.into(), Some(Arc::new(record)), Vec::new())
}

#[test]
fn d07_conflicts_of_ports_are_told_and_counted_as_they_come_and_go() {
    let registry = Registry::new();
    let mut one = writer(&registry, "c1", ClusterRole::Config);
    let mut two = writer(&registry, "c2", ClusterRole::Remote);
    let count = || registry.counts().conflicts.load(Ordering::Relaxed);
    one.set(key(), record_with("c1", &[(80, "http"), (90, "x")]));
    two.set(key(), record_with("c2", &[(80, "http"), (90, "x")]));
    assert_eq!(count(), 0);
    two.set(key(), record_with("c2", &[(80, "web"), (443, "tls")]));
    assert_eq!(count(), 1);
    let snapshot = registry.service(&key()).expect("a cell").load();
    let told: Vec<_> = conflicts(&snapshot).iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "port 80 is named \"web\" in c2, elsewhere \"http\"",
            "port 90 is missing in c2",
            "port 443 is missing in c1",
        ]
    );
    two.set(key(), record_with("c2", &[(80, "other")]));
    assert_eq!(count(), 1);
    two.remove(&key());
    assert_eq!(count(), 0);
    assert!(conflicts(&registry.service(&key()).expect("a cell").load()).is_empty());
}

#[test]
fn q21_the_peer_ranks_clusters_as_they_came() {
    let first = |quirks| {
        let registry = Registry::with_quirks(quirks);
        for (cluster, role) in
            [("z", ClusterRole::Remote), ("a", ClusterRole::Remote), ("m", ClusterRole::Config)]
        {
            writer(&registry, cluster, role).set(key(), shard(cluster, "x", 1));
        }
        let snapshot = registry.service(&key()).expect("a cell").load();
        snapshot.shards.iter().map(|shard| shard.cluster.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(first(Quirks::OURS), ["m", "a", "z"]);
    assert_eq!(first(Quirks::peer()), ["m", "z", "a"]);
}

#[test]
fn r6_1_accounts_are_looked_at_anew_by_writes_with_endpoints_and_q2_not_by_removals() {
    let run = |quirks| {
        let registry = Registry::with_quirks(quirks);
        let mut one = writer(&registry, "c1", ClusterRole::Config);
        let mut two = writer(&registry, "c2", ClusterRole::Remote);
        one.set(key(), shard("c1", "x", 1));
        two.set(key(), shard("c2", "y", 1));
        let accounts = || registry.service(&key()).expect("a cell").load().accounts.len();
        one.set(key(), shard("c1", "x", 0));
        let kept = accounts();
        two.set(key(), shard("c2", "y", 2));
        let anew = accounts();
        one.set(key(), shard("c1", "x", 1));
        two.withdraw();
        (kept, anew, accounts())
    };
    assert_eq!(run(Quirks::OURS), (2, 1, 1));
    assert_eq!(run(Quirks::of([Quirk::Q2])), (2, 1, 2));
}

#[test]
fn r6_1_a_new_endpoint_that_is_not_sent_is_published_and_wakes_nobody() {
    let registry = Registry::new();
    let mut writer = writer(&registry, "c1", ClusterRole::Config);
    writer.set(key(), shard("c1", "x", 1));
    registry.changes().take();
    let mut two = shard("c1", "x", 2);
    let mut endpoints = two.endpoints.to_vec();
    endpoints[1].health = crate::model::Health::Unhealthy;
    endpoints[1].exposure = Exposure::new(Discoverability::Always, false);
    two.endpoints = endpoints.into();
    writer.set(key(), two);
    assert!(registry.changes().take().is_empty());
    let snapshot = registry.service(&key()).expect("a cell").load();
    assert_eq!(snapshot.shards[0].endpoints.len(), 2);
}

#[test]
fn r5_18_a_service_that_nobody_may_see_wakes_nobody() {
    let registry = Registry::new();
    let mut writer = writer(&registry, "c1", ClusterRole::Config);
    let hidden = |endpoints| {
        let shard = shard("c1", "x", endpoints);
        let record = Service { key: key(), export_to: ExportTo::Nowhere, ..Service::default() };
        EndpointShard { service: Some(Arc::new(record)), ..shard }
    };
    writer.set(key(), hidden(1));
    registry.changes().take();
    writer.set(key(), hidden(2));
    let changes = registry.changes().take();
    assert!(changes.services.is_empty());
    assert!(!changes.hidden[&key()].record, "a waypoint's users read it, and so do the pods behind it");
    writer.set(key(), hidden(2));
    assert!(registry.changes().take().is_empty());
    writer.set(key(), shard("c1", "x", 2));
    assert!(registry.changes().take().services[&key()].record, "now somebody may");
}

#[test]
fn q02_gateways_of_a_deleted_cluster_go_at_once_and_under_its_flag_with_the_next_ones() {
    let gateway = |cluster: &str, address: &str| {
        NetworkGateway::new("n".into(), cluster.into(), address.parse().expect("address"))
    };
    let run = |quirks| {
        let registry = Registry::with_quirks(quirks);
        let mut one = writer(&registry, "c1", ClusterRole::Config);
        let mut two = writer(&registry, "c2", ClusterRole::Remote);
        one.set_networks(Some("n".into()), vec![gateway("c1", "1.1.1.1")]);
        two.set_networks(Some("n".into()), vec![gateway("c2", "2.2.2.2")]);
        two.withdraw();
        let count = || registry.networks().gateways().count();
        let left = count();
        one.set_networks(Some("n".into()), vec![gateway("c1", "1.1.1.1")]);
        let same = count();
        one.set_networks(Some("n".into()), vec![gateway("c1", "1.1.1.2")]);
        let after = count();
        // One that comes back is there by its own word.
        let mut two = writer(&registry, "c2", ClusterRole::Remote);
        two.set_networks(Some("n".into()), vec![gateway("c2", "2.2.2.2")]);
        one.set_networks(Some("n".into()), vec![gateway("c1", "1.1.1.1")]);
        (left, same, after, count())
    };
    assert_eq!(run(Quirks::OURS), (1, 1, 1, 2));
    assert_eq!(run(Quirks::of([Quirk::Q2])), (2, 2, 1, 2));
}

#[test]
fn r6_1_an_update_without_endpoints_is_told_each_time_and_a_relist_is_not() {
    let registry = Registry::new();
    let mut writer = writer(&registry, "c1", ClusterRole::Config);
    let pushed = || registry.changes().take().services.get(&key()).map(|change| change.record);
    writer.set(key(), shard("c1", "x", 1));
    assert_eq!(pushed(), Some(true));
    for _ in 0..3 {
        writer.set(key(), shard("c1", "x", 0));
        assert_eq!(pushed(), Some(false));
    }
    let publishes = registry.counts().publishes.load(Ordering::Relaxed);
    writer.set(key(), shard("c1", "x", 0));
    assert_eq!(registry.counts().publishes.load(Ordering::Relaxed), publishes, "nothing is published for it");
    registry.changes().take();
    writer.replace(state([(key(), shard("c1", "x", 0))]));
    assert_eq!(pushed(), None, "equal content");
}
