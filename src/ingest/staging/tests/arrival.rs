//! What comes late, twice, or not at all.

use std::time::{Duration, Instant};

use super::*;
use crate::model::{ClusterRole, TrafficDistribution};
use crate::registry::Registry;

/// One object of each kind that endpoints are made of, in all orders.
fn permutations() -> Vec<Vec<Value>> {
    let objects = [
        system_namespace("n1"),
        node("n1", "r1"),
        pod("p1", "10.1.0.1", "n1"),
        service("s"),
        slice("s", &["p1=10.1.0.1"]),
    ];
    let mut all = vec![Vec::new()];
    for object in objects {
        let longer = all.iter().flat_map(|order: &Vec<Value>| {
            (0..=order.len()).map(|at| {
                let mut order = order.clone();
                order.insert(at, object.clone());
                order
            })
        });
        all = longer.collect();
    }
    all
}

#[test]
fn k28_every_order_of_arrival_gives_the_same_registry_and_never_a_wrong_locality() {
    let orders = permutations();
    assert_eq!(orders.len(), 120);
    let mut expected = None;
    for order in orders {
        let mut staging = empty();
        let registry = Registry::new();
        let mut writer = registry.writer("c1".into(), ClusterRole::Config).unwrap();
        let now = Instant::now();
        staging.advance(now);
        for object in &order {
            staging.apply(apply(object));
            let batch = staging.take();
            writer.publish(batch.networks, batch.workloads, batch.shards);
            let snapshot = registry.service(&key("s")).map(|cell| cell.load());
            let shards = snapshot.iter().flat_map(|snapshot| snapshot.shards.iter());
            for endpoint in shards.flat_map(|shard| shard.endpoints.iter()) {
                assert_eq!(endpoint.workload.locality().to_string(), "r1", "{order:?}");
            }
        }
        let snapshot = registry.service(&key("s")).unwrap().load();
        let seen =
            (snapshot.service.clone(), snapshot.shards.clone(), registry.networks().of_cluster(&"c1".into()));
        assert_eq!(seen.1[0].endpoints.len(), 1);
        assert_eq!(*expected.get_or_insert(seen.clone()), seen, "{order:?}");
        assert_eq!(staging.next_deadline(), None);
    }
}

#[test]
fn d9_an_unknown_node_is_waited_for_two_seconds_then_the_locality_is_empty_until_it_comes() {
    let mut staging = empty();
    let start = Instant::now();
    let after = |seconds| start + Duration::from_secs(seconds);
    staging.advance(start);
    staging.apply(apply(&service("s")));
    staging.apply(apply(&slice("s", &["p1=10.1.0.1"])));
    staging.apply(apply(&pod("p1", "10.1.0.1", "n1")));
    assert!(endpoints(&mut staging, "s").is_empty());
    assert_eq!((staging.pending_pods(), staging.next_deadline()), (1, Some(after(2))));
    staging.advance(after(1));
    assert!(staging.take().is_empty());
    staging.advance(after(2));
    let batch = staging.take();
    assert_eq!((batch.shards.len(), batch.workloads.len(), staging.next_deadline()), (1, 1, None));
    let locality = |staging: &mut Staging| {
        let state = staging.state();
        state.shards[&key("s")].endpoints[0].workload.locality().to_string()
    };
    assert_eq!(locality(&mut staging), "");
    let mut labelled = pod("p1", "10.1.0.1", "n1");
    labelled["metadata"]["labels"] = json!({"a": "b"});
    staging.apply(apply(&labelled));
    assert_eq!(staging.take().shards.len(), 1, "it is not waited for a second time");
    staging.apply(apply(&node("n1", "r1")));
    assert_eq!(locality(&mut staging), "r1");
    staging.apply(delete(&node("n1", "r1")));
    assert_eq!(locality(&mut staging), "r1", "it stays while the node is waited for");
    staging.advance(after(5));
    assert_eq!(locality(&mut staging), "");
}

#[test]
fn k45_nothing_waits_for_nodes_that_may_not_be_read() {
    let mut staging = empty();
    staging.advance(Instant::now());
    staging.apply(apply(&pod("p1", "10.1.0.1", "n1")));
    staging.apply(apply(&slice("s", &["p1=10.1.0.1"])));
    assert!(endpoints(&mut staging, "s").is_empty());
    staging.set_unavailable(ObjectKind::Node, &None);
    assert_eq!(endpoints(&mut staging, "s"), ["10.1.0.1 p1 Healthy"]);
    assert_eq!(staging.next_deadline(), None);
}

