//! A list that takes most of a cluster away is not believed at once (K-21).
//!
//! An empty or shortened list with status 200 is what a broken aggregator or proxy answers. What a complete
//! list would remove is held back until a second list confirms it; what it adds, and what events say
//! meanwhile, counts at once.

/// Fewer endpoints than this may go without a question.
const LEAST: usize = 100;

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

/// Removals of one kind that wait for a second list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldBack {
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
