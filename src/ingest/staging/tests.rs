mod arrival;
mod compat;
mod entries;
mod guard;
mod imports;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::ingest::convert;
use crate::ingest::watch::{ListReason, Received};
use crate::model::Health;

fn empty() -> Staging {
    Staging::new(convert::test_context(), "istio-system".into(), Arc::default())
}

fn received<T: serde::de::DeserializeOwned>(object: &Value) -> Received<T> {
    let text = |name: &str| object["metadata"][name].as_str().unwrap_or_default().to_owned();
    Received {
        key: ObjectKey::new(text("namespace"), text("name")),
        uid: text("uid").into(),
        revision: text("resourceVersion").parse().ok(),
        object: serde_json::from_value(object.clone()).map_err(|error| error.to_string()),
    }
}

/// The event of an object that appears or changes.
fn apply(object: &Value) -> StagedEvent {
    match object["kind"].as_str().unwrap() {
        "Namespace" => StagedEvent::Namespace(SourceEvent::Apply(received(object))),
        "Node" => StagedEvent::Node(SourceEvent::Apply(received(object))),
        "Pod" => StagedEvent::Pod(SourceEvent::Apply(received(object))),
        "Service" => StagedEvent::Service(SourceEvent::Apply(received(object))),
        "ServiceExport" => StagedEvent::Export(SourceEvent::Apply(received(object))),
        "ServiceImport" => StagedEvent::Import(SourceEvent::Apply(received(object))),
        "ServiceEntry" => StagedEvent::ServiceEntry(SourceEvent::Apply(received(object))),
        "WorkloadEntry" => StagedEvent::WorkloadEntry(SourceEvent::Apply(received(object))),
        _ => StagedEvent::Slice(SourceEvent::Apply(received(object))),
    }
}

fn delete(object: &Value) -> StagedEvent {
    let text = |name: &str| object["metadata"][name].as_str().unwrap_or_default().to_owned();
    let key = ObjectKey::new(text("namespace"), text("name"));
    match object["kind"].as_str().unwrap() {
        "Namespace" => StagedEvent::Namespace(SourceEvent::Delete { key, revision: None }),
        "Node" => StagedEvent::Node(SourceEvent::Delete { key, revision: None }),
        "Pod" => StagedEvent::Pod(SourceEvent::Delete { key, revision: None }),
        "Service" => StagedEvent::Service(SourceEvent::Delete { key, revision: None }),
        "ServiceExport" => StagedEvent::Export(SourceEvent::Delete { key, revision: None }),
        "ServiceImport" => StagedEvent::Import(SourceEvent::Delete { key, revision: None }),
        "ServiceEntry" => StagedEvent::ServiceEntry(SourceEvent::Delete { key, revision: None }),
        "WorkloadEntry" => StagedEvent::WorkloadEntry(SourceEvent::Delete { key, revision: None }),
        _ => StagedEvent::Slice(SourceEvent::Delete { key, revision: None }),
    }
}

fn system_namespace(network: &str) -> Value {
    json!({"kind": "Namespace", "metadata": {"name": "istio-system",
        "labels": {"topology.istio.io/network": network}}})
}

fn node(name: &str, region: &str) -> Value {
    json!({"kind": "Node", "metadata": {"name": name, "labels": {"topology.kubernetes.io/region": region}}})
}

fn pod(name: &str, ip: &str, node: &str) -> Value {
    json!({"kind": "Pod", "metadata": {"name": name, "namespace": "a"}, "spec": {"nodeName": node},
        "status": {"phase": "Running", "podIP": ip, "conditions": [{"type": "Ready", "status": "True"}]}})
}

fn service(name: &str) -> Value {
    json!({"kind": "Service", "metadata": {"name": name, "namespace": "a"},
        "spec": {"clusterIP": "10.0.0.1", "ports": [{"name": "http", "port": 80}]}})
}

fn gateway(ip: &str) -> Value {
    json!({"kind": "Service", "metadata": {"name": "gw", "namespace": "istio-system",
        "labels": {"topology.istio.io/network": "n1"}},
        "spec": {"type": "LoadBalancer", "clusterIP": "10.0.0.2", "ports": [{"port": 15443}]},
        "status": {"loadBalancer": {"ingress": [{"ip": ip}]}}})
}

