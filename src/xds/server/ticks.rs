//! Timers of connections, which end together: thousands of pings that each wake a thread cost more than the pings.

use std::pin::Pin;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};
use hyper_util::rt::TokioTimer;

/// All timers end at multiples of this, and up to so much later than asked.
const TICK: Duration = Duration::from_millis(100);
/// Where ticks are counted from.
static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Timers of the runtime, rounded up to ticks.
#[derive(Clone, Debug)]
pub(super) struct Ticks(TokioTimer);

impl Ticks {
    pub(super) fn new() -> Self {
        Self(TokioTimer::new())
    }
}

/// The first tick that is not before `deadline`, for other timers of connections.
pub(super) fn at_or_after(deadline: Instant) -> Instant {
    tick(*BEGIN, deadline)
}

/// The first tick that is not before `deadline`.
fn tick(begin: Instant, deadline: Instant) -> Instant {
    let ticks = deadline.saturating_duration_since(begin).as_nanos().div_ceil(TICK.as_nanos());
    // Beyond any age of a process it does not matter.
    begin + u32::try_from(ticks).map_or(deadline.saturating_duration_since(begin), |ticks| TICK * ticks)
}

impl Timer for Ticks {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        self.0.sleep_until(at_or_after(deadline))
    }

    fn now(&self) -> Instant {
        self.0.now()
    }

    fn reset(&self, sleep: &mut Pin<Box<dyn Sleep>>, deadline: Instant) {
        self.0.reset(sleep, at_or_after(deadline));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_end_at_the_next_tick() {
        let begin = Instant::now();
        let rounded =
            |milliseconds| (tick(begin, begin + Duration::from_millis(milliseconds)) - begin).as_millis();
        assert_eq!(
            [0, 1, 99, 100, 101, 30_000, 30_001].map(rounded),
            [0, 100, 100, 100, 200, 30_000, 30_100]
        );
        let far = begin + Duration::from_secs(1 << 40);
        assert_eq!(tick(begin, far), far);
    }
}
