//! The objects of one kind: keyed upsert, and mark and sweep for complete lists.

use std::collections::HashSet;
use std::time::Instant;
use std::vec::IntoIter;

use hashbrown::HashMap;

use super::guard::{Guard, HeldBack, Losses};
use super::listing::{Listing, Row, Rows};
use super::quarantine::Quarantine;
use super::revisions::Revisions;
use crate::ingest::counts::EventKind;
use crate::ingest::objects::{ObjectKey, ObjectKind};
use crate::ingest::watch::{Received, SourceEvent};
use crate::model::Name;

/// What one event changed.
#[derive(Debug)]
pub(super) struct Changes<T> {
    /// Objects that differ: the key, what it was, and how it changed.
    pub(super) changed: Vec<(ObjectKey, Option<T>, EventKind)>,
    /// Objects told again that do not differ.
    pub(super) same: usize,
    /// Objects that could not be read.
    pub(super) unreadable: usize,
    /// Whether a list was completed.
    pub(super) listed: bool,
    /// Whether that was one that could not be had before.
    pub(super) allowed: bool,
    /// Whether removals of that list are held back (K-21).
    pub(super) doubted: bool,
}

impl<T> Changes<T> {
    fn add(&mut self, more: Self) {
        self.changed.extend(more.changed);
        self.same += more.same;
        self.unreadable += more.unreadable;
    }
}

impl<T> Default for Changes<T> {
    fn default() -> Self {
        let (listed, allowed, doubted) = (false, false, false);
        Self { changed: Vec::new(), same: 0, unreadable: 0, listed, allowed, doubted }
    }
}

/// How many objects of a list are worked off at a time.
const PORTION: usize = 1000;

/// Which part of a kind a list is complete for: all of it, or one namespace.
pub type Scope = Option<Name>;

/// The event of an object as it is kept: packed before anything waits.
pub(super) fn packed<U, T>(event: SourceEvent<U>, pack: impl FnOnce(U) -> T) -> SourceEvent<T> {
    let received = |received: Received<U>, pack| {
        let Received { key, uid, revision, object } = received;
        Received { key, uid, revision, object: object.map(pack) }
    };
    match event {
        SourceEvent::Init => SourceEvent::Init,
        SourceEvent::InitApply(object) => SourceEvent::InitApply(received(object, pack)),
        SourceEvent::InitDelete(key) => SourceEvent::InitDelete(key),
        SourceEvent::InitDone { reason } => SourceEvent::InitDone { reason },
        SourceEvent::Apply(object) => SourceEvent::Apply(received(object, pack)),
        SourceEvent::Delete { key, revision } => SourceEvent::Delete { key, revision },
        SourceEvent::Connected => SourceEvent::Connected,
        SourceEvent::Idle => SourceEvent::Idle,
        SourceEvent::Failed(failure) => SourceEvent::Failed(failure),
    }
}

/// For kinds that no endpoint hangs on.
pub(super) fn weightless<T>(_: &ObjectKey, _: &T) -> usize {
    0
}

/// What an event needs to know of its surroundings.
pub(super) struct Door<'a, W> {
    pub(super) kind: ObjectKind,
    pub(super) scope: Scope,
    pub(super) guard: Guard,
    /// The time, where there is a clock.
    pub(super) now: Option<Instant>,
    /// How many endpoints hang on an object.
    pub(super) weigh: W,
    pub(super) quarantine: &'a mut Quarantine,
}

/// What setting an object came to.
#[derive(Debug)]
pub(super) enum Put<T> {
    /// It was there and said the same.
    Same,
    /// It was not there.
    New,
    /// It was this.
    Changed(T),
}

/// Where the objects of one kind are kept.
pub(super) trait Store<T> {
    /// How many objects there are.
    fn len(&self) -> usize;
    /// Makes room for as many objects as a list has, where there is none yet.
    fn reserve(&mut self, objects: usize);
    /// How many endpoints hang on an object; none on one that is not there.
    fn weight(&self, key: &ObjectKey, weigh: &impl Fn(&ObjectKey, &T) -> usize) -> usize;
    /// Every key.
    fn all(&self) -> impl Iterator<Item = ObjectKey>;
    /// The revision of an object that is there, where there is room for it.
    fn revision(&self, _: &ObjectKey) -> Option<u64> {
        None
    }
    /// Notes or forgets the revision of an object; false if it is not there or there is no room for it.
    fn set_revision(&mut self, _: &ObjectKey, _: Option<u64>) -> bool {
        false
    }
    /// Sets an object, unless it is there and says the same.
    fn put(&mut self, key: &ObjectKey, object: T) -> Put<T>;
    /// Takes an object away.
    fn take(&mut self, key: &ObjectKey) -> Option<T>;
}