/// A slice whose entries are `pod=address` or a bare address; `!` in front means not ready.
fn slice(service: &str, entries: &[&str]) -> Value {
    let entries: Vec<_> = entries
        .iter()
        .map(|entry| {
            let (ready, entry) = entry.strip_prefix('!').map_or((true, *entry), |rest| (false, rest));
            let conditions = json!({"ready": ready, "terminating": false});
            match entry.split_once('=') {
                Some((pod, ip)) => json!({"addresses": [ip], "conditions": conditions,
                    "targetRef": {"kind": "Pod", "name": pod, "namespace": "a"}}),
                None => json!({"addresses": [entry], "conditions": conditions}),
            }
        })
        .collect();
    json!({"kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": format!("{service}-1"), "namespace": "a",
            "labels": {"kubernetes.io/service-name": service}},
        "endpoints": entries, "ports": [{"name": "http", "port": 8080}]})
}

fn key(name: &str) -> ServiceKey {
    ServiceKey::new("a", format!("{name}.a.svc.cluster.local"))
}

fn workload_id(name: &str) -> WorkloadId {
    WorkloadId { cluster: "c1".into(), namespace: "a".into(), name: name.into() }
}

/// What a state tells of a pod.
fn told<'a>(state: &'a ClusterState, pod: &str) -> Option<&'a WorkloadCell> {
    state.workloads.iter().find(|cell| cell.id() == workload_id(pod))
}

fn endpoints(staging: &mut Staging, service: &str) -> Vec<String> {
    let state = staging.state();
    let shard = &state.shards[&key(service)];
    let show = |e: &crate::model::Endpoint| format!("{} {} {:?}", e.addresses[0], e.workload.name, e.health);
    shard.endpoints.iter().map(show).collect()
}

fn conversions(staging: &Staging) -> u64 {
    staging.counts.conversions.load(std::sync::atomic::Ordering::Relaxed)
}

fn pod_conversions(staging: &Staging) -> u64 {
    staging.counts.pod_conversions.load(std::sync::atomic::Ordering::Relaxed)
}

/// A world of `services` services with one pod each.
fn world(services: usize) -> Staging {
    let mut staging = empty();
    staging.apply(apply(&system_namespace("n1")));
    for n in 0..2 {
        staging.apply(apply(&node(&format!("node-{n}"), "r1")));
    }
    for n in 0..services {
        let ip = format!("10.1.{}.{}", n / 256, n % 256);
        staging.apply(apply(&pod(&format!("p{n}"), &ip, &format!("node-{}", n % 2))));
        staging.apply(apply(&service(&format!("s{n}"))));
        staging.apply(apply(&slice(&format!("s{n}"), &[&format!("p{n}={ip}")])));
    }
    staging.take();
    staging
}

#[test]
fn a_list_that_broke_keeps_no_places_of_pods() {
    let mut staging = empty();
    staging.apply(apply(&slice("s", &["p1=10.1.0.1"])));
    staging.apply_in(Some("b".into()), StagedEvent::Slice(SourceEvent::Init));
    let failure = crate::ingest::watch::Failure::Forbidden("HTTP 403".to_owned());
    staging.apply_in(Some("b".into()), StagedEvent::Slice(SourceEvent::Failed(failure)));
    staging.take();
    assert_eq!(staging.pods.ids().count(), 1);
    staging.apply(delete(&slice("s", &[])));
    staging.take();
    assert_eq!(staging.pods.ids().count(), 0);
}

#[test]
fn one_slice_change_in_a_world_of_1000_services_is_one_conversion_and_one_shard() {
    let mut staging = world(1000);
    let (before, pods_before) = (conversions(&staging), pod_conversions(&staging));
    staging.apply(apply(&slice("s7", &["!p7=10.1.0.7"])));
    let batch = staging.take();
    assert_eq!(conversions(&staging) - before, 1);
    assert_eq!(pod_conversions(&staging) - pods_before, 0);
    let touched: Vec<_> = batch.shards.iter().map(|(key, _)| key.clone()).collect();
    assert_eq!(touched, [key("s7")]);
    assert_eq!((batch.workloads.len(), batch.networks), (0, None));
}

