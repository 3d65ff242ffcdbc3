//! The objects of one API server and every operation on them: one mutex, one version counter.
//!
//! Each write happens under the lock: check, give the next version, serialise once, record the event, wake
//! the watchers of that kind. Cost of a write: its own bytes and one wake-up per watcher of its kind. Reads
//! clone pointers. The lock is never held across an `.await`.

mod addresses;
mod core;
mod definitions;
mod write;

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;

use self::core::Core;
use super::collection::{Collection, Event, TooOld};
use super::deletion::DeleteOptions;
use super::effect::Effect;
use super::error::ApiError;
use super::kinds::{Kind, Kinds};
use super::object::{self, ObjectKey, Stored};

/// Events kept per kind unless the builder says otherwise.
pub const DEFAULT_HISTORY: usize = 10_000;

/// The objects of one API server. Clones share the same objects.
///
/// The methods are the server's own operations without HTTP: the same checks, versions and watch events.
/// Unlike HTTP writes they may set `status` together with the rest, and an object that brings its own `uid` or
/// `creationTimestamp` keeps it, so that a generated world is the same each time.
#[derive(Clone)]
pub struct Store {
    core: Arc<Mutex<Core>>,
}

/// Its size only: objects may be many, and Secrets among them.
impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let core = self.lock();
        f.debug_struct("Store")
            .field("version", &core.version)
            .field("objects", &core.objects())
            .finish_non_exhaustive()
    }
}

/// Which part of an object a write may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Everything: in-process writes.
    All,
    /// Everything but `status`, where the kind has a status subresource.
    Main,
    /// `status` only.
    Status,
}

impl Default for Store {
    fn default() -> Self {
        Self::new(DEFAULT_HISTORY)
    }
}

impl Store {
    /// An empty store that remembers the last `history` events of each kind.
    pub fn new(history: usize) -> Self {
        let core = Core::new(history);
        Self { core: Arc::new(Mutex::new(core)) }
    }

    fn lock(&self) -> MutexGuard<'_, Core> {
        // A panic while holding the lock leaves at worst a skipped version behind: carry on.
        self.core.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The version of the newest write.
    pub fn resource_version(&self) -> u64 {
        self.lock().version
    }

    /// The kinds this store has now: the built-in ones and those of its CustomResourceDefinitions.
    pub fn kinds(&self) -> Arc<Kinds> {
        Arc::clone(&self.lock().kinds)
    }

    /// Creates `object`; its kind comes from `apiVersion` and `kind`, a missing namespace is `default`.
    ///
    /// # Errors
    /// Unknown kind, invalid metadata, or the object exists.
    pub fn create(&self, object: Value) -> Result<Arc<Value>, ApiError> {
        let (kind, object) = self.identify(object)?;
        self.create_part(&kind, object, Part::All, Effect::Stored).map(|stored| Arc::new(stored.value()))
    }

    /// Replaces `object`. With a `metadata.resourceVersion` it must be the current one.
    ///
    /// # Errors
    /// Unknown kind, invalid metadata, no such object, or a conflict.
    pub fn update(&self, object: Value) -> Result<Arc<Value>, ApiError> {
        let (kind, object) = self.identify(object)?;
        let key = ObjectKey::of(&object);
        self.modify(&kind, &key, Part::All, Effect::Stored, |_| Ok(object))
            .map(|stored| Arc::new(stored.value()))
    }

    /// Creates `object`, or replaces the one of that name whatever its version.
    ///
    /// # Errors
    /// Unknown kind or invalid metadata.
    pub fn apply(&self, object: Value) -> Result<Arc<Value>, ApiError> {
        self.load(object).map(|stored| Arc::new(stored.value()))
    }

    /// As [`Self::apply`], without parsing the outcome.
    pub(super) fn load(&self, object: Value) -> Result<Arc<Stored>, ApiError> {
        let (kind, mut object) = self.identify(object)?;
        object::metadata(&mut object).remove("resourceVersion");
        let key = ObjectKey::of(&object);
        let mut core = self.lock();
        match core.collection(&kind).get(&key).cloned() {
            None => core.create(&kind, object, Part::All, Effect::Stored),
            Some(current) => {
                let value = current.value();
                core.replace(&kind, &current, &value, object, Part::All, Effect::Stored)
            }
        }
    }

    /// Applies a JSON merge patch (RFC 7386), `status` included, atomically.
    ///
    /// # Errors
    /// No such object, or the outcome is invalid or conflicts.
    pub fn patch(
        &self,
        kind: &Kind,
        namespace: &str,
        name: &str,
        patch: &Value,
    ) -> Result<Arc<Value>, ApiError> {
        let key = ObjectKey::new(namespace, name);
        let stored = self.modify(kind, &key, Part::All, Effect::Stored, |current| {
            let mut next = current.clone();
            super::patch::merge(&mut next, patch);
            Ok(next)
        })?;
        Ok(Arc::new(stored.value()))
    }

    /// Deletes an object, and with a namespace everything in it. Pods go at once, whatever their grace period.
    ///
    /// # Errors
    /// No such object.
    pub fn delete(&self, kind: &Kind, namespace: &str, name: &str) -> Result<(), ApiError> {
        self.remove(kind, &ObjectKey::new(namespace, name), &DeleteOptions::at_once()).map(|_| ())
    }

    /// The object, if it exists.
    pub fn get(&self, kind: &Kind, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.stored(kind, &ObjectKey::new(namespace, name)).ok().map(|stored| Arc::new(stored.value()))
    }

