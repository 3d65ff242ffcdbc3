//! The life of clusters against API servers in memory, in virtual time.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::*;
use crate::ingest::cluster::CONFIRM_AFTER;
use crate::ingest::cluster::fake::{
    FakeServer, NODES, addresses, api_gateway, external_node, gateway, home, namespace, node_port_gateway,
    nodes, pod, served, service, slice, world, zone,
};
use crate::ingest::objects::ObjectKind;
use crate::model::{Endpoint, ServiceKey, Standing};
use crate::registry::{ChangeSet, ServiceSnapshot};

mod credentials;
mod entries;
mod freshness;
mod guard;
mod model;
mod options;
mod races;
mod rights;
mod rotation;
mod selection;
mod tokens;

/// A control plane and what it reads.
struct Plane {
    set: ClusterSet,
    hash: u128,
}

impl Drop for Plane {
    fn drop(&mut self) {
        self.set.cancel.cancel();
    }
}

impl Plane {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut IngestOptions)) -> Self {
        let mut options = IngestOptions::default();
        change(&mut options);
        let set = ClusterSet::new(
            Arc::new(options),
            signal::Sender::new(Some(Arc::default())).subscribe(),
            Registry::new(),
            Arc::default(),
            Arc::default(),
            CancellationToken::new(),
        );
        Self { set, hash: 0 }
    }

    /// Starts a cluster, or gives it new credentials.
    fn run(&mut self, id: &str, server: &FakeServer) {
        self.run_with(id, server, &[]);
    }

    fn run_with(&mut self, id: &str, server: &FakeServer, texts: &[(&str, &str)]) {
        self.run_as(ClusterRole::Remote, id, server, texts);
    }

    fn run_as(&mut self, role: ClusterRole, id: &str, server: &FakeServer, texts: &[(&str, &str)]) {
        self.run_by(role, id, Arc::new(server.clone()), texts);
    }

    fn run_feeds(&mut self, id: &str, feeds: Arc<dyn Feeds>, texts: &[(&str, &str)]) {
        self.run_by(ClusterRole::Remote, id, feeds, texts);
    }

    fn run_by(&mut self, role: ClusterRole, id: &str, feeds: Arc<dyn Feeds>, texts: &[(&str, &str)]) {
        self.hash += 1;
        let options = self.set.read_options(&id.into(), &as_texts(texts));
        let start = Start {
            id: id.into(),
            role,
            source: format!("secret {}", self.hash),
            feeds,
            hash: self.hash,
            options,
            pin: None,
        };
        self.set.start(start).unwrap();
    }

    fn tell(&mut self, id: &str, texts: &[(&str, &str)]) {
        self.set.perform(vec![Action::Tell(id.into(), "secret x".to_owned(), as_texts(texts))]);
    }

    fn remove(&mut self, id: &str) {
        self.set.perform(vec![Action::Remove(id.into())]);
    }

    /// Lets that much time go by; everything that is due happens.
    async fn pass(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while let Some(removal) = self.set.next_removal().filter(|at| *at <= end) {
            tokio::time::sleep_until(removal).await;
            self.set.withdraw_due().await;
        }
        tokio::time::sleep_until(end).await;
    }

    /// Until nothing is left to do at once.
    async fn settle(&mut self) {
        self.pass(Duration::from_millis(1)).await;
    }

    fn snapshot(&self, name: &str) -> Option<Arc<ServiceSnapshot>> {
        let key = ServiceKey::new("a", format!("{name}.a.svc.cluster.local"));
        self.set.registry.service(&key).map(|cell| cell.load())
    }

    /// How many endpoints of `web` each cluster has.
    fn web(&self) -> Vec<(String, usize)> {
        let snapshot = self.snapshot("web");
        let shards = snapshot.iter().flat_map(|snapshot| snapshot.shards.iter());
        shards.map(|shard| (shard.cluster.to_string(), shard.endpoints.len())).collect()
    }

    /// The endpoints of a service: cluster, address, node and zone.
    fn placed(&self, name: &str) -> Vec<String> {
        let snapshot = self.snapshot(name);
        let shards = snapshot.iter().flat_map(|snapshot| snapshot.shards.iter());
        let endpoints = shards.flat_map(|shard| shard.endpoints.iter().map(|one| (&shard.cluster, one)));
        let shown = endpoints.map(|(cluster, endpoint)| {
            let pod = &endpoint.workload;
            format!("{cluster} {} on {} in {}", address(endpoint), pod.node(), pod.locality().zone)
        });
        shown.collect()
    }

    /// How many pods a cluster has told of.
    fn workloads(&self, id: &str) -> usize {
        let states = self.set.registry.states(&[ClusterId::from(id)].into());
        states.values().map(|state| state.workloads.len()).sum()
    }

    fn gateways(&self) -> Vec<String> {
        let networks = self.set.registry.networks();
        networks.gateways().map(|gateway| gateway.cluster.to_string()).collect()
    }

    fn changes(&self) -> ChangeSet {
        self.set.registry.changes().take()
    }

    fn problems(&self) -> Vec<String> {
        let problems = self.set.problems.all().into_iter();
        problems.map(|problem| format!("{}: {}", problem.subject, problem.text)).collect()
    }

    fn row(&self, id: &str) -> ClusterStatus {
        self.set.registry.clusters().get(&id.into()).unwrap()
    }

    fn health(&self, id: &str) -> &'static str {
        self.row(id).health.word()
    }

    fn holds(&self) -> u64 {
        self.set.counts.mass_delete_holds.load(Ordering::Relaxed)
    }
}

