//! Waiting for every proxy to get a resource.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::names::NameId;

/// A name that is waited for, and who has it.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) name: NameId,
    /// Which wait this is: each proxy counts once.
    pub(super) number: u64,
    expected: usize,
    receipts: Mutex<Vec<Instant>>,
    done: Notify,
}

impl Watched {
    pub(super) fn new(name: NameId, number: u64, expected: usize) -> Self {
        let receipts = Mutex::new(Vec::with_capacity(expected));
        Self { name, number, expected, receipts, done: Notify::new() }
    }

    /// One more proxy has it.
    pub(super) fn receipt(&self, now: Instant) {
        let mut receipts = self.receipts.lock().unwrap_or_else(PoisonError::into_inner);
        receipts.push(now);
        if receipts.len() == self.expected {
            self.done.notify_one();
        }
    }
}

/// A wait that has begun: make the change now, then take the receipts.
#[derive(Debug)]
#[must_use = "a wait is for its receipts"]
pub struct Watch(pub(super) Arc<Watched>);

impl Watch {
    /// When each proxy got it, in order: those of all proxies, or after `limit` those that have come.
    pub async fn receipts(self, limit: Duration) -> Vec<Instant> {
        // A late one is missing in the answer: the caller counts.
        let _ = tokio::time::timeout(limit, self.0.done.notified()).await;
        let mut receipts = self.0.receipts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        receipts.sort_unstable();
        receipts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::fleet::names::Names;

    #[tokio::test(start_paused = true)]
    async fn receipts_are_all_or_those_in_time() {
        let name = Names::default().id("a");
        for count in [2, 1] {
            let watched = Arc::new(Watched::new(name, 1, 2));
            (0..count).for_each(|_| watched.receipt(Instant::now()));
            assert_eq!(Watch(watched).receipts(Duration::from_secs(1)).await.len(), count);
        }
    }
}
