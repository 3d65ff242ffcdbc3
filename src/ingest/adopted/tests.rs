use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use super::*;
use crate::ingest::cluster::CONFIRM_AFTER;
use crate::ingest::options::{StalePolicy, Texts};
use crate::ingest::roster::{Claims, Contest, Source};
use crate::ingest::snapshot::{Addresses, Pin, Snapshot, SnapshotOptions, SnapshotStore, Terms};
use crate::model::{Endpoint, EndpointShard, ServiceKey, Workload, WorkloadParts};
use crate::registry::ClusterState;

struct World {
    adopted: Adopted,
    roster: Roster,
    problems: Arc<Problems>,
    _dir: tempfile::TempDir,
}

impl World {
    /// Snapshots of these clusters are served.
    async fn new(ids: &[&str]) -> Self {
        Self::with(ids, StalePolicy::Hold, IngestOptions::default()).await
    }

    /// The same, with what their Secrets said of age.
    async fn with(ids: &[&str], stale: StalePolicy, settings: IngestOptions) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = SnapshotOptions { dir: dir.path().to_owned(), max_age: Duration::from_secs(3600) };
        let store = SnapshotStore::open(&options, SystemTime::now()).unwrap();
        for id in ids {
            let key = ServiceKey::new("a", "web.a.svc.cluster.local");
            let workload = Arc::new(Workload::from(WorkloadParts::default()));
            let endpoint = Endpoint::new("10.0.0.1".parse().unwrap(), 80, "http", workload);
            let shard = EndpointShard::new(ClusterId::from(*id), None, vec![endpoint]);
            let state = ClusterState { shards: [(key, Arc::new(shard))].into(), ..ClusterState::default() };
            let pin = Pin { server: "https://192.0.2.1:443".to_owned(), ca: None };
            let snapshot = Snapshot {
                cluster: (*id).into(),
                pin,
                uid: "u".into(),
                confirmed: SystemTime::now(),
                terms: Terms { stale, ..Terms::default() },
                addresses: Addresses::new(),
                mesh_networks: None,
                state,
            };
            store.save(&snapshot).unwrap();
        }
        let (registry, problems) = (Registry::new(), Arc::<Problems>::default());
        let keeper = Arc::new(Keeper::new(store, Arc::clone(&registry), Arc::clone(&problems)));
        let (options, mesh) = (Arc::new(settings), tokio::sync::watch::Sender::new(None).subscribe());
        let (keeper_of, problems_of) = (Arc::clone(&keeper), Arc::clone(&problems));
        let mut adopted =
            Adopted::new(Arc::clone(&registry), keeper_of, problems_of, Arc::default(), options, mesh);
        for loaded in keeper.load_all().await {
            adopted.serve(loaded);
        }
        Self { adopted, roster: Roster::new(Contest::First, []), problems, _dir: dir }
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
        let rows: Vec<_> =
            self.adopted.registry.clusters().all().iter().map(|row| row.id.to_string()).collect();
        let mut kept: Vec<_> = self.adopted.keeper.load_all().await.into_iter().collect();
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
    let mut world = World::with(&["b", "c", "d"], StalePolicy::Drop(minute), settings).await;
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
    let world =
        World::with(&["b", "c", "d"], StalePolicy::Drop(Duration::ZERO), IngestOptions::default()).await;
    assert_eq!(standings(&world), [Standing::Dropped; 3]);
}
