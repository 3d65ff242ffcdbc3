//! Secrets and ConfigMaps.

use std::sync::Arc;

use super::{ConfigMap, Secret};
use crate::ingest::objects::{ConfigMapObject, SecretObject};

/// What the mesh is configured by.
const KEYS: [&str; 2] = ["mesh", "meshNetworks"];
/// Annotations about how a cluster is treated (D35).
const OUR_ANNOTATIONS: &str = "tombolo.dev/";

impl From<ConfigMap<'_>> for ConfigMapObject {
    fn from(raw: ConfigMap<'_>) -> Self {
        let text = |key: &str| raw.data.get(key).map(|text| (key.into(), Arc::from(&**text)));
        Self { data: KEYS.into_iter().filter_map(text).collect() }
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
