//! Objects of the one cluster behind the server, and what is read out of resources.

use prost::Message as _;
use serde_json::{Value, json};

/// `s{n}.sample.svc.cluster.local`.
pub fn host(service: usize) -> String {
    format!("s{service}.sample.svc.cluster.local")
}

/// The Envoy cluster, and the assignment, of port 80 of service `n`.
pub fn eds(service: usize) -> String {
    format!("outbound|80||{}", host(service))
}

/// Service `n` with port 80.
pub fn service(service: usize) -> Value {
    service_on(service, &[80])
}

/// Service `n` with these ports of HTTP.
pub fn service_on(service: usize, ports: &[u16]) -> Value {
    let port = |number: &u16| json!({"name": format!("http-{number}"), "port": number, "targetPort": 8080});
    let ip = format!("10.96.{}.{}", service / 250, service % 250 + 1);
    json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": format!("s{service}"), "namespace": "sample"},
        "spec": {"clusterIP": ip, "clusterIPs": [ip], "ports": ports.iter().map(port).collect::<Vec<_>>()}})
}

/// The endpoints of service `n`: so many addresses.
pub fn slice(service: usize, endpoints: usize) -> Value {
    slice_on(service, endpoints, &[80])
}

/// The same behind these ports.
pub fn slice_on(service: usize, endpoints: usize, ports: &[u16]) -> Value {
    let address = |index: usize| {
        let ip = format!("10.{}.{}.{}", 10 + service % 200, index / 250, index % 250 + 1);
        json!({"addresses": [ip], "conditions": {"ready": true}})
    };
    let port = |number: &u16| json!({"name": format!("http-{number}"), "port": 8080});
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": format!("s{service}-1"), "namespace": "sample",
            "labels": {"kubernetes.io/service-name": format!("s{service}")}},
        "endpoints": (0..endpoints).map(address).collect::<Vec<_>>(),
        "ports": ports.iter().map(port).collect::<Vec<_>>()})
}

/// What changes the Envoy cluster of service `n` and nothing else.
pub fn rule(service: usize, connect_seconds: u32) -> Value {
    let pool = json!({"tcp": {"connectTimeout": format!("{connect_seconds}s")}});
    policy(&format!("s{service}"), &host(service), json!({"connectionPool": pool}))
}

/// A DestinationRule.
pub fn policy(name: &str, host: &str, traffic: Value) -> Value {
    json!({"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
        "metadata": {"name": name, "namespace": "sample"}, "spec": {"host": host, "trafficPolicy": traffic}})
}

/// Names of subject in every Envoy cluster of `sample`, so many bytes of them: resources of any size.
pub fn heavy(bytes: usize) -> Value {
    let name = |index: usize| format!("spiffe://cluster.local/ns/sample/sa/{index:0>160}");
    let names: Vec<_> = (0..bytes / 200).map(name).collect();
    let tls = json!({"mode": "MUTUAL", "clientCertificate": "/c", "privateKey": "/k", "caCertificates": "/r",
        "subjectAltNames": names});
    policy("heavy", "*.sample.svc.cluster.local", json!({"tls": tls}))
}

/// What every world has: the network of the cluster, and the kinds of policies.
pub fn base() -> Vec<Value> {
    let mut objects: Vec<Value> =
        serde_saphyr::from_multiple(include_str!("../../deploy/istio-crds.yaml")).unwrap();
    objects.push(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "istio-system",
        "labels": {"topology.istio.io/network": "net-east"}}}));
    objects
}

/// So many services with an endpoint each.
pub fn services(count: usize) -> Vec<Value> {
    (0..count).flat_map(|n| [service(n), slice(n, 1)]).collect()
}

/// `address:port` of the endpoints of an assignment.
pub fn endpoints(message: &[u8]) -> Vec<String> {
    let assignment =
        tombolo::proto::assignment::ClusterLoadAssignment::decode(message).expect("an assignment");
    let all = assignment.endpoints.into_iter().flat_map(|group| group.lb_endpoints);
    all.map(|endpoint| {
        let socket = endpoint.endpoint.and_then(|e| e.address).and_then(|a| a.address);
        let Some(tombolo::proto::assignment::address::Address::SocketAddress(socket)) = socket else {
            panic!("a socket address: {socket:?}");
        };
        format!("{}:{}", socket.address, socket.port_value)
    })
    .collect()
}
