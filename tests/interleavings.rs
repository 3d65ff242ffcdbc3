//! Every order in which threads can run through the slot of an assignment and through the mailbox of a stream.
//!
//! Both rooms of `xds` are compiled here once more, with locks and wake-ups of [loom](https://docs.rs/loom) in place of
//! the real ones; loom then runs each test once for every order that differs (with at most [`SWITCHES`] switches to
//! another thread that nothing forced). A wake-up that is lost shows as a deadlock.

mod resource {
    pub(crate) use tombolo::xds::resource::ResourceType;
}

/// What `src/xds/sync.rs` has, as loom sees it.
mod sync {
    use std::sync::Arc;

    use loom::sync::Condvar;
    pub(crate) use loom::sync::{Mutex, MutexGuard};

    /// `tokio::sync::Notify` of one waiter: one permit, which waits for who comes later.
    #[derive(Debug, Default)]
    pub(crate) struct Notify {
        permit: Mutex<bool>,
        given: Condvar,
    }

    impl Notify {
        pub(crate) fn new() -> Self {
            Self::default()
        }

        pub(crate) fn notify_one(&self) {
            *self.permit.lock().expect("a lock") = true;
            self.given.notify_one();
        }

        /// Blocks the thread, which is all that a task is here.
        pub(crate) async fn notified(&self) {
            let mut permit = self.permit.lock().expect("a lock");
            while !*permit {
                permit = self.given.wait(permit).expect("a lock");
            }
            *permit = false;
        }
    }

    /// A shared pointer that is read and swapped as a whole.
    #[derive(Debug)]
    pub(crate) struct Pointer<T>(Mutex<Option<Arc<T>>>);

    impl<T> Pointer<T> {
        pub(crate) fn empty() -> Self {
            Self(Mutex::new(None))
        }

        pub(crate) fn load_full(&self) -> Option<Arc<T>> {
            self.0.lock().expect("a lock").clone()
        }

        pub(crate) fn swap(&self, next: Option<Arc<T>>) -> Option<Arc<T>> {
            std::mem::replace(&mut *self.0.lock().expect("a lock"), next)
        }
    }
}

#[allow(dead_code, unreachable_pub, reason = "parts of it are for others than these tests")]
#[path = "../src/xds/slot.rs"]
mod slot;
#[allow(dead_code, unreachable_pub, reason = "parts of it are for others than these tests")]
#[path = "../src/xds/watchers.rs"]
mod watchers;

use std::collections::BTreeSet;
use std::future::Future as _;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use loom::sync::Mutex;
use loom::thread;
use tombolo::model;

use self::resource::ResourceType::{Cluster, Endpoint};
use self::slot::{Make, Slot};
use self::watchers::{Dirty, Marks, StreamHandle, Watchers};

/// Switches of threads in one run that nothing forced. Races of two or three threads need no more than two.
const SWITCHES: usize = 3;
/// The name that all watch.
const NAME: &str = "outbound|80||a";

fn every_order(test: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(SWITCHES);
    builder.check(test);
}

/// Runs threads to their ends.
fn at_once(threads: Vec<Box<dyn FnOnce() + Send>>) {
    let threads: Vec<_> = threads.into_iter().map(thread::spawn).collect();
    threads.into_iter().for_each(|thread| thread.join().expect("a thread"));
}

/// Waits to be woken.
fn woken(stream: &StreamHandle) {
    let ready = pin!(stream.woken()).poll(&mut Context::from_waker(Waker::noop()));
    assert!(ready.is_ready());
}

/// A value, by the versions of the parts that it is of.
#[derive(Clone, Debug)]
struct Made(Vec<(usize, u64)>);

impl Made {
    fn version(&self, part: usize) -> u64 {
        self.0.iter().find(|(of, _)| *of == part).map_or(0, |(_, version)| *version)
    }
}

/// Two parts, of which the first leads to the second once it has changed, as a service leads to its waypoint. The
/// content depends on whether versions are odd.
struct World {
    parts: [Mutex<u64>; 2],
    readers: Mutex<BTreeSet<usize>>,
    slot: Slot<Made, usize>,
    watchers: Watchers,
    made: AtomicUsize,
    /// The versions that count, each and one more.
    counted: AtomicI64,
}

impl World {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            parts: [Mutex::new(0), Mutex::new(0)],
            readers: Mutex::new(BTreeSet::new()),
            slot: Slot::default(),
            watchers: Watchers::default(),
            made: AtomicUsize::new(0),
            counted: AtomicI64::new(0),
        })
    }

    fn version(&self, part: usize) -> u64 {
        *self.parts[part].lock().expect("a lock")
    }

    /// Publishes a version, then tells those who are listed.
    fn change(&self, part: usize) {
        *self.parts[part].lock().expect("a lock") += 1;
        let listed = self.readers.lock().expect("a lock").contains(&part);
        if listed && self.slot.refresh(self) {
            let mut marks = Marks::new(None);
            marks.name(&self.watchers, Endpoint, &NAME.into());
            marks.wake();
        }
    }

    /// A stream that asks and remembers what it got.
    fn watcher(self: &Arc<Self>, id: u64) -> Watcher {
        let stream = StreamHandle::new(id);
        self.watchers.add(&stream);
        Watcher { world: Arc::clone(self), stream, seen: Arc::default() }
    }
}

