//! §1.1: what holds in both forms of the protocol.

use std::collections::BTreeSet;
use std::time::Duration;

use tombolo::proto::discovery::{DeltaDiscoveryRequest, DiscoveryRequest, Node, Status};
use tombolo::xds::resource::ResourceType::{self, Cluster, Endpoint, Listener, Route};
use tonic::Code;

use super::client::{BOTH, Delta, Protocol, Sotw, Stream, connect, node, sidecar, strings};
use super::plane::{Plane, eventually};
use super::world::{eds, rule, service, slice};

/// Nobody asks for names of a wildcard type.
pub const ALL: [&str; 0] = [];

fn router() -> Node {
    node(
        "router~10.0.0.8~gw.sample~sample.svc.cluster.local",
        &[("CLUSTER_ID", "east"), ("NETWORK", "net-east"), ("NAMESPACE", "sample")],
    )
}

/// Sends a first request of `url` with this node, none if there is none.
fn introduce(stream: &mut Stream, url: &str, node: Option<Node>) {
    stream.forget_node();
    let type_url = url.to_owned();
    match stream.protocol {
        Sotw => stream.sotw(DiscoveryRequest { type_url, node, ..DiscoveryRequest::default() }),
        Delta => stream.delta(DeltaDiscoveryRequest { type_url, node, ..DeltaDiscoveryRequest::default() }),
    }
}

