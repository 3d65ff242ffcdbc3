//! The rows of the built-in kinds, as a real server prints them.

use serde_json::{Value, json};

use super::super::age::age;
use super::super::scale::selector_text;
use super::{Cell, Column, column, created, list, name, number, plain, text, wide};

pub(in crate::sim::apiserver) fn namespace() -> Vec<Column> {
    vec![name(), text("Status", |o| o["status"]["phase"].clone()), created()]
}

pub(in crate::sim::apiserver) fn service() -> Vec<Column> {
    vec![
        name(),
        text("Type", |o| o["spec"]["type"].clone()),
        text("Cluster-IP", |o| or_none(o["spec"]["clusterIP"].as_str().unwrap_or_default())),
        text("External-IP", external_addresses),
        text("Port(s)", service_ports),
        created(),
        wide("Selector", |o| or_none(&labels(&o["spec"]["selector"]))),
    ]
}

pub(in crate::sim::apiserver) fn pod() -> Vec<Column> {
    vec![
        name(),
        text("Ready", |o| {
            let statuses = list(&o["status"]["containerStatuses"]);
            let ready = statuses.iter().filter(|s| s["ready"] == true).count();
            json!(format!("{ready}/{}", list(&o["spec"]["containers"]).len()))
        }),
        text("Status", pod_status),
        text("Restarts", |o| {
            let statuses = list(&o["status"]["containerStatuses"]).iter();
            json!(statuses.filter_map(|s| s["restartCount"].as_i64()).sum::<i64>().to_string())
        }),
        created(),
        wide("IP", |o| or_none(o["status"]["podIP"].as_str().unwrap_or_default())),
        wide("Node", |o| or_none(o["spec"]["nodeName"].as_str().unwrap_or_default())),
        wide("Nominated Node", |o| or_none(o["status"]["nominatedNodeName"].as_str().unwrap_or_default())),
        wide("Readiness Gates", readiness_gates),
    ]
}

/// The most telling word about a pod: its own reason, that of a container that waits or ended, its phase.
fn pod_status(pod: &Value) -> Value {
    let status = &pod["status"];
    let mut word = status["reason"].as_str().or(status["phase"].as_str()).unwrap_or_default().to_owned();
    for container in list(&status["containerStatuses"]).iter().rev() {
        let state = &container["state"];
        if let Some(reason) = state["waiting"]["reason"].as_str().filter(|r| !r.is_empty()) {
            word = reason.to_owned();
        } else if let Some(reason) = state["terminated"]["reason"].as_str().filter(|r| !r.is_empty()) {
            word = reason.to_owned();
        } else if !state["terminated"].is_null() {
            word = match state["terminated"]["signal"].as_i64().filter(|signal| *signal != 0) {
                Some(signal) => format!("Signal:{signal}"),
                None => format!("ExitCode:{}", state["terminated"]["exitCode"].as_i64().unwrap_or(0)),
            };
        }
    }
    match (&pod["metadata"]["deletionTimestamp"], word.as_str()) {
        (Value::Null, _) | (_, "Succeeded" | "Failed" | "Completed") => json!(word),
        _ => json!("Terminating"),
    }
}

fn readiness_gates(pod: &Value) -> Value {
    let gates = list(&pod["spec"]["readinessGates"]);
    let conditions = list(&pod["status"]["conditions"]);
    let met = |gate: &&Value| {
        conditions.iter().any(|c| c["type"] == gate["conditionType"] && c["status"] == "True")
    };
    match gates.len() {
        0 => or_none(""),
        all => json!(format!("{}/{all}", gates.iter().filter(met).count())),
    }
}

pub(in crate::sim::apiserver) fn node() -> Vec<Column> {
    vec![
        name(),
        text("Status", node_status),
        text("Roles", node_roles),
        created(),
        text("Version", |o| json!(o["status"]["nodeInfo"]["kubeletVersion"].as_str().unwrap_or_default())),
        wide("Internal-IP", |o| node_address(o, "InternalIP")),
        wide("External-IP", |o| node_address(o, "ExternalIP")),
        wide("OS-Image", |o| node_info(o, "osImage")),
        wide("Kernel-Version", |o| node_info(o, "kernelVersion")),
        wide("Container-Runtime", |o| node_info(o, "containerRuntimeVersion")),
    ]
}

fn node_status(node: &Value) -> Value {
    let conditions = list(&node["status"]["conditions"]);
    let ready = conditions.iter().find(|c| c["type"] == "Ready").map(|c| c["status"] == "True");
    let mut status = match ready {
        Some(true) => "Ready",
        Some(false) => "NotReady",
        None => "Unknown",
    }
    .to_owned();
    if node["spec"]["unschedulable"] == true {
        status.push_str(",SchedulingDisabled");
    }
    json!(status)
}

