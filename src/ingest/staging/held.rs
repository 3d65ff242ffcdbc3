//! The objects of one kind: keyed upsert, and mark and sweep for complete lists.

use std::collections::HashMap;

use super::Swept;
use super::quarantine::Quarantine;
use crate::ingest::counts::EventKind;
use crate::ingest::objects::{ObjectKey, ObjectKind};
use crate::ingest::watch::{Received, SourceEvent};

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
    /// A list in progress: nothing of it is seen until it is complete.
    listing: Option<HashMap<ObjectKey, Result<T, String>>>,
    listed: bool,
}

impl<T> Default for Held<T> {
    fn default() -> Self {
        Self { objects: HashMap::new(), listing: None, listed: false }
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
        self.listed
    }

    pub(super) fn apply(
        &mut self,
        event: SourceEvent<T>,
        kind: ObjectKind,
        quarantine: &mut Quarantine,
    ) -> Changes<T> {
        let mut changes = Changes::default();
        match event {
            SourceEvent::Init => self.listing = Some(HashMap::new()),
            SourceEvent::InitApply(Received { key, object, .. }) => {
                if let Some(listing) = &mut self.listing {
                    listing.insert(key, object);
                }
            }
            SourceEvent::InitDone { .. } => {
                if let Some(listing) = self.listing.take() {
                    self.swap(listing, kind, quarantine, &mut changes);
                }
            }
            SourceEvent::Apply(Received { key, object, .. }) => {
                self.upsert(key, object, kind, quarantine, &mut changes);
            }
            SourceEvent::Delete { key, .. } => {
                quarantine.clear(kind, &key);
                self.remove(key, &mut changes);
            }
            SourceEvent::Connected | SourceEvent::Idle | SourceEvent::Failed(_) => {}
        }
        changes
    }

    /// A complete list: what is not in it is gone. An object that is there but cannot be read stays as it was.
    fn swap(
        &mut self,
        listing: HashMap<ObjectKey, Result<T, String>>,
        kind: ObjectKind,
        quarantine: &mut Quarantine,
        changes: &mut Changes<T>,
    ) {
        self.listed = true;
        changes.listed = true;
        let held = self.objects.keys();
        let swept: Swept = held.filter(|key| !listing.contains_key(*key)).cloned().collect();
        quarantine.retain(kind, |key| listing.contains_key(key));
        for key in swept {
            self.remove(key, changes);
        }
        for (key, object) in listing {
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
