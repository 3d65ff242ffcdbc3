//! The objects of one API server and every operation on them: one mutex, one version counter.
//!
//! Each write happens under the lock: check, give the next version, serialise once, record the event, wake
//! the watchers of that kind. Cost of a write: its own bytes and one wake-up per watcher of its kind. Reads
//! clone pointers. The lock is never held across an `.await`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Value, json};
use tokio::sync::watch;

use super::collection::{Collection, Event, TooOld};
use super::error::ApiError;
use super::identity;
use super::kinds::{self, KINDS, Kind};
use super::object::{self, ObjectKey, Stored};

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

/// What must hold for a delete to happen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Preconditions {
    pub(super) uid: Option<String>,
    pub(super) resource_version: Option<String>,
}

#[derive(Debug)]
struct Core {
    version: u64,
    collections: HashMap<(&'static str, &'static str), Collection>,
    next_address: u32,
}

impl Default for Store {
    fn default() -> Self {
        Self::new(DEFAULT_HISTORY)
    }
}

impl Store {
    /// An empty store that remembers the last `history` events of each kind.
    pub fn new(history: usize) -> Self {
        let collections =
            KINDS.iter().map(|kind| ((kind.group, kind.plural), Collection::new(history))).collect();
        Self { core: Arc::new(Mutex::new(Core { version: 1, collections, next_address: 1 })) }
    }

    fn lock(&self) -> MutexGuard<'_, Core> {
        // A panic while holding the lock leaves at worst a skipped version behind: carry on.
        self.core.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The version of the newest write.
    pub fn resource_version(&self) -> u64 {
        self.lock().version
    }

    /// Creates `object`; its kind comes from `apiVersion` and `kind`, a missing namespace is `default`.
    ///
    /// # Errors
    /// Unknown kind, invalid metadata, or the object exists.
    pub fn create(&self, object: Value) -> Result<Arc<Value>, ApiError> {
        let (kind, object) = self::identify(object)?;
        self.create_part(kind, object, Part::All).map(|stored| Arc::clone(&stored.value))
    }

    /// Replaces `object`. With a `metadata.resourceVersion` it must be the current one.
    ///
    /// # Errors
    /// Unknown kind, invalid metadata, no such object, or a conflict.
    pub fn update(&self, object: Value) -> Result<Arc<Value>, ApiError> {
        let (kind, object) = self::identify(object)?;
        let key = ObjectKey::of(&object);
        self.modify(kind, &key, Part::All, |_| Ok(object)).map(|stored| Arc::clone(&stored.value))
    }

    /// Creates `object`, or replaces the one of that name whatever its version.
    ///
    /// # Errors
    /// Unknown kind or invalid metadata.
    pub fn apply(&self, mut object: Value) -> Result<Arc<Value>, ApiError> {
        object::metadata(&mut object).remove("resourceVersion");
        match self.create(object.clone()) {
            Err(ApiError::AlreadyExists { .. }) => self.update(object),
            other => other,
        }
    }

    /// Applies a JSON merge patch (RFC 7386), `status` included, atomically.
    ///
    /// # Errors
    /// No such object, or the outcome is invalid or conflicts.
    pub fn patch(
        &self,
        kind: &'static Kind,
        namespace: &str,
        name: &str,
        patch: &Value,
    ) -> Result<Arc<Value>, ApiError> {
        let key = ObjectKey::new(namespace, name);
        let stored = self.modify(kind, &key, Part::All, |current| {
            let mut next = current.clone();
            super::patch::merge(&mut next, patch);
            Ok(next)
        })?;
        Ok(Arc::clone(&stored.value))
    }

    /// Deletes an object, and with a namespace everything in it.
    ///
    /// # Errors
    /// No such object.
    pub fn delete(&self, kind: &'static Kind, namespace: &str, name: &str) -> Result<(), ApiError> {
        self.remove(kind, &ObjectKey::new(namespace, name), &Preconditions::default()).map(|_| ())
    }

    /// The object, if it exists.
    pub fn get(&self, kind: &'static Kind, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.stored(kind, &ObjectKey::new(namespace, name)).ok().map(|stored| Arc::clone(&stored.value))
    }

    /// All objects of `kind`, of one namespace or of all, in name order.
    pub fn list(&self, kind: &'static Kind, namespace: Option<&str>) -> Vec<Arc<Value>> {
        let core = self.lock();
        let mut out = Vec::new();
        let all = core.collection(kind).scan_at(core.version, namespace, None, |_, stored| {
            out.push(Arc::clone(&stored.value));
            true
        });
        debug_assert!(all.is_ok(), "the present is always readable");
        out
    }

