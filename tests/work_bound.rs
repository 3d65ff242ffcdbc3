//! The work of one change, counted from the API server to the proxies.
//!
//! One slice change in a world of 1 000 services = 1 conversion, 1 publish, at most (projections × Envoy cluster
//! names of that service) builds, wake-ups of subscribed streams only, 1 message to each subscribed proxy.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, dead_code)]

#[path = "ads/client.rs"]
mod client;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use client::{Delta, sidecar};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tombolo::ingest::{self, ConfigCluster, ConfigSource, IngestOptions, Remotes};
use tombolo::registry::Registry;
use tombolo::sim::apiserver::ApiServer;
use tombolo::xds::resource::ResourceType::Endpoint;
use tombolo::xds::{Settings, XdsServer};

const SERVICES: usize = 1_000;
const LIMIT: Duration = Duration::from_secs(60);

fn service(n: usize) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": format!("s{n}"), "namespace": "sample"},
        "spec": {"ports": [{"name": "http", "port": 80, "protocol": "TCP"}]}})
}

/// The slice of a service with `count` bare addresses.
fn slice(n: usize, count: usize) -> Value {
    let endpoint = |i: usize| json!({"addresses": [format!("10.{}.{}.{}", n / 250, n % 250, i + 1)], "conditions": {"ready": true}});
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": format!("s{n}-a"), "namespace": "sample",
            "labels": {"kubernetes.io/service-name": format!("s{n}")}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": (0..count).map(endpoint).collect::<Vec<_>>()})
}

fn eds(n: usize) -> String {
    format!("outbound|80||s{n}.sample.svc.cluster.local")
}

#[tokio::test(flavor = "multi_thread")]
async fn one_slice_change_costs_one_of_everything() {
    let mut objects = vec![json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "sample"}})];
    objects.extend((0..SERVICES).flat_map(|n| [service(n), slice(n, 1)]));
    let east = ApiServer::builder().cluster("east").world(objects).start().await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kubeconfig");
    std::fs::write(&path, east.kubeconfig()).unwrap();
    let options = IngestOptions {
        config: Some(ConfigCluster {
            id: "east".into(),
            source: ConfigSource::Kubeconfig { path, context: None },
        }),
        remotes: Remotes::None,
        allow_loopback_clusters: true,
        ..IngestOptions::default()
    };
    let (registry, shutdown) = (Registry::new(), CancellationToken::new());
    let ingest = ingest::start(options, Arc::clone(&registry), shutdown.clone()).await.unwrap();
    assert!(tokio::time::timeout(LIMIT, ingest.wait_ready()).await.unwrap());
    let server = XdsServer::new(Arc::clone(&registry), Settings::default(), None);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (serving, ready, token) = (Arc::clone(&server), ingest.ready(), shutdown.clone());
    let running = tokio::spawn(async move { serving.serve(vec![listener.into()], ready, token).await });

    // Two projections watch the service, by three proxies; a fourth proxy watches everything else.
    let mut watching = Vec::new();
    for (name, network) in [("a", "n1"), ("b", "n1"), ("c", "n2")] {
        let mut stream = Delta::open(address, sidecar(name, "east", network)).await;
        stream.subscribe(Endpoint, &[&eds(7)]).await;
        stream.expect(Endpoint).await;
        watching.push(stream);
    }
    let others: Vec<String> = (0..SERVICES).filter(|n| *n != 7).map(eds).collect();
    let mut elsewhere = Delta::open(address, sidecar("d", "east", "n1")).await;
    elsewhere.subscribe(Endpoint, &others.iter().map(String::as_str).collect::<Vec<_>>()).await;
    elsewhere.expect(Endpoint).await;

    let counts = || {
        [
            ingest.counts().conversions.load(Ordering::Relaxed),
            registry.counts().publishes.load(Ordering::Relaxed),
            server.counts().assignment_builds.load(Ordering::Relaxed),
            server.counts().wakeups.load(Ordering::Relaxed),
            server.counts().responses.get(Endpoint),
        ]
    };
    let before = counts();
    let started = Instant::now();
    east.store().apply(slice(7, 3)).unwrap();
    for stream in &mut watching {
        assert_eq!(stream.expect(Endpoint).await.names(), [eds(7)]);
    }
    assert!(started.elapsed() < client::DEADLINE);
    elsewhere.silent().await;
    let spent: Vec<_> = counts().iter().zip(before).map(|(after, before)| after - before).collect();
    // 1 conversion, 1 publish, 2 projections × 1 name, 3 streams, 3 messages.
    assert_eq!(spent, [1, 1, 2, 3, 3]);

    shutdown.cancel();
    tokio::time::timeout(client::DEADLINE, running).await.unwrap().unwrap();
}
