//! Writes snapshots when clusters change, off the path of events.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::watch as signal;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    Addresses, All, Documents, Loaded, Memory, Pin, Snapshot, SnapshotStore, Terms, Unsaved, Unusable,
};
use crate::ingest::options::ClusterOptions;
use crate::ingest::problems::Problems;
use crate::model::{ClusterId, ClusterRole, ClusterStatus, Name};
use crate::registry::{ClusterState, Registry};

/// The least time between two rounds.
const PAUSE: Duration = Duration::from_secs(5);
/// How fast the snapshot of one cluster is written over and over again, in bytes per second: a large one in which a
/// single endpoint flaps is to wear out no disk.
const RATE: usize = 128 << 10;
/// How long one that could not be written is left alone.
const RETRY: Duration = Duration::from_secs(60);
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
    rest: Option<Rest>,
}

/// It is not written before this.
#[derive(Clone, Copy, Debug)]
struct Rest {
    until: Instant,
    /// Not even once more at the end.
    unconditional: bool,
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
    uid: Name,
    terms: Terms,
    addresses: Addresses,
    documents: Documents,
}

/// When a round is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Round {
    /// There will be others.
    Usual,
    /// The process ends.
    Last,
}

/// What a round is to write.
pub(super) struct Due {
    id: ClusterId,
    pin: Pin,
    status: ClusterStatus,
    revision: u64,
    beside: Beside,
}

fn subject(cluster: &ClusterId) -> String {
    format!("cluster {cluster}, snapshot")
}