    /// Forgets all history: continued lists and watches from before now are answered with 410.
    pub fn compact(&self) {
        let mut core = self.lock();
        let version = core.version;
        for collection in core.collections.values_mut() {
            collection.compact(version);
        }
    }

    pub(super) fn stored(&self, kind: &'static Kind, key: &ObjectKey) -> Result<Arc<Stored>, ApiError> {
        let core = self.lock();
        core.collection(kind).get(key).cloned().ok_or_else(|| not_found(kind, key))
    }

    pub(super) fn create_part(
        &self,
        kind: &'static Kind,
        object: Value,
        part: Part,
    ) -> Result<Arc<Stored>, ApiError> {
        self.lock().create(kind, object, part)
    }

    /// Replaces `key` by what `change` makes of it, atomically.
    pub(super) fn modify(
        &self,
        kind: &'static Kind,
        key: &ObjectKey,
        part: Part,
        change: impl FnOnce(&Value) -> Result<Value, ApiError>,
    ) -> Result<Arc<Stored>, ApiError> {
        let mut core = self.lock();
        let current = core.collection(kind).get(key).cloned().ok_or_else(|| not_found(kind, key))?;
        let next = change(&current.value)?;
        core.replace(kind, key, &current, next, part)
    }

    pub(super) fn remove(
        &self,
        kind: &'static Kind,
        key: &ObjectKey,
        preconditions: &Preconditions,
    ) -> Result<Arc<Stored>, ApiError> {
        let mut core = self.lock();
        let current = core.collection(kind).get(key).cloned().ok_or_else(|| not_found(kind, key))?;
        preconditions.check(kind, key, &current.value)?;
        if kind.plural == kinds::NAMESPACES.plural {
            core.empty_namespace(&key.name);
        }
        core.remove(kind, key).ok_or_else(|| not_found(kind, key))
    }

    pub(super) fn subscribe(&self, kind: &'static Kind) -> watch::Receiver<u64> {
        self.lock().collection(kind).subscribe()
    }

    pub(super) fn read<R>(&self, kind: &'static Kind, read: impl FnOnce(&Collection, u64) -> R) -> R {
        let core = self.lock();
        read(core.collection(kind), core.version)
    }

    /// Events after `version` and the version up to which this answer is complete.
    pub(super) fn events_after(
        &self,
        kind: &'static Kind,
        version: u64,
        max: usize,
    ) -> Result<(Vec<Event>, u64), TooOld> {
        let core = self.lock();
        let events = core.collection(kind).events_after(version, max)?;
        let complete = match events.last() {
            Some(last) if events.len() == max => last.version,
            _ => core.version,
        };
        Ok((events, complete))
    }
}

impl Core {
    fn collection(&self, kind: &Kind) -> &Collection {
        self.collections.get(&(kind.group, kind.plural)).expect("every row of the table has its collection")
    }

    fn collection_mut(&mut self, kind: &Kind) -> &mut Collection {
        self.collections
            .get_mut(&(kind.group, kind.plural))
            .expect("every row of the table has its collection")
    }