fn address(endpoint: &Endpoint) -> String {
    endpoint.addresses[0].to_string()
}

fn as_texts(pairs: &[(&str, &str)]) -> Texts {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn web(counts: &[(&str, usize)]) -> Vec<(String, usize)> {
    counts.iter().map(|(cluster, count)| ((*cluster).to_owned(), *count)).collect()
}

const NOTHING: [&str; 0] = [];
const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test(start_paused = true)]
async fn k02_an_api_server_that_is_down_keeps_its_endpoints_and_pushes_nothing() {
    let server = FakeServer::with(world("n1", "u1", 1, 3));
    let mut plane = Plane::new();
    plane.run("c1", &server);
    plane.settle().await;
    assert_eq!((plane.web(), plane.health("c1")), (web(&[("c1", 3)]), "live"));
    plane.changes();
    let before = plane.snapshot("web");

    server.go_down();
    plane.pass(HOUR).await;
    assert_eq!(plane.health("c1"), "stale");
    assert_eq!(plane.row("c1").standing, Standing::Regular, "hold is the default");
    assert_eq!(plane.snapshot("web"), before);
    assert!(plane.changes().is_empty());
    server.come_up();
    plane.settle().await;
    assert_eq!((plane.web(), plane.health("c1")), (web(&[("c1", 3)]), "live"));
    assert!(plane.changes().is_empty());
}

#[tokio::test(start_paused = true)]
async fn k29_what_was_deleted_while_it_was_down_goes_with_the_next_list() {
    let server = FakeServer::with(world("n1", "u1", 1, 3));
    server.apply(service("gone"));
    let mut plane = Plane::new();
    plane.run("c1", &server);
    plane.settle().await;
    assert!(plane.snapshot("gone").is_some_and(|snapshot| snapshot.service.is_some()));
    server.go_down();
    server.delete(&service("gone"));
    server.apply(slice("web", &addresses(1, 2)));
    plane.pass(HOUR).await;
    assert_eq!(plane.web(), web(&[("c1", 3)]));
    server.come_up();
    plane.settle().await;
    assert_eq!(plane.web(), web(&[("c1", 2)]));
    assert!(plane.snapshot("gone").is_none_or(|snapshot| snapshot.service.is_none()));
}

#[tokio::test(start_paused = true)]
async fn k32_a_removed_cluster_goes_after_the_grace_in_one_note_and_takes_nothing_of_others() {
    let (one, two) = (FakeServer::with(world("n1", "u1", 1, 2)), FakeServer::with(world("n2", "u2", 2, 3)));
    let mut plane = Plane::new();
    plane.run("c1", &one);
    plane.run("c2", &two);
    plane.settle().await;
    assert_eq!(plane.web(), web(&[("c1", 2), ("c2", 3)]));
    let shard = plane.snapshot("web").unwrap().shards[1].clone();
    plane.changes();

    plane.remove("c1");
    plane.pass(Duration::from_secs(4)).await;
    assert_eq!((plane.web().len(), plane.health("c1")), (2, "removing"));
    assert!(plane.changes().is_empty());
    plane.pass(Duration::from_secs(2)).await;
    assert_eq!((plane.web(), plane.gateways()), (web(&[("c2", 3)]), vec!["c2".to_owned()]));
    assert_eq!(plane.snapshot("web").unwrap().shards[0], shard, "nothing of the other differs");
    let changes = plane.changes();
    assert_eq!((changes.services.len(), changes.networks.len()), (2, 1), "web and the gateway's own service");
    assert!(plane.set.registry.clusters().get(&"c1".into()).is_none());
    assert_eq!(one.open_now(), 0, "its watches have ended");
    assert_eq!(plane.problems(), NOTHING);
}

