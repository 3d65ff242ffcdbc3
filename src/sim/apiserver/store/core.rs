//! Writes, one at a time: check, give the next version, record, wake.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::watch;

use super::super::collection::Collection;
use super::super::definition::Definition;
use super::super::deletion::{self, DeleteOptions, Fate};
use super::super::effect::Effect;
use super::super::error::ApiError;
use super::super::kinds::{self, Kind, Kinds};
use super::super::metadata;
use super::super::object::{self, Change, ObjectKey, Stored};
use super::super::rules;
use super::addresses::Addresses;
use super::{Part, not_found, write};

/// What the lock of a store guards.
pub(super) struct Core {
    /// The version of the newest write.
    pub(super) version: u64,
    /// Carries `version` to those who wait for one.
    pub(super) progress: watch::Sender<u64>,
    pub(super) kinds: Arc<Kinds>,
    pub(super) shelves: Vec<Shelf>,
    /// Events kept per kind.
    pub(super) history: usize,
    addresses: Addresses,
}

/// The objects of one resource, whatever the version they are asked in.
pub(super) struct Shelf {
    group: String,
    plural: String,
    pub(super) collection: Collection,
}

impl Shelf {
    pub(super) fn new(kind: &Kind, history: usize, floor: u64) -> Self {
        let collection = Collection::new(history, floor);
        Self { group: kind.group.clone(), plural: kind.plural.clone(), collection }
    }

    /// A kind of these objects, good for finding them and nothing else, if this is the shelf of `resource`.
    pub(super) fn kind_named(&self, resource: &str) -> Option<Kind> {
        let kind = Kind { group: self.group.clone(), plural: self.plural.clone(), ..Kind::plain() };
        (kind.resource() == resource).then_some(kind)
    }

    pub(super) fn is_of(&self, kind: &Kind) -> bool {
        self.plural == kind.plural && self.group == kind.group
    }
}

impl Core {
    pub(super) fn new(history: usize) -> Self {
        let kinds = Arc::new(Kinds::default());
        let shelves = kinds.iter().map(|kind| Shelf::new(kind, history, 0)).collect();
        let progress = watch::Sender::new(1);
        Self { version: 1, progress, kinds, shelves, history, addresses: Addresses::default() }
    }

    /// How many objects there are, of all kinds.
    pub(super) fn objects(&self) -> usize {
        self.shelves.iter().map(|shelf| shelf.collection.len()).sum()
    }

    pub(super) fn collections_mut(&mut self) -> impl Iterator<Item = &mut Collection> {
        self.shelves.iter_mut().map(|shelf| &mut shelf.collection)
    }

    pub(super) fn collection(&self, kind: &Kind) -> &Collection {
        let shelf = self.shelves.iter().find(|shelf| shelf.is_of(kind));
        &shelf.expect("kinds come with their shelf, and shelves stay when kinds go").collection
    }

    pub(super) fn collection_mut(&mut self, kind: &Kind) -> &mut Collection {
        let shelf = self.shelves.iter_mut().find(|shelf| shelf.is_of(kind));
        &mut shelf.expect("kinds come with their shelf, and shelves stay when kinds go").collection
    }

    fn next_version(&mut self) -> u64 {
        self.version += 1;
        // Readers that this wakes wait for the lock, hence for the write itself.
        self.progress.send_replace(self.version);
        self.version
    }

    pub(super) fn create(
        &mut self,
        kind: &Kind,
        mut object: Value,
        part: Part,
        effect: Effect,
    ) -> Result<Arc<Stored>, ApiError> {
        if self.collection(kind).is_retired() {
            return Err(ApiError::NoSuchPath);
        }
        if part == Part::Main && kind.has_status {
            write::strip_status(&mut object);
        }
        write::name_generated(&mut object)?;
        (kind.defaults)(&mut object);
        metadata::validate(kind, &object)?;
        if part == Part::Main {
            rules::check(kind, None, &object)?;
        }
        let key = ObjectKey::of(&object);
        if self.collection(kind).get(&key).is_some() {
            return Err(ApiError::AlreadyExists { resource: kind.resource(), name: key.name.to_string() });
        }
        if kind.is(&kinds::SERVICES) {
            self.addresses.give(&mut object, effect);
        }
        write::stamp_created(kind, &mut object, part)?;
        object["apiVersion"] = json!(kind.stored_api_version());
        let definition = self.define(kind, None, &mut object)?;
        Ok(self.put(kind, &key, object, definition, effect))
    }