fn node_roles(node: &Value) -> Value {
    let labels = node["metadata"]["labels"].as_object();
    let roles: Vec<&str> = labels
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) => Some(role).filter(|role| !role.is_empty()),
            None if key == "kubernetes.io/role" => value.as_str().filter(|role| !role.is_empty()),
            None => None,
        })
        .collect();
    or_none(&roles.join(","))
}

fn node_address(node: &Value, address_type: &str) -> Value {
    let mut addresses = list(&node["status"]["addresses"]).iter();
    let found = addresses.find(|a| a["type"] == address_type);
    or_none(found.and_then(|a| a["address"].as_str()).unwrap_or_default())
}

fn node_info(node: &Value, field: &str) -> Value {
    match node["status"]["nodeInfo"][field].as_str().unwrap_or_default() {
        "" => json!("<unknown>"),
        text => json!(text),
    }
}

pub(in crate::sim::apiserver) fn secret() -> Vec<Column> {
    vec![name(), text("Type", |o| o["type"].clone()), number("Data", |o| json!(keys(&o["data"]))), created()]
}

pub(in crate::sim::apiserver) fn config_map() -> Vec<Column> {
    vec![name(), number("Data", |o| json!(keys(&o["data"]) + keys(&o["binaryData"]))), created()]
}

pub(in crate::sim::apiserver) fn service_account() -> Vec<Column> {
    plain()
}

pub(in crate::sim::apiserver) fn event() -> Vec<Column> {
    vec![
        text("Last Seen", |o| {
            let last = &o["series"]["lastObservedTime"];
            json!(age(first_of(&[last, &o["lastTimestamp"], &o["eventTime"]])))
        }),
        text("Type", |o| o["type"].clone()),
        text("Reason", |o| o["reason"].clone()),
        text("Object", |o| {
            let object = &o["involvedObject"];
            let part = |field: &str| object[field].as_str().unwrap_or_default().to_owned();
            json!(format!("{}/{}", part("kind").to_lowercase(), part("name")))
        }),
        wide("Subobject", |o| json!(o["involvedObject"]["fieldPath"].as_str().unwrap_or_default())),
        wide("Source", |o| {
            let component = o["source"]["component"].as_str().or(o["reportingComponent"].as_str());
            let parts = [component, o["source"]["host"].as_str()];
            let parts: Vec<&str> = parts.into_iter().flatten().filter(|part| !part.is_empty()).collect();
            json!(parts.join(", "))
        }),
        text("Message", |o| json!(o["message"].as_str().unwrap_or_default().trim())),
        wide("First Seen", |o| json!(age(first_of(&[&o["firstTimestamp"], &o["eventTime"]])))),
        wide("Count", |o| {
            let count = o["series"]["count"].as_i64().or(o["count"].as_i64()).filter(|count| *count > 0);
            json!(count.unwrap_or(1).to_string())
        }),
        name().wide(),
    ]
}

fn first_of<'a>(values: &[&'a Value]) -> &'a Value {
    values.iter().find(|value| value.is_string()).copied().unwrap_or(&Value::Null)
}

pub(in crate::sim::apiserver) fn lease() -> Vec<Column> {
    vec![
        name(),
        text("Holder", |o| json!(o["spec"]["holderIdentity"].as_str().unwrap_or_default())),
        created(),
    ]
}

pub(in crate::sim::apiserver) fn endpoint_slice() -> Vec<Column> {
    vec![
        name(),
        text("AddressType", |o| o["addressType"].clone()),
        text("Ports", |o| {
            let port = |p: &Value| p["port"].as_u64().map_or_else(|| "*".to_owned(), |port| port.to_string());
            joined(list(&o["ports"]).iter().map(port).collect())
        }),
        text("Endpoints", |o| {
            let addresses = list(&o["endpoints"]).iter().flat_map(|e| list(&e["addresses"]));
            joined(addresses.filter_map(|a| a.as_str().map(str::to_owned)).collect())
        }),
        created(),
    ]
}

pub(in crate::sim::apiserver) fn deployment() -> Vec<Column> {
    let columns = [
        name(),
        text("Ready", |o| {
            let ready = o["status"]["readyReplicas"].as_i64().unwrap_or(0);
            json!(format!("{ready}/{}", o["spec"]["replicas"].as_i64().unwrap_or(1)))
        }),
        number("Up-to-date", |o| json!(o["status"]["updatedReplicas"].as_i64().unwrap_or(0))),
        number("Available", |o| json!(o["status"]["availableReplicas"].as_i64().unwrap_or(0))),
        created(),
    ];
    columns.into_iter().chain(template()).collect()
}

pub(in crate::sim::apiserver) fn replica_set() -> Vec<Column> {
    let columns = [
        name(),
        number("Desired", |o| json!(o["spec"]["replicas"].as_i64().unwrap_or(1))),
        number("Current", |o| json!(o["status"]["replicas"].as_i64().unwrap_or(0))),
        number("Ready", |o| json!(o["status"]["readyReplicas"].as_i64().unwrap_or(0))),
        created(),
    ];
    columns.into_iter().chain(template()).collect()
}

