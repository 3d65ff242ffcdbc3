//! What the server fills into an object of a kind at its creation.

use serde_json::{Map, Value, json};

/// Sets `object[path…] = value` unless there is something already; keeps non-objects on the way as they are.
fn fill(object: &mut Value, path: &[&str], value: Value) {
    let Some((last, parents)) = path.split_last() else {
        return;
    };
    let mut at = object;
    for step in parents {
        let Some(map) = at.as_object_mut() else { return };
        at = map.entry(*step).or_insert_with(|| Value::Object(Map::new()));
    }
    if let Some(map) = at.as_object_mut() {
        map.entry(*last).or_insert(value);
    }
}

/// Namespaces are active and carry their name as a label.
pub(super) fn namespace(object: &mut Value) {
    let name = object["metadata"]["name"].clone();
    fill(object, &["metadata", "labels", "kubernetes.io/metadata.name"], name);
    fill(object, &["status", "phase"], json!("Active"));
}

/// Services have a type and complete ports. The store allocates the cluster address.
pub(super) fn service(object: &mut Value) {
    fill(object, &["spec", "type"], json!("ClusterIP"));
    fill(object, &["spec", "sessionAffinity"], json!("None"));
    fill(object, &["status", "loadBalancer"], json!({}));
    let ports = object.pointer_mut("/spec/ports").and_then(Value::as_array_mut);
    let Some(ports) = ports else { return };
    for port in ports {
        let number = port["port"].clone();
        fill(port, &["protocol"], json!("TCP"));
        fill(port, &["targetPort"], number);
    }
}

/// Pods start pending.
pub(super) fn pod(object: &mut Value) {
    fill(object, &["status", "phase"], json!("Pending"));
}

/// Secrets are opaque unless they say otherwise; `stringData` moves into `data`.
pub(super) fn secret(object: &mut Value) {
    fill(object, &["type"], json!("Opaque"));
    let Some(map) = object.as_object_mut() else { return };
    let Some(Value::Object(plain)) = map.remove("stringData") else {
        return;
    };
    for (key, text) in plain {
        if let Value::String(text) = text {
            use base64::Engine as _;
            let encoded = base64::engine::general_purpose::STANDARD.encode(text);
            let data = map.entry("data").or_insert_with(|| json!({}));
            data[key] = json!(encoded);
        }
    }
}

/// Deployments have one replica unless they say otherwise.
pub(super) fn deployment(object: &mut Value) {
    fill(object, &["spec", "replicas"], json!(1));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_fill_gaps_and_keep_what_is_there() {
        let mut service_object = json!({"spec": {"type": "NodePort", "ports": [{"port": 80}]}});
        service(&mut service_object);
        assert_eq!(service_object["spec"]["type"], "NodePort");
        assert_eq!(
            service_object["spec"]["ports"][0],
            json!({"port": 80, "protocol": "TCP", "targetPort": 80})
        );
    }

    #[test]
    fn string_data_becomes_data() {
        let mut object = json!({"data": {"a": "eA=="}, "stringData": {"b": "hello"}});
        secret(&mut object);
        assert_eq!(object["data"], json!({"a": "eA==", "b": "aGVsbG8="}));
        assert!(object.get("stringData").is_none());
    }
}
