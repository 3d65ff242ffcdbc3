//! Writes snapshots when clusters change, off the path of events.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Loaded, Pin, Snapshot, SnapshotStore, Unusable};
use crate::ingest::problems::Problems;
use crate::model::{ClusterId, ClusterStatus};
use crate::registry::{ClusterState, Registry};

/// The least time between two rounds.
const PAUSE: Duration = Duration::from_secs(5);
/// Rounds take at most one part in so many of the time.
const SHARE: u32 = 20;
/// How often the snapshot of a cluster that does not change is written again, so that its age stays true.
const CONFIRM: Duration = Duration::from_secs(900);

/// Keeps the snapshots of the clusters that have synced. Shared by their generations.
#[derive(Debug)]
pub struct Keeper {
    store: SnapshotStore,
    registry: Arc<Registry>,
    problems: Arc<Problems>,
    /// The clusters to keep, each with its API server and what was written of it.
    kept: Mutex<BTreeMap<ClusterId, Kept>>,
}

#[derive(Debug)]
struct Kept {
    pin: Pin,
    written: Option<Written>,
}

#[derive(Clone, Copy, Debug)]
struct Written {
    revision: u64,
    at: Instant,
}

/// What a round is to write.
struct Due {
    id: ClusterId,
    pin: Pin,
    status: ClusterStatus,
    revision: u64,
}

fn subject(cluster: &ClusterId) -> String {
    format!("cluster {cluster}, snapshot")
}

impl Keeper {
    /// Keeps snapshots in `store`.
    pub fn new(store: SnapshotStore, registry: Arc<Registry>, problems: Arc<Problems>) -> Self {
        Self { store, registry, problems, kept: Mutex::default() }
    }

    /// Reads what is to be served of a cluster until its API server at `pin` was read. One that cannot be used is
    /// told of by name and stays where it is until it is overwritten.
    pub(in crate::ingest) async fn load(self: &Arc<Self>, cluster: &ClusterId, pin: &Pin) -> Option<Loaded> {
        let (keeper, id, pin) = (Arc::clone(self), cluster.clone(), pin.clone());
        let loading = tokio::task::spawn_blocking(move || keeper.store.load(&id, &pin, SystemTime::now()));
        match loading.await {
            Ok(Ok(loaded)) => loaded,
            Ok(Err(why)) => {
                self.ignored(cluster, &why);
                None
            }
            // The runtime is shutting down.
            Err(_) => None,
        }
    }

    /// Every snapshot that is young enough, of whatever API server.
    pub(in crate::ingest) async fn load_all(self: &Arc<Self>) -> Vec<Loaded> {
        let keeper = Arc::clone(self);
        let loading = tokio::task::spawn_blocking(move || keeper.store.load_all(SystemTime::now()));
        match loading.await {
            Ok(Ok(all)) => all,
            Ok(Err(error)) => {
                tracing::error!(%error, "the directory of snapshots cannot be read");
                Vec::new()
            }
            // The runtime is shutting down.
            Err(_) => Vec::new(),
        }
    }

    fn ignored(&self, cluster: &ClusterId, why: &Unusable) {
        let path = self.store.path(cluster);
        self.problems.set(subject(cluster), format!("{} is ignored: {why}", path.display()));
    }

    /// From now on what the registry has of this cluster is what this API server said.
    pub(in crate::ingest) fn keep(&self, cluster: &ClusterId, pin: &Pin) {
        self.kept().insert(cluster.clone(), Kept { pin: pin.clone(), written: None });
        self.problems.clear(&subject(cluster));
    }

    /// The operator removed the cluster: nothing of it may come back (R1.20).
    pub(in crate::ingest) async fn forget(self: &Arc<Self>, cluster: &ClusterId) {
        let (keeper, id) = (Arc::clone(self), cluster.clone());
        self.kept().remove(cluster);
        let deleting = tokio::task::spawn_blocking(move || keeper.store.delete(&id));
        if let Ok(Err(error)) = deleting.await {
            let path = self.store.path(cluster);
            tracing::error!(path = %path.display(), %error, "the snapshot of a removed cluster is still there");
        }
    }

    /// Writes what changes, until cancelled and then once more.
    pub(in crate::ingest) async fn run(self: Arc<Self>, cancel: CancellationToken) {
        loop {
            let started = Instant::now();
            let last = cancel.is_cancelled();
            let keeper = Arc::clone(&self);
            // It ends with an error only when the runtime shuts down.
            let _ = tokio::task::spawn_blocking(move || keeper.round()).await;
            if last {
                return;
            }
            let pause = PAUSE.max(started.elapsed() * SHARE);
            let _ = cancel.run_until_cancelled(tokio::time::sleep(pause)).await;
        }
    }

    /// One pass over the registry for all clusters that changed. Blocking.
    pub(super) fn round(&self) {
        let due = self.due();
        let ids: BTreeSet<_> = due.iter().map(|due| due.id.clone()).collect();
        if ids.is_empty() {
            return;
        }
        let mut states = self.registry.states(&ids);
        for due in due {
            let state = states.remove(&due.id).unwrap_or_default();
            self.save(due, state);
        }
    }

    fn due(&self) -> Vec<Due> {
        let confirm = CONFIRM.min(self.store.max_age() / 4);
        let kept = self.kept();
        let due = kept.iter().filter_map(|(id, kept)| {
            let status = self.registry.clusters().get(id).filter(|status| status.synced)?;
            // Read before the state: what changes in between is written once more.
            let revision = self.registry.revision(id);
            let current = kept.written.is_some_and(|written| {
                written.revision == revision
                    && (status.stale_since().is_some() || written.at.elapsed() < confirm)
            });
            (!current).then(|| Due { id: id.clone(), pin: kept.pin.clone(), status, revision })
        });
        due.collect()
    }

    fn save(&self, due: Due, state: ClusterState) {
        let now = SystemTime::now();
        let confirmed = due.status.stale_since().map_or(now, |since| since.time_of_day());
        let (cluster, pin, uid) = (due.id.clone(), due.pin.clone(), due.status.uid.clone());
        let snapshot = Snapshot { cluster, pin, uid, confirmed, state };
        let path = self.store.path(&due.id);
        if let Err(error) = self.store.save(&snapshot) {
            self.problems.set(subject(&due.id), format!("{} cannot be written: {error}", path.display()));
            return;
        }
        if self.note(&due) {
            self.problems.clear(&subject(&due.id));
        } else {
            // Removed meanwhile, perhaps before this was written. Otherwise it is as good as it was.
            let _ = self.store.delete(&due.id);
        }
    }

    /// Notes what was written. False if the cluster is no longer kept. One that was exchanged meanwhile is
    /// written again in the next round.
    fn note(&self, due: &Due) -> bool {
        let mut all = self.kept();
        let kept = all.get_mut(&due.id);
        if let Some(kept) = kept.filter(|kept| kept.pin == due.pin) {
            kept.written = Some(Written { revision: due.revision, at: Instant::now() });
        }
        all.contains_key(&due.id)
    }

    /// Held for look-ups only, never while a file is touched.
    fn kept(&self) -> MutexGuard<'_, BTreeMap<ClusterId, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
