//! Memory per endpoint: what one more endpoint and its pod cost, from the pages of a list to the registry.
//!
//! `cargo bench --bench memory`; method and results in `bench/README.md`. Each size is measured in a process of
//! its own, which holds nothing but one cluster's state; the slope between the sizes is the result.
#![allow(missing_docs, unreachable_pub, clippy::print_stdout, clippy::expect_used, dead_code)]

#[path = "cluster.rs"]
mod cluster;

use std::process::Command;
use std::sync::Arc;

use cluster::{Shape, pages};
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde::de::DeserializeOwned;
use tombolo::ingest::Counts;
use tombolo::ingest::convert::ClusterContext;
use tombolo::ingest::objects::wire::{Encoding, decode_list};
use tombolo::ingest::objects::{Object, ServiceObject};
use tombolo::ingest::staging::{StagedEvent, Staging};
use tombolo::ingest::watch::{ListReason, SourceEvent};
use tombolo::model::ClusterRole;
use tombolo::registry::Registry;

/// As in the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Endpoints, 20 to a Service. What the allocator keeps for itself is 20 MB from the first of them on.
const SIZES: [usize; 4] = [50_000, 100_000, 200_000, 400_000];
/// Sizes of the typed objects, which need twenty times as much.
const TYPED: [usize; 2] = [50_000, 100_000];
/// Processes for each size, of which the middle one counts: what was freed goes back now sooner, now later.
const RUNS: usize = 3;
const SMALL: [usize; 2] = [1_000, 2_000];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["own", size] => measure(own, Shape::of(number(size))),
        ["own", size, pods] => measure(own, Shape::with(number(size), number(pods))),
        ["typed", size] => measure(typed, Shape::of(number(size))),
        ["--test"] => compare(&SMALL, &SMALL),
        _ => compare(&SIZES, &TYPED),
    }
}

fn number(text: &str) -> usize {
    text.parse().expect("a number")
}

/// Both ways at their sizes, and the slopes.
fn compare(own: &[usize], typed: &[usize]) {
    println!("{:<34} {:>10} {:>12} {:>16}", "", "endpoints", "RSS, KiB", "B per endpoint");
    for (way, what, sizes) in
        [("own", "staging and registry", own), ("typed", "typed objects, kept whole", typed)]
    {
        let mut last: Option<(usize, usize)> = None;
        let mut first = None;
        for &size in sizes {
            let mut runs: Vec<_> = (0..RUNS).map(|_| in_a_process_of_its_own(way, size)).collect();
            runs.sort_unstable();
            let used = runs[RUNS / 2];
            let slope = last.map(|last| slope(last, (size, used))).unwrap_or_default();
            println!("{what:<34} {size:>10} {:>12} {slope:>16}", used >> 10);
            last = Some((size, used));
            first.get_or_insert((size, used));
        }
        if let (Some(first), Some(last)) = (first, last) {
            println!("{what:<34} {:>10} {:>12} {:>16}", "slope", "", slope(first, last));
        }
    }
}

fn slope(from: (usize, usize), to: (usize, usize)) -> String {
    format!("{:.0}", (to.1 as f64 - from.1 as f64) / (to.0 - from.0) as f64)
}

fn in_a_process_of_its_own(way: &str, size: usize) -> usize {
    let program = std::env::current_exe().expect("this program");
    let output = Command::new(program).args([way, &size.to_string()]).output().expect("runs");
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim()
        .parse()
        .unwrap_or_else(|_| panic!("{way} {size}: {}", String::from_utf8_lossy(&output.stderr)))
}

/// Prints how much resident memory `hold` adds and its result keeps.
fn measure<T>(hold: fn(Shape) -> T, shape: Shape) {
    let before = resident();
    let held = hold(shape);
    settle();
    println!("{}", resident() - before);
    drop(held);
}

/// What was freed goes back to the system a little later, while work goes on.
fn settle() {
    for _ in 0..50 {
        let some: Vec<Vec<u8>> = (0..1_000).map(|n| vec![0; n]).collect();
        std::thread::sleep(std::time::Duration::from_millis(20));
        drop(some);
    }
}

/// One cluster as the server holds it: its objects, and what they amount to in the registry.
fn own(shape: Shape) -> (Staging, tombolo::registry::ClusterWriter, Arc<Registry>) {
    let context = ClusterContext::new("c0".into());
    let mut staging = Staging::new(context, "istio-system".into(), Arc::new(Counts::default()));
    list(&mut staging, StagedEvent::Namespace, pages("Namespace", "v1", shape.namespaces()));
    list(&mut staging, StagedEvent::Node, pages("Node", "v1", shape.nodes()));
    list(&mut staging, StagedEvent::Pod, pages("Pod", "v1", shape.pods()));
    list::<ServiceObject>(&mut staging, StagedEvent::Service, pages("Service", "v1", shape.services()));
    let slices = pages("EndpointSlice", "discovery.k8s.io/v1", shape.slices());
    list(&mut staging, StagedEvent::Slice, slices);
    let registry = Registry::new();
    let mut writer = registry.writer("c0".into(), ClusterRole::Config).expect("the only writer");
    assert!(staging.is_complete());
    writer.replace(staging.state());
    registry.changes().take();
    assert_eq!((staging.pending_pods(), registry.workload_count()), (0, shape.endpoints()));
    (staging, writer, registry)
}

fn list<T: Object>(
    staging: &mut Staging,
    event: fn(SourceEvent<T>) -> StagedEvent,
    pages: impl Iterator<Item = Vec<u8>>,
) {
    staging.apply(event(SourceEvent::Init));
    for page in pages {
        let page = decode_list::<T>(Encoding::Json, &page).expect("a list");
        for item in page.items {
            staging.apply(event(SourceEvent::InitApply(item)));
        }
    }
    staging.apply(event(SourceEvent::InitDone { reason: ListReason::First }));
}

/// The same objects as the types of the Kubernetes API, all of them kept.
fn typed(shape: Shape) -> (Vec<Node>, Vec<Pod>, Vec<Service>, Vec<EndpointSlice>) {
    fn all<T: DeserializeOwned>(pages: impl Iterator<Item = Vec<u8>>) -> Vec<T> {
        #[derive(serde::Deserialize)]
        struct List<T> {
            items: Vec<T>,
        }
        let parse = |page: Vec<u8>| serde_json::from_slice::<List<T>>(&page).expect("a list").items;
        pages.flat_map(parse).collect()
    }
    (
        all(pages("Node", "v1", shape.nodes())),
        all(pages("Pod", "v1", shape.pods())),
        all(pages("Service", "v1", shape.services())),
        all(pages("EndpointSlice", "discovery.k8s.io/v1", shape.slices())),
    )
}

/// Resident memory of this process, in bytes.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: usize = text.split(' ').nth(1).and_then(|field| field.parse().ok()).expect("a number");
    pages * rustix::param::page_size()
}
