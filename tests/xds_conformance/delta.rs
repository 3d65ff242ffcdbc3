//! §1.3: the incremental form.

use std::collections::{BTreeMap, BTreeSet};

use tombolo::proto::discovery::{DeltaDiscoveryRequest, Status};
use tombolo::xds::resource::ResourceType::{self, Cluster, Endpoint, Listener, Route, Secret};

use super::client::{Delta, Stream, Told, connect, node, sidecar, strings};
use super::common::ALL;
use super::plane::{Options, Plane, Served, eventually};
use super::world::{eds, heavy, rule, service, service_on, services, slice};

/// Subscribes and unsubscribes.
fn request(kind: ResourceType, add: &[&str], remove: &[&str]) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: kind.url().to_owned(),
        resource_names_subscribe: strings(add),
        resource_names_unsubscribe: strings(remove),
        ..DeltaDiscoveryRequest::default()
    }
}

/// The same, answering a response.
fn answering(told: &Told, add: &[&str], remove: &[&str]) -> DeltaDiscoveryRequest {
    let kind = ResourceType::from_url(&told.url).unwrap();
    DeltaDiscoveryRequest { response_nonce: told.nonce.clone(), ..request(kind, add, remove) }
}

/// With what the client holds.
fn holding(request: DeltaDiscoveryRequest, versions: &[(&str, &str)]) -> DeltaDiscoveryRequest {
    let versions = versions.iter().map(|(name, version)| ((*name).to_owned(), (*version).to_owned()));
    DeltaDiscoveryRequest { initial_resource_versions: versions.collect(), ..request }
}

/// Changes the Envoy clusters of services 0 and 1.
fn change_both(plane: &Plane, connect_seconds: u32) {
    plane.apply(rule(1, connect_seconds));
    plane.apply(rule(0, connect_seconds));
}

