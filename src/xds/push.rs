//! When to push: at once, then in windows that grow while changes keep coming (D28).

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::hub::Hub;
use super::timer::until;
use crate::registry::ChangeSet;

/// The longest window of the leading-edge rule.
const WINDOW_MAX: Duration = Duration::from_millis(10);
/// The first window after a push.
const WINDOW_FIRST: Duration = Duration::from_millis(1);
/// This much quiet makes the next change go at once again.
const QUIET: Duration = Duration::from_millis(50);

/// How long the first change of a batch waits for company.
#[derive(Debug, Default)]
struct Coalescer {
    window: Duration,
    last_push: Option<Instant>,
}

impl Coalescer {
    /// The wait for a change that arrives now.
    fn wait(&mut self, now: Instant) -> Duration {
        let quiet = self.last_push.is_none_or(|last| now.duration_since(last) >= QUIET);
        self.window = if quiet { Duration::ZERO } else { (self.window * 2).clamp(WINDOW_FIRST, WINDOW_MAX) };
        self.window
    }

    fn pushed(&mut self, now: Instant) {
        self.last_push = Some(now);
    }
}

/// Works off the registry's changes until `shutdown`. The one reader of the change signal.
pub(super) async fn run(hub: Arc<Hub>, shutdown: CancellationToken) {
    let mut coalescer = Coalescer::default();
    loop {
        let expiry = hub.outbounds.next_expiry();
        let changes = tokio::select! {
            // Shutdown first, so that a steady stream of changes cannot keep the task alive.
            biased;
            () = shutdown.cancelled() => return,
            changes = hub.registry.changes().next() => changes,
            () = until(expiry) => {
                hub.expire(Instant::now());
                continue;
            }
        };
        let changes = tokio::select! {
            // Shutdown first: what is being gathered has nobody to go to then.
            biased;
            () = shutdown.cancelled() => return,
            changes = gather(&hub, &mut coalescer, changes) => changes,
        };
        hub.push(&changes, Instant::now());
        coalescer.pushed(Instant::now());
        // Here too: under a steady stream of changes the timer above never has its turn.
        if expiry.is_some_and(|expiry| expiry <= Instant::now()) {
            hub.expire(Instant::now());
        }
    }
}

/// Adds what else arrives in the window, or under `debounce_after` until it is quiet.
async fn gather(hub: &Hub, coalescer: &mut Coalescer, mut changes: ChangeSet) -> ChangeSet {
    let log = hub.registry.changes();
    let (after, max) = (hub.settings.debounce_after, hub.settings.debounce_max);
    if after.is_zero() {
        let window = coalescer.wait(Instant::now());
        if !window.is_zero() {
            tokio::time::sleep(window).await;
        }
        changes.merge(log.take());
        return changes;
    }
    let deadline = tokio::time::Instant::now() + max;
    let gathered = async {
        while let Ok(more) = tokio::time::timeout(after, log.next()).await {
            changes.merge(more);
        }
    };
    // The cap: whatever is gathered by then goes. `next` loses nothing when it is cancelled.
    let _ = tokio::time::timeout_at(deadline, gathered).await;
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d28_the_first_change_goes_at_once_and_windows_grow_to_10_ms() {
        let mut coalescer = Coalescer::default();
        let mut now = Instant::now();
        let mut waits = Vec::new();
        for _ in 0..7 {
            waits.push(coalescer.wait(now).as_millis());
            coalescer.pushed(now);
            now += Duration::from_millis(5);
        }
        assert_eq!(waits, [0, 1, 2, 4, 8, 10, 10]);
        assert_eq!(coalescer.wait(now + QUIET), Duration::ZERO);
    }
}