#[test]
fn k28_a_pod_that_is_on_another_node_now_is_never_told_of_with_the_place_of_before() {
    let start = Instant::now();
    let after = |seconds| start + Duration::from_secs(seconds);
    for deleted_first in [true, false] {
        let mut staging = empty();
        staging.advance(start);
        let before = pod("p1", "10.1.0.1", "n1");
        for object in [service("s"), slice("s", &["p1=10.1.0.1"]), node("n1", "r1"), before.clone()] {
            staging.apply(apply(&object));
        }
        assert_eq!(endpoints(&mut staging, "s"), ["10.1.0.1 p1 Healthy"]);
        staging.advance(after(10));
        if deleted_first {
            staging.apply(delete(&before));
        }
        // A pod of the same name, on a node that nobody has told of.
        staging.apply(apply(&pod("p1", "10.1.0.9", "n2")));
        let batch = staging.take();
        assert_eq!(batch.workloads, [(workload_id("p1"), None)], "nothing is known of where it is");
        assert!(endpoints(&mut staging, "s").is_empty());
        assert_eq!((staging.pending_pods(), staging.next_deadline()), (1, Some(after(12))));
        staging.apply(apply(&slice("s", &["p1=10.1.0.9"])));
        assert!(endpoints(&mut staging, "s").is_empty());
        staging.apply(apply(&node("n2", "r2")));
        let state = staging.state();
        let endpoint = &state.shards[&key("s")].endpoints[0];
        assert_eq!(
            (endpoint.workload.node(), &*endpoint.workload.locality().to_string()),
            (&"n2".into(), "r2")
        );
        assert_eq!(told(&state, "p1").unwrap().workload.node(), &"n2".into());
        // It moves on to one more unknown node: that one is waited for too.
        staging.apply(apply(&pod("p1", "10.1.0.9", "n3")));
        staging.advance(after(20));
        staging.apply(apply(&pod("p1", "10.1.0.9", "n4")));
        assert!(endpoints(&mut staging, "s").is_empty());
        assert_eq!(staging.next_deadline(), Some(after(22)));
    }
}

#[test]
fn d9_slices_are_believed_without_their_pods_only_if_configured_and_until_pods_are_listed() {
    for serve_without_pods in [false, true] {
        let context = ClusterContext { serve_without_pods, ..convert::test_context() };
        let mut staging = Staging::new(context, "istio-system".into(), Arc::default());
        staging.apply(apply(&slice("s", &["p1=10.1.0.1"])));
        staging.set_unavailable(ObjectKind::Pod, &None);
        let bare = ["10.1.0.1  Healthy".to_owned()];
        let served = if serve_without_pods { &bare[..] } else { &[] };
        assert_eq!(endpoints(&mut staging, "s"), served);
        staging.apply(StagedEvent::Pod(SourceEvent::Init));
        staging.apply(StagedEvent::Pod(SourceEvent::InitDone { reason: ListReason::First }));
        assert!(endpoints(&mut staging, "s").is_empty(), "the pod is not there");
    }
}

/// A complete list of the pods of one namespace.
fn list_pods(staging: &mut Staging, namespace: &str, pods: &[Value]) {
    let scope = Some(Name::from(namespace));
    staging.apply_in(scope.clone(), StagedEvent::Pod(SourceEvent::Init));
    for pod in pods {
        staging.apply_in(scope.clone(), StagedEvent::Pod(SourceEvent::InitApply(received(pod))));
    }
    let done = SourceEvent::InitDone { reason: ListReason::First };
    staging.apply_in(scope, StagedEvent::Pod(done));
}

