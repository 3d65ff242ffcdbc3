//! Writes snapshots when clusters change, off the path of events.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::watch as signal;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Addresses, Loaded, Memory, Pin, Snapshot, SnapshotStore, Terms, Unsaved, Unusable};
use crate::ingest::options::ClusterOptions;
use crate::ingest::problems::Problems;
use crate::model::{ClusterId, ClusterRole, ClusterStatus};
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
    memory: Arc<Memory>,
    /// The clusters to keep, each with its API server and what was written of it.
    kept: Mutex<BTreeMap<ClusterId, Kept>>,
}

#[derive(Debug)]
struct Kept {
    pin: Pin,
    options: signal::Receiver<Arc<ClusterOptions>>,
    written: Option<Written>,
    /// It was more than a file may have; then it is not tried again for a while.
    too_large: Option<Instant>,
}

#[derive(Debug)]
struct Written {
    revision: u64,
    at: Instant,
    beside: Beside,
}

/// What is written besides the state.
#[derive(Clone, Debug, PartialEq)]
struct Beside {
    terms: Terms,
    addresses: Addresses,
    mesh_networks: Option<Arc<str>>,
}

/// What a round is to write.
struct Due {
    id: ClusterId,
    pin: Pin,
    status: ClusterStatus,
    revision: u64,
    beside: Beside,
}

fn subject(cluster: &ClusterId) -> String {
    format!("cluster {cluster}, snapshot")
}

impl Keeper {
    /// Keeps snapshots in `store`.
    pub fn new(store: SnapshotStore, registry: Arc<Registry>, problems: Arc<Problems>) -> Self {
        Self { store, registry, problems, memory: Arc::default(), kept: Mutex::default() }
    }

    /// What outlives a restart besides the states of clusters.
    pub(in crate::ingest) fn memory(&self) -> &Arc<Memory> {
        &self.memory
    }

    /// Reads what is to be served of a cluster until its API server at `pin` was read. One that cannot be used is
    /// told of by name and stays where it is until it is overwritten.
    pub(in crate::ingest) async fn load(self: &Arc<Self>, cluster: &ClusterId, pin: &Pin) -> Option<Loaded> {
        let (keeper, id, pin) = (Arc::clone(self), cluster.clone(), pin.clone());
        let loading = tokio::task::spawn_blocking(move || keeper.store.load(&id, &pin, SystemTime::now()));
        match loading.await {
            Ok(Ok(loaded)) => {
                loaded.iter().for_each(|loaded| self.memory.recall_addresses(&loaded.snapshot.addresses));
                loaded
            }
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
            Ok(Ok(all)) => {
                all.iter().for_each(|loaded| self.memory.recall_addresses(&loaded.snapshot.addresses));
                all
            }
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
    pub(in crate::ingest) fn keep(
        &self,
        cluster: &ClusterId,
        pin: &Pin,
        options: signal::Receiver<Arc<ClusterOptions>>,
    ) {
        let kept = Kept { pin: pin.clone(), options, written: None, too_large: None };
        self.kept().insert(cluster.clone(), kept);
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

    /// How many clusters the next round writes.
    #[cfg(test)]
    pub(super) fn due_now(&self) -> usize {
        self.due().len()
    }

    fn due(&self) -> Vec<Due> {
        let confirm = CONFIRM.min(self.store.max_age() / 4);
        let kept = self.kept();
        let due = kept.iter().filter_map(|(id, kept)| {
            let status = self.registry.clusters().get(id).filter(|status| status.synced)?;
            // Read before the state: what changes in between is written once more.
            let revision = self.registry.revision(id);
            let beside = self.beside(id, status.role, kept);
            let current = kept.written.as_ref().is_some_and(|written| {
                written.revision == revision
                    && written.beside == beside
                    && (status.stale_since().is_some() || written.at.elapsed() < confirm)
            });
            let waits = kept.too_large.is_some_and(|at| at.elapsed() < CONFIRM);
            (!current && !waits).then(|| Due {
                id: id.clone(),
                pin: kept.pin.clone(),
                status,
                revision,
                beside,
            })
        });
        due.collect()
    }

    fn beside(&self, id: &ClusterId, role: ClusterRole, kept: &Kept) -> Beside {
        let networks = self.registry.networks();
        let config = role == ClusterRole::Config;
        // Static gateways come with the document.
        let told = [Some(id.clone()), config.then(ClusterId::default)];
        let hosts = told.iter().flatten().flat_map(|teller| networks.told_by(teller).hosts);
        let resolved = |host| Some((networks.host_addresses(&host)?.to_vec(), host));
        let resolved = hosts.filter_map(|gateway| resolved(gateway.host));
        let resolved = resolved.filter(|(addresses, _)| !addresses.is_empty());
        Beside {
            terms: Terms::of(&kept.options.borrow()),
            addresses: resolved.map(|(addresses, host)| (host, addresses)).collect(),
            mesh_networks: self.memory.document().filter(|_| config),
        }
    }

    fn save(&self, due: Due, state: ClusterState) {
        let now = SystemTime::now();
        let confirmed = due.status.stale_since().map_or(now, |since| since.time_of_day());
        let Beside { terms, addresses, mesh_networks } = due.beside.clone();
        let snapshot = Snapshot {
            cluster: due.id.clone(),
            pin: due.pin.clone(),
            uid: due.status.uid.clone(),
            confirmed,
            terms,
            addresses,
            mesh_networks,
            state,
        };
        let path = self.store.path(&due.id);
        if let Err(error) = self.store.save(&snapshot) {
            let mut text = format!("{} is not kept: {error}", path.display());
            if matches!(error, Unsaved::TooLarge(_)) {
                text.push_str("; after a restart the cluster is served only once it was read");
                if let Some(kept) = self.kept().get_mut(&due.id) {
                    kept.too_large = Some(Instant::now());
                }
            }
            self.problems.set(subject(&due.id), text);
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
            let (revision, beside) = (due.revision, due.beside.clone());
            kept.written = Some(Written { revision, at: Instant::now(), beside });
            kept.too_large = None;
        }
        all.contains_key(&due.id)
    }

    /// Held for look-ups only, never while a file is touched.
    fn kept(&self) -> MutexGuard<'_, BTreeMap<ClusterId, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
