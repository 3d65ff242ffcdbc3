//! From the pages of the lists to a registry that is ready: 90 000 endpoints in three clusters (P10).
//!
//! `cargo bench --bench ingest [-- 90000]`; method and results in `bench/README.md`. The pages are in memory: what
//! is counted is the CPU time of decoding, staging, converting and publishing, in one thread. The yardstick reads
//! the same pages into typed objects and throws them away.
#![allow(missing_docs, unreachable_pub, clippy::print_stdout, clippy::expect_used, dead_code)]

#[path = "cluster.rs"]
mod cluster;
#[path = "../tests/objects/schema.rs"]
mod schema;

use std::sync::Arc;
use std::time::Duration;

use cluster::{PAGE, PODS_PER_SERVICE, Shape, pages};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tombolo::ingest::Counts;
use tombolo::ingest::convert::ClusterContext;
use tombolo::ingest::objects::Object;
use tombolo::ingest::objects::wire::{Encoding, decode_list};
use tombolo::ingest::staging::{StagedEvent, Staging};
use tombolo::ingest::watch::{ListReason, SourceEvent};
use tombolo::model::ClusterRole;
use tombolo::registry::{ClusterWriter, Registry};

/// As in the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CLUSTERS: u8 = 3;
const ENDPOINTS: usize = 90_000;
const SMALL: usize = 600;
/// Runs of each; the median counts.
const RUNS: usize = 5;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let (endpoints, runs) = match arguments.first().map(String::as_str) {
        None => (ENDPOINTS, RUNS),
        Some("--test") => (SMALL, 1),
        Some(number) => (number.parse().expect("a number of endpoints"), RUNS),
    };
    let services = endpoints.div_ceil(usize::from(CLUSTERS) * PODS_PER_SERVICE);
    let shapes: Vec<_> =
        (0..CLUSTERS).map(|number| Shape { number, services, pods: PODS_PER_SERVICE }).collect();
    let json: Vec<_> = shapes.iter().map(|shape| Lists::json(*shape)).collect();
    println!(
        "{endpoints} endpoints in {CLUSTERS} clusters, {PODS_PER_SERVICE} to a Service, pages of {PAGE}"
    );
    row("k8s-openapi, JSON, decoded only", &json, runs, |lists| lists.iter().for_each(Lists::typed));
    row("JSON, list to ready", &json, runs, |lists| drop(ready(lists, Encoding::Json)));
    drop(json);
    let protobuf: Vec<_> = shapes.iter().map(|shape| Lists::protobuf(*shape)).collect();
    row("protobuf, list to ready", &protobuf, runs, |lists| drop(ready(lists, Encoding::Protobuf)));
}

fn row(what: &str, lists: &[Lists], runs: usize, work: fn(&[Lists])) {
    let mut times: Vec<Duration> = (0..runs)
        .map(|_| {
            let start = cpu();
            work(lists);
            cpu() - start
        })
        .collect();
    times.sort();
    let bytes: usize = lists.iter().map(Lists::bytes).sum();
    let (median, best) = (times[times.len() / 2], times[0]);
    println!("{what:<34} {:>10} CPU   best {best:.1?}, {} MB", format!("{median:.1?}"), bytes >> 20);
}

/// The pages of one cluster.
struct Lists {
    namespaces: Vec<Vec<u8>>,
    nodes: Vec<Vec<u8>>,
    pods: Vec<Vec<u8>>,
    services: Vec<Vec<u8>>,
    slices: Vec<Vec<u8>>,
}

impl Lists {
    fn json(shape: Shape) -> Self {
        Self {
            namespaces: pages("Namespace", "v1", shape.namespaces()).collect(),
            nodes: pages("Node", "v1", shape.nodes()).collect(),
            pods: pages("Pod", "v1", shape.pods()).collect(),
            services: pages("Service", "v1", shape.services()).collect(),
            slices: pages("EndpointSlice", "discovery.k8s.io/v1", shape.slices()).collect(),
        }
    }

    fn protobuf(shape: Shape) -> Self {
        fn all(kind: &str, items: impl Iterator<Item = Value>) -> Vec<Vec<u8>> {
            let messages: Vec<Vec<u8>> = items.map(|item| schema::message(kind, &item)).collect();
            messages.chunks(PAGE).map(|page| schema::list(kind, "1000000", page)).collect()
        }
        Self {
            namespaces: all("Namespace", shape.namespaces()),
            nodes: all("Node", shape.nodes()),
            pods: all("Pod", shape.pods()),
            services: all("Service", shape.services()),
            slices: all("EndpointSlice", shape.slices()),
        }
    }

    fn bytes(&self) -> usize {
        let all = [&self.namespaces, &self.nodes, &self.pods, &self.services, &self.slices];
        all.into_iter().flatten().map(Vec::len).sum()
    }

    /// The yardstick: every page as a list of typed objects.
    fn typed(&self) {
        fn all<T: DeserializeOwned>(pages: &[Vec<u8>]) {
            #[derive(serde::Deserialize)]
            struct List<T> {
                items: Vec<T>,
            }
            for page in pages {
                let list: List<T> = serde_json::from_slice(page).expect("a list");
                divan::black_box(list.items);
            }
        }
        all::<Namespace>(&self.namespaces);
        all::<Node>(&self.nodes);
        all::<Pod>(&self.pods);
        all::<Service>(&self.services);
        all::<EndpointSlice>(&self.slices);
    }
}

/// All clusters, from their lists to the registry.
fn ready(lists: &[Lists], encoding: Encoding) -> (Arc<Registry>, Vec<(Staging, ClusterWriter)>) {
    let registry = Registry::new();
    let mut clusters = Vec::new();
    for (number, lists) in lists.iter().enumerate() {
        let cluster = format!("c{number}");
        let context = ClusterContext::new(cluster.as_str().into());
        let mut staging = Staging::new(context, "istio-system".into(), Arc::new(Counts::default()));
        list(&mut staging, StagedEvent::Namespace, encoding, &lists.namespaces);
        list(&mut staging, StagedEvent::Node, encoding, &lists.nodes);
        list(&mut staging, StagedEvent::Pod, encoding, &lists.pods);
        list(&mut staging, StagedEvent::Service, encoding, &lists.services);
        list(&mut staging, StagedEvent::Slice, encoding, &lists.slices);
        assert!(staging.is_complete() && staging.pending_pods() == 0);
        let role = if number == 0 { ClusterRole::Config } else { ClusterRole::Remote };
        let mut writer = registry.writer(cluster.as_str().into(), role).expect("the only writer");
        writer.replace(staging.state());
        clusters.push((staging, writer));
    }
    assert!(!registry.changes().take().is_empty());
    (registry, clusters)
}

fn list<T: Object>(
    staging: &mut Staging,
    event: fn(SourceEvent<T>) -> StagedEvent,
    encoding: Encoding,
    pages: &[Vec<u8>],
) {
    staging.apply(event(SourceEvent::Init));
    for page in pages {
        for item in decode_list::<T>(encoding, page).expect("a list").items {
            staging.apply(event(SourceEvent::InitApply(item)));
        }
    }
    staging.apply(event(SourceEvent::InitDone { reason: ListReason::First }));
}

/// CPU time of this thread.
fn cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    let nanoseconds = text.split(' ').next().and_then(|field| field.parse().ok()).expect("a number");
    Duration::from_nanos(nanoseconds)
}
