//! Whether there is memory for one more proxy (Z-40).

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often the memory in use is looked at, at most.
const LOOK: Duration = Duration::from_millis(100);

/// Compares the memory of this process with a limit. Who has a stream keeps it; new ones are refused above the limit.
#[derive(Debug)]
pub(super) struct Memory {
    limit: Option<u64>,
    resident: fn() -> io::Result<u64>,
    in_use: AtomicU64,
    looked: Mutex<Option<Instant>>,
    full: AtomicBool,
}

/// More memory is in use than new proxies may bring it to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full {
    in_use: u64,
    limit: u64,
}

impl std::fmt::Display for Full {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mib = |bytes: u64| bytes >> 20;
        write!(
            f,
            "{} MiB of memory are in use and new streams are refused above {} MiB (limits.memory); connect to another \
             replica, or again later",
            mib(self.in_use),
            mib(self.limit),
        )
    }
}

impl Memory {
    /// At most `limit` bytes before streams are refused, as `resident` tells them.
    pub(super) fn new(limit: Option<u64>, resident: fn() -> io::Result<u64>) -> Self {
        Self {
            limit,
            resident,
            in_use: AtomicU64::new(0),
            looked: Mutex::default(),
            full: AtomicBool::new(false),
        }
    }

    /// Whether one more stream may come at `now`. Where the memory in use is not told there is no limit. Cost: a lock;
    /// ten times a second a read of `/proc`.
    pub(super) fn check(&self, now: Instant) -> Result<(), Full> {
        let Some(limit) = self.limit else { return Ok(()) };
        self.look(now);
        let in_use = self.in_use.load(Ordering::Relaxed);
        let full = in_use > limit;
        // Once each time, however many proxies come meanwhile.
        if self.full.swap(full, Ordering::Relaxed) != full {
            let (in_use, limit) = (in_use >> 20, limit >> 20);
            if full {
                tracing::warn!(in_use, limit, "memory limit in MiB exceeded: new streams are refused");
            } else {
                tracing::info!(in_use, limit, "memory in MiB is below its limit again");
            }
        }
        if full { Err(Full { in_use, limit }) } else { Ok(()) }
    }

    fn look(&self, now: Instant) {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        if looked.is_none_or(|at| now.saturating_duration_since(at) >= LOOK) {
            *looked = Some(now);
            self.in_use.store((self.resident)().unwrap_or(0), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    thread_local! {
        static LOOKS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
    }

    /// 100 MiB at the first look, 300 at the second, then 100 again.
    fn resident() -> io::Result<u64> {
        let look = LOOKS.replace(LOOKS.get() + 1);
        Ok(if look == 1 { 300 << 20 } else { 100 << 20 })
    }

    #[test]
    fn z40_streams_are_refused_above_the_limit_only_and_memory_is_looked_at_now_and_then() {
        let memory = Memory::new(Some(200 << 20), resident);
        let start = Instant::now();
        for look in 0..3 {
            for _ in 0..1000 {
                let full = memory.check(start + LOOK * look);
                assert_eq!(full.is_err(), look == 1);
            }
        }
        assert_eq!(LOOKS.get(), 3);
        let full = Full { in_use: 300 << 20, limit: 200 << 20 };
        assert!(full.to_string().contains("300 MiB") && full.to_string().contains("above 200 MiB"), "{full}");
    }

    #[test]
    fn z40_without_a_limit_or_a_figure_nobody_is_refused() {
        let unknown = || Err(io::ErrorKind::NotFound.into());
        assert!(Memory::new(Some(1), unknown).check(Instant::now()).is_ok());
        assert!(Memory::new(None, || Ok(u64::MAX)).check(Instant::now()).is_ok());
    }
}