impl Make for World {
    type Value = Made;
    type Source = usize;
    type Content = Arc<Made>;

    fn make(&self) -> (Made, Arc<Made>) {
        self.made.fetch_add(1, Ordering::Relaxed);
        let first = self.version(0);
        let second = (first > 0).then(|| (1, self.version(1)));
        let made = Made([(0, first)].into_iter().chain(second).collect());
        (made.clone(), Arc::new(made))
    }

    fn content(&self, made: &Arc<Made>) -> Option<Arc<Made>> {
        Some(Arc::clone(made))
    }

    fn is_current(&self, made: &Made) -> bool {
        made.0.iter().all(|(part, version)| self.version(*part) == *version)
    }

    fn sources(made: &Made) -> impl Iterator<Item = usize> {
        made.0.iter().map(|(part, _)| *part)
    }

    fn hash(made: &Made) -> u128 {
        made.0.iter().map(|(part, version)| u128::from(version % 2) << part).sum()
    }

    fn list(&self, part: usize) {
        self.readers.lock().expect("a lock").insert(part);
    }

    fn unlist(&self, part: usize) {
        self.readers.lock().expect("a lock").remove(&part);
    }

    fn replaced(&self, before: Option<&Made>, after: Option<&Made>) {
        if let (Some(before), Some(after)) = (before, after) {
            let older = (0..2).any(|part| after.version(part) < before.version(part));
            assert!(!older, "{after:?} in place of {before:?}");
        }
        let count = |made: Option<&Made>| made.map_or(0, |made| 1 + made.version(0) as i64);
        self.counted.fetch_add(count(after) - count(before), Ordering::Relaxed);
    }
}

/// A stream that has asked for the value.
#[derive(Clone)]
struct Watcher {
    world: Arc<World>,
    stream: Arc<StreamHandle>,
    seen: Arc<std::sync::Mutex<Option<Arc<Made>>>>,
}

impl Watcher {
    /// As a thread: asks so many times.
    fn asks(&self, times: usize) -> Box<dyn FnOnce() + Send> {
        let it = self.clone();
        Box::new(move || {
            for _ in 0..times {
                *it.seen.lock().expect("a lock") = Some(it.world.slot.current(&*it.world));
            }
        })
    }

    /// It holds what is newest, or will wake and ask for it.
    fn is_or_will_be_current(&self) {
        let newest = self.world.slot.current(&*self.world);
        assert!(self.world.is_current(&newest));
        let seen = self.seen.lock().expect("a lock").take().expect("a value");
        if World::hash(&seen) != World::hash(&newest) {
            woken(&self.stream);
            assert!(self.stream.take().names.contains(&(Endpoint, NAME.into())), "{seen:?} of {newest:?}");
        }
    }
}

/// As a thread: these parts change, one after the other.
fn changes(world: &Arc<World>, parts: &'static [usize]) -> Box<dyn FnOnce() + Send> {
    let world = Arc::clone(world);
    Box::new(move || parts.iter().for_each(|part| world.change(*part)))
}

#[test]
fn a_change_between_a_miss_and_its_listing_is_not_lost() {
    every_order(|| {
        let world = World::new();
        let watcher = world.watcher(1);
        at_once(vec![watcher.asks(1), changes(&world, &[0, 1])]);
        watcher.is_or_will_be_current();
    });
}

#[test]
fn all_are_told_of_what_some_have_already() {
    every_order(|| {
        let world = World::new();
        let (early, late) = (world.watcher(1), world.watcher(2));
        early.asks(1)();
        at_once(vec![late.asks(2), changes(&world, &[0])]);
        early.is_or_will_be_current();
        late.is_or_will_be_current();
    });
}

#[test]
fn a_content_that_comes_back_is_told_to_who_has_seen_another() {
    every_order(|| {
        let world = World::new();
        let (early, late) = (world.watcher(1), world.watcher(2));
        early.asks(1)();
        at_once(vec![late.asks(1), changes(&world, &[0, 0])]);
        early.is_or_will_be_current();
        late.is_or_will_be_current();
    });
}

