//! A million endpoints (P14): 100 clusters of 1 000 Services with 10 endpoints each, from lists in memory to a
//! ready registry, and then one change after the other.
//!
//! `cargo bench --bench scale [-- 100]` (clusters); method and results in `bench/README.md`.
#![allow(missing_docs, unreachable_pub, clippy::print_stdout, clippy::expect_used, dead_code)]

#[path = "cluster.rs"]
mod cluster;
#[path = "cost.rs"]
mod cost;
#[path = "lists.rs"]
mod lists;
#[path = "../tests/objects/schema.rs"]
mod schema;

use std::time::{Duration, Instant};

use cluster::Shape;
use cost::cpu;
use lists::{Held, Lists, take_in};
use serde_json::json;
use tombolo::ingest::objects::SliceObject;
use tombolo::ingest::objects::wire::{Encoding, WatchFrame, decode_frame};
use tombolo::ingest::staging::StagedEvent;
use tombolo::ingest::watch::SourceEvent;
use tombolo::registry::Registry;

/// As in the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CLUSTERS: usize = 100;
const SHAPE: Shape = Shape { number: 0, services: 1_000, pods: 10 };
const CHANGES: usize = 10_000;
/// Different events that are made for them.
const EVENTS: usize = 1_000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let (clusters, changes) = match arguments.first().map(String::as_str) {
        None => (CLUSTERS, CHANGES),
        Some("--test") => (2, 10),
        Some(number) => (number.parse().expect("a number of clusters"), CHANGES),
    };
    let endpoints = clusters * SHAPE.endpoints();
    println!("{clusters} clusters of {} Services with {} endpoints: {endpoints}", SHAPE.services, SHAPE.pods);
    // What clusters are told differs in nothing that is shared here: pods' names and addresses are not.
    let lists = Lists::protobuf(SHAPE);
    let events = events(changes);
    let (registry, before) = (Registry::new(), resident());

    let (start, work) = (Instant::now(), cpu());
    let held: Vec<Held> =
        (0..clusters).map(|number| take_in(&registry, number, &lists, Encoding::Protobuf)).collect();
    registry.changes().take();
    println!("ready after {:.2?}, {:.2?} of CPU, one thread", start.elapsed(), cpu() - work);
    memory("then", before, endpoints);
    one_by_one(held, &registry, &events, changes);
    memory("after the changes", before, endpoints);
}

fn memory(when: &str, before: usize, endpoints: usize) {
    let now = resident();
    let each = (now - before) / endpoints;
    println!(
        "RSS {when}: {} MB, of them {} before the lists; {each} B per endpoint",
        now >> 20,
        before >> 20
    );
}

/// Events of slices, the ready one and the one with an endpoint that is not, in turn.
fn events(changes: usize) -> Vec<[Vec<u8>; 2]> {
    let frame = |slice| {
        let message = schema::message("EndpointSlice", &slice);
        schema::event("MODIFIED", &schema::envelope("discovery.k8s.io/v1", "EndpointSlice", &message))
    };
    let both = |slice: serde_json::Value| {
        let mut other = slice.clone();
        other["endpoints"][0]["conditions"]["ready"] = json!(false);
        [frame(other), frame(slice)]
    };
    SHAPE.slices().take(EVENTS.min(changes)).map(both).collect()
}

/// Each from its bytes to the registry's list of changes.
fn one_by_one(mut held: Vec<Held>, registry: &Registry, events: &[[Vec<u8>; 2]], changes: usize) {
    let mut times: Vec<(Duration, Duration)> = Vec::with_capacity(changes);
    let clusters = held.len();
    for change in 0..changes {
        let (round, at) = (change / events.len(), change % events.len());
        let (staging, writer) = &mut held[at % clusters];
        let (start, work) = (Instant::now(), cpu());
        let Ok(WatchFrame::Modified(mut received)) =
            decode_frame::<SliceObject>(Encoding::Protobuf, &events[at][round % 2])
        else {
            panic!("another event");
        };
        received.revision = Some(1 << 40 | change as u64);
        staging.apply(StagedEvent::Slice(SourceEvent::Apply(received)));
        let batch = staging.take();
        assert_eq!((batch.workloads.len(), batch.shards.len()), (0, 1));
        writer.apply(batch.workloads, batch.shards);
        assert_eq!(registry.changes().take().services.len(), 1);
        times.push((start.elapsed(), cpu() - work));
    }
    let wall: Vec<_> = times.iter().map(|(wall, _)| *wall).collect();
    print("one change, by the clock", wall);
    print("one change, CPU", times.into_iter().map(|(_, cpu)| cpu).collect());
}

fn print(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100];
    println!("{what}: p50 {:.1?}, p99 {:.1?}, slowest {:.1?} of {}", at(50), at(99), at(100), times.len());
}

/// Resident memory of this process, in bytes.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: usize = text.split(' ').nth(1).and_then(|field| field.parse().ok()).expect("a number");
    pages * rustix::param::page_size()
}
