//! The ADS server over TCP, driven by a raw client.
#![allow(missing_docs, unreachable_pub)]

#[path = "ads/client.rs"]
mod client;
#[path = "ads/routers.rs"]
mod routers;
#[path = "ads/siblings.rs"]
mod siblings;
#[path = "ads/world.rs"]
mod world;
#[path = "ads/zone_aware.rs"]
mod zone_aware;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use client::{Delta, Sotw, node, sidecar, value};
use tombolo::model::{ClusterRole, ClusterStatus, SpiffeId, WorkloadCell, WorkloadId, WorkloadParts};
use tombolo::trust;
use tombolo::xds::Settings;
use tombolo::xds::resource::ResourceType::{Cluster, Endpoint, Listener, Route, Secret};
use world::{World, eds, endpoints, gateway, host, key, shard};

fn sorted(mut names: Vec<&str>) -> Vec<&str> {
    names.sort_unstable();
    names
}

#[tokio::test]
async fn a_sidecar_gets_everything_in_both_protocols() {
    let world = World::start(2).await;
    let mut delta = Delta::open(world.address, sidecar("a", "east", "net-east")).await;
    delta.subscribe(Cluster, &[]).await;
    let clusters = delta.expect(Cluster).await;
    let fixed = ["BlackHoleCluster", "InboundPassthroughCluster", "PassthroughCluster"];
    assert_eq!(sorted(clusters.names()), [&fixed[..], &[&eds(0), &eds(1)]].concat());
    delta.subscribe(Endpoint, &[&eds(0), &eds(1)]).await;
    let assignments = delta.expect(Endpoint).await;
    assert_eq!(endpoints(&assignments.resources[0].2), ["10.10.0.1:8080*1", "172.30.0.2:15443*1"]);
    delta.subscribe(Listener, &[]).await;
    let listeners = delta.expect(Listener).await;
    assert!(
        listeners.names().contains(&"0.0.0.0_80") && listeners.names().contains(&"virtualOutbound"),
        "{:?}",
        listeners.names()
    );
    delta.subscribe(Route, &["80"]).await;
    assert_eq!(delta.expect(Route).await.names(), ["80"]);
    delta.silent().await;

    let mut sotw = Sotw::open(world.address, sidecar("b", "east", "net-east")).await;
    for (kind, names, count) in [
        (Cluster, vec![], clusters.resources.len()),
        (Endpoint, vec![eds(0), eds(1)], 2),
        (Listener, vec![], listeners.resources.len()),
        (Route, vec!["80".to_owned()], 1),
    ] {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        sotw.send(kind, &names, None).await;
        let response = sotw.next().await.expect("answer");
        assert_eq!((response.type_url.as_str(), response.resources.len()), (kind.url(), count));
        sotw.send(kind, &names, Some(&response)).await;
        if kind == Endpoint {
            let bytes: Vec<_> = response.resources.iter().map(value).collect();
            let same: Vec<_> = assignments.resources.iter().map(|(_, _, message)| message.clone()).collect();
            assert_eq!(bytes, same, "one set of bytes for both protocols");
        }
    }
    sotw.silent().await;
    world.stop().await;
}

#[tokio::test]
async fn xc02_bad_nodes_end_the_stream_with_the_reason() {
    let world = World::start(1).await;
    for (id, reason) in [
        ("", "missing node information"),
        ("sidecar~10.0.0.1~a.b", "has 3 parts"),
        ("ztunnel~10.0.0.1~a.b~c", "unknown proxy type"),
        ("sidecar~nowhere~a.b~c", "no valid IP address"),
    ] {
        let mut stream = Delta::open(world.address, node(id, &[])).await;
        stream.subscribe(Cluster, &[]).await;
        let status = stream.next().await.expect_err("refused");
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        assert!(status.message().contains(reason), "{id}: {}", status.message());
    }
    let mut good = Delta::open(world.address, sidecar("a", "east", "net-east")).await;
    good.subscribe(Endpoint, &[&eds(0)]).await;
    good.expect(Endpoint).await;
    world.stop().await;
}