    /// All objects of `kind`, of one namespace or of all, in name order.
    pub fn list(&self, kind: &Kind, namespace: Option<&str>) -> Vec<Arc<Value>> {
        let mut stored = Vec::new();
        self.read(kind, |collection, version| {
            let all = collection.scan_at(version, namespace, None, |_, object| {
                stored.push(Arc::clone(object));
                true
            });
            debug_assert!(all.is_ok(), "the present is always readable");
        });
        stored.iter().map(|object| Arc::new(object.value())).collect()
    }

    /// Forgets all history: continued lists and watches from before now are answered with 410.
    pub fn compact(&self) {
        let mut core = self.lock();
        let version = core.version;
        core.collections_mut().for_each(|collection| collection.compact(version));
    }

    /// Moves the version by so many and forgets all history, as a restored database does: objects keep the versions
    /// they have, lists tell the new one, watches from beyond it are silent until it is passed.
    pub fn jump(&self, by: i64) {
        let mut core = self.lock();
        let version = core.version.saturating_add_signed(by).max(1);
        core.version = version;
        core.progress.send_replace(version);
        core.collections_mut().for_each(|collection| collection.restart(version));
    }

    pub(super) fn stored(&self, kind: &Kind, key: &ObjectKey) -> Result<Arc<Stored>, ApiError> {
        let core = self.lock();
        core.collection(kind).get(key).cloned().ok_or_else(|| not_found(kind, key))
    }

    pub(super) fn create_part(
        &self,
        kind: &Kind,
        object: Value,
        part: Part,
        effect: Effect,
    ) -> Result<Arc<Stored>, ApiError> {
        self.lock().create(kind, object, part, effect)
    }

    /// Replaces `key` by what `change` makes of it, atomically.
    pub(super) fn modify(
        &self,
        kind: &Kind,
        key: &ObjectKey,
        part: Part,
        effect: Effect,
        change: impl FnOnce(&Value) -> Result<Value, ApiError>,
    ) -> Result<Arc<Stored>, ApiError> {
        let mut core = self.lock();
        let current = core.collection(kind).get(key).cloned().ok_or_else(|| not_found(kind, key))?;
        let value = current.value();
        // The writer sees its own version of the kind; replacing keeps the stored one.
        let next = change(&current.seen_as(kind).value())?;
        core.replace(kind, &current, &value, next, part, effect)
    }

    pub(super) fn remove(
        &self,
        kind: &Kind,
        key: &ObjectKey,
        options: &DeleteOptions,
    ) -> Result<Arc<Stored>, ApiError> {
        let mut core = self.lock();
        let current = core.collection(kind).get(key).cloned().ok_or_else(|| not_found(kind, key))?;
        if let Some(why) = options.unmet(&current.value()) {
            return Err(conflict(kind, key, why));
        }
        core.remove(kind, key, options).ok_or_else(|| not_found(kind, key))
    }

    /// Waits until `version` is reached, at most this long.
    pub(super) async fn wait_for(&self, version: u64, at_most: Duration) {
        let mut progress = self.lock().progress.subscribe();
        // Whoever asks looks again at what there is then; a timeout is not an error here.
        let _ = tokio::time::timeout(at_most, progress.wait_for(|reached| *reached >= version)).await;
    }

    pub(super) fn subscribe(&self, kind: &Kind) -> watch::Receiver<u64> {
        self.lock().collection(kind).subscribe()
    }

    pub(super) fn read<R>(&self, kind: &Kind, read: impl FnOnce(&Collection, u64) -> R) -> R {
        let core = self.lock();
        read(core.collection(kind), core.version)
    }

    /// Events after `version`.
    pub(super) fn events_after(&self, kind: &Kind, version: u64, max: usize) -> Result<Events, TooOld> {
        let core = self.lock();
        let collection = core.collection(kind);
        let events = collection.events_after(version, max)?;
        let complete = match events.last() {
            Some(last) if events.len() == max => last.version,
            // Not below where the reader is: it may wait for a version that is still to come.
            _ => core.version.max(version),
        };
        Ok(Events { events, complete, retired: collection.is_retired() })
    }

    /// Finds the kind of an object and settles its namespace.
    fn identify(&self, mut object: Value) -> Result<(Arc<Kind>, Value), ApiError> {
        let text = |field: &str| object[field].as_str().unwrap_or_default();
        let kinds = self.kinds();
        let kind = kinds.of_object(text("apiVersion"), text("kind")).ok_or_else(|| {
            ApiError::BadRequest(format!("no kind {:?} in version {:?}", text("kind"), text("apiVersion")))
        })?;
        if kind.is_namespaced() {
            object::metadata(&mut object).entry("namespace").or_insert_with(|| json!("default"));
        }
        Ok((Arc::clone(kind), object))
    }
}

/// What a watch reads at a time.
#[derive(Debug)]
pub(super) struct Events {
    pub(super) events: Vec<Event>,
    /// The version up to which these events are all there are.
    pub(super) complete: u64,
    /// The kind is gone: nothing follows.
    pub(super) retired: bool,
}

fn not_found(kind: &Kind, key: &ObjectKey) -> ApiError {
    ApiError::NotFound { resource: kind.resource(), name: key.name.to_string() }
}

fn conflict(kind: &Kind, key: &ObjectKey, why: String) -> ApiError {
    ApiError::Conflict { resource: kind.resource(), name: key.name.to_string(), why }
}

#[cfg(test)]
mod tests;
