//! Rules of single kinds that everyday mistakes run into. Objects written in process are trusted.

use serde_json::Value;

use super::error::ApiError;
use super::kinds::Kind;

/// Checks what a client wants `object` to be; `current` is what it is now.
///
/// # Errors
/// [`ApiError::Invalid`] naming the first field that breaks a rule.
pub(super) fn check(kind: &Kind, current: Option<&Value>, object: &Value) -> Result<(), ApiError> {
    match (&*kind.group, &*kind.kind) {
        ("apps", "Deployment" | "ReplicaSet") => workload(kind, current, object),
        _ => Ok(()),
    }
}

/// The selector of a workload is there, never changes, and selects the pods it makes.
fn workload(kind: &Kind, current: Option<&Value>, object: &Value) -> Result<(), ApiError> {
    let spec = &object["spec"];
    let invalid = |field: &str, why: String| {
        Err(ApiError::Invalid {
            kind: kind.qualified(),
            name: object["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
            field: field.to_owned(),
            why,
        })
    };
    let selector = &spec["selector"];
    if selector.is_null() {
        return invalid("spec.selector", "Required value".into());
    }
    let labels = &spec["template"]["metadata"]["labels"];
    let wanted = selector["matchLabels"].as_object().into_iter().flatten();
    if wanted.into_iter().any(|(key, value)| labels.get(key) != Some(value)) {
        let why = format!("Invalid value: {labels}: `selector` does not match template `labels`");
        return invalid("spec.template.metadata.labels", why);
    }
    if current.is_some_and(|current| current["spec"]["selector"] != *selector) {
        return invalid("spec.selector", format!("Invalid value: {selector}: field is immutable"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::kinds::DEPLOYMENTS;
    use super::*;

    fn deployment(selector: &str, label: &str) -> Value {
        json!({"metadata": {"name": "d"}, "spec": {
            "selector": {"matchLabels": {"app": selector}},
            "template": {"metadata": {"labels": {"app": label}}}}})
    }

    fn refused_field(current: Option<&Value>, object: &Value) -> Option<String> {
        match check(&DEPLOYMENTS, current, object) {
            Ok(()) => None,
            Err(ApiError::Invalid { field, .. }) => Some(field),
            Err(other) => panic!("unexpected {other}"),
        }
    }

    #[test]
    fn selectors_are_present_fixed_and_match() {
        let good = deployment("a", "a");
        assert_eq!(refused_field(None, &good), None);
        assert_eq!(refused_field(Some(&good), &good), None);
        assert_eq!(refused_field(None, &json!({"spec": {}})).as_deref(), Some("spec.selector"));
        let mismatch = refused_field(None, &deployment("a", "b"));
        assert_eq!(mismatch.as_deref(), Some("spec.template.metadata.labels"));
        assert_eq!(refused_field(Some(&good), &deployment("b", "b")).as_deref(), Some("spec.selector"));
    }
}