#[test]
fn one_pod_change_converts_only_the_services_whose_slices_name_it() {
    let mut staging = world(50);
    staging.apply(apply(&slice("s8", &["p8=10.1.0.8", "p7=10.1.0.7"])));
    staging.take();
    let (before, pods_before) = (conversions(&staging), pod_conversions(&staging));
    let mut changed = pod("p7", "10.1.0.7", "node-1");
    changed["metadata"]["labels"] = json!({"version": "v2"});
    staging.apply(apply(&changed));
    let batch = staging.take();
    assert_eq!((conversions(&staging) - before, pod_conversions(&staging) - pods_before), (2, 1));
    assert_eq!((batch.shards.len(), batch.workloads.len()), (2, 1));
}

#[test]
fn q20_one_node_change_converts_only_the_pods_on_it() {
    let mut staging = world(10);
    let before = pod_conversions(&staging);
    staging.apply(apply(&node("node-0", "r2")));
    let batch = staging.take();
    assert_eq!(pod_conversions(&staging) - before, 5);
    assert_eq!((batch.shards.len(), batch.workloads.len()), (5, 5));
    let state = staging.state();
    assert_eq!(told(&state, "p0").unwrap().locality().to_string(), "r2");
    assert_eq!(told(&state, "p1").unwrap().locality().to_string(), "r1");
}

#[test]
fn objects_told_again_and_fields_we_do_not_use_cost_nothing() {
    let mut staging = world(10);
    let before = (conversions(&staging), pod_conversions(&staging));
    let mut heartbeat = node("node-0", "r1");
    heartbeat["status"] = json!({"conditions": [{"lastHeartbeatTime": "2026-01-01T00:00:00Z"}]});
    staging.apply(apply(&heartbeat));
    let mut annotated = pod("p1", "10.1.0.1", "node-1");
    annotated["metadata"]["annotations"] = json!({"x": "y"});
    annotated["metadata"]["resourceVersion"] = json!("99");
    staging.apply(apply(&annotated));
    staging.apply(apply(&slice("s1", &["p1=10.1.0.1"])));
    assert!(staging.take().is_empty());
    assert_eq!(before, (conversions(&staging), pod_conversions(&staging)));
    assert_eq!(staging.counts.events(ObjectKind::Node, EventKind::UpdateSame), 1);
}

#[test]
fn r5_3_an_endpoint_waits_for_its_pod_and_q23_any_pod_event_releases_it() {
    let mut staging = empty();
    staging.apply(apply(&service("s")));
    staging.apply(apply(&slice("s", &["p1=10.1.0.1", "10.1.0.9"])));
    assert_eq!(endpoints(&mut staging, "s"), ["10.1.0.9  Healthy"]);
    assert_eq!(staging.pending_pods(), 1);
    let without_pods =
        |staging: &Staging| staging.counts.endpoints_without_pods.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(without_pods(&staging), 1);
    let mut starting = pod("p1", "10.1.0.1", "n");
    starting["status"] = json!({"phase": "Pending"});
    staging.apply(apply(&starting));
    assert_eq!(endpoints(&mut staging, "s"), ["10.1.0.1 p1 Healthy", "10.1.0.9  Healthy"]);
    assert_eq!(staging.pending_pods(), 0);
    assert_eq!(without_pods(&staging), 1, "it came once");
    staging.apply(delete(&starting));
    assert_eq!(endpoints(&mut staging, "s"), ["10.1.0.9  Healthy"]);
    assert_eq!(staging.pending_pods(), 1);
    assert_eq!(without_pods(&staging), 2);
}

#[test]
fn r5_3_a_failed_pod_counts_as_absent() {
    let mut staging = world(1);
    let mut failed = pod("p0", "10.1.0.0", "node-0");
    failed["status"]["phase"] = json!("Failed");
    staging.apply(apply(&failed));
    assert!(endpoints(&mut staging, "s0").is_empty());
    assert!(told(&staging.state(), "p0").is_none());
}

#[test]
fn r5_5_r5_7_a_bare_address_follows_the_ready_pod_that_has_it() {
    let mut staging = empty();
    staging.apply(apply(&slice("s", &["10.1.0.1"])));
    assert_eq!(endpoints(&mut staging, "s"), ["10.1.0.1  Healthy"]);
    staging.apply(apply(&pod("p2", "10.1.0.1", "n")));
    assert_eq!(endpoints(&mut staging, "s"), ["10.1.0.1 p2 Healthy"]);
    staging.apply(apply(&pod("p1", "10.1.0.1", "n")));
    assert_eq!(endpoints(&mut staging, "s"), ["10.1.0.1 p1 Healthy"], "the first by name");
    let mut unready = pod("p1", "10.1.0.1", "n");
    unready["status"]["conditions"] = json!([]);
    staging.apply(apply(&unready));
    assert_eq!(endpoints(&mut staging, "s"), ["10.1.0.1 p2 Healthy"]);
    staging.apply(delete(&pod("p2", "", "")));
    assert_eq!(endpoints(&mut staging, "s"), ["10.1.0.1  Healthy"]);
}

