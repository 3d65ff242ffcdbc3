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
    /// Whether every cluster has synced. Receivers are told when that becomes true, and of nothing else.
    synced: watch::Sender<bool>,
}

impl Default for ClusterTable {
    fn default() -> Self {
        // Of no cluster, none is missing.
        Self { rows: Mutex::default(), changed: watch::Sender::new(0), synced: watch::Sender::new(true) }
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
        self.change(|rows| {
            let differs = rows.get(&status.id) != Some(&status);
            rows.insert(status.id.clone(), status);
            differs
        });
    }

    /// Changes a row if it is there. What leaves it as it was is no change.
    pub fn update(&self, id: &ClusterId, change: impl FnOnce(&mut ClusterStatus)) {
        self.change(|rows| {
            let Some(status) = rows.get_mut(id) else {
                return false;
            };
            let before = status.clone();
            change(status);
            *status != before
        });
    }

    /// Removes a row.
    pub fn remove(&self, id: &ClusterId) {
        self.change(|rows| rows.remove(id).is_some());
    }

    /// Wakes on every change of a row; the value only counts. Ages and counters of live clusters are changes:
    /// for the few who follow the table itself.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Whether every configured cluster has synced at least once since the start (D27).
    pub fn all_synced(&self) -> bool {
        *self.synced.borrow()
    }

    /// Wakes when the last cluster that was missing has synced, or is gone: removals that were withheld may go
    /// (D27). Nothing else that happens to clusters wakes whoever holds this.
    pub fn watch_all_synced(&self) -> watch::Receiver<bool> {
        self.synced.subscribe()
    }

    /// Whether the start waits for no cluster (R1.18): see [`ClusterStatus::gate_open`].
    pub fn gate_open(&self) -> bool {
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        rows.values().all(ClusterStatus::gate_open)
    }

    /// Changes the table by `change`, which says whether anything differs.
    fn change(&self, change: impl FnOnce(&mut BTreeMap<ClusterId, ClusterStatus>) -> bool) {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        if !change(&mut rows) {
            return;
        }
        let all = rows.values().all(|status| status.synced);
        // While the lock is held, so that the last word is of the latest table.
        self.synced.send_if_modified(|before| !std::mem::replace(before, all) && all);
        drop(rows);
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ClusterHealth, Moment};

    fn row(id: &str) -> ClusterStatus {
        ClusterStatus::new(id.into(), ClusterRole::Remote, "test")
    }

    #[test]
    fn only_what_differs_is_a_change() {
        let table = ClusterTable::default();
        let mut changed = table.watch();
        let mut wakes = || {
            let woken = changed.has_changed().unwrap();
            changed.mark_unchanged();
            woken
        };
        table.put(row("a"));
        assert!(wakes());
        let same = table.get(&"a".into()).unwrap();
        table.put(same);
        table.update(&"a".into(), |row| row.pending_pods = 0);
        table.update(&"b".into(), |row| row.pending_pods = 7);
        table.remove(&"b".into());
        assert!(!wakes());
        table.update(&"a".into(), |row| row.pending_pods = 7);
        assert!(wakes());
        table.remove(&"a".into());
        assert!(wakes());
    }

    #[test]
    fn d27_the_last_cluster_that_was_missing_wakes_and_nothing_else_does() {
        let table = ClusterTable::default();
        let mut synced = table.watch_all_synced();
        let mut wakes = || {
            let woken = synced.has_changed().unwrap();
            synced.mark_unchanged();
            woken
        };
        assert!(table.all_synced(), "of none, none is missing");
        ["a", "b", "c"].into_iter().for_each(|id| table.put(row(id)));
        assert!(!table.all_synced() && !wakes());
        table.update(&"a".into(), |row| row.synced = true);
        table.update(&"b".into(), |row| row.synced = true);
        assert!(!table.all_synced() && !wakes());
        table.remove(&"c".into());
        assert!(table.all_synced() && wakes(), "the missing one is gone");
        for pods in 0..10 {
            table.update(&"a".into(), |row| {
                row.set_health(ClusterHealth::Live, Moment::now());
                row.pending_pods = pods;
            });
        }
        assert!(!wakes(), "health and numbers are nobody's business");
        table.put(row("d"));
        assert!(!table.all_synced() && !wakes(), "one that came later has to sync too");
        table.update(&"d".into(), |row| row.synced = true);
        assert!(table.all_synced() && wakes());
    }
}
