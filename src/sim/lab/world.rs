//! The Kubernetes objects of one of the lab's clusters at its start. Pure. Nothing else defines what runs.

pub mod file;
pub mod ingress;

use base64::Engine as _;
use serde_json::{Value, json};

use super::plan::{AppService, ClusterPlan, GATEWAY_PORT, NAMESPACE, SERVICES, SYSTEM_NAMESPACE};

/// Label that carries a network's name on namespaces, pods and gateway Services.
pub const NETWORK_LABEL: &str = "topology.istio.io/network";
/// The gateway's Service, Deployment, ServiceAccount and label `app`.
pub const GATEWAY: &str = "istio-eastwestgateway";
/// Value of the label `istio` of a gateway's pods.
pub const GATEWAY_LABEL: &str = "eastwestgateway";
/// The client's Deployment.
pub const CLIENT: &str = "sleep";

/// Everything of `cluster` at the start, in the order of creation.
pub fn world(cluster: &ClusterPlan) -> Vec<Value> {
    let mut items = vec![
        namespace(NAMESPACE, json!({"istio-injection": "enabled"})),
        namespace(SYSTEM_NAMESPACE, json!({NETWORK_LABEL: cluster.network})),
        node(cluster),
        service_account(NAMESPACE, CLIENT),
        service_account(NAMESPACE, "helloworld"),
        service_account(SYSTEM_NAMESPACE, GATEWAY),
        gateway_service(cluster),
    ];
    items.extend(SERVICES.iter().map(|service| app_service(cluster, service)));
    items.extend([gateway_deployment(), client_deployment(), app_deployment(cluster)]);
    items
}

/// Definitions of Istio's kinds, for one's own policies.
pub fn custom_kinds() -> Vec<Value> {
    const DEFINITIONS: &str = include_str!("../../../deploy/istio-crds.yaml");
    serde_saphyr::from_multiple(DEFINITIONS).expect("a file of this repository, held by a test")
}

/// Name of the application's Deployment in `cluster`.
pub fn app_deployment_name(cluster: &ClusterPlan) -> String {
    format!("helloworld-{}", cluster.version)
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

/// The Secret by which a control plane learns of the cluster `peer`.
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

/// A Namespace object.
pub fn namespace(name: &str, labels: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
}

fn service_account(namespace: &str, name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}})
}

fn node(cluster: &ClusterPlan) -> Value {
    let name = cluster.node_name();
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {
            "kubernetes.io/hostname": name,
            "topology.kubernetes.io/region": cluster.region,
            "topology.kubernetes.io/zone": cluster.zone,
        }},
        "status": {
            "addresses": [
                {"type": "InternalIP", "address": cluster.node_address().to_string()},
                {"type": "Hostname", "address": name},
            ],
            "conditions": [{
                "type": "Ready",
                "status": "True",
                "reason": "LabRuns",
                "message": "the lab runs this node's pods",
            }],
        },
    })
}

fn gateway_service(cluster: &ClusterPlan) -> Value {
    let vip = cluster.gateway_vip().to_string();
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": GATEWAY, "namespace": SYSTEM_NAMESPACE, "labels": {
            "app": GATEWAY,
            "istio": GATEWAY_LABEL,
            NETWORK_LABEL: cluster.network,
        }},
        "spec": {
            "type": "LoadBalancer",
            "clusterIP": vip,
            "clusterIPs": [vip],
            "ipFamilies": ["IPv4"],
            "selector": {"istio": GATEWAY_LABEL},
            "ports": [
                {"name": "status-port", "protocol": "TCP", "port": 15021, "targetPort": 15021},
                {"name": "tls", "protocol": "TCP", "port": GATEWAY_PORT, "targetPort": GATEWAY_PORT},
            ],
        },
    })
}

fn app_deployment(cluster: &ClusterPlan) -> Value {
    let ports: Vec<Value> = SERVICES
        .iter()
        .map(|service| json!({"name": service.port_name, "containerPort": service.port, "protocol": "TCP"}))
        .collect();
    let labels = json!({"app": "helloworld", "version": cluster.version});
    let container = json!({"name": "helloworld", "image": "tombolo", "ports": ports});
    deployment(NAMESPACE, &app_deployment_name(cluster), &labels, "helloworld", &container)
}

fn client_deployment() -> Value {
    let container = json!({"name": "sleep", "image": "tombolo"});
    deployment(NAMESPACE, CLIENT, &json!({"app": CLIENT}), CLIENT, &container)
}

fn gateway_deployment() -> Value {
    let container = json!({
        "name": "istio-proxy",
        "image": "envoy",
        "ports": [{"name": "tls", "containerPort": GATEWAY_PORT, "protocol": "TCP"}],
    });
    let labels = json!({"app": GATEWAY, "istio": GATEWAY_LABEL});
    deployment(SYSTEM_NAMESPACE, GATEWAY, &labels, GATEWAY, &container)
}

fn deployment(namespace: &str, name: &str, labels: &Value, account: &str, container: &Value) -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"serviceAccountName": account, "containers": [container]},
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::Deployment;
    use k8s_openapi::api::core::v1::Service;

    use super::super::plan::{Plan, Range, Shape};
    use super::*;

    fn west() -> ClusterPlan {
        Plan::new(Shape::default(), Range::Loopback(90)).clusters[1].clone()
    }

    fn items(kind: &str) -> Vec<Value> {
        world(&west()).into_iter().filter(|item| item["kind"] == kind).collect()
    }

    #[test]
    fn objects_are_what_kubernetes_types_say() {
        for service in items("Service") {
            serde_json::from_value::<Service>(service).unwrap();
        }
        let deployments = items("Deployment");
        assert_eq!(deployments.len(), 3);
        for deployment in deployments {
            let deployment: Deployment = serde_json::from_value(deployment).unwrap();
            let spec = deployment.spec;
            assert_eq!(spec.selector.match_labels, spec.template.metadata.unwrap().labels);
        }
    }

    #[test]
    fn custom_kinds_are_definitions_with_one_stored_version_each() {
        let definitions = custom_kinds();
        assert!(
            definitions.iter().any(|one| one["metadata"]["name"] == "destinationrules.networking.istio.io")
        );
        for definition in definitions {
            assert_eq!(definition["kind"], "CustomResourceDefinition");
            let versions = definition["spec"]["versions"].as_array().unwrap();
            assert_eq!(versions.iter().filter(|version| version["storage"] == true).count(), 1);
        }
    }

    #[test]
    fn pods_and_endpoints_are_the_controllers_matter() {
        assert!(items("Pod").is_empty() && items("EndpointSlice").is_empty());
    }

    #[test]
    fn gateway_is_named_for_its_network() {
        let services = items("Service");
        let gateway = services.iter().find(|s| s["metadata"]["name"] == GATEWAY).unwrap();
        assert_eq!(gateway["metadata"]["labels"]["topology.istio.io/network"], "net-west");
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
