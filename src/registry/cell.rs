//! One service over all clusters.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::{conflicts, difference, merge};
use crate::model::{ClusterId, EndpointShard, ExportTo, Quirk, Quirks, Service, ServiceKey, Set, SpiffeId};

/// A consistent view of one service: the merged record and every cluster's shard.
#[derive(Debug, Default, PartialEq)]
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
    /// Identities behind the endpoints of all clusters. A write that leaves a cluster without endpoints keeps
    /// them (R6.1): a service that goes 1 → 0 → 1 changes no Envoy cluster.
    pub accounts: Set<SpiffeId>,
    /// Whether the clusters disagree about its ports: [`super::conflicts`] says how (D7).
    pub conflicting: bool,
}

impl ServiceSnapshot {
    fn absent() -> Self {
        Self::default()
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

/// What a write did to a cell, and who has to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// Nothing differs: no version was used.
    Nothing,
    /// Published, but no proxy can see a difference (R5.19, R6.1).
    Unseen,
    /// Published of a service that nobody may see, before and now (R5.18): what reads it without asking who may, a
    /// waypoint's users and the pods behind it, sees a difference.
    Hidden {
        /// Whether the merged record differs.
        record: bool,
    },
    /// Endpoints differ, the merged record does not.
    Endpoints,
    /// The merged record differs.
    Record,
}

/// What a write to a cell comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) written: Written,
    /// Whether the clusters disagreed before, and whether they do now (D7).
    pub(super) conflicting: (bool, bool),
    /// Whether any cluster had the Service before, and whether one has it now.
    pub(super) present: (bool, bool),
}

impl Outcome {
    const NOTHING: Self =
        Self { written: Written::Nothing, conflicting: (false, false), present: (false, false) };
}

/// How the clusters stand in the merge.
pub(super) trait Rank {
    /// Lower comes first.
    type Place: Ord;
    /// The place of one cluster.
    fn place(&self, cluster: &ClusterId) -> Self::Place;
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
        rank: &impl Rank,
        quirks: Quirks,
        next_version: impl Fn() -> u64,
    ) -> Outcome {
        let mut outcome = Outcome::NOTHING;
        self.snapshot.rcu(|current| {
            let own = current.shard(cluster);
            if own == shard {
                outcome = Outcome::NOTHING;
                return Arc::clone(current);
            }
            let others = current.shards.iter().filter(|other| other.cluster != *cluster).cloned();
            let mut shards: Vec<_> = others.chain(shard.cloned()).collect();
            shards.sort_by_key(|shard| rank.place(&shard.cluster));
            let accounts = accounts(current, &shards, shard, quirks);
            let record = |shard: Option<&Arc<EndpointShard>>| shard.and_then(|shard| shard.service.clone());
            // Most writes differ in endpoints only: nothing of the other clusters' records is looked at.
            let of_endpoints = own.is_some()
                && shard.is_some()
                && record(own) == record(shard)
                && accounts == current.accounts;
            let merged = match of_endpoints {
                true => None,
                false => Some(merge::record(&self.key, &shards, &accounts, quirks)),
            };
            let version = next_version();
            let same_record = merged.as_ref().is_none_or(|new| new.as_ref() == current.service.as_deref());
            let next = ServiceSnapshot {
                version,
                record_version: if same_record { current.record_version } else { version },
                service: if same_record { current.service.clone() } else { merged.flatten().map(Arc::new) },
                conflicting: if of_endpoints { current.conflicting } else { conflicts::any(&shards) },
                shards: shards.into(),
                accounts,
            };
            outcome = Outcome {
                written: match same_record {
                    true if !difference::is_seen(own.map(AsRef::as_ref), shard.map(AsRef::as_ref)) => {
                        Written::Unseen
                    }
                    _ if is_hidden(current) && is_hidden(&next) => Written::Hidden { record: !same_record },
                    false => Written::Record,
                    true => Written::Endpoints,
                },
                conflicting: (current.conflicting, next.conflicting),
                present: (current.service.is_some(), next.service.is_some()),
            };
            Arc::new(next)
        });
        outcome
    }
}

/// R6.1: the accounts are looked at anew by every write that has endpoints; a shard that is withdrawn takes
/// its own along at once (Q2: it leaves them).
fn accounts(
    current: &ServiceSnapshot,
    shards: &[Arc<EndpointShard>],
    written: Option<&Arc<EndpointShard>>,
    quirks: Quirks,
) -> Set<SpiffeId> {
    let kept = match written {
        Some(shard) => shard.endpoints.is_empty(),
        None => quirks.has(Quirk::Q2) && !shards.is_empty(),
    };
    if kept {
        return current.accounts.clone();
    }
    accounts_behind(shards)
}

/// The identities behind the endpoints of all shards.
pub fn accounts_behind(shards: &[Arc<EndpointShard>]) -> Set<SpiffeId> {
    Set::union(shards.iter().map(|shard| &shard.accounts))
}

/// Whether nobody may see the service (R5.18).
fn is_hidden(snapshot: &ServiceSnapshot) -> bool {
    snapshot.service.as_ref().is_some_and(|service| service.export_to == ExportTo::Nowhere)
}
