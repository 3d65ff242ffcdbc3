//! Where in the server's history a source stands, and whether that history goes forward (K-19, K-27).

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::ingest::objects::ObjectKey;
use crate::ingest::objects::wire::Revision;

/// Events remembered to tell a duplicate from disorder.
const REMEMBERED: usize = 64;

/// The revision up to which everything was told. Checks hold within one generation and where revisions are
/// numbers (D32).
#[derive(Debug, Default)]
pub(super) struct Position {
    /// What the last list or bookmark said.
    revision: Revision,
    /// The highest revision seen, if revisions are numbers.
    highest: Option<u64>,
    /// Revisions are no numbers, and events went beyond the last one known.
    behind: bool,
    /// The last events.
    recent: VecDeque<(u64, u64)>,
}

/// How something stands to what was seen before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// It goes forward.
    Newer,
    /// It says what is known.
    Same,
    /// It goes back.
    Back,
}

impl Position {
    /// Where the next watch goes on.
    pub(super) fn revision(&self) -> Revision {
        match self.highest {
            Some(highest) => Revision::new(&highest.to_string()),
            None => self.revision.clone(),
        }
    }

    pub(super) fn highest(&self) -> Option<u64> {
        self.highest
    }

    /// A complete list at this revision begins a generation. Says whether the history went back.
    pub(super) fn list(&mut self, revision: Revision) -> Order {
        let order = self.compare(revision.number());
        self.highest = revision.number();
        self.revision = revision;
        self.behind = false;
        self.recent.clear();
        order
    }

    /// The next list is not to be compared with what was seen.
    pub(super) fn forget(&mut self) {
        self.highest = None;
    }

    /// An event. Revisions of one watch rise from event to event.
    pub(super) fn event(&mut self, key: &ObjectKey, revision: Option<u64>) -> Order {
        self.behind |= self.revision.number().is_none();
        let Some(number) = revision else { return Order::Newer };
        let Some(highest) = self.highest else { return Order::Newer };
        let mark = (hash(key), number);
        if number <= highest {
            if self.recent.contains(&mark) {
                return Order::Same;
            }
            // One transaction may change several objects.
            if number < highest {
                return Order::Back;
            }
        }
        self.highest = Some(number);
        if self.recent.len() == REMEMBERED {
            self.recent.pop_front();
        }
        self.recent.push_back(mark);
        Order::Newer
    }

    /// A bookmark.
    pub(super) fn bookmark(&mut self, revision: Revision) -> Order {
        let order = match (revision.number(), self.highest) {
            (Some(_), Some(_)) => self.compare(revision.number()),
            _ if revision == self.revision => Order::Same,
            _ => Order::Newer,
        };
        if order == Order::Newer {
            self.highest = self.highest.and(revision.number());
            self.revision = revision;
            self.behind = false;
        }
        order
    }

    /// Whether a watch from [`Position::revision`] would tell once more what was told already, and with it take
    /// objects back to what they were.
    pub(super) fn is_behind(&self) -> bool {
        self.behind
    }

    /// What a quorum read says the present revision is.
    pub(super) fn compare(&self, revision: Option<u64>) -> Order {
        match (revision, self.highest) {
            (Some(revision), Some(highest)) if revision < highest => Order::Back,
            (Some(revision), Some(highest)) if revision == highest => Order::Same,
            _ => Order::Newer,
        }
    }
}

fn hash(key: &ObjectKey) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(revision: &str) -> Position {
        let mut position = Position::default();
        assert_eq!(position.list(Revision::new(revision)), Order::Newer);
        position
    }

    #[test]
    fn events_go_forward_repeat_or_go_back() {
        let (a, b) = (ObjectKey::new("n", "a"), ObjectKey::new("n", "b"));
        let mut position = at("10");
        assert_eq!(position.event(&a, Some(12)), Order::Newer);
        assert_eq!(position.event(&a, Some(12)), Order::Same);
        assert_eq!(position.event(&b, Some(12)), Order::Newer, "one transaction");
        assert_eq!(position.event(&b, Some(11)), Order::Back);
        assert_eq!(position.revision().as_str(), "12");
        assert_eq!(position.event(&a, None), Order::Newer);
        assert_eq!(position.bookmark(Revision::new("12")), Order::Same);
        assert_eq!(position.bookmark(Revision::new("20")), Order::Newer);
        assert_eq!(position.bookmark(Revision::new("19")), Order::Back);
        assert_eq!(position.revision().as_str(), "20");
        assert_eq!(position.list(Revision::new("5")), Order::Back);
        assert_eq!(position.event(&a, Some(6)), Order::Newer);
    }

    #[test]
    fn d32_revisions_that_are_no_numbers_are_not_compared() {
        let key = ObjectKey::new("n", "a");
        let mut position = at("abc");
        assert_eq!(position.event(&key, None), Order::Newer);
        assert_eq!(position.event(&key, Some(3)), Order::Newer);
        assert_eq!(position.bookmark(Revision::new("abb")), Order::Newer);
        assert_eq!(position.revision().as_str(), "abb");
        assert_eq!(position.bookmark(Revision::new("abb")), Order::Same);
    }
}
