use std::collections::BTreeMap;
use std::time::SystemTime;

use super::*;
use crate::ingest::cluster::CONFIRM_AFTER;
use crate::ingest::options::{StalePolicy, Texts};
use crate::ingest::roster::{Claims, Contest, Source};
use crate::ingest::snapshot::{Addresses, Pin, Snapshot, SnapshotOptions, SnapshotStore, Terms};
use crate::model::{Endpoint, EndpointShard, ServiceKey};
use crate::registry::ClusterState;

struct World {
    adopted: Adopted,
    roster: Roster,
    problems: Arc<Problems>,
    /// Whether the Secrets cannot be read.
    failing: signal::Sender<bool>,
    dir: tempfile::TempDir,
}

/// A snapshot of a cluster with one Service in each of these namespaces.
fn snapshot(id: &str, namespaces: &[&str]) -> Snapshot {
    let shard = |namespace: &&str| {
        let endpoint = Endpoint::new("10.0.0.1".parse().unwrap(), 80, "http", Arc::default());
        let shard = EndpointShard::new(ClusterId::from(id), None, vec![endpoint]);
        (ServiceKey::new(*namespace, format!("web.{namespace}.svc.cluster.local")), Arc::new(shard))
    };
    let shards = namespaces.iter().map(shard).collect();
    Snapshot {
        cluster: id.into(),
        pin: Pin { server: "https://192.0.2.1:443".to_owned(), ca: None },
        uid: "u".into(),
        confirmed: SystemTime::now(),
        terms: Terms::default(),
        addresses: Addresses::new(),
        mesh_networks: None,
        mesh_config: None,
        policies: None,
        state: ClusterState { shards, ..ClusterState::default() },
    }
}

impl World {
    /// There are snapshots of these clusters.
    fn with(snapshots: impl IntoIterator<Item = Snapshot>, options: IngestOptions) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = SnapshotOptions { dir: dir.path().to_owned(), max_age: Duration::from_secs(3600) };
        let store = SnapshotStore::open(&store).unwrap();
        snapshots.into_iter().for_each(|snapshot| _ = store.save(&snapshot).unwrap());
        let (registry, problems) = (Registry::new(), Arc::<Problems>::default());
        let keeper = Arc::new(Keeper::new(store, Arc::clone(&registry), Arc::clone(&problems)));
        let (options, mesh) = (Arc::new(options), signal::Sender::new(None).subscribe());
        let adopted = Adopted::new(registry, keeper, Arc::clone(&problems), Arc::default(), options, mesh);
        Self {
            adopted,
            roster: Roster::new(Contest::First, []),
            problems,
            failing: signal::Sender::new(false),
            dir,
        }
    }

    /// Snapshots of these clusters are served.
    async fn new(ids: &[&str]) -> Self {
        let snapshots = ids.iter().map(|id| snapshot(id, &["a"]));
        let mut world = Self::with(snapshots, IngestOptions::default());
        world.failing.send_replace(true);
        assert!(world.adopts(Duration::ZERO).await);
        world
    }

    /// Whether within this time it is settled that nothing else is known.
    async fn adopts(&mut self, within: Duration) -> bool {
        let mut failing = self.failing.subscribe();
        // What is on disk takes no virtual time.
        let within = within + Duration::from_millis(1);
        let all = async { while self.adopted.adopt(&mut failing).await != Known::All {} };
        tokio::time::timeout(within, all).await.is_ok()
    }

    fn served(&self) -> Vec<String> {
        self.adopted.registry.clusters().all().iter().map(|row| row.id.to_string()).collect()
    }

    fn subjects(&self) -> Vec<String> {
        self.problems.all().into_iter().map(|problem| problem.subject).collect()
    }

    /// A Secret says something.
    fn say(&mut self, claims: Claims) {
        let source = Source { created: 1, name: "secret x".to_owned() };
        assert!(self.roster.update([(source, claims)], &self.problems).is_empty(), "none can be used");
    }

    fn refused(ids: &[&str]) -> Claims {
        let refused = |id: &&str| (ClusterId::from(*id), Err("it is refused".to_owned()));
        Claims::Of(ids.iter().map(refused).collect::<BTreeMap<_, _>>(), Texts::new())
    }

    /// Secrets were listed, or an event came; returns what is served then.
    async fn settle(&mut self, complete: Option<Instant>) -> Vec<String> {
        self.adopted.settle([], &self.roster, complete).await;
        let rows = self.served();
        let mut kept = self.adopted.keeper.load_all().await.0;
        kept.sort_by(|a, b| a.snapshot.cluster.cmp(&b.snapshot.cluster));
        let kept: Vec<_> = kept.iter().map(|loaded| loaded.snapshot.cluster.to_string()).collect();
        assert_eq!(rows, kept, "snapshots stay as long as what is served");
        rows
    }
}