#[tokio::test]
async fn r1_8_a_proxy_that_reports_an_alias_has_the_view_of_the_cluster_it_means() {
    let settings =
        || Settings { cluster_aliases: [("alias".into(), "west".into())].into(), ..Settings::default() };
    let world = World::start_with(1, settings(), None).await;
    let view = async |cluster: &str| {
        // Where it is follows from its cluster alone.
        let id = "sidecar~10.0.0.9~p.sample~sample.svc.cluster.local";
        let mut stream = Delta::open(world.address, node(id, &[("CLUSTER_ID", cluster)])).await;
        stream.subscribe(Endpoint, &[&eds(0)]).await;
        endpoints(&stream.expect(Endpoint).await.resources[0].2)
    };
    let of_west = view("west").await;
    assert_eq!(view("alias").await, of_west);
    assert_ne!(view("east").await, of_west);
    world.stop().await;
}

#[tokio::test]
async fn streams_are_refused_until_ready() {
    let world = World::start(1).await;
    world.ready.send_replace(false);
    let mut client = tombolo::proto::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient::connect(
        format!("http://{}", world.address),
    )
    .await
    .expect("connects");
    let status = client.delta_aggregated_resources(tokio_stream::pending()).await.expect_err("refused");
    assert_eq!(status.code(), tonic::Code::Unavailable);
    world.stop().await;
}

#[tokio::test]
async fn xc08_one_endpoint_change_is_one_message_to_each_subscriber_and_nothing_else() {
    let mut world = World::start(1_000).await;
    let mut watching = Vec::new();
    for (name, cluster) in [("a", "east"), ("b", "east"), ("c", "west")] {
        let mut stream = Delta::open(world.address, sidecar(name, cluster, &format!("net-{cluster}"))).await;
        stream.subscribe(Endpoint, &[&eds(0)]).await;
        stream.expect(Endpoint).await;
        watching.push(stream);
    }
    let mut elsewhere = Delta::open(world.address, sidecar("d", "east", "net-east")).await;
    elsewhere.subscribe(Endpoint, &[&eds(1), &eds(2)]).await;
    elsewhere.expect(Endpoint).await;

    let counts = |world: &World| {
        let xds = world.server.counts();
        [
            world.registry.counts().publishes.load(Ordering::Relaxed),
            xds.assignment_builds.load(Ordering::Relaxed),
            xds.wakeups.load(Ordering::Relaxed),
            xds.responses.get(Endpoint),
            xds.service_builds.load(Ordering::Relaxed),
            xds.list_builds.load(Ordering::Relaxed),
        ]
    };
    let before = counts(&world);
    world.west.set(key(0), shard("west", 0, 3));
    for (stream, sees) in watching.iter_mut().zip([
        vec!["10.10.0.1:8080*1", "172.30.0.2:15443*3"],
        vec!["10.10.0.1:8080*1", "172.30.0.2:15443*3"],
        vec!["10.10.0.1:8080*1", "10.10.0.2:8080*1", "10.10.0.3:8080*1"],
    ]) {
        let response = stream.expect(Endpoint).await;
        assert_eq!(endpoints(&response.resources[0].2), sees);
    }
    elsewhere.silent().await;
    let spent: Vec<u64> = counts(&world).iter().zip(before).map(|(after, before)| after - before).collect();
    // 1 publish; 2 projections × 1 name builds; 3 wake-ups; 3 messages; nothing of CDS, LDS, RDS.
    assert_eq!(spent, [1, 2, 3, 3, 0, 0]);
    world.stop().await;
}

