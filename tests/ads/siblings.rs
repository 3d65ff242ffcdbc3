//! The siblings of a proxy, under the name `local_cluster` (R4.9.10).

use std::sync::atomic::Ordering;

use prost::Message as _;
use tombolo::model::{
    Endpoint, EndpointShard, Labels, Locality, ServiceKey, WorkloadCell, WorkloadId, WorkloadParts,
};
use tombolo::proto::assignment::ClusterLoadAssignment;
use tombolo::proto::discovery as wire;
use tombolo::xds::resource::ResourceType::{Cluster, Endpoint as Eds};

use super::client::{Delta, Sotw, node, sidecar, value};
use super::world::{World, eds, endpoints, key, shard};

pub const NAME: &str = "local_cluster";

/// A pod of a workload, in a zone of region `r`.
fn parts(workload: &str, number: u8, zone: &str) -> WorkloadParts {
    let id = WorkloadId {
        cluster: "east".into(),
        namespace: "sample".into(),
        name: format!("{workload}-{number}").into(),
    };
    WorkloadParts {
        workload_name: workload.into(),
        network: "net-east".into(),
        labels: Labels::from([("pod-template-hash", "6d4f")]),
        locality: Locality::parse(&format!("r/{zone}")),
        ..WorkloadParts::of(&id)
    }
}

/// Pod 0 of a workload, to which these services lead.
pub fn pod(workload: &str, services: &[usize]) -> (WorkloadId, Option<WorkloadCell>) {
    let services = services.iter().map(|service| key(*service)).collect();
    let cell = WorkloadCell { services, ..WorkloadCell::from(parts(workload, 0, "z1")) };
    (cell.id(), Some(cell))
}

/// A service with an endpoint for each of these zones of each workload.
pub fn served(service: usize, workloads: &[(&str, &[&str])]) -> (ServiceKey, EndpointShard) {
    let record = shard("east", service, 0).service;
    let endpoint = |of: usize, workload: &str, number: usize, zone: &str| {
        let number = number as u8;
        Endpoint::new([10, 20, of as u8, number].into(), 8080, "http", parts(workload, number, zone))
    };
    let all = workloads.iter().enumerate().flat_map(|(of, (workload, zones))| {
        zones.iter().enumerate().map(move |(number, zone)| endpoint(of, workload, number, zone))
    });
    (key(service), EndpointShard::new("east".into(), record, all.collect()))
}

fn proxy(workload: &str) -> wire::Node {
    sidecar(&format!("{workload}-0"), "east", "net-east")
}

/// `zone:priority: endpoints` of each group.
fn groups(message: &[u8]) -> Vec<String> {
    let assignment = ClusterLoadAssignment::decode(message).expect("an assignment");
    assert_eq!(assignment.cluster_name, NAME);
    let group = |group: &tombolo::proto::assignment::LocalityLbEndpoints| {
        let zone = group.locality.as_ref().map(|locality| locality.zone.clone()).unwrap_or_default();
        let weight = group.load_balancing_weight.as_ref().map_or(0, |weight| weight.value);
        format!("{zone}/{}: {} of weight {weight}", group.priority, group.lb_endpoints.len())
    };
    assignment.endpoints.iter().map(group).collect()
}

