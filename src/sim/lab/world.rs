//! What the lab's API servers hold: the Kubernetes objects of one cluster. Pure.

use base64::Engine as _;
use serde_json::{Value, json};

use super::plan::{
    AppService, ClusterPlan, GATEWAY_PORT, NAMESPACE, PodPlan, Role, SERVICES, SYSTEM_NAMESPACE,
};

/// Label that carries a network's name on namespaces, pods and gateway Services.
const NETWORK_LABEL: &str = "topology.istio.io/network";
/// The gateway's Service.
const GATEWAY_SERVICE: &str = "istio-eastwestgateway";

/// Whether a pod passes its readiness probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// Its sidecar is live.
    Ready,
    /// It exists and nobody may send it traffic yet.
    NotReady,
}

/// Everything of `cluster` at the start: namespaces, a node, Services, and the pods in `running`, all ready.
pub fn world(cluster: &ClusterPlan, running: &[&PodPlan]) -> Value {
    let mut items = vec![
        namespace(NAMESPACE, json!({})),
        namespace(SYSTEM_NAMESPACE, json!({NETWORK_LABEL: cluster.network})),
        node(cluster),
        gateway_service(cluster),
        gateway_slice(cluster),
    ];
    items.extend(SERVICES.iter().map(|service| app_service(cluster, service)));
    items.extend(running.iter().map(|pod| pod_object(cluster, pod, Readiness::Ready)));
    let app = running.iter().filter(|pod| matches!(pod.role, Role::Helloworld(_)));
    let app: Vec<_> = app.map(|pod| (*pod, Readiness::Ready)).collect();
    items.extend(SERVICES.iter().map(|service| app_slice(cluster, service, &app)));
    json!({"apiVersion": "v1", "kind": "List", "items": items})
}

/// Labels of a pod, as its object and its proxy's metadata carry them.
pub fn pod_labels(cluster: &ClusterPlan, pod: &PodPlan) -> Value {
    let mut labels = json!({"app": pod.app_label(), NETWORK_LABEL: cluster.network});
    match pod.role {
        Role::Helloworld(_) => labels["version"] = json!(cluster.version),
        Role::Sleep => {}
        Role::Gateway => labels["istio"] = json!("eastwestgateway"),
    }
    if pod.role != Role::Gateway {
        labels["security.istio.io/tlsMode"] = json!("istio");
    }
    labels
}

/// The Pod object of `pod`.
pub fn pod_object(cluster: &ClusterPlan, pod: &PodPlan, readiness: Readiness) -> Value {
    let ready = if readiness == Readiness::Ready { "True" } else { "False" };
    let conditions: Vec<Value> = [("Initialized", "True"), ("Ready", ready), ("PodScheduled", "True")]
        .into_iter()
        .map(|(kind, status)| json!({"type": kind, "status": status}))
        .collect();
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": pod.name,
            "namespace": pod.namespace(),
            "labels": pod_labels(cluster, pod),
        },
        "spec": {
            "nodeName": node_name(cluster),
            "serviceAccountName": pod.service_account(),
            "containers": [{"name": pod.app_label(), "image": "tombolo"}],
        },
        "status": {
            "phase": "Running",
            "podIP": pod.address.to_string(),
            "podIPs": [{"ip": pod.address.to_string()}],
            "conditions": conditions,
            "containerStatuses": [{
                "name": pod.app_label(),
                "image": "tombolo",
                "imageID": "",
                "ready": readiness == Readiness::Ready,
                "restartCount": 0,
            }],
        },
    })
}

/// The Service object of `service`.
pub fn app_service(cluster: &ClusterPlan, service: &AppService) -> Value {
    let vip = cluster.vip(service).to_string();
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": service.name, "namespace": NAMESPACE, "labels": {"app": service.name}},
        "spec": {
            "type": "ClusterIP",
            "clusterIP": vip,
            "clusterIPs": [vip],
            "ipFamilies": ["IPv4"],
            "selector": {"app": "helloworld"},
            "ports": [{
                "name": service.port_name,
                "protocol": "TCP",
                "port": service.port,
                "targetPort": service.port,
            }],
        },
    })
}

/// Name of the one EndpointSlice of `service`.
pub fn slice_name(service: &AppService) -> String {
    format!("{}-lab", service.name)
}

/// The EndpointSlice of `service` with these pods.
pub fn app_slice(cluster: &ClusterPlan, service: &AppService, pods: &[(&PodPlan, Readiness)]) -> Value {
    let ports = json!([{"name": service.port_name, "protocol": "TCP", "port": service.port}]);
    slice(cluster, NAMESPACE, &slice_name(service), service.name, &ports, pods)
}

/// The Secret by which one control plane learns of the other cluster `peer`.
pub fn remote_secret(peer: &str, kubeconfig: &str) -> Value {
    let encoded = base64::engine::general_purpose::STANDARD.encode(kubeconfig);
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": remote_secret_name(peer),
            "namespace": SYSTEM_NAMESPACE,
            "labels": {"istio/multiCluster": "true"},
            "annotations": {"networking.istio.io/cluster": peer},
        },
        "type": "Opaque",
        "data": {peer: encoded},
    })
}

/// Name of that Secret.
pub fn remote_secret_name(peer: &str) -> String {
    format!("istio-remote-secret-{peer}")
}

fn namespace(name: &str, labels: Value) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": labels},
        "status": {"phase": "Active"},
    })
}

fn node_name(cluster: &ClusterPlan) -> String {
    format!("{}-node-1", cluster.name)
}

