//! The objects of one kind: keyed upsert, and mark and sweep for complete lists.

use std::collections::HashSet;

use hashbrown::HashMap;

use super::quarantine::Quarantine;
use crate::ingest::counts::EventKind;
use crate::ingest::objects::{ObjectKey, ObjectKind};
use crate::ingest::watch::{Received, SourceEvent};

/// An object of a kind, or why it cannot be read.
pub(super) type Row<T> = (ObjectKey, Result<T, String>);

/// What an event asks for.
#[derive(Debug)]
pub(super) enum Step<T> {
    Nothing,
    /// An object is there.
    Set(Row<T>),
    /// An object is gone.
    Remove(ObjectKey),
    /// A complete list, in the order in which it came: what is not in it is gone; of an object told twice the
    /// last one counts.
    Replace(Vec<Row<T>>),
}

/// The list in progress: nothing of it is seen until it is complete.
#[derive(Debug)]
pub(super) struct Listing<T> {
    rows: Option<Vec<Row<T>>>,
    listed: bool,
}

impl<T> Default for Listing<T> {
    fn default() -> Self {
        Self { rows: None, listed: false }
    }
}

impl<T> Listing<T> {
    /// Whether a list was ever completed.
    pub(super) fn is_listed(&self) -> bool {
        self.listed
    }

    /// Whether a list is in progress.
    pub(super) fn is_listing(&self) -> bool {
        self.rows.is_some()
    }

    /// What an event asks for. `pack` makes of an object what is kept of it, before anything waits.
    pub(super) fn step<U>(&mut self, event: SourceEvent<U>, pack: impl FnOnce(U) -> T) -> Step<T> {
        match event {
            SourceEvent::Init => self.rows = Some(Vec::new()),
            SourceEvent::InitApply(Received { key, object, .. }) => {
                if let Some(rows) = &mut self.rows {
                    rows.push((key, object.map(pack)));
                }
            }
            SourceEvent::InitDone { .. } => {
                if let Some(rows) = self.rows.take() {
                    self.listed = true;
                    return Step::Replace(rows);
                }
            }
            SourceEvent::Apply(Received { key, object, .. }) => return Step::Set((key, object.map(pack))),
            SourceEvent::Delete { key, .. } => return Step::Remove(key),
            SourceEvent::Connected | SourceEvent::Idle | SourceEvent::Failed(_) => {}
        }
        Step::Nothing
    }
}

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
}

impl<T> Default for Changes<T> {
    fn default() -> Self {
        Self { changed: Vec::new(), same: 0, unreadable: 0, listed: false }
    }
}

/// Objects of one kind.
#[derive(Debug)]
pub struct Held<T> {
    objects: HashMap<ObjectKey, T>,
    listing: Listing<T>,
}

impl<T> Default for Held<T> {
    fn default() -> Self {
        Self { objects: HashMap::new(), listing: Listing::default() }
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

    /// Whether a list was ever completed.
    pub fn is_listed(&self) -> bool {
        self.listing.is_listed()
    }

    /// Whether a list is in progress.
    pub(super) fn is_listing(&self) -> bool {
        self.listing.is_listing()
    }

    /// Takes in an event of objects that are kept as they are.
    pub(super) fn apply(
        &mut self,
        event: SourceEvent<T>,
        kind: ObjectKind,
        quarantine: &mut Quarantine,
    ) -> Changes<T> {
        self.apply_packed(event, kind, quarantine, |object| object)
    }

    /// Takes in an event of objects of which something else is kept.
    pub(super) fn apply_packed<U>(
        &mut self,
        event: SourceEvent<U>,
        kind: ObjectKind,
        quarantine: &mut Quarantine,
        pack: impl FnOnce(U) -> T,
    ) -> Changes<T> {
        let mut changes = Changes::default();
        match self.listing.step(event, pack) {
            Step::Nothing => {}
            Step::Set((key, object)) => self.upsert(key, object, kind, quarantine, &mut changes),
            Step::Remove(key) => {
                quarantine.clear(kind, &key);
                self.remove(key, &mut changes);
            }
            Step::Replace(rows) => self.swap(rows, kind, quarantine, &mut changes),
        }
        changes
    }

    /// A complete list: what is not in it is gone. An object that is there but cannot be read stays as it was.
    fn swap(
        &mut self,
        rows: Vec<Row<T>>,
        kind: ObjectKind,
        quarantine: &mut Quarantine,
        changes: &mut Changes<T>,
    ) {
        changes.listed = true;
        // What is still unreadable is told again.
        quarantine.forget(kind);
        if !self.objects.is_empty() {
            let there: HashSet<&ObjectKey> = rows.iter().map(|(key, _)| key).collect();
            let swept: Vec<_> = self.objects.keys().filter(|key| !there.contains(*key)).cloned().collect();
            for key in swept {
                self.remove(key, changes);
            }
        }
        for (key, object) in rows {
            self.upsert(key, object, kind, quarantine, changes);
        }
    }

    fn upsert(
        &mut self,
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
        if self.objects.get(&key) == Some(&object) {
            changes.same += 1;
            return;
        }
        let old = self.objects.insert(key.clone(), object);
        let event = if old.is_some() { EventKind::Update } else { EventKind::Add };
        changes.changed.push((key, old, event));
    }

    fn remove(&mut self, key: ObjectKey, changes: &mut Changes<T>) {
        if let Some(old) = self.objects.remove(&key) {
            changes.changed.push((key, Some(old), EventKind::Delete));
        }
    }
}