/// How long a snapshot of this length is left alone, but never for so long that it would be too old.
pub(super) fn rest(length: usize, max_age: Duration) -> Duration {
    Duration::from_secs((length / RATE) as u64).min(max_age / 4)
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
        let loaded = match loading.await {
            Ok(Ok(loaded)) => loaded,
            Ok(Err(why)) => {
                self.ignored(cluster, &self.store.path(cluster), &why);
                None
            }
            // The runtime is shutting down.
            Err(_) => None,
        };
        let snapshot = loaded.as_ref().map(|loaded| &loaded.snapshot);
        snapshot.into_iter().for_each(|snapshot| self.memory.recall_addresses(&snapshot.addresses));
        let documents = |snapshot: &Snapshot| Documents {
            mesh_networks: snapshot.mesh_networks.clone(),
            mesh_config: snapshot.mesh_config.clone(),
            policies: snapshot.policies.clone(),
        };
        self.memory.recall_documents(cluster, snapshot.map(documents).unwrap_or_default());
        loaded
    }

    /// Every snapshot that is young enough, of whatever API server. Of clusters that nobody looks for by themselves
    /// it is told why theirs is not used; these come second.
    pub(in crate::ingest) async fn load_all(self: &Arc<Self>) -> (Vec<Loaded>, Vec<ClusterId>) {
        let keeper = Arc::clone(self);
        let loading = tokio::task::spawn_blocking(move || keeper.store.load_all(SystemTime::now()));
        let mut all = match loading.await {
            Ok(Ok(all)) => all,
            Ok(Err(error)) => {
                tracing::error!(%error, "the directory of snapshots cannot be read");
                All::default()
            }
            // The runtime is shutting down.
            Err(_) => All::default(),
        };
        all.usable.iter().for_each(|loaded| self.memory.recall_addresses(&loaded.snapshot.addresses));
        all.ignored.retain(|ignored| self.registry.clusters().get(&ignored.cluster).is_none());
        all.ignored.iter().for_each(|ignored| self.ignored(&ignored.cluster, &ignored.path, &ignored.why));
        (all.usable, all.ignored.into_iter().map(|ignored| ignored.cluster).collect())
    }

    /// It does not matter any more that the snapshot of a cluster is not used: there is no such cluster.
    pub(in crate::ingest) fn never_mind(&self, cluster: &ClusterId) {
        self.problems.clear(&subject(cluster));
    }

    /// Every cluster that there is has a row: deletes what is long too old of others, also in a shared directory.
    pub(in crate::ingest) async fn sweep(self: Arc<Self>) {
        let sweeping = tokio::task::spawn_blocking(move || {
            let outdated = self.store.outdated(SystemTime::now())?;
            for id in outdated.iter().filter(|id| self.registry.clusters().get(id).is_none()) {
                self.store.delete(id)?;
                tracing::info!(cluster = %id, "the old snapshot of a cluster that there is no more is deleted");
            }
            Ok::<_, std::io::Error>(())
        });
        if let Ok(Err(error)) = sweeping.await {
            tracing::warn!(%error, "old snapshots stay");
        }
    }

    fn ignored(&self, cluster: &ClusterId, path: &Path, why: &Unusable) {
        self.problems.set(subject(cluster), format!("{} is ignored: {why}", path.display()));
    }

    /// From now on what the registry has of this cluster is what this API server said.
    pub(in crate::ingest) fn keep(
        &self,
        cluster: &ClusterId,
        pin: &Pin,
        options: signal::Receiver<Arc<ClusterOptions>>,
    ) {
        let kept = Kept { pin: pin.clone(), options, written: None, rest: None };
        self.kept().insert(cluster.clone(), kept);
        self.problems.clear(&subject(cluster));
    }

    /// The operator removed the cluster: nothing of it may come back (R1.20).
    pub(in crate::ingest) async fn forget(self: &Arc<Self>, cluster: &ClusterId) {
        let (keeper, id) = (Arc::clone(self), cluster.clone());
        self.kept().remove(cluster);
        // Nobody sets it any more.
        self.never_mind(cluster);
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
            let round = if cancel.is_cancelled() { Round::Last } else { Round::Usual };
            let keeper = Arc::clone(&self);
            // It ends with an error only when the runtime shuts down.
            let _ = tokio::task::spawn_blocking(move || keeper.round(round)).await;
            if round == Round::Last {
                return;
            }
            let pause = PAUSE.max(started.elapsed() * SHARE);
            let _ = cancel.run_until_cancelled(tokio::time::sleep(pause)).await;
        }
    }

    /// One pass over the registry for all clusters that changed. Blocking.
    pub(super) fn round(&self, round: Round) {
        let due = self.due(round);
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
        self.due(Round::Usual).len()
    }

    pub(super) fn due(&self, round: Round) -> Vec<Due> {
        let now = Instant::now();
        let confirm = CONFIRM.min(self.store.max_age() / 4);
        let kept = self.kept();
        let due = kept.iter().filter_map(|(id, kept)| {
            let status = self.registry.clusters().get(id).filter(|status| status.synced)?;
            // Read before the state: what changes in between is written once more.
            let revision = self.registry.revision(id);
            let beside = self.beside(&status, kept);
            let current = kept.written.as_ref().is_some_and(|written| {
                written.revision == revision
                    && written.beside == beside
                    && (status.unconfirmed_since().is_some() || written.at.elapsed() < confirm)
            });
            let rests = |rest: Rest| now < rest.until && (rest.unconditional || round == Round::Usual);
            let waits = kept.rest.is_some_and(rests);
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

    fn beside(&self, status: &ClusterStatus, kept: &Kept) -> Beside {
        let networks = self.registry.networks();
        let config = status.role == ClusterRole::Config;
        // Static gateways come with the document.
        let told = [Some(status.id.clone()), config.then(ClusterId::default)];
        let hosts = told.iter().flatten().flat_map(|teller| networks.told_by(teller).hosts);
        let resolved = |host| Some((networks.host_addresses(&host)?.to_vec(), host));
        let resolved = hosts.filter_map(|gateway| resolved(gateway.host));
        let resolved = resolved.filter(|(addresses, _)| !addresses.is_empty());
        Beside {
            uid: status.uid.clone(),
            terms: Terms::of(&kept.options.borrow()),
            addresses: resolved.map(|(addresses, host)| (host, addresses)).collect(),
            documents: if config { self.memory.documents() } else { Documents::default() },
        }
    }

    pub(super) fn save(&self, due: Due, state: ClusterState) {
        let now = SystemTime::now();
        let confirmed = due.status.unconfirmed_since().map_or(now, |since| since.time_of_day());
        let Beside { uid, terms, addresses, documents } = due.beside.clone();
        let Documents { mesh_networks, mesh_config, policies } = documents;
        let snapshot = Snapshot {
            cluster: due.id.clone(),
            pin: due.pin.clone(),
            uid,
            confirmed,
            terms,
            addresses,
            mesh_networks,
            mesh_config,
            policies,
            state,
        };
        let length = match self.store.save(&snapshot) {
            Ok(length) => length,
            Err(error) => return self.unsaved(&due.id, &error),
        };
        if self.note(&due, length) {
            self.problems.clear(&subject(&due.id));
        } else {
            // Removed meanwhile, perhaps before this was written. Otherwise it is as good as it was.
            let _ = self.store.delete(&due.id);
        }
    }

    fn unsaved(&self, id: &ClusterId, error: &Unsaved) {
        let mut text = format!("{} is not kept: {error}", self.store.path(id).display());
        let unconditional = matches!(error, Unsaved::TooLarge(_));
        if unconditional {
            text.push_str("; after a restart the cluster is served only once it was read");
        }
        let until = Instant::now() + if unconditional { CONFIRM } else { RETRY };
        let mut all = self.kept();
        // Removed meanwhile: nobody would take back what is said of it.
        let Some(kept) = all.get_mut(id) else { return };
        kept.rest = Some(Rest { until, unconditional });
        self.problems.set(subject(id), text);
    }

    /// Notes what was written, and how much that was. False if the cluster is no longer kept. One that was exchanged
    /// meanwhile is written again in the next round.
    fn note(&self, due: &Due, length: usize) -> bool {
        let mut all = self.kept();
        let kept = all.get_mut(&due.id);
        if let Some(kept) = kept.filter(|kept| kept.pin == due.pin) {
            let (revision, beside, at) = (due.revision, due.beside.clone(), Instant::now());
            kept.written = Some(Written { revision, at, beside });
            let until = at + rest(length, self.store.max_age());
            // What was read first may be another cluster's than the state: that is not left so.
            let row = self.registry.clusters().get(&due.id);
            let fits = row.is_some_and(|row| self.beside(&row, kept) == due.beside);
            kept.rest = fits.then_some(Rest { until, unconditional: false });
        }
        all.contains_key(&due.id)
    }

    /// Held for look-ups only, never while a file is touched.
    fn kept(&self) -> MutexGuard<'_, BTreeMap<ClusterId, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
