//! What API servers in memory hold: namespaces, nodes with zones, services, slices and the pods behind them.

use serde_json::{Value, json};

/// The nodes of every cluster and their zones. Pods are spread over them by their addresses.
pub(in crate::ingest) const NODES: [(&str, &str); 2] = [("node-1", "z1"), ("node-2", "z2")];

/// A namespace; that of `kube-system` has the cluster's uid.
pub(in crate::ingest) fn namespace(name: &str, network: &str, uid: &str) -> Value {
    json!({"kind": "Namespace", "metadata": {"name": name, "uid": uid,
        "labels": {"topology.istio.io/network": network, "name": name}}})
}

pub(in crate::ingest) fn node(name: &str, zone: &str) -> Value {
    json!({"kind": "Node", "metadata": {"name": name, "uid": format!("uid-{name}"),
        "labels": {"topology.kubernetes.io/region": "r", "topology.kubernetes.io/zone": zone}}})
}

/// The nodes every cluster has.
pub(in crate::ingest) fn nodes() -> impl Iterator<Item = Value> {
    NODES.into_iter().map(|(name, zone)| node(name, zone))
}

/// The node that the pod with this address runs on, if nothing moved it.
pub(in crate::ingest) fn home(address: &str) -> &'static str {
    let last = address.rsplit('.').next().and_then(|part| part.parse::<usize>().ok());
    NODES[last.unwrap_or_default() % NODES.len()].0
}

/// The zone of a node.
pub(in crate::ingest) fn zone(node: &str) -> &'static str {
    NODES.iter().find(|(name, _)| *name == node).map(|(_, zone)| *zone).unwrap_or_default()
}

/// The pod of a service that has this address, on a node.
pub(in crate::ingest) fn pod(service: &str, address: &str, node: &str) -> Value {
    let name = pod_name(service, address);
    json!({"kind": "Pod",
        "metadata": {"name": name, "namespace": "a", "uid": format!("uid-{name}"),
            "labels": {"app": service, "version": "v1"}},
        "spec": {"nodeName": node, "serviceAccountName": "default"},
        "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}],
            "conditions": [{"type": "Ready", "status": "True"}]}})
}

fn pod_name(service: &str, address: &str) -> String {
    format!("{service}-{}", address.replace('.', "-"))
}

/// The pods of a service, one for each address, at [`home`].
pub(in crate::ingest) fn pods(service: &str, addresses: &[String]) -> Vec<Value> {
    addresses.iter().map(|address| pod(service, address, home(address))).collect()
}

pub(in crate::ingest) fn service(name: &str) -> Value {
    json!({"kind": "Service", "metadata": {"name": name, "namespace": "a"},
        "spec": {"clusterIP": "10.0.0.1", "ports": [{"name": "http", "port": 80}]}})
}

pub(in crate::ingest) fn gateway(network: &str, address: &str) -> Value {
    json!({"kind": "Service", "metadata": {"name": "eastwest", "namespace": "istio-system",
        "labels": {"topology.istio.io/network": network}},
        "spec": {"type": "LoadBalancer", "clusterIP": "10.0.0.2", "ports": [{"port": 15443}]},
        "status": {"loadBalancer": {"ingress": [{"ip": address}]}}})
}

/// The gateway, reached through the nodes.
pub(in crate::ingest) fn node_port_gateway(network: &str) -> Value {
    json!({"kind": "Service", "metadata": {"name": "eastwest", "namespace": "istio-system",
        "labels": {"topology.istio.io/network": network},
        "annotations": {"traffic.istio.io/nodeSelector": "{}"}},
        "spec": {"type": "NodePort", "clusterIP": "10.0.0.2", "ports": [{"port": 15443, "nodePort": 31443}]}})
}

/// A node that can be reached from elsewhere.
pub(in crate::ingest) fn external_node(name: &str, zone: &str, address: &str) -> Value {
    let mut node = node(name, zone);
    node["status"] = json!({"addresses": [{"type": "ExternalIP", "address": address}]});
    node
}

/// The gateway, as an object of the Gateway API.
pub(in crate::ingest) fn api_gateway(network: &str, address: &str) -> Value {
    json!({"kind": "Gateway", "metadata": {"name": "eastwest", "namespace": "istio-system",
        "labels": {"topology.istio.io/network": network}},
        "spec": {"gatewayClassName": "istio", "addresses": [{"value": address}],
            "listeners": [{"port": 15443, "protocol": "TLS", "tls": {"mode": "Passthrough",
                "options": {"gateway.istio.io/listener-protocol": "auto-passthrough"}}}]}})
}

/// A slice of bare addresses. Those of pods have what their pods have.
pub(in crate::ingest) fn slice(service: &str, addresses: &[String]) -> Value {
    slice_of(service, addresses.iter().map(|address| json!({"addresses": [address]})))
}

/// A slice whose entries name the [`pods`] of the service.
pub(in crate::ingest) fn named_slice(service: &str, addresses: &[String]) -> Value {
    let entry = |address: &String| {
        json!({"addresses": [address], "nodeName": home(address), "conditions": {"ready": true},
            "targetRef": {"kind": "Pod", "namespace": "a", "name": pod_name(service, address)}})
    };
    slice_of(service, addresses.iter().map(entry))
}

fn slice_of(service: &str, endpoints: impl Iterator<Item = Value>) -> Value {
    json!({"kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": format!("{service}-1"), "namespace": "a",
            "labels": {"kubernetes.io/service-name": service}},
        "endpoints": endpoints.collect::<Vec<_>>(), "ports": [{"name": "http", "port": 8080}]})
}

/// A service with its slice and the pods that it names.
pub(in crate::ingest) fn served(name: &str, addresses: &[String]) -> Vec<Value> {
    let mut objects = pods(name, addresses);
    objects.extend([service(name), named_slice(name, addresses)]);
    objects
}

/// A cluster on a network with nodes, a gateway and one service of that many pods.
pub(in crate::ingest) fn world(network: &str, uid: &str, subnet: u8, endpoints: usize) -> Vec<Value> {
    let mut objects = vec![
        namespace("kube-system", "", uid),
        namespace("istio-system", network, "s"),
        namespace("a", "", "a"),
        gateway(network, &format!("192.0.2.{subnet}")),
    ];
    objects.extend(nodes());
    objects.extend(served("web", &addresses(subnet, endpoints)));
    objects
}

pub(in crate::ingest) fn addresses(subnet: u8, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("10.{subnet}.{}.{}", n / 250, n % 250 + 1)).collect()
}
