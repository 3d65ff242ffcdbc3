//! Objects by resource and name, and how two sets of them differ.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::program::Held;
use super::world::NAMESPACES;

/// Fields of metadata that a server fills in as it likes.
const CHOSEN: [&str; 6] =
    ["uid", "resourceVersion", "creationTimestamp", "managedFields", "generation", "selfLink"];

/// Fields of a pod's spec that admission fills in: of ServiceAccounts, off on the real server where nobody makes
/// them, and of tolerations, which only a scheduler reads.
const ADMITTED: [&str; 3] = ["serviceAccount", "serviceAccountName", "tolerations"];

/// Objects by resource, namespace and name.
#[derive(Debug, Clone, PartialEq)]
pub struct Truth(BTreeMap<String, Value>);

impl Truth {
    pub fn new(objects: BTreeMap<String, Vec<Value>>) -> Self {
        let named = objects.into_iter().flat_map(|(resource, objects)| {
            objects.into_iter().map(move |object| {
                let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
                (format!("{resource} {}/{}", text("namespace"), text("name")), object)
            })
        });
        Self(named.collect())
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// What `held` lacks, has too much, or has in another version; at most a few of them.
    pub fn differs_from(&self, held: &Held) -> Option<String> {
        let version = |(name, object): (&String, &Value)| {
            format!("{name} at {}", object["metadata"]["resourceVersion"].as_str().unwrap_or("?"))
        };
        let (wanted, has): (BTreeSet<_>, BTreeSet<_>) =
            (self.0.iter().map(version).collect(), held.objects().0.iter().map(version).collect());
        let few: Vec<&String> = wanted.symmetric_difference(&has).take(4).collect();
        (!few.is_empty()).then(|| format!("{} of {} here; differs in {few:?}", has.len(), wanted.len()))
    }

    /// The objects of the test's namespaces without what a server chooses for itself.
    pub fn content(&self) -> Self {
        let ours = |name: &&String| NAMESPACES.iter().any(|space| name.contains(&format!(" {space}/")));
        let kept = self.0.iter().filter(|(name, _)| ours(name));
        Self(kept.map(|(name, object)| (name.clone(), without_choices(object.clone()))).collect())
    }

    /// Holds every object against its twin, with both texts where they differ.
    pub fn assert_same_as(&self, other: &Self, what: &str) {
        assert_eq!(self.0.keys().collect::<Vec<_>>(), other.0.keys().collect::<Vec<_>>(), "{what}");
        for (name, object) in &self.0 {
            assert_eq!(object, &other.0[name], "{what}: {name}");
        }
    }
}

fn without_choices(mut object: Value) -> Value {
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.retain(|field, _| !CHOSEN.contains(&field.as_str()));
    }
    for field in ["apiVersion", "kind"] {
        // In lists and stores the type is that of the collection.
        object.as_object_mut().map(|object| object.remove(field));
    }
    if object["spec"]["clusterIP"].is_string() {
        object["spec"]["clusterIP"] = json!("chosen");
        object["spec"]["clusterIPs"] = json!(["chosen"]);
    }
    if let Some(spec) = object["spec"].as_object_mut() {
        spec.retain(|field, _| !ADMITTED.contains(&field.as_str()));
    }
    without_nothing(object)
}

/// Protobuf does not tell an empty list from none.
fn without_nothing(value: Value) -> Value {
    let nothing = |value: &Value| match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    };
    match value {
        Value::Array(items) => items.into_iter().map(without_nothing).collect(),
        Value::Object(fields) => fields
            .into_iter()
            .map(|(name, value)| (name, without_nothing(value)))
            .filter(|(_, value)| !nothing(value))
            .collect(),
        other => other,
    }
}
