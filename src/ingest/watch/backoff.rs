//! Pauses between attempts.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use tokio::time::Instant;

/// How long to wait between attempts: exponential with jitter (K-01).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The first pause.
    pub first: Duration,
    /// The longest pause.
    pub longest: Duration,
    /// A source that worked for this long starts over with the first pause.
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

/// The pauses of one source.
#[derive(Debug)]
pub(super) struct Backoff {
    policy: RetryPolicy,
    pause: Duration,
    /// When the last pause ends.
    resumed: Option<Instant>,
}

impl Backoff {
    pub(super) fn new(policy: RetryPolicy) -> Self {
        Self { policy, pause: policy.first, resumed: None }
    }

    /// The pause after one more failure: between half and all of the current step.
    pub(super) fn next(&mut self) -> Duration {
        let now = Instant::now();
        let healthy = |resumed: Instant| now.saturating_duration_since(resumed) >= self.policy.healthy_after;
        if self.resumed.is_some_and(healthy) {
            self.pause = self.policy.first;
        }
        let step = self.pause;
        self.pause = (step * 2).min(self.policy.longest);
        let jittered = step.mul_f64(0.5 + 0.5 * random_fraction());
        self.resumed = Some(now + jittered);
        jittered
    }
}

/// A number in [0, 1), different for every call and process.
fn random_fraction() -> f64 {
    f64::from(u32::try_from(RandomState::new().hash_one(()) >> 32).unwrap_or(0)) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_to_the_longest_and_start_over_after_a_healthy_time() {
        let policy = RetryPolicy::default();
        let mut backoff = Backoff::new(policy);
        let mut attempts = 0;
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(300) {
            let pause = backoff.next();
            assert!(pause <= policy.longest);
            tokio::time::sleep(pause).await;
            attempts += 1;
        }
        assert!(attempts <= 20, "{attempts} attempts in 5 minutes (K-01)");
        tokio::time::sleep(policy.healthy_after).await;
        assert!(backoff.next() <= policy.first);
    }
}