fn node(cluster: &ClusterPlan) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": node_name(cluster), "labels": {
            "kubernetes.io/hostname": node_name(cluster),
            "topology.kubernetes.io/region": cluster.region,
            "topology.kubernetes.io/zone": cluster.zone,
        }},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    })
}

fn gateway_service(cluster: &ClusterPlan) -> Value {
    let vip = cluster.gateway_vip().to_string();
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": GATEWAY_SERVICE, "namespace": SYSTEM_NAMESPACE, "labels": {
            "app": GATEWAY_SERVICE,
            "istio": "eastwestgateway",
            NETWORK_LABEL: cluster.network,
        }},
        "spec": {
            "type": "LoadBalancer",
            "clusterIP": vip,
            "clusterIPs": [vip],
            "ipFamilies": ["IPv4"],
            "selector": {"istio": "eastwestgateway"},
            "ports": [
                {"name": "status-port", "protocol": "TCP", "port": 15021, "targetPort": 15021},
                {"name": "tls", "protocol": "TCP", "port": GATEWAY_PORT, "targetPort": GATEWAY_PORT},
            ],
        },
        "status": {"loadBalancer": {"ingress": [{"ip": cluster.gateway_wan.to_string()}]}},
    })
}

fn gateway_slice(cluster: &ClusterPlan) -> Value {
    let ports = json!([
        {"name": "status-port", "protocol": "TCP", "port": 15021},
        {"name": "tls", "protocol": "TCP", "port": GATEWAY_PORT},
    ]);
    let name = format!("{GATEWAY_SERVICE}-lab");
    slice(cluster, SYSTEM_NAMESPACE, &name, GATEWAY_SERVICE, &ports, &[(&cluster.gateway, Readiness::Ready)])
}

fn slice(
    cluster: &ClusterPlan,
    namespace: &str,
    name: &str,
    service: &str,
    ports: &Value,
    pods: &[(&PodPlan, Readiness)],
) -> Value {
    let endpoints: Vec<Value> = pods
        .iter()
        .map(|(pod, readiness)| {
            let ready = matches!(readiness, Readiness::Ready);
            json!({
                "addresses": [pod.address.to_string()],
                "conditions": {"ready": ready, "serving": ready, "terminating": false},
                "nodeName": node_name(cluster),
                "zone": cluster.zone,
                "targetRef": {"kind": "Pod", "name": pod.name, "namespace": pod.namespace()},
            })
        })
        .collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "namespace": namespace, "labels": {
            "kubernetes.io/service-name": service,
            "endpointslice.kubernetes.io/managed-by": "lab.tombolo.dev",
        }},
        "addressType": "IPv4",
        "ports": ports,
        "endpoints": endpoints,
    })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{Pod, Service};
    use k8s_openapi::api::discovery::v1::EndpointSlice;

    use super::super::plan::{HELLOWORLD, Plan, Range};
    use super::*;

    fn west() -> ClusterPlan {
        Plan::new(Range::Loopback(90)).clusters[1].clone()
    }

    fn items(world: &Value, kind: &str) -> Vec<Value> {
        let items = world["items"].as_array().unwrap();
        items.iter().filter(|item| item["kind"] == kind).cloned().collect()
    }

    #[test]
    fn objects_are_what_kubernetes_types_say() {
        let cluster = west();
        let world = world(&cluster, &[&cluster.gateway, &cluster.client, &cluster.helloworld[0]]);
        for pod in items(&world, "Pod") {
            let pod: Pod = serde_json::from_value(pod).unwrap();
            assert!(pod.status.unwrap().conditions.unwrap().iter().any(|c| c.type_ == "Ready"));
        }
        for service in items(&world, "Service") {
            serde_json::from_value::<Service>(service).unwrap();
        }
        let slices = items(&world, "EndpointSlice");
        assert_eq!(slices.len(), SERVICES.len() + 1);
        for slice in slices {
            let slice: EndpointSlice = serde_json::from_value(slice).unwrap();
            assert_eq!(slice.endpoints.unwrap_or_default().len(), 1);
        }
    }

    #[test]
    fn only_running_application_pods_are_endpoints() {
        let cluster = west();
        let world = world(&cluster, &[&cluster.gateway, &cluster.client]);
        let slices = items(&world, "EndpointSlice");
        let app = slices.iter().find(|slice| slice["metadata"]["name"] == slice_name(&HELLOWORLD)).unwrap();
        assert_eq!(app["endpoints"], json!([]));
        assert_eq!(items(&world, "Pod").len(), 2);
    }

    #[test]
    fn gateway_is_named_for_its_network_and_shown_at_its_outer_address() {
        let cluster = west();
        let world = world(&cluster, &[&cluster.gateway]);
        let services = items(&world, "Service");
        let gateway = services.iter().find(|s| s["metadata"]["name"] == GATEWAY_SERVICE).unwrap();
        assert_eq!(gateway["metadata"]["labels"]["topology.istio.io/network"], "net-west");
        let ingress = &gateway["status"]["loadBalancer"]["ingress"][0]["ip"];
        assert_eq!(ingress, &cluster.gateway_wan.to_string());
    }

    #[test]
    fn remote_secret_carries_the_kubeconfig_under_the_cluster_id() {
        let secret = remote_secret("west", "apiVersion: v1\n");
        assert_eq!(secret["metadata"]["labels"]["istio/multiCluster"], "true");
        let data = secret["data"]["west"].as_str().unwrap();
        let decoded = base64::engine::general_purpose::STANDARD.decode(data).unwrap();
        assert_eq!(decoded, b"apiVersion: v1\n");
    }
}