#[test]
fn k45_a_namespace_whose_pods_may_not_be_read_says_nothing_of_another() {
    let context = ClusterContext { serve_without_pods: true, ..convert::test_context() };
    let mut staging = Staging::new(context, "istio-system".into(), Arc::default());
    staging.await_lists(ObjectKind::Pod, 2);
    let reason = ListReason::First;
    for event in [
        StagedEvent::Namespace(SourceEvent::Init),
        StagedEvent::Namespace(SourceEvent::InitDone { reason }),
        StagedEvent::Node(SourceEvent::Init),
        StagedEvent::Node(SourceEvent::InitDone { reason }),
        StagedEvent::Service(SourceEvent::Init),
        StagedEvent::Service(SourceEvent::InitDone { reason }),
        StagedEvent::Slice(SourceEvent::Init),
        StagedEvent::Slice(SourceEvent::InitDone { reason }),
    ] {
        staging.apply(event);
    }
    let in_b = |mut object: Value| {
        object["metadata"]["namespace"] = "b".into();
        object["endpoints"][0]["targetRef"]["namespace"] = "b".into();
        object
    };
    staging.apply(apply(&slice("s", &["p1=10.1.0.1"])));
    staging.apply(apply(&in_b(slice("s", &["p1=10.2.0.1"]))));
    let served = |staging: &mut Staging, namespace: &str| -> Vec<String> {
        let key = ServiceKey::new(namespace, format!("s.{namespace}.svc.cluster.local"));
        let state = staging.state();
        state.shards[&key]
            .endpoints
            .iter()
            .map(|one| format!("{} {}", one.addresses[0], one.workload.name))
            .collect()
    };
    staging.set_unavailable(ObjectKind::Pod, &Some("b".into()));
    assert!(!staging.is_complete(), "the pods of the other one are not listed");
    assert_eq!(served(&mut staging, "a"), [""; 0], "they may come");
    assert_eq!(served(&mut staging, "b"), ["10.2.0.1 "]);
    list_pods(&mut staging, "a", &[pod("p1", "10.1.0.1", "")]);
    assert!(staging.is_complete());
    assert_eq!(served(&mut staging, "a"), ["10.1.0.1 p1"]);
    // What was listed stays when it may not be read any more, and what could not be read comes after all.
    staging.set_unavailable(ObjectKind::Pod, &Some("a".into()));
    staging.apply(delete(&pod("p1", "10.1.0.1", "")));
    assert_eq!(served(&mut staging, "a"), [""; 0]);
    let mut late = pod("p1", "10.2.0.1", "");
    late["metadata"]["namespace"] = "b".into();
    list_pods(&mut staging, "b", &[]);
    assert_eq!(served(&mut staging, "b"), [""; 0], "it is waited for now");
    staging.apply_in(Some("b".into()), apply(&late));
    assert_eq!(served(&mut staging, "b"), ["10.2.0.1 p1"]);
}

#[test]
fn k40_addresses_of_one_machine_or_link_are_never_endpoints() {
    let mut staging = empty();
    let bad = ["127.0.0.1", "169.254.169.254", "224.0.0.1", "0.0.0.0", "10.1.0.1"];
    staging.apply(apply(&slice("s", &bad)));
    assert_eq!(endpoints(&mut staging, "s"), ["10.1.0.1  Healthy"]);
    assert!(staging.quarantined()[0].contains("127.0.0.1"), "{:?}", staging.quarantined());
}

#[test]
fn k47_a_namespace_with_1000_services_goes_in_one_batch_and_one_note() {
    let mut staging = world(1000);
    let registry = Registry::new();
    let mut writer = registry.writer("c1".into(), ClusterRole::Config).unwrap();
    writer.replace(staging.state());
    registry.changes().take();
    for n in 0..1000 {
        let ip = format!("10.1.{}.{}", n / 256, n % 256);
        staging.apply(delete(&slice(&format!("s{n}"), &[])));
        staging.apply(delete(&pod(&format!("p{n}"), &ip, "")));
        staging.apply(delete(&service(&format!("s{n}"))));
    }
    staging.apply(delete(&system_namespace("n1")));
    let batch = staging.take();
    assert_eq!((batch.shards.len(), batch.workloads.len()), (1000, 1000));
    let revision = registry.revision(&"c1".into());
    writer.publish(batch.networks, batch.workloads, batch.shards);
    assert_eq!(registry.revision(&"c1".into()), revision + 1, "one note");
    let changes = registry.changes().take();
    assert_eq!((changes.services.len(), changes.workloads.len(), changes.clusters.len()), (1000, 1000, 1));
    assert!(registry.services().is_empty() && registry.changes().take().is_empty());
}

