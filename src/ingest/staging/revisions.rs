//! The revision of every object: events that are not newer than what is held change nothing (K-27, D32).

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};

use hashbrown::HashMap;

use super::held::Store;
use crate::ingest::objects::ObjectKey;
use crate::ingest::watch::{Received, SourceEvent};

/// How many deleted objects are remembered, so that a late event does not bring one back.
const REMEMBERED: usize = 1024;

/// Revisions of one kind within one watch generation. A complete list replaces them unconditionally; a
/// revision that is not a number is not compared.
#[derive(Debug, Default)]
pub(super) struct Revisions {
    hasher: RandomState,
    told: HashMap<Print, u64>,
    listing: HashMap<Print, u64>,
    deleted: VecDeque<Print>,
}

/// What stands for a key: 64 bits of a keyed hash. There are as many revisions as objects, so that a key of
/// their own would be most of what they need; two objects of a million have the same one in one cluster of
/// 37 million.
type Print = u64;

impl Revisions {
    fn print(&self, key: &ObjectKey) -> Print {
        print(&self.hasher, &key.namespace, &key.name)
    }

    /// Whether an event says anything new; takes note of it.
    pub(super) fn admits<T>(&mut self, event: &SourceEvent<T>, store: &mut impl Store<T>) -> bool {
        match event {
            SourceEvent::Init => self.listing.clear(),
            SourceEvent::InitApply(Received { key, revision: Some(revision), .. }) => {
                self.listing.insert(self.print(key), *revision);
            }
            SourceEvent::InitDone { .. } => {
                self.told = std::mem::take(&mut self.listing);
                self.deleted.clear();
            }
            SourceEvent::Apply(Received { key, revision: Some(revision), .. }) => {
                return self.advance(key, *revision, store);
            }
            SourceEvent::Delete { key, revision } => return self.delete(key, *revision, store),
            _ => {}
        }
        true
    }

    /// After a complete list: objects that have room for their revision take it over. One that is held and was
    /// not listed has none.
    pub(super) fn settle<T>(&mut self, store: &mut impl Store<T>, within: impl Fn(&str) -> bool) {
        let (hasher, told) = (&self.hasher, &mut self.told);
        store.set_revisions(within, |namespace, name| told.remove(&print(hasher, namespace, name)));
        self.told.shrink_to_fit();
    }

    /// The object of an event is held now, or still unreadable: its revision moves to where there is room.
    pub(super) fn keep<T>(&mut self, key: &ObjectKey, store: &mut impl Store<T>) {
        if !keeps_revisions(store) {
            return;
        }
        let print = self.print(key);
        if let Some(revision) = self.told.get(&print).copied() {
            store.set_revision(key, Some(revision));
            if store.revision(key).is_some() {
                self.told.remove(&print);
            }
        }
    }

    fn advance<T>(&mut self, key: &ObjectKey, revision: u64, store: &mut impl Store<T>) -> bool {
        let print = self.print(key);
        let (kept, told) = (store.revision(key), self.told.get(&print).copied());
        if kept.max(told) >= Some(revision) {
            return false;
        }
        if kept.is_some() {
            store.set_revision(key, Some(revision));
            self.told.remove(&print);
        } else {
            self.told.insert(print, revision);
        }
        true
    }

