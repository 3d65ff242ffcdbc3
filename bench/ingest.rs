//! From the pages of the lists to a registry that is ready: 90 000 endpoints in three clusters (P10).
//!
//! `cargo bench --bench ingest [-- 90000]`; method and results in `bench/README.md`. The pages are in memory: what
//! is counted is the CPU time of decoding, staging, converting and publishing, in one thread. The yardstick reads
//! the same pages into typed objects and throws them away.
#![allow(missing_docs, unreachable_pub, clippy::print_stdout, clippy::expect_used, dead_code)]

#[path = "cluster.rs"]
mod cluster;
#[path = "cost.rs"]
mod cost;
#[path = "lists.rs"]
mod lists;
#[path = "../tests/objects/schema.rs"]
mod schema;

use std::hint::black_box;

use cluster::{PAGE, PODS_PER_SERVICE, Shape};
use cost::Way;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use lists::{Lists, ready};
use serde::de::DeserializeOwned;
use tombolo::ingest::objects::wire::Encoding;

/// As in the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CLUSTERS: u8 = 3;
const ENDPOINTS: usize = 90_000;
const SMALL: usize = 600;
/// Rounds of which the best counts.
const ROUNDS: usize = 10;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let (endpoints, rounds) = match arguments.first().map(String::as_str) {
        None => (ENDPOINTS, ROUNDS),
        Some("--test") => (SMALL, 1),
        Some(number) => (number.parse().expect("a number of endpoints"), ROUNDS),
    };
    let services = endpoints.div_ceil(usize::from(CLUSTERS) * PODS_PER_SERVICE);
    let shapes: Vec<_> =
        (0..CLUSTERS).map(|number| Shape { number, services, pods: PODS_PER_SERVICE }).collect();
    let json: Vec<_> = shapes.iter().map(|shape| Lists::json(*shape)).collect();
    let protobuf: Vec<_> = shapes.iter().map(|shape| Lists::protobuf(*shape)).collect();
    let bytes = |lists: &[Lists]| lists.iter().map(Lists::bytes).sum::<usize>() >> 20;
    let title = format!(
        "{endpoints} endpoints in {CLUSTERS} clusters, {PODS_PER_SERVICE} to a Service, pages of {PAGE}: {} MB of \
         JSON, {} of protobuf",
        bytes(&json),
        bytes(&protobuf)
    );
    let ways = vec![
        Way::new("k8s-openapi, JSON, decoded only", || json.iter().for_each(typed)),
        Way::new("ours, JSON, list to ready", || drop(ready(&json, Encoding::Json))),
        Way::new("ours, protobuf, list to ready", || drop(ready(&protobuf, Encoding::Protobuf))),
    ];
    cost::compare(&title, rounds, ways);
}

/// The yardstick: every page as a list of typed objects.
fn typed(lists: &Lists) {
    fn all<T: DeserializeOwned>(pages: &[Vec<u8>]) {
        #[derive(serde::Deserialize)]
        struct List<T> {
            items: Vec<T>,
        }
        for page in pages {
            let list: List<T> = serde_json::from_slice(page).expect("a list");
            black_box(list.items);
        }
    }
    all::<Namespace>(&lists.namespaces);
    all::<Node>(&lists.nodes);
    all::<Pod>(&lists.pods);
    all::<Service>(&lists.services);
    all::<EndpointSlice>(&lists.slices);
}
