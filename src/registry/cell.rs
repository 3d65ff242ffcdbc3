//! One service over all clusters.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::merge;
use crate::model::{ClusterId, EndpointShard, Service, ServiceKey};

/// A consistent view of one service: the merged record and every cluster's shard.
#[derive(Debug, PartialEq)]
pub struct ServiceSnapshot {
    /// Process-wide version of this snapshot; 0 only for a cell that was never written.
    pub version: u64,
    /// Version at which the merged record last changed: Envoy clusters, listeners and routes depend on the
    /// record only, assignments on the whole snapshot.
    pub record_version: u64,
    /// The merged record (D7, D11); `None` when no cluster has the Service: a versioned tombstone (D13).
    pub service: Option<Arc<Service>>,
    /// Shards, config cluster first, then by cluster id (R5.25, Q21).
    pub shards: Box<[Arc<EndpointShard>]>,
}

impl ServiceSnapshot {
    fn absent() -> Self {
        Self { version: 0, record_version: 0, service: None, shards: Box::default() }
    }

    /// The shard of one cluster.
    pub fn shard(&self, cluster: &ClusterId) -> Option<&Arc<EndpointShard>> {
        self.shards.iter().find(|shard| shard.cluster == *cluster)
    }
}

/// The place of one service: a pointer to its current snapshot, with an identity that stays as long as
/// anybody holds it.
#[derive(Debug)]
pub struct ServiceCell {
    key: ServiceKey,
    snapshot: ArcSwap<ServiceSnapshot>,
}

/// What a write did to a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// Nothing differs: no version was used.
    Nothing,
    /// Endpoints differ, the merged record does not.
    Endpoints,
    /// The merged record differs.
    Record,
}

impl ServiceCell {
    pub(super) fn new(key: ServiceKey) -> Self {
        Self { key, snapshot: ArcSwap::from_pointee(ServiceSnapshot::absent()) }
    }

    /// Which service this is.
    pub fn key(&self) -> &ServiceKey {
        &self.key
    }

    /// The current snapshot. Lock-free; never older than what a caller was woken for.
    pub fn load(&self) -> Arc<ServiceSnapshot> {
        self.snapshot.load_full()
    }

    /// Replaces (or, with `None`, removes) the shard of one cluster. `next_version` is asked at most once per
    /// attempt and only when something differs.
    pub(super) fn write(
        &self,
        cluster: &ClusterId,
        shard: Option<&Arc<EndpointShard>>,
        config_cluster: Option<&ClusterId>,
        next_version: impl Fn() -> u64,
    ) -> Written {
        let mut written = Written::Nothing;
        self.snapshot.rcu(|current| {
            written = Written::Nothing;
            if current.shard(cluster) == shard {
                return Arc::clone(current);
            }
            let others = current.shards.iter().filter(|other| other.cluster != *cluster).cloned();
            let mut shards: Vec<_> = others.chain(shard.cloned()).collect();
            shards.sort_by_key(|shard| (Some(&shard.cluster) != config_cluster, shard.cluster.clone()));
            let merged = merge::record(&self.key, &shards);
            let version = next_version();
            let same_record = merged.as_ref() == current.service.as_deref();
            written = if same_record { Written::Endpoints } else { Written::Record };
            Arc::new(ServiceSnapshot {
                version,
                record_version: if same_record { current.record_version } else { version },
                service: if same_record { current.service.clone() } else { merged.map(Arc::new) },
                shards: shards.into(),
            })
        });
        written
    }
}
