//! The one writer of a cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::cell::Written;
use super::changes::{ChangeSet, ServiceChange};
use super::networks::NetworkClaim;
use super::store::Registry;
use super::workloads::WorkloadTable;
use crate::model::{
    ClusterId, EndpointShard, NetworkGateway, NetworkId, ServiceKey, Standing, WorkloadCell, WorkloadId,
};

/// *Fatal* for the second writer: a cluster has one writer at a time.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("cluster {cluster} already has a writer; withdraw the first one before making another")]
pub struct DuplicateWriter {
    /// The cluster.
    pub cluster: ClusterId,
}

/// Everything a cluster tells at one moment: what it appears with, and what a relist replaces.
#[derive(Clone, Debug, Default)]
pub struct ClusterState {
    /// Where the cluster belongs, and its gateways.
    pub networks: NetworkClaim,
    /// Its share of every service.
    pub shards: BTreeMap<ServiceKey, Arc<EndpointShard>>,
    /// Its pods, in any order, each once.
    pub workloads: Vec<WorkloadCell>,
}

impl PartialEq for ClusterState {
    /// Whatever the order of the pods.
    fn eq(&self, other: &Self) -> bool {
        let sorted = |state: &Self| {
            let mut cells = state.workloads.clone();
            cells.sort_by_cached_key(|cell| cell.id());
            cells
        };
        self.networks == other.networks && self.shards == other.shards && sorted(self) == sorted(other)
    }
}

/// Writes one cluster's share of the registry. Not `Clone`: whoever owns it is the cluster (contract 2).
///
/// Every method publishes first and notes the keys afterwards; writing what is already there is free of
/// versions, notifications and pushes, but for an update that once more has no endpoints (R6.1). Dropping a writer without [`withdraw`](Self::withdraw) leaves the data
/// in place (an outage never pushes emptiness) and frees the writer's seat.
#[derive(Debug)]
pub struct ClusterWriter {
    registry: Arc<Registry>,
    cluster: ClusterId,
    /// The services to which this writer, or one before it, contributes: the sweep of a relist and the
    /// withdrawal go by it.
    services: BTreeSet<ServiceKey>,
    /// The registry's table of this cluster's pods.
    workloads: Arc<WorkloadTable>,
    /// How often the cluster changed.
    revision: Arc<AtomicU64>,
}

/// Whether an update without endpoints is told even when there were none before (R6.1): one that a cluster
/// sends is, one that only repeats everything is not.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Again {
    IsTold,
    IsNothing,
}

impl ClusterWriter {
    pub(super) fn new(
        registry: Arc<Registry>,
        cluster: ClusterId,
        services: BTreeSet<ServiceKey>,
        workloads: Arc<WorkloadTable>,
        revision: Arc<AtomicU64>,
    ) -> Self {
        Self { registry, cluster, services, workloads, revision }
    }

    /// The cluster this writer speaks for.
    pub fn cluster(&self) -> &ClusterId {
        &self.cluster
    }

    /// The registry it writes to.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// Replaces everything this cluster tells by `state`, in one note: its networks before its cells (D15),
    /// what vanished last. Used when a cluster appears and after a relist; cost ∝ size of `state`.
    pub fn replace(&mut self, state: ClusterState) {
        let mut changes = ChangeSet::default();
        self.networks(state.networks.clone(), &mut changes);
        changes.workloads.reserve(state.workloads.len().saturating_sub(self.workloads.len()));
        for cell in &state.workloads {
            self.workload(cell.id(), Some(cell.clone()), &mut changes);
        }
        for (key, shard) in &state.shards {
            self.shard(key, Some(Arc::clone(shard)), Again::IsNothing, &mut changes);
        }
        let vanished = self.services.iter().filter(|key| !state.shards.contains_key(*key));
        for key in vanished.cloned().collect::<Vec<_>>() {
            self.shard(&key, None, Again::IsNothing, &mut changes);
        }
        for id in self.workloads.missing(&state.workloads, &self.cluster) {
            self.workload(id, None, &mut changes);
        }
        self.note(changes);
    }

    /// Publishes a batch of shards and pods that belong together and notes them at once. `None` removes.
    /// Cost ∝ the batch.
    pub fn apply(
        &mut self,
        workloads: impl IntoIterator<Item = (WorkloadId, Option<WorkloadCell>)>,
        shards: impl IntoIterator<Item = (ServiceKey, Option<Arc<EndpointShard>>)>,
    ) {
        self.publish(None, workloads, shards);
    }

    /// The same, with what the cluster tells of networks if that differs too: first, and in the same note (D15,
    /// K-47).
    pub fn publish(
        &mut self,
        networks: Option<NetworkClaim>,
        workloads: impl IntoIterator<Item = (WorkloadId, Option<WorkloadCell>)>,
        shards: impl IntoIterator<Item = (ServiceKey, Option<Arc<EndpointShard>>)>,
    ) {
        self.publish_since(None, networks, workloads, shards);
    }

