//! The objects of one kind with their bounded history; consistent reads of the recent past.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use serde_json::Value;
use tokio::sync::watch;

use super::object::{Change, ObjectKey, Stored};

/// One change of one object.
#[derive(Debug, Clone)]
pub(super) struct Event {
    pub(super) version: u64,
    pub(super) change: Change,
    /// The object after the change; for a deletion its last state under the version of the deletion.
    pub(super) object: Arc<Stored>,
    /// The object before the change.
    pub(super) previous: Option<Arc<Stored>>,
}

/// All objects of one kind.
#[derive(Debug)]
pub(super) struct Collection {
    objects: BTreeMap<ObjectKey, Arc<Stored>>,
    history: VecDeque<Event>,
    history_limit: usize,
    /// Events up to and including this version may be missing from `history`.
    floor: u64,
    /// Carries the version of the newest event to the watchers of this kind.
    signal: watch::Sender<u64>,
    /// The kind is gone: nothing is added any more, and watches end once they have read everything.
    retired: bool,
}

/// The history does not reach back to the version asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooOld {
    /// The oldest version that can still be read or watched from.
    pub(super) oldest: u64,
}

impl Collection {
    /// An empty collection that knows nothing of what happened up to `floor`.
    pub(super) fn new(history_limit: usize, floor: u64) -> Self {
        Self {
            objects: BTreeMap::new(),
            history: VecDeque::new(),
            history_limit,
            floor,
            signal: watch::Sender::new(0),
            retired: false,
        }
    }

    /// Ends the kind: its watches read what there is, then end.
    pub(super) fn retire(&mut self, version: u64) {
        self.retired = true;
        self.signal.send_replace(version);
    }

    pub(super) fn is_retired(&self) -> bool {
        self.retired
    }

    pub(super) fn get(&self, key: &ObjectKey) -> Option<&Arc<Stored>> {
        self.objects.get(key)
    }

    pub(super) fn len(&self) -> usize {
        self.objects.len()
    }

