//! What a fleet counts.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;

use super::message::Kind;
use super::session::Received;

/// Longest time that is told apart, in µs.
const LONGEST: u64 = 3_600_000_000;

/// A distribution of times.
#[derive(Debug, Clone)]
pub struct Times(Histogram<u64>);

impl Default for Times {
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, LONGEST, 3).expect("bounds that are in order"))
    }
}

impl Times {
    /// Counts one.
    pub fn add(&mut self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(LONGEST);
        self.0.saturating_record(micros.max(1));
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The time that so many percent do not exceed, in ms; 0 of none.
    pub fn percentile(&self, percent: f64) -> f64 {
        if self.0.is_empty() { 0.0 } else { self.0.value_at_percentile(percent) as f64 / 1e3 }
    }

    /// The longest, in ms.
    pub fn max(&self) -> f64 {
        self.0.max() as f64 / 1e3
    }

    /// The usual percentiles, in ms.
    pub fn summary(&self) -> TimesSummary {
        TimesSummary {
            count: self.count(),
            p50_ms: self.percentile(50.0),
            p90_ms: self.percentile(90.0),
            p99_ms: self.percentile(99.0),
            max_ms: self.max(),
        }
    }
}

/// Percentiles of a distribution, in ms.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct TimesSummary {
    /// How many.
    pub count: u64,
    /// Half of them took no longer.
    pub p50_ms: f64,
    /// 90 %.
    pub p90_ms: f64,
    /// 99 %.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

/// Counters of one type.
#[derive(Debug, Default)]
struct Typed {
    messages: AtomicU64,
    resources: AtomicU64,
    removed: AtomicU64,
    bytes: AtomicU64,
}

/// The counters of a running fleet.
#[derive(Debug)]
pub(super) struct Tally {
    started: Instant,
    types: [Typed; 4],
    /// Responses of types nobody asked for.
    odd: AtomicU64,
    connects: AtomicU64,
    /// µs from the start to the last response.
    last: AtomicU64,
    /// µs from the start until the last proxy had all it asked for.
    complete: AtomicU64,
    ends: Mutex<BTreeMap<String, u64>>,
    subscribed: Mutex<Times>,
}

impl Tally {
    pub(super) fn new(started: Instant) -> Self {
        Self {
            started,
            types: Default::default(),
            odd: AtomicU64::new(0),
            connects: AtomicU64::new(0),
            last: AtomicU64::new(0),
            complete: AtomicU64::new(0),
            ends: Mutex::default(),
            subscribed: Mutex::default(),
        }
    }

    pub(super) fn connected(&self) {
        self.connects.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn received(&self, received: Received, bytes: usize, now: Instant) {
        let micros = now.duration_since(self.started).as_micros() as u64;
        self.last.fetch_max(micros, Ordering::Relaxed);
        let Some(kind) = received.kind else {
            self.odd.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let typed = &self.types[kind as usize];
        typed.messages.fetch_add(1, Ordering::Relaxed);
        typed.resources.fetch_add(received.resources as u64, Ordering::Relaxed);
        typed.removed.fetch_add(received.removed as u64, Ordering::Relaxed);
        typed.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn ended(&self, why: String) {
        *lock(&self.ends).entry(why).or_default() += 1;
    }

    /// A proxy that began at `begin` has all it asked for `now`.
    pub(super) fn subscribed(&self, begin: Instant, now: Instant) {
        self.complete.fetch_max(now.duration_since(self.started).as_micros() as u64, Ordering::Relaxed);
        lock(&self.subscribed).add(now - begin);
    }

    /// When the last response came; the start if none did.
    pub(super) fn last(&self) -> Instant {
        self.started + Duration::from_micros(self.last.load(Ordering::Relaxed))
    }

    pub(super) fn summary(&self) -> Summary {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let types: BTreeMap<&'static str, TypeSummary> = Kind::ALL
            .into_iter()
            .zip(&self.types)
            .map(|(kind, typed)| {
                let summary = TypeSummary {
                    messages: load(&typed.messages),
                    resources: load(&typed.resources),
                    removed: load(&typed.removed),
                    bytes: load(&typed.bytes),
                };
                (kind.short(), summary)
            })
            .filter(|(_, typed)| typed.messages > 0)
            .collect();
        Summary {
            elapsed_ms: self.started.elapsed().as_millis() as u64,
            subscribed: lock(&self.subscribed).summary(),
            complete_ms: load(&self.complete) as f64 / 1e3,
            connects: load(&self.connects),
            messages: types.values().map(|typed| typed.messages).sum(),
            resources: types.values().map(|typed| typed.resources).sum(),
            bytes: types.values().map(|typed| typed.bytes).sum(),
            types,
            odd: load(&self.odd),
            ends: lock(&self.ends).clone(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Counters are right at every moment.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a fleet has counted since its start.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Time since the start.
    pub elapsed_ms: u64,
    /// From a proxy's start until it had all it asked for, the first time.
    pub subscribed: TimesSummary,
    /// From the start of the fleet until the last of them had it.
    pub complete_ms: f64,
    /// Streams opened.
    pub connects: u64,
    /// Responses.
    pub messages: u64,
    /// Resources in them.
    pub resources: u64,
    /// Bytes of responses, without framing.
    pub bytes: u64,
    /// The same by type.
    pub types: BTreeMap<&'static str, TypeSummary>,
    /// Responses of types nobody asked for.
    pub odd: u64,
    /// Why connections ended or could not be opened.
    pub ends: BTreeMap<String, u64>,
}

/// Counters of one type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct TypeSummary {
    /// Responses.
    pub messages: u64,
    /// Resources in them.
    pub resources: u64,
    /// Names removed.
    pub removed: u64,
    /// Bytes of responses.
    pub bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_times() {
        let mut times = Times::default();
        assert_eq!(times.summary(), TimesSummary::default());
        (1..=100).for_each(|ms| times.add(Duration::from_millis(ms)));
        let close = |found: f64, expected: f64| (found - expected).abs() <= expected * 0.001;
        assert!(close(times.percentile(50.0), 50.0) && close(times.percentile(99.0), 99.0), "{times:?}");
        assert!(close(times.max(), 100.0));
        times.add(Duration::from_secs(1_000_000));
        assert!(times.max() >= LONGEST as f64 / 1e3, "what is too long is the longest");
    }
}
