//! Secrets and ConfigMaps.

use std::sync::Arc;

use super::{ConfigMap, Secret};
use crate::ingest::objects::{ConfigMapObject, SecretObject};

/// What is read of the mesh ConfigMap; the rest, up to a MiB, is not held.
const DOCUMENTS: [&str; 2] = ["mesh", "meshNetworks"];
/// Annotations about how a cluster is treated (D35).
const OUR_ANNOTATIONS: &str = "tombolo.dev/";

impl From<ConfigMap<'_>> for ConfigMapObject {
    fn from(raw: ConfigMap<'_>) -> Self {
        let text = |key: &str| raw.data.get(key).map(|text| (key.into(), Arc::from(&**text)));
        Self { data: DOCUMENTS.into_iter().filter_map(text).collect() }
    }
}

impl From<Secret<'_>> for SecretObject {
    fn from(raw: Secret<'_>) -> Self {
        // Who does not say when it was made was not first (K-34).
        let created = raw.metadata.creation_timestamp.seconds().unwrap_or(i64::MAX);
        let ours =
            raw.metadata.annotations.into_entries().filter(|(key, _)| key.starts_with(OUR_ANNOTATIONS));
        let values = raw.data.into_entries().map(|(key, value)| (key.to_string(), value.decoded()));
        Self {
            created,
            annotations: ours.map(|(key, value)| (key.name(), value.name())).collect(),
            data: values.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nothing_is_held_of_a_config_map_but_its_documents() {
        let data = json!({"mesh": "a: b", "meshNetworks": "networks: {}", "values": "x"});
        let object: ConfigMapObject = serde_json::from_value(json!({"data": data})).unwrap();
        let held: Vec<_> = object.data.iter().map(|(key, text)| (&**key, &**text)).collect();
        assert_eq!(held, [("mesh", "a: b"), ("meshNetworks", "networks: {}")]);
    }
}
