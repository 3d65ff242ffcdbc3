//! What one source did, readable at any time without a lock.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::ListReason;
use crate::ingest::objects::wire::Encoding;

/// What a source is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum SourcePhase {
    /// It has not begun.
    New,
    /// A list is asked for or read.
    Listing,
    /// A list whose headers are there waits for its permit (K-42).
    Queued,
    /// A watch is asked for.
    Connecting,
    /// A watch is open.
    Watching,
    /// It waits before the next attempt.
    Paused,
    /// The server cannot be reached; one source of the cluster looks for it.
    Unreachable,
    /// The server does not have this kind (K-46).
    NotServed,
}

impl SourcePhase {
    /// Every phase, by number.
    pub const ALL: [Self; 8] = [
        Self::New,
        Self::Listing,
        Self::Queued,
        Self::Connecting,
        Self::Watching,
        Self::Paused,
        Self::Unreachable,
        Self::NotServed,
    ];

    /// One word for tables and metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Listing => "listing",
            Self::Queued => "queued",
            Self::Connecting => "connecting",
            Self::Watching => "watching",
            Self::Paused => "paused",
            Self::Unreachable => "unreachable",
            Self::NotServed => "not-served",
        }
    }
}

/// Counters of one source. Every number but the phase and the pause only grows.
#[derive(Debug)]
pub struct SourceCounts {
    origin: Instant,
    relists: [AtomicU64; ListReason::ALL.len()],
    regressions: AtomicU64,
    duplicates: AtomicU64,
    opaque: AtomicU64,
    bytes: AtomicU64,
    frames: AtomicU64,
    requests: AtomicU64,
    failures: AtomicU64,
    probes: AtomicU64,
    fallbacks: AtomicU64,
    restarts: AtomicU64,
    retry_after: AtomicU64,
    last_event: AtomicU64,
    last_contact: AtomicU64,
    phase: AtomicU8,
    /// How objects arrive: 0 while nobody knows, then 1 plus the encoding's, or the list form's, number.
    encoding: AtomicU8,
    streamed: AtomicU8,
}

impl SourceCounts {
    /// Nothing yet; ages are counted by monotonic clocks from `origin` on (K-41).
    pub fn new(origin: Instant) -> Self {
        Self {
            origin,
            relists: Default::default(),
            regressions: AtomicU64::new(0),
            duplicates: AtomicU64::new(0),
            opaque: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            frames: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            probes: AtomicU64::new(0),
            fallbacks: AtomicU64::new(0),
            restarts: AtomicU64::new(0),
            retry_after: AtomicU64::new(0),
            last_event: AtomicU64::new(0),
            last_contact: AtomicU64::new(0),
            phase: AtomicU8::new(SourcePhase::New as u8),
            encoding: AtomicU8::new(0),
            streamed: AtomicU8::new(0),
        }
    }

    /// What a source counts that was asked to wait for so long.
    #[cfg(test)]
    pub(in crate::ingest) fn asked_to_wait(pause: Duration) -> Self {
        let counts = Self::new(Instant::now());
        counts.set_retry_after(pause);
        counts
    }

    /// Complete lists read for this reason: `relists_total{reason}`. The first one of a source is
    /// [`ListReason::First`].
    pub fn relists(&self, reason: ListReason) -> u64 {
        self.relists[reason as usize].load(Ordering::Relaxed)
    }

    /// Revisions that went back, and reads by name that contradicted lists: `rv_regressions_total` (K-19).
    pub fn rv_regressions(&self) -> u64 {
        self.regressions.load(Ordering::Relaxed)
    }

    /// Events told twice, dropped here (K-27).
    pub fn duplicates(&self) -> u64 {
        self.duplicates.load(Ordering::Relaxed)
    }

    /// Lists whose revision is no number: the checks of K-19 and K-27 are off since (D32).
    pub fn opaque_revisions(&self) -> u64 {
        self.opaque.load(Ordering::Relaxed)
    }

