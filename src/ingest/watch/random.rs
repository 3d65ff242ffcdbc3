//! Jitter from a seed: the same seed gives the same pauses.

#[cfg(not(test))]
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// A splitmix64 sequence. For jitter and samples only.
#[derive(Debug)]
pub(in crate::ingest) struct Random(u64);

impl Random {
    pub(in crate::ingest) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A seed that differs for every call and process.
    #[cfg(not(test))]
    pub(in crate::ingest) fn seed() -> u64 {
        RandomState::new().hash_one(())
    }

    /// A seed that differs for every call of a test's thread, and is the same in every run.
    #[cfg(test)]
    pub(in crate::ingest) fn seed() -> u64 {
        use std::cell::Cell;
        thread_local!(static SEEDS: Cell<u64> = const { Cell::new(0) });
        SEEDS.replace(SEEDS.get() + 1)
    }

    pub(in crate::ingest) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number in [0, 1).
    pub(in crate::ingest) fn fraction(&mut self) -> f64 {
        let top = u32::try_from(self.next() >> 32).expect("32 bits");
        f64::from(top) / (f64::from(u32::MAX) + 1.0)
    }

    /// A duration in [`from`, `to`).
    pub(in crate::ingest) fn between(&mut self, from: Duration, to: Duration) -> Duration {
        from + to.saturating_sub(from).mul_f64(self.fraction())
    }
}
