//! The `/scale` view of a workload: its replica count alone.

use serde_json::{Value, json};

use super::error::ApiError;

/// The Scale object of `workload`.
pub(super) fn of(workload: &Value) -> Value {
    let metadata = &workload["metadata"];
    let labels = workload["spec"]["selector"]["matchLabels"].as_object();
    let selector =
        labels.into_iter().flatten().map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default()));
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
        "spec": {"replicas": workload["spec"]["replicas"].as_u64().unwrap_or(1)},
        "status": {
            "replicas": workload["status"]["replicas"].as_u64().unwrap_or(0),
            "selector": selector.collect::<Vec<_>>().join(","),
        },
    })
}

/// `workload` with the replica count and the expected version of `scale`.
pub(super) fn apply(workload: &Value, scale: &Value) -> Result<Value, ApiError> {
    // Counts are 32-bit signed in the API; an absent one means zero, as on a real server.
    let replicas = match &scale["spec"]["replicas"] {
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
    next["spec"]["replicas"] = json!(replicas);
    let expected = &scale["metadata"]["resourceVersion"];
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
        let mut scale = of(&workload);
        assert_eq!(scale["spec"]["replicas"], 2);
        assert_eq!(scale["status"], json!({"replicas": 1, "selector": "app=x"}));
        scale["spec"]["replicas"] = json!(7);
        let next = apply(&workload, &scale).unwrap();
        assert_eq!(next["spec"]["replicas"], 7);
        assert_eq!(next["spec"]["template"], json!({}));
        scale["spec"]["replicas"] = json!(-1);
        assert_eq!(apply(&workload, &scale).unwrap_err().code(), 422);
    }
}