    fn delete<T>(&mut self, key: &ObjectKey, revision: Option<u64>, store: &mut impl Store<T>) -> bool {
        let print = self.print(key);
        let Some(revision) = revision else {
            self.told.remove(&print);
            store.set_revision(key, None);
            return true;
        };
        if !self.advance(key, revision, store) {
            return false;
        }
        // What remembers it goes with the object.
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

fn print(hasher: &RandomState, namespace: &str, name: &str) -> Print {
    hasher.hash_one((namespace, name))
}

fn keeps_revisions<T, S: Store<T>>(_: &S) -> bool {
    S::KEEPS_REVISIONS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::watch::ListReason;

    fn admits(revisions: &mut Revisions, event: &SourceEvent<()>) -> bool {
        revisions.admits(event, &mut HashMap::<ObjectKey, ()>::new())
    }

    fn key() -> ObjectKey {
        ObjectKey::new("a", "s")
    }

    fn received(revision: Option<u64>) -> Received<()> {
        Received { key: key(), uid: "".into(), revision, object: Ok(()) }
    }

    #[test]
    fn d32_events_that_are_not_newer_change_nothing_within_a_generation() {
        let mut revisions = Revisions::default();
        let apply = |revision| SourceEvent::Apply(received(Some(revision)));
        let delete = |revision| SourceEvent::Delete::<()> { key: key(), revision: Some(revision) };
        assert!(admits(&mut revisions, &apply(5)));
        assert!(!admits(&mut revisions, &apply(5)) && !admits(&mut revisions, &apply(4)));
        assert!(!admits(&mut revisions, &delete(4)), "of an object that was made again meanwhile");
        assert!(admits(&mut revisions, &delete(6)));
        assert!(!admits(&mut revisions, &apply(5)), "it does not come back");
        assert!(admits(&mut revisions, &apply(7)));
        assert!(admits(&mut revisions, &SourceEvent::Apply(received(None))), "not comparable");
    }

    #[test]
    fn d32_a_complete_list_replaces_whatever_the_revisions_say() {
        let mut revisions = Revisions::default();
        assert!(admits(&mut revisions, &SourceEvent::Apply(received(Some(100)))));
        assert!(admits(&mut revisions, &SourceEvent::<()>::Init));
        assert!(admits(&mut revisions, &SourceEvent::InitApply(received(Some(40)))));
        assert!(admits(&mut revisions, &SourceEvent::<()>::InitDone { reason: ListReason::Regressed }));
        assert!(admits(&mut revisions, &SourceEvent::Apply(received(Some(41)))));
    }

    #[test]
    fn deleted_objects_are_remembered_up_to_a_bound() {
        let mut revisions = Revisions::default();
        for n in 0..3 * REMEMBERED as u64 {
            let key = ObjectKey::new("a", format!("p{n}"));
            assert!(admits(&mut revisions, &SourceEvent::Delete::<()> { key, revision: Some(n + 1) }));
        }
        assert!(revisions.told.len() <= REMEMBERED && revisions.deleted.len() <= REMEMBERED);
    }

    #[test]
    fn d32_pods_have_room_for_their_revision() {
        use super::super::pod_table::PodTable;
        use crate::ingest::convert::Pod;
        let (mut revisions, mut pods) = (Revisions::default(), PodTable::default());
        let told = |revision| Received { key: key(), uid: "".into(), revision, object: Ok(Pod::default()) };
        let apply = |revision| SourceEvent::Apply(told(Some(revision)));
        // A list: its revision moves to the pod.
        assert!(revisions.admits(&SourceEvent::Init, &mut pods));
        assert!(revisions.admits(&SourceEvent::InitApply(told(Some(40))), &mut pods));
        assert!(revisions.admits(&SourceEvent::<Pod>::InitDone { reason: ListReason::First }, &mut pods));
        pods.put(&key(), Pod::default());
        revisions.settle(&mut pods, |_| true);
        assert_eq!((pods.revision(&key()), revisions.told.len()), (Some(40), 0));
        assert!(!revisions.admits(&apply(40), &mut pods) && revisions.admits(&apply(41), &mut pods));
        assert_eq!((pods.revision(&key()), revisions.told.len()), (Some(41), 0));
        // Gone: remembered without the pod.
        let delete = SourceEvent::Delete::<Pod> { key: key(), revision: Some(50) };
        assert!(revisions.admits(&delete, &mut pods));
        pods.take(&key());
        let place = pods.find(&key()).expect("its place");
        pods.release(place);
        assert_eq!(pods.revision(&key()), None);
        assert!(!revisions.admits(&apply(45), &mut pods), "it does not come back");
        // Made again: the revision moves to the new pod, and a list forgets what is held and not listed.
        assert!(revisions.admits(&apply(60), &mut pods));
        pods.put(&key(), Pod::default());
        revisions.keep(&key(), &mut pods);
        assert_eq!(pods.revision(&key()), Some(60));
        assert!(revisions.admits(&SourceEvent::Init, &mut pods));
        assert!(revisions.admits(&SourceEvent::<Pod>::InitDone { reason: ListReason::Regressed }, &mut pods));
        revisions.settle(&mut pods, |_| true);
        assert!(revisions.admits(&apply(3), &mut pods), "an older history counts after it was listed");
    }
}
