//! What changes networks and gateways, and how much work that is.

mod quirks;

use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use super::*;
use crate::ingest::convert::{GatewayOptions, test_context};
use crate::ingest::networks::HostNames;
use crate::ingest::staging::StagedEvent;
use crate::ingest::watch::{ListReason, Received};

fn empty() -> Staging {
    Staging::new(test_context(), "istio-system".into(), Arc::default())
}

fn key(object: &Value) -> ObjectKey {
    let text = |name: &str| object["metadata"][name].as_str().unwrap_or_default().to_owned();
    ObjectKey::new(text("namespace"), text("name"))
}

fn received<T: serde::de::DeserializeOwned>(object: &Value) -> Received<T> {
    let decoded = serde_json::from_value(object.clone()).map_err(|error| error.to_string());
    Received { key: key(object), uid: Name::default(), revision: None, object: decoded }
}

fn apply(object: &Value) -> StagedEvent {
    match object["kind"].as_str().unwrap() {
        "Namespace" => StagedEvent::Namespace(SourceEvent::Apply(received(object))),
        "Node" => StagedEvent::Node(SourceEvent::Apply(received(object))),
        "Pod" => StagedEvent::Pod(SourceEvent::Apply(received(object))),
        "Service" => StagedEvent::Service(SourceEvent::Apply(received(object))),
        "Gateway" => StagedEvent::Gateway(SourceEvent::Apply(received(object))),
        _ => StagedEvent::Slice(SourceEvent::Apply(received(object))),
    }
}

fn delete(object: &Value) -> StagedEvent {
    let key = key(object);
    match object["kind"].as_str().unwrap() {
        "Node" => StagedEvent::Node(SourceEvent::Delete { key, revision: None }),
        "Service" => StagedEvent::Service(SourceEvent::Delete { key, revision: None }),
        "Gateway" => StagedEvent::Gateway(SourceEvent::Delete { key, revision: None }),
        _ => StagedEvent::Namespace(SourceEvent::Delete { key, revision: None }),
    }
}

fn mesh(document: &Value) -> StagedEvent {
    StagedEvent::MeshNetworks(Arc::new(
        MeshNetworks::from_value(document, HostNames::Allowed).strict().unwrap().0,
    ))
}

fn system_namespace(network: &str) -> Value {
    json!({"kind": "Namespace", "metadata": {"name": "istio-system",
        "labels": {"topology.istio.io/network": network}}})
}

fn balancer(network: &str, ip: Option<&str>) -> Value {
    let ingress: Vec<_> = ip.into_iter().map(|ip| json!({"ip": ip})).collect();
    json!({"kind": "Service", "metadata": {"name": "gw", "namespace": "istio-system",
        "labels": {"topology.istio.io/network": network}},
        "spec": {"type": "LoadBalancer", "ports": [{"port": 15443}]},
        "status": {"loadBalancer": {"ingress": ingress}}})
}

fn node(name: &str, external: Option<&str>, pool: &str) -> Value {
    let addresses: Vec<_> =
        external.into_iter().map(|ip| json!({"type": "ExternalIP", "address": ip})).collect();
    json!({"kind": "Node", "metadata": {"name": name, "labels": {"pool": pool}}, "status": {"addresses": addresses}})
}

fn node_port(policy: &str) -> Value {
    json!({"kind": "Service", "metadata": {"name": "gw", "namespace": "istio-system",
        "labels": {"topology.istio.io/network": "n1"},
        "annotations": {"traffic.istio.io/nodeSelector": "{\"pool\": \"gw\"}"}},
        "spec": {"type": "NodePort", "externalTrafficPolicy": policy, "ports": [{"port": 15443, "nodePort": 31443}]}})
}

fn pod(name: &str, namespace: &str, ip: &str, on: &str) -> Value {
    json!({"kind": "Pod", "metadata": {"name": name, "namespace": namespace}, "spec": {"nodeName": on},
        "status": {"phase": "Running", "podIP": ip}})
}