#[tokio::test(flavor = "multi_thread")]
async fn xd01_no_names_at_first_is_everything_and_names_are_just_these() {
    let plane = Plane::start(2).await;
    for kind in [Cluster, Listener] {
        let mut stream = plane.proxy(Delta, "a").await;
        stream.delta(request(kind, &[], &[]));
        let all = stream.take(kind).await;
        assert!(all.resources.len() > 2);
        let mut named = plane.proxy(Delta, "a").await;
        let one = all.names()[0].to_owned();
        named.delta(request(kind, &[&one], &[]));
        assert_eq!(named.take(kind).await.names(), [one]);
        named.silent().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn xd02_everything_of_nothing_is_one_empty_response() {
    let plane = Plane::start(0).await;
    // A router without Gateways has no listeners.
    let router = node("router~10.0.0.8~gw.sample~sample.svc.cluster.local", &[("CLUSTER_ID", "east")]);
    let mut stream = plane.stream(Delta, router).await;
    stream.delta(request(Listener, &[], &[]));
    let told = stream.take(Listener).await;
    assert_eq!((told.resources.len(), told.removed.len()), (0, 0));
    stream.silent().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn xd03_names_survive_the_wildcard_beside_them() {
    let plane = Plane::start(2).await;
    let mut stream = plane.proxy(Delta, "a").await;
    stream.delta(request(Cluster, &["*", &eds(0)], &[]));
    assert!(stream.take(Cluster).await.has(&eds(1)));
    stream.delta(request(Cluster, &[], &["*"]));
    stream.silent().await;
    change_both(&plane, 3);
    assert_eq!(stream.take(Cluster).await.names(), [eds(0)]);
    stream.silent().await;
    // And it comes back in mid-stream.
    stream.delta(request(Cluster, &["*"], &[]));
    assert!(stream.take(Cluster).await.has(&eds(1)));
    plane.apply(rule(1, 4));
    assert_eq!(stream.take(Cluster).await.names(), [eds(1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn xd04_everything_and_not_everything_opens_a_type_without_names() {
    let plane = Plane::start(2).await;
    let mut stream = plane.proxy(Delta, "a").await;
    stream.delta(request(Cluster, &["*"], &["*"]));
    stream.silent().await;
    stream.delta(request(Cluster, &[&eds(0)], &[]));
    assert_eq!(stream.take(Cluster).await.names(), [eds(0)]);
    change_both(&plane, 3);
    assert_eq!(stream.take(Cluster).await.names(), [eds(0)]);
    stream.silent().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn xd05_what_is_unsubscribed_under_a_wildcard_is_told_anew() {
    let plane = Plane::start(2).await;
    let mut stream = plane.proxy(Delta, "a").await;
    stream.delta(request(Cluster, &["*", &eds(0), "ghost"], &[]));
    stream.take(Cluster).await;
    stream.delta(request(Cluster, &[], &[&eds(0)]));
    assert_eq!(stream.take(Cluster).await.names(), [eds(0)]);
    stream.delta(request(Cluster, &[], &["ghost"]));
    let told = stream.take(Cluster).await;
    assert_eq!((told.names().len(), told.removed), (0, strings(&["ghost"])));
    stream.silent().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn xd06_what_is_unsubscribed_is_silent() {
    let plane = Plane::start(2).await;
    let mut stream = plane.proxy(Delta, "a").await;
    stream.start(Endpoint, &[eds(0), eds(1)]).await;
    stream.delta(request(Endpoint, &[], &[&eds(0)]));
    stream.silent().await;
    plane.apply(slice(0, 2));
    stream.silent().await;
    plane.apply(slice(1, 2));
    assert_eq!(stream.take(Endpoint).await.names(), [eds(1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn xd07_what_was_never_subscribed_is_unsubscribed_without_harm() {
    let plane = Plane::start(2).await;
    let mut stream = plane.proxy(Delta, "a").await;
    stream.start(Endpoint, &[eds(0)]).await;
    stream.delta(request(Endpoint, &[], &[&eds(1), "never"]));
    stream.silent().await;
    assert_eq!(plane.server.sync("eds").await["subscribed"], 1);
    plane.apply(slice(0, 2));
    assert_eq!(stream.take(Endpoint).await.names(), [eds(0)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn xd08_resubscribing_sends_again() {
    let plane = Plane::start(1).await;
    for kind in [Endpoint, Cluster] {
        let mut stream = plane.proxy(Delta, "a").await;
        stream.delta(request(kind, &[&eds(0)], &[]));
        let first = stream.take(kind).await;
        for _ in 0..2 {
            stream.delta(request(kind, &[&eds(0)], &[]));
            assert_eq!(stream.take(kind).await.resources, first.resources);
        }
        stream.silent().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn xd09_subscriptions_count_whatever_the_nonce() {
    let plane = Plane::start(3).await;
    let mut stream = plane.proxy(Delta, "a").await;
    let first = stream.start(Endpoint, &[eds(0)]).await;
    plane.apply(slice(0, 2));
    let second = stream.take(Endpoint).await;
    stream.delta(answering(&first, &[&eds(1)], &[]));
    assert_eq!(stream.take(Endpoint).await.names(), [eds(1)]);
    let unknown =
        DeltaDiscoveryRequest { response_nonce: "x".to_owned(), ..request(Endpoint, &[&eds(2)], &[]) };
    stream.delta(unknown);
    assert_eq!(stream.take(Endpoint).await.names(), [eds(2)]);
    stream.delta(answering(&second, &[], &[&eds(0)]));
    plane.apply(slice(0, 1));
    stream.silent().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn xd10_an_ack_and_a_subscription_in_one_request_both_count() {
    let plane = Plane::start(2).await;
    let mut stream = plane.proxy(Delta, "a").await;
    stream.delta(request(Endpoint, &[&eds(0)], &[]));
    let told = stream.expect(Endpoint).await;
    stream.delta(answering(&told, &[&eds(1)], &[&eds(0)]));
    let second = stream.expect(Endpoint).await;
    assert_eq!(second.names(), [eds(1)]);
    assert_eq!(plane.server.sync("eds").await["ackedNonce"], told.nonce.as_str());
    plane.apply(slice(0, 2));
    stream.silent().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn xd11_a_rejection_and_a_subscription_in_one_request_both_count() {
    let plane = Plane::start(2).await;
    let mut stream = plane.proxy(Delta, "a").await;
    stream.delta(request(Endpoint, &[&eds(0)], &[]));
    let told = stream.expect(Endpoint).await;
    let error_detail = Some(Status { code: 3, message: "no".to_owned() });
    stream.delta(DeltaDiscoveryRequest { error_detail, ..answering(&told, &[&eds(1)], &[]) });
    assert_eq!(stream.expect(Endpoint).await.names(), [eds(1)]);
    assert_eq!(plane.server.sync("eds").await["nacks"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn xd12_a_request_without_a_nonce_is_no_ack() {
    let plane = Plane::start(2).await;
    let mut stream = plane.proxy(Delta, "a").await;
    stream.delta(request(Endpoint, &[&eds(0)], &[]));
    let first = stream.expect(Endpoint).await;
    stream.delta(request(Endpoint, &[&eds(1)], &[]));
    let second = stream.expect(Endpoint).await;
    assert_eq!(second.names(), [eds(1)]);
    assert_eq!(plane.server.sync("eds").await["ackedNonce"], "");
    stream.delta(answering(&first, &[], &[]));
    eventually("the first is accepted", async || {
        (plane.server.sync("eds").await["ackedNonce"] == first.nonce.as_str()).then_some(())
    })
    .await;
    assert_eq!(plane.server.sync("eds").await["status"], "STALE");
    stream.ack(&second);
    eventually("both are", async || (plane.server.sync("eds").await["status"] == "SYNCED").then_some(()))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn xd13_names_that_do_not_exist_are_answered_and_pushed_when_they_do() {
    let plane = Plane::start(1).await;
    let mut stream = plane.proxy(Delta, "a").await;
    for kind in [Cluster, Listener, Secret] {
        let ghost = if kind == Cluster { eds(9) } else { "0.0.0.0_9090".to_owned() };
        let told = stream.start(kind, &[&ghost]).await;
        assert_eq!((told.names().len(), told.removed), (0, vec![ghost]));
    }
    // D23: an empty resource, since Envoy takes no removal of a route.
    assert_eq!(stream.start(Endpoint, &[eds(9)]).await.endpoints(&eds(9)), [""; 0]);
    let routes = stream.start(Route, &["9090"]).await;
    let empty = routes.value("9090").len();
    stream.silent().await;
    let ports = [80, 9090];
    plane.apply(super::world::slice_on(9, 1, &ports));
    plane.apply(service_on(9, &ports));
    let mut missing: BTreeSet<_> = [Cluster, Endpoint, Listener, Route].map(ResourceType::url).into();
    while !missing.is_empty() {
        let told = stream.next().await.expect("a push");
        stream.ack(&told);
        let there = match ResourceType::from_url(&told.url).unwrap() {
            Endpoint => !told.endpoints(&eds(9)).is_empty(),
            Route => told.value("9090").len() > empty,
            _ => told.removed.is_empty() && told.resources.len() == 1,
        };
        if there {
            missing.remove(told.url.as_str());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn xd14_a_deletion_is_a_removal_and_never_leaves_old_endpoints() {
    let objects = vec![service_on(0, &[9090]), super::world::slice_on(0, 1, &[9090])];
    let plane = Plane::of(objects.clone(), Options::default()).await;
    let name = eds(0).replace("|80|", "|9090|");
    let mut stream = plane.proxy(Delta, "a").await;
    stream.start(Cluster, &ALL).await;
    stream.start(Endpoint, &[&name]).await;
    stream.start(Listener, &ALL).await;
    stream.start(Route, &["9090"]).await;
    // Without CDS on its stream its cluster may be with the client (D23).
    let mut alone = plane.proxy(Delta, "b").await;
    alone.start(Endpoint, &[&name]).await;
    // With CDS but without its cluster nobody needs an empty one.
    let mut without = plane.proxy(Delta, "c").await;
    without.start(Cluster, &["BlackHoleCluster"]).await;
    without.start(Endpoint, &[&name]).await;
    plane.delete(&objects[0]);
    let told = without.take(Endpoint).await;
    assert_eq!((told.resources.len(), told.removed), (0, vec![name.clone()]));
    let emptied = alone.take(Endpoint).await;
    assert_eq!(emptied.endpoints(&name), [""; 0]);
    let mut seen = Vec::new();
    loop {
        let told = stream.next().await.expect("a push");
        stream.ack(&told);
        match ResourceType::from_url(&told.url).unwrap() {
            Endpoint if told.removed.is_empty() => {
                assert_eq!(told.endpoints(&name), [""; 0]);
                seen.push("emptied");
            }
            Listener => {
                assert_eq!(told.removed, ["0.0.0.0_9090"]);
                seen.push("listener");
            }
            Route => {
                assert_eq!(told.removed, ["9090"]);
                seen.push("route");
            }
            Cluster => {
                assert_eq!(told.removed, [name.as_str()]);
                break;
            }
            other => panic!("{other}: {told:?}"),
        }
    }
    assert_eq!(seen, ["emptied", "listener", "route"], "all before the cluster goes");
}

#[tokio::test(flavor = "multi_thread")]
async fn xd15_deleted_and_created_at_once_is_no_removal() {
    let plane = Plane::start(2).await;
    let mut stream = plane.proxy(Delta, "a").await;
    stream.start(Cluster, &ALL).await;
    stream.start(Endpoint, &[eds(0)]).await;
    for count in [2, 3, 1] {
        plane.delete(&service(0));
        plane.apply(service(0));
        plane.apply(slice(0, count));
        // `Stream` refuses a name that is sent and removed in one message.
        let told = stream
            .until(|told| {
                assert!(told.removed.is_empty(), "{told:?}");
                told.is(Endpoint) && told.endpoints(&eds(0)).len() == count
            })
            .await;
        assert_eq!(told.names(), [eds(0)]);
    }
    stream.silent().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn xd16_a_client_that_comes_back_is_told_what_differs() {
    let plane = Plane::start(3).await;
    for kind in [Endpoint, Cluster] {
        let mut stream = plane.proxy(Delta, "a").await;
        let names = [eds(0), eds(1), eds(2)];
        let before = stream.start(kind, &names).await.versions();
        drop(stream);
        let mut stream = plane.proxy(Delta, "a").await;
        let (same, gone) = (before[&eds(0)].as_str(), eds(7));
        let held = [(names[0].as_str(), same), (&names[1], "v_old"), (&gone, "v1")];
        let ask = request(kind, &[&names[0], &names[1], &gone], &[]);
        stream.delta(holding(ask, &held));
        let told = stream.take(kind).await;
        assert!(!told.has(&names[0]) && told.has(&names[1]) && !told.has(&names[2]), "{:?}", told.names());
        match kind {
            // D23: its cluster may be with the client, which must not keep the old endpoints.
            Endpoint => assert_eq!(told.endpoints(&gone), [""; 0]),
            _ => assert_eq!(told.removed, [gone.as_str()]),
        }
        stream.silent().await;
        drop(stream);
        // A client that lacks nothing has everything.
        let mut stream = plane.proxy(Delta, "a").await;
        let held: Vec<_> = before.iter().map(|(name, version)| (name.as_str(), version.as_str())).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        stream.delta(holding(request(kind, &names, &[]), &held));
        stream.silent().await;
        plane.server.streams(1).await;
        let short = if kind == Endpoint { "eds" } else { "cds" };
        let row = plane.server.sync(short).await;
        assert_eq!((row["status"].as_str(), row["responses"].as_u64()), (Some("SYNCED"), Some(0)));
        drop(stream);
        plane.server.streams(0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn xd17_what_a_client_holds_counts_in_its_first_request_only() {
    let plane = Plane::start(2).await;
    let mut stream = plane.proxy(Delta, "a").await;
    let versions = stream.start(Endpoint, &[eds(0), eds(1)]).await.versions();
    drop(stream);
    let mut stream = plane.proxy(Delta, "a").await;
    stream.start(Endpoint, &[eds(0)]).await;
    stream.delta(holding(request(Endpoint, &[&eds(1)], &[]), &[(&eds(1), &versions[&eds(1)])]));
    assert_eq!(stream.take(Endpoint).await.names(), [eds(1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn xd18_what_a_client_holds_subscribes_to_nothing() {
    let plane = Plane::start(2).await;
    let mut stream = plane.proxy(Delta, "a").await;
    stream.delta(holding(request(Endpoint, &[&eds(0)], &[]), &[(&eds(0), "1"), (&eds(1), "1")]));
    assert_eq!(stream.take(Endpoint).await.names(), [eds(0)]);
    plane.apply(slice(1, 2));
    stream.silent().await;
    // Under a wildcard it counts: what is gone is removed.
    let mut stream = plane.proxy(Delta, "a").await;
    let versions = stream.start(Cluster, &ALL).await.versions();
    drop(stream);
    let mut stream = plane.proxy(Delta, "a").await;
    let mut held: Vec<_> = versions.iter().map(|(name, version)| (name.as_str(), version.as_str())).collect();
    held.push(("gone", "1"));
    stream.delta(holding(request(Cluster, &[], &[]), &held));
    let told = stream.take(Cluster).await;
    assert_eq!((told.names().len(), told.removed), (0, strings(&["gone"])));
}

#[tokio::test(flavor = "multi_thread")]
async fn xd19_a_client_that_claims_to_hold_very_much_costs_nothing_that_stays() {
    let plane = Plane::start(1).await;
    plane.serves().await;
    let before = plane.server.memory();
    let many: BTreeMap<_, _> =
        (0..170_000).map(|number| (format!("name-{number:08}"), "1".to_owned())).collect();
    for kind in [Endpoint, Cluster] {
        for _ in 0..3 {
            let mut stream = plane.proxy(Delta, "a").await;
            stream.delta(DeltaDiscoveryRequest {
                initial_resource_versions: many.clone(),
                ..request(kind, &[&eds(0)], &[])
            });
            assert!(stream.take(kind).await.has(&eds(0)));
        }
    }
    // More than 4 MiB is refused.
    let mut stream = plane.proxy(Delta, "a").await;
    let more = (0..400_000).map(|number| (format!("name-{number:08}"), "1".to_owned())).collect();
    stream.delta(DeltaDiscoveryRequest {
        initial_resource_versions: more,
        ..request(Endpoint, &[&eds(0)], &[])
    });
    assert_eq!(stream.end().await.code(), tonic::Code::OutOfRange);
    plane.server.streams(0).await;
    eventually("memory is given back", async || (plane.server.memory() <= before + (48 << 20)).then_some(()))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn xd20_another_replica_sends_nothing_that_the_client_holds() {
    let count = 100;
    let plane = Plane::start(count).await;
    let replica = Served::start(&plane.api, Options::default()).await;
    replica.ready().await;
    let names: Vec<_> = (0..count).map(eds).collect();
    let asked = |kind| if kind == Endpoint { names.clone() } else { Vec::new() };
    let mut first = plane.proxy(Delta, "a").await;
    let mut held = Vec::new();
    let mut full = 0;
    for kind in [Cluster, Endpoint, Listener] {
        let told = first.start(kind, &asked(kind)).await;
        full += told.bytes;
        held.push((kind, told.versions()));
    }
    drop(first);
    let node = sidecar("a", "east", "net-east");
    let mut second = Stream::open(replica.address("grpc"), Delta, node).await;
    let mut again = 0;
    for (kind, versions) in held {
        second.delta(DeltaDiscoveryRequest {
            resource_names_subscribe: asked(kind),
            initial_resource_versions: versions,
            ..request(kind, &[], &[])
        });
        if kind != Endpoint {
            // A wildcard is answered, if only by an empty response (X-D02).
            let told = second.take(kind).await;
            assert_eq!((told.names().len(), told.removed.len()), (0, 0), "{kind}");
            again += told.bytes;
        }
    }
    second.silent().await;
    assert!(again * 20 <= full, "{again} of {full} bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn xd21_a_large_set_comes_in_parts() {
    let mut objects = services(60);
    objects.push(heavy(150_000));
    let plane = Plane::of(objects, Options::default()).await;
    let mut stream = plane.proxy(Delta, "a").await;
    stream.delta(request(Cluster, &[], &[]));
    let parts = parts(&mut stream, 60).await;
    assert!(parts.len() >= 3, "{} parts", parts.len());
    assert!(parts.iter().all(|part| part.bytes <= 4 << 20));
    stream.silent().await;
}

/// Takes parts, none accepted, until so many services are there.
async fn parts(stream: &mut Stream, services: usize) -> Vec<Told> {
    let mut parts = Vec::new();
    let mut seen = BTreeSet::new();
    while (0..services).any(|service| !seen.contains(&eds(service))) {
        let part = stream.expect(Cluster).await;
        for name in part.names() {
            assert!(seen.insert(name.to_owned()), "{name} twice");
        }
        parts.push(part);
    }
    parts
}

#[tokio::test(flavor = "multi_thread")]
async fn xd22_a_part_that_is_rejected_takes_no_other_with_it() {
    let mut objects = services(60);
    objects.push(heavy(150_000));
    let plane = Plane::of(objects, Options::default()).await;
    let mut stream = plane.proxy(Delta, "a").await;
    stream.delta(request(Cluster, &[], &[]));
    let parts = parts(&mut stream, 60).await;
    for (number, part) in parts.iter().enumerate() {
        if number == 1 {
            stream.nack(part, "no");
        } else {
            stream.ack(part);
        }
    }
    stream.silent().await;
    let rejected =
        parts[1].names().into_iter().find(|name| name.starts_with("outbound|")).unwrap().to_owned();
    let number = rejected.rsplit_once("||s").unwrap().1.split('.').next().unwrap().parse().unwrap();
    // What changes it: a rule of its own takes the place of the heavy one.
    plane.apply(rule(number, 3));
    let told = stream.take(Cluster).await;
    assert_eq!(told.names(), [rejected]);
    stream.silent().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn xd23_every_response_has_a_nonce() {
    let plane = Plane::start(1).await;
    // `Stream` asserts it of every response: full, empty, removals, unknown types.
    let mut stream = plane.proxy(Delta, "a").await;
    stream.start(Cluster, &ALL).await;
    stream.start(Endpoint, &[eds(0)]).await;
    stream.start(Listener, &["ghost"]).await;
    stream.ask_url("type.googleapis.com/foo.Bar", &["x"]);
    stream.next().await.expect("an answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn xd24_the_version_of_the_whole_means_nothing() {
    let plane = Plane::start(2).await;
    let mut both = plane.proxy(Delta, "a").await;
    let at_once = both.start(Endpoint, &[eds(0), eds(1)]).await;
    let mut one = plane.proxy(Delta, "b").await;
    let first = one.start(Endpoint, &[eds(0)]).await;
    let second = one.start(Endpoint, &[eds(0), eds(1)]).await;
    // The same resources under the same versions by another way.
    let mut versions = first.versions();
    versions.extend(second.versions());
    assert_eq!(versions, at_once.versions());
    plane.apply(slice(0, 2));
    let (a, b) = (both.take(Endpoint).await, one.take(Endpoint).await);
    assert_eq!(a.resources, b.resources);
}

#[tokio::test(flavor = "multi_thread")]
async fn xd25_a_hundred_streams_do_not_meet() {
    let count = 20;
    let plane = Plane::start(count).await;
    let mut streams = Vec::new();
    for round in 0..25 {
        let channel = connect(plane.address()).await;
        for place in 0..4 {
            let node = sidecar("a", "east", "net-east");
            let mut stream = Stream::on(channel.clone(), Delta.ads(), Delta, node).await.unwrap();
            let mine: BTreeSet<_> = (0..3).map(|n| (round + place * 7 + n * n) % count).collect();
            let names: Vec<_> = mine.iter().map(|service| eds(*service)).collect();
            stream.start(Endpoint, &names).await;
            streams.push((stream, mine));
        }
    }
    for changed in [3, 11] {
        plane.apply(slice(changed, 2));
        for (stream, mine) in &mut streams {
            if mine.contains(&changed) {
                assert_eq!(stream.take(Endpoint).await.names(), [eds(changed)]);
            }
        }
    }
    // Silent all at once.
    let silent = streams.iter_mut().map(|(stream, _)| stream.silent());
    futures::future::join_all(silent).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn xd26_globs_are_names_that_do_not_exist() {
    let plane = Plane::start(2).await;
    let mut stream = plane.proxy(Delta, "a").await;
    let glob = "xdstp://x/envoy.config.cluster.v3.Cluster/a/*";
    for kind in [Cluster, Listener] {
        let told = stream.start(kind, &[glob]).await;
        assert_eq!((told.names().len(), told.removed), (0, strings(&[glob])));
    }
    // D23: an empty resource.
    let told = stream.start(Endpoint, &[glob]).await;
    assert_eq!((told.names(), told.endpoints(glob).len()), (vec![glob], 0));
    plane.apply(rule(0, 3));
    stream.silent().await;
}
