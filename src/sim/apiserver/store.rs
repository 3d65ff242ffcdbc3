//! The objects of one API server and every operation on them: one mutex, one version counter.
//!
//! Each write happens under the lock: check, give the next version, serialise once, record the event, wake
//! the watchers of that kind. Cost of a write: its own bytes and one wake-up per watcher of its kind. Reads
//! clone pointers. The lock is never held across an `.await`.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;

use super::collection::{Collection, Event, TooOld};
use super::definition::Definition;
use super::deletion::{self, DeleteOptions, Fate};
use super::effect::Effect;
use super::error::ApiError;
use super::identity;
use super::kinds::{self, Kind, Kinds};
use super::object::{self, Change, ObjectKey, Stored};
use super::rules;

/// Events kept per kind unless the builder says otherwise.
pub const DEFAULT_HISTORY: usize = 10_000;

/// The objects of one API server. Clones share the same objects.
///
/// The methods are the server's own operations without HTTP: the same checks, versions and watch events.
/// Unlike HTTP writes they may set `status` together with the rest, and an object that brings its own `uid` or
/// `creationTimestamp` keeps it, so that a generated world is the same each time.
#[derive(Debug, Clone)]
pub struct Store {
    core: Arc<Mutex<Core>>,
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

#[derive(Debug)]
struct Core {
    version: u64,
    /// Carries `version` to those who wait for one.
    progress: watch::Sender<u64>,
    kinds: Arc<Kinds>,
    shelves: Vec<Shelf>,
    history: usize,
    next_address: u32,
}

/// The objects of one resource, whatever the version they are asked in.
#[derive(Debug)]
struct Shelf {
    group: String,
    plural: String,
    collection: Collection,
}

impl Shelf {
    fn new(kind: &Kind, history: usize, floor: u64) -> Self {
        let collection = Collection::new(history, floor);
        Self { group: kind.group.clone(), plural: kind.plural.clone(), collection }
    }

