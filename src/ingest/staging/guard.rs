//! A list that takes most of a cluster away is not believed at once (K-21).
//!
//! An empty or shortened list with status 200 is what a broken aggregator or proxy answers. What a complete
//! list would remove is held back until a second list confirms it; what it adds, and what events say
//! meanwhile, counts at once.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::held::Scope;

/// Fewer endpoints than this may go without a question.
const LEAST: usize = 100;
/// What lists took away counts together for this long: where each namespace is listed by itself, a broken
/// answer takes a cluster away piece by piece.
const TOGETHER: Duration = Duration::from_secs(300);

/// Whether lists are doubted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Guard {
    /// A list that takes more than half of the endpoints, and more than 100, is.
    #[default]
    On,
    /// Every list is believed.
    Off,
}

impl Guard {
    /// Whether going from `before` to `after` endpoints needs a confirmation.
    pub fn doubts(self, before: usize, after: usize) -> bool {
        let lost = before.saturating_sub(after);
        self == Self::On && lost > LEAST && lost > before / 2
    }
}

/// What believed lists of a kind have taken away lately.
#[derive(Debug, Default)]
pub(super) struct Losses {
    /// In order; scopes are not many.
    all: VecDeque<(Instant, Scope, usize)>,
}

impl Losses {
    /// Endpoints lost by now. Without a clock none count together.
    pub(super) fn lately(&mut self, now: Option<Instant>) -> usize {
        let Some(now) = now else { return 0 };
        while self.all.front().is_some_and(|(at, ..)| now.saturating_duration_since(*at) > TOGETHER) {
            self.all.pop_front();
        }
        self.all.iter().map(|(_, _, lost)| lost).sum()
    }

    /// A list of one scope was believed: it took `lost` away, or brought them back.
    pub(super) fn note(&mut self, scope: &Scope, before: usize, after: usize, now: Option<Instant>) {
        match (before.checked_sub(after), now) {
            (Some(0), _) | (Some(_), None) => {}
            (Some(lost), Some(now)) => self.all.push_back((now, scope.clone(), lost)),
            (None, _) => self.forget(scope),
        }
    }

    /// What a scope lost was confirmed, or is there again.
    pub(super) fn forget(&mut self, scope: &Scope) {
        self.all.retain(|(_, other, _)| other != scope);
    }
}

/// Removals of one kind that wait for a second list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldBack {
    /// The part of the kind that the list was of.
    pub scope: Scope,
    /// Objects that the list did not have, or had with fewer endpoints.
    pub objects: usize,
    /// Endpoints that hang on them.
    pub endpoints: usize,
    /// Changes with every list that is doubted anew.
    pub serial: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k21_more_than_half_and_more_than_a_hundred() {
        for (before, after, doubted) in [
            (200, 99, true),
            (200, 100, false),
            (100, 0, false),
            (101, 0, true),
            (1000, 499, true),
            (1000, 500, false),
            (5, 9, false),
        ] {
            assert_eq!(Guard::On.doubts(before, after), doubted, "{before} → {after}");
            assert!(!Guard::Off.doubts(before, after));
        }
    }
}