#[tokio::test(start_paused = true)]
async fn k33_removing_and_adding_within_the_grace_fifty_times_pushes_nothing() {
    let server = FakeServer::with(world("n1", "u1", 1, 2));
    let mut plane = Plane::new();
    plane.run("c1", &server);
    plane.settle().await;
    plane.changes();
    for _ in 0..50 {
        plane.remove("c1");
        plane.pass(Duration::from_secs(3)).await;
        plane.run("c1", &server);
        plane.settle().await;
    }
    assert_eq!((plane.web(), plane.health("c1")), (web(&[("c1", 2)]), "live"));
    assert!(plane.changes().is_empty());
    assert_eq!(server.open_now(), 1);
    let counts = &plane.set.counts;
    let events = [&counts.clusters_added, &counts.clusters_changed, &counts.clusters_removed];
    // Each time it comes back with other credentials, and none was ever withdrawn.
    assert_eq!(events.map(|counter| counter.load(Ordering::Relaxed)), [1, 50, 50]);
}

#[tokio::test(start_paused = true)]
async fn k35_two_ids_for_one_api_server_are_served_and_told() {
    let server = FakeServer::with(world("n1", "u1", 1, 2));
    let mut plane = Plane::new();
    plane.run("c1", &server);
    plane.run("c2", &server);
    plane.settle().await;
    assert_eq!(plane.web(), web(&[("c1", 2), ("c2", 2)]));
    let problems = plane.problems();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[0].starts_with("cluster c1, twin: is the same cluster as c2"));
    plane.remove("c2");
    plane.pass(Duration::from_secs(10)).await;
    assert_eq!(plane.problems(), NOTHING);
}

#[tokio::test(start_paused = true)]
async fn k44_a_flood_from_one_cluster_holds_back_no_other_and_is_coalesced() {
    const EVENTS: usize = 10_000;
    let (flood, other) =
        (FakeServer::with(world("n1", "u1", 1, 2)), FakeServer::with(world("n2", "u2", 2, 3)));
    let mut plane = Plane::new();
    plane.run("c1", &flood);
    plane.run("c2", &other);
    plane.settle().await;
    plane.changes();
    let conversions = || plane.set.counts.conversions.load(Ordering::Relaxed);
    let (before, taken) = (conversions(), flood.taken());
    for n in 0..EVENTS {
        flood.apply(slice("web", &addresses(1, n % 7 + 1)));
    }
    other.apply(slice("web", &addresses(2, 4)));
    // One turn of each task: the flood is not worked off, the other cluster is.
    let mut turns = 0;
    while !plane.web().contains(&("c2".to_owned(), 4)) {
        tokio::task::yield_now().await;
        turns += 1;
        assert!(turns < 10, "the other cluster waits behind the flood");
    }
    let taken = flood.taken() - taken;
    assert!(taken < EVENTS, "{taken} of {EVENTS} were worked off first");
    let of_other = 1;
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(plane.web(), web(&[("c1", (EVENTS - 1) % 7 + 1), ("c2", 4)]));
    let work = conversions() - before - of_other;
    assert!(work <= 2 * (EVENTS as u64).div_ceil(1024), "{work} conversions for {EVENTS} events");
}

#[tokio::test(start_paused = true)]
async fn k45_without_nodes_a_cluster_works_and_says_so() {
    let server = FakeServer::with(world("n1", "u1", 1, 2));
    server.forbid(ObjectKind::Node);
    let mut plane = Plane::new();
    plane.run("c1", &server);
    plane.settle().await;
    assert_eq!((plane.web(), plane.health("c1")), (web(&[("c1", 2)]), "degraded"));
    assert!(plane.problems()[0].contains("Node"), "{:?}", plane.problems());
    server.permit(ObjectKind::Node);
    plane.settle().await;
    assert_eq!((plane.health("c1"), plane.problems()), ("live", Vec::new()));
    // What endpoints are made of is not done without.
    let server = FakeServer::with(world("n1", "u2", 2, 2));
    server.forbid(ObjectKind::EndpointSlice);
    plane.run("c2", &server);
    plane.pass(HOUR).await;
    assert_eq!((plane.web(), plane.row("c2").synced), (web(&[("c1", 2)]), false));
}

