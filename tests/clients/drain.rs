//! A server that stops under a thousand proxies and never ending changes, and the one that takes its place.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tombolo::sim::apiserver::RunningApiServer;
use tombolo::sim::fleet::{Behaviour, Fleet, FleetSettings, Proxy, Subscription, Target};

use super::machine;
use crate::nodes::sidecar;
use crate::xds_conformance::plane::{Options, Plane, Served, eventually};
use crate::xds_conformance::world::{eds, slice};

const PROXIES: usize = 1_000;
const SERVICES: usize = 5;
/// For all of them, on a slow machine.
const LIMIT: Duration = Duration::from_secs(120);
/// How long a process may take to end once it was asked to (X-L04).
const EXIT: Duration = Duration::from_secs(10);
/// The longest one change is waited for before the next one.
const PATIENCE: Duration = Duration::from_millis(200);
/// Without a response for so long, all is told.
const QUIET: Duration = Duration::from_secs(2);

/// Changes one service after the other until it is told to end; how often.
async fn change(api: &RunningApiServer, fleet: &Fleet, end: &AtomicBool) -> usize {
    let mut made = 0;
    while !end.load(Ordering::Relaxed) {
        let service = made % SERVICES;
        let watch = fleet.watch(&eds(service));
        api.store().apply(slice(service, 2 + made % 7)).expect("a valid object");
        watch.receipts(PATIENCE).await;
        made += 1;
    }
    made
}

#[tokio::test(flavor = "multi_thread")]
async fn xl04_a_thousand_streams_under_change_lose_nothing_when_the_server_is_replaced() {
    let _machine = machine::alone().await;
    let Plane { api, mut server } = Plane::start(SERVICES).await;
    let address = server.address("grpc");
    let proxy = |number| Proxy {
        node: sidecar(&format!("p{number}"), "east", "net-east"),
        behaviour: Behaviour::DELTA,
        subscription: Subscription::Assignments,
    };
    let settings = FleetSettings {
        assignments: (0..SERVICES).map(eds).collect(),
        seed: 1,
        ..FleetSettings::new(Target { address, tls: None })
    };
    let fleet = Fleet::start(&settings, (0..PROXIES).map(proxy).collect()).expect("starts");
    fleet.subscribed(LIMIT).await.expect("everything comes");
    let first = fleet.summary();
    assert_eq!(first.resources, (PROXIES * SERVICES) as u64);

    let end = AtomicBool::new(false);
    let replace = async {
        // Under change when it is asked to stop.
        eventually("changes under way", async || {
            (fleet.summary().resources > first.resources + PROXIES as u64).then_some(())
        })
        .await;
        server.terminate();
        let code = tokio::time::timeout(EXIT, server.ended()).await.expect("ends in time");
        assert_eq!(code, Some(0));
        let ends = fleet.summary().ends;
        assert_eq!(
            ends.get("status UNAVAILABLE"),
            Some(&(PROXIES as u64)),
            "every stream ends with a status: {ends:?}"
        );
        // Nobody serves now, and changes go on.
        let text = address.to_string();
        let options = Options { args: &["--grpc-addr", &text], ..Options::default() };
        let next = Served::start(&api, options).await;
        back(&next).await;
        end.store(true, Ordering::Relaxed);
        next
    };
    let (next, made) = futures::future::join(replace, change(&api, &fleet, &end)).await;
    fleet.quiet(QUIET, LIMIT).await;
    let told = fleet.summary();
    // They come back with what they hold: what the server has to tell them is what they lack of the last state.
    fleet.reconnect();
    eventually("all come back", async || {
        (fleet.summary().connects >= told.connects + PROXIES as u64).then_some(())
    })
    .await;
    fleet.quiet(QUIET, LIMIT).await;
    assert_eq!(fleet.summary().resources, told.resources, "somebody missed one of {made} changes");
    // And what comes next reaches every one of them.
    back(&next).await;
    let watch = fleet.watch(&eds(0));
    api.store().apply(slice(0, 20)).expect("a valid object");
    assert_eq!(watch.receipts(LIMIT).await.len(), PROXIES);
    fleet.stop().await;
}

/// Waits until all proxies are served.
async fn back(server: &Served) {
    eventually("all proxies are served", async || {
        (server.metric("pilot_xds", "").await == PROXIES as u64).then_some(())
    })
    .await;
}
