//! §1.2: the state of the world.

use std::collections::BTreeSet;
use std::time::Duration;

use prost::Message as _;
use tombolo::proto::discovery::DiscoveryRequest;
use tombolo::xds::resource::ResourceType::{self, Cluster, Endpoint, Listener, Route};
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use super::client::{BOTH, Sotw, Stream, Told, connect, connect_narrow, sidecar, strings};
use super::common::ALL;
use super::flow::fill;
use super::plane::{Options, Plane, Served, api, eventually};
use super::world::{eds, rule, service, service_on, services, slice, slice_on};

fn request(kind: ResourceType, names: &[String], nonce: &str) -> DiscoveryRequest {
    DiscoveryRequest {
        type_url: kind.url().to_owned(),
        resource_names: names.to_vec(),
        response_nonce: nonce.to_owned(),
        ..DiscoveryRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn xs01_clusters_and_listeners_come_as_full_sets() {
    let plane = Plane::start(2).await;
    let mut stream = plane.proxy(Sotw, "a").await;
    let clusters = stream.start(Cluster, &ALL).await;
    let listeners = stream.start(Listener, &ALL).await;
    plane.apply(rule(0, 3));
    let again = stream.take(Cluster).await;
    assert_eq!(again.names(), clusters.names(), "one has changed and all come");
    plane.delete(&service(1));
    // It stays until the listeners and routes without it are with everybody (D25).
    let fewer = stream.until(|told| told.is(Cluster) && !told.has(&eds(1))).await;
    assert_eq!(fewer.resources.len(), clusters.resources.len() - 1);
    assert!(listeners.has("0.0.0.0_80"));
}

#[tokio::test(flavor = "multi_thread")]
async fn xs02_nothing_is_said_before_the_clusters_are_known() {
    let api = api(services(1)).await;
    api.freeze();
    let server = Served::start(&api, Options::default()).await;
    for protocol in BOTH {
        let node = sidecar("a", "east", "net-east");
        let opened = Stream::on(connect(server.address("grpc")).await, protocol.ads(), protocol, node).await;
        assert_eq!(opened.err().expect("refused").code(), Code::Unavailable);
    }
    assert_eq!(server.page("/ready").await.0, 503);
    api.thaw();
    server.ready().await;
    for protocol in BOTH {
        let mut stream =
            Stream::open(server.address("grpc"), protocol, sidecar("a", "east", "net-east")).await;
        assert!(stream.start(Cluster, &ALL).await.has(&eds(0)), "all of it at once");
        // A source that goes takes nothing with it.
        api.freeze();
        api.disconnect_watches();
        stream.silent().await;
        api.thaw();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn xs03_assignments_and_routes_come_as_subsets() {
    let plane = Plane::start(2).await;
    let mut stream = plane.proxy(Sotw, "a").await;
    stream.start(Endpoint, &[eds(0), eds(1)]).await;
    plane.apply(slice(0, 2));
    assert_eq!(stream.take(Endpoint).await.names(), [eds(0)]);
    stream.silent().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn xs04_an_assignment_without_endpoints_is_said_explicitly() {
    let plane = Plane::start(2).await;
    for protocol in BOTH {
        let mut stream = plane.proxy(protocol, "a").await;
        stream.start(Cluster, &ALL).await;
        stream.start(Endpoint, &[eds(0), eds(1)]).await;
        plane.apply(slice(0, 0));
        assert_eq!(stream.take(Endpoint).await.endpoints(&eds(0)), [""; 0]);
        // A service that is gone.
        plane.delete(&service(1));
        let gone = stream.until(|told| told.is(Endpoint)).await;
        assert_eq!((gone.names(), gone.endpoints(&eds(1)).len()), (vec![eds(1).as_str()], 0));
        plane.apply(slice(0, 1));
        stream.until_endpoints(&eds(0), 1).await;
        plane.apply(service(1));
        stream.until_endpoints(&eds(1), 1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn xs05_no_names_at_first_is_everything() {
    let plane = Plane::start(2).await;
    let mut stream = plane.proxy(Sotw, "a").await;
    let clusters = stream.start(Cluster, &ALL).await;
    assert!(clusters.has(&eds(0)) && clusters.has(&eds(1)) && clusters.has("BlackHoleCluster"));
    let listeners = stream.start(Listener, &ALL).await;
    assert!(listeners.has("0.0.0.0_80") && listeners.has("virtualOutbound"), "{:?}", listeners.names());
}

#[tokio::test(flavor = "multi_thread")]
async fn xs06_no_names_later_is_nothing() {
    let plane = Plane::start(2).await;
    let mut stream = plane.proxy(Sotw, "a").await;
    assert_eq!(stream.start(Cluster, &[eds(0)]).await.names(), [eds(0)]);
    stream.ask(Cluster, &ALL);
    stream.silent().await;
    plane.apply(rule(0, 3));
    plane.apply(rule(1, 3));
    stream.silent().await;
}

/// What is subscribed of clusters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Legacy,
    Star,
    StarAnd,
    Named,
    Nothing,
}
use Form::{Legacy, Named, Nothing, Star, StarAnd};

impl Form {
    fn names(self) -> Vec<String> {
        match self {
            Legacy | Nothing => Vec::new(),
            Star => strings(&["*"]),
            StarAnd => vec!["*".to_owned(), eds(0)],
            Named => vec![eds(0)],
        }
    }

    fn everything(self) -> bool {
        matches!(self, Legacy | Star | StarAnd)
    }

    fn named(self) -> bool {
        matches!(self, StarAnd | Named)
    }

    /// Whether a client that goes on to `next` must be answered: what it newly asks for is sent (X-C15).
    fn answers(self, next: Self) -> bool {
        let star = matches!(next, Star | StarAnd) && !matches!(self, Star | StarAnd);
        star || (next.named() && !self.named())
    }
}

/// Checks a response to `form`.
fn fits(form: Form, told: &Told) {
    if form.everything() {
        assert!(told.has(&eds(0)) && told.has(&eds(1)) && told.has("BlackHoleCluster"), "{form:?}");
    } else {
        assert_eq!(told.names(), form.names(), "{form:?}");
    }
}

/// Walks along; after every step a change of two clusters shows what is subscribed. Each is another than all before,
/// counted in `changes`.
async fn walk(plane: &Plane, path: &[Form], changes: &mut u32) {
    let mut stream = plane.proxy(Sotw, "a").await;
    stream.ask(Cluster, &path[0].names());
    fits(path[0], &stream.take(Cluster).await);
    for pair in path.windows(2) {
        *changes += 1;
        stream.ask(Cluster, &pair[1].names());
        if pair[0].answers(pair[1]) {
            fits(pair[1], &stream.take(Cluster).await);
        }
        stream.silent().await;
        for number in [1, 0] {
            plane.apply(rule(number, *changes));
            if pair[1].everything() || (pair[1].named() && number == 0) {
                fits(pair[1], &stream.take(Cluster).await);
            }
        }
        stream.silent().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn xs07_every_way_between_wildcards_and_names() {
    let plane = Plane::start(2).await;
    // All twelve steps between the four forms that can be come back to.
    let round =
        [Star, StarAnd, Star, Named, Star, Nothing, StarAnd, Named, StarAnd, Nothing, Named, Nothing, Star];
    let steps: BTreeSet<_> = round.windows(2).map(|pair| format!("{pair:?}")).collect();
    assert_eq!(steps.len(), 12);
    let mut changes = 1;
    walk(&plane, &round, &mut changes).await;
    for next in [Star, StarAnd, Named] {
        walk(&plane, &[Legacy, next], &mut changes).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn xs08_names_of_a_stale_request_come_with_the_next_ack() {
    let plane = Plane::start(2).await;
    let mut stream = plane.proxy(Sotw, "a").await;
    let (a, both) = (vec![eds(0)], vec![eds(0), eds(1)]);
    stream.ask(Endpoint, &a);
    let first = stream.expect(Endpoint).await;
    plane.apply(slice(0, 2));
    let second = stream.expect(Endpoint).await;
    stream.sotw(request(Endpoint, &both, &first.nonce));
    stream.silent().await;
    stream.sotw(request(Endpoint, &both, &second.nonce));
    assert_eq!(stream.take(Endpoint).await.names(), [eds(1)]);
    stream.silent().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn xs09_stale_requests_without_end_are_not_answered() {
    let plane = Plane::start(2).await;
    let mut stream = plane.proxy(Sotw, "a").await;
    let (a, both) = (vec![eds(0)], vec![eds(0), eds(1)]);
    let first = stream.start(Endpoint, &a).await;
    plane.apply(slice(0, 2));
    let second = stream.expect(Endpoint).await;
    let started = tokio::time::Instant::now();
    for _ in 0..500 {
        stream.sotw(request(Endpoint, &both, &first.nonce));
    }
    eventually("all are read", async || {
        (plane.server.metric("pilot_xds_expired_nonce", "eds").await == 500).then_some(())
    })
    .await;
    // 100 a second after the first 200: what comes faster waits (D30).
    assert!(started.elapsed() >= Duration::from_secs(2), "{:?}", started.elapsed());
    stream.silent().await;
    stream.sotw(request(Endpoint, &both, &second.nonce));
    assert_eq!(stream.take(Endpoint).await.names(), [eds(1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn xs10_the_order_of_names_means_nothing() {
    let plane = Plane::start(2).await;
    for kind in [Endpoint, Cluster] {
        let mut stream = plane.proxy(Sotw, "a").await;
        stream.ask(kind, &[eds(0), eds(1)]);
        let told = stream.expect(kind).await;
        stream.sotw(request(kind, &[eds(1), eds(0)], &told.nonce));
        stream.silent().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn xs11_an_ack_that_takes_names_away_is_not_answered() {
    let plane = Plane::start(2).await;
    let mut stream = plane.proxy(Sotw, "a").await;
    stream.start(Endpoint, &[eds(0), eds(1)]).await;
    stream.ask(Endpoint, &[eds(0)]);
    stream.silent().await;
    plane.apply(slice(1, 2));
    stream.silent().await;
    plane.apply(slice(0, 2));
    assert_eq!(stream.take(Endpoint).await.names(), [eds(0)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn xs12_an_ack_that_adds_names_is_answered_with_them() {
    let plane = Plane::start(2).await;
    let mut stream = plane.proxy(Sotw, "a").await;
    stream.ask(Endpoint, &[eds(0)]);
    stream.expect(Endpoint).await;
    assert_eq!(stream.start(Endpoint, &[eds(0), eds(1)]).await.names(), [eds(1)]);
    stream.ask(Route, &["80"]);
    stream.expect(Route).await;
    assert_eq!(stream.start(Route, &["80", "81"]).await.names(), ["81"]);
    // Where absence deletes, all that is subscribed (D24).
    stream.ask(Cluster, &[eds(0)]);
    stream.until(|told| told.is(Cluster)).await;
    stream.ask(Cluster, &[eds(0), eds(1)]);
    let told = stream.until(|told| told.is(Cluster)).await;
    assert_eq!(told.names(), [eds(0), eds(1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn xs13_what_was_unsubscribed_meanwhile_is_not_sent() {
    let plane = Plane::start(3).await;
    let node = sidecar("a", "east", "net-east");
    let channel = connect_narrow(plane.address(), 64).await;
    let mut stream = Stream::on(channel.clone(), Sotw.ads(), Sotw, node).await.expect("stream opens");
    fill(&plane, &mut stream).await;
    stream.ask(Endpoint, &[eds(0), eds(1), eds(2)]);
    plane.apply(slice(1, 2));
    stream.ask(Endpoint, &[eds(2), eds(8)]);
    // Both have arrived when other calls on the same connection are answered, one after the other; they are read before
    // anything is written.
    let mut health = HealthClient::new(channel);
    for _ in 0..5 {
        health.check(HealthCheckRequest::default()).await.expect("an answer");
    }
    stream
        .until(|told| {
            assert!(!told.has(&eds(1)), "unsubscribed before it was computed");
            told.has(&eds(2))
        })
        .await;
    plane.apply(slice(1, 3));
    stream.silent().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn xs14_another_replica_says_the_same_under_the_same_version() {
    let plane = Plane::start(5).await;
    let replica = Served::start(&plane.api, Options::default()).await;
    replica.ready().await;
    let mut first = plane.proxy(Sotw, "a").await;
    let mut told = vec![first.start(Cluster, &ALL).await];
    told.push(first.start(Endpoint, &[eds(0), eds(3)]).await);
    told.push(first.start(Listener, &ALL).await);
    drop(first);
    let node = sidecar("a", "east", "net-east");
    let mut second = Stream::open(replica.address("grpc"), Sotw, node).await;
    for before in told {
        let kind = ResourceType::from_url(&before.url).unwrap();
        let names = if kind == Endpoint { vec![eds(0), eds(3)] } else { Vec::new() };
        second.sotw(DiscoveryRequest { version_info: before.version.clone(), ..request(kind, &names, "9") });
        // D21 (c): a first request is always answered; the version is that of the content.
        let again = second.take(kind).await;
        assert_eq!((again.version, again.resources), (before.version, before.resources));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn xs15_names_of_routes_change() {
    let ports = [80, 8080];
    let objects = vec![service_on(0, &ports), slice_on(0, 1, &ports)];
    let plane = Plane::of(objects, Options::default()).await;
    let mut stream = plane.proxy(Sotw, "a").await;
    assert_eq!(stream.start(Route, &["80"]).await.names(), ["80"]);
    assert_eq!(stream.start(Route, &["8080"]).await.names(), ["8080"]);
    assert_eq!(stream.start(Route, &["80", "8080"]).await.names(), ["80"]);
    stream.ask(Route, &["80"]);
    stream.silent().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn xs16_text_out_of_range_is_refused_or_ignored() {
    let plane = Plane::start(1).await;
    let long = "x".repeat(64 << 10);
    // Version and nonce: ignored, nothing of them comes back.
    let mut stream = plane.proxy(Sotw, "a").await;
    stream.sotw(DiscoveryRequest { version_info: long.clone(), ..request(Endpoint, &[eds(0)], &long) });
    let told = stream.take(Endpoint).await;
    assert!(told.bytes < 1_000);
    stream.sotw(DiscoveryRequest { version_info: long.clone(), ..request(Endpoint, &[eds(0)], &long) });
    stream.silent().await;
    stream.sotw(request(Endpoint, std::slice::from_ref(&long), &told.nonce));
    let status = stream.end().await;
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().len() < 200, "no echo");
    // Not UTF-8.
    let mut stream = plane.proxy(Sotw, "a").await;
    stream.start(Endpoint, &[eds(0)]).await;
    let mut bytes = request(Endpoint, &["@@@@".to_owned()], "").encode_to_vec();
    let at = bytes.windows(4).position(|part| part == b"@@@@").unwrap();
    bytes[at..at + 4].copy_from_slice(&[0xff, 0xfe, 0x80, 0xc0]);
    stream.bytes(bytes);
    assert_ne!(stream.end().await.code(), Code::Ok);
    let longest = plane.server.log().lines().map(str::len).max();
    assert!(longest.unwrap_or_default() < 4 << 10, "{longest:?}");
    plane.serves().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn xs17_types_not_asked_for_never_come() {
    let plane = Plane::start(1).await;
    for (round, protocol) in BOTH.into_iter().enumerate() {
        let mut stream = plane.proxy(protocol, "a").await;
        stream.start(Endpoint, &[eds(0)]).await;
        plane.apply(slice(round + 5, 1));
        plane.apply(service(round + 5));
        plane.apply(rule(0, round as u32 + 3));
        stream.silent().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn xs18_content_that_comes_back_has_its_version_and_a_new_nonce() {
    let plane = Plane::start(1).await;
    let mut stream = plane.proxy(Sotw, "a").await;
    let first = stream.start(Endpoint, &[eds(0)]).await;
    for _ in 0..2 {
        plane.apply(slice(0, 2));
        let other = stream.take(Endpoint).await;
        assert_ne!(other.version, first.version);
        plane.apply(slice(0, 1));
        let again = stream.take(Endpoint).await;
        assert_eq!((again.version, again.resources), (first.version.clone(), first.resources.clone()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn xs19_no_nonce_in_mid_stream_is_a_new_subscription() {
    let plane = Plane::start(2).await;
    let mut stream = plane.proxy(Sotw, "a").await;
    stream.ask(Endpoint, &[eds(0)]);
    stream.expect(Endpoint).await;
    stream.sotw(request(Endpoint, &[eds(0), eds(1)], ""));
    assert!(stream.take(Endpoint).await.has(&eds(1)));
    stream.silent().await;
}
