//! What the server fills into an object of a kind when it is written.
//!
//! As on a real server the same defaults apply to a creation and to every update: a field that a client
//! removes comes back.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
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
        let there = map.entry(*last).or_insert(Value::Null);
        if there.is_null() {
            *there = value;
        }
    }
}

fn each(object: &mut Value, pointer: &str, mut change: impl FnMut(&mut Value)) {
    let items = object.pointer_mut(pointer).and_then(Value::as_array_mut);
    items.into_iter().flatten().for_each(&mut change);
}

/// What a kubelet reports of its machine.
const NODE_INFO: [&str; 10] = [
    "architecture",
    "bootID",
    "containerRuntimeVersion",
    "kernelVersion",
    "kubeProxyVersion",
    "kubeletVersion",
    "machineID",
    "operatingSystem",
    "osImage",
    "systemUUID",
];

/// Namespaces are active, carry their name as a label, and are finished by the server.
pub(super) fn namespace(object: &mut Value) {
    let name = object["metadata"]["name"].clone();
    fill(object, &["metadata", "labels", "kubernetes.io/metadata.name"], name);
    fill(object, &["spec", "finalizers"], json!(["kubernetes"]));
    fill(object, &["status", "phase"], json!("Active"));
}

/// Services have a type, policies and complete ports. The store allocates the cluster address.
pub(super) fn service(object: &mut Value) {
    fill(object, &["spec", "type"], json!("ClusterIP"));
    fill(object, &["spec", "sessionAffinity"], json!("None"));
    fill(object, &["status", "loadBalancer"], json!({}));
    each(object, "/spec/ports", |port| {
        let number = port["port"].clone();
        fill(port, &["protocol"], json!("TCP"));
        fill(port, &["targetPort"], number);
    });
    let service_type = object["spec"]["type"].as_str().unwrap_or_default().to_owned();
    if service_type == "ExternalName" {
        return;
    }
    fill(object, &["spec", "internalTrafficPolicy"], json!("Cluster"));
    if object["spec"]["clusterIP"].as_str().is_some_and(|ip| ip.contains(':')) {
        fill(object, &["spec", "ipFamilies"], json!(["IPv6"]));
    }
    fill(object, &["spec", "ipFamilies"], json!(["IPv4"]));
    fill(object, &["spec", "ipFamilyPolicy"], json!("SingleStack"));
    if matches!(service_type.as_str(), "NodePort" | "LoadBalancer") {
        fill(object, &["spec", "externalTrafficPolicy"], json!("Cluster"));
    }
    if service_type == "LoadBalancer" {
        fill(object, &["spec", "allocateLoadBalancerNodePorts"], json!(true));
    }
}

/// Nodes list their address ranges and say what runs them, empty until a kubelet reports.
pub(super) fn node(object: &mut Value) {
    if let Some(range) = object["spec"]["podCIDR"].as_str().map(str::to_owned) {
        fill(object, &["spec", "podCIDRs"], json!([range]));
    }
    fill(object, &["status", "daemonEndpoints", "kubeletEndpoint", "Port"], json!(0));
    for field in NODE_INFO {
        fill(object, &["status", "nodeInfo", field], json!(""));
    }
}

/// Pods start pending, with the policies of their specification filled in.
pub(super) fn pod(object: &mut Value) {
    if let Some(spec) = object.get_mut("spec") {
        pod_spec(spec);
        fill(spec, &["enableServiceLinks"], json!(true));
        fill(spec, &["preemptionPolicy"], json!("PreemptLowerPriority"));
        fill(spec, &["priority"], json!(0));
        fill(spec, &["serviceAccountName"], json!("default"));
        let account = spec["serviceAccountName"].clone();
        fill(spec, &["serviceAccount"], account);
    }
    fill(object, &["status", "phase"], json!("Pending"));
    let class = quality_of_service(&object["spec"]);
    fill(object, &["status", "qosClass"], json!(class));
}

/// What pods and the templates of workloads have in common.
fn pod_spec(spec: &mut Value) {
    for (field, value) in [
        ("restartPolicy", json!("Always")),
        ("dnsPolicy", json!("ClusterFirst")),
        ("schedulerName", json!("default-scheduler")),
        ("terminationGracePeriodSeconds", json!(30)),
        ("securityContext", json!({})),
    ] {
        fill(spec, &[field], value);
    }
    each(spec, "/containers", container);
    each(spec, "/initContainers", container);
}

fn container(container: &mut Value) {
    // An image without a tag, or with `latest`, may change behind its name.
    let image = container["image"].as_str().unwrap_or_default();
    let tag = image.rsplit('/').next().and_then(|last| last.split_once(':')).map_or("latest", |(_, tag)| tag);
    let policy = if tag == "latest" && !image.contains('@') { "Always" } else { "IfNotPresent" };
    fill(container, &["imagePullPolicy"], json!(policy));
    fill(container, &["resources"], json!({}));
    fill(container, &["terminationMessagePath"], json!("/dev/termination-log"));
    fill(container, &["terminationMessagePolicy"], json!("File"));
    each(container, "/ports", |port| fill(port, &["protocol"], json!("TCP")));
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = container.get_mut(probe).filter(|probe| probe.is_object()) {
            fill(probe, &["timeoutSeconds"], json!(1));
            fill(probe, &["periodSeconds"], json!(10));
            fill(probe, &["successThreshold"], json!(1));
            fill(probe, &["failureThreshold"], json!(3));
            if let Some(http) = probe.get_mut("httpGet").filter(|http| http.is_object()) {
                fill(http, &["path"], json!("/"));
                fill(http, &["scheme"], json!("HTTP"));
            }
        }
    }
}