    fn next_version(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    fn create(
        &mut self,
        kind: &'static Kind,
        mut object: Value,
        part: Part,
    ) -> Result<Arc<Stored>, ApiError> {
        if part == Part::Main && kind.has_status {
            strip_status(&mut object);
        }
        (kind.defaults)(&mut object);
        name_generated(&mut object)?;
        object::validate(kind, &object)?;
        let key = ObjectKey::of(&object);
        if self.collection(kind).get(&key).is_some() {
            return Err(ApiError::AlreadyExists { resource: kind.resource(), name: key.name });
        }
        if kind.plural == kinds::SERVICES.plural {
            self.allocate_cluster_address(&mut object);
        }
        stamp_created(&mut object, part)?;
        let version = self.next_version();
        set_version(&mut object, version);
        Ok(self.collection_mut(kind).put(key, object, version))
    }

    fn replace(
        &mut self,
        kind: &'static Kind,
        key: &ObjectKey,
        current: &Stored,
        next: Value,
        part: Part,
    ) -> Result<Arc<Stored>, ApiError> {
        let mut next = next;
        object::metadata(&mut next);
        check_same(kind, key, &current.value, &next)?;
        let mut next = combine(kind, &current.value, next, part);
        keep_system_metadata(&current.value, &mut next);
        object::validate(kind, &next)?;
        if next == *current.value {
            // Nothing changed: no new version, no event.
            return self.collection(kind).get(key).cloned().ok_or_else(|| not_found(kind, key));
        }
        if is_finished_deletion(&next) {
            return self.remove_as(kind, key, next).ok_or_else(|| not_found(kind, key));
        }
        if spec_differs(&current.value, &next) {
            let generation = current.value["metadata"]["generation"].as_u64().unwrap_or(0) + 1;
            object::metadata(&mut next).insert("generation".into(), json!(generation));
        }
        let version = self.next_version();
        set_version(&mut next, version);
        Ok(self.collection_mut(kind).put(key.clone(), next, version))
    }

    /// Removes `key`, or marks it as being deleted while it has finalizers.
    fn remove(&mut self, kind: &'static Kind, key: &ObjectKey) -> Option<Arc<Stored>> {
        let current = Arc::clone(self.collection(kind).get(key)?);
        let mut last = Value::clone(&current.value);
        let metadata = object::metadata(&mut last);
        if metadata.get("finalizers").and_then(Value::as_array).is_some_and(|list| !list.is_empty()) {
            if metadata.contains_key("deletionTimestamp") {
                return Some(current);
            }
            metadata.insert("deletionTimestamp".into(), json!(identity::timestamp()));
            metadata.insert("deletionGracePeriodSeconds".into(), json!(0));
            let version = self.next_version();
            set_version(&mut last, version);
            return Some(self.collection_mut(kind).put(key.clone(), last, version));
        }
        self.remove_as(kind, key, last)
    }

    fn remove_as(&mut self, kind: &'static Kind, key: &ObjectKey, mut last: Value) -> Option<Arc<Stored>> {
        let version = self.next_version();
        set_version(&mut last, version);
        self.collection_mut(kind).remove(key, last, version)
    }

    fn empty_namespace(&mut self, namespace: &str) {
        for kind in KINDS.iter().copied().filter(|kind| kind.is_namespaced()) {
            let mut keys = Vec::new();
            let scanned = self.collection(kind).scan_at(self.version, Some(namespace), None, |key, _| {
                keys.push(key.clone());
                true
            });
            debug_assert!(scanned.is_ok(), "the present is always readable");
            for key in keys {
                self.remove(kind, &key);
            }
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

impl Preconditions {
    /// Reads the preconditions of a `DeleteOptions` body.
    pub(super) fn parse(options: &[u8]) -> Result<Self, ApiError> {
        let options: Value = serde_json::from_slice(options).map_err(|error| {
            ApiError::BadRequest(format!("the delete options are not valid JSON: {error}"))
        })?;
        let text = |field: &str| options["preconditions"][field].as_str().map(str::to_owned);
        Ok(Self { uid: text("uid"), resource_version: text("resourceVersion") })
    }

    fn check(&self, kind: &Kind, key: &ObjectKey, current: &Value) -> Result<(), ApiError> {
        for (field, wanted) in [("uid", &self.uid), ("resourceVersion", &self.resource_version)] {
            let Some(wanted) = wanted else { continue };
            let actual = current["metadata"][field].as_str().unwrap_or_default();
            if wanted != actual {
                return Err(conflict(
                    kind,
                    key,
                    format!("Precondition failed: {field} in precondition: {wanted}, in object: {actual}"),
                ));
            }
        }
        Ok(())
    }
}

/// Finds the kind of an object and settles its namespace.
fn identify(mut object: Value) -> Result<(&'static Kind, Value), ApiError> {
    let text = |field: &str| object[field].as_str().unwrap_or_default();
    let kind = kinds::of_object(text("apiVersion"), text("kind")).ok_or_else(|| {
        ApiError::BadRequest(format!("no kind {:?} in version {:?}", text("kind"), text("apiVersion")))
    })?;
    if kind.is_namespaced() {
        object::metadata(&mut object).entry("namespace").or_insert_with(|| json!("default"));
    }
    Ok((kind, object))
}

pub(super) fn not_found(kind: &Kind, key: &ObjectKey) -> ApiError {
    ApiError::NotFound { resource: kind.resource(), name: key.name.clone() }
}

fn conflict(kind: &Kind, key: &ObjectKey, why: String) -> ApiError {
    ApiError::Conflict { resource: kind.resource(), name: key.name.clone(), why }
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

fn stamp_created(object: &mut Value, part: Part) -> Result<(), ApiError> {
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
    metadata.entry("generation").or_insert_with(|| json!(1));
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
        if let Some(other) = given(field).filter(|text| text != wanted) {
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

fn is_finished_deletion(object: &Value) -> bool {
    let metadata = &object["metadata"];
    !metadata["deletionTimestamp"].is_null() && metadata["finalizers"].as_array().is_none_or(Vec::is_empty)
}

/// Whether anything besides metadata and status differs.
fn spec_differs(current: &Value, next: &Value) -> bool {
    let parts = |object: &Value| {
        let mut map = object.as_object().cloned().unwrap_or_default();
        map.remove("metadata");
        map.remove("status");
        map
    };
    parts(current) != parts(next)
}

#[cfg(test)]
mod tests;