#[test]
fn a_miss_of_several_is_made_once() {
    every_order(|| {
        let world = World::new();
        let watchers = [world.watcher(1), world.watcher(2), world.watcher(3)];
        at_once(watchers.iter().map(|watcher| watcher.asks(1)).collect());
        assert_eq!(world.made.load(Ordering::Relaxed), 1);
        world.change(0);
        assert_eq!(world.made.load(Ordering::Relaxed), 2, "by the change, for all");
        watchers.iter().for_each(Watcher::is_or_will_be_current);
        assert_eq!(world.made.load(Ordering::Relaxed), 2);
    });
}

#[test]
fn a_closed_slot_is_listed_nowhere() {
    every_order(|| {
        let world = World::new();
        let watcher = world.watcher(1);
        watcher.asks(1)();
        let closing = Arc::clone(&world);
        let close = Box::new(move || closing.slot.close(&*closing));
        at_once(vec![close, changes(&world, &[0, 1])]);
        assert_eq!(*world.readers.lock().expect("a lock"), BTreeSet::new());
        assert_eq!(world.counted.load(Ordering::Relaxed), 0);
    });
}

#[test]
fn no_wake_up_is_lost_and_each_mark_is_seen_after_one() {
    every_order(|| {
        let (stream, watchers) = (StreamHandle::new(1), Arc::new(Watchers::default()));
        watchers.add(&stream);
        let pusher = |kind| -> Box<dyn FnOnce() + Send> {
            let watchers = Arc::clone(&watchers);
            Box::new(move || {
                let mut marks = Marks::new(None);
                marks.name(&watchers, kind, &NAME.into());
                marks.list(&watchers, kind);
                // Not by who finds it marked, and once more if it looks between the two marks.
                assert!(marks.wake() <= 2);
            })
        };
        let reader: Box<dyn FnOnce() + Send> = Box::new({
            let stream = Arc::clone(&stream);
            move || {
                let (mut names, mut lists) = (BTreeSet::new(), BTreeSet::new());
                while names.len() < 2 || lists.len() < 2 {
                    woken(&stream);
                    let dirty = stream.take();
                    names.extend(dirty.names);
                    lists.extend(dirty.lists);
                }
            }
        });
        at_once(vec![reader, pusher(Endpoint), pusher(Cluster)]);
        assert_eq!(stream.take(), Dirty::default());
    });
}

#[test]
fn d17_a_marked_stream_is_woken_once_and_others_not_at_all() {
    every_order(|| {
        let (a, b) = (StreamHandle::new(1), StreamHandle::new(2));
        let watchers = Watchers::default();
        watchers.add(&a);
        let mut marks = Marks::new(None);
        marks.name(&watchers, Endpoint, &"x".into());
        marks.list(&watchers, Cluster);
        assert_eq!(marks.wake(), 1);
        woken(&a);
        let dirty = a.take();
        assert!(dirty.names.contains(&(Endpoint, "x".into())) && dirty.lists.contains(&Cluster));
        assert_eq!((a.take(), b.take()), (Dirty::default(), Dirty::default()));
    });
}

#[test]
fn z45_streams_marked_by_a_push_that_fails_are_woken() {
    every_order(|| {
        let (stream, watchers) = (StreamHandle::new(1), Watchers::default());
        watchers.add(&stream);
        let mut failed = Marks::new(None);
        failed.list(&watchers, Cluster);
        let mut next = Marks::new(None);
        next.list(&watchers, Endpoint);
        assert_eq!(next.wake(), 0, "whoever marked it first wakes it");
        drop(failed);
        woken(&stream);
        assert_eq!(stream.take().lists, [Cluster, Endpoint].into());
    });
}

#[test]
fn xf01_who_does_not_look_is_told_that_anything_may_differ() {
    every_order(|| {
        let (stream, watchers) = (StreamHandle::new(1), Watchers::default());
        watchers.add(&stream);
        let begin = Instant::now();
        let mark = |seconds, name: &str| {
            let mut marks = Marks::new(None);
            marks.now = Some(begin + Duration::from_secs(seconds));
            marks.name(&watchers, Endpoint, &name.into());
            marks.wake()
        };
        assert_eq!((mark(0, "a"), mark(1, "b")), (1, 0));
        woken(&stream);
        let dirty = stream.take();
        assert_eq!((dirty.names.len(), dirty.everything), (2, false));
        // Slow is not deaf.
        assert_eq!((mark(2, "a"), mark(4, "b")), (1, 0));
        woken(&stream);
        assert_eq!(stream.take().names.len(), 2);
        stream.deafen();
        assert_eq!((mark(12, "a"), mark(14, "b"), mark(15, "c")), (1, 0, 0));
        woken(&stream);
        let dirty = stream.take();
        assert_eq!((dirty.names.len(), dirty.everything), (0, true));
        assert_eq!((mark(60, "a"), mark(70, "b")), (1, 0));
        assert!(!stream.take().everything, "it listens again");
    });
}