#[test]
fn d46_health_is_derived_again_when_the_service_comes() {
    let mut staging = empty();
    let mut leaving = slice("s", &["10.1.0.1"]);
    leaving["endpoints"][0]["conditions"] = json!({"ready": false, "serving": true, "terminating": true});
    staging.apply(apply(&leaving));
    assert_eq!(staging.state().shards[&key("s")].endpoints[0].health, Health::Unhealthy);
    let mut sticky = service("s");
    sticky["metadata"]["labels"] = json!({"istio.io/persistent-session": "x"});
    staging.apply(apply(&sticky));
    assert_eq!(staging.state().shards[&key("s")].endpoints[0].health, Health::Draining);
    staging.apply(apply(&service("s")));
    assert_eq!(staging.state().shards[&key("s")].endpoints[0].health, Health::Terminating);
}

#[test]
fn d12_a_pod_knows_the_services_whose_slices_name_it() {
    let mut staging = world(2);
    staging.apply(apply(&slice("s1", &["p1=10.1.0.1", "p0=10.1.0.0"])));
    let batch = staging.take();
    let touched: Vec<_> = batch.workloads.iter().map(|(id, _)| &*id.name).collect();
    assert_eq!(touched, ["p0"]);
    let services = |staging: &mut Staging| told(&staging.state(), "p0").unwrap().services.clone();
    assert_eq!(services(&mut staging), Set::from([key("s0"), key("s1")]));
    assert_eq!(batch.shards.len(), 1, "other services of the pod are not touched");
    staging.apply(delete(&slice("s0", &[])));
    assert_eq!(services(&mut staging), Set::from([key("s1")]));
}

#[test]
fn a_service_without_endpoints_stays_and_goes_only_with_its_last_object() {
    let mut staging = world(1);
    staging.apply(delete(&slice("s0", &[])));
    assert!(endpoints(&mut staging, "s0").is_empty());
    staging.apply(apply(&slice("s0", &["p0=10.1.0.0"])));
    staging.apply(delete(&service("s0")));
    let state = staging.state();
    assert_eq!(state.shards[&key("s0")].service, None);
    assert_eq!(state.shards[&key("s0")].endpoints.len(), 1);
    staging.apply(delete(&slice("s0", &[])));
    let batch = staging.take();
    assert_eq!(batch.shards, [(key("s0"), None)]);
}

#[test]
fn r2_1_a_change_of_the_system_namespaces_label_moves_the_whole_cluster() {
    let mut staging = world(3);
    staging.apply(apply(&gateway("2.3.4.5")));
    staging.take();
    assert_eq!(staging.state().networks.gateways.len(), 1);
    staging.apply(apply(&system_namespace("n2")));
    let batch = staging.take();
    assert_eq!(batch.shards.len(), 3);
    assert_eq!(batch.workloads.len(), 3);
    let claim = |network: Option<&str>| {
        Some(NetworkClaim { network: network.map(Into::into), ..NetworkClaim::default() })
    };
    assert_eq!(batch.networks, claim(Some("n2")), "D10: n1 is no longer its own");
    assert!(staging.quarantined()[0].contains("istio-system/gw"));
    staging.apply(delete(&system_namespace("")));
    assert_eq!(staging.take().networks, claim(None));
    assert!(staging.network().is_empty());
}

#[test]
fn q6_a_gateway_that_loses_its_address_is_gone_at_once() {
    let mut staging = empty();
    staging.apply(apply(&system_namespace("n1")));
    staging.apply(apply(&gateway("2.3.4.5")));
    assert_eq!(staging.state().networks.gateways[0].address.to_string(), "2.3.4.5");
    staging.apply(apply(&gateway("2.3.4.6")));
    assert_eq!(staging.state().networks.gateways[0].address.to_string(), "2.3.4.6");
    let mut pending = gateway("");
    pending["status"] = json!({});
    staging.apply(apply(&pending));
    assert!(staging.state().networks.gateways.is_empty());
    staging.apply(apply(&gateway("2.3.4.5")));
    staging.apply(delete(&gateway("")));
    assert!(staging.state().networks.gateways.is_empty());
}

