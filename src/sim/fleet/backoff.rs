//! When a proxy comes back after a failure: as Envoy does, at random below a bound that doubles from 0.5 s to 30 s.

use std::time::Duration;

use super::dice::Dice;

const BASE: Duration = Duration::from_millis(500);
const MAX: Duration = Duration::from_secs(30);

/// The pauses of one proxy.
#[derive(Debug)]
pub(super) struct Backoff {
    bound: Duration,
    dice: Dice,
}

impl Backoff {
    pub(super) fn new(dice: Dice) -> Self {
        Self { bound: BASE, dice }
    }

    /// The next pause.
    pub(super) fn next(&mut self) -> Duration {
        let pause = self.bound.mul_f64(self.dice.share());
        self.bound = (self.bound * 2).min(MAX);
        pause
    }

    /// An answer came: the next failure is a first one.
    pub(super) fn reset(&mut self) {
        self.bound = BASE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_jittered_below_a_bound_that_doubles_to_thirty_seconds() {
        let mut backoff = Backoff::new(Dice::new(3, 0));
        for power in 0..10 {
            let bound = (BASE * 2_u32.pow(power)).min(MAX);
            assert!(backoff.next() <= bound);
        }
        assert_eq!(backoff.bound, MAX);
        backoff.reset();
        assert!(backoff.next() <= BASE);
    }

    #[test]
    fn proxies_do_not_come_back_together() {
        let first = |number| Backoff::new(Dice::new(3, number)).next();
        let all: std::collections::BTreeSet<_> = (0..100).map(first).collect();
        assert!(all.len() > 95);
    }
}
