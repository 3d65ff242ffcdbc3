//! What one object of an API server costs: our two decoders against the typed objects of `k8s-openapi`, in one run.
//!
//! `cargo bench --bench decode`. P9: an EndpointSlice event, decoded and compared with the version held, takes at
//! most 0.3 of the time that serde_json into `k8s-openapi` takes for the same.
#![allow(missing_docs, unreachable_pub, clippy::print_stdout, clippy::expect_used)]

#[path = "cost.rs"]
mod cost;
#[path = "../tests/objects/schema.rs"]
mod schema;

use std::hint::black_box;
use std::sync::Arc;

use cost::Way;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tombolo::ingest::Counts;
use tombolo::ingest::convert::ClusterContext;
use tombolo::ingest::objects::wire::{Encoding, Received, WatchFrame, decode_frame, decode_one};
use tombolo::ingest::objects::{Object, PodObject, ServiceObject, SliceObject};
use tombolo::ingest::staging::{StagedEvent, Staging};
use tombolo::ingest::watch::SourceEvent;

/// As in the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Endpoints of the slice, and its ports.
const ENDPOINTS: usize = 100;
const PORTS: usize = 2;
/// Rounds of which the best counts.
const ROUNDS: usize = 200;

fn main() {
    let rounds = if std::env::args().any(|word| word == "--test") { 1 } else { ROUNDS };
    kind::<EndpointSlice, SliceObject>(rounds, &slice());
    path(rounds);
    kind::<Pod, PodObject>(rounds, &pod());
    kind::<Service, ServiceObject>(rounds, &service());
}

/// Metadata as a cluster in use has it: most of it is of no interest here.
fn metadata(name: &str, fields: usize) -> Value {
    let managed: serde_json::Map<String, Value> =
        (0..fields).map(|i| (format!("f:field-{i}"), json!({".": {}, "f:inner": {}}))).collect();
    json!({"name": name, "namespace": "shop", "uid": "5c1f5f3c-9f5d-4b7a-8a53-8c6f4a3b2c1d",
        "resourceVersion": "48151623", "generation": 42, "creationTimestamp": "2026-01-02T03:04:05Z",
        "labels": {"app": "cart", "kubernetes.io/service-name": "cart",
            "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"},
        "annotations": {"endpoints.kubernetes.io/last-change-trigger-time": "2026-01-02T03:04:05Z"},
        "ownerReferences": [{"apiVersion": "v1", "kind": "Service", "name": "cart", "uid": "u", "controller": true,
            "blockOwnerDeletion": true}],
        "managedFields": [{"manager": "kube-controller-manager", "operation": "Update", "apiVersion": "v1",
            "time": "2026-01-02T03:04:05Z", "fieldsType": "FieldsV1", "fieldsV1": managed}]})
}

/// A slice.
fn slice() -> Value {
    let endpoints: Vec<Value> = (0..ENDPOINTS)
        .map(|i| {
            json!({"addresses": [format!("10.1.4.{i}")], "nodeName": format!("worker-{}", i % 10), "zone": "eu-1a",
                "conditions": {"ready": true, "serving": true, "terminating": false},
                "targetRef": {"kind": "Pod", "namespace": "shop", "name": format!("cart-5d8f7c9b6-x{i:04}"),
                    "uid": format!("0b9dfe2c-62c7-4bb8-9d7a-0d9d3f6b{i:04}")}})
        })
        .collect();
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata("cart-abcde", 20),
        "addressType": "IPv4", "endpoints": endpoints,
        "ports": [{"name": "http", "protocol": "TCP", "port": 8080}, {"name": "grpc", "port": 9090}]})
}

fn pod() -> Value {
    let container = json!({"name": "app", "image": "registry.example/cart:1.2.3", "ports": [{"containerPort": 8080}],
        "env": (0..30).map(|i| json!({"name": format!("SETTING_{i}"), "value": "a value of some length"}))
            .collect::<Vec<_>>(),
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}, "periodSeconds": 5}});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata("cart-5d8f7c9b6-x0001", 60),
        "spec": {"nodeName": "worker-1", "serviceAccountName": "cart", "containers": [container, container]},
        "status": {"phase": "Running", "podIP": "10.1.4.1", "podIPs": [{"ip": "10.1.4.1"}],
            "conditions": [{"type": "Initialized", "status": "True"}, {"type": "Ready", "status": "True"}]}})
}

/// The pod behind an endpoint of the slice.
fn endpoint_pod(i: usize) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("cart-5d8f7c9b6-x{i:04}"),
            "namespace": "shop", "resourceVersion": "48151623", "labels": {"app": "cart"}},
        "spec": {"serviceAccountName": "cart"},
        "status": {"phase": "Running", "podIP": format!("10.1.4.{i}"),
            "conditions": [{"type": "Ready", "status": "True"}]}})
}

fn service() -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata("cart", 20),
        "spec": {"type": "ClusterIP", "clusterIP": "10.96.1.2", "clusterIPs": ["10.96.1.2"],
            "selector": {"app": "cart"}, "sessionAffinity": "None", "ipFamilies": ["IPv4"],
            "ports": [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP", "appProtocol": "http"}]},
        "status": {"loadBalancer": {}}})
}

