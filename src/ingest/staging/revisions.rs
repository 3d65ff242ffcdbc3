//! The revision of every object: events that are not newer than what is held change nothing (K-27, D32).

use std::collections::VecDeque;
use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashMap};

use super::held::Store;
use crate::ingest::objects::ObjectKey;
use crate::ingest::watch::{Received, SourceEvent};

/// How many deleted objects are remembered, so that a late event does not bring one back.
const REMEMBERED: usize = 1024;

/// Revisions of one kind within one watch generation. A complete list replaces them unconditionally; a
/// revision that is not a number is not compared.
#[derive(Debug, Default)]
pub(super) struct Revisions {
    hasher: DefaultHashBuilder,
    /// Of objects that have no room for theirs, or are not held.
    told: HashMap<Print, u64>,
    deleted: VecDeque<Print>,
}

/// What stands for a key: 64 bits of a keyed hash. There are as many revisions as objects, so that a key of
/// their own would be most of what they need; two objects of a million have the same one in one cluster of
/// 37 million.
type Print = u64;

impl Revisions {
    fn print(&self, key: &ObjectKey) -> Print {
        self.hasher.hash_one((&*key.namespace, &*key.name))
    }

    /// Whether an event says anything new. What is new of an object that stays is to be [noted](Self::note) once the
    /// object has been taken in; of one that goes, it is here.
    pub(super) fn admits<T>(&mut self, event: &SourceEvent<T>, store: &impl Store<T>) -> bool {
        match event {
            SourceEvent::Apply(Received { key, revision: Some(revision), .. }) => {
                self.is_newer(key, *revision, store)
            }
            SourceEvent::Delete { key, revision } => self.delete(key, *revision, store),
            _ => true,
        }
    }

    /// A list is complete: nothing that was told before it counts. Every object in it is noted after this.
    pub(super) fn begin(&mut self) {
        self.told = HashMap::new();
        self.deleted.clear();
    }

    /// Takes note of the revision of an object that is held now, or cannot be read.
    pub(super) fn note<T>(&mut self, key: &ObjectKey, revision: Option<u64>, store: &mut impl Store<T>) {
        let kept = store.set_revision(key, revision);
        match revision.filter(|_| !kept) {
            Some(revision) => _ = self.told.insert(self.print(key), revision),
            None if self.told.is_empty() => {}
            None => _ = self.told.remove(&self.print(key)),
        }
    }

    fn is_newer<T>(&self, key: &ObjectKey, revision: u64, store: &impl Store<T>) -> bool {
        let told = if self.told.is_empty() { None } else { self.told.get(&self.print(key)).copied() };
        store.revision(key).max(told) < Some(revision)
    }

