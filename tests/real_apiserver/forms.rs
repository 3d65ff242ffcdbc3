//! One world in every form an API server can tell it: protobuf and JSON, streamed and in pages.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tombolo::ingest::ObjectKind;
use tombolo::registry::ClusterState;

use super::assets::assets;
use super::audit::Audit;
use super::client::client;
use super::cluster::{Cluster, many_services, many_slices};
use super::front::Gateway;
use super::plane::Plane;

/// More than ten pages of 500.
const SLICES: usize = 5200;

fn add_on_objects() -> [Value; 2] {
    [
        json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
            "metadata": {"name": "api", "namespace": "istio-system",
                "labels": {"topology.istio.io/network": "net-east"}},
            "spec": {"gatewayClassName": "istio", "addresses": [{"type": "IPAddress", "value": "192.0.2.7"}],
                "listeners": [{"name": "x", "port": 15008, "protocol": "HBONE"}]}}),
        json!({"apiVersion": "multicluster.x-k8s.io/v1alpha1", "kind": "ServiceExport",
            "metadata": {"name": "helloworld", "namespace": "sample"}}),
    ]
}

/// Bytes of bodies that EndpointSlices took.
fn bytes(plane: &Plane) -> u64 {
    plane.status("east").sources["EndpointSlice"].counters.bytes
}

/// A control plane that has read everything, and what it holds.
async fn read(kubeconfig: &str) -> (Plane, ClusterState) {
    let since = Instant::now();
    let plane = Plane::start("east", kubeconfig).await;
    plane.ready().await;
    plane.is("east", "live").await;
    println!("read in {:?}", since.elapsed());
    let state = plane.state("east");
    let status = plane.status("east");
    for (kind, objects) in [("EndpointSlice", SLICES + 1), ("Gateway", 1), ("ServiceExport", 1), ("Pod", 2)] {
        assert_eq!(status.objects[kind], objects, "{kind}s");
    }
    let failures: Vec<_> =
        status.sources.iter().map(|(kind, source)| (kind, source.counters.failures)).collect();
    assert!(failures.iter().all(|(_, failures)| *failures == 0), "{failures:?}");
    (plane, state)
}

/// Whether every kind was asked for as a stream, and how many pages of EndpointSlices were.
fn asked(audit: &Audit, from: usize) -> (bool, usize) {
    let requests: Vec<_> = audit.requests().split_off(from);
    let streams = |plural: &str| {
        let mut of = requests.iter().filter(|request| request.resource == plural && request.code == 200);
        of.any(|request| request.uri.contains("sendInitialEvents=true"))
    };
    let plurals = ["services", "endpointslices", "pods", "nodes", "namespaces", "gateways", "serviceexports"];
    let streamed = plurals.iter().filter(|plural| streams(plural)).count();
    assert!(streamed == 0 || streamed == plurals.len(), "some kinds were streamed and some not");
    let pages = requests.iter().filter(|request| {
        request.resource == "endpointslices" && request.uri.contains("limit=500") && request.code == 200
    });
    (streamed > 0, pages.count())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_form_gives_the_same_registry() {
    let Some(assets) = assets() else { return };
    let audit = Audit::new();
    let notes = audit.flags();
    let flags: Vec<_> = notes.iter().map(String::as_str).collect();
    let mut east = Cluster::with_world(&assets, "east", &flags).await;
    east.install_add_ons().await;
    for object in add_on_objects() {
        east.create(&object).await;
    }
    let since = Instant::now();
    east.create_many(&many_services()).await;
    east.create_many(&many_slices(SLICES)).await;
    println!("{SLICES} EndpointSlices made in {:?}", since.elapsed());

    let (protobuf, expected) = read(&east.kubeconfig()).await;
    assert_eq!(expected.shards.values().map(|shard| shard.endpoints.len()).sum::<usize>(), SLICES + 2);
    assert_eq!(asked(&audit, 0), (true, 0));
    let gateway = Gateway::before(client(&east.kubeconfig()).await).await;
    let (json, state) = read(&gateway.kubeconfig()).await;
    assert!(state == expected, "JSON and protobuf streams differ");
    let (as_json, otherwise, wanted) = gateway.answers();
    assert!(as_json > 8 && otherwise == 0 && wanted > 4, "{as_json}, {otherwise}, {wanted}");
    let (small, large) = (bytes(&protobuf), bytes(&json));
    println!("EndpointSlices: {small} bytes of protobuf, {large} of JSON");
    assert!(small * 5 < large * 4, "{small} bytes are not those of protobuf, with {large} of JSON");

    // The same objects by a server without streaming lists.
    east.server.set_api_flags([notes, vec!["--feature-gates=WatchList=false".to_owned()]].concat());
    json.stop().await;
    east.restart_api().await;
    let before = audit.requests().len();
    let (paged, state) = read(&east.kubeconfig()).await;
    assert!(state == expected, "protobuf pages and streams differ");
    let (streamed, pages) = asked(&audit, before);
    assert!(!streamed && pages > 10, "{pages} pages");
    let gateway = Gateway::before(client(&east.kubeconfig()).await).await;
    let (json, state) = read(&gateway.kubeconfig()).await;
    assert!(state == expected, "JSON pages and protobuf streams differ");
    assert_eq!(gateway.answers().1, 0, "everything was JSON");
    assert!(asked(&audit, before).1 >= 2 * pages);

    // The one that saw the restart has lost nothing, and all see what comes next.
    let gone = &many_slices(SLICES)[42];
    east.delete(gone).await;
    for plane in [&protobuf, &paged, &json] {
        plane
            .until("the deletion is seen", || plane.registry.endpoints_of(&"east".into()) == SLICES + 1)
            .await;
        plane.is("east", "live").await;
    }
    let expected = protobuf.state("east");
    assert!(paged.state("east") == expected && json.state("east") == expected);
    let seen = protobuf.ingest.counts().events(ObjectKind::EndpointSlice, tombolo::ingest::EventKind::Delete);
    assert_eq!(seen, 1, "by a delete event");
    for plane in [protobuf, paged, json] {
        plane.stop().await;
    }
    east.server.stop().await;
    assert!(since.elapsed() < Duration::from_secs(120), "{:?}", since.elapsed());
}
