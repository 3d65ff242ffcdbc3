//! What one object of an API server costs: our two decoders against the typed objects of `k8s-openapi`, in one run.
//!
//! `cargo bench --bench decode`. P9: an EndpointSlice event, decoded and compared with the version held, takes at
//! most 0.3 of the time that serde_json into `k8s-openapi` takes for the same.

#[path = "../tests/objects/schema.rs"]
mod schema;

use divan::{Bencher, black_box};
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tombolo::ingest::objects::wire::{Encoding, WatchFrame, decode_frame};
use tombolo::ingest::objects::{Object, PodObject, ServiceObject, SliceObject};

fn main() {
    divan::main();
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

/// A slice of 100 endpoints.
fn slice() -> Value {
    let endpoints: Vec<Value> = (0..100)
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
#[serde(rename_all = "camelCase")]
struct TypedEvent<T> {
    #[serde(rename = "type")]
    _type: String,
    object: T,
}

/// The yardstick: the whole object, typed.
fn typed<T: DeserializeOwned + PartialEq + Sync>(bencher: Bencher<'_, '_>, object: &Value) {
    let bytes = line(object);
    let read = |bytes: &[u8]| serde_json::from_slice::<TypedEvent<T>>(bytes).expect("an event").object;
    let held = read(&bytes);
    bencher.counter(divan::counter::BytesCount::of_slice(&bytes)).bench(|| read(black_box(&bytes)) == held);
}

fn ours<T: Object + PartialEq>(bencher: Bencher<'_, '_>, encoding: Encoding, object: &Value) {
    let bytes = match encoding {
        Encoding::Json => line(object),
        Encoding::Protobuf => frame(object),
    };
    let read = |bytes: &[u8]| match decode_frame::<T>(encoding, bytes).expect("an event") {
        WatchFrame::Modified(received) => received.object.expect("readable"),
        _ => panic!("another event"),
    };
    let held = read(&bytes);
    bencher.counter(divan::counter::BytesCount::of_slice(&bytes)).bench(|| read(black_box(&bytes)) == held);
}

macro_rules! kind {
    ($name:ident, $typed:ty, $ours:ty) => {
        mod $name {
            use super::*;

            #[divan::bench]
            fn a_k8s_openapi_json(bencher: Bencher<'_, '_>) {
                typed::<$typed>(bencher, &super::$name());
            }

            #[divan::bench]
            fn b_ours_json(bencher: Bencher<'_, '_>) {
                ours::<$ours>(bencher, Encoding::Json, &super::$name());
            }

            #[divan::bench]
            fn c_ours_protobuf(bencher: Bencher<'_, '_>) {
                ours::<$ours>(bencher, Encoding::Protobuf, &super::$name());
            }
        }
    };
}

kind!(slice, EndpointSlice, SliceObject);
kind!(pod, Pod, PodObject);
kind!(service, Service, ServiceObject);
