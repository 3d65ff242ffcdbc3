//! Token buckets (X-F07, X-L06).

use std::time::{Duration, Instant};

/// Lets `burst` through at once and `rate` per second in the long run. A pure value: the caller brings the time.
#[derive(Clone, Copy, Debug)]
pub(in crate::xds) struct Bucket {
    /// Time that one token takes to grow.
    interval: Duration,
    /// How far ahead of the regular pace the bucket may be.
    tolerance: Duration,
    /// When the next token would be due at the regular pace.
    due: Option<Instant>,
}

impl Bucket {
    /// A full bucket. Both numbers must be positive.
    pub(in crate::xds) fn new(rate: u32, burst: u32) -> Self {
        let interval = Duration::from_secs(1) / rate.max(1);
        Self { interval, tolerance: interval * burst.max(1).saturating_sub(1), due: None }
    }

    /// How long a token taken at `now` would have to wait.
    pub(in crate::xds) fn wait(&self, now: Instant) -> Duration {
        self.due
            .map_or(Duration::ZERO, |due| due.saturating_duration_since(now).saturating_sub(self.tolerance))
    }

    /// Takes a token and returns how long its owner must wait.
    pub(in crate::xds) fn take(&mut self, now: Instant) -> Duration {
        let wait = self.wait(now);
        self.due = Some(self.due.map_or(now, |due| due.max(now)) + self.interval);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f07_a_burst_goes_at_once_and_then_the_rate_holds() {
        let start = Instant::now();
        let mut bucket = Bucket::new(100, 200);
        let waits: Vec<_> = (0..203).map(|_| bucket.take(start).as_millis()).collect();
        assert_eq!(waits[..200], [0; 200]);
        assert_eq!(waits[200..], [10, 20, 30]);
        // After the debt is paid and a second more, a hundred have grown again.
        let later = start + Duration::from_millis(1_030) + Duration::from_secs(1);
        let waits: Vec<_> = (0..202).map(|_| bucket.take(later).as_millis()).collect();
        assert_eq!(waits.iter().filter(|wait| **wait == 0).count(), 200);
    }
}
