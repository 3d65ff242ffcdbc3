//! Moments that no change of the wall clock moves (K-41).

use std::time::{Duration, Instant, SystemTime};

/// A moment on the monotonic clock. Operators are shown it as a time of day, computed when they ask: a wall
/// clock that jumps changes what is shown and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(Instant);

impl Moment {
    /// This moment.
    pub fn now() -> Self {
        Self(Instant::now())
    }

    /// The moment so long before `self`; `self` if the clock cannot tell that far back.
    pub fn before(self, age: Duration) -> Self {
        self.0.checked_sub(age).map_or(self, Self)
    }

    /// How long before `now` it was; zero if it was later.
    pub fn age(self, now: Self) -> Duration {
        now.0.saturating_duration_since(self.0)
    }

    /// The time of day it was, by the present wall clock.
    pub fn time_of_day(self) -> SystemTime {
        let now = SystemTime::now();
        now.checked_sub(self.age(Self::now())).unwrap_or(now)
    }
}

impl From<Instant> for Moment {
    fn from(instant: Instant) -> Self {
        Self(instant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k41_ages_come_from_the_monotonic_clock_only() {
        let now = Moment::now();
        let hour = Duration::from_secs(3600);
        assert_eq!(now.before(hour).age(now), hour);
        assert_eq!(now.age(now.before(hour)), Duration::ZERO, "a later moment has no age");
        assert_eq!(now.before(Duration::MAX), now, "no clock tells that far back");
        let shown = now.before(hour).time_of_day();
        let ago = SystemTime::now().duration_since(shown).expect("earlier");
        assert!((hour..hour + Duration::from_secs(60)).contains(&ago), "{ago:?}");
    }
}
