//! §1.5: order, warming, make before break.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::json;
use tombolo::xds::resource::ResourceType::{self, Cluster, Endpoint, Listener, Route};

use super::client::{BOTH, Protocol, Stream, Told, connect, sidecar};
use super::common::ALL;
use super::plane::{Options, Plane};
use super::world::{eds, rule, service, service_on, services, slice, slice_on};

/// The assignment of a port of service `n`.
fn on_port(service: usize, port: u16) -> String {
    eds(service).replace("|80|", &format!("|{port}|"))
}

/// Takes what comes until nothing does.
async fn all(stream: &mut Stream, last: impl Fn(&Told) -> bool) -> Vec<Told> {
    let mut seen = Vec::new();
    loop {
        let told = stream.next().await.expect("a push");
        stream.ack(&told);
        seen.push(told);
        if seen.last().is_some_and(&last) {
            stream.silent().await;
            return seen;
        }
    }
}

fn kinds(seen: &[Told]) -> Vec<ResourceType> {
    seen.iter().map(|told| ResourceType::from_url(&told.url).unwrap()).collect()
}

/// A stream with CDS and EDS of service 0, both accepted.
async fn warmed(plane: &Plane, protocol: Protocol) -> Stream {
    let mut stream = plane.proxy(protocol, "a").await;
    stream.start(Cluster, &ALL).await;
    stream.start(Endpoint, &[eds(0)]).await;
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn xo01_clusters_assignments_listeners_routes_and_then_removals() {
    for protocol in BOTH {
        let plane = Plane::start(1).await;
        let name = on_port(5, 9090);
        let mut stream = plane.proxy(protocol, "a").await;
        stream.start(Cluster, &ALL).await;
        stream.start(Endpoint, &[eds(0), name.clone()]).await;
        stream.start(Listener, &ALL).await;
        stream.start(Route, &["80", "9090"]).await;
        stream.silent().await;
        // The endpoints are there first: all that is said of them has them.
        plane.apply(slice_on(5, 1, &[9090]));
        stream.silent().await;
        plane.apply(service_on(5, &[9090]));
        let seen = all(&mut stream, |told| told.is(Route)).await;
        assert_eq!(kinds(&seen), [Cluster, Endpoint, Listener, Route], "{protocol:?}");
        assert!(seen[0].has(&name) && seen[2].has("0.0.0.0_9090") && seen[3].has("9090"));
        assert_eq!(seen[1].endpoints(&name).len(), 1);
        // And back: what refers to the cluster goes before it.
        plane.delete(&service_on(5, &[9090]));
        let seen = all(&mut stream, |told| told.is(Cluster)).await;
        let order = kinds(&seen);
        assert_eq!(order.last(), Some(&Cluster));
        assert!(order[..order.len() - 1].contains(&Listener) && !order[..order.len() - 1].contains(&Cluster));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn xo02_a_changed_cluster_is_followed_by_its_assignment() {
    for protocol in BOTH {
        let plane = Plane::start(2).await;
        let mut stream = warmed(&plane, protocol).await;
        let before = stream.start(Endpoint, &[eds(0), eds(1)]).await;
        assert_eq!(before.names(), [eds(1)]);
        for seconds in [3, 4] {
            plane.apply(rule(1, seconds));
            assert!(stream.take(Cluster).await.has(&eds(1)));
            // Of the cluster that changed, with the endpoints it had; not of the other.
            let told = stream.take(Endpoint).await;
            assert_eq!(told.resources, before.resources);
        }
        // Nothing more, but to who asks again: subscribing anew is answered.
        stream.silent().await;
        stream.ask(Endpoint, &[eds(0)]);
        assert_eq!(stream.start(Endpoint, &[eds(0), eds(1)]).await.resources, before.resources);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn xo03_the_assignment_comes_although_nobody_asks_again() {
    let plane = Plane::start(1).await;
    for protocol in BOTH {
        let mut stream = warmed(&plane, protocol).await;
        plane.apply(rule(0, 3));
        let clusters = stream.expect(Cluster).await;
        // Not even accepted: an Envoy cluster that never warms withholds its ACK (D22).
        assert!(clusters.has(&eds(0)));
        assert_eq!(stream.expect(Endpoint).await.endpoints(&eds(0)), ["10.10.0.1:8080"]);
        plane.delete(&rule(0, 3));
        stream.ack(&clusters);
        assert!(stream.until(|told| told.is(Cluster)).await.has(&eds(0)));
        assert_eq!(stream.take(Endpoint).await.names(), [eds(0)]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn xo04_what_looks_like_an_ack_after_clusters_is_answered() {
    let plane = Plane::start(1).await;
    for protocol in BOTH {
        let mut stream = plane.proxy(protocol, "a").await;
        stream.start(Endpoint, &[eds(0)]).await;
        stream.ask(Cluster, &ALL);
        stream.take(Cluster).await;
        // With the nonce of the first answer, which is the current one for this client.
        stream.ask(Endpoint, &[eds(0)]);
        assert_eq!(stream.take(Endpoint).await.endpoints(&eds(0)), ["10.10.0.1:8080"]);
        stream.silent().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn xo05_delta_clients_are_sent_assignments_again_too() {
    let plane = Plane::start(1).await;
    // By resubscribing, and by doing nothing at all.
    for again in [true, false] {
        let mut stream = warmed(&plane, super::client::Delta).await;
        plane.apply(rule(0, if again { 3 } else { 4 }));
        stream.take(Cluster).await;
        stream.take(Endpoint).await;
        if again {
            stream.delta(tombolo::proto::discovery::DeltaDiscoveryRequest {
                type_url: Endpoint.url().to_owned(),
                resource_names_subscribe: vec![eds(0)],
                ..Default::default()
            });
            assert_eq!(stream.take(Endpoint).await.names(), [eds(0)]);
        }
        stream.silent().await;
        drop(stream);
        // On a new stream the client says what it holds: its new clusters wait for their assignments all the same.
        let mut stream = plane.proxy(super::client::Delta, "a").await;
        let held = stream.start(Endpoint, &[eds(0)]).await.versions();
        drop(stream);
        let mut stream = plane.proxy(super::client::Delta, "a").await;
        stream.start(Cluster, &ALL).await;
        stream.delta(tombolo::proto::discovery::DeltaDiscoveryRequest {
            type_url: Endpoint.url().to_owned(),
            resource_names_subscribe: vec![eds(0)],
            initial_resource_versions: held,
            ..Default::default()
        });
        assert_eq!(stream.take(Endpoint).await.names(), [eds(0)], "D21 (b)");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn xo06_unaccepted_clusters_hold_no_endpoints_back() {
    let plane = Plane::start(1).await;
    for (round, protocol) in BOTH.into_iter().enumerate() {
        let new = 5 + round;
        let mut stream = plane.proxy(protocol, "a").await;
        stream.ask(Cluster, &ALL);
        stream.expect(Cluster).await;
        stream.start(Endpoint, &[eds(0)]).await;
        plane.apply(slice(0, 2));
        assert_eq!(stream.take(Endpoint).await.endpoints(&eds(0)).len(), 2);
        // Of a new one as soon as its cluster was written.
        plane.apply(slice(new, 1));
        plane.apply(service(new));
        assert!(stream.expect(Cluster).await.has(&eds(new)));
        stream.ask(Endpoint, &[eds(0), eds(new)]);
        stream.until_endpoints(&eds(new), 1).await;
        plane.apply(slice(0, 1));
        stream.until_endpoints(&eds(0), 1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn xo07_a_cluster_goes_last_and_late() {
    for protocol in BOTH {
        let plane = Plane::of(
            [services(1), vec![service_on(5, &[9090]), slice_on(5, 1, &[9090])]].concat(),
            Options::default(),
        )
        .await;
        let name = on_port(5, 9090);
        let mut stream = plane.proxy(protocol, "a").await;
        stream.start(Cluster, &ALL).await;
        stream.start(Endpoint, &[eds(0), name.clone()]).await;
        stream.start(Listener, &ALL).await;
        stream.start(Route, &["80", "9090"]).await;
        plane.delete(&service_on(5, &[9090]));
        let (mut listeners, mut routes) = (None, None);
        loop {
            let told = stream.next().await.expect("a push");
            stream.ack(&told);
            let now = tokio::time::Instant::now();
            match ResourceType::from_url(&told.url).unwrap() {
                Listener => listeners = Some(now),
                Route => routes = Some(now),
                Endpoint => assert_eq!(told.endpoints(&name).len(), 0),
                _ => break,
            }
        }
        let last = listeners.max(routes).expect("before the cluster");
        assert!(listeners.is_some() && routes.is_some());
        // D25: 5 s, as the client's clock has it.
        assert!(last.elapsed() >= Duration::from_secs(3), "{:?}", last.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn d25_at_most_a_thousand_clusters_go_in_one_message() {
    // Of each service one per port.
    let ports: Vec<u16> = (1000..1250).collect();
    let many: Vec<_> = (1..=9).map(|number| service_on(number, &ports)).collect();
    let plane = Plane::of([services(1), many.clone()].concat(), Options::default()).await;
    let mut stream = plane.proxy(Protocol::Delta, "a").await;
    let all = stream.start(Cluster, &ALL).await;
    let mut there: BTreeSet<String> = all.names().into_iter().map(str::to_owned).collect();
    while there.len() < 9 * 250 + 1 {
        there.extend(stream.take(Cluster).await.names().into_iter().map(str::to_owned));
    }
    many.iter().for_each(|service| plane.delete(service));
    let mut messages = Vec::new();
    while messages.iter().sum::<usize>() < 9 * 250 {
        let told = stream.take(Cluster).await;
        assert!(told.removed.iter().all(|name| there.remove(name)), "each once");
        messages.push(told.removed.len());
    }
    assert!(messages.iter().all(|count| *count <= 1000), "{messages:?}");
    assert!(there.contains(&eds(0)));
    stream.silent().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn xo08_a_change_without_effect_is_no_push() {
    let pod = |label: &str| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "sample",
            "labels": {"app": "p", "color": label}}, "spec": {"serviceAccountName": "default"},
            "status": {"phase": "Running", "podIP": "10.10.0.1", "podIPs": [{"ip": "10.10.0.1"}],
                "conditions": [{"type": "Ready", "status": "True"}]}})
    };
    for protocol in BOTH {
        let plane = Plane::of([services(1), vec![pod("red")]].concat(), Options::default()).await;
        let mut stream = warmed(&plane, protocol).await;
        stream.start(Listener, &ALL).await;
        plane.apply(pod("blue"));
        stream.silent().await;
        // Nor is what is written as it was.
        plane.apply(service(0));
        plane.apply(slice(0, 1));
        stream.silent().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn xo09_a_new_service_is_never_empty_in_between() {
    let plane = Plane::start(1).await;
    for (round, protocol) in BOTH.into_iter().enumerate() {
        let mut stream = warmed(&plane, protocol).await;
        for new in [10 + round, 20 + round, 30 + round] {
            plane.apply(slice(new, 1));
            plane.apply(service(new));
            let clusters = stream.take(Cluster).await;
            assert!(clusters.has(&eds(new)));
            stream.ask(Endpoint, &[eds(0), eds(new)]);
            let first = stream.until(|told| told.is(Endpoint) && told.has(&eds(new))).await;
            assert_eq!(first.endpoints(&eds(new)).len(), 1);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn xo10_warming_needs_no_cache_of_the_client() {
    for protocol in BOTH {
        let plane = Plane::start(1).await;
        let mut stream = warmed(&plane, protocol).await;
        plane.apply(rule(0, 3));
        stream.take(Cluster).await;
        // The whole assignment, not only a word that it is as before.
        let told = stream.take(Endpoint).await;
        assert_eq!(told.endpoints(&eds(0)), ["10.10.0.1:8080"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn xo11_many_streams_at_once_are_all_answered() {
    let plane = Plane::start(20).await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let channel = connect(plane.address()).await;
        for number in 0..100 {
            let channel = channel.clone();
            tasks.spawn(async move {
                let protocol = BOTH[number % 2];
                let node = sidecar(&format!("p{number}"), "east", "net-east");
                let opened = Instant::now();
                let mut stream = Stream::on(channel, protocol.ads(), protocol, node).await.unwrap();
                let told = stream.start(Cluster, &ALL).await;
                assert!(told.has(&eds(19)));
                opened.elapsed()
            });
        }
    }
    let times = tasks.join_all().await;
    assert_eq!(times.len(), 1_000);
    // The first fetch of Envoy gives up then.
    assert!(times.iter().max().is_some_and(|longest| *longest < Duration::from_secs(15)), "{times:?}");
    // One build of each list for all of them.
    assert!(plane.server.metric("tombolo_builds", "list").await <= 8);
}
