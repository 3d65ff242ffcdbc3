//! CustomResourceDefinitions: what makes one valid, its status, and the kinds it brings.
//!
//! A definition takes effect in the write that brings it: its condition Established is true in the answer,
//! where a real server follows up a moment later. Objects of its kinds may have any content: schemas are not
//! enforced, unknown fields are kept, defaults of the schema are not filled in. Versions differ in nothing but
//! `apiVersion`; conversion webhooks are not called.

use std::sync::Arc;

use serde_json::{Value, json};

use super::columns;
use super::error::ApiError;
use super::identity;
use super::kinds::{self, Kind, Kinds, Scope};
use super::scale::Scale;

/// The kinds of one definition, ready to be served.
#[derive(Debug)]
pub(super) struct Definition {
    pub(super) group: String,
    pub(super) plural: String,
    /// The served versions, the preferred one first. `None` when the names are taken.
    pub(super) versions: Option<Vec<Kind>>,
}

impl Definition {
    /// Checks `object`, the new state of a definition, and completes its status. `current` is its state so
    /// far, `kinds` what is served so far.
    ///
    /// # Errors
    /// [`ApiError::Invalid`] naming the field.
    pub(super) fn settle(
        object: &mut Value,
        current: Option<&Value>,
        kinds: &Kinds,
    ) -> Result<Self, ApiError> {
        validate(object, current)?;
        let spec = &object["spec"];
        let versions = served(spec);
        let (group, plural) = (text(&spec["group"]), text(&spec["names"]["plural"]));
        let taken = taken_name(spec, kinds);
        let status = status(spec, current, taken.as_deref())?;
        object["status"] = status;
        Ok(Self { group, plural, versions: taken.is_none().then_some(versions) })
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(text).collect()
}

fn versions(spec: &Value) -> &[Value] {
    spec["versions"].as_array().map_or(&[], Vec::as_slice)
}

fn stored_version(spec: &Value) -> String {
    versions(spec)
        .iter()
        .find(|version| version["storage"] == true)
        .map(|v| text(&v["name"]))
        .unwrap_or_default()
}

fn validate(object: &Value, current: Option<&Value>) -> Result<(), ApiError> {
    let spec = &object["spec"];
    let name = text(&object["metadata"]["name"]);
    let invalid = |field: &str, why: &str| {
        Err(ApiError::Invalid {
            kind: kinds::CUSTOM_RESOURCE_DEFINITIONS.qualified(),
            name: name.clone(),
            field: field.to_owned(),
            why: why.to_owned(),
        })
    };
    for (field, pointer) in [
        ("spec.group", "/group"),
        ("spec.names.plural", "/names/plural"),
        ("spec.names.kind", "/names/kind"),
        ("spec.scope", "/scope"),
    ] {
        if spec.pointer(pointer).and_then(Value::as_str).unwrap_or_default().is_empty() {
            return invalid(field, "Required value");
        }
    }
    let wanted = format!("{}.{}", text(&spec["names"]["plural"]), text(&spec["group"]));
    if name != wanted {
        let why = format!("Invalid value: {name:?}: must be spec.names.plural+\".\"+spec.group");
        return invalid("metadata.name", &why);
    }
    if !matches!(spec["scope"].as_str(), Some("Cluster" | "Namespaced")) {
        let why =
            format!("Unsupported value: {}: supported values: \"Cluster\", \"Namespaced\"", spec["scope"]);
        return invalid("spec.scope", &why);
    }
    if versions(spec).is_empty() {
        return invalid("spec.versions", "Required value: must have at least one version");
    }
    if versions(spec).iter().filter(|version| version["storage"] == true).count() != 1 {
        let why = "Invalid value: must have exactly one version marked as storage version";
        return invalid("spec.versions", why);
    }
    for (at, version) in versions(spec).iter().enumerate() {
        if text(&version["name"]).is_empty() {
            return invalid(&format!("spec.versions[{at}].name"), "Required value");
        }
        if !version["schema"]["openAPIV3Schema"].is_object() {
            let field = format!("spec.versions[{at}].schema.openAPIV3Schema");
            return invalid(&field, "Required value: schemas are required");
        }
    }
    let before = current.map(|current| &current["spec"]["scope"]);
    if before.is_some_and(|scope| *scope != spec["scope"]) {
        return invalid("spec.scope", "Invalid value: field is immutable");
    }
    Ok(())
}

/// A name of `spec` that another kind of its group has, with the word for the condition.
fn taken_name(spec: &Value, kinds: &Kinds) -> Option<String> {
    let (group, plural) = (text(&spec["group"]), text(&spec["names"]["plural"]));
    if kinds::KINDS.iter().any(|kind| kind.group == group && kind.plural == plural) {
        return Some(format!("{plural:?} is already in use"));
    }
    let names = &spec["names"];
    let asked = [text(&names["kind"]), text(&names["listKind"]), text(&names["singular"])];
    let asked: Vec<String> = asked.into_iter().chain(texts(&names["shortNames"])).collect();
    let others = kinds.iter().filter(|kind| kind.group == group && kind.plural != plural);
    others.into_iter().find_map(|kind| {
        let list_kind = kind.list_kind();
        let own = [&kind.kind, &list_kind, &kind.singular, &kind.plural].into_iter().chain(&kind.short_names);
        let taken = own.into_iter().find(|name| asked.contains(name))?;
        Some(format!("{taken:?} is already in use"))
    })
}

fn status(spec: &Value, current: Option<&Value>, taken: Option<&str>) -> Result<Value, ApiError> {
    let before = current.map_or(&Value::Null, |current| &current["status"]);
    let mut stored = texts(&before["storedVersions"]);
    let version = stored_version(spec);
    if !stored.contains(&version) {
        stored.push(version);
    }
    let conditions = match taken {
        None => [
            ("NamesAccepted", "True", "NoConflicts", "no conflicts found"),
            ("Established", "True", "InitialNamesAccepted", "the initial names have been accepted"),
        ],
        Some(why) => [
            ("NamesAccepted", "False", "NameConflict", why),
            ("Established", "False", "NotAccepted", "not all names are accepted"),
        ],
    };
    let now = identity::timestamp();
    let conditions = conditions.map(|(condition, value, reason, message)| {
        let old = before["conditions"].as_array().into_iter().flatten();
        let old = old.into_iter().find(|old| old["type"] == condition && old["status"] == value);
        let since = old.map_or(json!(now), |old| old["lastTransitionTime"].clone());
        json!({"type": condition, "status": value, "reason": reason, "message": message, "lastTransitionTime": since})
    });
    let accepted = if taken.is_none() { spec["names"].clone() } else { json!({"kind": "", "plural": ""}) };
    Ok(json!({"acceptedNames": accepted, "conditions": conditions, "storedVersions": stored}))
}

/// The kinds of the served versions, the preferred one first.
fn served(spec: &Value) -> Vec<Kind> {
    let mut served: Vec<&Value> = versions(spec).iter().filter(|version| version["served"] == true).collect();
    served.sort_by_key(|version| std::cmp::Reverse(priority(version["name"].as_str().unwrap_or_default())));
    served.into_iter().map(|version| kind(spec, version)).collect()
}

/// Release versions come before betas, betas before alphas, then the rest by name.
pub(super) fn priority(version: &str) -> (u8, u64, u64) {
    let number = |text: &str| text.parse::<u64>().ok();
    let parsed = || {
        let rest = version.strip_prefix('v')?;
        for (word, rank) in [("beta", 2), ("alpha", 1)] {
            if let Some((major, minor)) = rest.split_once(word) {
                return Some((rank, number(major)?, number(minor)?));
            }
        }
        Some((3, number(rest)?, 0))
    };
    parsed().unwrap_or((0, 0, 0))
}

fn kind(spec: &Value, version: &Value) -> Kind {
    let names = &spec["names"];
    let subresources = &version["subresources"];
    let selectable = version["selectableFields"].as_array().into_iter().flatten();
    Kind {
        group: text(&spec["group"]),
        version: text(&version["name"]),
        plural: text(&names["plural"]),
        kind: text(&names["kind"]),
        list_kind: text(&names["listKind"]),
        singular: text(&names["singular"]),
        short_names: texts(&names["shortNames"]),
        categories: texts(&names["categories"]),
        scope: if spec["scope"] == "Cluster" { Scope::Cluster } else { Scope::Namespaced },
        has_status: subresources["status"].is_object(),
        scale: Scale::of_definition(&subresources["scale"]),
        has_generation: true,
        needs_version: true,
        stored_version: Some(stored_version(spec)).filter(|stored| *stored != text(&version["name"])),
        selectable: selectable
            .map(|field| text(&field["jsonPath"]).trim_start_matches('.').to_owned())
            .collect(),
        columns: columns::of_definition(version),
        schema: Some(Arc::new(version["schema"]["openAPIV3Schema"].clone())),
        ..Kind::plain()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn widgets() -> Value {
        json!({
            "metadata": {"name": "widgets.example.org"},
            "spec": {
                "group": "example.org", "scope": "Namespaced",
                "names": {"plural": "widgets", "kind": "Widget", "listKind": "WidgetList", "singular": "widget"},
                "versions": [
                    {"name": "v1beta1", "served": true, "storage": false, "schema": {"openAPIV3Schema": {}}},
                    {"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {}},
                     "subresources": {"status": {}}},
                ],
            },
        })
    }

    fn refused_field(change: impl FnOnce(&mut Value)) -> String {
        let mut object = widgets();
        change(&mut object);
        match Definition::settle(&mut object, None, &Kinds::default()) {
            Err(ApiError::Invalid { field, .. }) => field,
            other => panic!("expected a refusal, got {other:?}"),
        }
    }

    #[test]
    fn a_valid_definition_is_established_and_served() {
        let mut object = widgets();
        let definition = Definition::settle(&mut object, None, &Kinds::default()).unwrap();
        let versions: Vec<(String, bool)> = definition
            .versions
            .unwrap()
            .into_iter()
            .map(|kind| (kind.version.clone(), kind.stored_version.is_none()))
            .collect();
        assert_eq!(versions, [("v1".to_owned(), true), ("v1beta1".to_owned(), false)]);
        assert_eq!(object["status"]["storedVersions"], json!(["v1"]));
        assert_eq!(object["status"]["acceptedNames"]["kind"], "Widget");
        assert_eq!(object["status"]["conditions"][1]["status"], "True");
    }

    #[test]
    fn what_is_wrong_with_a_definition_is_named() {
        assert_eq!(refused_field(|o| o["metadata"]["name"] = json!("widgets")), "metadata.name");
        assert_eq!(refused_field(|o| o["spec"]["versions"][0]["storage"] = json!(true)), "spec.versions");
        assert_eq!(refused_field(|o| o["spec"]["versions"] = json!([])), "spec.versions");
        assert_eq!(refused_field(|o| o["spec"]["scope"] = json!("World")), "spec.scope");
        assert_eq!(refused_field(|o| o["spec"]["names"]["kind"] = json!("")), "spec.names.kind");
        assert_eq!(
            refused_field(|o| o["spec"]["versions"][1]["schema"] = json!({})),
            "spec.versions[1].schema.openAPIV3Schema"
        );
    }

    #[test]
    fn names_of_others_are_not_accepted() {
        let mut first = widgets();
        let kinds = Kinds::default();
        let definition = Definition::settle(&mut first, None, &kinds).unwrap();
        let kinds = kinds.with("example.org", "widgets", definition.versions.unwrap());
        let mut second = widgets();
        second["metadata"]["name"] = json!("gadgets.example.org");
        second["spec"]["names"]["plural"] = json!("gadgets");
        let definition = Definition::settle(&mut second, None, &kinds).unwrap();
        assert!(definition.versions.is_none());
        assert_eq!(second["status"]["conditions"][0]["status"], "False");
    }

    #[test]
    fn releases_come_before_betas() {
        let mut names = ["v1alpha1", "v2beta1", "v1", "v10", "custom"];
        names.sort_by_key(|name| std::cmp::Reverse(priority(name)));
        assert_eq!(names, ["v10", "v1", "v2beta1", "v1alpha1", "custom"]);
    }
}
