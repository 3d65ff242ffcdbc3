//! The one writer of a cluster.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::changes::{ChangeSet, ServiceChange};
use super::store::Registry;
use crate::model::{ClusterId, EndpointShard, NetworkGateway, NetworkId, ServiceKey, Standing, Workload, WorkloadId};

/// *Fatal* for the second writer: a cluster has one writer at a time.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("cluster {cluster} already has a writer; withdraw the first one before making another")]
pub struct DuplicateWriter {
    /// The cluster.
    pub cluster: ClusterId,
}

/// Everything a cluster tells at one moment: what it appears with, and what a relist replaces.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClusterState {
    /// The network the cluster belongs to, if its system namespace says so.
    pub network: Option<NetworkId>,
    /// Its gateways.
    pub gateways: Vec<NetworkGateway>,
    /// Its share of every service.
    pub shards: BTreeMap<ServiceKey, Arc<EndpointShard>>,
    /// Its pods.
    pub workloads: BTreeMap<WorkloadId, Arc<Workload>>,
}

/// Writes one cluster's share of the registry. Not `Clone`: whoever owns it is the cluster (contract 2).
///
/// Every method publishes first and notes the keys afterwards; writing what is already there is free of
/// versions, notifications and pushes. Dropping a writer without [`withdraw`](Self::withdraw) leaves the data
/// in place (an outage never pushes emptiness) and frees the writer's seat.
#[derive(Debug)]
pub struct ClusterWriter {
    registry: Arc<Registry>,
    cluster: ClusterId,
    /// What this writer, or one before it, has published: the sweep of a relist and the withdrawal go by it.
    published: ClusterState,
    /// How often the cluster changed.
    revision: Arc<AtomicU64>,
}

impl ClusterWriter {
    pub(super) fn new(
        registry: Arc<Registry>,
        cluster: ClusterId,
        published: ClusterState,
        revision: Arc<AtomicU64>,
    ) -> Self {
        Self { registry, cluster, published, revision }
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
        let mut changes = self.networks(state.network.clone(), state.gateways.clone());
        for (id, workload) in &state.workloads {
            changes.merge(self.workload(id.clone(), Some(Arc::clone(workload))));
        }
        for (key, shard) in &state.shards {
            changes.merge(self.shard(key.clone(), Some(Arc::clone(shard))));
        }
        let vanished: Vec<_> =
            self.published.shards.keys().filter(|key| !state.shards.contains_key(*key)).cloned().collect();
        for key in vanished {
            changes.merge(self.shard(key, None));
        }
        let vanished: Vec<_> = self
            .published
            .workloads
            .keys()
            .filter(|id| !state.workloads.contains_key(*id))
            .cloned()
            .collect();
        for id in vanished {
            changes.merge(self.workload(id, None));
        }
        self.note(changes);
    }

    /// Publishes a batch of shards and pods that belong together and notes them at once. `None` removes.
    /// Cost ∝ the batch.
    pub fn apply(
        &mut self,
        workloads: impl IntoIterator<Item = (WorkloadId, Option<Arc<Workload>>)>,
        shards: impl IntoIterator<Item = (ServiceKey, Option<Arc<EndpointShard>>)>,
    ) {
        let mut changes = ChangeSet::default();
        for (id, workload) in workloads {
            changes.merge(self.workload(id, workload));
        }
        for (key, shard) in shards {
            changes.merge(self.shard(key, shard));
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

    /// Publishes where the cluster belongs and its gateways.
    pub fn set_networks(&mut self, network: Option<NetworkId>, gateways: Vec<NetworkGateway>) {
        let changes = self.networks(network, gateways);
        self.note(changes);
    }

    /// Publishes what the endpoints of this cluster are worth; says whether it differs. Cost ∝ its services when
    /// it does, else a look.
    pub fn set_standing(&mut self, standing: Standing) -> bool {
        if self.registry.standings().part(&self.cluster).standing == standing {
            return false;
        }
        self.registry.write_standing(&self.cluster, standing);
        let touched = self.published.shards.keys().map(|key| (key.clone(), ServiceChange::default()));
        self.registry.note(ChangeSet { services: touched.collect(), ..ChangeSet::default() });
        true
    }

    /// Takes everything of this cluster back in one pass and one note: its cells before its networks (D15).
    pub fn withdraw(mut self) {
        let mut changes = ChangeSet::default();
        for key in self.published.shards.keys().cloned().collect::<Vec<_>>() {
            changes.merge(self.shard(key, None));
        }
        for id in self.published.workloads.keys().cloned().collect::<Vec<_>>() {
            changes.merge(self.workload(id, None));
        }
        changes.merge(self.networks(None, Vec::new()));
        // Nothing is served any more that it could count for.
        self.registry.write_standing(&self.cluster, Standing::Regular);
        self.note(changes);
    }

    /// Tells of what was published.
    fn note(&self, changes: ChangeSet) {
        if !changes.is_empty() {
            self.revision.fetch_add(1, Ordering::Release);
        }
        self.registry.note(changes);
    }

    /// Publishes one shard; a shard that lost its endpoints keeps the accounts last seen (R6.1).
    fn shard(&mut self, key: ServiceKey, shard: Option<Arc<EndpointShard>>) -> ChangeSet {
        let shard = match (shard, self.published.shards.get(&key)) {
            (Some(new), Some(old)) if new.endpoints.is_empty() && new.accounts.is_empty() => {
                Some(Arc::new(EndpointShard { accounts: Arc::clone(&old.accounts), ..(*new).clone() }))
            }
            (new, _) => new,
        };
        let changes = self.registry.write_service(&key, &self.cluster, shard.as_ref());
        match shard {
            Some(shard) => self.published.shards.insert(key, shard),
            None => self.published.shards.remove(&key),
        };
        changes
    }

    fn workload(&mut self, id: WorkloadId, workload: Option<Arc<Workload>>) -> ChangeSet {
        let changes = self.registry.write_workload(id.clone(), workload.clone());
        match workload {
            Some(workload) => self.published.workloads.insert(id, workload),
            None => self.published.workloads.remove(&id),
        };
        changes
    }

    fn networks(&mut self, network: Option<NetworkId>, gateways: Vec<NetworkGateway>) -> ChangeSet {
        let changes = self.registry.write_networks(&self.cluster, network.as_ref(), &gateways);
        self.published.network = network;
        self.published.gateways = gateways;
        changes
    }
}

impl Drop for ClusterWriter {
    fn drop(&mut self) {
        self.registry.release_writer(&self.cluster);
    }
}