    /// Remembers a deletion.
    fn delete<T>(&mut self, key: &ObjectKey, revision: Option<u64>, store: &impl Store<T>) -> bool {
        let print = self.print(key);
        let Some(revision) = revision else {
            self.told.remove(&print);
            return true;
        };
        if !self.is_newer(key, revision, store) {
            return false;
        }
        // What could remember it goes with the object.
        self.told.insert(print, revision);
        self.deleted.push_back(print);
        if self.deleted.len() > REMEMBERED
            && let Some(oldest) = self.deleted.pop_front()
            && !self.deleted.contains(&oldest)
        {
            // An object made again meanwhile is told of again sooner or later: then it is noted again.
            self.told.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::pod_table::PodTable;
    use super::*;
    use crate::ingest::convert::Pod;

    type Objects = HashMap<ObjectKey, ()>;

    fn key() -> ObjectKey {
        ObjectKey::new("a", "s")
    }

    fn apply<T>(revision: Option<u64>) -> SourceEvent<T> {
        SourceEvent::Apply(Received { key: key(), uid: "".into(), revision, object: Err(String::new()) })
    }

    fn delete<T>(revision: Option<u64>) -> SourceEvent<T> {
        SourceEvent::Delete { key: key(), revision }
    }

    /// An event that says something new is taken in.
    fn takes<T, S: Store<T>>(revisions: &mut Revisions, event: SourceEvent<T>, store: &mut S) -> bool
    where
        T: Default,
    {
        let admitted = revisions.admits(&event, store);
        match event {
            SourceEvent::Apply(Received { key, revision, .. }) if admitted => {
                store.put(&key, T::default());
                if revision.is_some() {
                    revisions.note(&key, revision, store);
                }
            }
            SourceEvent::Delete { key, .. } if admitted => _ = store.take(&key),
            _ => {}
        }
        admitted
    }

    #[test]
    fn d32_events_that_are_not_newer_change_nothing_within_a_generation() {
        let (mut revisions, mut store) = (Revisions::default(), Objects::new());
        let mut takes = |event| takes(&mut revisions, event, &mut store);
        assert!(takes(apply(Some(5))));
        assert!(!takes(apply(Some(5))) && !takes(apply(Some(4))));
        assert!(!takes(delete(Some(4))), "of an object that was made again meanwhile");
        assert!(takes(delete(Some(6))));
        assert!(!takes(apply(Some(5))), "it does not come back");
        assert!(takes(apply(Some(7))));
        assert!(takes(apply(None)), "not comparable");
        assert!(!takes(apply(Some(6))), "what is comparable stays");
    }

    #[test]
    fn d32_a_complete_list_replaces_whatever_the_revisions_say() {
        let (mut revisions, mut store) = (Revisions::default(), Objects::new());
        assert!(takes(&mut revisions, apply(Some(100)), &mut store));
        revisions.begin();
        revisions.note(&key(), Some(40), &mut store);
        assert!(!takes(&mut revisions, apply(Some(40)), &mut store));
        assert!(takes(&mut revisions, apply(Some(41)), &mut store));
    }

    #[test]
    fn deleted_objects_are_remembered_up_to_a_bound() {
        let (mut revisions, store) = (Revisions::default(), Objects::new());
        for n in 0..3 * REMEMBERED as u64 {
            let key = ObjectKey::new("a", format!("p{n}"));
            assert!(revisions.admits(&SourceEvent::Delete { key, revision: Some(n + 1) }, &store));
        }
        assert!(revisions.told.len() <= REMEMBERED && revisions.deleted.len() <= REMEMBERED);
    }

    #[test]
    fn d32_pods_have_room_for_their_revision() {
        let (mut revisions, mut pods) = (Revisions::default(), PodTable::default());
        // A list.
        pods.put(&key(), Pod::default());
        revisions.begin();
        revisions.note(&key(), Some(40), &mut pods);
        assert_eq!((pods.revision(&key()), revisions.told.len()), (Some(40), 0));
        assert!(!takes::<Pod, _>(&mut revisions, apply(Some(40)), &mut pods));
        assert!(takes(&mut revisions, apply(Some(41)), &mut pods));
        assert_eq!((pods.revision(&key()), revisions.told.len()), (Some(41), 0));
        // Gone: remembered without the pod.
        assert!(takes::<Pod, _>(&mut revisions, delete(Some(50)), &mut pods));
        let place = pods.find(&key()).expect("its place");
        pods.release(place);
        assert_eq!(pods.revision(&key()), None);
        assert!(!takes::<Pod, _>(&mut revisions, apply(Some(45)), &mut pods), "it does not come back");
        // Made again: the new pod remembers it.
        assert!(takes(&mut revisions, apply(Some(60)), &mut pods));
        assert_eq!((pods.revision(&key()), revisions.told.len()), (Some(60), 0));
        // A list that has an older one: an older history counts.
        revisions.begin();
        revisions.note(&key(), Some(2), &mut pods);
        assert!(takes(&mut revisions, apply(Some(3)), &mut pods));
    }

    #[test]
    fn d32_a_pod_that_cannot_be_read_has_its_revision_elsewhere() {
        let (mut revisions, mut pods) = (Revisions::default(), PodTable::default());
        pods.place_named("a", "s");
        revisions.note(&key(), Some(7), &mut pods);
        assert_eq!((pods.revision(&key()), revisions.told.len()), (None, 1));
        assert!(!takes::<Pod, _>(&mut revisions, apply(Some(7)), &mut pods));
        assert!(takes(&mut revisions, apply(Some(8)), &mut pods));
        assert_eq!((pods.revision(&key()), revisions.told.len()), (Some(8), 0));
    }
}
