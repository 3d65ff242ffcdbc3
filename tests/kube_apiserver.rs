//! The launcher of real API servers: a client's view of start, faults and end.
//!
//! Needs the programs of `make kube-assets`. Without them the tests are skipped loudly; with `CI=true` that is a
//! failure.
// The allowance for tests covers test functions only, not what they share.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Api;
use kube::api::{ListParams, PostParams, WatchEvent, WatchParams};
use serde_json::json;
use tombolo::sim::kube_apiserver::{KubeApiServer, KubeApiServerBuilder, KubeAssets, RunningKubeApiServer};

#[path = "kube/assets.rs"]
mod assets;
#[path = "kube/client.rs"]
mod client;

use self::assets::assets;
use self::client::client;

async fn start(assets: &KubeAssets, builder: KubeApiServerBuilder) -> RunningKubeApiServer {
    builder.cluster("east").start(assets).await.unwrap_or_else(|error| panic!("{error}"))
}

fn config_map(name: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name}, "data": {"is": name}})).unwrap()
}

/// Waits for `future` until a deadline that a working server never needs.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("it happens within a minute")
}

/// The processes that run in `dir`.
fn processes_in(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        if std::fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(dir)) {
            let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            found.push(String::from_utf8_lossy(&command).replace('\0', " "));
        }
    }
    found
}

/// Waits until nothing runs in `dir`.
async fn nothing_left_in(dir: &Path) {
    soon(async {
        while !processes_in(dir).is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn objects_outlive_a_killed_server_and_nothing_outlives_a_stopped_one() {
    let Some(assets) = assets() else { return };
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path().canonicalize().unwrap();
    let mut server = start(&assets, KubeApiServer::builder().dir(dir.clone())).await;
    assert_eq!(server.url(), format!("https://{}", server.address()));
    let maps: Api<ConfigMap> = Api::default_namespaced(client(&server.kubeconfig()).await);
    let version = maps.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    let mut events = maps.watch(&WatchParams::default(), &version).await.unwrap().boxed();
    maps.create(&PostParams::default(), &config_map("one")).await.unwrap();
    match soon(events.try_next()).await.unwrap() {
        Some(WatchEvent::Added(map)) => assert_eq!(map.metadata.name.as_deref(), Some("one")),
        other => panic!("expected the new object, got {other:?}"),
    }

    server.kill_api().await;
    server.check_running().expect("killed on purpose");
    let refused = maps.list(&ListParams::default()).await.unwrap_err();
    assert!(matches!(refused, kube::Error::HyperError(_) | kube::Error::Service(_)), "{refused:?}");
    server.resume_api().await.unwrap();
    assert_eq!(maps.get("one").await.unwrap().data.unwrap()["is"], "one");

    let address = server.address();
    assert_eq!(processes_in(&dir).len(), 2, "{:?}", processes_in(&dir));
    server.stop().await;
    assert_eq!(processes_in(&dir), [""; 0]);
    std::net::TcpListener::bind(address).expect("the address is free");
}

#[tokio::test]
async fn a_hanging_server_takes_requests_and_answers_when_it_goes_on() {
    let Some(assets) = assets() else { return };
    let server = start(&assets, KubeApiServer::builder()).await;
    let client = client(&server.kubeconfig()).await;
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    server.hang();
    let (settings, late) = (PostParams::default(), config_map("late"));
    let mut written = std::pin::pin!(maps.create(&settings, &late));
    let early = tokio::time::timeout(Duration::from_millis(500), written.as_mut()).await;
    assert!(early.is_err(), "a stopped server does not answer");
    server.unhang();
    soon(written).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn two_servers_run_side_by_side_and_a_dropped_one_is_gone() {
    let Some(assets) = assets() else { return };
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path().canonicalize().unwrap();
    let (first, second) = tokio::join!(
        start(&assets, KubeApiServer::builder().dir(dir.join("first"))),
        start(&assets, KubeApiServer::builder().dir(dir.join("second")).logs(dir.clone())),
    );
    assert!(dir.join("east-kube-apiserver.log").is_file() && dir.join("east-etcd.log").is_file());
    let maps: Api<ConfigMap> = Api::default_namespaced(client(&first.kubeconfig()).await);
    maps.create(&PostParams::default(), &config_map("here")).await.unwrap();
    let there: Api<ConfigMap> = Api::default_namespaced(client(&second.kubeconfig()).await);
    assert!(there.get_opt("here").await.unwrap().is_none());
    drop((first, second));
    nothing_left_in(&dir).await;
}

#[tokio::test]
async fn what_a_fresh_server_holds_is_known() {
    let Some(assets) = assets() else { return };
    let server = start(&assets, KubeApiServer::builder().service_range("10.20.0.0/16")).await;
    let client = client(&server.kubeconfig()).await;
    let namespaces = Api::<Namespace>::all(client.clone()).list(&ListParams::default()).await.unwrap();
    let names: Vec<_> = namespaces.items.iter().filter_map(|item| item.metadata.name.as_deref()).collect();
    assert!(names.contains(&"default") && names.contains(&"kube-system"), "{names:?}");
    let services: Api<Service> = Api::namespaced(client.clone(), "default");
    let own = soon(async {
        loop {
            if let Some(own) = services.get_opt("kubernetes").await.unwrap() {
                return own;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(own.spec.unwrap().cluster_ip.as_deref(), Some("10.20.0.1"));
    // On loopback it goes without.
    let slices = Api::<EndpointSlice>::all(client).list(&ListParams::default()).await.unwrap();
    assert_eq!(slices.items, []);
    server.stop().await;
}

#[tokio::test]
async fn an_address_in_use_is_refused_with_its_name() {
    let Some(assets) = assets() else { return };
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = taken.local_addr().unwrap();
    let error = KubeApiServer::builder().cluster("west").listen(address).start(&assets).await.unwrap_err();
    assert_eq!(error.to_string(), format!("cannot listen on {address} for the API server of cluster west"));
}
