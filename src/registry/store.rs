//! The index of cells.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption};
use dashmap::{DashMap, DashSet};

use super::cell::{ServiceCell, Written};
use super::changes::{ChangeLog, ChangeSet, ServiceChange};
use super::clusters::ClusterTable;
use super::networks::NetworkSnapshot;
use super::standing::StandingSnapshot;
use super::writer::{ClusterState, ClusterWriter, DuplicateWriter};
use crate::model::{
    ClusterId, ClusterRole, EndpointShard, Hostname, NetworkGateway, NetworkId, ServiceKey, Standing,
    Workload, WorkloadId,
};

/// Work done by the registry since it was made. Counted, not timed, so that tests can bound it.
#[derive(Debug, Default)]
pub struct RegistryCounts {
    /// Snapshots published (services, workloads and networks).
    pub publishes: AtomicU64,
    /// Writes that changed nothing and published nothing.
    pub unchanged: AtomicU64,
}

/// The store. Cheap to share; every method may be called from any thread.
#[derive(Debug, Default)]
pub struct Registry {
    services: DashMap<ServiceKey, Arc<ServiceCell>>,
    /// Host name → keys. Kubernetes gives one namespace per host name.
    hosts: DashMap<Hostname, BTreeSet<ServiceKey>>,
    workloads: DashMap<WorkloadId, Arc<Workload>>,
    networks: ArcSwap<NetworkSnapshot>,
    standings: ArcSwap<StandingSnapshot>,
    writers: DashSet<ClusterId>,
    /// How often each cluster changed.
    revisions: DashMap<ClusterId, Arc<AtomicU64>>,
    config_cluster: ArcSwapOption<ClusterId>,
    changes: ChangeLog,
    clusters: ClusterTable,
    versions: AtomicU64,
    /// Tombstones that somebody still held when they were made; looked at again on the next removal.
    tombstones: Mutex<BTreeSet<ServiceKey>>,
    counts: RegistryCounts,
}

impl Registry {
    /// An empty registry.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The one writer of a cluster. The config cluster's records come first in merges (R5.25); name it before
    /// any other cluster writes.
    ///
    /// # Errors
    /// Somebody already writes for this cluster.
    pub fn writer(
        self: &Arc<Self>,
        cluster: ClusterId,
        role: ClusterRole,
    ) -> Result<ClusterWriter, DuplicateWriter> {
        if !self.writers.insert(cluster.clone()) {
            return Err(DuplicateWriter { cluster });
        }
        if role == ClusterRole::Config {
            self.config_cluster.store(Some(Arc::new(cluster.clone())));
        }
        let published = self.told_by(&cluster);
        let revision = Arc::clone(&self.revisions.entry(cluster.clone()).or_default());
        Ok(ClusterWriter::new(Arc::clone(self), cluster, published, revision))
    }

    /// What a former writer of this cluster left behind: the next one must be able to sweep it.
    fn told_by(&self, cluster: &ClusterId) -> ClusterState {
        self.states(&BTreeSet::from([cluster.clone()])).remove(cluster).unwrap_or_default()
    }

    /// What each of these clusters tells now, in one pass over all services: for snapshots. What is written
    /// meanwhile may be in it or not.
    pub fn states(&self, of: &BTreeSet<ClusterId>) -> BTreeMap<ClusterId, ClusterState> {
        let networks = self.networks();
        let mut states: BTreeMap<_, _> = of
            .iter()
            .map(|id| {
                let network = Some(networks.of_cluster(id)).filter(|network| !network.is_empty());
                (id.clone(), ClusterState { network, ..ClusterState::default() })
            })
            .collect();
        for gateway in networks.gateways() {
            if let Some(state) = states.get_mut(&gateway.cluster) {
                state.gateways.push(gateway.clone());
            }
        }
        for cell in &self.services {
            for shard in &cell.load().shards {
                if let Some(state) = states.get_mut(&shard.cluster) {
                    state.shards.insert(cell.key().clone(), Arc::clone(shard));
                }
            }
        }
        for entry in &self.workloads {
            if let Some(state) = states.get_mut(&entry.key().cluster) {
                state.workloads.insert(entry.key().clone(), Arc::clone(entry.value()));
            }
        }
        states
    }

    /// Grows with every change that the writer of a cluster published.
    pub fn revision(&self, cluster: &ClusterId) -> u64 {
        self.revisions.get(cluster).map_or(0, |revision| revision.load(Ordering::Acquire))
    }

    /// The cell of a service.
    pub fn service(&self, key: &ServiceKey) -> Option<Arc<ServiceCell>> {
        self.services.get(key).map(|cell| Arc::clone(&cell))
    }

    /// The cells that carry a host name, by namespace. At most one for Kubernetes Services.
    pub fn host(&self, hostname: &str) -> Vec<Arc<ServiceCell>> {
        let keys = self.hosts.get(hostname).map(|keys| keys.clone()).unwrap_or_default();
        keys.iter().filter_map(|key| self.service(key)).collect()
    }

    /// Every cell, by key; tombstones included. Looks at every service: for initial lists and operators only.
    pub fn services(&self) -> Vec<Arc<ServiceCell>> {
        let mut cells: Vec<_> = self.services.iter().map(|entry| Arc::clone(entry.value())).collect();
        cells.sort_by(|a, b| a.key().cmp(b.key()));
        cells
    }

    /// What is known of a pod.
    pub fn workload(&self, id: &WorkloadId) -> Option<Arc<Workload>> {
        self.workloads.get(id).map(|workload| Arc::clone(&workload))
    }

