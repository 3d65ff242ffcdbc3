//! The index of cells.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption};
use dashmap::{DashMap, DashSet};
use hashbrown::DefaultHashBuilder;
use tokio::sync::watch;

use super::cell::{Outcome, Rank, ServiceCell, Written};
use super::changes::{ChangeLog, ChangeSet, ServiceChange};
use super::clusters::ClusterTable;
use super::networks::{NetworkClaim, NetworkDifference, NetworkSnapshot};
use super::policies::{PolicyBook, PolicySnapshot, PolicyWrite};
use super::standing::StandingSnapshot;
use super::workloads::WorkloadTable;
use super::writer::{ClusterState, ClusterWriter, DuplicateWriter};
use crate::model::policy::{MeshConfig, PolicyKind, PolicyPart};
use crate::model::{
    ClusterId, ClusterRole, EndpointShard, GatewayHost, Hostname, Name, NetworkGateway, Quirk, Quirks,
    ServiceKey, Standing, WorkloadCell, WorkloadId,
};

/// Work done by the registry since it was made. Counted, not timed, so that tests can bound it.
#[derive(Debug, Default)]
pub struct RegistryCounts {
    /// Snapshots published (services, workloads and networks).
    pub publishes: AtomicU64,
    /// Writes that changed nothing and published nothing.
    pub unchanged: AtomicU64,
    /// Services about whose ports the clusters disagree now (D7).
    pub conflicts: AtomicU64,
    /// Services that any cluster has now.
    pub services: AtomicU64,
}

/// R5.25: the config cluster, then the others by id, or under Q21 in the order in which they came.
struct Order {
    config: Option<Arc<ClusterId>>,
    arrivals: Arc<Vec<ClusterId>>,
}

impl Rank for Order {
    type Place = (bool, usize, ClusterId);

    fn place(&self, cluster: &ClusterId) -> Self::Place {
        let arrival = self.arrivals.iter().position(|other| other == cluster).unwrap_or_default();
        (self.config.as_deref() != Some(cluster), arrival, cluster.clone())
    }
}

/// The store. Cheap to share; every method may be called from any thread.
#[derive(Debug, Default)]
pub struct Registry {
    services: DashMap<ServiceKey, Arc<ServiceCell>, DefaultHashBuilder>,
    /// Host name → keys. Kubernetes gives one namespace per host name.
    hosts: DashMap<Hostname, Vec<ServiceKey>, DefaultHashBuilder>,
    /// By cluster; a table stays with its writer and goes when the cluster withdraws.
    workloads: DashMap<ClusterId, Arc<WorkloadTable>>,
    networks: ArcSwap<NetworkSnapshot>,
    standings: ArcSwap<StandingSnapshot>,
    policies: ArcSwap<PolicySnapshot>,
    /// Held while policies are written.
    policy_book: Mutex<PolicyBook>,
    /// Clusters that went and left their gateways (Q2).
    departed: Mutex<BTreeSet<ClusterId>>,
    /// Wakes the resolver when other host names are to be resolved.
    hosts_changed: watch::Sender<()>,
    writers: DashSet<ClusterId>,
    /// How often each cluster changed.
    revisions: DashMap<ClusterId, Arc<AtomicU64>>,
    config_cluster: ArcSwapOption<ClusterId>,
    /// Clusters in the order in which they came; kept under Q21 only.
    arrivals: ArcSwap<Vec<ClusterId>>,
    quirks: Quirks,
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

    /// An empty registry that answers as the peer does in the given rows (D1).
    pub fn with_quirks(quirks: Quirks) -> Arc<Self> {
        Arc::new(Self { quirks, ..Self::default() })
    }

    /// Where it answers as the peer does.
    pub fn quirks(&self) -> Quirks {
        self.quirks
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
        if self.quirks.has(Quirk::Q21) {
            self.arrivals.rcu(|all| {
                let known = all.contains(&cluster);
                let new = (!known).then(|| cluster.clone());
                all.iter().cloned().chain(new).collect::<Vec<_>>()
            });
        }
        let left_behind = self.services_of(&cluster);
        let workloads = Arc::clone(&self.workloads.entry(cluster.clone()).or_default());
        let revision = Arc::clone(&self.revisions.entry(cluster.clone()).or_default());
        Ok(ClusterWriter::new(Arc::clone(self), cluster, left_behind, workloads, revision))
    }

