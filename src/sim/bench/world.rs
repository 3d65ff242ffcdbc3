//! The objects of the clusters: the same services in each, each cluster on a network of its own behind a gateway.

use serde_json::{Value, json};

use crate::sim::fleet::Home;
use crate::sim::lab::world::{GATEWAY, NETWORK_LABEL, namespace};
use crate::sim::world::{GENERATED_NAMESPACE, Generate, generate};

/// Where gateways and remote Secrets are.
pub(super) const SYSTEM_NAMESPACE: &str = "istio-system";

/// The last part of the address that a gateway begins with.
pub(super) const FIRST_ADDRESS: u8 = 1;

/// How large the clusters are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    /// Number of clusters.
    pub(super) clusters: usize,
    /// Services in each, the same ones.
    pub(super) services: u32,
    /// Endpoints of each service in each cluster.
    pub(super) endpoints: u32,
    pub(super) seed: u64,
}

impl Shape {
    /// The world of one cluster.
    pub(super) fn size(self) -> Generate {
        Generate { services: self.services, endpoints: self.services * self.endpoints, seed: self.seed }
    }

    /// The clusters with their networks; the first one is the config cluster.
    pub(super) fn homes(self) -> Vec<Home> {
        (0..self.clusters).map(home).collect()
    }
}

fn home(cluster: usize) -> Home {
    Home { cluster: format!("c{}", cluster + 1), network: format!("net-c{}", cluster + 1) }
}

/// Everything in cluster number `cluster`.
pub(super) fn objects(shape: Shape, cluster: usize) -> impl Iterator<Item = Value> + Send {
    let network = home(cluster).network;
    let system = namespace(SYSTEM_NAMESPACE, json!({NETWORK_LABEL: network}));
    let gateway = gateway(&network, &gateway_address(cluster, FIRST_ADDRESS));
    [system, gateway].into_iter().chain(generate(shape.size()).map(in_mesh))
}

/// One of the addresses of a cluster's gateway.
pub(super) fn gateway_address(cluster: usize, last: u8) -> String {
    format!("172.{}.{}.{last}", 16 + cluster / 256, cluster % 256)
}

fn gateway(network: &str, address: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": GATEWAY, "namespace": SYSTEM_NAMESPACE,
            "labels": {"istio": "eastwestgateway", NETWORK_LABEL: network}},
        "spec": {"type": "LoadBalancer", "clusterIP": "10.255.0.1", "clusterIPs": ["10.255.0.1"],
            "selector": {"istio": "eastwestgateway"},
            "ports": [{"name": "tls", "port": 15443, "protocol": "TCP", "targetPort": 15443}]},
        "status": {"loadBalancer": {"ingress": [{"ip": address}]}},
    })
}

/// Pods have sidecars: traffic between networks needs them.
fn in_mesh(mut object: Value) -> Value {
    if object["kind"] == "Pod" {
        let labels = &mut object["metadata"]["labels"];
        let app = labels["app"].clone();
        labels["security.istio.io/tlsMode"] = json!("istio");
        labels["service.istio.io/canonical-name"] = app;
        labels["service.istio.io/canonical-revision"] = json!("latest");
    }
    object
}

/// A pod of service 0 with an account of its own that no other pod has.
pub(super) fn stranger(number: usize) -> Value {
    let ip = format!("10.127.{}.{}", number / 250, number % 250 + 1);
    let (name, account) = (format!("stranger-{number}"), format!("account-{number}"));
    in_mesh(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": GENERATED_NAMESPACE, "labels": {"app": "svc-0"}},
        "spec": {"nodeName": "node-0", "serviceAccountName": account,
            "containers": [{"name": "app", "image": "app"}]},
        "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
            "conditions": [{"type": "Ready", "status": "True"}]},
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_have_the_same_services_and_networks_of_their_own() {
        let shape = Shape { clusters: 2, services: 2, endpoints: 3, seed: 1 };
        let of = |cluster| objects(shape, cluster).collect::<Vec<_>>();
        let names = |objects: &[Value], kind: &str| -> Vec<String> {
            let found = objects.iter().filter(|object| object["kind"] == kind);
            found.map(|object| object["metadata"]["name"].as_str().unwrap().to_owned()).collect()
        };
        let (first, second) = (of(0), of(1));
        assert_eq!(names(&first, "Service"), [GATEWAY, "svc-0", "svc-1"]);
        assert_eq!(names(&first, "Service"), names(&second, "Service"));
        assert_eq!(names(&first, "Pod").len(), 6);
        let label = |objects: &[Value]| objects[0]["metadata"]["labels"][NETWORK_LABEL].clone();
        assert_ne!(label(&first), label(&second));
        assert!(
            first
                .iter()
                .filter(|o| o["kind"] == "Pod")
                .all(|pod| { pod["metadata"]["labels"]["security.istio.io/tlsMode"] == "istio" })
        );
        assert_ne!(gateway_address(1, 1), gateway_address(257, 1));
    }
}