/// Guaranteed when every container limits what it requests, best effort when none says anything.
fn quality_of_service(spec: &Value) -> &'static str {
    let containers = spec["containers"].as_array().map_or(&[][..], Vec::as_slice);
    let resources = |c: &Value, part: &str, name: &str| c["resources"][part][name].clone();
    let silent = |c: &Value| {
        c["resources"]["requests"].as_object().is_none_or(Map::is_empty)
            && c["resources"]["limits"].as_object().is_none_or(Map::is_empty)
    };
    let guaranteed = |c: &Value| {
        ["cpu", "memory"].iter().all(|name| {
            let (limit, request) = (resources(c, "limits", name), resources(c, "requests", name));
            !limit.is_null() && (request.is_null() || request == limit)
        })
    };
    if containers.iter().all(silent) {
        "BestEffort"
    } else if containers.iter().all(guaranteed) {
        "Guaranteed"
    } else {
        "Burstable"
    }
}

/// Secrets are opaque unless they say otherwise; `stringData` moves into `data`.
pub(super) fn secret(object: &mut Value) {
    fill(object, &["type"], json!("Opaque"));
    let Some(map) = object.as_object_mut() else { return };
    let Some(Value::Object(plain)) = map.remove("stringData") else {
        return;
    };
    let data = map.entry("data").or_insert(Value::Null);
    if data.is_null() {
        *data = json!({});
    }
    let Some(data) = data.as_object_mut() else { return };
    for (key, text) in plain {
        if let Value::String(text) = text {
            data.insert(key, json!(BASE64.encode(text)));
        }
    }
}

/// Ports of slices have a name, perhaps empty, and a protocol.
pub(super) fn endpoint_slice(object: &mut Value) {
    each(object, "/ports", |port| {
        fill(port, &["name"], json!(""));
        fill(port, &["protocol"], json!("TCP"));
    });
    fill(object, &["endpoints"], json!([]));
}

/// Events name their source, even when it is nobody.
pub(super) fn event(object: &mut Value) {
    fill(object, &["source"], json!({}));
    fill(object, &["reportingComponent"], json!(""));
    fill(object, &["reportingInstance"], json!(""));
}

/// Deployments have one replica and replace their pods by rolling unless they say otherwise.
pub(super) fn deployment(object: &mut Value) {
    fill(object, &["spec", "replicas"], json!(1));
    fill(object, &["spec", "progressDeadlineSeconds"], json!(600));
    fill(object, &["spec", "revisionHistoryLimit"], json!(10));
    fill(object, &["spec", "strategy", "type"], json!("RollingUpdate"));
    if object["spec"]["strategy"]["type"] == "RollingUpdate" {
        fill(object, &["spec", "strategy", "rollingUpdate", "maxSurge"], json!("25%"));
        fill(object, &["spec", "strategy", "rollingUpdate", "maxUnavailable"], json!("25%"));
    }
    fill(object, &["status"], json!({}));
    template(object);
}

/// ReplicaSets have one replica unless they say otherwise.
pub(super) fn replica_set(object: &mut Value) {
    fill(object, &["spec", "replicas"], json!(1));
    fill(object, &["status", "replicas"], json!(0));
    template(object);
}

fn template(object: &mut Value) {
    if let Some(spec) = object.pointer_mut("/spec/template/spec").filter(|spec| spec.is_object()) {
        pod_spec(spec);
    }
}

/// Names and conversion of a definition. Its status is the store's business.
pub(super) fn custom_resource_definition(object: &mut Value) {
    fill(object, &["spec", "conversion", "strategy"], json!("None"));
    let kind = object["spec"]["names"]["kind"].as_str().unwrap_or_default().to_owned();
    if !kind.is_empty() {
        fill(object, &["spec", "names", "singular"], json!(kind.to_lowercase()));
        fill(object, &["spec", "names", "listKind"], json!(format!("{kind}List")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_fill_gaps_and_keep_what_is_there() {
        let mut service_object = json!({"spec": {"type": "NodePort", "ports": [{"port": 80}]}});
        service(&mut service_object);
        assert_eq!(service_object["spec"]["type"], "NodePort");
        assert_eq!(service_object["spec"]["externalTrafficPolicy"], "Cluster");
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
        for data in [Value::Null, json!("text")] {
            let mut odd = json!({"data": data, "stringData": {"b": "hello"}});
            secret(&mut odd);
            assert_eq!(odd["data"]["b"] == "aGVsbG8=", data.is_null(), "{odd}");
        }
    }

    #[test]
    fn a_deployment_and_its_pods_get_their_policies() {
        let mut object = json!({"spec": {"template": {"spec": {"containers": [
            {"name": "a", "image": "registry:5000/app"}, {"name": "b", "image": "app:v1"}]}}}});
        deployment(&mut object);
        let spec = &object["spec"];
        assert_eq!((&spec["replicas"], &spec["revisionHistoryLimit"]), (&json!(1), &json!(10)));
        assert_eq!(spec["strategy"]["rollingUpdate"]["maxSurge"], "25%");
        let pod = &spec["template"]["spec"];
        assert_eq!((&pod["restartPolicy"], &pod["dnsPolicy"]), (&json!("Always"), &json!("ClusterFirst")));
        assert_eq!(pod["containers"][0]["imagePullPolicy"], "Always");
        assert_eq!(pod["containers"][1]["imagePullPolicy"], "IfNotPresent");
        assert!(pod.get("serviceAccountName").is_none(), "templates do not name the default account");
    }
}