    /// Services that a former writer of this cluster left behind: the next one must be able to sweep them.
    fn services_of(&self, cluster: &ClusterId) -> BTreeSet<ServiceKey> {
        let told = self.services.iter().filter(|cell| cell.load().shard(cluster).is_some());
        told.map(|cell| cell.key().clone()).collect()
    }

    /// What each of these clusters tells now, in one pass over all services: for snapshots. What is written
    /// meanwhile may be in it or not.
    pub fn states(&self, of: &BTreeSet<ClusterId>) -> BTreeMap<ClusterId, ClusterState> {
        let networks = self.networks();
        let mut states: BTreeMap<_, _> = of
            .iter()
            .map(|id| {
                let table = self.workloads.get(id).map(|table| Arc::clone(&table));
                let workloads = table.map(|table| table.all()).unwrap_or_default();
                let networks = networks.told_by(id);
                (id.clone(), ClusterState { networks, workloads, ..ClusterState::default() })
            })
            .collect();
        for cell in &self.services {
            for shard in &cell.load().shards {
                if let Some(state) = states.get_mut(&shard.cluster) {
                    state.shards.insert(cell.key().clone(), Arc::clone(shard));
                }
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
    pub fn workload(&self, id: &WorkloadId) -> Option<WorkloadCell> {
        let table = self.workloads.get(&id.cluster).map(|table| Arc::clone(&table))?;
        table.get(&id.namespace, &id.name)
    }

    /// Shows every pod, those of one cluster after another. For operators only; no lock is held while one is shown.
    pub fn each_workload(&self, mut visit: impl FnMut(&WorkloadCell)) {
        let tables: Vec<_> = self.workloads.iter().map(|table| Arc::clone(&table)).collect();
        tables.iter().for_each(|table| table.each(&mut visit));
    }

    /// How many pods are known.
    pub fn workload_count(&self) -> usize {
        self.workloads.iter().map(|table| table.len()).sum()
    }

    /// Whether pods of a cluster are known, in one namespace if one is named. Cost ∝ its pods at most.
    pub fn has_workloads(&self, cluster: &ClusterId, namespace: Option<&Name>) -> bool {
        let table = self.workloads.get(cluster).map(|table| Arc::clone(&table));
        table.is_some_and(|table| table.any_in(namespace))
    }

    /// The networks. Lock-free.
    pub fn networks(&self) -> Arc<NetworkSnapshot> {
        self.networks.load_full()
    }

    /// What the endpoints of each cluster are worth. Lock-free.
    pub fn standings(&self) -> Arc<StandingSnapshot> {
        self.standings.load_full()
    }

    /// The policies. Lock-free.
    pub fn policies(&self) -> Arc<PolicySnapshot> {
        self.policies.load_full()
    }

    /// Writes policy objects, all at once; equal ones change nothing. Cost ∝ the objects in their scopes.
    pub fn write_policies(&self, writes: impl IntoIterator<Item = PolicyWrite>) {
        let mut book = self.policy_book.lock().unwrap_or_else(PoisonError::into_inner);
        let (next, parts) = book.write(&self.policies.load(), writes, || self.next_version());
        self.publish_policies((!parts.is_empty()).then_some(next), parts);
    }

    /// Replaces the mesh-wide document; an equal one changes nothing.
    pub fn write_mesh_config(&self, mesh: MeshConfig) {
        let _alone = self.policy_book.lock().unwrap_or_else(PoisonError::into_inner);
        let next = PolicyBook::mesh(&self.policies.load(), mesh, || self.next_version());
        self.publish_policies(
            next,
            vec![PolicyPart { kind: PolicyKind::MeshConfig, scope: Name::default() }],
        );
    }

    /// Publishes, then notes; the caller is alone.
    fn publish_policies(&self, next: Option<PolicySnapshot>, parts: Vec<PolicyPart>) {
        self.count(next.is_some());
        if let Some(next) = next {
            self.policies.store(Arc::new(next));
            self.note(ChangeSet { policies: parts.into_iter().collect(), ..ChangeSet::default() });
        }
    }

    /// How many endpoints of Services a cluster has here: those of slices without a Service serve nobody. Looks at
    /// every service: for exchanges of a whole cluster only.
    pub fn endpoints_of(&self, cluster: &ClusterId) -> usize {
        let of = |cell: &Arc<ServiceCell>| cell.load().shard(cluster).map_or(0, |shard| shard.of_service());
        self.services.iter().map(|entry| of(entry.value())).sum()
    }

    /// Whether other clusters see endpoints of a cluster (R4.38). May look at every service, as above.
    pub fn is_seen_elsewhere(&self, cluster: &ClusterId) -> bool {
        let seen = |cell: &Arc<ServiceCell>| {
            cell.load().shard(cluster).is_some_and(|shard| shard.is_seen_elsewhere())
        };
        self.services.iter().any(|entry| seen(entry.value()))
    }

    /// Whether a cluster tells of services of ServiceEntries. Cost ∝ services.
    pub fn has_entries(&self, cluster: &ClusterId) -> bool {
        let of_entry =
            |cell: &Arc<ServiceCell>| cell.load().shard(cluster).is_some_and(|shard| shard.is_of_entry());
        self.services.iter().any(|entry| of_entry(entry.value()))
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

    pub(super) fn count(&self, published: bool) {
        let counter = if published { &self.counts.publishes } else { &self.counts.unchanged };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Frees a cluster's seat. The table of a cluster without pods goes with its writer.
    pub(super) fn release_writer(&self, cluster: &ClusterId) {
        self.workloads.remove_if(cluster, |_, table| table.len() == 0);
        self.writers.remove(cluster);
    }

    pub(super) fn note(&self, changes: ChangeSet) {
        self.changes.note(changes);
    }

    /// Writes one cluster's shard and adds what changed to `changes`; the caller notes it.
    pub(super) fn write_service(
        &self,
        key: &ServiceKey,
        cluster: &ClusterId,
        shard: Option<&Arc<EndpointShard>>,
        changes: &mut ChangeSet,
    ) -> Written {
        let cell = match (shard, self.service(key)) {
            (_, Some(cell)) => cell,
            (Some(_), None) => self.cell(key),
            (None, None) => return Written::Nothing,
        };
        let order = Order { config: self.config_cluster.load_full(), arrivals: self.arrivals.load_full() };
        let Outcome { written, conflicting, present } =
            cell.write(cluster, shard, &order, self.quirks, || self.next_version());
        self.count(written != Written::Nothing);
        for (gauge, change) in [(&self.counts.conflicts, conflicting), (&self.counts.services, present)] {
            match change {
                (false, true) => gauge.fetch_add(1, Ordering::Relaxed),
                (true, false) => gauge.fetch_sub(1, Ordering::Relaxed),
                _ => 0,
            };
        }
        let gone = cell.load().shards.is_empty();
        drop(cell);
        if gone {
            self.bury(key);
        }
        match written {
            Written::Nothing | Written::Unseen => {}
            Written::Hidden { record } => changes.add_hidden(key, ServiceChange { record }),
            Written::Endpoints => changes.add_service(key, ServiceChange { record: false }),
            Written::Record => changes.add_service(key, ServiceChange { record: true }),
        }
        written
    }

    fn cell(&self, key: &ServiceKey) -> Arc<ServiceCell> {
        let cell = {
            let entry =
                self.services.entry(key.clone()).or_insert_with(|| Arc::new(ServiceCell::new(key.clone())));
            Arc::clone(&entry)
        };
        self.enter_host(key);
        cell
    }

    fn enter_host(&self, key: &ServiceKey) {
        let mut keys = self.hosts.entry(key.hostname.clone()).or_insert_with(|| Vec::with_capacity(1));
        if let Err(at) = keys.binary_search(key) {
            keys.insert(at, key.clone());
        }
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
                    keys.retain(|other| other != key);
                    keys
                });
                self.hosts.remove_if(&key.hostname, |_, keys| keys.is_empty());
                // Another cluster may have made the cell again meanwhile and entered its name before us.
                if self.services.contains_key(key) {
                    self.enter_host(key);
                }
            }
            let revived = self.service(key).is_some_and(|cell| !cell.load().shards.is_empty());
            !removed && !revived
        });
    }