fn line(object: &Value) -> Vec<u8> {
    format!(r#"{{"type":"MODIFIED","object":{object}}}"#).into_bytes()
}

fn frame(object: &Value) -> Vec<u8> {
    let text = |field: &str| object[field].as_str().expect("a kind").to_owned();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    schema::event("MODIFIED", &schema::envelope(&api_version, &kind, &schema::message(&kind, object)))
}

#[derive(Deserialize)]
struct TypedEvent<T> {
    #[serde(rename = "type")]
    _type: String,
    object: T,
}

/// The yardstick: the whole object, typed, compared with the one held.
fn typed<T: DeserializeOwned + PartialEq>(object: &Value) -> impl FnMut() + use<T> {
    let bytes = line(object);
    let read = |bytes: &[u8]| serde_json::from_slice::<TypedEvent<T>>(bytes).expect("an event").object;
    let held = read(&bytes);
    move || assert!(read(black_box(&bytes)) == held)
}

fn read<T: Object>(encoding: Encoding, bytes: &[u8]) -> Received<T> {
    match decode_frame::<T>(encoding, black_box(bytes)).expect("an event") {
        WatchFrame::Modified(received) => received,
        _ => panic!("another event"),
    }
}

fn encoded(encoding: Encoding, object: &Value) -> Vec<u8> {
    match encoding {
        Encoding::Json => line(object),
        Encoding::Protobuf => frame(object),
    }
}

fn ours<T: Object + PartialEq>(encoding: Encoding, object: &Value) -> impl FnMut() + use<T> {
    let bytes = encoded(encoding, object);
    let held = read::<T>(encoding, &bytes).object;
    move || assert!(read::<T>(encoding, &bytes).object == held)
}

fn kind<Typed: DeserializeOwned + PartialEq, Ours: Object + PartialEq>(rounds: usize, object: &Value) {
    let (text, binary) = (line(object).len(), frame(object).len());
    let title = format!("{}: decode, compare ({text} B of JSON, {binary} of protobuf)", Ours::KIND);
    let ways = vec![
        Way::new("k8s-openapi, JSON", typed::<Typed>(object)),
        Way::new("ours, JSON", ours::<Ours>(Encoding::Json, object)),
        Way::new("ours, protobuf", ours::<Ours>(Encoding::Protobuf, object)),
    ];
    cost::compare(&title, rounds, ways);
}

/// What holds the slice, its pods and its Service.
fn staging() -> Staging {
    let mut staging =
        Staging::new(ClusterContext::new("c".into()), "istio-system".into(), Arc::new(Counts::default()));
    for i in 0..ENDPOINTS {
        staging.apply(StagedEvent::Pod(SourceEvent::Apply(listed(&endpoint_pod(i)))));
    }
    staging.apply(StagedEvent::Service(SourceEvent::Apply(listed(&service()))));
    staging.apply(StagedEvent::Slice(SourceEvent::Apply(listed(&slice()))));
    let batch = staging.take();
    assert!(batch.shards.iter().any(|(_, shard)| {
        shard.as_ref().is_some_and(|shard| shard.endpoints.len() == ENDPOINTS * PORTS)
    }));
    staging
}

fn listed<T: Object>(object: &Value) -> Received<T> {
    decode_one(Encoding::Json, object.to_string().as_bytes()).expect("an object")
}

/// Events as they come, into what holds the cluster: `objects` in turn, each newer than the one before.
fn events(encoding: Encoding, objects: &[Value], publish: bool) -> impl FnMut() + use<> {
    let bytes: Vec<_> = objects.iter().map(|object| encoded(encoding, object)).collect();
    // What is held is the first one.
    let (mut staging, mut revision, mut turn) = (staging(), 1 << 40, bytes.len() - 1);
    move || {
        let mut received: Received<SliceObject> = read(encoding, &bytes[turn % bytes.len()]);
        (revision, turn) = (revision + 1, turn + 1);
        received.revision = Some(revision);
        staging.apply(StagedEvent::Slice(SourceEvent::Apply(received)));
        if publish {
            let batch = staging.take();
            assert_eq!(batch.shards.len(), bytes.len() - 1);
        }
    }
}

/// From the bytes of an event of a slice to what is held, and on to what is published.
fn path(rounds: usize) {
    let (same, mut other) = (slice(), slice());
    other["endpoints"][ENDPOINTS / 2]["conditions"]["ready"] = json!(false);
    let (same, changed) = (vec![same.clone()], vec![same, other]);
    let yardstick = || Way::new("k8s-openapi, JSON: decode, compare", typed::<EndpointSlice>(&same[0]));
    let both = [("JSON", Encoding::Json), ("protobuf", Encoding::Protobuf)];
    let way = |name: &str, encoding, objects: &[Value], publish| {
        Way::new(format!("ours, {name}").leak(), events(encoding, objects, publish))
    };
    for (title, objects, publish) in [
        ("EndpointSlice: event into what is held, nothing differs", &same[..], true),
        ("EndpointSlice: event into what is held, one endpoint differs", &changed[..], false),
        ("EndpointSlice: the same, and all endpoints of its service converted", &changed[..], true),
    ] {
        let ours = both.map(|(name, encoding)| way(name, encoding, objects, publish));
        cost::compare(title, rounds, std::iter::once(yardstick()).chain(ours).collect());
    }
}
