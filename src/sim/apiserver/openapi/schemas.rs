//! Schemas of the built-in types under the names Kubernetes publishes them by.

use std::collections::{BTreeSet, HashMap};
use std::sync::LazyLock;

use k8s_openapi::Resource;
use schemars::JsonSchema;
use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde_json::{Map, Value, json};

use super::super::kinds::Kind;
use super::super::patch::shape;

/// How schemas refer to each other.
const REFERENCE: &str = "#/components/schemas/";

/// The metadata every object has.
const METADATA: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// All built-in types; made once in a process, on first use.
static BUILT_IN: LazyLock<Schemas> = LazyLock::new(Schemas::built_in);

/// Named schemas, and which of them are kinds.
#[derive(Debug, Default)]
pub(super) struct Schemas {
    by_name: Map<String, Value>,
    kinds: HashMap<(&'static str, &'static str, &'static str), String>,
}

impl Schemas {
    fn built_in() -> Self {
        use k8s_openapi::api::{apps, authentication, autoscaling, coordination, core, discovery};
        use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions;
        let mut generator = SchemaSettings::openapi3().into_generator();
        let mut out = Self::default();
        out.add::<apiextensions::v1::CustomResourceDefinition>(&mut generator);
        out.add::<apps::v1::Deployment>(&mut generator);
        out.add::<apps::v1::ReplicaSet>(&mut generator);
        out.add::<authentication::v1::TokenRequest>(&mut generator);
        out.add::<authentication::v1::TokenReview>(&mut generator);
        out.add::<autoscaling::v1::Scale>(&mut generator);
        out.add::<coordination::v1::Lease>(&mut generator);
        out.add::<core::v1::ConfigMap>(&mut generator);
        out.add::<core::v1::Event>(&mut generator);
        out.add::<core::v1::Namespace>(&mut generator);
        out.add::<core::v1::Node>(&mut generator);
        out.add::<core::v1::Pod>(&mut generator);
        out.add::<core::v1::Secret>(&mut generator);
        out.add::<core::v1::Service>(&mut generator);
        out.add::<core::v1::ServiceAccount>(&mut generator);
        out.add::<discovery::v1::EndpointSlice>(&mut generator);
        out.by_name = generator.take_definitions(true);
        for ((group, version, kind), name) in &out.kinds {
            if let Some(schema) = out.by_name.get_mut(name) {
                mark(schema, group, version, kind);
            }
        }
        shape::publish(&mut out.by_name);
        out
    }

    fn add<T: Resource + JsonSchema>(&mut self, generator: &mut SchemaGenerator) {
        generator.subschema_for::<T>();
        self.kinds.insert((T::GROUP, T::VERSION, T::KIND), T::schema_name().into_owned());
    }
}

/// Says of which kind `schema` is.
fn mark(schema: &mut Value, group: &str, version: &str, kind: &str) {
    schema["x-kubernetes-group-version-kind"] = json!([{"group": group, "version": version, "kind": kind}]);
}

/// The name of the schema of a built-in kind.
pub(super) fn built_in_name(kind: &Kind) -> Option<&'static str> {
    let wanted = (&*kind.group, &*kind.version, &*kind.kind);
    BUILT_IN.kinds.iter().find(|(key, _)| **key == wanted).map(|(_, name)| name.as_str())
}

/// Name and schema of `kind`: the built-in type, or what its definition says.
pub(super) fn of_kind(kind: &Kind) -> (String, Value) {
    if let Some((name, schema)) = built_in_name(kind).and_then(|name| Some((name, get(name)?))) {
        return (name.to_owned(), schema.clone());
    }
    let mut schema = kind.schema.as_deref().cloned().unwrap_or_else(|| json!({}));
    schema["type"] = json!("object");
    if !schema["properties"].is_object() {
        schema["properties"] = json!({});
    }
    for field in ["apiVersion", "kind"] {
        schema["properties"][field] = json!({"type": "string"});
    }
    schema["properties"]["metadata"] = reference(METADATA);
    mark(&mut schema, &kind.group, &kind.version, &kind.kind);
    let reversed: Vec<&str> = kind.group.rsplit('.').collect();
    (format!("{}.{}.{}", reversed.join("."), kind.version, kind.kind), schema)
}