    /// A receiver that is woken after every event of this kind.
    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.signal.subscribe()
    }

    /// Stores `value` under `key` as `version` and tells the watchers.
    pub(super) fn put(&mut self, key: &ObjectKey, value: &Value, version: u64) -> Arc<Stored> {
        let change = if self.objects.contains_key(key) { Change::Modified } else { Change::Added };
        let object = Stored::new(value, version, change);
        let previous = self.objects.insert(object.key.clone(), Arc::clone(&object));
        self.record(Event { version, change, object: Arc::clone(&object), previous });
        object
    }

    /// Removes `key`; `last` is the object's final state, already under `version`.
    pub(super) fn remove(&mut self, key: &ObjectKey, last: &Value, version: u64) -> Option<Arc<Stored>> {
        let previous = self.objects.remove(key)?;
        let object = Stored::new(last, version, Change::Deleted);
        self.record(Event {
            version,
            change: Change::Deleted,
            object: Arc::clone(&object),
            previous: Some(previous),
        });
        Some(object)
    }

    fn record(&mut self, event: Event) {
        let version = event.version;
        self.history.push_back(event);
        while self.history.len() > self.history_limit {
            if let Some(lost) = self.history.pop_front() {
                self.floor = lost.version;
            }
        }
        self.signal.send_replace(version);
    }

    /// Forgets every event up to `version`.
    pub(super) fn compact(&mut self, version: u64) {
        self.history.clear();
        self.floor = self.floor.max(version);
        // Watchers that had not read the lost events must notice.
        self.signal.send_replace(version);
    }

    /// Forgets every event; versions go on from `version`, which may be lower than before.
    pub(super) fn restart(&mut self, version: u64) {
        self.history.clear();
        self.floor = version;
        self.signal.send_replace(version);
    }

    /// Up to `max` events after `version`, oldest first. Cost: those events.
    pub(super) fn events_after(&self, version: u64, max: usize) -> Result<Vec<Event>, TooOld> {
        if version < self.floor {
            return Err(TooOld { oldest: self.floor });
        }
        let from = self.history.partition_point(|event| event.version <= version);
        Ok(self.history.iter().skip(from).take(max).cloned().collect())
    }

    /// Visits the objects as they were at `version`, in key order, after `after`, within `namespace` if
    /// given, until `visit` returns `false`. Cost: the objects visited and the events since `version`.
    pub(super) fn scan_at(
        &self,
        version: u64,
        namespace: Option<&str>,
        after: Option<&ObjectKey>,
        mut visit: impl FnMut(&ObjectKey, &Arc<Stored>) -> bool,
    ) -> Result<(), TooOld> {
        if version < self.floor {
            return Err(TooOld { oldest: self.floor });
        }
        let undo = self.undo_since(version);
        let start = ObjectKey::new(namespace.unwrap_or_default(), "");
        let start = match after {
            Some(key) => Bound::Excluded(key),
            None => Bound::Included(&start),
        };
        let inside = |key: &ObjectKey| namespace.is_none_or(|wanted| *key.namespace == *wanted);
        let range = (start, Bound::Unbounded);
        let mut kept = self.objects.range(range).filter(|(key, _)| !undo.contains_key(*key)).peekable();
        let mut undone = undo.range(range).filter_map(|(key, old)| Some((key, old.as_ref()?))).peekable();
        loop {
            let next = match (kept.peek(), undone.peek()) {
                (Some((a, _)), Some((b, _))) if a < b => kept.next(),
                (_, Some(_)) => undone.next(),
                _ => kept.next(),
            };
            match next {
                Some((key, stored)) if inside(key) => {
                    if !visit(key, stored) {
                        return Ok(());
                    }
                }
                _ => return Ok(()),
            }
        }
    }

    /// For every object changed after `version`: what it was at `version`.
    fn undo_since(&self, version: u64) -> BTreeMap<ObjectKey, Option<Arc<Stored>>> {
        let mut undo = BTreeMap::new();
        let from = self.history.partition_point(|event| event.version <= version);
        for event in self.history.iter().skip(from) {
            undo.entry(event.object.key.clone()).or_insert_with(|| event.previous.clone());
        }
        undo
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn put(collection: &mut Collection, name: &str, version: u64) {
        let value = json!({"metadata": {"namespace": "n", "name": name}, "v": version});
        collection.put(&ObjectKey::new("n", name), &value, version);
    }

    fn remove(collection: &mut Collection, name: &str, version: u64) {
        let value = json!({"metadata": {"namespace": "n", "name": name}});
        collection.remove(&ObjectKey::new("n", name), &value, version).unwrap();
    }

    fn at(collection: &Collection, version: u64, after: Option<&str>) -> Result<Vec<(String, u64)>, TooOld> {
        let mut seen = Vec::new();
        let after = after.map(|name| ObjectKey::new("n", name));
        collection.scan_at(version, Some("n"), after.as_ref(), |key, stored| {
            seen.push((key.name.to_string(), stored.version));
            true
        })?;
        Ok(seen)
    }

    #[test]
    fn the_past_is_read_exactly() {
        let mut c = Collection::new(100, 0);
        put(&mut c, "a", 1);
        put(&mut c, "b", 2);
        put(&mut c, "c", 3);
        put(&mut c, "b", 4);
        remove(&mut c, "a", 5);
        put(&mut c, "bb", 6);
        remove(&mut c, "c", 7);
        put(&mut c, "c", 8);
        let own = |list: &[(&str, u64)]| list.iter().map(|(n, v)| ((*n).to_owned(), *v)).collect::<Vec<_>>();
        assert_eq!(at(&c, 3, None).unwrap(), own(&[("a", 1), ("b", 2), ("c", 3)]));
        assert_eq!(at(&c, 4, Some("a")).unwrap(), own(&[("b", 4), ("c", 3)]));
        assert_eq!(at(&c, 6, None).unwrap(), own(&[("b", 4), ("bb", 6), ("c", 3)]));
        assert_eq!(at(&c, 7, None).unwrap(), own(&[("b", 4), ("bb", 6)]));
        assert_eq!(at(&c, 8, None).unwrap(), own(&[("b", 4), ("bb", 6), ("c", 8)]));
    }

    #[test]
    fn what_left_the_history_is_too_old() {
        let mut c = Collection::new(2, 0);
        for version in 1..=4 {
            put(&mut c, "a", version);
        }
        assert_eq!(c.events_after(1, 10).unwrap_err(), TooOld { oldest: 2 });
        assert_eq!(c.events_after(2, 10).unwrap().len(), 2);
        assert_eq!(at(&c, 1, None).unwrap_err(), TooOld { oldest: 2 });
        c.compact(4);
        assert!(c.events_after(3, 10).is_err());
        assert!(c.events_after(4, 10).unwrap().is_empty());
    }
}