#[test]
fn contract_9_a_bad_object_keeps_its_previous_good_version_and_is_named() {
    let mut staging = world(2);
    let before = staging.state();
    let mut bad = service("s0");
    bad["spec"]["ports"] = json!("many");
    staging.apply(apply(&bad));
    assert!(staging.take().is_empty());
    assert_eq!(staging.state(), before);
    assert!(staging.quarantined()[0].starts_with("Service a/s0: "), "{:?}", staging.quarantined());
    staging.apply(apply(&service("s0")));
    assert!(staging.quarantined().is_empty());
}

/// A complete list of slices.
fn relist(staging: &mut Staging, slices: &[Value]) {
    staging.apply(StagedEvent::Slice(SourceEvent::Init));
    for slice in slices {
        staging.apply(StagedEvent::Slice(SourceEvent::InitApply(received(slice))));
    }
    staging.apply(StagedEvent::Slice(SourceEvent::InitDone { reason: ListReason::First }));
}

#[test]
fn a_relist_is_mark_and_sweep_and_equal_objects_cost_nothing() {
    let mut staging = world(3);
    let before = conversions(&staging);
    let same = |n: usize| slice(&format!("s{n}"), &[&format!("p{n}=10.1.0.{n}")]);
    relist(&mut staging, &[same(0), same(1), same(2)]);
    assert!(staging.take().is_empty());
    assert_eq!(conversions(&staging), before);

    let mut bad = same(1);
    bad["endpoints"] = json!(7);
    relist(&mut staging, &[same(0), bad]);
    let batch = staging.take();
    assert_eq!(conversions(&staging) - before, 1, "s2 has lost its slice; s1 keeps the good one");
    assert_eq!(batch.shards.len(), 1);
    assert!(endpoints(&mut staging, "s2").is_empty());
    assert_eq!(endpoints(&mut staging, "s1"), ["10.1.0.1 p1 Healthy"]);
    assert_eq!(staging.quarantined().len(), 1);
    relist(&mut staging, &[same(0)]);
    assert!(endpoints(&mut staging, "s1").is_empty());
    assert!(staging.quarantined().is_empty(), "nobody is told of what is not there");
}

#[test]
fn what_went_while_a_list_was_read_does_not_come_back_with_it() {
    let mut staging = world(2);
    let same = |n: usize| slice(&format!("s{n}"), &[&format!("p{n}=10.1.0.{n}")]);
    staging.apply(StagedEvent::Slice(SourceEvent::Init));
    for slice in [&same(0), &same(1)] {
        staging.apply(StagedEvent::Slice(SourceEvent::InitApply(received(slice))));
    }
    let Received { key, .. } = received::<crate::ingest::objects::SliceObject>(&same(1));
    staging.apply(StagedEvent::Slice(SourceEvent::InitDelete(key)));
    assert!(staging.take().is_empty(), "nothing of it counts before it is complete");
    assert_eq!(endpoints(&mut staging, "s1"), ["10.1.0.1 p1 Healthy"]);
    staging.apply(StagedEvent::Slice(SourceEvent::InitDone { reason: ListReason::First }));
    assert!(endpoints(&mut staging, "s1").is_empty());
    assert_eq!(endpoints(&mut staging, "s0"), ["10.1.0.0 p0 Healthy"]);
}

#[test]
fn k38_a_listed_object_whose_name_cannot_be_read_takes_none_away() {
    let mut staging = world(3);
    let same = |n: usize| slice(&format!("s{n}"), &[&format!("p{n}=10.1.0.{n}")]);
    relist(&mut staging, &[same(0), json!({"metadata": {}, "endpoints": 7})]);
    assert!(staging.take().is_empty(), "it may be any of the others");
    assert_eq!(endpoints(&mut staging, "s2"), ["10.1.0.2 p2 Healthy"]);
    relist(&mut staging, &[same(0)]);
    assert!(endpoints(&mut staging, "s2").is_empty());
}