#[tokio::test]
async fn r4_9_10_a_proxy_is_told_of_its_own_workload_and_of_no_other() {
    let mut world = World::start(2).await;
    let (own, told) = served(0, &[("web", &["z1", "z2"]), ("other", &["z1"])]);
    world.east.set(own.clone(), told);
    world.east.apply([pod("web", &[0]), pod("other", &[0])], []);
    let mut web = Delta::open(world.address, proxy("web")).await;
    // As an Envoy does whose bootstrap has the Envoy cluster: it asks before it asks for the others.
    web.subscribe(Eds, &[NAME]).await;
    let answer = web.expect(Eds).await;
    assert_eq!(answer.names(), [NAME]);
    assert_eq!(groups(&answer.resources[0].2), ["z1/0: 1 of weight 1", "z2/0: 1 of weight 1"]);
    web.subscribe(Cluster, &[]).await;
    let clusters = web.expect(Cluster).await;
    assert!(clusters.names().contains(&eds(0).as_str()) && !clusters.names().contains(&NAME));
    let mut other = Sotw::open(world.address, proxy("other")).await;
    other.send(Eds, &[NAME], None).await;
    let first = other.next().await.expect("an answer");
    assert_eq!(groups(&value(&first.resources[0])), ["z1/0: 1 of weight 1"]);
    other.send(Eds, &[NAME], Some(&first)).await;

    let counts = |world: &World| {
        let xds = world.server.counts();
        [
            xds.assignment_builds.load(Ordering::Relaxed),
            xds.responses.get(Eds),
            xds.service_builds.load(Ordering::Relaxed),
            xds.list_builds.load(Ordering::Relaxed),
            xds.route_builds.load(Ordering::Relaxed),
        ]
    };
    let before = counts(&world);
    world.east.set(own.clone(), served(0, &[("web", &["z1", "z2", "z2"]), ("other", &["z1"])]).1);
    let scaled = web.expect(Eds).await;
    assert_eq!(groups(&scaled.resources[0].2), ["z1/0: 1 of weight 1", "z2/0: 2 of weight 2"]);
    other.silent().await;
    let spent: Vec<u64> = counts(&world).iter().zip(before).map(|(after, before)| after - before).collect();
    assert_eq!(spent, [2, 1, 0, 0, 0], "one build for each workload, and one message");

    world.east.set(own, served(0, &[("web", &["z1", "z2", "z2"]), ("other", &["z1", "z3"])]).1);
    let second = other.next().await.expect("a push");
    assert_eq!(groups(&value(&second.resources[0])), ["z1/0: 1 of weight 1", "z3/0: 1 of weight 1"]);
    let before = counts(&world);
    let (elsewhere, told) = served(1, &[("web", &["z1", "z2", "z3"])]);
    world.east.set(elsewhere, told);
    web.silent().await;
    assert_eq!(counts(&world), before, "a service that does not lead to them");
    world.stop().await;
}

#[tokio::test]
async fn r4_9_10_siblings_come_and_go_with_the_services_that_lead_to_the_pod() {
    let mut world = World::start(2).await;
    let (own, told) = served(0, &[("web", &["z1"])]);
    world.east.set(own.clone(), told);
    let mut stream = Delta::open(world.address, proxy("web")).await;
    let mut edge = Sotw::open(
        world.address,
        node(
            "router~10.0.0.9~gw.edge~edge.svc.cluster.local",
            &[("CLUSTER_ID", "east"), ("NAMESPACE", "edge")],
        ),
    )
    .await;
    edge.send(Eds, &[NAME], None).await;
    let nobody = edge.next().await.expect("an answer");
    assert_eq!(groups(&value(&nobody.resources[0])), [""; 0], "a proxy without a service of its own");
    edge.send(Eds, &[NAME], Some(&nobody)).await;
    stream.subscribe(Eds, &[NAME]).await;
    let unknown = stream.expect(Eds).await;
    assert_eq!(groups(&unknown.resources[0].2), [""; 0], "nobody knows this pod yet");
    world.east.apply([pod("web", &[0])], []);
    assert_eq!(groups(&stream.expect(Eds).await.resources[0].2), ["z1/0: 1 of weight 1"]);
    let (other, told) = served(1, &[("web", &["z1", "z1", "z2"])]);
    world.east.set(other, told);
    stream.silent().await;
    world.east.apply([pod("web", &[1])], []);
    let follows = stream.expect(Eds).await;
    assert_eq!(
        endpoints(&follows.resources[0].2),
        ["10.20.0.0:8080*1", "10.20.0.1:8080*1", "10.20.0.2:8080*1"]
    );
    // A service that goes leaves an empty assignment: an Envoy does not forget what it has otherwise.
    world.east.remove(&key(1));
    world.west.remove(&key(1));
    let gone = stream.expect(Eds).await;
    assert_eq!((gone.names(), gone.removed.len()), (vec![NAME], 0));
    assert_eq!(groups(&gone.resources[0].2), [""; 0]);
    edge.silent().await;
    world.stop().await;
}