/// The schema of a built-in type.
pub(super) fn get(name: &str) -> Option<&'static Value> {
    BUILT_IN.by_name.get(name)
}

/// Rewrites all references to the place of definitions in OpenAPI v2.
pub(super) fn refer_as_version_2(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            for (key, value) in map {
                let name = value.as_str().and_then(|text| text.strip_prefix(REFERENCE));
                match name.filter(|_| key == "$ref") {
                    Some(name) => *value = json!(format!("#/definitions/{name}")),
                    None => refer_as_version_2(value),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(refer_as_version_2),
        _ => {}
    }
}

/// The name `schema` refers to, where it is a reference.
pub(super) fn referred(schema: &Value) -> Option<&str> {
    let direct = schema["$ref"].as_str().or_else(|| schema["allOf"][0]["$ref"].as_str());
    direct.and_then(|reference| reference.strip_prefix(REFERENCE))
}

/// A reference to a named schema.
pub(super) fn reference(name: &str) -> Value {
    json!({"$ref": format!("{REFERENCE}{name}")})
}

/// Copies into `schemas` what its members refer to, directly or not.
pub(super) fn close(schemas: &mut Map<String, Value>) {
    let mut missing: BTreeSet<String> = schemas.values().flat_map(references).collect();
    while let Some(name) = missing.pop_first() {
        if let (false, Some(schema)) = (schemas.contains_key(&name), get(&name)) {
            missing.extend(references(schema));
            schemas.insert(name, schema.clone());
        }
    }
}

fn references(schema: &Value) -> Vec<String> {
    match schema {
        Value::Object(map) => {
            let own = map.get("$ref").and_then(Value::as_str).and_then(|text| text.strip_prefix(REFERENCE));
            own.map(str::to_owned).into_iter().chain(map.values().flat_map(references)).collect()
        }
        Value::Array(list) => list.iter().flat_map(references).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_of_another_form_is_shown_as_an_object() {
        let schema = Some(std::sync::Arc::new(json!({"properties": "none"})));
        let (_, shown) = of_kind(&Kind { kind: "Widget".into(), schema, ..Kind::plain() });
        assert_eq!(shown["properties"]["kind"]["type"], "string");
    }

    #[test]
    fn schemas_carry_their_kind_and_their_merge_keys() {
        let pod = get("io.k8s.api.core.v1.Pod").unwrap();
        assert_eq!(pod["x-kubernetes-group-version-kind"][0]["kind"], "Pod");
        assert_eq!(referred(&pod["properties"]["spec"]), Some("io.k8s.api.core.v1.PodSpec"));
        let spec = get("io.k8s.api.core.v1.PodSpec").unwrap();
        assert_eq!(spec["properties"]["containers"]["x-kubernetes-patch-merge-key"], "name");
        assert_eq!(spec["properties"]["volumes"]["x-kubernetes-patch-strategy"], "merge,retainKeys");
        assert!(spec["properties"]["tolerations"].get("x-kubernetes-patch-strategy").is_none());
    }

    #[test]
    fn closing_adds_all_that_is_referred_to() {
        let mut schemas = Map::new();
        schemas.insert("x".into(), reference("io.k8s.api.core.v1.Service"));
        close(&mut schemas);
        assert!(schemas.contains_key("io.k8s.api.core.v1.ServicePort") && schemas.contains_key(METADATA));
        assert!(!schemas.contains_key("io.k8s.api.core.v1.Pod"));
        assert!(schemas.values().flat_map(references).all(|name| schemas.contains_key(&name)));
    }
}