impl<T: PartialEq> Store<T> for HashMap<ObjectKey, T> {
    fn len(&self) -> usize {
        self.len()
    }

    fn reserve(&mut self, objects: usize) {
        self.reserve(objects);
    }

    fn weight(&self, key: &ObjectKey, weigh: &impl Fn(&ObjectKey, &T) -> usize) -> usize {
        self.get(key).map_or(0, |object| weigh(key, object))
    }

    fn all(&self) -> impl Iterator<Item = ObjectKey> {
        self.keys().cloned()
    }

    fn put(&mut self, key: &ObjectKey, object: T) -> Put<T> {
        match self.get_mut(key) {
            Some(known) if *known == object => Put::Same,
            Some(known) => Put::Changed(std::mem::replace(known, object)),
            None => {
                self.insert(key.clone(), object);
                Put::New
            }
        }
    }

    fn take(&mut self, key: &ObjectKey) -> Option<T> {
        self.remove(key)
    }
}

/// Objects of one kind.
#[derive(Debug)]
pub struct Held<T> {
    objects: HashMap<ObjectKey, T>,
    gate: Gate<T>,
}

impl<T> Default for Held<T> {
    fn default() -> Self {
        Self { objects: HashMap::new(), gate: Gate::default() }
    }
}

impl<T: PartialEq> Held<T> {
    /// One object.
    pub fn get(&self, key: &ObjectKey) -> Option<&T> {
        self.objects.get(key)
    }

    /// Every key.
    pub fn keys(&self) -> impl Iterator<Item = &ObjectKey> {
        self.objects.keys()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// Whether every list that makes it complete was completed once, or cannot be had.
    pub fn is_complete(&self) -> bool {
        self.gate.is_complete()
    }

    /// Whether the list that objects of this namespace would be in cannot be had.
    pub(super) fn denies(&self, namespace: &Name) -> bool {
        self.gate.denies(namespace)
    }

    /// Its lists.
    pub(super) fn gate(&mut self) -> &mut Gate<T> {
        &mut self.gate
    }

    /// Whether a list is in progress.
    pub(super) fn is_listing(&self) -> bool {
        !self.gate.listings.is_empty()
    }

    /// Removals that wait for a second list, by scope.
    pub(super) fn held_back(&self) -> Vec<HeldBack> {
        self.gate.held_back()
    }

    /// Takes in one event.
    pub(super) fn apply<W: Fn(&ObjectKey, &T) -> usize>(
        &mut self,
        event: SourceEvent<T>,
        door: Door<'_, W>,
    ) -> Changes<T> {
        let kind = door.kind;
        let quarantine = &mut *door.quarantine;
        let Door { scope, guard, now, weigh, .. } = door;
        let door = Door { kind, scope, guard, now, weigh, quarantine };
        let mut changes = self.gate.apply(event, &mut self.objects, door);
        while let Some(more) = self.gate.go_on(&mut self.objects, kind, quarantine) {
            changes.add(more);
        }
        changes
    }
}

/// The lists and the order of the events of one kind.
#[derive(Debug)]
pub(super) struct Gate<T> {
    listings: HashMap<Scope, Listing<T>>,
    listed: HashSet<Scope>,
    /// Lists that cannot be had, and never were: nothing waits for them.
    denied: HashSet<Scope>,
    /// Each source has generations of its own.
    revisions: HashMap<Scope, Revisions>,
    /// Lists that make this kind complete.
    awaited: usize,
    /// Lists that were not believed, each until a second one of the same scope.
    doubts: HashMap<Scope, Doubt>,
    serials: u64,
    losses: Losses,
    /// What is left to do of a complete list.
    rest: Option<(Scope, IntoIter<Row<T>>)>,
}

/// A list that was not believed.
#[derive(Debug)]
struct Doubt {
    /// What it took away: gone, or with fewer endpoints. What events say of them counts more.
    keys: HashSet<ObjectKey>,
    held_back: HeldBack,
    /// The second list was asked for.
    confirming: bool,
}

impl<T> Default for Gate<T> {
    fn default() -> Self {
        Self {
            listings: HashMap::new(),
            listed: HashSet::new(),
            denied: HashSet::new(),
            revisions: HashMap::new(),
            awaited: 1,
            doubts: HashMap::new(),
            serials: 0,
            losses: Losses::default(),
            rest: None,
        }
    }
}

impl<T: PartialEq> Gate<T> {
    /// Whether every list that makes it complete was completed once, or cannot be had.
    pub(super) fn is_complete(&self) -> bool {
        self.listed.len() + self.denied.len() >= self.awaited
    }

    /// This list cannot be had. False if that is known, or what it told before stays.
    pub(super) fn deny(&mut self, scope: &Scope) -> bool {
        !self.listed.contains(scope) && self.denied.insert(scope.clone())
    }