#[tokio::test(start_paused = true)]
async fn a_cluster_whose_secret_is_there_and_refused_is_served_on() {
    let mut world = World::new(&["b", "c"]).await;
    world.say(World::refused(&["b", "c"]));
    assert_eq!(world.settle(Some(Instant::now())).await, ["b", "c"]);
    // A key is taken out of the Secret: an event, and believed.
    world.say(World::refused(&["b"]));
    assert_eq!(world.settle(None).await, ["b"]);
    // The Secret cannot be read at all: it may say anything.
    world.say(Claims::Unreadable("malformed".to_owned()));
    assert_eq!(world.settle(Some(Instant::now())).await, ["b"]);
    world.say(Claims::Gone);
    assert_eq!(world.settle(None).await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_first_list_that_names_hardly_any_adopted_cluster_is_confirmed() {
    let mut world = World::new(&["b", "c", "d"]).await;
    world.say(World::refused(&["b"]));
    let began = Instant::now();
    assert_eq!(world.settle(Some(began)).await, ["b", "c", "d"]);
    assert_eq!(world.adopted.due(), Some(began + CONFIRM_AFTER));
    assert!(world.problems.all().iter().any(|problem| problem.subject == SUBJECT));
    assert_eq!(world.settle(None).await, ["b", "c", "d"], "an event about another Secret confirms nothing");
    world.adopted.asked();
    assert_eq!(world.adopted.due(), None);
    assert_eq!(world.settle(Some(began + CONFIRM_AFTER)).await, ["b"]);
    assert!(!world.problems.all().iter().any(|problem| problem.subject == SUBJECT));
    // One of many goes at once.
    let mut world = World::new(&["b", "c", "d"]).await;
    world.say(World::refused(&["b", "c"]));
    assert_eq!(world.settle(Some(Instant::now())).await, ["b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn clusters_are_adopted_when_their_secrets_cannot_be_read_or_take_too_long() {
    let two = || ["b", "c"].map(|id| snapshot(id, &["a"]));
    // Nothing is wrong, and nothing is heard: what is served is not known to be everything.
    let mut world = World::with(two(), IngestOptions::default());
    assert!(!world.adopts(PATIENCE - Duration::from_millis(10)).await);
    assert_eq!(world.served(), [""; 0], "most API servers answer in time");
    assert!(!world.adopts(Duration::from_secs(60)).await);
    assert_eq!(world.served(), ["b", "c"]);
    world.failing.send_replace(true);
    assert!(world.adopts(Duration::ZERO).await);
    // They cannot be read.
    let mut world = World::with(two(), IngestOptions::default());
    assert!(!world.adopts(Duration::ZERO).await);
    world.failing.send_replace(true);
    assert!(world.adopts(Duration::ZERO).await);
    assert_eq!(world.served(), ["b", "c"]);
    // The config cluster is served from its snapshot: nobody reads them there.
    let mut row = ClusterStatus::new("east".into(), ClusterRole::Config, "x");
    let now: Moment = Instant::now().into_std().into();
    row.restored = Some(Restored { path: "x".to_owned(), confirmed: now });
    let mut world = World::with(two(), IngestOptions::default());
    world.adopted.registry.clusters().put(row.clone());
    assert!(world.adopts(Duration::ZERO).await);
    assert_eq!(world.served(), ["east", "b", "c"]);
    // Another one reads them (R1.9).
    let path = "/nowhere".into();
    let source = crate::ingest::ConfigSource::Kubeconfig { path, context: None };
    let elsewhere = IngestOptions { secrets_by: Some(source), ..IngestOptions::default() };
    let mut world = World::with(two(), elsewhere);
    world.adopted.registry.clusters().put(row);
    assert!(!world.adopts(PATIENCE / 2).await);
    assert_eq!(world.served(), ["east"]);
    world.failing.send_replace(true);
    assert!(world.adopts(Duration::ZERO).await);
    assert_eq!(world.served(), ["east", "b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn no_snapshot_says_that_there_are_no_clusters() {
    let mut world = World::with([], IngestOptions::default());
    world.failing.send_replace(true);
    assert!(!world.adopts(Duration::from_secs(3600)).await);
    // What was the config cluster is no remote one.
    let document = || Some("{}".into());
    let before = snapshot("east", &["a"]);
    for config in [
        Snapshot { mesh_networks: document(), ..before.clone() },
        Snapshot { mesh_config: document(), ..before.clone() },
        Snapshot { policies: document(), ..before },
    ] {
        let mut world = World::with([config, snapshot("b", &["a"])], IngestOptions::default());
        world.failing.send_replace(true);
        assert!(world.adopts(Duration::ZERO).await);
        assert_eq!(world.served(), ["b"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_config_cluster_that_knew_of_no_other_settles_it_even_after_its_secrets_failed() {
    let World { mut adopted, failing, .. } = World::with([], IngestOptions::default());
    failing.send_replace(true);
    let registry = Arc::clone(&adopted.registry);
    let mut failing = failing.subscribe();
    assert_eq!(adopted.adopt(&mut failing).await, Known::Some);
    let mut all = std::pin::pin!(adopted.adopt(&mut failing));
    assert!(futures::poll!(&mut all).is_pending(), "its snapshot may say more");
    let mut row = ClusterStatus::new("east".into(), ClusterRole::Config, "x");
    let now: Moment = Instant::now().into_std().into();
    row.restored = Some(Restored { path: "x".to_owned(), confirmed: now });
    registry.clusters().put(row);
    assert_eq!(tokio::time::timeout(Duration::from_secs(1), all).await, Ok(Known::All));
}

#[tokio::test(start_paused = true)]
async fn d8_what_names_of_gateways_resolved_to_is_recalled_with_them() {
    let addresses: Vec<std::net::IpAddr> = vec!["192.0.2.7".parse().unwrap()];
    let known = [("gw.example.com".into(), addresses.clone())];
    let mut world = World::with(
        [Snapshot { addresses: known.into(), ..snapshot("b", &["a"]) }],
        IngestOptions::default(),
    );
    let recalled = |world: &World| world.adopted.keeper.memory().addresses(&"gw.example.com".into());
    assert!(recalled(&world).is_empty());
    world.failing.send_replace(true);
    assert!(world.adopts(Duration::ZERO).await);
    assert_eq!(recalled(&world), addresses);
}

#[tokio::test(start_paused = true)]
async fn z11_namespaces_that_the_settings_leave_out_are_not_served() {
    let namespaces = ["a", "b", "istio-system"];
    let said = |texts: &[(&str, &str)]| -> Texts {
        texts.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    let clusters = [("b".into(), said(&[("namespaces", "!b")])), ("c".into(), said(&[("stale", "hold")]))];
    let options = IngestOptions { clusters: clusters.into(), ..IngestOptions::default() };
    let mut world = World::with(["b", "c"].map(|id| snapshot(id, &namespaces)), options);
    world.failing.send_replace(true);
    assert!(world.adopts(Duration::ZERO).await);
    let states = world.adopted.registry.states(&["b".into(), "c".into()].into());
    let left =
        states.values().map(|state| state.shards.keys().map(|key| &*key.namespace).collect::<Vec<_>>());
    assert_eq!(left.collect::<Vec<_>>(), [vec!["a", "istio-system"], namespaces.to_vec()]);
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_that_cannot_be_used_is_told_until_the_secrets_are_known() {
    let mut world = World::with(["b", "c", "d"].map(|id| snapshot(id, &["a"])), IngestOptions::default());
    for id in ["c", "d"] {
        std::fs::write(world.dir.path().join(format!("{id}.snapshot")), b"tombolo\0 cut").unwrap();
    }
    world.failing.send_replace(true);
    assert!(world.adopts(Duration::ZERO).await);
    assert_eq!(world.served(), ["b"]);
    assert_eq!(world.subjects(), ["cluster c, snapshot", "cluster d, snapshot"]);
    assert!(world.problems.all()[0].text.contains("c.snapshot is ignored"));
    // There is a cluster c, which is served from nothing, and no cluster d.
    world.say(World::refused(&["b", "c"]));
    world.adopted.settle([], &world.roster, None).await;
    assert!(world.subjects().contains(&"cluster d, snapshot".to_owned()), "an event says nothing of others");
    world.adopted.settle([], &world.roster, Some(Instant::now())).await;
    assert!(world.subjects().contains(&"cluster c, snapshot".to_owned()));
    assert!(!world.subjects().contains(&"cluster d, snapshot".to_owned()));
}

/// What annotations of their Secrets said holds on, and the file of settings says more.
#[tokio::test(start_paused = true)]
async fn d35_clusters_whose_secrets_cannot_be_read_grow_old_too() {
    let minute = Duration::from_secs(60);
    let texts = |pairs: &[(&str, &str)]| -> Texts {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    let clusters = [
        (ClusterId::from("c"), texts(&[("stale", "demote")])),
        (ClusterId::from("d"), texts(&[("stale", "hold")])),
    ];
    let settings = IngestOptions { clusters: clusters.into(), ..IngestOptions::default() };
    let dropped = |after| {
        let terms = move || Terms { stale: StalePolicy::Drop(after), ..Terms::default() };
        ["b", "c", "d"].map(move |id| Snapshot { terms: terms(), ..snapshot(id, &["a"]) })
    };
    let mut world = World::with(dropped(minute), settings);
    world.failing.send_replace(true);
    assert!(world.adopts(Duration::ZERO).await);
    let standings = |world: &World| {
        let registry = &world.adopted.registry;
        ["b", "c", "d"].map(|id| {
            let id = ClusterId::from(id);
            let standing = registry.standings().part(&id).standing;
            assert_eq!(registry.clusters().get(&id).unwrap().standing, standing);
            standing
        })
    };
    assert_eq!(standings(&world), [Standing::Regular; 3]);
    let policies = world.adopted.registry.clusters().all().into_iter().map(|row| row.stale_policy);
    assert_eq!(policies.collect::<Vec<_>>(), ["drop after 1m", "demote after 1m", "hold"]);
    let due = world.adopted.next_age(Instant::now()).expect("it grows old");
    assert!(due <= Instant::now() + minute, "from when it was last known to be true");
    tokio::time::advance(minute / 2).await;
    world.adopted.grow_old(Instant::now());
    assert_eq!(standings(&world), [Standing::Regular; 3]);
    tokio::time::advance(minute / 2).await;
    world.adopted.registry.changes().take();
    world.adopted.grow_old(Instant::now());
    assert_eq!(standings(&world), [Standing::Dropped, Standing::Demoted, Standing::Regular]);
    assert!(!world.adopted.registry.changes().take().is_empty(), "proxies are told");
    assert_eq!(world.adopted.next_age(Instant::now()), None);
    world.adopted.grow_old(Instant::now());
    assert!(world.adopted.registry.changes().take().is_empty(), "once");
    // Those that are old already count for no more than that from the start.
    let mut world = World::with(dropped(Duration::ZERO), IngestOptions::default());
    world.failing.send_replace(true);
    assert!(world.adopts(Duration::ZERO).await);
    assert_eq!(standings(&world), [Standing::Dropped; 3]);
}
