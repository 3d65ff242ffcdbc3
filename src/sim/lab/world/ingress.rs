//! The objects of an ordinary ingress gateway. Not of a lab's start: who wants one applies them. Pure.

use serde_json::{Value, json};

use super::super::plan::{ClusterPlan, SYSTEM_NAMESPACE};
use super::{deployment, service_account};

/// Its Service, Deployment, ServiceAccount and label `app`.
pub const INGRESS: &str = "istio-ingressgateway";
/// Value of the label `istio` of its pods.
pub const INGRESS_LABEL: &str = "ingressgateway";
/// Ports of its Service by name, and where its pods listen for them: they may not listen on the ports themselves.
pub const INGRESS_PORTS: [(&str, u16, u16); 2] = [("http2", 80, 8080), ("https", 443, 8443)];

/// Everything of an ingress gateway of `cluster`, in the order of creation.
pub fn ingress(cluster: &ClusterPlan) -> Vec<Value> {
    let labels = json!({"app": INGRESS, "istio": INGRESS_LABEL});
    let vip = cluster.ingress_vip().to_string();
    let ports = INGRESS_PORTS.map(
        |(name, port, target)| json!({"name": name, "protocol": "TCP", "port": port, "targetPort": target}),
    );
    let service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": INGRESS, "namespace": SYSTEM_NAMESPACE, "labels": labels},
        "spec": {
            "type": "LoadBalancer",
            "clusterIP": vip,
            "clusterIPs": [vip],
            "ipFamilies": ["IPv4"],
            "selector": {"istio": INGRESS_LABEL},
            "ports": ports,
        },
    });
    let ports = INGRESS_PORTS
        .map(|(name, _, target)| json!({"name": name, "containerPort": target, "protocol": "TCP"}));
    let container = json!({"name": "istio-proxy", "image": "envoy", "ports": ports});
    vec![
        service_account(SYSTEM_NAMESPACE, INGRESS),
        service,
        deployment(SYSTEM_NAMESPACE, INGRESS, &labels, INGRESS, &container),
    ]
}
