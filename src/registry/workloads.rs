//! The pods of one cluster.

use std::collections::HashSet;
use std::hash::BuildHasher;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use hashbrown::{DefaultHashBuilder, HashTable};

use crate::model::{ClusterId, Name, WorkloadCell, WorkloadId};

/// Locks of one table. Readers are proxies that connect; the one writer holds a lock for one pod at a time.
const SHARDS: usize = 16;

/// Pods by namespace and name, which are read from the pods themselves: an entry is two pointers.
#[derive(Debug, Default)]
pub(super) struct WorkloadTable {
    hasher: DefaultHashBuilder,
    shards: [RwLock<HashTable<WorkloadCell>>; SHARDS],
}

impl WorkloadTable {
    pub(super) fn get(&self, namespace: &str, name: &str) -> Option<WorkloadCell> {
        let hash = self.hash(namespace, name);
        self.read(hash).find(hash, |cell| is(cell, namespace, name)).cloned()
    }

    /// Sets one pod; says whether it differs from what was there.
    pub(super) fn set(&self, cell: WorkloadCell) -> bool {
        let hash = self.hash(&cell.namespace, &cell.name);
        let mut shard = self.write(hash);
        match shard.find_mut(hash, |known| is(known, &cell.namespace, &cell.name)) {
            Some(known) => {
                let differs = *known != cell;
                *known = cell;
                differs
            }
            None => {
                shard.insert_unique(hash, cell, |known| self.hash(&known.namespace, &known.name));
                true
            }
        }
    }

    /// Removes one pod; says whether it was there.
    pub(super) fn remove(&self, namespace: &str, name: &str) -> bool {
        let hash = self.hash(namespace, name);
        let mut shard = self.write(hash);
        let Ok(entry) = shard.find_entry(hash, |cell| is(cell, namespace, name)) else {
            return false;
        };
        entry.remove();
        if shard.len() < shard.capacity() / 4 {
            shard.shrink_to_fit(|known| self.hash(&known.namespace, &known.name));
        }
        true
    }

    /// Every pod, by namespace and name.
    pub(super) fn all(&self) -> Vec<WorkloadCell> {
        let mut all = Vec::with_capacity(self.len());
        for shard in &self.shards {
            all.extend(shard.read().unwrap_or_else(PoisonError::into_inner).iter().cloned());
        }
        all.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        all
    }

    /// Shows every pod, in no order.
    pub(super) fn each(&self, mut visit: impl FnMut(&WorkloadCell)) {
        for shard in &self.shards {
            let pods: Vec<_> = shard.read().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect();
            pods.iter().for_each(&mut visit);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().unwrap_or_else(PoisonError::into_inner).len()).sum()
    }

    /// Whether there is a pod, of this namespace if one is named. Cost ∝ the table at most.
    pub(super) fn any_in(&self, namespace: Option<&Name>) -> bool {
        let within = |cell: &WorkloadCell| namespace.is_none_or(|namespace| cell.namespace == *namespace);
        self.shards
            .iter()
            .any(|shard| shard.read().unwrap_or_else(PoisonError::into_inner).iter().any(within))
    }

    /// The pods that are not among `there`. Cost ∝ the table, and nothing when there are as many.
    pub(super) fn missing(&self, there: &[WorkloadCell], cluster: &ClusterId) -> Vec<WorkloadId> {
        if there.len() == self.len() {
            return Vec::new();
        }
        let there: HashSet<(&Name, &Name)> = there.iter().map(|cell| (&cell.namespace, &cell.name)).collect();
        let mut missing = Vec::new();
        for shard in &self.shards {
            let shard = shard.read().unwrap_or_else(PoisonError::into_inner);
            let gone = shard.iter().filter(|cell| !there.contains(&(&cell.namespace, &cell.name)));
            missing.extend(gone.map(|cell| WorkloadId {
                cluster: cluster.clone(),
                namespace: cell.namespace.clone(),
                name: cell.name.clone(),
            }));
        }
        missing
    }

    fn hash(&self, namespace: &str, name: &str) -> u64 {
        self.hasher.hash_one((namespace, name))
    }

    fn read(&self, hash: u64) -> RwLockReadGuard<'_, HashTable<WorkloadCell>> {
        self.shard(hash).read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, hash: u64) -> RwLockWriteGuard<'_, HashTable<WorkloadCell>> {
        self.shard(hash).write().unwrap_or_else(PoisonError::into_inner)
    }

    /// By bits that the tables themselves use for nothing else.
    fn shard(&self, hash: u64) -> &RwLock<HashTable<WorkloadCell>> {
        &self.shards[(hash >> 40) as usize % SHARDS]
    }
}

fn is(cell: &WorkloadCell, namespace: &str, name: &str) -> bool {
    *cell.name == *name && *cell.namespace == *namespace
}
