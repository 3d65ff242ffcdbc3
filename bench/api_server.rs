//! The synthetic API server as its clients see it: start, memory, lists, watches.
//!
//! `cargo bench --bench api_server [-- services=10000,endpoints=1000000]`; results in `bench/runs/`.
#![allow(missing_docs, clippy::print_stdout, clippy::expect_used)]

use std::time::{Duration, Instant};

use futures::{StreamExt as _, TryStreamExt as _};
use http::Request;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, PostParams, WatchEvent, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use tombolo::sim::apiserver::ApiServer;
use tombolo::sim::world::{Generate, generate};

/// Objects of a page, as most clients ask.
const PAGE: usize = 500;
/// Changes whose way to a watcher is timed.
const CHANGES: usize = 30;
/// The size with `--test`.
const SMALL: &str = "services=5,endpoints=1500";
const DEFAULT: &str = "services=10000,endpoints=1000000";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let size = match arguments.first().map(String::as_str) {
        None => DEFAULT,
        Some("--test") => SMALL,
        Some(size) => size,
    };
    let size: Generate = size.parse().expect("services=N,endpoints=M");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(measure(size));
}

async fn measure(size: Generate) {
    println!("services={},endpoints={}", size.services, size.endpoints);
    let start = Instant::now();
    let server = ApiServer::builder().world(generate(size)).start().await.expect("a server");
    row("start", start.elapsed(), &memory());
    let client = client(&server.kubeconfig()).await;

    let start = Instant::now();
    let bytes = body(&client, "/api/v1/pods").await;
    row("all pods, one list", start.elapsed(), &format!("{} MB of JSON, {}", bytes >> 20, memory()));

    let (start, mut pages, mut slowest, mut next) = (Instant::now(), 0, Duration::ZERO, String::new());
    loop {
        let page = Instant::now();
        let text = text(&client, &format!("/api/v1/pods?limit={PAGE}&continue={next}")).await;
        slowest = slowest.max(page.elapsed());
        pages += 1;
        // The head alone: parsing pages would measure the client.
        next =
            text.split("\"continue\":\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or("").into();
        if next.is_empty() {
            break;
        }
    }
    row("all pods in pages", start.elapsed(), &format!("{pages} pages, the slowest {slowest:.1?}"));

    let start = Instant::now();
    let bytes = body(&client, "/api/v1/pods?fieldSelector=spec.nodeName%3Dnode-7").await;
    row("pods of one node", start.elapsed(), &format!("{} KB of JSON", bytes >> 10));

    let alone = latency(&client, "alone").await;
    row("change to watcher, median", alone.0, &format!("the slowest {:.1?} of {CHANGES}", alone.1));
    let lister = tokio::spawn({
        let client = client.clone();
        async move {
            loop {
                body(&client, "/api/v1/pods").await;
            }
        }
    });
    let busy = latency(&client, "busy").await;
    lister.abort();
    match lister.await {
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // It was ended before the server is: nobody asks a server that is gone.
        _ => {}
    }
    row("the same beside endless lists", busy.0, &format!("the slowest {:.1?} of {CHANGES}", busy.1));
    server.shutdown().await;
}

/// Median and slowest time from sending a create to its watch event on another request.
async fn latency(client: &Client, name: &str) -> (Duration, Duration) {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    let mut events = api.watch(&WatchParams::default(), "0").await.expect("a watch").boxed();
    let options = PostParams::default();
    let mut times = Vec::with_capacity(CHANGES);
    for n in 0..CHANGES {
        let mut object = ConfigMap::default();
        object.metadata.name = Some(format!("{name}-{n}"));
        let start = Instant::now();
        let (created, ()) = tokio::join!(api.create(&options, &object), async {
            while let Some(event) = events.try_next().await.expect("an event") {
                if matches!(&event, WatchEvent::Added(seen) if seen.metadata.name == object.metadata.name) {
                    times.push(start.elapsed());
                    return;
                }
            }
        });
        created.expect("created");
    }
    times.sort();
    (times[times.len() / 2], times[times.len() - 1])
}

async fn client(kubeconfig: &str) -> Client {
    let kubeconfig = Kubeconfig::from_yaml(kubeconfig).expect("a kubeconfig");
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .expect("a usable kubeconfig");
    config.proxy_url = None;
    config.read_timeout = None;
    Client::try_from(config).expect("a client")
}

async fn text(client: &Client, path: &str) -> String {
    client.request_text(Request::get(path).body(Vec::new()).expect("a request")).await.expect("an answer")
}

async fn body(client: &Client, path: &str) -> usize {
    text(client, path).await.len()
}

/// Resident memory of this process, server and client.
fn memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("?").trim().to_owned();
    format!("VmRSS {}", line("VmRSS:"))
}

fn row(what: &str, took: Duration, detail: &str) {
    println!("{what:<32} {:>10}   {detail}", format!("{took:.1?}"));
}