#[tokio::test(start_paused = true)]
async fn k47_a_namespace_that_goes_with_1000_services_is_a_handful_of_notes_and_one_push() {
    const SERVICES: usize = 1000;
    let server = FakeServer::with(world("n1", "u1", 1, 2));
    let all: Vec<_> =
        (0..SERVICES).map(|n| served(&format!("s{n}"), &[format!("10.9.{}.{}", n / 250, n % 250)])).collect();
    all.iter().flatten().for_each(|object| server.apply(object.clone()));
    let mut plane = Plane::new();
    plane.run("c1", &server);
    plane.settle().await;
    let web = plane.snapshot("web");
    plane.changes();
    let pushes = tokio::spawn(pushes(Arc::clone(&plane.set.registry)));
    // Pods go first, then slices, then Services, each told of by itself.
    for kind in 0..3 {
        all.iter().for_each(|objects| server.delete(&objects[[0, 2, 1][kind]]));
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    server.delete(&namespace("b", "", "b"));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (notes, pushes) = pushes.await.unwrap();
    assert_eq!(pushes.len(), 1, "nobody who waits for quiet sees it in pieces");
    assert!(notes <= 3 * SERVICES.div_ceil(1024) + 1, "{notes} notes");
    assert_eq!((pushes[0].services.len(), pushes[0].workloads.len()), (SERVICES, SERVICES));
    let left = |n| plane.snapshot(&format!("s{n}")).is_some_and(|snapshot| !snapshot.shards.is_empty());
    assert!(!(0..SERVICES).any(left) && plane.snapshot("web") == web);
}

/// How many notes there were within a second, and what is pushed where changes wait for 100 ms of quiet.
async fn pushes(registry: Arc<Registry>) -> (usize, Vec<ChangeSet>) {
    let (mut notes, mut pushes) = (0, Vec::new());
    let end = Instant::now() + Duration::from_secs(1);
    while let Ok(first) = tokio::time::timeout_at(end, registry.changes().next()).await {
        notes += 1;
        let mut gathered = first;
        while let Ok(more) = tokio::time::timeout(Duration::from_millis(100), registry.changes().next()).await
        {
            notes += 1;
            gathered.merge(more);
        }
        pushes.push(gathered);
    }
    (notes, pushes)
}

#[tokio::test(start_paused = true)]
async fn k49_nothing_but_a_heard_api_server_or_the_operator_takes_endpoints_away() {
    let server = FakeServer::with(world("n1", "u1", 1, 3));
    let mut plane = Plane::new();
    plane.run("c1", &server);
    plane.settle().await;
    plane.changes();
    for kind in ObjectKind::BUILT_IN {
        server.break_list(kind);
        plane.settle().await;
    }
    server.go_down();
    server.delete(&service("web"));
    plane.run("c1", &server);
    plane.pass(HOUR).await;
    assert_eq!(plane.web(), web(&[("c1", 3)]), "neither cut lists nor an outage nor new credentials in it");
    assert!(plane.changes().is_empty());
    server.come_up();
    plane.settle().await;
    assert!(plane.snapshot("web").is_none_or(|snapshot| snapshot.service.is_none()), "it was heard");
    plane.remove("c1");
    plane.pass(Duration::from_secs(10)).await;
    assert_eq!(plane.web(), web(&[]));
}

/// What `/debug/clusterz` says of each cluster while they sync, and when one is gone.
#[tokio::test(start_paused = true)]
async fn secret_04_clusters_are_listed_as_syncing_synced_and_not_at_all() {
    let servers = [(); 3].map(|()| FakeServer::with(world("n1", "", 1, 1)));
    let mut plane = Plane::new();
    let listing = |plane: &Plane| -> Vec<String> {
        let all = plane.set.registry.clusters().all().into_iter();
        all.map(|row| format!("{} {}", row.id, row.sync_status())).collect()
    };
    for (id, server) in ["config", "c0", "c1"].iter().zip(&servers) {
        server.hold_new_lists(true);
        plane.run(id, server);
    }
    plane.settle().await;
    assert_eq!(listing(&plane), ["c0 syncing", "c1 syncing", "config syncing"]);
    servers[..2].iter().for_each(|server| server.hold_new_lists(false));
    plane.settle().await;
    assert_eq!(listing(&plane), ["c0 synced", "c1 syncing", "config synced"]);
    servers[2].hold_new_lists(false);
    plane.settle().await;
    assert_eq!(listing(&plane), ["c0 synced", "c1 synced", "config synced"]);
    plane.remove("c1");
    plane.pass(Duration::from_secs(6)).await;
    assert_eq!(listing(&plane), ["c0 synced", "config synced"]);
}
