//! The table of clusters: what operators and the start gate look at.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

use crate::model::{ClusterId, ClusterRole, ClusterStatus};

/// Status of every configured cluster. Written by their watchers on state changes, read by operators, the
/// start gate and the removal rule (D27); never on the path of an endpoint event.
#[derive(Debug)]
pub struct ClusterTable {
    rows: Mutex<BTreeMap<ClusterId, ClusterStatus>>,
    changed: watch::Sender<u64>,
}

impl Default for ClusterTable {
    fn default() -> Self {
        Self { rows: Mutex::default(), changed: watch::Sender::new(0) }
    }
}

impl ClusterTable {
    /// Every cluster, the config cluster first, then by id.
    pub fn all(&self) -> Vec<ClusterStatus> {
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = rows.values().cloned().collect();
        all.sort_by_key(|status| (status.role != ClusterRole::Config, status.id.clone()));
        all
    }

    /// One cluster.
    pub fn get(&self, id: &ClusterId) -> Option<ClusterStatus> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// Looks at one row without a copy.
    pub fn look<T>(&self, id: &ClusterId, look: impl FnOnce(&ClusterStatus) -> T) -> Option<T> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).get(id).map(look)
    }

    /// Adds or replaces a row.
    pub fn put(&self, status: ClusterStatus) {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).insert(status.id.clone(), status);
        self.touch();
    }

    /// Changes a row if it is there.
    pub fn update(&self, id: &ClusterId, change: impl FnOnce(&mut ClusterStatus)) {
        if let Some(status) = self.rows.lock().unwrap_or_else(PoisonError::into_inner).get_mut(id) {
            change(status);
        }
        self.touch();
    }

    /// Removes a row.
    pub fn remove(&self, id: &ClusterId) {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        self.touch();
    }

    /// Wakes on every change of the table; the value only counts.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Whether every configured cluster has synced at least once since the start (D27).
    pub fn all_synced(&self) -> bool {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).values().all(|status| status.synced)
    }

    /// Whether the start waits for no cluster (R1.18): see [`ClusterStatus::gate_open`].
    pub fn gate_open(&self) -> bool {
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        rows.values().all(ClusterStatus::gate_open)
    }

    fn touch(&self) {
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
    }
}