    /// How many pods are known.
    pub fn workload_count(&self) -> usize {
        self.workloads.len()
    }

    /// The networks. Lock-free.
    pub fn networks(&self) -> Arc<NetworkSnapshot> {
        self.networks.load_full()
    }

    /// What the endpoints of each cluster are worth. Lock-free.
    pub fn standings(&self) -> Arc<StandingSnapshot> {
        self.standings.load_full()
    }

    /// How many endpoints a cluster has here. Looks at every service: for exchanges of a whole cluster only.
    pub fn endpoints_of(&self, cluster: &ClusterId) -> usize {
        let of =
            |cell: &Arc<ServiceCell>| cell.load().shard(cluster).map_or(0, |shard| shard.endpoints.len());
        self.services.iter().map(|entry| of(entry.value())).sum()
    }

    /// The change signal. It has one reader.
    pub fn changes(&self) -> &ChangeLog {
        &self.changes
    }

    /// The table of clusters.
    pub fn clusters(&self) -> &ClusterTable {
        &self.clusters
    }

    /// Work done so far.
    pub fn counts(&self) -> &RegistryCounts {
        &self.counts
    }

    fn next_version(&self) -> u64 {
        self.versions.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn count(&self, published: bool) {
        let counter = if published { &self.counts.publishes } else { &self.counts.unchanged };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn release_writer(&self, cluster: &ClusterId) {
        self.writers.remove(cluster);
    }

    pub(super) fn note(&self, changes: ChangeSet) {
        self.changes.note(changes);
    }

    /// Writes one cluster's shard and says what changed; the caller notes it.
    pub(super) fn write_service(
        &self,
        key: &ServiceKey,
        cluster: &ClusterId,
        shard: Option<&Arc<EndpointShard>>,
    ) -> ChangeSet {
        let config = self.config_cluster.load_full();
        let cell = match shard {
            Some(_) => self.cell(key),
            None => match self.service(key) {
                Some(cell) => cell,
                None => return ChangeSet::default(),
            },
        };
        let written = cell.write(cluster, shard, config.as_deref(), || self.next_version());
        self.count(written != Written::Nothing);
        let gone = cell.load().shards.is_empty();
        drop(cell);
        if gone {
            self.bury(key);
        }
        match written {
            Written::Nothing => ChangeSet::default(),
            Written::Endpoints => ChangeSet::service(key.clone(), ServiceChange { record: false }),
            Written::Record => ChangeSet::service(key.clone(), ServiceChange { record: true }),
        }
    }

    fn cell(&self, key: &ServiceKey) -> Arc<ServiceCell> {
        let cell = {
            let entry =
                self.services.entry(key.clone()).or_insert_with(|| Arc::new(ServiceCell::new(key.clone())));
            Arc::clone(&entry)
        };
        self.hosts.entry(key.hostname.clone()).or_default().insert(key.clone());
        cell
    }

    /// Forgets tombstones that nobody holds: a cell keeps its identity while anybody does.
    fn bury(&self, key: &ServiceKey) {
        let mut tombstones = self.tombstones.lock().unwrap_or_else(PoisonError::into_inner);
        tombstones.insert(key.clone());
        tombstones.retain(|key| {
            let unused =
                |cell: &Arc<ServiceCell>| Arc::strong_count(cell) == 1 && cell.load().shards.is_empty();
            let removed = self.services.remove_if(key, |_, cell| unused(cell)).is_some();
            if removed {
                self.hosts.alter(&key.hostname, |_, mut keys| {
                    keys.remove(key);
                    keys
                });
                self.hosts.remove_if(&key.hostname, |_, keys| keys.is_empty());
                // Another cluster may have made the cell again meanwhile and entered its name before us.
                if self.services.contains_key(key) {
                    self.hosts.entry(key.hostname.clone()).or_default().insert(key.clone());
                }
            }
            let revived = self.service(key).is_some_and(|cell| !cell.load().shards.is_empty());
            !removed && !revived
        });
    }

    pub(super) fn write_workload(&self, id: WorkloadId, workload: Option<Arc<Workload>>) -> ChangeSet {
        let old = match workload.clone() {
            Some(workload) => self.workloads.insert(id.clone(), workload),
            None => self.workloads.remove(&id).map(|(_, old)| old),
        };
        let changed = old != workload;
        self.count(changed);
        let mut changes = ChangeSet::default();
        if changed {
            changes.workloads.insert(id);
        }
        changes
    }

    /// Says whether it differs; the caller notes the services that are touched.
    pub(super) fn write_standing(&self, cluster: &ClusterId, standing: Standing) -> bool {
        let mut changed = false;
        self.standings.rcu(|current| match current.with(cluster, standing, || self.next_version()) {
            Some(next) => {
                changed = true;
                Arc::new(next)
            }
            None => {
                changed = false;
                Arc::clone(current)
            }
        });
        self.count(changed);
        changed
    }

    pub(super) fn write_networks(
        &self,
        cluster: &ClusterId,
        network: Option<&NetworkId>,
        gateways: &[NetworkGateway],
    ) -> ChangeSet {
        let mut changed = None;
        self.networks.rcu(|current| {
            let mut next = NetworkSnapshot::clone(current);
            changed = next.replace(cluster, network, gateways, || self.next_version());
            if changed.is_some() { Arc::new(next) } else { Arc::clone(current) }
        });
        self.count(changed.is_some());
        let mut changes = ChangeSet::default();
        if let Some(difference) = changed {
            changes.networks.extend(difference.networks);
            changes.clusters.extend(difference.moved.then(|| cluster.clone()));
        }
        changes
    }
}
