//! One allocation per text in the whole process.

use std::cell::RefCell;
use std::hash::{BuildHasher, RandomState};
use std::sync::{LazyLock, Mutex, PoisonError};

use arcstr::ArcStr;
use hashbrown::{DefaultHashBuilder, HashTable};

/// Locks: a power of two, so that the top bits of a hash choose one.
const SHARDS: usize = 64;
/// A shard with fewer texts than this is not swept.
const SMALL: usize = 64;

/// Texts of one thread that are found without a lock: a power of two.
const RECENT: usize = 512;

thread_local! {
    static RECENT_TEXTS: RefCell<Recent> = RefCell::new(Recent::new());
}

/// The texts that a thread asked for last: mostly they are asked for again, object after object. Held until
/// another one takes the place.
struct Recent {
    hasher: DefaultHashBuilder,
    texts: Box<[ArcStr]>,
}

impl Recent {
    fn new() -> Self {
        Self { hasher: DefaultHashBuilder::default(), texts: vec![ArcStr::new(); RECENT].into() }
    }

    fn find(&mut self, text: &str) -> ArcStr {
        let place = &mut self.texts[self.hasher.hash_one(text) as usize % RECENT];
        if place != text {
            *place = shared(text);
        }
        place.clone()
    }
}

static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);
static TABLE: [Mutex<Shard>; SHARDS] = [const { Mutex::new(Shard::new()) }; SHARDS];

#[derive(Debug)]
struct Shard {
    texts: HashTable<ArcStr>,
    /// At how many texts those that nobody else holds are forgotten.
    sweep_at: usize,
}

impl Shard {
    const fn new() -> Self {
        Self { texts: HashTable::new(), sweep_at: SMALL }
    }

    /// Forgets texts that nobody holds. Doubling the limit keeps the cost per new text constant.
    fn sweep(&mut self) {
        self.texts.retain(|text| ArcStr::strong_count(text) != Some(1));
        self.texts.shrink_to_fit(hash_of);
        self.sweep_at = (2 * self.texts.len()).max(SMALL);
    }
}

fn hash_of(text: &ArcStr) -> u64 {
    HASHER.hash_one(text.as_str())
}

/// The one copy of a text. Held by whoever has it, not by the table: at most as many unused texts stay as
/// there are used ones, and a few of each thread. Costs a look-up, and a lock where that finds nothing.
pub(super) fn intern(text: &str) -> ArcStr {
    if text.is_empty() {
        return ArcStr::new();
    }
    // A thread that ends has none any more.
    RECENT_TEXTS.try_with(|recent| recent.borrow_mut().find(text)).unwrap_or_else(|_| shared(text))
}

/// Locks one of 64 shards for one look-up.
fn shared(text: &str) -> ArcStr {
    let hash = HASHER.hash_one(text);
    let at = (hash >> (u64::BITS - SHARDS.ilog2())) as usize;
    let mut shard = TABLE[at].lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = shard.texts.find(hash, |known| known == text) {
        return known.clone();
    }
    if shard.texts.len() >= shard.sweep_at {
        shard.sweep();
    }
    let new = ArcStr::from(text);
    shard.texts.insert_unique(hash, new.clone(), hash_of);
    new
}

/// Forgets all texts that nobody holds, but for a few of each thread: for when many were let go at once and no new ones
/// may come for long. Cost ∝ all texts.
pub(super) fn forget_unused() {
    for shard in &TABLE {
        shard.lock().unwrap_or_else(PoisonError::into_inner).sweep();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_are_one() {
        let (first, second) = (intern("interned-twice"), intern("interned-twice"));
        assert!(ArcStr::ptr_eq(&first, &second));
        assert!(ArcStr::is_static(&intern("")), "the empty text needs no memory");
    }

    #[test]
    fn xf08_what_was_let_go_can_be_forgotten_at_once() {
        let names: Vec<_> = (0..50_000).map(|n| intern(&format!("interned-by-a-stream-{n}"))).collect();
        let known = || {
            let of_stream = |text: &ArcStr| text.starts_with("interned-by-a-stream-");
            let of_shard = |shard: &Shard| shard.texts.iter().filter(|text| of_stream(text)).count();
            TABLE.iter().map(|shard| of_shard(&shard.lock().unwrap())).sum::<usize>()
        };
        forget_unused();
        assert_eq!(known(), names.len(), "what is held stays");
        drop(names);
        forget_unused();
        assert!(known() <= RECENT, "{}", known());
    }

    #[test]
    fn texts_that_nobody_holds_are_forgotten() {
        let held: Vec<_> = (0..100).map(|n| intern(&format!("interned-and-held-{n}"))).collect();
        (0..1_000_000).for_each(|n| drop(intern(&format!("interned-and-dropped-{n}"))));
        let size = || TABLE.iter().map(|shard| shard.lock().unwrap().texts.len()).sum::<usize>();
        assert!(size() < 100_000, "{}", size());
        for (n, text) in held.iter().enumerate() {
            assert!(ArcStr::ptr_eq(text, &intern(&format!("interned-and-held-{n}"))));
        }
    }
}
