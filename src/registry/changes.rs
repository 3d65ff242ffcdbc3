//! The change signal: keys of what was published, never values.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use hashbrown::HashSet;
use tokio::sync::Notify;

use crate::model::policy::PolicyPart;
use crate::model::{ClusterId, NetworkId, ServiceKey, WorkloadId};

/// What about a service changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServiceChange {
    /// The merged record: Envoy clusters, listeners and routes may differ.
    pub record: bool,
}

/// Keys that were published since somebody last looked. Merging is commutative, associative and idempotent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangeSet {
    /// Services.
    pub services: HashMap<ServiceKey, ServiceChange>,
    /// Services that nobody may see, before and after (R5.18): of interest only to what reads them nevertheless.
    pub hidden: HashMap<ServiceKey, ServiceChange>,
    /// Networks whose gateways changed.
    pub networks: HashSet<NetworkId>,
    /// Pods.
    pub workloads: HashSet<WorkloadId>,
    /// Clusters that now belong to another network: views of proxies that do not name theirs may differ (Q13).
    pub clusters: HashSet<ClusterId>,
    /// Parts of the policies.
    pub policies: HashSet<PolicyPart>,
    /// When the first of these arrived at a watch, or was noted where that is not known; `None` when there is none.
    pub since: Option<Instant>,
}

impl ChangeSet {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.services.is_empty()
            && self.hidden.is_empty()
            && self.networks.is_empty()
            && self.workloads.is_empty()
            && self.clusters.is_empty()
            && self.policies.is_empty()
    }

    /// Adds one service.
    pub(super) fn add_service(&mut self, key: &ServiceKey, change: ServiceChange) {
        self.services.entry(key.clone()).or_default().record |= change.record;
    }

    /// Adds one service that nobody may see.
    pub(super) fn add_hidden(&mut self, key: &ServiceKey, change: ServiceChange) {
        self.hidden.entry(key.clone()).or_default().record |= change.record;
    }

    /// Adds everything in `other`; the earlier `since` stays.
    pub fn merge(&mut self, other: Self) {
        if self.is_empty() && self.since.is_none() {
            *self = other;
            return;
        }
        for (key, change) in other.services {
            self.services.entry(key).or_default().record |= change.record;
        }
        for (key, change) in other.hidden {
            self.hidden.entry(key).or_default().record |= change.record;
        }
        self.networks.extend(other.networks);
        self.workloads.extend(other.workloads);
        self.clusters.extend(other.clusters);
        self.policies.extend(other.policies);
        self.since = match (self.since, other.since) {
            (Some(ours), Some(theirs)) => Some(ours.min(theirs)),
            (ours, theirs) => ours.or(theirs),
        };
    }
}

/// Collects changes until the one reader takes them. Bounded by the number of keys; nothing is ever lost.
///
/// The lock is held for a merge of keys only, never while anything is published or built.
#[derive(Debug, Default)]
pub struct ChangeLog {
    pending: Mutex<ChangeSet>,
    notes: AtomicU64,
    wake: Notify,
}

impl ChangeLog {
    /// Notes changes that are already published.
    pub(super) fn note(&self, mut changes: ChangeSet) {
        // Before anybody can take it: who was told of a change finds another number.
        self.notes.fetch_add(1, Ordering::AcqRel);
        if changes.is_empty() {
            return;
        }
        changes.since.get_or_insert_with(Instant::now);
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).merge(changes);
        self.wake.notify_one();
    }

    /// How many changes were noted so far. While it is the same, what was looked up since it was first read is as good as
    /// looked up again: of what was published but not yet noted nobody was told.
    pub fn notes(&self) -> u64 {
        self.notes.load(Ordering::Acquire)
    }

    /// Takes what is pending now, perhaps nothing.
    pub fn take(&self) -> ChangeSet {
        std::mem::take(&mut *self.pending.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until something is pending and takes it. One reader at a time; cancelling loses nothing.
    pub async fn next(&self) -> ChangeSet {
        loop {
            let changes = self.take();
            if !changes.is_empty() {
                return changes;
            }
            self.wake.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn change_sets() -> impl Strategy<Value = ChangeSet> {
        let services = prop::collection::hash_map(0..4u8, any::<bool>(), 0..4);
        let networks = prop::collection::hash_set(0..3u8, 0..3);
        (services, networks).prop_map(|(services, networks)| ChangeSet {
            services: services
                .into_iter()
                .map(|(n, record)| (ServiceKey::new("ns", format!("s{n}")), ServiceChange { record }))
                .collect(),
            networks: networks.into_iter().map(|n| NetworkId::from(format!("n{n}"))).collect(),
            ..ChangeSet::default()
        })
    }

    fn merged(mut a: ChangeSet, b: &ChangeSet) -> ChangeSet {
        a.merge(b.clone());
        a
    }

    proptest! {
        #[test]
        fn merging_is_commutative_associative_and_idempotent(
            a in change_sets(), b in change_sets(), c in change_sets()
        ) {
            prop_assert_eq!(merged(a.clone(), &b), merged(b.clone(), &a));
            prop_assert_eq!(merged(merged(a.clone(), &b), &c), merged(a.clone(), &merged(b, &c)));
            prop_assert_eq!(merged(a.clone(), &a), a);
        }
    }

    #[tokio::test]
    async fn a_change_noted_before_the_wait_is_not_missed() {
        let log = ChangeLog::default();
        log.note(ChangeSet { networks: HashSet::from(["n1".into()]), ..ChangeSet::default() });
        assert!(log.next().await.networks.contains("n1"));
        assert!(log.take().is_empty());
    }
}
