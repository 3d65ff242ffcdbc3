//! The OpenAPI documents of what a server serves: what clients validate, explain and patch by.
//!
//! Version 3 has an index and one document per group and version; version 2 is one document of the same
//! schemas. Of the operations they tell what clients look for: the kind, the parameters by which the server
//! checks fields and takes dry runs, the patch types. Schemas of custom kinds are those of their definitions.

pub(super) mod binary;
mod fields;
mod schemas;

use serde_json::{Map, Value, json};
use xxhash_rust::xxh3::xxh3_64;

use super::kinds::{Kind, Kinds};
use super::patch;

/// The document at `/openapi/<path>`. Cost: the schemas of the group and version asked for.
pub(super) fn document(kinds: &Kinds, path: &str) -> Option<Value> {
    match path {
        "v2" => Some(version_2(kinds)),
        "v3" => Some(index(kinds)),
        _ => {
            let path = path.strip_prefix("v3/")?;
            let groups = kinds.group_versions();
            let (group, version) = groups.into_iter().find(|(g, v)| prefix(g, v) == path)?;
            Some(group_document(kinds, &group, &version))
        }
    }
}

/// Removes the fields that `kind` does not have from `object`. Custom objects are left as they are.
pub(super) fn prune(kind: &Kind, object: &mut Value) -> fields::Findings {
    match schemas::built_in_name(kind) {
        Some(name) => fields::prune(name, object),
        None => fields::Findings::default(),
    }
}

fn prefix(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

fn index(kinds: &Kinds) -> Value {
    let groups = kinds.group_versions().into_iter();
    let paths: Map<String, Value> = groups
        .map(|(group, version)| {
            let path = prefix(&group, &version);
            let hash = content_hash(kinds, &group, &version);
            let url = format!("/openapi/v3/{path}?hash={hash:016X}");
            (path, json!({"serverRelativeURL": url}))
        })
        .collect();
    json!({"paths": paths})
}

/// Changes whenever the document of the group and version does.
fn content_hash(kinds: &Kinds, group: &str, version: &str) -> u64 {
    let mut text = env!("CARGO_PKG_VERSION").to_owned();
    for kind in rows(kinds, group, version) {
        text.push_str(&kind.kind);
        if let Some(schema) = &kind.schema {
            text.push_str(&schema.to_string());
        }
    }
    xxh3_64(text.as_bytes())
}

fn rows<'a>(kinds: &'a Kinds, group: &str, version: &str) -> impl Iterator<Item = &'a Kind> {
    kinds.iter().map(|kind| &**kind).filter(move |kind| kind.group == group && kind.version == version)
}

fn info() -> Value {
    json!({"title": "Kubernetes", "version": super::discovery::GIT_VERSION})
}

fn group_document(kinds: &Kinds, group: &str, version: &str) -> Value {
    let mut schemas: Map<String, Value> = rows(kinds, group, version).map(schemas::of_kind).collect();
    schemas::close(&mut schemas);
    let paths: Map<String, Value> = rows(kinds, group, version).map(path_entry).collect();
    json!({
        "openapi": "3.0.0",
        "info": info(),
        "paths": paths,
        "components": {"schemas": schemas},
    })
}

/// The operations on one object of `kind`.
fn path_entry(kind: &Kind) -> (String, Value) {
    let place = if kind.is_namespaced() { "namespaces/{namespace}/" } else { "" };
    let path = format!("/{}/{place}{}/{{name}}", prefix(&kind.group, &kind.version), kind.plural);
    let parameter =
        |name: &str| json!({"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": true}});
    let patches: Map<String, Value> = patch::accepted(patch::shape::of(&kind.group, &kind.kind))
        .map(|media| (media.to_owned(), json!({"schema": {"type": "object"}})))
        .collect();
    let (name, _) = schemas::of_kind(kind);
    let answer = json!({"200": {
        "description": "OK",
        "content": {"application/json": {"schema": schemas::reference(&name)}},
    }});
    let operation = |action: &str| {
        json!({
            "responses": answer,
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind":
                {"group": kind.group, "version": kind.version, "kind": kind.kind},
        })
    };
    let mut patch = operation("patch");
    patch["parameters"] =
        json!([parameter("dryRun"), parameter("fieldManager"), parameter("fieldValidation")]);
    patch["requestBody"] = json!({"content": patches, "required": true});
    (path, json!({"get": operation("get"), "patch": patch}))
}

/// Version 2: the same schemas under the older names of their places.
fn version_2(kinds: &Kinds) -> Value {
    let mut definitions: Map<String, Value> = kinds.iter().map(|kind| schemas::of_kind(kind)).collect();
    schemas::close(&mut definitions);
    let mut definitions = Value::from(definitions);
    schemas::refer_as_version_2(&mut definitions);
    json!({"swagger": "2.0", "info": info(), "paths": {}, "definitions": definitions})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_group_of_the_index_has_its_document() {
        let kinds = Kinds::default();
        let index = document(&kinds, "v3").unwrap();
        let paths = index["paths"].as_object().unwrap();
        assert_eq!(paths.len(), kinds.group_versions().len());
        for path in paths.keys() {
            let document = document(&kinds, &format!("v3/{path}")).unwrap();
            assert!(!document["paths"].as_object().unwrap().is_empty(), "{path}");
        }
        assert!(document(&kinds, "v1").is_none() && document(&kinds, "v3/apis/nope/v1").is_none());
    }

    #[test]
    fn every_kind_has_a_schema_and_says_what_the_server_checks() {
        let kinds = Kinds::default();
        for kind in kinds.iter() {
            let document = group_document(&kinds, &kind.group, &kind.version);
            let (path, _) = path_entry(kind);
            let patch = &document["paths"][&path]["patch"];
            assert_eq!(patch["parameters"][2]["name"], "fieldValidation");
            assert!(patch["requestBody"]["content"]["application/strategic-merge-patch+json"].is_object());
            let (name, _) = schemas::of_kind(kind);
            let schema = &document["components"]["schemas"][&name];
            assert!(schema["properties"]["metadata"].is_object(), "{kind:?}: {name}");
        }
    }

    #[test]
    fn version_2_has_no_reference_into_version_3() {
        let text = document(&Kinds::default(), "v2").unwrap().to_string();
        assert!(text.contains("#/definitions/io.k8s.api.core.v1.PodSpec") && !text.contains("#/components/"));
    }
}