/// A slice of one service: entries are pods with addresses, or bare addresses.
fn slice(service: &str, namespace: &str, entries: &[(Option<&str>, &str, bool)]) -> Value {
    let entry = |(pod, ip, ready): &(Option<&str>, &str, bool)| {
        let mut entry = json!({"addresses": [ip], "conditions": {"ready": ready}});
        if let Some(pod) = pod {
            entry["targetRef"] = json!({"kind": "Pod", "name": pod, "namespace": namespace});
        }
        entry
    };
    json!({"kind": "EndpointSlice", "addressType": "IPv4", "metadata": {"name": format!("{service}-1"),
        "namespace": namespace, "labels": {"kubernetes.io/service-name": service}},
        "endpoints": entries.iter().map(entry).collect::<Vec<_>>(), "ports": [{"name": "http", "port": 8080}]})
}

/// The gateways now.
fn gateways(staging: &mut Staging) -> Vec<String> {
    let claim = staging.state().networks;
    claim.gateways.iter().map(|g| format!("{} {}:{}", g.network, g.address, g.port)).collect()
}

fn pod_conversions(staging: &Staging) -> u64 {
    staging.counts.pod_conversions.load(Ordering::Relaxed)
}

#[test]
fn r2_5_another_label_or_document_moves_what_depends_on_it_at_once() {
    let mut staging = empty();
    for object in [
        pod("p", "a", "10.1.0.1", ""),
        slice("s", "a", &[(Some("p"), "10.1.0.1", true)]),
        slice("bare", "a", &[(None, "10.1.0.2", true)]),
        balancer("n2", Some("2.3.4.5")),
    ] {
        staging.apply(apply(&object));
    }
    let network_of = |staging: &mut Staging, service: &str| {
        let key = crate::model::ServiceKey::new("a", format!("{service}.a.svc.cluster.local"));
        staging.state().shards[&key].endpoints[0].workload.network.to_string()
    };
    assert_eq!(network_of(&mut staging, "s"), "");
    let cidr = json!({"networks": {"by-cidr": {"endpoints": [{"fromCidr": "10.1.0.0/16"}]}}});
    staging.apply(mesh(&cidr));
    let batch = staging.take();
    assert_eq!((batch.workloads.len(), batch.shards.len()), (1, 2));
    assert_eq!(
        (network_of(&mut staging, "s"), network_of(&mut staging, "bare")),
        ("by-cidr".into(), "by-cidr".into())
    );
    assert!(gateways(&mut staging).is_empty(), "the cluster itself belongs nowhere (D10)");

    let claimed = json!({"networks": {"n2": {"endpoints": [{"fromRegistry": "c1"}]}}});
    staging.apply(mesh(&claimed));
    let batch = staging.take();
    let claim = batch.networks.expect("it belongs to n2 now");
    assert_eq!((claim.network, claim.gateways.len()), (Some("n2".into()), 1));
    assert_eq!((batch.workloads.len(), batch.shards.len()), (1, 2));
    assert_eq!(network_of(&mut staging, "bare"), "n2");

    staging.apply(apply(&system_namespace("n3")));
    assert_eq!(staging.take().networks.expect("n3 now").network, Some("n3".into()));
    assert_eq!(network_of(&mut staging, "s"), "n3");
    assert_eq!(gateways(&mut staging), ["n2 2.3.4.5:15443"], "claimed by n2 as well");
}

#[test]
fn r2_5_what_does_not_concern_the_cluster_costs_it_nothing() {
    let mut staging = empty();
    for n in 0..100 {
        staging.apply(apply(&pod(&format!("p{n}"), "a", &format!("10.1.0.{n}"), "")));
    }
    staging.apply(apply(&system_namespace("n1")));
    staging.take();
    let before = pod_conversions(&staging);
    let others =
        json!({"networks": {"x": {"endpoints": [{"fromRegistry": "c9"}, {"fromCidr": "10.1.0.0/16"}]}}});
    staging.apply(mesh(&others));
    assert!(staging.take().is_empty());
    assert_eq!(pod_conversions(&staging), before, "its label decides: no pod is looked at");
}

