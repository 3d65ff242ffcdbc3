//! Sources of clusters that a look at all of them no longer shows.
//!
//! An empty list with status 200 is what a broken proxy answers, and an empty directory is what a volume that
//! was unmounted leaves. Neither takes clusters away before a second look says the same. What is seen to go one by
//! one, by an event or while the others stay, counts at once.

use tokio::time::Instant;

use super::cluster::CONFIRM_AFTER;
use super::staging::Guard;

/// Doubts about looks that lack most of what is known.
#[derive(Debug)]
pub(super) struct Absences {
    guard: Guard,
    doubt: Option<Doubt>,
}

#[derive(Debug)]
struct Doubt {
    /// A look that begins from then on is believed.
    confirms_from: Instant,
    asked: bool,
}

impl Absences {
    pub(super) fn new(guard: Guard) -> Self {
        Self { guard, doubt: None }
    }

    /// Whether a look that began at `began` and lacks `missing` of the `known` sources is believed.
    pub(super) fn believes(&mut self, missing: usize, known: usize, began: Instant) -> bool {
        let confirmed = self.doubt.as_ref().is_some_and(|doubt| doubt.confirms_from <= began);
        let most = self.guard == Guard::On && missing > known / 2;
        if most && !confirmed {
            self.doubt.get_or_insert_with(|| Doubt { confirms_from: began + CONFIRM_AFTER, asked: false });
            return false;
        }
        self.doubt = None;
        true
    }

    /// Nothing is missing any more.
    pub(super) fn settle(&mut self) {
        self.doubt = None;
    }

    /// Whether something is missing and not believed to be gone.
    pub(super) fn is_doubting(&self) -> bool {
        self.doubt.is_some()
    }

    /// When to look again.
    pub(super) fn due(&self) -> Option<Instant> {
        self.doubt.as_ref().filter(|doubt| !doubt.asked).map(|doubt| doubt.confirms_from)
    }

    /// The second look is under way.
    pub(super) fn asked(&mut self) {
        if let Some(doubt) = &mut self.doubt {
            doubt.asked = true;
        }
    }
}

/// What operators are told of a look that lacks some of what is known.
pub(super) fn text(missing: usize, known: usize, what: &str) -> String {
    format!(
        "{missing} of {known} {what} are missing all at once: what they said stands until a second look after \
         {}s says the same; --mass-delete-guard off believes it at once",
        CONFIRM_AFTER.as_secs()
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn most_of_what_is_known_goes_only_with_a_second_look() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        for (missing, known, believed) in [
            (0, 0, true),
            (0, 4, true),
            (1, 2, true),
            (2, 4, true),
            (1, 1, false),
            (2, 3, false),
            (4, 4, false),
        ] {
            let mut absences = Absences::new(Guard::On);
            assert_eq!(absences.believes(missing, known, start), believed, "{missing} of {known}");
            assert_eq!(absences.due(), (!believed).then_some(at(30)));
            assert!(Absences::new(Guard::Off).believes(missing, known, start));
        }
        let mut absences = Absences::new(Guard::On);
        assert!(!absences.believes(4, 4, start));
        assert!(!absences.believes(4, 4, at(29)), "the first doubt counts");
        absences.asked();
        assert_eq!((absences.due(), absences.is_doubting()), (None, true), "asked once");
        assert!(absences.believes(4, 4, at(30)));
        assert!(!absences.believes(3, 3, at(31)), "and the next loss is doubted anew");
        assert!(absences.believes(0, 3, at(32)));
        assert!(!absences.is_doubting());
    }
}