    /// Static gateways, which belong to no cluster (R3.13), instead of those told before. One caller at a time.
    pub fn set_static_gateways(&self, gateways: Vec<NetworkGateway>, hosts: Vec<GatewayHost>) {
        let claim = NetworkClaim { network: None, gateways, hosts };
        let mut changes = ChangeSet::default();
        self.write_networks(&ClusterId::default(), claim, &mut changes);
        self.note(changes);
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

    /// Wakes when [`NetworkSnapshot::host_names`] may differ.
    pub fn host_names_changed(&self) -> watch::Receiver<()> {
        self.hosts_changed.subscribe()
    }

    /// The addresses that a gateway's host name has now. The resolver calls this; equal addresses and names
    /// that nobody has change nothing.
    pub fn set_host_addresses(&self, host: &Hostname, addresses: &[IpAddr]) {
        let (changes, _) = self.change_networks(|networks| {
            networks.resolved(host, addresses, self.quirks, || self.next_version())
        });
        self.note(changes);
    }

    /// Z-10: gateways are of the cluster that tells of them, whatever they say.
    pub(super) fn write_networks(
        &self,
        cluster: &ClusterId,
        mut claim: NetworkClaim,
        changes: &mut ChangeSet,
    ) {
        claim.gateways.iter_mut().for_each(|gateway| gateway.cluster.clone_from(cluster));
        claim.hosts.iter_mut().for_each(|gateway| gateway.cluster.clone_from(cluster));
        self.departed().remove(cluster);
        let changed = self.replace_networks(cluster, &claim, changes);
        let departed = if changed { std::mem::take(&mut *self.departed()) } else { BTreeSet::new() };
        for gone in departed {
            self.replace_networks(&gone, &NetworkClaim::default(), changes);
        }
    }

    /// A cluster goes with its networks and gateways; under Q2 those stay until somebody tells of others.
    pub(super) fn withdraw_networks(&self, cluster: &ClusterId, changes: &mut ChangeSet) {
        if self.quirks.has(Quirk::Q2) {
            self.departed().insert(cluster.clone());
        } else {
            self.write_networks(cluster, NetworkClaim::default(), changes);
        }
    }

    fn departed(&self) -> MutexGuard<'_, BTreeSet<ClusterId>> {
        self.departed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says whether anything differs.
    fn replace_networks(&self, cluster: &ClusterId, claim: &NetworkClaim, changes: &mut ChangeSet) -> bool {
        let replace = |networks: &mut NetworkSnapshot| {
            networks.replace(cluster, claim, self.quirks, || self.next_version())
        };
        let (changed, moved) = self.change_networks(replace);
        let differs = moved || !changed.is_empty();
        changes.merge(changed);
        changes.clusters.extend(moved.then(|| cluster.clone()));
        differs
    }

    /// What changed, and whether the writing cluster moved to another network.
    fn change_networks(
        &self,
        change: impl Fn(&mut NetworkSnapshot) -> Option<NetworkDifference>,
    ) -> (ChangeSet, bool) {
        let mut changed = None;
        self.networks.rcu(|current| {
            let mut next = NetworkSnapshot::clone(current);
            changed = change(&mut next);
            if changed.is_some() { Arc::new(next) } else { Arc::clone(current) }
        });
        self.count(changed.is_some());
        let difference = changed.unwrap_or_default();
        if difference.hosts {
            self.hosts_changed.send_replace(());
        }
        let networks = difference.networks.into_iter().collect();
        (ChangeSet { networks, ..ChangeSet::default() }, difference.moved)
    }
}
