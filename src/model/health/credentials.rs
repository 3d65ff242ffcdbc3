//! How much time the credentials of a cluster have left (K-18).

use std::time::{Duration, SystemTime};

/// What is renewed by programs is renewed when a request needs it: watches last for minutes.
const RENEWAL: Duration = Duration::from_secs(15 * 60);

/// How much time credentials have left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Expiry {
    /// More than 30 days, or no end that is known.
    #[default]
    Far,
    /// At most 30 days.
    Within30Days,
    /// At most 7 days.
    Within7Days,
    /// None.
    Expired,
}

impl Expiry {
    /// Its name in pages and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Far => "ok",
            Self::Within30Days => "within-30d",
            Self::Within7Days => "within-7d",
            Self::Expired => "expired",
        }
    }

    fn of(end: SystemTime, now: SystemTime) -> Self {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        match end.duration_since(now) {
            Err(_) => Self::Expired,
            Ok(left) if left.is_zero() => Self::Expired,
            Ok(left) if left <= 7 * DAY => Self::Within7Days,
            Ok(left) if left <= 30 * DAY => Self::Within30Days,
            Ok(_) => Self::Far,
        }
    }
}

/// What is known of the credentials in use; nothing secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CredentialFacts {
    /// The earliest end of what somebody has to see to: client certificates, a token that was given once. Not of
    /// those that were made to last for days only: whoever gives such exchanges them all the time.
    pub given_until: Option<SystemTime>,
    /// The earliest end of what is renewed all the time: a token in a file, what a program gives. Being short-lived
    /// is its nature, so it only counts once it has ended, and nobody renewed it when it was needed.
    pub renewed_until: Option<SystemTime>,
    /// What is wrong with their source at the moment, while the last good ones stay in use.
    pub problem: Option<String>,
}

impl CredentialFacts {
    /// The earliest end of all.
    pub fn until(&self) -> Option<SystemTime> {
        [self.given_until, self.renewed_until].into_iter().flatten().min()
    }

    /// Whether somebody has to see to them.
    pub fn expiry(&self, now: SystemTime) -> Expiry {
        let given = self.given_until.map(|end| Expiry::of(end, now));
        let renewed = self.renewed_until.filter(|end| *end + RENEWAL <= now).map(|_| Expiry::Expired);
        given.max(renewed).unwrap_or_default()
    }

    /// What operators have to know, in words that stay the same until something else is to be said.
    pub fn trouble(&self, now: SystemTime) -> Option<String> {
        let end = |end: Option<SystemTime>| {
            end.map(|end| humantime::format_rfc3339_seconds(end).to_string()).unwrap_or_default()
        };
        let time = match self.expiry(now) {
            Expiry::Far => None,
            Expiry::Within30Days => {
                Some(format!("end at {}, within 30 days; give it new ones before", end(self.given_until)))
            }
            Expiry::Within7Days => {
                Some(format!("end at {}, within 7 days; give it new ones before", end(self.given_until)))
            }
            Expiry::Expired => {
                Some(format!("have ended at {}; give it new ones: these are refused", end(self.until())))
            }
        };
        let source = self.problem.as_ref().map(|problem| format!("cannot be obtained anew: {problem}"));
        let told: Vec<_> = time.into_iter().chain(source).collect();
        (!told.is_empty()).then(|| told.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn k18_what_was_given_once_is_told_of_ahead_of_its_end() {
        let end = SystemTime::UNIX_EPOCH + 20_000 * DAY;
        let facts = CredentialFacts { given_until: Some(end), ..CredentialFacts::default() };
        for (now, expiry, words) in [
            (end - 30 * DAY - SECOND, Expiry::Far, ""),
            (end - 30 * DAY, Expiry::Within30Days, "end at 2024-10-04T00:00:00Z, within 30 days"),
            (end - 7 * DAY - SECOND, Expiry::Within30Days, "within 30 days"),
            (end - 7 * DAY, Expiry::Within7Days, "within 7 days"),
            (end - SECOND, Expiry::Within7Days, "within 7 days"),
            (end, Expiry::Expired, "have ended at 2024-10-04T00:00:00Z"),
            (end + DAY, Expiry::Expired, "have ended"),
        ] {
            assert_eq!(facts.expiry(now), expiry);
            assert!(facts.trouble(now).unwrap_or_default().contains(words), "{words}");
            assert_eq!(facts.trouble(now).is_none(), expiry == Expiry::Far);
        }
        let unknown = CredentialFacts::default();
        assert_eq!((unknown.expiry(end), unknown.trouble(end), unknown.until()), (Expiry::Far, None, None));
    }

    #[test]
    fn k18_what_is_renewed_counts_only_when_nobody_renewed_it() {
        let end = SystemTime::UNIX_EPOCH + 20_000 * DAY;
        let mut facts = CredentialFacts { renewed_until: Some(end), ..CredentialFacts::default() };
        for now in [end - 31 * DAY, end - SECOND, end, end + 14 * 60 * SECOND] {
            assert_eq!((facts.expiry(now), facts.trouble(now)), (Expiry::Far, None));
        }
        assert_eq!(facts.expiry(end + 15 * 60 * SECOND), Expiry::Expired);
        facts.problem = Some("exec plugin x: failed".to_owned());
        let text = facts.trouble(end - DAY).expect("its source fails");
        assert_eq!(text, "cannot be obtained anew: exec plugin x: failed");
        facts.given_until = Some(end + 3 * DAY);
        assert_eq!((facts.expiry(end - DAY), facts.until()), (Expiry::Within7Days, Some(end)));
    }
}
