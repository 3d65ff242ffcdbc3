//! When to push: at once, then in windows that grow while changes keep coming (D28).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::counts::Counts;
use super::hub::Hub;
use super::timer::until;
use super::times::observe;
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
        let begin = Instant::now();
        let changes = tokio::select! {
            // Shutdown first: what is being gathered has nobody to go to then.
            biased;
            () = shutdown.cancelled() => return,
            changes = gather(&hub, &mut coalescer, changes) => changes,
        };
        observe(&hub.counts.times.debounce, begin, Instant::now());
        push(&hub, &changes);
        coalescer.pushed(Instant::now());
        // Here too: under a steady stream of changes the timer above never has its turn.
        if expiry.is_some_and(|expiry| expiry <= Instant::now()) {
            hub.expire(Instant::now());
        }
    }
}

/// One push. One that panics is counted and does not end the pusher: what is told of later still gets to proxies (Z-45).
fn push(hub: &Hub, changes: &ChangeSet) {
    let push = AssertUnwindSafe(|| hub.push(changes, Instant::now()));
    if catch_unwind(push).is_err() {
        Counts::add(&hub.counts.internal_errors);
        tracing::error!(
            services = changes.services.len(),
            policies = changes.policies.len(),
            "a push failed; proxies learn of its changes when they connect again or more changes"
        );
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
    use crate::xds::hub::Settings;

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

    /// Milliseconds after the start at which pushes go, for changes noted at these milliseconds.
    async fn pushes(settings: Settings, notes: &[u64], until: u64) -> Vec<u128> {
        let registry = crate::registry::Registry::new();
        let hub = Arc::new(Hub::new(Arc::clone(&registry), settings, None));
        let mut writer = registry.writer("c1".into(), crate::model::ClusterRole::Config).expect("a writer");
        let start = tokio::time::Instant::now();
        let (mut pushes, mut coalescer) = (Vec::new(), Coalescer::default());
        let working = async {
            loop {
                let changes = hub.registry.changes().next().await;
                gather(&hub, &mut coalescer, changes).await;
                pushes.push(start.elapsed().as_millis());
            }
        };
        let noting = async {
            for (count, at) in notes.iter().enumerate() {
                tokio::time::sleep_until(start + Duration::from_millis(*at)).await;
                writer.set_networks(Some(format!("n{count}").as_str().into()), Vec::new());
            }
            tokio::time::sleep_until(start + Duration::from_millis(until)).await;
        };
        tokio::select! { () = working => {} () = noting => {} }
        pushes
    }

    #[tokio::test(start_paused = true)]
    async fn debounce_01_changes_wait_for_quiet_and_never_longer_than_the_maximum() {
        let settings = || Settings {
            debounce_after: Duration::from_millis(100),
            debounce_max: Duration::from_secs(10),
            ..Settings::default()
        };
        assert_eq!(pushes(settings(), &[0], 1_000).await, [100]);
        assert_eq!(pushes(settings(), &[0, 50, 90], 1_000).await, [190]);
        assert_eq!(pushes(settings(), &[0, 150], 1_000).await, [100, 250]);
        let steady: Vec<u64> = (0..=500).map(|n| n * 50).collect();
        let at = pushes(settings(), &steady, 26_000).await;
        assert_eq!(at.len(), 3, "{at:?}");
        for (at, wanted) in at.iter().zip([10_000, 20_050, 25_100]) {
            assert!(at.abs_diff(wanted) <= 100, "{at} is not about {wanted}");
        }
        let at_once = pushes(Settings::default(), &[0], 1_000).await;
        assert!(at_once.iter().all(|at| *at <= 1), "{at_once:?}");
    }
}
