//! Fleets of proxies against a real server over TCP.
#![allow(missing_docs, unreachable_pub, dead_code)]

#[path = "ads/client.rs"]
mod client;
#[path = "ads/world.rs"]
mod world;

use std::net::SocketAddr;
use std::time::Duration;

use tombolo::sim::fleet::{
    Behaviour, Fleet, FleetError, FleetSettings, Home, Manner, Mix, Protocol, Proxy, Subscription, Target,
    sidecar,
};
use world::{World, eds, gateway, key, shard};

const LIMIT: Duration = Duration::from_secs(30);
const SERVICES: usize = 10;

fn settings(address: SocketAddr) -> FleetSettings {
    FleetSettings {
        assignments: (0..SERVICES).map(eds).collect(),
        seed: 1,
        ..FleetSettings::new(Target { address, tls: None })
    }
}

/// `count` sidecars, in turn in east and west.
fn proxies(count: usize, mix: &str, subscription: Subscription) -> Vec<Proxy> {
    let homes = ["east", "west"].map(|id| Home { cluster: id.into(), network: format!("net-{id}") });
    let size = "services=10,endpoints=100".parse().expect("a size");
    let behaviours = mix.parse::<Mix>().expect("a mix").assign(count, 1).into_iter().enumerate();
    let proxy = |(number, behaviour)| Proxy { node: sidecar(&homes, size, number), behaviour, subscription };
    behaviours.map(proxy).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_proxies_that_ask_for_everything_get_it_in_both_protocols() {
    let world = World::start(SERVICES).await;
    for mix in ["delta", "sotw"] {
        let fleet = Fleet::start(&settings(world.address), proxies(50, mix, Subscription::Everything))
            .expect("starts");
        fleet.subscribed(LIMIT).await.expect("everything comes");
        let summary = fleet.stop().await;
        assert_eq!(summary.subscribed.count, 50);
        assert_eq!(summary.types.keys().copied().collect::<Vec<_>>(), ["cds", "eds", "lds", "rds"]);
        assert_eq!(summary.types["eds"].resources, 50 * SERVICES as u64, "{mix}");
        assert!(summary.ends.is_empty(), "{:?}", summary.ends);
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_reaches_every_proxy_that_reads_once() {
    let mut world = World::start(SERVICES).await;
    let mix = "delta=40%,sotw=20%,stopped=20%,slow=10%,random=10%";
    let quiet =
        FleetSettings { stay: Duration::from_secs(3600), slow_rate: 1 << 20, ..settings(world.address) };
    let fleet = Fleet::start(&quiet, proxies(50, mix, Subscription::Assignments)).expect("starts");
    assert_eq!(fleet.readers(), 40);
    fleet.subscribed(LIMIT).await.expect("everything comes");
    let before = fleet.summary();
    assert_eq!((before.messages, before.resources), (40, 40 * SERVICES as u64));
    let watch = fleet.watch(&eds(3));
    world.west.set(key(3), shard("west", 3, 2));
    assert_eq!(watch.receipts(LIMIT).await.len(), 40);
    let after = fleet.stop().await;
    assert_eq!((after.messages - before.messages, after.resources - before.resources), (40, 40));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_rejects_is_counted_by_the_server() {
    let world = World::start(SERVICES).await;
    let fleet =
        Fleet::start(&settings(world.address), proxies(10, "nack=50%,nack/sotw", Subscription::Assignments))
            .expect("starts");
    fleet.subscribed(LIMIT).await.expect("everything comes");
    let rejected = || {
        let streams = world.server.streams();
        streams
            .iter()
            .filter(|stream| stream.types.values().any(|status| status.last_error.is_some()))
            .count()
    };
    let deadline = tokio::time::Instant::now() + LIMIT;
    while rejected() < 10 {
        assert!(tokio::time::Instant::now() < deadline, "{} of 10", rejected());
        tokio::task::yield_now().await;
    }
    fleet.stop().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_with_what_it_has_gets_only_what_differs() {
    let mut world = World::start(SERVICES).await;
    let fleet = Fleet::start(&settings(world.address), proxies(50, "delta", Subscription::Assignments))
        .expect("starts");
    fleet.subscribed(LIMIT).await.expect("everything comes");
    let first = fleet.summary();
    fleet.reconnect();
    let deadline = tokio::time::Instant::now() + LIMIT;
    while fleet.summary().connects < 100 {
        assert!(tokio::time::Instant::now() < deadline, "{:?}", fleet.summary());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // What comes after the answers to the first requests shows that those had nothing to say.
    let watch = fleet.watch(&eds(0));
    world.west.set(key(0), shard("west", 0, 2));
    assert_eq!(watch.receipts(LIMIT).await.len(), 50);
    let second = fleet.stop().await;
    assert_eq!(second.resources - first.resources, 50);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn storms_and_random_leavers_come_back_and_the_server_forgets_nobody() {
    let mut world = World::start(SERVICES).await;
    let restless = FleetSettings {
        storm_every: Duration::from_millis(200),
        stay: Duration::from_millis(300),
        ..settings(world.address)
    };
    let fleet =
        Fleet::start(&restless, proxies(30, "storm=50%,random=30%,random/sotw", Subscription::Everything))
            .expect("starts");
    let deadline = tokio::time::Instant::now() + LIMIT;
    while fleet.summary().connects < 120 || fleet.complete() < 30 {
        assert!(tokio::time::Instant::now() < deadline, "{:?}", fleet.summary());
        world.east.set_networks(Some("net-east".into()), vec![gateway("172.30.0.9")]);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    fleet.stop().await;
    while !world.server.streams().is_empty() {
        assert!(tokio::time::Instant::now() < deadline, "streams stay");
        tokio::task::yield_now().await;
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_counted_by_status_and_proxies_try_again() {
    let world = World::start(1).await;
    world.ready.send_replace(false);
    let one = FleetSettings { assignments: vec![eds(0)], ..settings(world.address) };
    let fleet = Fleet::start(&one, proxies(5, "delta", Subscription::Assignments)).expect("starts");
    let deadline = tokio::time::Instant::now() + LIMIT;
    while fleet.summary().ends.get("status UNAVAILABLE").is_none_or(|count| *count < 5) {
        assert!(tokio::time::Instant::now() < deadline, "{:?}", fleet.summary());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    world.ready.send_replace(true);
    fleet.subscribed(LIMIT).await.expect("they come back");
    fleet.stop().await;
    world.stop().await;
}

#[tokio::test]
async fn a_server_elsewhere_needs_the_word_for_it() {
    let elsewhere = settings("192.0.2.1:15010".parse().expect("an address"));
    let refused = Fleet::start(&elsewhere, proxies(1, "delta", Subscription::Assignments));
    assert!(matches!(refused, Err(FleetError::Remote(_))));
    let behaviour = Behaviour { protocol: Protocol::Sotw, manner: Manner::Slow };
    assert_eq!(behaviour.to_string(), "slow/sotw");
}