/// What a workload runs, for `-o wide`.
fn template() -> [Column; 3] {
    let containers: fn(&Value) -> Value = |o| of_containers(o, "name");
    [
        wide("Containers", containers),
        wide("Images", |o| of_containers(o, "image")),
        wide("Selector", |o| or_none(&selector_text(&o["spec"]["selector"]))),
    ]
}

fn of_containers(workload: &Value, field: &str) -> Value {
    let containers = list(&workload["spec"]["template"]["spec"]["containers"]).iter();
    json!(containers.filter_map(|c| c[field].as_str()).collect::<Vec<_>>().join(","))
}

pub(in crate::sim::apiserver) fn custom_resource_definition() -> Vec<Column> {
    let created =
        column("Created At", "date", "", Cell::Code(|o| o["metadata"]["creationTimestamp"].clone()));
    vec![name(), created]
}

fn keys(value: &Value) -> usize {
    value.as_object().map_or(0, serde_json::Map::len)
}

fn or_none(text: &str) -> Value {
    json!(if text.is_empty() { "<none>" } else { text })
}

fn labels(map: &Value) -> String {
    let pairs = map.as_object().into_iter().flatten();
    let pairs = pairs.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()));
    pairs.collect::<Vec<_>>().join(",")
}

fn joined(parts: Vec<String>) -> Value {
    const SHOWN: usize = 3;
    match parts.len() {
        0 => json!("<unset>"),
        n if n > SHOWN => json!(format!("{} + {} more...", parts[..SHOWN].join(","), n - SHOWN)),
        _ => json!(parts.join(",")),
    }
}

fn external_addresses(service: &Value) -> Value {
    let spec = &service["spec"];
    if spec["type"] == "ExternalName" {
        return json!(spec["externalName"].as_str().unwrap_or_default());
    }
    let ingress = list(&service["status"]["loadBalancer"]["ingress"]).iter();
    let balanced = ingress.filter_map(|i| i["ip"].as_str().or(i["hostname"].as_str()));
    let listed = list(&spec["externalIPs"]).iter().filter_map(Value::as_str);
    match (balanced.chain(listed).collect::<Vec<_>>().join(","), spec["type"].as_str()) {
        (none, Some("LoadBalancer")) if none.is_empty() => json!("<pending>"),
        (all, _) => or_none(&all),
    }
}

fn service_ports(service: &Value) -> Value {
    let ports = list(&service["spec"]["ports"]).iter().map(|p| {
        let node_port = p["nodePort"].as_u64().filter(|n| *n > 0);
        let node_port = node_port.map(|n| format!(":{n}")).unwrap_or_default();
        format!("{}{node_port}/{}", p["port"], p["protocol"].as_str().unwrap_or("TCP"))
    });
    or_none(&ports.collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(columns: &[Column], object: &Value) -> Vec<Value> {
        columns.iter().map(|column| column.cell(object)).collect()
    }

    #[test]
    fn a_service_row_reads_as_kubectl_prints_it() {
        let service = json!({
            "metadata": {"name": "a"},
            "spec": {"type": "LoadBalancer", "clusterIP": "10.0.0.1", "selector": {"app": "a"},
                     "ports": [{"port": 80, "protocol": "TCP"}, {"port": 443, "nodePort": 30443}]},
            "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}});
        let cells = row(&super::service(), &service);
        let want =
            ["a", "LoadBalancer", "10.0.0.1", "192.0.2.1", "80/TCP,443:30443/TCP", "<unknown>", "app=a"];
        assert_eq!(cells, want);
    }

    #[test]
    fn a_pod_says_what_its_containers_wait_for_and_that_it_goes() {
        let mut object = json!({"status": {"phase": "Pending", "containerStatuses":
            [{"state": {"waiting": {"reason": "ImagePullBackOff"}}}]}});
        assert_eq!(pod_status(&object), "ImagePullBackOff");
        object["metadata"] = json!({"deletionTimestamp": "2026-01-01T00:00:00Z"});
        assert_eq!(pod_status(&object), "Terminating");
    }

    #[test]
    fn wide_columns_are_of_priority_one() {
        let wide = |columns: Vec<Column>| {
            let wide = columns.into_iter().filter(|c| c.priority == 1).map(|c| c.name);
            wide.collect::<Vec<_>>().join(",")
        };
        assert_eq!(wide(pod()), "IP,Node,Nominated Node,Readiness Gates");
        assert_eq!(wide(deployment()), "Containers,Images,Selector");
    }

    #[test]
    fn long_endpoint_lists_are_shortened() {
        let endpoints: Vec<Value> = (1..=5).map(|i| json!({"addresses": [format!("10.0.0.{i}")]})).collect();
        let cells = row(&endpoint_slice(), &json!({"endpoints": endpoints}));
        assert_eq!(cells[3], "10.0.0.1,10.0.0.2,10.0.0.3 + 2 more...");
    }
}
