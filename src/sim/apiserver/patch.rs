//! Patches as pure functions on values.

mod order;
pub(super) mod shape;
mod strategic;

use serde_json::{Map, Value};

use self::shape::Shape;
use super::error::ApiError;

const JSON: &str = "application/json-patch+json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

/// A JSON patch of more operations is refused, as on a real server.
const MOST_OPERATIONS: usize = 10_000;

/// A patch as a client sent it.
#[derive(Debug, Clone)]
pub(super) enum Patch {
    /// JSON patch (RFC 6902): operations in order.
    Json(json_patch::Patch),
    /// JSON merge patch (RFC 7386).
    Merge(Map<String, Value>),
    /// Strategic merge patch: lists merge by the keys of the kind.
    Strategic(Map<String, Value>, &'static Shape),
}

impl Patch {
    /// Reads a patch by its media type; `shape` is that of the kind, `None` for custom objects.
    ///
    /// # Errors
    /// [`ApiError::UnsupportedMediaType`] for the types this server does not apply to the kind, and
    /// [`ApiError::BadRequest`] for a body that is no patch of its type.
    pub(super) fn parse(media: &str, body: &[u8], shape: Option<&'static Shape>) -> Result<Self, ApiError> {
        match (media, shape) {
            (JSON, _) => operations(body).map(Self::Json),
            (MERGE, _) => object(body).map(Self::Merge),
            (STRATEGIC, Some(shape)) => Ok(Self::Strategic(object(body)?, shape)),
            (APPLY, _) => Err(ApiError::UnsupportedMediaType(format!(
                "server-side apply ({APPLY}) is not offered by this server: send another patch type (kubectl \
                 apply without --server-side does) or use a real API server; accepted media types include: {}",
                accepted_text(shape)
            ))),
            _ => Err(ApiError::UnsupportedMediaType(format!(
                "the body of the request was in an unknown format - accepted media types include: {}",
                accepted_text(shape)
            ))),
        }
    }

    /// `current` with the patch applied.
    ///
    /// # Errors
    /// [`ApiError::Unprocessable`] for a patch that does not fit the object; see also
    /// [`strategic::apply`].
    pub(super) fn apply(&self, current: &Value) -> Result<Value, ApiError> {
        let mut next = current.clone();
        match self {
            Self::Json(operations) => json_patch::patch(&mut next, operations)
                .map_err(|error| ApiError::Unprocessable(error.to_string()))?,
            Self::Merge(patch) => merge_map(&mut next, patch),
            Self::Strategic(patch, shape) => {
                if let Some(map) = next.as_object_mut() {
                    strategic::apply(map, patch, shape)?;
                }
            }
        }
        if next.is_object() {
            Ok(next)
        } else {
            Err(ApiError::Unprocessable("the patched document is not an object".into()))
        }
    }
}

/// The media types applied to objects of a kind with this shape.
pub(super) fn accepted(shape: Option<&'static Shape>) -> impl Iterator<Item = &'static str> {
    [JSON, MERGE].into_iter().chain(shape.map(|_| STRATEGIC))
}

fn accepted_text(shape: Option<&'static Shape>) -> String {
    accepted(shape).collect::<Vec<_>>().join(", ")
}

fn object(body: &[u8]) -> Result<Map<String, Value>, ApiError> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(ApiError::BadRequest("the patch must be one JSON object".into())),
        Err(error) => Err(ApiError::BadRequest(format!("the patch is not valid JSON: {error}"))),
    }
}

fn operations(body: &[u8]) -> Result<json_patch::Patch, ApiError> {
    let patch: json_patch::Patch = serde_json::from_slice(body)
        .map_err(|error| ApiError::BadRequest(format!("the patch is no list of JSON operations: {error}")))?;
    if patch.0.len() > MOST_OPERATIONS {
        return Err(ApiError::TooLarge(MOST_OPERATIONS));
    }
    Ok(patch)
}

/// JSON merge patch (RFC 7386): `null` removes, objects merge, everything else replaces.
pub(super) fn merge(target: &mut Value, patch: &Value) {
    match patch {
        Value::Object(patch) => merge_map(target, patch),
        other => *target = other.clone(),
    }
}

fn merge_map(target: &mut Value, patch: &Map<String, Value>) {
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(map) = target.as_object_mut() else { return };
    for (key, value) in patch {
        if value.is_null() {
            map.remove(key);
        } else {
            merge(map.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn merge_patch_follows_the_examples_of_its_rfc() {
        for (mut target, patch, want) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
            (json!(["a"]), json!({"a": 1}), json!({"a": 1})),
            (json!({}), json!({"a": {"bb": {"c": null}}}), json!({"a": {"bb": {}}})),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
        ] {
            merge(&mut target, &patch);
            assert_eq!(target, want, "{patch}");
        }
    }

    #[test]
    fn json_patch_applies_whole_or_not_at_all() {
        let current = json!({"metadata": {"labels": {"a": "1"}}, "spec": {"ports": [{"port": 1}]}});
        let patched = |patch: Value| Patch::parse(JSON, patch.to_string().as_bytes(), None)?.apply(&current);
        let next = patched(json!([
            {"op": "test", "path": "/metadata/labels/a", "value": "1"},
            {"op": "add", "path": "/spec/ports/-", "value": {"port": 2}},
            {"op": "remove", "path": "/metadata/labels"}]));
        assert_eq!(next.unwrap(), json!({"metadata": {}, "spec": {"ports": [{"port": 1}, {"port": 2}]}}));
        for (patch, code) in [
            (json!([{"op": "test", "path": "/metadata/labels/a", "value": "2"}]), 422),
            (json!([{"op": "remove", "path": "/nope"}]), 422),
            (json!([{"op": "replace", "path": "", "value": 1}]), 422),
            (json!([{"op": "twist", "path": "/metadata"}]), 400),
            (json!({"op": "add"}), 400),
        ] {
            assert_eq!(patched(patch.clone()).unwrap_err().code(), code, "{patch}");
        }
    }

    #[test]
    fn patch_types_are_those_of_the_kind() {
        let shape = shape::of("", "Pod");
        let parse = |media, shape| Patch::parse(media, b"{}", shape).map(|_| ());
        assert!(parse(STRATEGIC, shape).is_ok() && parse(MERGE, None).is_ok());
        for (media, shape) in [(STRATEGIC, None), (APPLY, shape), ("text/plain", shape)] {
            assert_eq!(parse(media, shape).unwrap_err().code(), 415, "{media}");
        }
        assert_eq!(Patch::parse(MERGE, b"[]", None).unwrap_err().code(), 400);
        assert_eq!(Patch::parse(STRATEGIC, b"{", shape).unwrap_err().code(), 400);
    }
}