#[test]
fn q06_a_service_without_addresses_and_a_deleted_one_lose_their_gateways() {
    let mut staging = empty();
    staging.apply(apply(&system_namespace("n1")));
    staging.apply(apply(&balancer("n1", Some("2.3.4.5"))));
    assert_eq!(gateways(&mut staging), ["n1 2.3.4.5:15443"]);
    staging.apply(apply(&balancer("n1", None)));
    assert!(gateways(&mut staging).is_empty());
    staging.apply(apply(&balancer("n1", Some("2.3.4.6"))));
    assert_eq!(gateways(&mut staging), ["n1 2.3.4.6:15443"]);
    staging.apply(apply(&balancer("", Some("2.3.4.6"))));
    assert!(gateways(&mut staging).is_empty());
    staging.apply(apply(&balancer("n1", Some("2.3.4.6"))));
    staging.apply(delete(&balancer("n1", None)));
    assert!(gateways(&mut staging).is_empty());
}

#[test]
fn r3_7_nodes_with_an_external_ip_come_change_and_go() {
    let mut staging = empty();
    staging.apply(apply(&system_namespace("n1")));
    staging.apply(apply(&node_port("Cluster")));
    staging.take();
    staging.apply(apply(&node("plain", None, "gw")));
    assert!(!staging.dirty.networks, "a node without an ExternalIP does not matter");
    staging.apply(apply(&node("a", Some("5.5.5.1"), "gw")));
    assert_eq!(gateways(&mut staging), ["n1 5.5.5.1:31443"]);
    staging.apply(apply(&node("b", Some("5.5.5.2"), "other")));
    assert_eq!(gateways(&mut staging), ["n1 5.5.5.1:31443"]);
    staging.apply(apply(&node("b", Some("5.5.5.2"), "gw")));
    assert_eq!(gateways(&mut staging).len(), 2);
    staging.apply(apply(&node("b", None, "gw")));
    assert_eq!(gateways(&mut staging), ["n1 5.5.5.1:31443"], "Q6: it lost its ExternalIP");
    staging.apply(delete(&node("a", None, "gw")));
    assert!(gateways(&mut staging).is_empty());
    staging.apply(delete(&node_port("Cluster")));
    staging.take();
    staging.apply(apply(&node("a", Some("5.5.5.1"), "gw")));
    assert!(!staging.dirty.networks, "nobody is reached through nodes");
}

#[test]
fn local_traffic_policy_follows_the_pods() {
    let mut staging = empty();
    let entries = |ready: [bool; 2]| {
        slice("gw", "istio-system", &[(Some("p1"), "10.0.0.1", ready[0]), (Some("p2"), "10.0.0.2", ready[1])])
    };
    for object in [
        system_namespace("n1"),
        node("a", Some("5.5.5.1"), "gw"),
        node("b", Some("5.5.5.2"), "gw"),
        entries([true, false]),
        pod("p1", "istio-system", "10.0.0.1", "a"),
        pod("p2", "istio-system", "10.0.0.2", ""),
        node_port("Local"),
    ] {
        staging.apply(apply(&object));
    }
    assert_eq!(gateways(&mut staging), ["n1 5.5.5.1:31443"]);
    staging.apply(apply(&entries([false, true])));
    assert!(gateways(&mut staging).is_empty(), "p2 is on no node yet");
    staging.apply(apply(&pod("p2", "istio-system", "10.0.0.2", "b")));
    assert_eq!(gateways(&mut staging), ["n1 5.5.5.2:31443"]);
    staging.apply(apply(&node_port("Cluster")));
    assert_eq!(gateways(&mut staging).len(), 2);
}

fn api_gateway(labels: &Value) -> Value {
    json!({"kind": "Gateway", "metadata": {"name": "eastwest", "namespace": "istio-system", "labels": labels},
        "spec": {"gatewayClassName": "istio", "addresses": [{"value": "1.2.3.4"}],
        "listeners": [{"port": 15443, "protocol": "TLS", "tls": {"mode": "Passthrough"}}]}})
}