    /// Body bytes received: `bytes_in`.
    pub fn bytes_in(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Watch events received, bookmarks included.
    pub fn frames(&self) -> u64 {
        self.frames.load(Ordering::Relaxed)
    }

    /// Requests sent.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Attempts that failed.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Probes and looks by name sent (K-05, K-19).
    pub fn probes(&self) -> u64 {
        self.probes.load(Ordering::Relaxed)
    }

    /// Times this source gave up streaming lists or protobuf for a while (K-25, K-26).
    pub fn fallbacks(&self) -> u64 {
        self.fallbacks.load(Ordering::Relaxed)
    }

    /// Lists that began again because their pages had expired (K-11).
    pub fn restarts(&self) -> u64 {
        self.restarts.load(Ordering::Relaxed)
    }

    /// The `Retry-After` that is being waited for, as the server said it; zero when none is:
    /// `retry_after_seconds` (K-13).
    pub fn retry_after(&self) -> Duration {
        Duration::from_millis(self.retry_after.load(Ordering::Relaxed))
    }

    /// How long ago an object was told of; `None` if never.
    pub fn last_event_age(&self, now: Instant) -> Option<Duration> {
        self.age(&self.last_event, now)
    }

    /// How long ago the server said anything to this source; `None` if never.
    pub fn last_contact_age(&self, now: Instant) -> Option<Duration> {
        self.age(&self.last_contact, now)
    }

    /// What it is doing.
    pub fn phase(&self) -> SourcePhase {
        SourcePhase::ALL[usize::from(self.phase.load(Ordering::Relaxed))]
    }

    /// How its watch is encoded; `None` before the first one.
    pub fn encoding(&self) -> Option<Encoding> {
        match self.encoding.load(Ordering::Relaxed) {
            0 => None,
            1 => Some(Encoding::Json),
            _ => Some(Encoding::Protobuf),
        }
    }

    /// Whether its last list came as a stream, not in pages; `None` before the first one.
    pub fn streamed(&self) -> Option<bool> {
        self.streamed.load(Ordering::Relaxed).checked_sub(1).map(|streamed| streamed == 1)
    }

    pub(super) fn set_encoding(&self, encoding: Encoding) {
        self.encoding.store(if encoding == Encoding::Json { 1 } else { 2 }, Ordering::Relaxed);
    }

    pub(super) fn set_streamed(&self, streamed: bool) {
        self.streamed.store(1 + u8::from(streamed), Ordering::Relaxed);
    }

    fn age(&self, at: &AtomicU64, now: Instant) -> Option<Duration> {
        let at = at.load(Ordering::Relaxed).checked_sub(1)?;
        Some(now.saturating_duration_since(self.origin).saturating_sub(Duration::from_millis(at)))
    }

    /// Milliseconds since the origin, from 1 on.
    fn stamp(&self, now: Instant) -> u64 {
        millis(now.saturating_duration_since(self.origin)).saturating_add(1)
    }

    pub(super) fn set_phase(&self, phase: SourcePhase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    pub(super) fn listed(&self, reason: ListReason) {
        bump(&self.relists[reason as usize], 1);
    }

    pub(super) fn regressed(&self) {
        bump(&self.regressions, 1);
    }

    pub(super) fn duplicate(&self) {
        bump(&self.duplicates, 1);
    }

    pub(super) fn opaque(&self) {
        bump(&self.opaque, 1);
    }

    pub(super) fn received(&self, bytes: usize, now: Instant) {
        bump(&self.bytes, bytes as u64);
        self.contact(now);
    }

    pub(super) fn frame(&self) {
        bump(&self.frames, 1);
    }

    pub(super) fn request(&self) {
        bump(&self.requests, 1);
    }

    pub(super) fn failed(&self) {
        bump(&self.failures, 1);
    }

    pub(super) fn probed(&self) {
        bump(&self.probes, 1);
    }

    pub(super) fn fell_back(&self) {
        bump(&self.fallbacks, 1);
    }

    pub(super) fn restarted(&self) {
        bump(&self.restarts, 1);
    }

    pub(super) fn set_retry_after(&self, pause: Duration) {
        self.retry_after.store(millis(pause), Ordering::Relaxed);
    }

    pub(super) fn event(&self, now: Instant) {
        self.last_event.store(self.stamp(now), Ordering::Relaxed);
    }

    pub(super) fn contact(&self, now: Instant) {
        self.last_contact.store(self.stamp(now), Ordering::Relaxed);
    }
}

fn bump(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
