//! Pauses between attempts.

use std::time::Duration;

use super::random::Random;

/// How long to wait between attempts: exponential with jitter (K-01).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The first pause.
    pub first: Duration,
    /// The longest pause.
    pub longest: Duration,
    /// A watch that worked for this long starts over with the first pause.
    pub healthy_after: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(500),
            longest: Duration::from_secs(30),
            healthy_after: Duration::from_secs(30),
        }
    }
}

/// A series of growing pauses.
#[derive(Debug)]
pub(super) struct Backoff {
    first: Duration,
    longest: Duration,
    /// How much of a pause is certain; the rest is jitter.
    certain: f64,
    step: Duration,
}

impl Backoff {
    /// Pauses between half and all of a step that doubles.
    pub(super) fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, certain: 0.5, step: first }
    }

    /// Less jitter: at least this part of every step.
    pub(super) fn at_least(mut self, certain: f64) -> Self {
        self.certain = certain;
        self
    }

    /// The next pause.
    pub(super) fn next(&mut self, random: &mut Random) -> Duration {
        self.next_up_to(self.longest, random)
    }

    /// The next pause, with another longest one.
    pub(super) fn next_up_to(&mut self, longest: Duration, random: &mut Random) -> Duration {
        let step = self.step.min(longest);
        self.step = (step * 2).min(self.longest);
        random.between(step.mul_f64(self.certain), step)
    }

    /// Starts over.
    pub(super) fn reset(&mut self) {
        self.step = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_longest_and_start_over() {
        let policy = RetryPolicy::default();
        for seed in 0..100 {
            let mut random = Random::new(seed);
            let mut backoff = Backoff::new(policy.first, policy.longest);
            let pauses: Vec<_> = (0..20).map(|_| backoff.next(&mut random)).collect();
            for (n, pause) in pauses.iter().enumerate() {
                let step = (policy.first * (1 << n.min(10))).min(policy.longest);
                assert!((step / 2..=step).contains(pause), "{n}: {pause:?} of {step:?}");
            }
            backoff.reset();
            assert!(backoff.next(&mut random) <= policy.first);
        }
    }
}
