//! What the endpoints of a cluster that is not heard are worth (D35, §2.4).

use tokio::time::Instant;

use crate::ingest::options::StalePolicy;
use crate::model::{Moment, Standing};

/// How long a cluster has not been heard, and what follows from it. Time is monotonic (K-41).
#[derive(Debug, Default)]
pub(in crate::ingest) struct Age {
    policy: StalePolicy,
    stale_since: Option<Instant>,
}

impl Age {
    /// What follows when.
    pub(in crate::ingest) fn set_policy(&mut self, policy: StalePolicy) {
        self.policy = policy;
    }

    /// Since when it has not been heard. Coming back counts at once.
    pub(in crate::ingest) fn observe(&mut self, stale_since: Option<Moment>, now: Instant) {
        let age = |since: Moment| since.age(now.into_std().into());
        self.stale_since = stale_since.map(|since| now.checked_sub(age(since)).unwrap_or(now));
    }

    /// When the standing changes if nothing is heard until then.
    pub(in crate::ingest) fn due(&self) -> Option<Instant> {
        let after = match self.policy {
            StalePolicy::Hold => return None,
            StalePolicy::Demote(after) | StalePolicy::Drop(after) => after,
        };
        self.stale_since?.checked_add(after)
    }

    /// What follows now.
    pub(in crate::ingest) fn standing(&self, now: Instant) -> Standing {
        match self.due() {
            Some(due) if due <= now => match self.policy {
                StalePolicy::Hold => Standing::Regular,
                StalePolicy::Demote(_) => Standing::Demoted,
                StalePolicy::Drop(_) => Standing::Dropped,
            },
            _ => Standing::Regular,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn d35_age_demotes_or_drops_and_coming_back_restores_at_once() {
        let (start, minute) = (Instant::now(), Duration::from_secs(60));
        for (policy, aged) in [
            (StalePolicy::Hold, Standing::Regular),
            (StalePolicy::Demote(minute), Standing::Demoted),
            (StalePolicy::Drop(minute), Standing::Dropped),
        ] {
            let mut age = Age { policy, stale_since: None };
            assert_eq!(age.standing(start + 10 * minute), Standing::Regular);
            let lost = Some(Moment::from(start.into_std()));
            age.observe(lost, start);
            age.observe(lost, start + minute / 2);
            assert_eq!(age.standing(start + minute / 2), Standing::Regular);
            assert_eq!(age.standing(start + minute), aged, "counted from when it was lost");
            age.observe(None, start + 2 * minute);
            assert_eq!((age.standing(start + 9 * minute), age.due()), (Standing::Regular, None));
        }
    }
}
