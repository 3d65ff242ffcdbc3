//! The columns `kubectl get` prints, per kind; name and age are added by the table itself.

use serde_json::{Value, json};

/// One column between the name and the age.
pub struct Column {
    /// Heading.
    pub name: &'static str,
    /// JSON type of the cells: `string` or `integer`.
    pub cell_type: &'static str,
    /// Reads the cell from an object.
    pub cell: fn(&Value) -> Value,
}

const fn text(name: &'static str, cell: fn(&Value) -> Value) -> Column {
    Column { name, cell_type: "string", cell }
}

const fn number(name: &'static str, cell: fn(&Value) -> Value) -> Column {
    Column { name, cell_type: "integer", cell }
}

pub(super) const NAMESPACE: &[Column] = &[text("Status", |o| o["status"]["phase"].clone())];

pub(super) const SERVICE: &[Column] = &[
    text("Type", |o| o["spec"]["type"].clone()),
    text("Cluster-IP", |o| or_none(o["spec"]["clusterIP"].as_str().unwrap_or_default())),
    text("External-IP", external_addresses),
    text("Port(s)", service_ports),
];

pub(super) const POD: &[Column] = &[
    text("Ready", |o| {
        let statuses = list(&o["status"]["containerStatuses"]);
        let ready = statuses.iter().filter(|s| s["ready"] == true).count();
        json!(format!("{ready}/{}", list(&o["spec"]["containers"]).len()))
    }),
    text("Status", |o| match &o["metadata"]["deletionTimestamp"] {
        Value::Null => o["status"]["phase"].clone(),
        _ => json!("Terminating"),
    }),
    number("Restarts", |o| {
        let restarts =
            list(&o["status"]["containerStatuses"]).iter().filter_map(|s| s["restartCount"].as_i64());
        json!(restarts.sum::<i64>())
    }),
    text("IP", |o| or_none(o["status"]["podIP"].as_str().unwrap_or_default())),
    text("Node", |o| or_none(o["spec"]["nodeName"].as_str().unwrap_or_default())),
];

pub(super) const NODE: &[Column] = &[
    text("Status", |o| {
        let conditions = list(&o["status"]["conditions"]);
        let ready = conditions.iter().find(|c| c["type"] == "Ready").map(|c| c["status"] == "True");
        json!(match ready {
            Some(true) => "Ready",
            Some(false) => "NotReady",
            None => "Unknown",
        })
    }),
    text("Region", |o| {
        or_none(o["metadata"]["labels"]["topology.kubernetes.io/region"].as_str().unwrap_or(""))
    }),
    text("Zone", |o| or_none(o["metadata"]["labels"]["topology.kubernetes.io/zone"].as_str().unwrap_or(""))),
];

pub(super) const SECRET: &[Column] =
    &[text("Type", |o| o["type"].clone()), number("Data", |o| json!(keys(&o["data"])))];

pub(super) const CONFIG_MAP: &[Column] =
    &[number("Data", |o| json!(keys(&o["data"]) + keys(&o["binaryData"])))];

pub(super) const ENDPOINT_SLICE: &[Column] = &[
    text("AddressType", |o| o["addressType"].clone()),
    text("Ports", |o| joined(list(&o["ports"]).iter().map(|p| p["port"].to_string()))),
    text("Endpoints", |o| {
        let endpoints = list(&o["endpoints"]).iter();
        joined(endpoints.filter_map(|e| Some(e["addresses"].get(0)?.as_str()?.to_owned())))
    }),
];

pub(super) const DEPLOYMENT: &[Column] = &[
    text("Ready", |o| {
        let ready = o["status"]["readyReplicas"].as_i64().unwrap_or(0);
        json!(format!("{ready}/{}", o["spec"]["replicas"].as_i64().unwrap_or(1)))
    }),
    number("Up-to-date", |o| json!(o["status"]["updatedReplicas"].as_i64().unwrap_or(0))),
    number("Available", |o| json!(o["status"]["availableReplicas"].as_i64().unwrap_or(0))),
];

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn keys(value: &Value) -> usize {
    value.as_object().map_or(0, serde_json::Map::len)
}

fn or_none(text: &str) -> Value {
    json!(if text.is_empty() { "<none>" } else { text })
}

fn joined(parts: impl Iterator<Item = String>) -> Value {
    const SHOWN: usize = 3;
    let parts: Vec<String> = parts.collect();
    let shown = parts.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(",");
    match parts.len() {
        0 => json!("<unset>"),
        n if n > SHOWN => json!(format!("{shown} + {} more...", n - SHOWN)),
        _ => json!(shown),
    }
}

fn external_addresses(service: &Value) -> Value {
    let ingress = list(&service["status"]["loadBalancer"]["ingress"]).iter();
    let balanced = ingress.filter_map(|i| i["ip"].as_str().or(i["hostname"].as_str()));
    let listed = list(&service["spec"]["externalIPs"]).iter().filter_map(Value::as_str);
    let all: Vec<&str> = balanced.chain(listed).collect();
    or_none(&all.join(","))
}

fn service_ports(service: &Value) -> Value {
    let ports = list(&service["spec"]["ports"]).iter().map(|p| {
        let node_port = p["nodePort"].as_u64().map(|n| format!(":{n}")).unwrap_or_default();
        format!("{}{node_port}/{}", p["port"], p["protocol"].as_str().unwrap_or("TCP"))
    });
    or_none(&ports.collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_row_reads_as_kubectl_prints_it() {
        let service = json!({
            "spec": {"type": "LoadBalancer", "clusterIP": "10.0.0.1",
                     "ports": [{"port": 80, "protocol": "TCP"}, {"port": 443, "nodePort": 30443}]},
            "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}});
        let row: Vec<Value> = SERVICE.iter().map(|column| (column.cell)(&service)).collect();
        assert_eq!(row, ["LoadBalancer", "10.0.0.1", "192.0.2.1", "80/TCP,443:30443/TCP"]);
    }

    #[test]
    fn long_endpoint_lists_are_shortened() {
        let endpoints: Vec<Value> = (1..=5).map(|i| json!({"addresses": [format!("10.0.0.{i}")]})).collect();
        let cell = (ENDPOINT_SLICE[2].cell)(&json!({"endpoints": endpoints}));
        assert_eq!(cell, "10.0.0.1,10.0.0.2,10.0.0.3 + 2 more...");
    }
}
