//! The `/scale` view of a workload: its replica count alone.

use serde_json::{Value, json};

use super::error::ApiError;
use super::json_path::JsonPath;

/// How the replica counts of a kind are found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scale {
    /// As in a Deployment.
    Workload,
    /// By the paths of a CustomResourceDefinition.
    Paths {
        /// The wanted count.
        spec: JsonPath,
        /// The actual count.
        status: JsonPath,
        /// The selector as text, if there is one.
        selector: Option<JsonPath>,
    },
}

impl Scale {
    /// The paths of a definition's `subresources.scale`.
    pub(super) fn of_definition(scale: &Value) -> Option<Self> {
        let path = |field: &str| scale[field].as_str().map(JsonPath::parse);
        Some(Self::Paths {
            spec: path("specReplicasPath")?,
            status: path("statusReplicasPath")?,
            selector: path("labelSelectorPath"),
        })
    }

    fn wanted(&self, object: &Value) -> u64 {
        match self {
            Self::Workload => object["spec"]["replicas"].as_u64().unwrap_or(1),
            Self::Paths { spec, .. } => spec.first(object).and_then(Value::as_u64).unwrap_or(0),
        }
    }

    fn actual(&self, object: &Value) -> u64 {
        match self {
            Self::Workload => object["status"]["replicas"].as_u64().unwrap_or(0),
            Self::Paths { status, .. } => status.first(object).and_then(Value::as_u64).unwrap_or(0),
        }
    }

    fn selector(&self, object: &Value) -> String {
        match self {
            Self::Workload => selector_text(&object["spec"]["selector"]),
            Self::Paths { selector, .. } => {
                let text = selector.as_ref().and_then(|path| path.first(object)).and_then(Value::as_str);
                text.unwrap_or_default().to_owned()
            }
        }
    }

    fn set_wanted(&self, object: &mut Value, replicas: u64) {
        let path = match self {
            Self::Workload => vec!["spec", "replicas"],
            Self::Paths { spec, .. } => spec.fields().unwrap_or_default(),
        };
        let Some((last, parents)) = path.split_last() else { return };
        let mut at = object;
        for step in parents {
            if !at[*step].is_object() {
                at[*step] = json!({});
            }
            at = &mut at[*step];
        }
        at[*last] = json!(replicas);
    }
}

/// A label selector object in the text form of a query.
pub(super) fn selector_text(selector: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let labels = selector["matchLabels"].as_object().into_iter().flatten();
    let labels = labels.map(|(key, value)| format!("{key}={}", text(value)));
    let rules = selector["matchExpressions"].as_array().into_iter().flatten();
    let rules = rules.map(|rule| {
        let values: Vec<String> = rule["values"].as_array().into_iter().flatten().map(text).collect();
        match rule["operator"].as_str().unwrap_or_default() {
            "Exists" => text(&rule["key"]),
            "DoesNotExist" => format!("!{}", text(&rule["key"])),
            operator => {
                format!("{} {} ({})", text(&rule["key"]), operator.to_lowercase(), values.join(","))
            }
        }
    });
    labels.chain(rules).collect::<Vec<_>>().join(",")
}

/// The Scale object of `workload`.
pub(super) fn of(scale: &Scale, workload: &Value) -> Value {
    let metadata = &workload["metadata"];
    json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"],
            "creationTimestamp": metadata["creationTimestamp"],
        },
        "spec": {"replicas": scale.wanted(workload)},
        "status": {"replicas": scale.actual(workload), "selector": scale.selector(workload)},
    })
}

/// `workload` with the replica count and the expected version of `next_scale`.
pub(super) fn apply(scale: &Scale, workload: &Value, next_scale: &Value) -> Result<Value, ApiError> {
    // Counts are 32-bit signed in the API; an absent one means zero, as on a real server.
    let replicas = match &next_scale["spec"]["replicas"] {
        Value::Null => Some(0),
        value => value.as_u64().filter(|n| i32::try_from(*n).is_ok()),
    };
    let replicas = replicas.ok_or_else(|| ApiError::Invalid {
        kind: "Scale".into(),
        name: workload["metadata"]["name"].as_str().unwrap_or_default().into(),
        field: "spec.replicas".into(),
        why: "Invalid value: must be a number from 0 to 2147483647".into(),
    })?;
    let mut next = workload.clone();
    scale.set_wanted(&mut next, replicas);
    let expected = &next_scale["metadata"]["resourceVersion"];
    if expected.as_str().is_some_and(|version| !version.is_empty()) {
        next["metadata"]["resourceVersion"] = expected.clone();
    }
    Ok(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scale_reads_and_writes_the_replica_count_only() {
        let workload = json!({
            "metadata": {"name": "d", "resourceVersion": "5"},
            "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "x"}}, "template": {}},
            "status": {"replicas": 1},
        });
        let mut scale = of(&Scale::Workload, &workload);
        assert_eq!(scale["spec"]["replicas"], 2);
        assert_eq!(scale["status"], json!({"replicas": 1, "selector": "app=x"}));
        scale["spec"]["replicas"] = json!(7);
        let next = apply(&Scale::Workload, &workload, &scale).unwrap();
        assert_eq!(next["spec"]["replicas"], 7);
        assert_eq!(next["spec"]["template"], json!({}));
        scale["spec"]["replicas"] = json!(-1);
        assert_eq!(apply(&Scale::Workload, &workload, &scale).unwrap_err().code(), 422);
    }

    #[test]
    fn a_definition_says_where_its_counts_are() {
        let paths = json!({"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size",
                           "labelSelectorPath": ".status.selector"});
        let paths = Scale::of_definition(&paths).unwrap();
        let object = json!({"metadata": {}, "spec": {"size": 4}, "status": {"size": 3, "selector": "a=b"}});
        let mut scale = of(&paths, &object);
        assert_eq!((&scale["spec"]["replicas"], &scale["status"]["selector"]), (&json!(4), &json!("a=b")));
        scale["spec"]["replicas"] = json!(0);
        assert_eq!(apply(&paths, &object, &scale).unwrap()["spec"]["size"], 0);
    }
}
