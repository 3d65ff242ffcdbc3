//! The rules for names, namespaces and labels; pure.

use serde_json::Value;

use super::error::ApiError;
use super::kinds::{Kind, NameRule};
use super::object::ObjectKey;

/// Checks the name by the kind's rule, the labels, and that the namespace is present exactly when the kind
/// has one.
pub(super) fn validate(kind: &Kind, object: &Value) -> Result<(), ApiError> {
    let key = ObjectKey::of(object);
    let invalid = |field: &str, why: String| ApiError::Invalid {
        kind: kind.qualified(),
        name: key.name.to_string(),
        field: field.to_owned(),
        why,
    };
    if key.name.is_empty() {
        return Err(invalid("metadata.name", "Required value: name or generateName is required".into()));
    }
    let rule = |ok: bool, what: &str| {
        if ok { Ok(()) } else { Err(format!("Invalid value: {what}")) }
    };
    let checked = match kind.names {
        NameRule::Label => {
            rule(is_dns_label(&key.name), "must be a DNS-1123 label: a-z, 0-9 and '-', at most 63 characters")
        }
        NameRule::Subdomain => rule(
            is_dns_subdomain(&key.name),
            "must be a DNS-1123 subdomain: a-z, 0-9, '-' and '.', at most 253 characters",
        ),
    };
    checked.map_err(|why| invalid("metadata.name", why))?;
    if kind.is_namespaced() && !is_dns_label(&key.namespace) {
        return Err(invalid("metadata.namespace", "Invalid value: must be a DNS-1123 label".into()));
    }
    if !kind.is_namespaced() && !key.namespace.is_empty() {
        return Err(invalid("metadata.namespace", "Forbidden: not allowed on this type".into()));
    }
    for field in ["labels", "annotations"] {
        let map = &object["metadata"][field];
        let strings = map.as_object().is_some_and(|map| map.values().all(Value::is_string));
        if !map.is_null() && !strings {
            return Err(invalid(&format!("metadata.{field}"), "Invalid value: must map text to text".into()));
        }
    }
    for (key, value) in object["metadata"]["labels"].as_object().into_iter().flatten() {
        let value = value.as_str().unwrap_or_default();
        if !is_label_key(key) || !is_label_value(value) {
            let why = format!(
                "Invalid value: {key:?}={value:?}: a label is [prefix/]name=value, name and value of at most 63 \
                 letters, digits, '-', '_' and '.', starting and ending with a letter or digit"
            );
            return Err(invalid("metadata.labels", why));
        }
    }
    Ok(())
}

/// Whether a label may be called so: `[prefix/]name`.
pub(super) fn is_label_key(key: &str) -> bool {
    let (prefix, name) = key.rsplit_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    prefix.is_none_or(is_dns_subdomain) && !name.is_empty() && is_label_value(name)
}

/// A label's value, or the name of its key: perhaps empty.
pub(super) fn is_label_value(text: &str) -> bool {
    let ends = |c: Option<&u8>| c.is_none_or(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && ends(bytes.first())
        && ends(bytes.last())
        && bytes.iter().all(|c| c.is_ascii_alphanumeric() || b"-_.".contains(c))
}

fn is_dns_label(text: &str) -> bool {
    text.len() <= 63 && is_dns_part(text)
}

fn is_dns_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_dns_part)
}

/// Letters, digits and hyphens, with a letter or digit at both ends.
fn is_dns_part(text: &str) -> bool {
    let allowed = |c: &u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.iter().all(|c| allowed(c) || *c == b'-')
        && bytes.first().is_some_and(allowed)
        && bytes.last().is_some_and(allowed)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::kinds::{NAMESPACES, PODS, SERVICES};
    use super::*;

    fn invalid_field(kind: &Kind, object: &Value) -> Option<String> {
        match validate(kind, object) {
            Ok(()) => None,
            Err(ApiError::Invalid { field, .. }) => Some(field),
            Err(other) => panic!("unexpected {other}"),
        }
    }

    #[test]
    fn names_follow_the_rule_of_their_kind() {
        let named = |name: &str| json!({"metadata": {"name": name, "namespace": "n"}});
        assert_eq!(invalid_field(&PODS, &named("a.b-c")), None);
        assert_eq!(invalid_field(&SERVICES, &named("a.b-c")).as_deref(), Some("metadata.name"));
        for bad in ["", "A", "-a", "a-", "a..b", "a_b", &"x".repeat(254)] {
            assert_eq!(invalid_field(&PODS, &named(bad)).as_deref(), Some("metadata.name"), "{bad:?}");
        }
    }

    #[test]
    fn namespaces_are_present_exactly_when_the_kind_has_one() {
        let object = json!({"metadata": {"name": "a", "namespace": "n"}});
        assert_eq!(invalid_field(&NAMESPACES, &object).as_deref(), Some("metadata.namespace"));
        let object = json!({"metadata": {"name": "a"}});
        assert_eq!(invalid_field(&PODS, &object).as_deref(), Some("metadata.namespace"));
    }

    #[test]
    fn labels_that_are_not_text_are_refused() {
        let object = json!({"metadata": {"name": "a", "namespace": "n", "labels": {"x": 1}}});
        assert_eq!(invalid_field(&PODS, &object).as_deref(), Some("metadata.labels"));
        for (key, value) in [("a b", "x"), ("a", "x y"), ("-a", "x"), ("a/b/c", "x"), ("", "x"), ("a", "x-")]
        {
            let object = json!({"metadata": {"name": "a", "namespace": "n", "labels": {key: value}}});
            assert_eq!(invalid_field(&PODS, &object).as_deref(), Some("metadata.labels"), "{key}={value}");
        }
        let object =
            json!({"metadata": {"name": "a", "namespace": "n", "labels": {"a.b/c_d": "", "x": "A.b"}}});
        assert_eq!(invalid_field(&PODS, &object), None);
    }
}