    fn is_of(&self, kind: &Kind) -> bool {
        self.plural == kind.plural && self.group == kind.group
    }
}

impl Default for Store {
    fn default() -> Self {
        Self::new(DEFAULT_HISTORY)
    }
}

impl Store {
    /// An empty store that remembers the last `history` events of each kind.
    pub fn new(history: usize) -> Self {
        let kinds = Arc::new(Kinds::default());
        let shelves = kinds.iter().map(|kind| Shelf::new(kind, history, 0)).collect();
        let progress = watch::Sender::new(1);
        let core = Core { version: 1, progress, kinds, shelves, history, next_address: 1 };
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
        for shelf in &mut core.shelves {
            shelf.collection.compact(version);
        }
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

impl Core {
    fn collection(&self, kind: &Kind) -> &Collection {
        let shelf = self.shelves.iter().find(|shelf| shelf.is_of(kind));
        &shelf.expect("kinds come with their shelf, and shelves stay when kinds go").collection
    }

    fn collection_mut(&mut self, kind: &Kind) -> &mut Collection {
        let shelf = self.shelves.iter_mut().find(|shelf| shelf.is_of(kind));
        &mut shelf.expect("kinds come with their shelf, and shelves stay when kinds go").collection
    }

    fn next_version(&mut self) -> u64 {
        self.version += 1;
        // Readers that this wakes wait for the lock, hence for the write itself.
        self.progress.send_replace(self.version);
        self.version
    }

    fn create(
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
            strip_status(&mut object);
        }
        name_generated(&mut object)?;
        (kind.defaults)(&mut object);
        object::validate(kind, &object)?;
        if part == Part::Main {
            rules::check(kind, None, &object)?;
        }
        let key = ObjectKey::of(&object);
        if self.collection(kind).get(&key).is_some() {
            return Err(ApiError::AlreadyExists { resource: kind.resource(), name: key.name.to_string() });
        }
        if kind.is(&kinds::SERVICES) {
            let next_address = self.next_address;
            self.allocate_cluster_address(&mut object);
            if effect == Effect::Rehearsed {
                self.next_address = next_address;
            }
        }
        stamp_created(kind, &mut object, part)?;
        object["apiVersion"] = json!(kind.stored_api_version());
        let definition = self.define(kind, None, &mut object)?;
        Ok(self.put(kind, &key, object, definition, effect))
    }

    fn replace(
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
        check_same(kind, key, value, &next)?;
        let mut next = combine(kind, value, next, part);
        keep_system_metadata(value, &mut next);
        (kind.defaults)(&mut next);
        object::validate(kind, &next)?;
        if part == Part::Main {
            rules::check(kind, Some(value), &next)?;
        }
        let definition = self.define(kind, Some(value), &mut next)?;
        if next == *value {
            // Nothing changed: no new version, no event.
            return Ok(Arc::clone(current));
        }
        if deletion::is_finished(&next) {
            if effect == Effect::Stored {
                self.remove_contents(kind, key);
            }
            return self.remove_as(kind, key, next, effect).ok_or_else(|| not_found(kind, key));
        }
        if kind.has_generation && wants_differ(kind, value, &next) {
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
        set_version(&mut object, version);
        let stored = self.collection_mut(kind).put(key, &object, version);
        if let Some(definition) = defined {
            self.serve(definition);
        }
        stored
    }

    /// Removes `key`, or marks it as being deleted while it is held.
    fn remove(&mut self, kind: &Kind, key: &ObjectKey, options: &DeleteOptions) -> Option<Arc<Stored>> {
        let current = Arc::clone(self.collection(kind).get(key)?);
        let value = current.value();
        match deletion::fate(kind, &value, options) {
            Fate::Waiting => Some(current),
            Fate::Marked(next) => Some(self.put(kind, key, next, None, options.effect)),
            Fate::Gone => {
                if options.effect == Effect::Stored {
                    self.remove_contents(kind, key);
                }
                self.remove_as(kind, key, value, options.effect)
            }
        }
    }

    fn remove_as(
        &mut self,
        kind: &Kind,
        key: &ObjectKey,
        mut last: Value,
        effect: Effect,
    ) -> Option<Arc<Stored>> {
        if effect == Effect::Rehearsed {
            return Some(Stored::new(&last, self.version, Change::Deleted));
        }
        let version = self.next_version();
        set_version(&mut last, version);
        self.collection_mut(kind).remove(key, &last, version)
    }

    /// What goes together with an object: a namespace's contents, a definition's objects.
    fn remove_contents(&mut self, kind: &Kind, key: &ObjectKey) {
        if kind.is(&kinds::NAMESPACES) {
            for kind in self.kinds.clone().resources().filter(|kind| kind.is_namespaced()) {
                self.remove_all(kind, Some(&key.name));
            }
        } else if kind.is(&kinds::CUSTOM_RESOURCE_DEFINITIONS) {
            self.forget(&key.name);
        }
    }

    /// Removes every object of `kind`, of one namespace or of all.
    fn remove_all(&mut self, kind: &Kind, namespace: Option<&str>) {
        let mut keys = Vec::new();
        let scanned = self.collection(kind).scan_at(self.version, namespace, None, |key, _| {
            keys.push(key.clone());
            true
        });
        debug_assert!(scanned.is_ok(), "the present is always readable");
        for key in keys {
            self.remove(kind, &key, &DeleteOptions::at_once());
        }
    }

    /// Gives a Service without an address one from 10.96.0.0/12, in order of creation.
    fn allocate_cluster_address(&mut self, service: &mut Value) {
        let spec = &service["spec"];
        let wants =
            spec["type"] != "ExternalName" && spec["clusterIP"].as_str().unwrap_or_default().is_empty();
        if wants && service["spec"].is_object() {
            let bits = (10 << 24) | (96 << 16) | (self.next_address & 0x000f_ffff);
            self.next_address += 1;
            service["spec"]["clusterIP"] = json!(std::net::Ipv4Addr::from_bits(bits).to_string());
        }
        let address = service["spec"]["clusterIP"].clone();
        if address.is_string() && service["spec"]["clusterIPs"].is_null() {
            service["spec"]["clusterIPs"] = json!([address]);
        }
    }
}

/// The part of the store that serves the kinds of CustomResourceDefinitions.
impl Core {
    /// Checks a definition that is being written and completes its status; nothing for other kinds.
    fn define(
        &self,
        kind: &Kind,
        current: Option<&Value>,
        object: &mut Value,
    ) -> Result<Option<Definition>, ApiError> {
        if !kind.is(&kinds::CUSTOM_RESOURCE_DEFINITIONS) {
            return Ok(None);
        }
        Definition::settle(object, current, &self.kinds).map(Some)
    }

    /// Serves the kinds of `definition` from now on.
    fn serve(&mut self, definition: Definition) {
        let Some(versions) = definition.versions else { return };
        if let Some(kind) = versions.first() {
            let fresh = Shelf::new(kind, self.history, self.version);
            match self.shelves.iter_mut().find(|shelf| shelf.is_of(kind)) {
                None => self.shelves.push(fresh),
                Some(shelf) if shelf.collection.is_retired() => *shelf = fresh,
                Some(_) => {}
            }
        }
        self.kinds = Arc::new(self.kinds.with(&definition.group, &definition.plural, versions));
    }

    /// Deletes every object of the definition `name`, ends their watches, and serves the kind no longer.
    fn forget(&mut self, name: &str) {
        let kinds = Arc::clone(&self.kinds);
        let Some(kind) = kinds.resources().find(|kind| kind.resource() == name) else { return };
        if kinds::KINDS.iter().any(|built_in| built_in.is(kind)) {
            return;
        }
        self.remove_all(kind, None);
        let version = self.version;
        self.collection_mut(kind).retire(version);
        self.kinds = Arc::new(kinds.with(&kind.group, &kind.plural, Vec::new()));
    }
}

pub(super) fn not_found(kind: &Kind, key: &ObjectKey) -> ApiError {
    ApiError::NotFound { resource: kind.resource(), name: key.name.to_string() }
}

fn conflict(kind: &Kind, key: &ObjectKey, why: String) -> ApiError {
    ApiError::Conflict { resource: kind.resource(), name: key.name.to_string(), why }
}

fn strip_status(object: &mut Value) {
    if let Some(map) = object.as_object_mut() {
        map.remove("status");
    }
}

/// Completes `generateName` by five random characters.
fn name_generated(object: &mut Value) -> Result<(), ApiError> {
    let metadata = object::metadata(object);
    let named = metadata.get("name").and_then(Value::as_str).is_some_and(|name| !name.is_empty());
    if let (false, Some(prefix)) = (named, metadata.get("generateName").and_then(Value::as_str)) {
        let name = format!("{prefix}{}", identity::suffix()?);
        metadata.insert("name".into(), json!(name));
    }
    Ok(())
}

fn stamp_created(kind: &Kind, object: &mut Value, part: Part) -> Result<(), ApiError> {
    let metadata = object::metadata(object);
    if part != Part::All {
        for field in ["uid", "creationTimestamp", "deletionTimestamp", "generation", "selfLink"] {
            metadata.remove(field);
        }
    }
    if !metadata.contains_key("uid") {
        metadata.insert("uid".into(), json!(identity::uid()?));
    }
    metadata.entry("creationTimestamp").or_insert_with(|| json!(identity::timestamp()));
    if kind.has_generation {
        metadata.entry("generation").or_insert_with(|| json!(1));
    }
    Ok(())
}

fn set_version(object: &mut Value, version: u64) {
    object::metadata(object).insert("resourceVersion".into(), json!(version.to_string()));
}

/// The writer's version, uid, name and namespace must be the object's, where given.
fn check_same(kind: &Kind, key: &ObjectKey, current: &Value, next: &Value) -> Result<(), ApiError> {
    let given = |field: &str| next["metadata"][field].as_str().filter(|text| !text.is_empty());
    let has = |field: &str| current["metadata"][field].as_str().unwrap_or_default();
    if given("resourceVersion").is_some_and(|version| version != has("resourceVersion")) {
        let why =
            "the object has been modified; please apply your changes to the latest version and try again";
        return Err(conflict(kind, key, why.to_owned()));
    }
    if let Some(uid) = given("uid").filter(|uid| *uid != has("uid")) {
        let why =
            format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {}", has("uid"));
        return Err(conflict(kind, key, why));
    }
    for (field, wanted) in [("name", &key.name), ("namespace", &key.namespace)] {
        if let Some(other) = given(field).filter(|text| *text != &**wanted) {
            return Err(ApiError::BadRequest(format!(
                "the {field} of the object ({other}) does not match the {field} on the URL ({wanted})"
            )));
        }
    }
    Ok(())
}

/// Takes from `next` only what a write of `part` may change.
fn combine(kind: &Kind, current: &Value, mut next: Value, part: Part) -> Value {
    match part {
        Part::All => next,
        Part::Main if !kind.has_status => next,
        Part::Main => {
            strip_status(&mut next);
            if let (Some(status), Some(map)) = (current.get("status"), next.as_object_mut()) {
                map.insert("status".into(), status.clone());
            }
            next
        }
        Part::Status => {
            let mut out = current.clone();
            strip_status(&mut out);
            if let (Some(status), Some(map)) = (next.get("status"), out.as_object_mut()) {
                map.insert("status".into(), status.clone());
            }
            out
        }
    }
}

/// Fields of the metadata and the type that only the server sets; a Service keeps its address.
fn keep_system_metadata(current: &Value, next: &mut Value) {
    for field in ["apiVersion", "kind"] {
        next[field] = current[field].clone();
    }
    if current["kind"] == "Service" && next["spec"].is_object() && next["spec"]["type"] != "ExternalName" {
        for field in ["clusterIP", "clusterIPs"] {
            if next["spec"][field].is_null() && current["spec"][field] != Value::Null {
                next["spec"][field] = current["spec"][field].clone();
            }
        }
    }
    let metadata = object::metadata(next);
    let kept = [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "resourceVersion",
    ];
    for field in kept {
        match &current["metadata"][field] {
            Value::Null => metadata.remove(field),
            value => metadata.insert(field.into(), value.clone()),
        };
    }
}

/// Whether anything besides metadata, and status where it is a part of its own, differs.
fn wants_differ(kind: &Kind, current: &Value, next: &Value) -> bool {
    let counts =
        |(name, _): &(&String, &Value)| *name != "metadata" && !(kind.has_status && *name == "status");
    let parts = |object: &Value| -> Vec<(String, Value)> {
        let map = object.as_object().into_iter().flatten();
        map.filter(counts).map(|(name, value)| (name.clone(), value.clone())).collect()
    };
    // Rollouts are steered by annotations too.
    let annotations =
        kind.is(&kinds::DEPLOYMENTS) && current["metadata"]["annotations"] != next["metadata"]["annotations"];
    annotations || parts(current) != parts(next)
}

#[cfg(test)]
mod tests;
