//! The revision of every object: events that are not newer than what is held change nothing (K-27, D32).

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};

use hashbrown::HashMap;

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
        self.hasher.hash_one((&*key.namespace, &*key.name))
    }

    /// Whether an event says anything new; takes note of it.
    pub(super) fn admits<T>(&mut self, event: &SourceEvent<T>) -> bool {
        match event {
            SourceEvent::Init => self.listing.clear(),
            SourceEvent::InitApply(Received { key, revision: Some(revision), .. }) => {
                self.listing.insert(self.print(key), *revision);
            }
            SourceEvent::InitDone { .. } => {
                self.told = std::mem::take(&mut self.listing);
                self.told.shrink_to_fit();
                self.deleted.clear();
            }
            SourceEvent::Apply(Received { key, revision: Some(revision), .. }) => {
                return self.advance(self.print(key), *revision);
            }
            SourceEvent::Delete { key, revision } => return self.delete(self.print(key), *revision),
            _ => {}
        }
        true
    }

    fn advance(&mut self, key: Print, revision: u64) -> bool {
        match self.told.get_mut(&key) {
            Some(told) if *told >= revision => return false,
            Some(told) => *told = revision,
            None => _ = self.told.insert(key, revision),
        }
        true
    }

    fn delete(&mut self, key: Print, revision: Option<u64>) -> bool {
        let Some(revision) = revision else {
            self.told.remove(&key);
            return true;
        };
        if !self.advance(key, revision) {
            return false;
        }
        self.deleted.push_back(key);
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
    use super::*;
    use crate::ingest::watch::ListReason;

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
        assert!(revisions.admits(&apply(5)));
        assert!(!revisions.admits(&apply(5)) && !revisions.admits(&apply(4)));
        assert!(!revisions.admits(&delete(4)), "of an object that was made again meanwhile");
        assert!(revisions.admits(&delete(6)));
        assert!(!revisions.admits(&apply(5)), "it does not come back");
        assert!(revisions.admits(&apply(7)));
        assert!(revisions.admits(&SourceEvent::Apply(received(None))), "not comparable");
    }

    #[test]
    fn d32_a_complete_list_replaces_whatever_the_revisions_say() {
        let mut revisions = Revisions::default();
        assert!(revisions.admits(&SourceEvent::Apply(received(Some(100)))));
        assert!(revisions.admits(&SourceEvent::<()>::Init));
        assert!(revisions.admits(&SourceEvent::InitApply(received(Some(40)))));
        assert!(revisions.admits(&SourceEvent::<()>::InitDone { reason: ListReason::Regressed }));
        assert!(revisions.admits(&SourceEvent::Apply(received(Some(41)))));
    }

    #[test]
    fn deleted_objects_are_remembered_up_to_a_bound() {
        let mut revisions = Revisions::default();
        for n in 0..3 * REMEMBERED as u64 {
            let key = ObjectKey::new("a", format!("p{n}"));
            assert!(revisions.admits(&SourceEvent::Delete::<()> { key, revision: Some(n + 1) }));
        }
        assert!(revisions.told.len() <= REMEMBERED && revisions.deleted.len() <= REMEMBERED);
    }
}
