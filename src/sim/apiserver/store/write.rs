//! What a write may bring, what the server completes, and what stays as it was; pure but for fresh identities.

use serde_json::{Value, json};

use super::super::error::ApiError;
use super::super::identity;
use super::super::kinds::{self, Kind};
use super::super::object::{self, ObjectKey};
use super::Part;

/// Characters of a `generateName` that count: with five random ones the name is a label still.
const PREFIX: usize = 58;

/// Metadata of new objects that only the server sets.
const SERVER_FIELDS: [&str; 6] =
    ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation", "selfLink"];

/// Takes the status away.
pub(super) fn strip_status(object: &mut Value) {
    if let Some(map) = object.as_object_mut() {
        map.remove("status");
    }
}

/// Completes `generateName` by five random characters.
pub(super) fn name_generated(object: &mut Value) -> Result<(), ApiError> {
    let metadata = object::metadata(object);
    let named = metadata.get("name").and_then(Value::as_str).is_some_and(|name| !name.is_empty());
    if let (false, Some(prefix)) = (named, metadata.get("generateName").and_then(Value::as_str)) {
        let prefix: String = prefix.chars().take(PREFIX).collect();
        let name = format!("{prefix}{}", identity::suffix()?);
        metadata.insert("name".into(), json!(name));
    }
    Ok(())
}

/// Gives a new object its identity; clients cannot bring theirs.
pub(super) fn stamp_created(kind: &Kind, object: &mut Value, part: Part) -> Result<(), ApiError> {
    let metadata = object::metadata(object);
    if part != Part::All {
        for field in SERVER_FIELDS {
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

/// Stamps the version.
pub(super) fn set_version(object: &mut Value, version: u64) {
    object::metadata(object).insert("resourceVersion".into(), json!(version.to_string()));
}

/// The writer's version, uid, name and namespace must be the object's, where given.
pub(super) fn check_same(
    kind: &Kind,
    key: &ObjectKey,
    current: &Value,
    next: &Value,
) -> Result<(), ApiError> {
    let given = |field: &str| next["metadata"][field].as_str().filter(|text| !text.is_empty());
    let has = |field: &str| current["metadata"][field].as_str().unwrap_or_default();
    if given("resourceVersion").is_some_and(|version| version != has("resourceVersion")) {
        let why =
            "the object has been modified; please apply your changes to the latest version and try again";
        return Err(super::conflict(kind, key, why.to_owned()));
    }
    if let Some(uid) = given("uid").filter(|uid| *uid != has("uid")) {
        let why =
            format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {}", has("uid"));
        return Err(super::conflict(kind, key, why));
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
pub(super) fn combine(kind: &Kind, current: &Value, mut next: Value, part: Part) -> Value {
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
pub(super) fn keep_system_metadata(current: &Value, next: &mut Value) {
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
pub(super) fn wants_differ(kind: &Kind, current: &Value, next: &Value) -> bool {
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
