//! Just enough OpenAPI v3 that kubectl knows each kind can be validated by the server.

use serde_json::{Map, Value, json};

use super::kinds::{Kind, Kinds};

/// The document at `/openapi/<path>`.
pub(super) fn document(kinds: &Kinds, path: &str) -> Option<Value> {
    match path {
        "v3" => Some(index(kinds)),
        _ => {
            let path = path.strip_prefix("v3/")?;
            let groups = kinds.group_versions();
            let (group, version) = groups.into_iter().find(|(g, v)| prefix(g, v) == path)?;
            Some(group_document(kinds, &group, &version))
        }
    }
}

fn prefix(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

fn index(kinds: &Kinds) -> Value {
    let paths: Map<String, Value> = kinds
        .group_versions()
        .into_iter()
        .map(|(group, version)| {
            let path = prefix(&group, &version);
            let url = format!("/openapi/v3/{path}?hash={}", env!("CARGO_PKG_VERSION"));
            (path, json!({"serverRelativeURL": url}))
        })
        .collect();
    json!({"paths": paths})
}

fn group_document(kinds: &Kinds, group: &str, version: &str) -> Value {
    let rows = kinds.iter().filter(|kind| kind.group == group && kind.version == version);
    let paths: Map<String, Value> = rows.map(|kind| path_entry(kind)).collect();
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": super::discovery::GIT_VERSION},
        "paths": paths,
        "components": {"schemas": {}},
    })
}

fn path_entry(kind: &Kind) -> (String, Value) {
    let place = if kind.is_namespaced() { "namespaces/{namespace}/" } else { "" };
    let path = format!("/{}/{place}{}/{{name}}", prefix(&kind.group, &kind.version), kind.plural);
    let parameter = json!({
        "name": "fieldValidation", "in": "query", "schema": {"type": "string", "uniqueItems": true},
    });
    let operation = json!({
        "parameters": [parameter],
        "responses": {"200": {"description": "OK"}},
        "x-kubernetes-action": "patch",
        "x-kubernetes-group-version-kind":
            {"group": kind.group, "version": kind.version, "kind": kind.kind},
    });
    (path, json!({"patch": operation}))
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
        assert!(document(&kinds, "v2").is_none() && document(&kinds, "v3/apis/nope/v1").is_none());
    }
}