    /// The same, of what was first heard at `since`; without, it counts as heard now.
    pub fn publish_since(
        &mut self,
        since: Option<Instant>,
        networks: Option<NetworkClaim>,
        workloads: impl IntoIterator<Item = (WorkloadId, Option<WorkloadCell>)>,
        shards: impl IntoIterator<Item = (ServiceKey, Option<Arc<EndpointShard>>)>,
    ) {
        let mut changes = ChangeSet { since, ..ChangeSet::default() };
        if let Some(claim) = networks {
            self.networks(claim, &mut changes);
        }
        for (id, workload) in workloads {
            self.workload(id, workload, &mut changes);
        }
        for (key, shard) in shards {
            self.shard(&key, shard, Again::IsTold, &mut changes);
        }
        self.note(changes);
    }

    /// Publishes one shard.
    pub fn set(&mut self, key: ServiceKey, shard: EndpointShard) {
        self.apply([], [(key, Some(Arc::new(shard)))]);
    }

    /// Removes one shard.
    pub fn remove(&mut self, key: &ServiceKey) {
        self.apply([], [(key.clone(), None)]);
    }

    /// Publishes where the cluster belongs and its gateways, none of them known by host name.
    pub fn set_networks(&mut self, network: Option<NetworkId>, gateways: Vec<NetworkGateway>) {
        self.claim_networks(NetworkClaim { network, gateways, hosts: Vec::new() });
    }

    /// Publishes where the cluster belongs and its gateways.
    pub fn claim_networks(&mut self, claim: NetworkClaim) {
        let mut changes = ChangeSet::default();
        self.networks(claim, &mut changes);
        self.note(changes);
    }

    /// Publishes what the endpoints of this cluster are worth; says whether it differs. Cost ∝ its services when
    /// it does, else a look.
    pub fn set_standing(&mut self, standing: Standing) -> bool {
        if self.registry.standings().part(&self.cluster).standing == standing {
            return false;
        }
        self.registry.write_standing(&self.cluster, standing);
        let touched = self.services.iter().map(|key| (key.clone(), ServiceChange::default()));
        self.registry.note(ChangeSet { services: touched.collect(), ..ChangeSet::default() });
        true
    }

    /// Takes everything of this cluster back in one pass and one note: its cells before its networks (D15).
    pub fn withdraw(mut self) {
        let mut changes = ChangeSet::default();
        for key in self.services.iter().cloned().collect::<Vec<_>>() {
            self.shard(&key, None, Again::IsNothing, &mut changes);
        }
        for id in self.workloads.missing(&[], &self.cluster) {
            self.workload(id, None, &mut changes);
        }
        self.registry.withdraw_networks(&self.cluster, &mut changes);
        // Nothing is served any more that it could count for.
        self.registry.write_standing(&self.cluster, Standing::Regular);
        self.note(changes);
    }

    /// Tells of what was published.
    fn note(&self, changes: ChangeSet) {
        // Changes that nobody is woken for count too.
        self.revision.fetch_add(1, Ordering::Release);
        self.registry.note(changes);
    }

    /// Publishes one shard. An empty share of a service that nobody told of makes no service (R6.1): it is only
    /// remembered.
    fn shard(
        &mut self,
        key: &ServiceKey,
        shard: Option<Arc<EndpointShard>>,
        again: Again,
        changes: &mut ChangeSet,
    ) {
        let without_endpoints = shard.as_ref().is_some_and(|shard| shard.endpoints.is_empty());
        let empty = without_endpoints && shard.as_ref().is_some_and(|shard| shard.service.is_none());
        if empty && self.registry.service(key).is_none() {
            if self.services.insert(key.clone()) || again == Again::IsTold {
                changes.add_service(key, ServiceChange { record: false });
            }
            return;
        }
        let written = self.registry.write_service(key, &self.cluster, shard.as_ref(), changes);
        if written == Written::Nothing && without_endpoints && again == Again::IsTold {
            changes.add_service(key, ServiceChange { record: false });
        }
        match shard {
            Some(_) if self.services.contains(key) => {}
            Some(_) => _ = self.services.insert(key.clone()),
            None => _ = self.services.remove(key),
        }
    }

    fn workload(&mut self, id: WorkloadId, workload: Option<WorkloadCell>, changes: &mut ChangeSet) {
        debug_assert!(id.cluster == self.cluster && workload.as_ref().is_none_or(|cell| cell.id() == id));
        let changed = match workload {
            Some(cell) => self.workloads.set(cell),
            None => self.workloads.remove(&id.namespace, &id.name),
        };
        self.registry.count(changed);
        if changed {
            changes.workloads.insert(id);
        }
    }

    fn networks(&mut self, claim: NetworkClaim, changes: &mut ChangeSet) {
        self.registry.write_networks(&self.cluster, claim, changes);
    }
}

impl Drop for ClusterWriter {
    fn drop(&mut self) {
        self.registry.release_writer(&self.cluster);
    }
}