#[tokio::test]
async fn what_happens_to_clusters_wakes_nobody_but_who_waits_for_the_last_of_them() {
    let mut world = World::start(2).await;
    let clusters = world.registry.clusters();
    for id in ["east", "west"] {
        clusters.put(ClusterStatus::new(id.into(), ClusterRole::Remote, "test"));
    }
    let mut streams = Vec::new();
    for name in ["a", "b", "c"] {
        let mut stream = Delta::open(world.address, sidecar(name, "east", "net-east")).await;
        stream.subscribe(Endpoint, &[&eds(0)]).await;
        stream.expect(Endpoint).await;
        streams.push(stream);
    }
    let woken = |world: &World| world.server.counts().wakeups.load(Ordering::Relaxed);
    let before = woken(&world);
    for pods in 1..=100 {
        clusters.update(&"east".into(), |row| row.pending_pods = pods);
        clusters.update(&"west".into(), |row| row.synced = true);
    }
    // What comes after it has come: had anybody been woken for the table, it was before this.
    world.west.set(key(0), shard("west", 0, 3));
    for stream in &mut streams {
        stream.expect(Endpoint).await;
    }
    assert_eq!(woken(&world) - before, 3, "by the endpoints, once each");
    world.registry.clusters().update(&"east".into(), |row| row.synced = true);
    for _ in 0..1_000 {
        if woken(&world) - before == 6 {
            break;
        }
        tokio::task::yield_now().await;
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    assert_eq!(woken(&world) - before, 6, "every cluster has synced: what was withheld may go (D27)");
    world.stop().await;
}

#[tokio::test]
async fn an_equal_write_is_no_publish_and_no_message() {
    let mut world = World::start(2).await;
    let mut stream = Delta::open(world.address, sidecar("a", "east", "net-east")).await;
    stream.subscribe(Endpoint, &[&eds(0)]).await;
    stream.expect(Endpoint).await;
    let publishes = world.registry.counts().publishes.load(Ordering::Relaxed);
    world.west.set(key(0), shard("west", 0, 1));
    stream.silent().await;
    assert_eq!(world.registry.counts().publishes.load(Ordering::Relaxed), publishes);
    world.stop().await;
}

#[tokio::test]
async fn d14_a_gateway_change_rebuilds_only_what_read_its_network() {
    let mut world = World::start(1).await;
    // A service that lives in east only reads no other network.
    world.east.set(key(7), shard("east", 7, 1));
    let mut stream = Delta::open(world.address, sidecar("a", "east", "net-east")).await;
    stream.subscribe(Endpoint, &[&eds(0), &eds(7)]).await;
    stream.expect(Endpoint).await;
    let before = world.server.counts().assignment_builds.load(Ordering::Relaxed);
    world.west.set_networks(Some("net-west".into()), vec![gateway("172.30.0.3")]);
    let response = stream.expect(Endpoint).await;
    assert_eq!(response.names(), [eds(0)]);
    assert_eq!(endpoints(&response.resources[0].2), ["10.10.0.1:8080*1", "172.30.0.3:15443*1"]);
    assert_eq!(world.server.counts().assignment_builds.load(Ordering::Relaxed) - before, 1);
    world.stop().await;
}

#[tokio::test]
async fn xc16_an_unknown_name_is_empty_and_pushed_when_it_appears() {
    let mut world = World::start(1).await;
    let mut delta = Delta::open(world.address, sidecar("a", "east", "net-east")).await;
    let mut sotw = Sotw::open(world.address, sidecar("b", "east", "net-east")).await;
    delta.subscribe(Endpoint, &[&eds(9)]).await;
    assert_eq!(endpoints(&delta.expect(Endpoint).await.resources[0].2), [""; 0]);
    sotw.send(Endpoint, &[&eds(9)], None).await;
    let empty = sotw.next().await.expect("answer");
    assert_eq!(endpoints(&value(&empty.resources[0])), [""; 0]);
    sotw.send(Endpoint, &[&eds(9)], Some(&empty)).await;
    world.east.set(key(9), shard("east", 9, 1));
    assert_eq!(endpoints(&delta.expect(Endpoint).await.resources[0].2), ["10.10.0.1:8080*1"]);
    let pushed = sotw.next().await.expect("push");
    assert_eq!(endpoints(&value(&pushed.resources[0])), ["10.10.0.1:8080*1"]);
    world.stop().await;
}

#[tokio::test]
async fn d25_a_new_service_is_cds_then_eds_and_a_removed_one_lingers() {
    let mut world = World::start(1).await;
    let mut stream = Delta::open(world.address, sidecar("a", "east", "net-east")).await;
    stream.subscribe(Cluster, &[]).await;
    stream.expect(Cluster).await;
    stream.subscribe(Endpoint, &[&eds(0), &eds(5)]).await;
    stream.expect(Endpoint).await;
    world.east.set(key(5), shard("east", 5, 1));
    assert_eq!(stream.expect(Cluster).await.names(), [eds(5)]);
    let assignment = stream.expect(Endpoint).await;
    assert_eq!(assignment.names(), [eds(5)]);
    assert_eq!(endpoints(&assignment.resources[0].2), ["10.10.0.1:8080*1"]);
    world.east.remove(&key(5));
    // The Envoy cluster stays for a while, without endpoints; then it goes.
    let emptied = stream.expect(Endpoint).await;
    assert_eq!((emptied.names(), endpoints(&emptied.resources[0].2).len()), (vec![eds(5).as_str()], 0));
    let removed = stream.next_within(tombolo::xds::LINGER * 2).await.expect("removed after the linger time");
    assert_eq!((removed.type_url.as_str(), removed.removed), (Cluster.url(), vec![eds(5)]));
    world.stop().await;
}

#[tokio::test]
async fn a_service_deleted_and_created_again_at_once_is_right_at_once() {
    let mut world = World::start(1).await;
    let mut stream = Delta::open(world.address, sidecar("a", "east", "net-east")).await;
    stream.subscribe(Cluster, &[]).await;
    stream.expect(Cluster).await;
    stream.subscribe(Endpoint, &[&eds(0)]).await;
    stream.expect(Endpoint).await;
    world.east.remove(&key(0));
    world.west.remove(&key(0));
    assert_eq!(endpoints(&stream.expect(Endpoint).await.resources[0].2), [""; 0]);
    world.east.set(key(0), shard("east", 0, 2));
    let mut last = Vec::new();
    while last != ["10.10.0.1:8080*1", "10.10.0.2:8080*1"] {
        let response = stream.next().await.expect("an answer");
        assert!(response.removed.is_empty(), "X-D15: never removed");
        stream.ack(&response).await;
        if response.type_url == Endpoint.url() {
            last = endpoints(&response.resources[0].2);
        }
    }
    world.stop().await;
}

#[tokio::test]
async fn xc11_rejected_content_is_not_sent_again_until_it_changes() {
    let mut world = World::start(1).await;
    let mut stream = Delta::open(world.address, sidecar("a", "east", "net-east")).await;
    stream.subscribe(Endpoint, &[&eds(0)]).await;
    stream.expect(Endpoint).await;
    world.west.set(key(0), shard("west", 0, 2));
    let rejected = stream.next().await.expect("push");
    stream.nack(&rejected, "no thanks").await;
    stream.silent().await;
    let status = world.server.streams();
    assert_eq!(status[0].types[&Endpoint].last_error.as_deref(), Some("no thanks"), "X-C13");
    world.west.set(key(0), shard("west", 0, 4));
    assert_eq!(
        endpoints(&stream.expect(Endpoint).await.resources[0].2),
        ["10.10.0.1:8080*1", "172.30.0.2:15443*4"]
    );
    world.stop().await;
}

#[tokio::test]
async fn d12_a_pod_that_arrives_after_its_proxy_changes_the_view_in_mid_stream() {
    let world = World::start(1).await;
    // The proxy does not name its network and its cluster is not known: it sees gateways only (R4.25).
    let lost = node("sidecar~10.0.0.9~p.sample~sample.svc.cluster.local", &[("CLUSTER_ID", "other")]);
    let mut stream = Delta::open(world.address, lost).await;
    stream.subscribe(Endpoint, &[&eds(0)]).await;
    let before = stream.expect(Endpoint).await;
    assert_eq!(endpoints(&before.resources[0].2), ["10.10.0.1:8080*1", "172.30.0.2:15443*1"]);
    let id = WorkloadId { cluster: "other".into(), namespace: "sample".into(), name: "p".into() };
    let mut other = world.registry.writer("other".into(), ClusterRole::Remote).expect("first writer");
    let pod = WorkloadParts { network: "net-west".into(), ..WorkloadParts::of(&id) };
    other.apply([(id, Some(pod.into()))], []);
    let after = stream.expect(Endpoint).await;
    assert_eq!(
        endpoints(&after.resources[0].2),
        ["10.10.0.1:8080*1"],
        "direct in the west, nothing reachable in the east"
    );
    world.stop().await;
}

#[tokio::test]
async fn an_east_west_gateway_carries_sni_clusters_of_its_own_network() {
    let world = World::start(1).await;
    let gateway = node(
        "router~10.0.0.9~gw.istio-system~istio-system.svc.cluster.local",
        &[("CLUSTER_ID", "west"), ("NETWORK", "net-west"), ("REQUESTED_NETWORK_VIEW", "net-west")],
    );
    let mut stream = Delta::open(world.address, gateway).await;
    stream.subscribe(Cluster, &[]).await;
    let name = format!("outbound_.80_._.{}", host(0));
    assert!(stream.expect(Cluster).await.names().contains(&name.as_str()));
    stream.subscribe(Endpoint, &[&name]).await;
    assert_eq!(endpoints(&stream.expect(Endpoint).await.resources[0].2), ["10.10.0.1:8080*1"]);
    stream.subscribe(Listener, &[]).await;
    assert_eq!(stream.expect(Listener).await.names(), ["0.0.0.0_15443"]);
    world.stop().await;
}

#[tokio::test]
async fn xs18_content_that_flips_back_is_sent_back() {
    let mut world = World::start(3).await;
    let mut sotw = Sotw::open(world.address, sidecar("a", "west", "net-west")).await;
    let names = [eds(0), eds(1), eds(2)];
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    sotw.send(Cluster, &[], None).await;
    let clusters = sotw.next().await.expect("answer");
    sotw.send(Endpoint, &names, None).await;
    sotw.send(Cluster, &[], Some(&clusters)).await;
    let mut response = sotw.next().await.expect("answer");
    sotw.send(Endpoint, &names, Some(&response)).await;
    for count in [2, 1, 3, 1] {
        world.west.set(key(1), shard("west", 1, count));
        response = sotw.next().await.expect("push");
        assert_eq!(response.resources.len(), 1, "X-S03: only what changed");
        assert_eq!(endpoints(&value(&response.resources[0])).len(), count);
        sotw.send(Endpoint, &names, Some(&response)).await;
    }
    // Changes that cross an unacknowledged response are held back, not lost (D22).
    world.west.set(key(1), shard("west", 1, 2));
    response = sotw.next().await.expect("push");
    world.west.set(key(1), shard("west", 1, 3));
    world.west.set(key(1), shard("west", 1, 1));
    sotw.send(Endpoint, &names, Some(&response)).await;
    loop {
        response = sotw.next().await.expect("push");
        sotw.send(Endpoint, &names, Some(&response)).await;
        if endpoints(&value(&response.resources[0])).len() == 1 {
            break;
        }
    }
    sotw.silent().await;
    world.stop().await;
}

fn sleep_pod() -> (WorkloadId, WorkloadCell) {
    let id = WorkloadId { cluster: "east".into(), namespace: "sample".into(), name: "sleep".into() };
    let account = SpiffeId::parse("spiffe://cluster.local/ns/sample/sa/sleep");
    let pod = WorkloadParts { account, network: "net-east".into(), ..WorkloadParts::of(&id) };
    (id, pod.into())
}

async fn world_with_ca(insecure_plaintext_sds: bool) -> (World, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("a directory");
    let now = std::time::SystemTime::now();
    let ca = trust::plant(dir.path(), &["east"], now).expect("a CA");
    let authority = trust::Authority::load(&ca[0], now).expect("loads");
    let settings = Settings { insecure_plaintext_sds, ..Settings::default() };
    let secrets = Arc::new(trust::WorkloadCertificates::new(authority));
    (World::start_with(1, settings, Some(secrets)).await, dir)
}

#[tokio::test]
async fn d29_private_keys_need_the_flag_and_roots_do_not() {
    let (mut world, _dir) = world_with_ca(false).await;
    let (id, pod) = sleep_pod();
    world.east.apply([(id, Some(pod))], []);
    let mut stream = Delta::open(world.address, sidecar("sleep", "east", "net-east")).await;
    stream.subscribe(Secret, &["default", "ROOTCA"]).await;
    let answer = stream.expect(Secret).await;
    assert_eq!(answer.names(), ["ROOTCA"]);
    assert_eq!(answer.removed, ["default"]);
    assert!(world.server.counts().secrets_withheld.load(Ordering::Relaxed) > 0, "Z-22");
    world.stop().await;
}

#[tokio::test]
async fn d29_the_identity_is_the_registrys_and_outlives_the_pod_object_while_connected() {
    let (mut world, _dir) = world_with_ca(true).await;
    let mut stream = Delta::open(world.address, sidecar("sleep", "east", "net-east")).await;
    stream.subscribe(Secret, &["default"]).await;
    assert_eq!(stream.expect(Secret).await.removed, ["default"], "nobody knows this pod yet");
    let (id, pod) = sleep_pod();
    world.east.apply([(id.clone(), Some(pod))], []);
    let issued = stream.expect(Secret).await;
    assert_eq!(issued.names(), ["default"]);
    world.east.apply([(id, None)], []);
    stream.silent().await;
    world.stop().await;
}
