//! Who wants to know: stream handles, and the sets of them that cells keep (D17).
//!
//! Every order of marks, wake-ups and looks is tried by `tests/interleavings.rs`, which compiles this very file.

use std::borrow::Borrow;
use std::collections::BTreeSet;
use std::hash::{BuildHasherDefault, DefaultHasher, Hash, Hasher};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use hashbrown::HashSet;

use super::resource::ResourceType;
use super::sync::{Mutex, MutexGuard, Notify};
use crate::model::Name;

/// A stream that does not listen for so long is not told what exactly changed.
const LATE: Duration = Duration::from_secs(1);

/// What may differ for one stream since it last looked. Merging is idempotent; bounded by its subscriptions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Dirty {
    /// Named resources with new bytes.
    pub(super) names: BTreeSet<(ResourceType, Name)>,
    /// Too long not looked at to tell apart what changes: any assignment or route may have new bytes.
    pub(super) everything: bool,
    /// Wildcard types whose lists differ.
    pub(super) lists: BTreeSet<ResourceType>,
    /// Assignments that may belong to another projection now.
    pub(super) rekeys: BTreeSet<Name>,
    /// Policies about the proxy's own listeners.
    pub(super) own: bool,
    /// What the registry knows of the proxy itself, or of the services behind its own ports.
    pub(super) view: bool,
    /// With `view`: policies that may decide for any assignment which projection it belongs to.
    pub(super) rules: bool,
    /// When the first of these changes arrived.
    pub(super) since: Option<Instant>,
    /// When the first of them was noted here.
    pub(super) marked: Option<Instant>,
}

impl Dirty {
    fn touch(&mut self, since: Option<Instant>) {
        self.since = match (self.since, since) {
            (Some(ours), Some(theirs)) => Some(ours.min(theirs)),
            (ours, theirs) => ours.or(theirs),
        };
    }
}

/// The mailbox of one stream.
#[derive(Debug)]
pub(super) struct StreamHandle {
    /// Process-wide number of the stream.
    pub(super) id: u64,
    mail: Mutex<Mail>,
    wake: Notify,
}

/// What is in a mailbox.
#[derive(Debug, Default)]
struct Mail {
    dirty: Dirty,
    /// Whether the stream does not listen: its transport has not taken what was written last.
    deaf: bool,
}

impl Mail {
    /// What changes while nobody listens is not told apart after [`LATE`]: one more name costs nothing then (X-F01).
    fn age(&mut self, now: Instant) {
        let late = |marked| now.saturating_duration_since(marked) > LATE;
        if self.deaf && !self.dirty.everything && self.dirty.marked.is_some_and(late) {
            self.dirty.everything = true;
            self.dirty.names = BTreeSet::new();
        }
    }
}

impl StreamHandle {
    /// The mailbox of stream `id`.
    pub(super) fn new(id: u64) -> Arc<Self> {
        Arc::new(Self { id, mail: Mutex::default(), wake: Notify::new() })
    }

    fn mail(&self) -> MutexGuard<'_, Mail> {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what is dirty; the stream listens again.
    pub(super) fn take(&self) -> Dirty {
        std::mem::take(&mut *self.mail()).dirty
    }

    /// Says that the stream will not [`take`](Self::take) anything until its transport asks for more.
    pub(super) fn deafen(&self) {
        self.mail().deaf = true;
    }

    /// Waits to be woken. A wake-up that came before the wait counts.
    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }

    fn wake(&self) {
        self.wake.notify_one();
    }
}

/// A set of streams. There is one for each resource that somebody watches, and in all of them together an entry for
/// each subscription: a pointer each.
#[derive(Debug, Default)]
pub(super) struct Watchers(Mutex<Streams>);

/// Hashed alike in every run: ids are our own.
type Streams = HashSet<ById, BuildHasherDefault<DefaultHasher>>;

/// A stream, found by its id.
#[derive(Debug)]
struct ById(Arc<StreamHandle>);

impl Borrow<u64> for ById {
    fn borrow(&self) -> &u64 {
        &self.0.id
    }
}

impl Hash for ById {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.id.hash(state);
    }
}

impl PartialEq for ById {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for ById {}

impl Watchers {
    fn streams(&self) -> MutexGuard<'_, Streams> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a stream.
    pub(super) fn add(&self, stream: &Arc<StreamHandle>) {
        self.streams().insert(ById(Arc::clone(stream)));
    }

    /// Removes a stream.
    pub(super) fn remove(&self, stream: &StreamHandle) {
        self.streams().remove(&stream.id);
    }

    /// Whether nobody watches.
    pub(super) fn is_empty(&self) -> bool {
        self.streams().is_empty()
    }

    fn each(&self, mut visit: impl FnMut(&Arc<StreamHandle>)) {
        self.streams().iter().for_each(|stream| visit(&stream.0));
    }
}

/// Marks streams dirty in one push and wakes each of them at its end. A stream that has not looked since it was last
/// marked is woken by whoever marked it then.
#[derive(Debug)]
pub(super) struct Marks {
    since: Option<Instant>,
    /// For tests: a moment that stands still.
    pub(super) now: Option<Instant>,
    marked: Vec<Arc<StreamHandle>>,
}

impl Marks {
    /// Marks of a push whose first change was noted at `since`.
    pub(super) fn new(since: Option<Instant>) -> Self {
        Self { since, now: None, marked: Vec::new() }
    }

    fn mark(&mut self, watchers: &Watchers, change: impl Fn(&mut Dirty)) {
        let now = self.now.unwrap_or_else(Instant::now);
        watchers.each(|stream| {
            let mut mail = stream.mail();
            mail.age(now);
            let dirty = &mut mail.dirty;
            change(dirty);
            dirty.touch(self.since);
            if dirty.marked.is_none() {
                dirty.marked = Some(now);
                self.marked.push(Arc::clone(stream));
            }
        });
    }

    /// A named resource has new bytes.
    pub(super) fn name(&mut self, watchers: &Watchers, kind: ResourceType, name: &Name) {
        self.mark(watchers, |dirty| {
            if !dirty.everything {
                dirty.names.insert((kind, name.clone()));
            }
        });
    }

    /// An assignment may belong to another projection: a rule or a record that projections read differs.
    pub(super) fn rekey(&mut self, watchers: &Watchers, name: &Name) {
        self.mark(watchers, |dirty| {
            dirty.rekeys.insert(name.clone());
        });
    }

    /// What policies say about the proxies' own listeners differs.
    pub(super) fn own(&mut self, watchers: &Watchers) {
        self.mark(watchers, |dirty| dirty.own = true);
    }

    /// The lists of a wildcard type differ.
    pub(super) fn list(&mut self, watchers: &Watchers, kind: ResourceType) {
        self.mark(watchers, |dirty| {
            dirty.lists.insert(kind);
        });
    }

    /// What is known of the proxies themselves differs.
    pub(super) fn view(&mut self, watchers: &Watchers) {
        self.mark(watchers, |dirty| dirty.view = true);
    }

    /// The same, and any assignment may belong to another projection: policies differ that are read for every name.
    pub(super) fn rules(&mut self, watchers: &Watchers) {
        self.mark(watchers, |dirty| (dirty.view, dirty.rules) = (true, true));
    }

    /// Wakes every stream that is to look; says how many.
    pub(super) fn wake(self) -> usize {
        self.marked.len()
    }
}

impl Drop for Marks {
    /// In any case, after a panic too: whoever marks these streams next does not wake them.
    fn drop(&mut self) {
        self.marked.iter().for_each(|stream| stream.wake());
    }
}
