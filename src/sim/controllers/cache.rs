//! What a controller knows of one kind: the watch's objects, and its own writes until the watch shows them.
//!
//! A controller that reads only its watch would create a pod twice when it looks again before the first one
//! has come round. Results of own writes are therefore recorded here as well. Versions decide: a version the
//! watch has passed is never brought back, and an older event never hides a newer write.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use kube::Resource;
use kube::runtime::watcher::Event;
use tokio::sync::watch;

/// Namespace and name of an object; the namespace of a cluster-scoped one is empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key {
    pub(super) namespace: String,
    pub(super) name: String,
}

impl Key {
    pub(super) fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    pub(super) fn of<K: Resource>(object: &K) -> Self {
        let metadata = object.meta();
        Self::new(metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// One object before and after an event of the watch.
#[derive(Debug)]
pub(super) struct Change<K> {
    pub(super) old: Option<Arc<K>>,
    pub(super) new: Option<Arc<K>>,
}

/// The objects of one kind.
#[derive(Debug)]
pub(super) struct Cache<K> {
    inner: Mutex<Inner<K>>,
    synced: watch::Sender<bool>,
}

#[derive(Debug)]
struct Inner<K> {
    objects: BTreeMap<Key, Arc<K>>,
    /// The list being received, and what was written meanwhile.
    listing: Option<Listing<K>>,
    /// The highest version the watch has shown.
    seen: u64,
}

#[derive(Debug)]
struct Listing<K> {
    objects: BTreeMap<Key, Arc<K>>,
    written: BTreeMap<Key, Arc<K>>,
}

impl<K: Resource> Cache<K> {
    pub(super) fn new() -> Self {
        let inner = Inner { objects: BTreeMap::new(), listing: None, seen: 0 };
        Self { inner: Mutex::new(inner), synced: watch::Sender::new(false) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner<K>> {
        self.inner.lock().expect("no code panics while it holds the cache")
    }

    /// Takes an event of the watch. The objects it concerns are returned; a completed list concerns all of
    /// them, before and now.
    pub(super) fn apply(&self, event: Event<K>) -> Vec<Change<K>> {
        let done = matches!(event, Event::InitDone);
        let changes = self.inner().apply(event);
        if done {
            self.synced.send_replace(true);
        }
        changes
    }

    /// Records the answer to an own write.
    pub(super) fn record(&self, object: K) {
        let mut inner = self.inner();
        let (key, version, object) = (Key::of(&object), version(&object), Arc::new(object));
        if let Some(listing) = &mut inner.listing {
            listing.written.insert(key.clone(), Arc::clone(&object));
        }
        if version > inner.seen {
            inner.objects.insert(key, object);
        }
    }

    /// Forgets an object that the server says is not there.
    pub(super) fn forget(&self, key: &Key) {
        let mut inner = self.inner();
        inner.objects.remove(key);
        if let Some(listing) = &mut inner.listing {
            listing.written.remove(key);
        }
    }

    pub(super) fn get(&self, key: &Key) -> Option<Arc<K>> {
        self.inner().objects.get(key).cloned()
    }

    /// Every object, in order of namespace and name.
    pub(super) fn all(&self) -> Vec<Arc<K>> {
        self.inner().objects.values().cloned().collect()
    }

    /// The objects of a namespace that `wanted` accepts, in order of name.
    pub(super) fn in_namespace(&self, namespace: &str, wanted: impl Fn(&K) -> bool) -> Vec<Arc<K>> {
        let inner = self.inner();
        let from = inner.objects.range(Key::new(namespace, "")..);
        let there = from.take_while(|(key, _)| key.namespace == namespace);
        there.map(|(_, object)| object).filter(|object| wanted(object)).cloned().collect()
    }

    /// Waits for the first complete list.
    pub(super) async fn synced(&self) {
        let mut synced = self.synced.subscribe();
        // The sender lives as long as `self`, which is borrowed.
        let _ = synced.wait_for(|synced| *synced).await;
    }

    pub(super) fn is_synced(&self) -> bool {
        *self.synced.borrow()
    }
}

impl<K: Resource> Inner<K> {
    fn apply(&mut self, event: Event<K>) -> Vec<Change<K>> {
        match event {
            Event::Init => {
                self.listing = Some(Listing { objects: BTreeMap::new(), written: BTreeMap::new() });
                Vec::new()
            }
            Event::InitApply(object) => {
                if let Some(listing) = &mut self.listing {
                    listing.objects.insert(Key::of(&object), Arc::new(object));
                }
                Vec::new()
            }
            Event::InitDone => self.listing.take().map(|listing| self.replace(listing)).unwrap_or_default(),
            Event::Apply(object) => self.put(object).into_iter().collect(),
            Event::Delete(object) => self.remove(&object).into_iter().collect(),
        }
    }

    /// A completed list replaces everything, except what was written after it began and is newer.
    fn replace(&mut self, listing: Listing<K>) -> Vec<Change<K>> {
        let mut objects = listing.objects;
        self.seen = objects.values().map(|object| version(object.as_ref())).max().unwrap_or(0);
        for (key, written) in listing.written {
            if objects.get(&key).is_none_or(|listed| version(listed.as_ref()) < version(written.as_ref())) {
                objects.insert(key, written);
            }
        }
        let mut before = std::mem::replace(&mut self.objects, objects);
        let keys: BTreeSet<Key> = before.keys().chain(self.objects.keys()).cloned().collect();
        keys.into_iter()
            .map(|key| Change { old: before.remove(&key), new: self.objects.get(&key).cloned() })
            .collect()
    }

    fn put(&mut self, object: K) -> Option<Change<K>> {
        let (key, new) = (Key::of(&object), version(&object));
        self.seen = self.seen.max(new);
        let held = self.objects.get(&key);
        if held.is_some_and(|held| version(held.as_ref()) > new) {
            return None;
        }
        let object = Arc::new(object);
        let old = self.objects.insert(key, Arc::clone(&object));
        Some(Change { old, new: Some(object) })
    }

    fn remove(&mut self, object: &K) -> Option<Change<K>> {
        let (key, gone) = (Key::of(object), version(object));
        self.seen = self.seen.max(gone);
        if self.objects.get(&key).is_some_and(|held| version(held.as_ref()) > gone) {
            return None;
        }
        let old = self.objects.remove(&key);
        Some(Change { old, new: None })
    }
}

/// The version as a number; 0 when it is none, so that such objects always give way.
fn version<K: Resource>(object: &K) -> u64 {
    object.meta().resource_version.as_deref().and_then(|text| text.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use kube::api::ObjectMeta;

    use super::*;

    fn pod(name: &str, version: u64) -> Pod {
        let metadata = ObjectMeta {
            namespace: Some("n".into()),
            name: Some(name.into()),
            resource_version: Some(version.to_string()),
            ..ObjectMeta::default()
        };
        Pod { metadata, ..Pod::default() }
    }

    fn holds(cache: &Cache<Pod>) -> Vec<String> {
        let told = |pod: Arc<Pod>| {
            let metadata = &pod.metadata;
            format!("{}@{}", metadata.name.as_deref().unwrap(), metadata.resource_version.as_deref().unwrap())
        };
        cache.all().into_iter().map(told).collect()
    }

    fn listed(pods: impl IntoIterator<Item = Pod>) -> Cache<Pod> {
        let cache = Cache::new();
        cache.apply(Event::Init);
        for pod in pods {
            cache.apply(Event::InitApply(pod));
        }
        cache.apply(Event::InitDone);
        cache
    }

    #[test]
    fn an_own_write_is_held_at_once_and_older_events_do_not_hide_it() {
        let cache = listed([pod("a", 1)]);
        cache.record(pod("a", 5));
        assert!(cache.apply(Event::Apply(pod("a", 3))).is_empty());
        assert_eq!(holds(&cache), ["a@5"]);
        assert_eq!(cache.apply(Event::Apply(pod("a", 6))).len(), 1);
        assert_eq!(holds(&cache), ["a@6"]);
    }

    #[test]
    fn a_write_the_watch_has_passed_is_not_brought_back() {
        let cache = listed([]);
        cache.apply(Event::Apply(pod("a", 5)));
        cache.apply(Event::Delete(pod("a", 6)));
        cache.record(pod("a", 5));
        assert!(holds(&cache).is_empty());
    }

    #[test]
    fn the_deletion_of_a_predecessor_leaves_what_was_written_after_it() {
        let cache = listed([pod("a", 1)]);
        cache.record(pod("a", 9));
        assert!(cache.apply(Event::Delete(pod("a", 8))).is_empty());
        assert_eq!(holds(&cache), ["a@9"]);
    }

    #[test]
    fn a_list_replaces_everything_but_newer_writes_made_while_it_ran() {
        let cache = listed([pod("gone", 1), pod("kept", 2)]);
        cache.apply(Event::Init);
        cache.record(pod("kept", 7));
        cache.record(pod("new", 8));
        cache.apply(Event::InitApply(pod("kept", 2)));
        let changes = cache.apply(Event::InitDone);
        assert_eq!(holds(&cache), ["kept@7", "new@8"]);
        assert!(changes.iter().any(|change| change.new.is_none()), "the vanished one is told of");
    }

    #[test]
    fn a_list_of_a_server_that_begins_anew_counts_from_its_versions() {
        let cache = listed([pod("a", 1000)]);
        cache.apply(Event::Init);
        cache.apply(Event::InitApply(pod("a", 2)));
        cache.apply(Event::InitDone);
        cache.record(pod("b", 3));
        assert_eq!(holds(&cache), ["a@2", "b@3"]);
    }
}
