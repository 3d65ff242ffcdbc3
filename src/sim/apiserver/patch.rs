//! Patches as pure functions on values.

use serde_json::Value;

use super::error::ApiError;

/// A patch as a client sent it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Patch {
    /// JSON merge patch.
    Merge(Value),
}

impl Patch {
    /// Reads a patch by its media type.
    ///
    /// # Errors
    /// [`ApiError::UnsupportedMediaType`] for the types this server does not apply, and
    /// [`ApiError::BadRequest`] for a body that is not a JSON object.
    pub(super) fn parse(media: &str, body: &[u8]) -> Result<Self, ApiError> {
        let object = || match serde_json::from_slice(body) {
            Ok(value @ Value::Object(_)) => Ok(value),
            Ok(_) => Err(ApiError::BadRequest("the patch must be one JSON object".into())),
            Err(error) => Err(ApiError::BadRequest(format!("the patch is not valid JSON: {error}"))),
        };
        match media {
            "application/merge-patch+json" => Ok(Self::Merge(object()?)),
            other => {
                Err(ApiError::UnsupportedMediaType(format!("{other}; send application/merge-patch+json")))
            }
        }
    }

    /// `current` with the patch applied.
    pub(super) fn apply(&self, current: &Value) -> Result<Value, ApiError> {
        let mut next = current.clone();
        match self {
            Self::Merge(patch) => merge(&mut next, patch),
        }
        Ok(next)
    }
}

/// JSON merge patch (RFC 7386): `null` removes, objects merge, everything else replaces.
pub(super) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
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
}
