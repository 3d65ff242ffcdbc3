//! Encoded resources that can be built again, within a bound: what was least recently needed goes first (D18).
//!
//! Cells keep what identifies their content in any case; only bytes go. Work ∝ what is built: a resource that comes has
//! others go that came before it, and at most [`CHANCES`] are looked at for each that goes.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use arc_swap::ArcSwapOption;

use super::resource::{Encoded, ResourceType};

/// How many that were needed since they were last looked at are passed over for one that goes.
const CHANCES: u32 = 8;

/// The bytes of all cells of one server.
pub(super) struct Cache {
    limit: u64,
    /// Held in all.
    bytes: AtomicU64,
    by_type: [Row; ResourceType::ALL.len()],
    queue: Mutex<Queue>,
}

/// Those that hold bytes, the next to look at first.
#[derive(Debug, Default)]
struct Queue {
    waiting: BTreeMap<u64, Weak<Kept>>,
    /// How many places were given out.
    places: u64,
}

/// What became of the bytes of one type.
#[derive(Debug, Default)]
struct Row {
    hits: AtomicU64,
    misses: AtomicU64,
    evictions: AtomicU64,
    bytes: AtomicU64,
    entries: AtomicU64,
}

/// Reads and contents of one type, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheValues {
    /// Reads that found bytes.
    pub hits: u64,
    /// Reads that had to build.
    pub misses: u64,
    /// Bytes dropped for want of room.
    pub evictions: u64,
    /// Bytes held.
    pub bytes: u64,
    /// Resources that hold some.
    pub entries: u64,
}

impl Cache {
    /// Nothing yet. At most `limit` bytes stay; what is being built comes on top until it is there.
    pub(super) fn new(limit: u64) -> Arc<Self> {
        Arc::new(Self {
            limit,
            bytes: AtomicU64::new(0),
            by_type: Default::default(),
            queue: Mutex::default(),
        })
    }

    fn of(&self, kind: ResourceType) -> &Row {
        &self.by_type[kind as usize]
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps what was just built, as the most recently needed. [`make_room`](Self::make_room) is to follow.
    pub(super) fn keep(self: &Arc<Self>, kind: ResourceType, encoded: &Arc<Encoded>) -> Arc<Kept> {
        let bytes = encoded.len() as u64;
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.of(kind).bytes.fetch_add(bytes, Ordering::Relaxed);
        self.of(kind).entries.fetch_add(1, Ordering::Relaxed);
        let kept = Arc::new(Kept {
            cache: Arc::clone(self),
            kind,
            hash: encoded.hash,
            bytes: ArcSwapOption::from(Some(Arc::clone(encoded))),
            needed: AtomicBool::new(false),
            place: AtomicU64::new(0),
        });
        self.line_up(&kept);
        kept
    }

    /// Counts a read that found nothing.
    pub(super) fn missed(&self, kind: ResourceType) {
        self.of(kind).misses.fetch_add(1, Ordering::Relaxed);
    }

    /// Drops bytes while there are too many. Not to be called with a cell's lock held: others may wait for it. Cost ∝ what
    /// goes.
    pub(super) fn make_room(&self) {
        let mut chances = CHANCES;
        while self.bytes.load(Ordering::Relaxed) > self.limit {
            // In a statement of its own: what is dropped below takes the lock again.
            let first = self.queue().waiting.pop_first();
            let Some((_, first)) = first else { return };
            let Some(kept) = first.upgrade() else { continue };
            if chances > 0 && kept.needed.swap(false, Ordering::Relaxed) {
                chances -= 1;
                self.line_up(&kept);
            } else if kept.let_go() {
                chances = CHANCES;
                self.of(kept.kind).evictions.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Puts it behind all others.
    fn line_up(&self, kept: &Arc<Kept>) {
        let mut queue = self.queue();
        queue.places += 1;
        let place = queue.places;
        kept.place.store(place, Ordering::Relaxed);
        queue.waiting.insert(place, Arc::downgrade(kept));
    }

    /// Reads and contents of one type.
    pub(super) fn values(&self, kind: ResourceType) -> CacheValues {
        let (row, read) = (self.of(kind), |counter: &AtomicU64| counter.load(Ordering::Relaxed));
        CacheValues {
            hits: read(&row.hits),
            misses: read(&row.misses),
            evictions: read(&row.evictions),
            bytes: read(&row.bytes),
            entries: read(&row.entries),
        }
    }
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache")
            .field("limit", &self.limit)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

/// What a cell was built to be, and its bytes while there is room for them.
pub(super) struct Kept {
    cache: Arc<Cache>,
    kind: ResourceType,
    hash: u128,
    bytes: ArcSwapOption<Encoded>,
    /// Whether it was read since it was last looked at.
    needed: AtomicBool,
    /// Where it waits; changed under the lock of the queue.
    place: AtomicU64,
}

impl Kept {
    /// The hash of the bytes, whether or not they are there.
    pub(super) fn hash(&self) -> u128 {
        self.hash
    }

    /// The bytes, if they are still there. Lock-free.
    pub(super) fn get(&self) -> Option<Arc<Encoded>> {
        let bytes = self.bytes.load_full()?;
        // Read first: a write would move the line between processors.
        if !self.needed.load(Ordering::Relaxed) {
            self.needed.store(true, Ordering::Relaxed);
        }
        self.cache.of(self.kind).hits.fetch_add(1, Ordering::Relaxed);
        Some(bytes)
    }

    /// Drops the bytes; false when they are gone already.
    fn let_go(&self) -> bool {
        let Some(bytes) = self.bytes.swap(None) else { return false };
        let (row, length) = (self.cache.of(self.kind), bytes.len() as u64);
        self.cache.bytes.fetch_sub(length, Ordering::Relaxed);
        row.bytes.fetch_sub(length, Ordering::Relaxed);
        row.entries.fetch_sub(1, Ordering::Relaxed);
        true
    }
}

impl Drop for Kept {
    /// Its cell was built anew, or is gone.
    fn drop(&mut self) {
        if self.let_go() {
            let place = self.place.load(Ordering::Relaxed);
            self.cache.queue().waiting.remove(&place);
        }
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept").field("kind", &self.kind).field("hash", &self.hash).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