/// A request with an error that answers `nonce`.
pub fn reject(
    stream: &mut Stream,
    kind: ResourceType,
    names: &[String],
    nonce: &str,
    version: &str,
    text: &str,
) {
    let error_detail = Some(Status { code: 3, message: text.to_owned() });
    let (type_url, response_nonce) = (kind.url().to_owned(), nonce.to_owned());
    match stream.protocol {
        Sotw => stream.sotw(DiscoveryRequest {
            type_url,
            response_nonce,
            error_detail,
            resource_names: names.to_vec(),
            version_info: version.to_owned(),
            ..DiscoveryRequest::default()
        }),
        Delta => stream.delta(DeltaDiscoveryRequest {
            type_url,
            response_nonce,
            error_detail,
            resource_names_subscribe: names.to_vec(),
            ..DeltaDiscoveryRequest::default()
        }),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn xc01_the_node_of_the_first_request_counts_for_all_types() {
    let plane = Plane::start(1).await;
    for protocol in BOTH {
        let mut stream = plane.stream(protocol, router()).await;
        stream.start(Cluster, &ALL).await;
        // Without a node: `Stream` sends it once.
        let later = stream.start(Listener, &ALL).await;
        let mut at_once = plane.stream(protocol, router()).await;
        let listeners = at_once.start(Listener, &ALL).await;
        assert_eq!(later.resources, listeners.resources);
        let mut other = plane.proxy(protocol, "a").await;
        assert_ne!(other.start(Listener, &ALL).await.resources, listeners.resources, "of another proxy");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn xc02_no_node_or_an_empty_id_is_refused_with_a_status() {
    let plane = Plane::start(1).await;
    for protocol in BOTH {
        for node in [None, Some(Node::default()), Some(node("", &[("CLUSTER_ID", "east")]))] {
            let mut stream = plane.proxy(protocol, "a").await;
            introduce(&mut stream, Cluster.url(), node);
            assert_eq!(stream.end().await.code(), Code::InvalidArgument);
        }
    }
    plane.serves().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn xc03_a_node_that_changes_in_mid_stream_is_ignored() {
    let plane = Plane::start(1).await;
    // Of another network without a gateway: nothing is reachable from there (D2).
    let elsewhere = sidecar("b", "west", "net-west");
    for protocol in BOTH {
        let mut other = plane.stream(protocol, elsewhere.clone()).await;
        assert_eq!(other.start(Endpoint, &[eds(0)]).await.endpoints(&eds(0)), [""; 0]);
        let mut stream = plane.proxy(protocol, "a").await;
        stream.start(Cluster, &ALL).await;
        let (type_url, node) = (Endpoint.url().to_owned(), Some(elsewhere.clone()));
        match protocol {
            Sotw => stream.sotw(DiscoveryRequest {
                type_url,
                node,
                resource_names: vec![eds(0)],
                ..DiscoveryRequest::default()
            }),
            Delta => stream.delta(DeltaDiscoveryRequest {
                type_url,
                node,
                resource_names_subscribe: vec![eds(0)],
                ..DeltaDiscoveryRequest::default()
            }),
        }
        assert_eq!(stream.take(Endpoint).await.endpoints(&eds(0)), ["10.10.0.1:8080"], "the first node's");
        assert!(plane.server.proxies().await.iter().any(|row| row["cluster"] == "east"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn xc04_an_aggregated_request_needs_a_type_and_one_of_a_single_type_does_not() {
    let plane = Plane::start(1).await;
    for protocol in BOTH {
        let mut stream = plane.proxy(protocol, "a").await;
        introduce(&mut stream, "", Some(sidecar("a", "east", "net-east")));
        assert_eq!(stream.end().await.code(), Code::InvalidArgument);
        let node = sidecar("a", "east", "net-east");
        let mut single = Stream::open_eds(plane.address(), protocol, node).await;
        single.ask_url("", &[eds(0)]);
        assert_eq!(single.take(Endpoint).await.names(), [eds(0)]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn xc05_another_type_on_a_stream_of_a_single_type_is_refused() {
    let plane = Plane::start(1).await;
    for protocol in BOTH {
        let node = sidecar("a", "east", "net-east");
        let mut stream = Stream::open_eds(plane.address(), protocol, node).await;
        stream.start(Endpoint, &[eds(0)]).await;
        stream.ask(Cluster, &ALL);
        // The first thing that comes: no data.
        assert_eq!(stream.next().await.expect_err("refused").code(), Code::InvalidArgument);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn xc06_an_unknown_type_leaves_the_others_alone() {
    let plane = Plane::start(1).await;
    for protocol in BOTH {
        let mut stream = plane.proxy(protocol, "a").await;
        stream.ask_url("type.googleapis.com/foo.Bar", &["x"]);
        if protocol == Delta {
            let told = stream.next().await.expect("an answer");
            assert_eq!((told.url.as_str(), told.removed), ("type.googleapis.com/foo.Bar", strings(&["x"])));
        }
        stream.start(Endpoint, &[eds(0)]).await;
        stream.silent().await;
        // A hundred types: what is remembered of them is bounded, and nobody else waits for them.
        for number in 0..100 {
            stream.ask_url(&format!("type.googleapis.com/foo.Bar{number}"), &["x"]);
        }
        plane.apply(slice(0, 2));
        stream.until_endpoints(&eds(0), 2).await;
        plane.apply(slice(0, 1));
        stream.until_endpoints(&eds(0), 1).await;
    }
}

/// Flips the endpoints of service 0; the nonces and versions of the answers.
async fn flips(plane: &Plane, stream: &mut Stream, count: usize) -> Vec<(String, String)> {
    stream.start(Endpoint, &[eds(0)]).await;
    let mut all = Vec::new();
    for round in 0..count {
        plane.apply(slice(0, 2 - round % 2));
        let told = stream.take(Endpoint).await;
        let version = match stream.protocol {
            Sotw => told.version,
            Delta => told.resources[0].version.clone(),
        };
        all.push((told.nonce, version));
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn xc07_a_nonce_is_used_once_and_is_no_version() {
    let plane = Plane::start(1).await;
    for protocol in BOTH {
        let mut stream = plane.proxy(protocol, "a").await;
        let all = flips(&plane, &mut stream, 100).await;
        let nonces: BTreeSet<_> = all.iter().map(|(nonce, _)| nonce).collect();
        let versions: BTreeSet<_> = all.iter().map(|(_, version)| version).collect();
        assert_eq!((nonces.len(), versions.len()), (100, 2), "equal content has equal versions");
        assert!(nonces.is_disjoint(&versions));
    }
}

/// Subscribes to the four types; what came.
async fn everything(stream: &mut Stream) {
    stream.start(Cluster, &ALL).await;
    stream.start(Endpoint, &[eds(0)]).await;
    stream.start(Listener, &ALL).await;
    stream.start(Route, &["80"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn xc08_a_change_of_one_type_is_no_push_of_another() {
    let plane = Plane::start(2).await;
    for protocol in BOTH {
        let mut stream = plane.proxy(protocol, "a").await;
        everything(&mut stream).await;
        plane.apply(slice(0, 2));
        let told = stream.take(Endpoint).await;
        assert_eq!(told.names(), [eds(0)]);
        stream.silent().await;
        plane.apply(slice(0, 1));
        stream.take(Endpoint).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn xc09_after_an_ack_nothing_comes_while_nothing_changes() {
    let plane = Plane::start(1).await;
    for protocol in BOTH {
        let mut stream = plane.proxy(protocol, "a").await;
        everything(&mut stream).await;
        stream.silent().await;
        for kind in ["cds", "eds", "lds", "rds"] {
            let row = eventually("all is accepted", async || {
                let row = plane.server.sync(kind).await;
                (row["status"] == "SYNCED").then_some(row)
            })
            .await;
            assert_eq!(row["responses"], 1, "{kind}");
        }
        drop(stream);
        plane.server.streams(0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn xc10_a_rejection_is_known_by_its_error_and_not_by_its_version() {
    let plane = Plane::start(1).await;
    let mut stream = plane.proxy(Sotw, "a").await;
    let mut before = stream.start(Endpoint, &[eds(0)]).await;
    for (round, newest) in [(2, true), (3, false)] {
        plane.apply(slice(0, round));
        let told = stream.expect(Endpoint).await;
        let version = if newest { &told.version } else { &before.version };
        reject(&mut stream, Endpoint, &[eds(0)], &told.nonce, version, "no");
        stream.silent().await;
        let row = plane.server.sync("eds").await;
        assert_eq!((row["nacks"].as_u64(), row["status"].as_str()), (Some(round as u64 - 1), Some("ERROR")));
        before = told;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn xc11_what_was_rejected_is_sent_again_only_when_it_changes() {
    for protocol in BOTH {
        let plane = Plane::start(2).await;
        let mut stream = plane.proxy(protocol, "a").await;
        stream.start(Endpoint, &[eds(0), eds(1)]).await;
        plane.apply(slice(0, 2));
        let told = stream.expect(Endpoint).await;
        stream.nack(&told, "no");
        // Longer than anything is held back.
        stream.silent_for(Duration::from_millis(6_500)).await;
        // Of another name: the rejected one does not come with it.
        plane.apply(slice(1, 2));
        assert_eq!(stream.take(Endpoint).await.names(), [eds(1)]);
        plane.apply(slice(0, 3));
        let told = stream.take(Endpoint).await;
        assert_eq!((told.names(), told.endpoints(&eds(0)).len()), (vec![eds(0).as_str()], 3));
        stream.silent().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn xc12_rejections_out_of_place_are_harmless() {
    let plane = Plane::start(1).await;
    for protocol in BOTH {
        let mut other = plane.proxy(protocol, "other").await;
        other.start(Endpoint, &[eds(0)]).await;
        // D26: counted, and handled as a subscription.
        let mut stream = plane.proxy(protocol, "a").await;
        reject(&mut stream, Endpoint, &[eds(0)], "x", "", &"e".repeat(1 << 20));
        stream.take(Endpoint).await;
        reject(&mut stream, Listener, &[], "", "", "before any response");
        stream.take(Listener).await;
        reject(&mut stream, Endpoint, &[eds(0)], "no-such-nonce", "", "unknown\nnonce");
        if protocol == Delta {
            // Names count whatever the nonce (X-D09).
            stream.take(Endpoint).await;
        }
        stream.silent().await;
        other.silent().await;
        plane.apply(slice(0, 2));
        other.until_endpoints(&eds(0), 2).await;
        stream.until_endpoints(&eds(0), 2).await;
        plane.apply(slice(0, 1));
        other.until_endpoints(&eds(0), 1).await;
    }
    let longest = plane.server.log().lines().map(str::len).max();
    assert!(longest.unwrap_or_default() < 4 << 10, "a text of 1 MiB is cut: {longest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn xc13_a_rejection_is_shown_until_the_next_ack() {
    let plane = Plane::start(1).await;
    for (before, protocol) in BOTH.into_iter().enumerate() {
        let mut stream = plane.proxy(protocol, "a").await;
        stream.start(Endpoint, &[eds(0)]).await;
        plane.apply(slice(0, 2));
        let told = stream.expect(Endpoint).await;
        stream.nack(&told, "no thanks\u{7}");
        let row = eventually("it is shown", async || {
            let row = plane.server.sync("eds").await;
            (row["nacks"] == 1).then_some(row)
        })
        .await;
        assert_eq!((row["lastError"].as_str(), row["status"].as_str()), (Some("no thanks "), Some("ERROR")));
        assert_eq!(row["sentNonce"], told.nonce.as_str());
        assert_eq!(plane.server.metric("pilot_total_xds_rejects", "eds").await, before as u64 + 1);
        let (_, text) = plane.server.page("/debug/syncz").await;
        assert!(text.contains("no thanks"), "{text}");
        plane.apply(slice(0, 1));
        stream.take(Endpoint).await;
        eventually("it is gone", async || {
            let row = plane.server.sync("eds").await;
            (row["lastError"].is_null() && row["status"] == "SYNCED").then_some(())
        })
        .await;
        drop(stream);
        plane.server.streams(0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn xc14_the_newest_request_counts_for_who_reads_late() {
    let plane = Plane::start(5).await;
    let node = sidecar("a", "east", "net-east");
    let mut stream = Stream::open_narrow(plane.address(), Sotw, node, 64).await;
    for number in 0..100 {
        stream.ask(Endpoint, &[eds(number % 2)]);
    }
    let last = [eds(2), eds(3), eds(4)];
    stream.ask(Endpoint, &last);
    eventually("all requests are read", async || {
        let rows = plane.server.proxies().await;
        rows.iter().any(|row| row["types"]["eds"]["subscribed"] == 3).then_some(())
    })
    .await;
    let mut seen = 0;
    loop {
        seen += 1;
        let told = stream.expect(Endpoint).await;
        if told.names() == last {
            break;
        }
    }
    // One that was under way, one that the transport had asked for, and the last.
    assert!(seen <= 3, "{seen} responses");
    stream.silent().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn xc15_a_name_asked_for_anew_is_sent_although_it_is_unchanged() {
    let plane = Plane::start(2).await;
    let (a, both) = (vec![eds(0)], vec![eds(0), eds(1)]);
    for protocol in BOTH {
        let mut stream = plane.proxy(protocol, "a").await;
        stream.start(Endpoint, &a).await;
        for _ in 0..2 {
            assert_eq!(stream.start(Endpoint, &both).await.names(), [eds(1)]);
            stream.ask(Endpoint, &a);
            stream.silent().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn xc16_a_name_that_does_not_exist_is_remembered() {
    for protocol in BOTH {
        let plane = Plane::start(1).await;
        let mut stream = plane.proxy(protocol, "a").await;
        // D23: an empty assignment.
        assert_eq!(stream.start(Endpoint, &[eds(9)]).await.endpoints(&eds(9)), [""; 0]);
        plane.apply(slice(9, 1));
        plane.apply(service(9));
        stream.until_endpoints(&eds(9), 1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn xc17_no_name_comes_twice_in_a_response() {
    for protocol in BOTH {
        let plane = Plane::start(3).await;
        let mut stream = plane.proxy(protocol, "a").await;
        // Wildcard and named at once: `Stream` compares the names of every response.
        let told = stream.start(Cluster, &["*".to_owned(), eds(0), eds(1)]).await;
        assert_eq!(told.names().iter().filter(|name| **name == eds(0)).count(), 1);
        plane.apply(rule(0, 3));
        let told = stream.take(Cluster).await;
        assert_eq!(told.names().iter().filter(|name| **name == eds(0)).count(), 1);
        plane.apply(rule(0, 4));
        stream.take(Cluster).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn xc18_a_name_asked_for_thrice_is_sent_once() {
    let plane = Plane::start(1).await;
    let names = vec![eds(0); 3];
    for protocol in BOTH {
        let mut stream = plane.proxy(protocol, "a").await;
        let type_url = Endpoint.url().to_owned();
        match protocol {
            Sotw => stream.sotw(DiscoveryRequest {
                type_url,
                resource_names: names.clone(),
                ..DiscoveryRequest::default()
            }),
            Delta => stream.delta(DeltaDiscoveryRequest {
                type_url,
                resource_names_subscribe: names.clone(),
                ..DeltaDiscoveryRequest::default()
            }),
        }
        assert_eq!(stream.take(Endpoint).await.resources.len(), 1);
        stream.silent().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn xc19_names_types_and_versions_are_those_asked_for() {
    let plane = Plane::start(2).await;
    for protocol in BOTH {
        let mut stream = plane.proxy(protocol, "a").await;
        // Types and versions: `Stream` looks at every resource.
        let names = [eds(0), eds(1), eds(7)];
        assert_eq!(stream.start(Endpoint, &names).await.names(), names);
        assert_eq!(stream.start(Route, &["80", "81"]).await.names(), ["80", "81"]);
        for kind in [Cluster, Listener] {
            let mut stream = plane.proxy(protocol, "a").await;
            let all = stream.start(kind, &ALL).await;
            let one = strings(&[all.names()[0]]);
            let mut by_name = plane.proxy(protocol, "b").await;
            assert_eq!(by_name.start(kind, &one).await.names(), one);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn xc20_aliases_are_not_used() {
    let plane = Plane::start(1).await;
    // `Stream` accepts no field of a resource but version, content and name.
    let mut stream = plane.proxy(Delta, "a").await;
    everything(&mut stream).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn xc21_nothing_of_a_stream_survives_it() {
    let plane = Plane::start(1).await;
    for (round, protocol) in BOTH.into_iter().enumerate() {
        let mut stream = plane.proxy(protocol, "a").await;
        everything(&mut stream).await;
        drop(stream);
        plane.server.streams(0).await;
        let mut stream = plane.proxy(protocol, "a").await;
        // It introduces itself and asks for nothing that exists.
        stream.ask_url("type.googleapis.com/foo.Bar", &ALL);
        plane.server.streams(1).await;
        plane.apply(slice(0, round + 2));
        stream.silent().await;
        drop(stream);
        plane.server.streams(0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn xc22_a_first_request_with_an_old_nonce_is_a_first_request() {
    let plane = Plane::start(1).await;
    let mut stream = plane.proxy(Sotw, "a").await;
    stream.sotw(DiscoveryRequest {
        type_url: Endpoint.url().to_owned(),
        resource_names: vec![eds(0)],
        response_nonce: "old".to_owned(),
        version_info: "7".to_owned(),
        ..DiscoveryRequest::default()
    });
    assert_eq!(stream.expect(Endpoint).await.names(), [eds(0)]);
    let mut stream = plane.proxy(Delta, "a").await;
    stream.delta(DeltaDiscoveryRequest {
        type_url: Endpoint.url().to_owned(),
        resource_names_subscribe: vec![eds(0)],
        response_nonce: "17".to_owned(),
        ..DeltaDiscoveryRequest::default()
    });
    assert_eq!(stream.expect(Endpoint).await.names(), [eds(0)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn xc23_two_streams_of_one_node_share_nothing() {
    for protocol in BOTH {
        let plane = Plane::start(2).await;
        let mut first = plane.proxy(protocol, "a").await;
        first.start(Endpoint, &[eds(0)]).await;
        let mut second = plane.proxy(protocol, "a").await;
        second.start(Endpoint, &[eds(1)]).await;
        plane.server.streams(2).await;
        drop(first);
        plane.server.streams(1).await;
        plane.apply(slice(0, 2));
        second.silent().await;
        plane.apply(slice(1, 2));
        assert_eq!(second.take(Endpoint).await.names(), [eds(1)]);
        drop(second);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn xc24_streams_end_well_and_leave_nothing() {
    let plane = Plane::start(1).await;
    for protocol in BOTH {
        let mut stream = plane.proxy(protocol, "a").await;
        stream.start(Endpoint, &[eds(0)]).await;
        stream.half_close();
        assert_eq!(stream.end().await.code(), Code::Ok);
    }
    plane.server.streams(0).await;
    let (files, threads) = (plane.server.files(), plane.server.threads());
    let mut memory = 0;
    // 1 000 streams that are reset: five on each of two hundred connections.
    for round in 0..200 {
        if round == 100 {
            plane.server.streams(0).await;
            memory = plane.server.memory();
        }
        let protocol = BOTH[round % 2];
        let channel = connect(plane.address()).await;
        let mut streams = Vec::new();
        for _ in 0..5 {
            let node = sidecar("a", "east", "net-east");
            let mut stream = Stream::on(channel.clone(), protocol.ads(), protocol, node).await.unwrap();
            stream.ask(Endpoint, &[eds(0)]);
            streams.push(stream);
        }
        streams[0].expect(Endpoint).await;
    }
    plane.server.streams(0).await;
    eventually("as before", async || {
        (plane.server.files() <= files && plane.server.threads() <= threads).then_some(())
    })
    .await;
    assert!(plane.server.memory() <= memory + memory / 20, "{memory} before, {}", plane.server.memory());
    plane.server.counted("tombolo_connections", "accepted", 202).await;
    plane.server.counted("tombolo_connections", "closed", 202).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn xc25_errors_of_resources_go_to_nobody_who_did_not_ask() {
    let plane = Plane::start(1).await;
    for protocol in BOTH {
        // `Stream` accepts no such field in any response; these are about what does not exist.
        let mut stream = plane.proxy(protocol, "a").await;
        stream.start(Endpoint, &[eds(9)]).await;
        stream.start(Cluster, &["nowhere"]).await;
        stream.start(Route, &["nowhere"]).await;
    }
}

/// CDS is never accepted.
async fn behind_clusters(plane: &Plane, protocol: Protocol) {
    let mut stream = plane.proxy(protocol, "a").await;
    stream.ask(Cluster, &ALL);
    stream.expect(Cluster).await;
    stream.start(Endpoint, &[eds(0)]).await;
    for count in [2, 3, 1] {
        plane.apply(slice(0, count));
        assert_eq!(stream.take(Endpoint).await.endpoints(&eds(0)).len(), count);
    }
    // Nor is what is rejected.
    plane.apply(rule(0, 3));
    let told = stream.expect(Cluster).await;
    stream.nack(&told, "no");
    stream.until_endpoints(&eds(0), 1).await;
    plane.apply(slice(0, 2));
    stream.until_endpoints(&eds(0), 2).await;
    plane.apply(slice(0, 1));
    plane.delete(&rule(0, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn xc26_clusters_that_nobody_accepts_hold_no_assignment() {
    let plane = Plane::start(1).await;
    for protocol in BOTH {
        behind_clusters(&plane, protocol).await;
    }
}