#[test]
fn a_list_that_breaks_off_changes_nothing_and_the_next_one_starts_over() {
    let mut staging = world(2);
    staging.apply(StagedEvent::Slice(SourceEvent::Init));
    staging.apply(StagedEvent::Slice(SourceEvent::InitApply(received(&slice("ghost", &["10.9.9.9"])))));
    assert!(staging.take().is_empty());
    let same = |n: usize| slice(&format!("s{n}"), &[&format!("p{n}=10.1.0.{n}")]);
    relist(&mut staging, &[same(0), same(1)]);
    assert!(staging.take().is_empty());
}

#[test]
fn contract_2_complete_means_every_kind_was_listed() {
    let mut staging = empty();
    macro_rules! list {
        ($kind:ident) => {
            assert!(!staging.is_complete());
            staging.apply(StagedEvent::$kind(SourceEvent::Init));
            staging.apply(StagedEvent::$kind(SourceEvent::InitDone { reason: ListReason::First }));
        };
    }
    list!(Namespace);
    list!(Node);
    list!(Pod);
    list!(Service);
    list!(Slice);
    assert!(staging.is_complete());
}

/// What the order tests play with: objects that depend on each other in every way, and versions of them.
fn objects() -> Vec<Value> {
    let mut moved = slice("s1", &["p1=10.1.0.1"]);
    moved["metadata"]["name"] = json!("s0-1");
    vec![
        system_namespace("n1"),
        node("n1", "r1"),
        pod("p0", "10.1.0.0", "n1"),
        pod("p1", "10.1.0.1", "n2"),
        service("s0"),
        service("s1"),
        slice("s0", &["p0=10.1.0.0", "p1=10.1.0.1", "!10.1.0.1"]),
        slice("s1", &["p1=10.1.0.1", "p9=10.1.0.9", "10.1.0.0"]),
        gateway("2.3.4.5"),
        moved,
    ]
}

/// Everything that is seen of a staging, whatever it went through.
fn seen(staging: &mut Staging) -> (ClusterState, usize, Vec<String>) {
    staging.take();
    assert_eq!(staging.pending_pods(), staging.withheld.values().sum::<usize>(), "it is counted along");
    (staging.state(), staging.pending_pods(), staging.quarantined())
}

proptest! {
    #[test]
    fn any_order_of_arrival_gives_the_same_state(
        order in Just((0..9usize).collect::<Vec<_>>()).prop_shuffle(),
        takes in prop::collection::vec(any::<bool>(), 9),
    ) {
        let objects = objects();
        let mut expected = empty();
        for object in &objects[..9] {
            expected.apply(apply(object));
        }
        let mut staging = empty();
        for (n, take) in order.iter().zip(takes) {
            staging.apply(apply(&objects[*n]));
            if take {
                staging.take();
            }
        }
        prop_assert_eq!(seen(&mut staging), seen(&mut expected));
    }

    #[test]
    fn the_state_depends_on_the_objects_held_only(
        steps in prop::collection::vec((0..10usize, any::<bool>(), any::<bool>()), 0..40),
    ) {
        let objects = objects();
        let mut staging = empty();
        let mut held: Vec<Option<usize>> = vec![None; 10];
        // The last object is another version of the slice at 6.
        let place = |n: usize| if n == 9 { 6 } else { n };
        let mut published = ClusterState::default();
        for (n, add, take) in steps {
            staging.apply(if add { apply(&objects[n]) } else { delete(&objects[n]) });
            held[place(n)] = add.then_some(n);
            if take {
                publish(&mut published, staging.take());
            }
        }
        publish(&mut published, staging.take());
        let mut expected = empty();
        for n in held.into_iter().flatten() {
            expected.apply(apply(&objects[n]));
        }
        let (state, pending, quarantined) = seen(&mut expected);
        prop_assert_eq!(seen(&mut staging), (state.clone(), pending, quarantined));
        prop_assert_eq!(published, state, "the batches add up to the state");
    }
}

fn publish(state: &mut ClusterState, batch: Batch) {
    if let Some(claim) = batch.networks {
        state.networks = claim;
    }
    for (id, workload) in batch.workloads {
        state.workloads.retain(|cell| cell.id() != id);
        state.workloads.extend(workload);
    }
    for (key, shard) in batch.shards {
        match shard {
            Some(shard) => state.shards.insert(key, shard),
            None => state.shards.remove(&key),
        };
    }
}