#[test]
fn q08_a_gateway_that_loses_its_label_or_goes_loses_its_gateways() {
    let mut staging = empty();
    staging.apply(apply(&system_namespace("n1")));
    let labelled = api_gateway(&json!({"topology.istio.io/network": "n1"}));
    for _ in 0..2 {
        staging.apply(apply(&labelled));
        assert_eq!(gateways(&mut staging), ["n1 1.2.3.4:15443"]);
        staging.apply(apply(&api_gateway(&json!({}))));
        assert!(gateways(&mut staging).is_empty());
    }
    staging.apply(apply(&labelled));
    staging.apply(delete(&labelled));
    assert!(gateways(&mut staging).is_empty());
}

#[test]
fn a_kind_that_is_not_served_is_not_waited_for() {
    let mut context = test_context();
    context.gateways = GatewayOptions { gateway_api: true, ..GatewayOptions::default() };
    let ready = |staging: &Staging| staging.networks.is_complete(staging.context.gateways.gateway_api);
    let mut staging = Staging::new(context, "istio-system".into(), Arc::default());
    staging.await_mesh_networks();
    staging.apply(mesh(&json!({})));
    assert!(!ready(&staging), "the Gateways are not listed yet");
    let failed = |failure| StagedEvent::Gateway(SourceEvent::Failed(failure));
    staging.apply(failed(Failure::Unreachable("down".to_owned())));
    assert!(!ready(&staging), "they may still come");
    staging.apply(failed(Failure::NotServed("HTTP 404".to_owned())));
    assert!(ready(&staging));
    // The kind is installed later.
    staging.apply(apply(&system_namespace("n1")));
    staging.apply(StagedEvent::Gateway(SourceEvent::Init));
    let labelled = api_gateway(&json!({"topology.istio.io/network": "n1"}));
    staging.apply(StagedEvent::Gateway(SourceEvent::InitApply(received(&labelled))));
    staging.apply(StagedEvent::Gateway(SourceEvent::InitDone { reason: ListReason::First }));
    assert_eq!(gateways(&mut staging), ["n1 1.2.3.4:15443"]);
    staging.apply(failed(Failure::NotServed("HTTP 404".to_owned())));
    assert_eq!(gateways(&mut staging), ["n1 1.2.3.4:15443"], "an outage takes nothing away");
}

#[test]
fn the_order_of_events_does_not_matter() {
    let document = json!({"networks": {"n2": {"endpoints": [{"fromRegistry": "c1"}], "gateways": [
        {"registryServiceName": "named.istio-system.svc.cluster.local", "port": 443}]}}});
    let named = json!({"kind": "Service", "metadata": {"name": "named", "namespace": "istio-system"},
        "spec": {"ports": [{"port": 443}], "externalIPs": ["9.9.9.9"]}});
    let events = || {
        [
            mesh(&document),
            apply(&system_namespace("n1")),
            apply(&named),
            apply(&node_port("Local")),
            apply(&node("a", Some("5.5.5.1"), "gw")),
            apply(&pod("p1", "istio-system", "10.0.0.1", "a")),
            apply(&slice("gw", "istio-system", &[(Some("p1"), "10.0.0.1", true)])),
            apply(&api_gateway(&json!({"topology.istio.io/network": "n1"}))),
        ]
    };
    let expected = ["n1 1.2.3.4:15443", "n1 5.5.5.1:31443", "n2 9.9.9.9:443"];
    for start in 0..events().len() {
        for backwards in [false, true] {
            let mut order: Vec<_> = events().into_iter().collect();
            order.rotate_left(start);
            if backwards {
                order.reverse();
            }
            let mut staging = empty();
            for event in order {
                staging.apply(event);
                staging.take();
            }
            assert_eq!(gateways(&mut staging), expected, "from {start}, backwards: {backwards}");
        }
    }
}
