//! ServiceEntries of the config cluster that select Pods and WorkloadEntries, for every other cluster (R5.37).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::objects::{ObjectKey, ServiceEntryObject};
use crate::model::Name;

/// How long a cluster that has been listed waits for the entries of the config cluster; then it is served without
/// them until they come.
pub(in crate::ingest) const PATIENCE: Duration = Duration::from_secs(5);

/// Entries of one namespace, by name.
type Named = BTreeMap<Name, Arc<ServiceEntryObject>>;

/// ServiceEntries with a selector. A change copies the entries of one namespace, a comparison passes over the
/// namespaces that are shared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SelectingEntries(BTreeMap<Name, Arc<Named>>);

impl SelectingEntries {
    /// Sets or removes an entry; one without a selector is none.
    pub fn set(&mut self, key: &ObjectKey, entry: Option<&Arc<ServiceEntryObject>>) {
        let entry = entry.filter(|entry| entry.selector.is_some());
        if entry.is_none() && !self.0.contains_key(&key.namespace) {
            return;
        }
        let named = Arc::make_mut(self.0.entry(key.namespace.clone()).or_default());
        match entry {
            Some(entry) => _ = named.insert(key.name.clone(), Arc::clone(entry)),
            None => _ = named.remove(&key.name),
        }
        if named.is_empty() {
            self.0.remove(&key.namespace);
        }
    }

    /// What has to be set to come here from `old`.
    pub fn changes_from(&self, old: &Self) -> Vec<(ObjectKey, Option<Arc<ServiceEntryObject>>)> {
        let namespaces: BTreeSet<_> = self.0.keys().chain(old.0.keys()).collect();
        let mut changes = Vec::new();
        for namespace in namespaces {
            let (is, was) = (self.0.get(namespace), old.0.get(namespace));
            if is.zip(was).is_some_and(|(is, was)| Arc::ptr_eq(is, was)) {
                continue;
            }
            let names = |named: Option<&Arc<Named>>| {
                named.into_iter().flat_map(|named| named.keys()).cloned().collect::<BTreeSet<Name>>()
            };
            for name in &names(is) | &names(was) {
                let entry = is.and_then(|named| named.get(&name));
                if entry != was.and_then(|named| named.get(&name)) {
                    changes.push((ObjectKey::new(namespace, name), entry.cloned()));
                }
            }
        }
        changes
    }
}

/// The entries as they are now; `None` until they are known for the first time.
pub(in crate::ingest) type EntryFeed = watch::Receiver<Option<Arc<SelectingEntries>>>;

/// Where the config cluster's generation says which there are.
#[derive(Clone, Debug)]
pub(in crate::ingest) struct EntryBoard(Arc<watch::Sender<Option<Arc<SelectingEntries>>>>);

impl EntryBoard {
    /// For a set of clusters, with or without a config cluster that will say it.
    pub(in crate::ingest) fn new(has_config: bool) -> Self {
        Self(Arc::new(watch::Sender::new((!has_config).then(Arc::default))))
    }

    pub(in crate::ingest) fn feed(&self) -> EntryFeed {
        self.0.subscribe()
    }

    /// Tells everybody, if it differs.
    pub(in crate::ingest) fn publish(&self, entries: Arc<SelectingEntries>) {
        self.0.send_if_modified(|current| {
            let differs = current.as_ref() != Some(&entries);
            if differs {
                *current = Some(entries);
            }
            differs
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(created: i64) -> Arc<ServiceEntryObject> {
        let selector = Some([("app", "x")].into());
        Arc::new(ServiceEntryObject { created, selector, ..ServiceEntryObject::default() })
    }

    #[test]
    fn changes_are_what_differs_and_namespaces_that_are_shared_are_passed_over() {
        let (a, b, c) = (ObjectKey::new("n", "a"), ObjectKey::new("n", "b"), ObjectKey::new("m", "c"));
        let mut old = SelectingEntries::default();
        for key in [&a, &b, &c] {
            old.set(key, Some(&entry(1)));
        }
        let mut new = old.clone();
        assert_eq!(new.changes_from(&old), []);
        new.set(&a, Some(&entry(2)));
        new.set(&b, None);
        assert!(Arc::ptr_eq(&new.0["m"], &old.0["m"]));
        assert_eq!(new.changes_from(&old), [(a.clone(), Some(entry(2))), (b.clone(), None)]);
        assert_eq!(old.changes_from(&new), [(a, Some(entry(1))), (b, Some(entry(1)))]);
        new.set(&c, Some(&Arc::default()));
        assert!(!new.0.contains_key("m"), "one without a selector selects nothing");
    }
}
