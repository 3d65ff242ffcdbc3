//! A thousand proxies that never read beside a hundred that do.

use std::time::Duration;

use tombolo::sim::fleet::{Behaviour, Fleet, FleetSettings, Manner, Proxy, Subscription, Summary, Target};

use super::machine;
use crate::nodes::sidecar;
use crate::xds_conformance::plane::{Plane, eventually};
use crate::xds_conformance::world::{eds, slice};

const STOPPED: usize = 1_000;
const HEALTHY: usize = 100;
/// Changes of one round, each of more bytes than fit into the window of a stopped reader together.
const CHANGES: usize = 12;
const LIMIT: Duration = Duration::from_secs(120);
/// Bytes that HTTP/2 lets the server send before anything is read.
const WINDOW: u32 = 65_535;
/// More resident bytes for changes that nobody reads: none, but for what the allocator keeps.
const MEMORY: usize = 32 << 20;

fn fleet(plane: &Plane, count: usize, manner: Manner) -> Fleet {
    let proxy = |number| Proxy {
        node: sidecar(&format!("{manner:?}-{number}"), "east", "net-east"),
        behaviour: Behaviour::delta(manner),
        subscription: Subscription::Assignments,
    };
    let target = Target { address: plane.address(), tls: None };
    let settings = FleetSettings { assignments: vec![eds(0)], seed: 1, ..FleetSettings::new(target) };
    Fleet::start(&settings, (0..count).map(proxy).collect()).expect("starts")
}

/// What one round of changes costs: builds, and the messages, resources and bytes of those that read.
async fn round(plane: &Plane, healthy: &Fleet) -> [u64; 4] {
    let counts = async || {
        let Summary { messages, resources, bytes, .. } = healthy.summary();
        [plane.server.metric("tombolo_builds", "assignment").await, messages, resources, bytes]
    };
    let before = counts().await;
    for change in 0..CHANGES {
        let watch = healthy.watch(&eds(0));
        plane.apply(slice(0, 400 + change));
        assert_eq!(watch.receipts(LIMIT).await.len(), HEALTHY);
    }
    let after = counts().await;
    std::array::from_fn(|index| after[index] - before[index])
}

#[tokio::test(flavor = "multi_thread")]
async fn xf02_a_thousand_stopped_readers_cost_the_others_nothing() {
    let _machine = machine::alone().await;
    let plane = Plane::start(1).await;
    let healthy = fleet(&plane, HEALTHY, Manner::Plain);
    healthy.subscribed(LIMIT).await.expect("everything comes");
    let alone = round(&plane, &healthy).await;
    let all = (HEALTHY * CHANGES) as u64;
    assert_eq!(alone[..3], [CHANGES as u64, all, all], "one build, and one message for each");
    let stopped = fleet(&plane, STOPPED, Manner::Stopped);
    eventually("they are connected", async || {
        (plane.server.metric("pilot_xds", "").await == (STOPPED + HEALTHY) as u64).then_some(())
    })
    .await;
    let filling = round(&plane, &healthy).await;
    let memory = plane.server.memory();
    let beside = round(&plane, &healthy).await;
    for (what, found) in [("while their windows fill", filling), ("once they are full", beside)] {
        assert_eq!(found[..3], alone[..3], "{what}");
        // Nonces become longer.
        assert!(found[3].abs_diff(alone[3]) <= 8 * all, "{what}: {found:?}, alone {alone:?}");
    }
    let grown = plane.server.memory().saturating_sub(memory);
    assert!(grown <= MEMORY, "{grown} bytes for what nobody reads");
    // What is written to the others fits into their windows; the rest is not even made.
    let unread = plane.server.metric("pilot_xds_pushes", "eds").await - healthy.summary().messages;
    let room = u64::from(WINDOW) / (alone[3] / all) + 2;
    assert!(unread <= STOPPED as u64 * room, "{unread} responses that nobody reads; {room} have room");
    stopped.stop().await;
    healthy.stop().await;
}
