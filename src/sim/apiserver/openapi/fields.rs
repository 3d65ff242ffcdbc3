//! Fields that a kind does not have, and values of another type than a field has.

use serde_json::{Map, Value};

use super::schemas;

/// What the schema of a kind finds in an object.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(in crate::sim::apiserver) struct Findings {
    /// Paths of fields the kind does not have.
    pub(in crate::sim::apiserver) unknown: Vec<String>,
    /// The first value that cannot be read, in words.
    pub(in crate::sim::apiserver) mistyped: Option<String>,
}

/// Removes from `object` the fields that the schema `name` does not have, and tells what it found.
pub(super) fn prune(name: &str, object: &mut Value) -> Findings {
    let mut findings = Findings::default();
    if let Some(schema) = schemas::get(name) {
        walk(schema, object, "", &mut findings);
    }
    findings
}

fn walk(schema: &Value, value: &mut Value, path: &str, findings: &mut Findings) {
    let schema = schemas::referred(schema).and_then(schemas::get).unwrap_or(schema);
    if schema["x-kubernetes-int-or-string"] == true || schema["x-kubernetes-preserve-unknown-fields"] == true
    {
        return;
    }
    let wanted = schema["type"].as_str().unwrap_or_default();
    match (wanted, value) {
        // A null is an absent value.
        (_, Value::Null) | ("", _) => {}
        ("object", Value::Object(map)) => walk_object(schema, map, path, findings),
        ("array", Value::Array(list)) => {
            for (at, item) in list.iter_mut().enumerate() {
                walk(&schema["items"], item, &format!("{path}[{at}]"), findings);
            }
        }
        ("string", Value::String(_)) | ("boolean", Value::Bool(_)) | ("number", Value::Number(_)) => {}
        ("integer", Value::Number(number)) if number.is_i64() || number.is_u64() => {}
        (wanted, value) => {
            let mistyped = || format!("cannot read {path}: {} where {wanted} is wanted", name_of(value));
            findings.mistyped.get_or_insert_with(mistyped);
        }
    }
}

fn walk_object(schema: &Value, map: &mut Map<String, Value>, path: &str, findings: &mut Findings) {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    let Some(properties) = schema["properties"].as_object() else {
        let values = &schema["additionalProperties"];
        return map.iter_mut().for_each(|(key, value)| walk(values, value, &below(key), findings));
    };
    map.retain(|key, value| match properties.get(key) {
        Some(property) => {
            walk(property, value, &below(key), findings);
            true
        }
        None => {
            findings.unknown.push(below(key));
            false
        }
    });
}

fn name_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service(spec: Value) -> (Value, Findings) {
        let mut object = json!({"apiVersion": "v1", "kind": "Service",
                                "metadata": {"name": "a", "labels": {"any": "thing"}}, "spec": spec});
        let findings = prune("io.k8s.api.core.v1.Service", &mut object);
        (object["spec"].take(), findings)
    }

    #[test]
    fn unknown_fields_are_named_and_go() {
        let (spec, findings) =
            service(json!({"ports": [{"port": 1, "protocl": "TCP"}], "selctor": {}, "selector": {"a": "b"}}));
        assert_eq!(findings.unknown, ["spec.ports[0].protocl", "spec.selctor"]);
        assert_eq!(spec, json!({"ports": [{"port": 1}], "selector": {"a": "b"}}));
    }

    #[test]
    fn values_of_another_type_are_found() {
        for (spec, want) in [
            (json!({"ports": "many"}), "cannot read spec.ports: string where array is wanted"),
            (
                json!({"ports": [{"port": "80"}]}),
                "cannot read spec.ports[0].port: string where integer is wanted",
            ),
            (json!({"selector": {"a": 1}}), "cannot read spec.selector.a: number where string is wanted"),
        ] {
            assert_eq!(service(spec).1.mistyped.as_deref(), Some(want));
        }
    }

    #[test]
    fn free_forms_and_nulls_pass() {
        let spec = json!({"ports": [{"port": 1, "targetPort": "http"}, {"port": 2, "targetPort": 3}],
                          "selector": null});
        assert_eq!(service(spec).1, Findings::default());
    }
}
