//! The synthetic API server as real clients meet it: HTTPS on loopback, kube's client, kubectl's requests.
//!
//! Every test runs its own servers on free ports. The runtime has one thread: writes made in process between
//! two awaits happen while no server task runs.
// The allowance for tests covers test functions only, not what they share.
#![allow(clippy::unwrap_used)]

use std::future::Future;
use std::time::Duration;

use kube::api::{ApiResource, DynamicObject, WatchEvent};
use kube::core::GroupVersionKind;
use kube::{Api, Client};
use serde_json::{Value, json};
use tombolo::sim::apiserver::{ApiServer, RunningApiServer, kinds};

#[path = "sim_apiserver/access.rs"]
mod access;
#[path = "sim_apiserver/definitions.rs"]
mod definitions;
#[path = "sim_apiserver/deletions.rs"]
mod deletions;
#[path = "sim_apiserver/faults.rs"]
mod faults;
#[path = "sim_apiserver/forms.rs"]
mod forms;
#[path = "sim_apiserver/freeze.rs"]
mod freeze;
#[path = "kube/client.rs"]
mod from_kubeconfig;
#[path = "sim_apiserver/lists.rs"]
mod lists;
#[path = "sim_apiserver/objects.rs"]
mod objects;
#[path = "sim_apiserver/patches.rs"]
mod patches;
#[path = "sim_apiserver/protobuf.rs"]
mod protobuf;
#[path = "sim_apiserver/raw.rs"]
mod raw;
#[path = "sim_apiserver/tokens.rs"]
mod tokens;
#[path = "sim_apiserver/watches.rs"]
mod watches;

use self::from_kubeconfig::client as client_from;

/// A server with the namespace `sample`.
async fn east() -> RunningApiServer {
    start(ApiServer::builder().cluster("east")).await
}

async fn start(builder: tombolo::sim::apiserver::ApiServerBuilder) -> RunningApiServer {
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "sample"}});
    builder.world([namespace]).start().await.unwrap()
}

/// kube's client, set up as a user does: from the kubeconfig alone.
async fn client(server: &RunningApiServer) -> Client {
    client_from(&server.kubeconfig()).await
}

fn resource(kind: &kinds::Kind) -> ApiResource {
    let gvk = GroupVersionKind::gvk(&kind.group, &kind.version, &kind.kind);
    ApiResource::from_gvk_with_plural(&gvk, &kind.plural)
}

fn in_sample(client: &Client, kind: &kinds::Kind) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), "sample", &resource(kind))
}

fn everywhere(client: &Client, kind: &kinds::Kind) -> Api<DynamicObject> {
    Api::all_with(client.clone(), &resource(kind))
}

fn service(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Service",
           "metadata": {"namespace": "sample", "name": name, "labels": {"app": name}},
           "spec": {"ports": [{"name": "http", "port": 5000}]}})
}

fn object(value: Value) -> DynamicObject {
    serde_json::from_value(value).unwrap()
}

fn name(object: &DynamicObject) -> String {
    object.metadata.name.clone().unwrap_or_default()
}

/// The HTTP code of a refusal.
fn code<T: std::fmt::Debug>(result: Result<T, kube::Error>) -> u16 {
    match result {
        Err(kube::Error::Api(status)) => status.code,
        other => panic!("expected a Status, got {other:?}"),
    }
}

/// `event` in a line: `ADDED a`, `ERROR 410`, `BOOKMARK`.
fn told(event: &WatchEvent<DynamicObject>) -> String {
    match event {
        WatchEvent::Added(object) => format!("ADDED {}", name(object)),
        WatchEvent::Modified(object) => format!("MODIFIED {}", name(object)),
        WatchEvent::Deleted(object) => format!("DELETED {}", name(object)),
        WatchEvent::Bookmark(_) => "BOOKMARK".to_owned(),
        WatchEvent::Error(status) => format!("ERROR {}", status.code),
    }
}

/// Waits for `future` until a deadline that a working server never needs.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("it happens within 20 seconds")
}