    pub(super) fn replace(
        &mut self,
        kind: &Kind,
        current: &Arc<Stored>,
        value: &Value,
        mut next: Value,
        part: Part,
        effect: Effect,
    ) -> Result<Arc<Stored>, ApiError> {
        let key = &current.key;
        object::metadata(&mut next);
        write::check_same(kind, key, value, &next)?;
        let mut next = write::combine(kind, value, next, part);
        write::keep_system_metadata(value, &mut next);
        (kind.defaults)(&mut next);
        metadata::validate(kind, &next)?;
        if part == Part::Main {
            rules::check(kind, Some(value), &next)?;
        }
        let definition = self.define(kind, Some(value), &mut next)?;
        if next == *value {
            // Nothing changed: no new version, no event.
            return Ok(Arc::clone(current));
        }
        if deletion::is_finished(&next) {
            return self.remove_as(kind, key, next, effect).ok_or_else(|| not_found(kind, key));
        }
        if kind.has_generation && write::wants_differ(kind, value, &next) {
            let generation = value["metadata"]["generation"].as_u64().unwrap_or(0) + 1;
            object::metadata(&mut next).insert("generation".into(), json!(generation));
        }
        Ok(self.put(kind, key, next, definition, effect))
    }

    fn put(
        &mut self,
        kind: &Kind,
        key: &ObjectKey,
        mut object: Value,
        defined: Option<Definition>,
        effect: Effect,
    ) -> Arc<Stored> {
        if effect == Effect::Rehearsed {
            return Stored::new(&object, self.version, Change::Modified);
        }
        let version = self.next_version();
        write::set_version(&mut object, version);
        let stored = self.collection_mut(kind).put(key, &object, version);
        if let Some(definition) = defined {
            self.serve(definition);
        }
        stored
    }

    /// Removes `key`, or marks it as being deleted while it is held.
    pub(super) fn remove(
        &mut self,
        kind: &Kind,
        key: &ObjectKey,
        options: &DeleteOptions,
    ) -> Option<Arc<Stored>> {
        let current = Arc::clone(self.collection(kind).get(key)?);
        let value = current.value();
        match deletion::fate(kind, &value, options) {
            Fate::Waiting => Some(current),
            Fate::Marked(next) => Some(self.put(kind, key, next, None, options.effect)),
            Fate::Gone => self.remove_as(kind, key, value, options.effect),
        }
    }

    /// Removes `key` whatever holds it, and before it what goes together with it. `last` is its final state.
    pub(super) fn remove_as(
        &mut self,
        kind: &Kind,
        key: &ObjectKey,
        mut last: Value,
        effect: Effect,
    ) -> Option<Arc<Stored>> {
        if effect == Effect::Rehearsed {
            return Some(Stored::new(&last, self.version, Change::Deleted));
        }
        self.remove_contents(kind, key);
        let version = self.next_version();
        write::set_version(&mut last, version);
        self.collection_mut(kind).remove(key, &last, version)
    }

    /// What goes together with an object: a namespace's contents, a definition's objects.
    fn remove_contents(&mut self, kind: &Kind, key: &ObjectKey) {
        if kind.is(&kinds::NAMESPACES) {
            for kind in self.kinds.clone().resources().filter(|kind| kind.is_namespaced()) {
                for key in self.keys(kind, Some(&key.name)) {
                    self.remove(kind, &key, &DeleteOptions::at_once());
                }
            }
        } else if kind.is(&kinds::CUSTOM_RESOURCE_DEFINITIONS) {
            self.forget(&key.name);
        }
    }

    /// The keys of every object of `kind`, of one namespace or of all.
    pub(super) fn keys(&self, kind: &Kind, namespace: Option<&str>) -> Vec<ObjectKey> {
        let mut keys = Vec::new();
        let scanned = self.collection(kind).scan_at(self.version, namespace, None, |key, _| {
            keys.push(key.clone());
            true
        });
        debug_assert!(scanned.is_ok(), "the present is always readable");
        keys
    }
}
