//! The minimum rate of a list (K-08).

use std::time::{Duration, Instant};

/// Bytes in the present window.
#[derive(Debug)]
pub(super) struct Rate {
    since: Instant,
    bytes: u64,
}

impl Rate {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, bytes: 0 }
    }

    pub(super) fn add(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes as u64);
    }

    pub(super) fn window_ends(&self, window: Duration) -> Instant {
        self.since + window
    }

    /// Whether a window ended with fewer than `least` bytes; otherwise the next one begins when it is due.
    pub(super) fn is_too_slow(&mut self, now: Instant, window: Duration, least: u64) -> bool {
        if now < self.window_ends(window) {
            return false;
        }
        if self.bytes < least {
            return true;
        }
        *self = Self::new(now);
        false
    }

    pub(super) fn postpone(&mut self, by: Duration) {
        self.since += by;
    }
}