#[test]
fn k48_an_address_that_is_used_again_belongs_to_the_new_pod_whatever_comes_first() {
    let (old, new) = (pod("old", "10.1.0.1", "n"), pod("new", "10.1.0.1", "n"));
    let slices = [slice("named", &["new=10.1.0.1"]), slice("bare", &["10.1.0.1"])];
    let orders: [&[StagedEvent]; 2] =
        [&[apply(&old), delete(&old), apply(&new)], &[apply(&old), apply(&new), delete(&old)]];
    for order in orders {
        let mut staging = empty();
        slices.iter().for_each(|slice| staging.apply(apply(slice)));
        order.iter().for_each(|event| staging.apply(event.clone()));
        for service in ["named", "bare"] {
            assert_eq!(endpoints(&mut staging, service), ["10.1.0.1 new Healthy"], "{service}");
        }
    }
    let mut staging = empty();
    let made = |object: &Value, revision: &str| {
        let mut object = object.clone();
        object["metadata"]["resourceVersion"] = json!(revision);
        object
    };
    staging.apply(apply(&slices[1]));
    staging.apply(apply(&made(&new, "7")));
    let late = StagedEvent::Pod(SourceEvent::Delete { key: ObjectKey::new("a", "new"), revision: Some(5) });
    staging.apply(late);
    assert_eq!(endpoints(&mut staging, "bare"), ["10.1.0.1 new Healthy"], "the deletion of its namesake");
}

#[test]
fn r4_30_a_namespaces_annotation_holds_for_its_services_and_changes_them() {
    let mut staging = world(3);
    let other = json!({"kind": "Service", "metadata": {"name": "s0", "namespace": "b"}, "spec": {}});
    staging.apply(apply(&other));
    staging.take();
    let namespace = |annotation: &str| {
        json!({"kind": "Namespace", "metadata": {"name": "a",
            "annotations": {"networking.istio.io/traffic-distribution": annotation}}})
    };
    staging.apply(apply(&namespace("PreferClose")));
    assert_eq!(staging.take().shards.len(), 3, "those of the namespace, and only those");
    let said = |staging: &mut Staging| {
        staging.state().shards[&key("s0")].service.as_ref().unwrap().traffic_distribution
    };
    assert_eq!(said(&mut staging), TrafficDistribution::PreferSameZone);
    let mut own = service("s0");
    own["spec"]["trafficDistribution"] = json!("PreferSameNode");
    staging.apply(apply(&own));
    assert_eq!(said(&mut staging), TrafficDistribution::PreferSameNode);
    staging.apply(delete(&namespace("")));
    assert_eq!(staging.take().shards.len(), 2);
}

#[test]
fn r4_9_the_config_clusters_services_carry_the_labels_of_their_namespace() {
    let namespace =
        |team: &str| json!({"kind": "Namespace", "metadata": {"name": "a", "labels": {"team": team}}});
    let mut remote = world(1);
    remote.apply(apply(&namespace("x")));
    let labels = |staging: &mut Staging| {
        staging.state().shards[&key("s0")].service.as_ref().unwrap().namespace_labels.clone()
    };
    remote.take();
    assert!(labels(&mut remote).is_empty(), "nobody reads them there");
    let mut context = convert::test_context();
    context.gateways.config_cluster = true;
    let mut single = Staging::new(context.clone(), "istio-system".into(), Arc::default());
    single.apply(apply(&service("s0")));
    single.take();
    single.apply(apply(&namespace("x")));
    assert_eq!(single.take().shards.len(), 0, "no rule asks for them in a mesh of one network");
    context.service_scopes = true;
    let mut home = Staging::new(context, "istio-system".into(), Arc::default());
    home.apply(apply(&service("s0")));
    home.take();
    for team in ["x", "y"] {
        home.apply(apply(&namespace(team)));
        assert_eq!(home.take().shards.len(), 1, "{team}");
        assert_eq!(labels(&mut home).get("team").map(|team| team.as_str()), Some(team));
    }
}

#[test]
fn r4_37_a_namespaces_labels_send_ingress_gateways_through_a_waypoint() {
    let mut staging = world(3);
    staging.take();
    let namespace = |labels: Value| json!({"kind": "Namespace", "metadata": {"name": "a", "labels": labels}});
    let through = |staging: &mut Staging| {
        let state = staging.state();
        let waypoint = state.shards[&key("s0")].service.as_ref().unwrap().ingress_waypoint.clone();
        waypoint.map(|waypoint| waypoint.to_string())
    };
    staging.apply(apply(&namespace(
        json!({"istio.io/use-waypoint": "w", "istio.io/ingress-use-waypoint": "true"}),
    )));
    assert_eq!(staging.take().shards.len(), 3);
    assert_eq!(through(&mut staging).as_deref(), Some("a/w.a.svc.cluster.local"));
    let mut own = service("s0");
    own["metadata"]["labels"] = json!({"istio.io/use-waypoint": "none"});
    staging.apply(apply(&own));
    assert_eq!(through(&mut staging), None);
    staging.apply(apply(&namespace(json!({}))));
    assert_eq!(staging.take().shards.len(), 2, "the one with a label of its own goes straight already");
}