    /// Whether the list that objects of this namespace would be in cannot be had.
    pub(super) fn denies(&self, namespace: &Name) -> bool {
        // Mostly there is none.
        self.denied.iter().any(|scope| scope.as_ref().is_none_or(|scope| scope == namespace))
    }

    /// How many lists make it complete.
    pub(super) fn await_lists(&mut self, lists: usize) {
        self.awaited = lists;
    }

    /// Removals that wait for a second list, by scope.
    pub(super) fn held_back(&self) -> Vec<HeldBack> {
        let mut all: Vec<_> = self.doubts.values().map(|doubt| doubt.held_back.clone()).collect();
        all.sort_by(|a, b| a.scope.cmp(&b.scope));
        all
    }

    /// The next list of this scope that begins is believed, if the last one was not (K-21).
    pub(super) fn confirm(&mut self, scope: &Scope) {
        if let Some(doubt) = self.doubts.get_mut(scope) {
            doubt.confirming = true;
        }
    }

    /// Takes in one event about the objects of `store`.
    pub(super) fn apply<W: Fn(&ObjectKey, &T) -> usize>(
        &mut self,
        event: SourceEvent<T>,
        store: &mut impl Store<T>,
        door: Door<'_, W>,
    ) -> Changes<T> {
        let mut changes = Changes::default();
        let revisions = self.revisions.entry(door.scope.clone()).or_default();
        if !revisions.admits(&event, store) {
            changes.same += 1;
            return changes;
        }
        match event {
            SourceEvent::Init => {
                let confirms = self.doubts.get(&door.scope).is_some_and(|doubt| doubt.confirming);
                self.listings.insert(door.scope, Listing::new(confirms));
            }
            SourceEvent::InitApply(received) => {
                if let Some(listing) = self.listings.get_mut(&door.scope) {
                    listing.add(Received { key: kept(received.key), ..received });
                }
            }
            SourceEvent::InitDelete(key) => {
                if let Some(listing) = self.listings.get_mut(&door.scope) {
                    listing.remove(key);
                }
            }
            SourceEvent::InitDone { .. } => {
                if let Some(listing) = self.listings.remove(&door.scope) {
                    self.swap(listing, store, door, &mut changes);
                }
            }
            SourceEvent::Apply(Received { key, revision, object, .. }) => {
                self.forget_doubt(&door.scope, &key);
                let key = kept(key);
                upsert(store, key.clone(), object, door.kind, door.quarantine, &mut changes);
                if revision.is_some() {
                    self.revisions.entry(door.scope).or_default().note(&key, revision, store);
                }
            }
            SourceEvent::Delete { key, .. } => {
                self.forget_doubt(&door.scope, &key);
                door.quarantine.clear(door.kind, &key);
                remove(store, key, &mut changes);
            }
            // A list that broke begins anew (K-24): until then nothing is held for it.
            SourceEvent::Failed(_) => _ = self.listings.remove(&door.scope),
            SourceEvent::Connected | SourceEvent::Idle => {}
        }
        changes
    }

    /// A complete list: what is not in it is gone. An object that is there but cannot be read stays as it was.
    fn swap<W: Fn(&ObjectKey, &T) -> usize>(
        &mut self,
        listing: Listing<T>,
        store: &mut impl Store<T>,
        door: Door<'_, W>,
        changes: &mut Changes<T>,
    ) {
        let confirms = listing.confirms;
        let mut rows = listing.complete();
        let within = |key: &ObjectKey| door.scope.as_ref().is_none_or(|scope| key.namespace == *scope);
        self.listed.insert(door.scope.clone());
        changes.listed = true;
        changes.allowed = self.denied.remove(&door.scope);
        let asked = self.doubts.remove(&door.scope).is_some_and(|doubt| doubt.confirming);
        let mut gone: Vec<_> = store.all().filter(|key| within(key) && !rows.contains(key)).collect();
        self.revisions.entry(door.scope.clone()).or_default().begin();
        for key in &gone {
            // Whatever stays of them all the same has none any more.
            store.set_revision(key, None);
        }
        if rows.iter().any(|row| row.key.name.is_empty()) {
            // An object whose name cannot be read may be any of them.
            gone.clear();
        }
        if confirms {
            self.losses.forget(&door.scope);
        } else if let Some(held_back) = self.doubt(&rows, &gone, store, &door) {
            changes.doubted = true;
            let mut keys: HashSet<_> = gone.drain(..).collect();
            let revisions = self.revisions.entry(door.scope.clone()).or_default();
            for Row { key, revision, .. } in take_shrunk(&mut rows, store, &door.weigh) {
                revisions.note(&key, revision, store);
                keys.insert(key);
            }
            self.doubts.insert(door.scope.clone(), Doubt { keys, held_back, confirming: asked });
        }
        let held = |key: &ObjectKey| self.doubts.values().any(|doubt| doubt.keys.contains(key));
        let there = |key: &ObjectKey| !within(key) || rows.contains(key) || held(key);
        door.quarantine.retain(door.kind, there);
        for key in gone {
            remove(store, key, changes);
        }
        if store.len() == 0 {
            store.reserve(rows.len());
        }
        self.rest = Some((door.scope, rows.into_iter()));
    }

