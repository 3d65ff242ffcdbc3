//! Serves a cluster from its snapshot while its API server has not been read (kubernetes-watch §2.4).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch as signal;
use tokio::time::Instant;

use super::status::Status;
use crate::ingest::convert::SpecialAddresses;
use crate::ingest::networks::MeshFeed;
use crate::ingest::options::ClusterOptions;
use crate::ingest::snapshot::{Filter, Keeper, Loaded, Pin, Terms, select};
use crate::model::{ClusterId, Moment, Name, Restored};
use crate::registry::{ClusterState, ClusterWriter, NetworkClaim};

/// How long an API server that does not fail may take before the snapshot is served meanwhile. Most answer
/// faster, and then nobody sees old data.
const PATIENCE: Duration = Duration::from_secs(1);

/// A generation's part in the keeping of snapshots.
pub(in crate::ingest) struct Restore {
    keeper: Arc<Keeper>,
    cluster: ClusterId,
    pin: Pin,
    options: signal::Receiver<Arc<ClusterOptions>>,
    mesh: MeshFeed,
    special: SpecialAddresses,
    system_namespace: Name,
    loaded: Option<Loaded>,
    due: Instant,
}

impl Restore {
    /// For a generation that reads the cluster at `pin`.
    pub(in crate::ingest) fn new(
        keeper: Arc<Keeper>,
        cluster: ClusterId,
        pin: Pin,
        options: signal::Receiver<Arc<ClusterOptions>>,
        mesh: MeshFeed,
        special: SpecialAddresses,
        system_namespace: Name,
    ) -> Self {
        let due = Instant::now() + PATIENCE;
        Self { keeper, cluster, pin, options, mesh, special, system_namespace, loaded: None, due }
    }

    /// Looks for a snapshot.
    pub(super) async fn load(&mut self) {
        self.loaded = self.keeper.load(&self.cluster, &self.pin).await;
        // What is not read any more is not missed (K-21).
        self.select();
        self.due = Instant::now() + PATIENCE;
    }

    fn select(&mut self) {
        if let Some(loaded) = &mut self.loaded {
            select(&self.options.borrow().selection, &self.system_namespace, &mut loaded.snapshot.state);
        }
    }

    /// When the snapshot is to be served; `None` when there is none, or it is served already.
    pub(super) fn due(&self) -> Option<Instant> {
        self.loaded.as_ref().map(|_| self.due)
    }

    /// The API server cannot be reached: there is nothing to wait for.
    pub(super) fn hurry(&mut self) {
        self.due = Instant::now();
    }

    /// Endpoints of a snapshot that is not served yet.
    pub(super) fn endpoints(&self) -> usize {
        let shards = self.loaded.iter().flat_map(|loaded| loaded.snapshot.state.shards.values());
        shards.map(|shard| shard.of_service()).sum()
    }

    /// When the snapshot that is not served yet was last known to be true.
    pub(super) fn confirmed(&self) -> Option<Moment> {
        let now: Moment = Instant::now().into_std().into();
        Some(now.before(self.loaded.as_ref()?.age))
    }

    /// The cluster that the snapshot was read from; empty while none is loaded, or when it is not known.
    pub(super) fn uid(&self) -> Name {
        self.loaded.as_ref().map(|loaded| loaded.snapshot.uid.clone()).unwrap_or_default()
    }

    /// What it tells of networks, under the options of now, while it is not served yet.
    pub(super) fn claim(&self) -> Option<NetworkClaim> {
        let snapshot = &self.loaded.as_ref()?.snapshot;
        let networks = snapshot.state.networks.clone();
        let mut state = ClusterState { networks, ..ClusterState::default() };
        self.filter(&snapshot.terms, &mut state);
        Some(state.networks)
    }

    /// Whether it has pods, of one namespace if there is one, and is not served yet.
    pub(super) fn has_workloads(&self, namespace: Option<&Name>) -> bool {
        let cells = self.loaded.iter().flat_map(|loaded| &loaded.snapshot.state.workloads);
        namespace.map_or_else(
            || cells.clone().next().is_some(),
            |namespace| cells.clone().any(|cell| cell.id().namespace == *namespace),
        )
    }

    /// Whether other clusters see endpoints of it once it is served.
    pub(super) fn is_seen_elsewhere(&self) -> bool {
        let mut shards = self.loaded.iter().flat_map(|loaded| loaded.snapshot.state.shards.values());
        shards.any(|shard| shard.is_seen_elsewhere())
    }

    /// Whether it has services of ServiceEntries.
    pub(super) fn has_entries(&self) -> bool {
        let mut shards = self.loaded.iter().flat_map(|loaded| loaded.snapshot.state.shards.values());
        shards.any(|shard| shard.is_of_entry())
    }

    /// The options of now hold for what was read under others.
    fn filter(&self, then: &Terms, state: &mut ClusterState) {
        let mesh = self.mesh.borrow().clone();
        let terms = Terms::of(&self.options.borrow());
        Filter { terms, special: self.special, mesh: mesh.as_deref() }.apply(&self.cluster, then, state);
    }

    /// Serves it. Its sources go on trying; once they have listed everything, what they say takes its place in one
    /// step, and what is equal is not published again.
    pub(super) fn serve(&mut self, writer: &mut ClusterWriter, status: &mut Status) {
        self.select();
        let (Some(confirmed), Some(mut loaded)) = (self.confirmed(), self.loaded.take()) else {
            return;
        };
        let snapshot = &mut loaded.snapshot;
        self.filter(&snapshot.terms, &mut snapshot.state);
        let path = loaded.path.display().to_string();
        tracing::info!(cluster = %self.cluster, path, age = ?loaded.age, "served from its snapshot");
        let shown = loaded.snapshot.shown();
        writer.replace(loaded.snapshot.state);
        status.restored(Restored { path, confirmed }, shown);
    }

    /// The cluster was read: from now on its snapshot is written anew.
    pub(super) fn synced(&self) {
        self.keeper.keep(&self.cluster, &self.pin, self.options.clone());
    }
}