    /// Takes in another portion of a complete list, until there is none: whoever works them off in between has
    /// never more than that at hand. Nothing else may come in between.
    pub(super) fn go_on(
        &mut self,
        store: &mut impl Store<T>,
        kind: ObjectKind,
        quarantine: &mut Quarantine,
    ) -> Option<Changes<T>> {
        let (scope, rows) = self.rest.as_mut()?;
        let revisions = self.revisions.entry(scope.clone()).or_default();
        let mut changes = Changes::default();
        for Row { key, revision, object } in rows.by_ref().take(PORTION) {
            upsert(store, key.clone(), object, kind, quarantine, &mut changes);
            revisions.note(&key, revision, store);
        }
        if rows.len() == 0 {
            self.rest = None;
        }
        Some(changes)
    }

    /// Whether a list would take too much away, together with what others took lately, and how much. What moves
    /// from one object to another is not lost.
    fn doubt<W: Fn(&ObjectKey, &T) -> usize>(
        &mut self,
        listed: &Rows<T>,
        gone: &[ObjectKey],
        store: &impl Store<T>,
        door: &Door<'_, W>,
    ) -> Option<HeldBack> {
        if store.len() == 0 {
            return None;
        }
        let now = |key: &ObjectKey| store.weight(key, &door.weigh);
        let before: usize = store.all().map(|key| now(&key)).sum();
        let lost: usize = gone.iter().map(&now).sum();
        let kept = before.saturating_sub(lost + listed.iter().map(|row| now(&row.key)).sum::<usize>());
        let weight = |row: &Row<T>| match &row.object {
            Ok(object) => (door.weigh)(&row.key, object),
            Err(_) => now(&row.key),
        };
        let after: usize = listed.iter().map(weight).sum();
        if !door.guard.doubts(before + self.losses.lately(door.now), kept + after) {
            self.losses.note(&door.scope, before, kept + after, door.now);
            return None;
        }
        self.serials += 1;
        Some(HeldBack {
            scope: door.scope.clone(),
            objects: gone.len(),
            endpoints: before.saturating_sub(kept + after),
            serial: self.serials,
        })
    }

    /// An event says more than a doubted list.
    fn forget_doubt(&mut self, scope: &Scope, key: &ObjectKey) {
        if let Some(doubt) = self.doubts.get_mut(scope) {
            doubt.keys.remove(key);
            if doubt.keys.is_empty() {
                self.doubts.remove(scope);
            }
        }
    }
}

/// Takes the objects that have fewer endpoints than before out of a doubted list.
fn take_shrunk<T>(
    listed: &mut Rows<T>,
    store: &impl Store<T>,
    weigh: &impl Fn(&ObjectKey, &T) -> usize,
) -> Vec<Row<T>> {
    listed.extract(|row| {
        row.object.as_ref().is_ok_and(|new| weigh(&row.key, new) < store.weight(&row.key, weigh))
    })
}

/// A key as it is kept: with the one copy of its namespace.
fn kept(key: ObjectKey) -> ObjectKey {
    ObjectKey { namespace: Name::interned(&key.namespace), name: key.name }
}

/// Sets an object, unless it cannot be read: then what was there stays.
fn upsert<T>(
    store: &mut impl Store<T>,
    key: ObjectKey,
    object: Result<T, String>,
    kind: ObjectKind,
    quarantine: &mut Quarantine,
    changes: &mut Changes<T>,
) {
    let object = match object {
        Ok(object) => object,
        Err(reason) => {
            changes.unreadable += 1;
            quarantine.set(kind, key, reason);
            return;
        }
    };
    quarantine.clear(kind, &key);
    let (old, event) = match store.put(&key, object) {
        Put::Same => {
            changes.same += 1;
            return;
        }
        Put::New => (None, EventKind::Add),
        Put::Changed(old) => (Some(old), EventKind::Update),
    };
    changes.changed.push((key, old, event));
}

fn remove<T>(store: &mut impl Store<T>, key: ObjectKey, changes: &mut Changes<T>) {
    if let Some(old) = store.take(&key) {
        changes.changed.push((key, Some(old), EventKind::Delete));
    }
}
