//! Lists of parts of a kind that take most of it away (K-21).

use super::*;

const MINUTE: std::time::Duration = std::time::Duration::from_secs(60);

/// A slice of so many bare addresses in a namespace.
fn many(namespace: &str, count: usize) -> Value {
    let addresses: Vec<_> = (0..count).map(|n| format!("10.1.{}.{}", n / 250, n % 250 + 1)).collect();
    let mut object = slice("s", &addresses.iter().map(|address| &**address).collect::<Vec<_>>());
    object["metadata"]["namespace"] = namespace.into();
    object
}

/// A complete list of the slices of one namespace.
fn list(staging: &mut Staging, namespace: &str, objects: &[Value]) {
    let scope = Some(Name::from(namespace));
    let mut events = vec![SourceEvent::Init];
    events.extend(objects.iter().map(|object| SourceEvent::InitApply(received(object))));
    events.push(SourceEvent::InitDone { reason: ListReason::First });
    for event in events {
        staging.apply_in(scope.clone(), StagedEvent::Slice(event));
    }
}

fn served(staging: &mut Staging, namespace: &str) -> usize {
    let state = staging.state();
    let key = ServiceKey::new(namespace, format!("s.{namespace}.svc.cluster.local"));
    state.shards.get(&key).map_or(0, |shard| shard.endpoints.len())
}

/// The namespaces whose lists are doubted.
fn doubted(staging: &Staging) -> Vec<String> {
    let all = staging.held_back().into_iter();
    all.map(|(_, held)| held.scope.as_deref().unwrap_or_default().to_owned()).collect()
}

const NAMESPACES: [&str; 4] = ["a", "b", "c", "d"];

fn four() -> (Staging, Instant) {
    let (mut staging, start) = (empty(), Instant::now());
    staging.advance(start);
    staging.await_lists(ObjectKind::EndpointSlice, NAMESPACES.len());
    for namespace in NAMESPACES {
        list(&mut staging, namespace, &[many(namespace, 60)]);
    }
    (staging, start)
}

#[test]
fn k21_what_lists_of_single_namespaces_take_away_adds_up() {
    let (mut staging, start) = four();
    list(&mut staging, "a", &[]);
    list(&mut staging, "b", &[]);
    assert_eq!(doubted(&staging), [""; 0], "half of the cluster");
    list(&mut staging, "c", &[]);
    assert_eq!((doubted(&staging), served(&mut staging, "c")), (vec!["c".to_owned()], 60));
    assert_eq!(staging.held_back()[0].1.endpoints, 60);
    list(&mut staging, "d", &[many("d", 5)]);
    assert_eq!((doubted(&staging).len(), served(&mut staging, "d")), (2, 60), "and what shrinks");
    // What is there again was not lost.
    list(&mut staging, "a", &[many("a", 60)]);
    list(&mut staging, "d", &[]);
    assert_eq!(doubted(&staging), ["c"], "two of four again");
    assert_eq!(served(&mut staging, "d"), 0);

    // Much later it does not count together, and never without the guard.
    let (mut staging, _) = four();
    for (n, namespace) in NAMESPACES.into_iter().enumerate() {
        staging.advance(start + 6 * MINUTE * u32::try_from(n + 1).unwrap());
        list(&mut staging, namespace, &[]);
    }
    assert_eq!(doubted(&staging), [""; 0]);
    let mut staging = four().0.guarded(Guard::Off);
    NAMESPACES.into_iter().for_each(|namespace| list(&mut staging, namespace, &[]));
    assert_eq!((doubted(&staging), served(&mut staging, "d")), (Vec::new(), 0));
}

#[test]
fn k21_each_namespace_is_doubted_and_confirmed_by_itself() {
    let (mut staging, _) = four();
    for namespace in ["a", "b", "c"] {
        list(&mut staging, namespace, &[]);
    }
    assert_eq!(doubted(&staging), ["c"]);
    staging.confirm(ObjectKind::EndpointSlice, &Some("c".into()));
    staging.confirm(ObjectKind::EndpointSlice, &Some("d".into()));
    list(&mut staging, "d", &[]);
    assert_eq!((doubted(&staging), served(&mut staging, "d")), (vec!["c".into(), "d".into()], 60));
    list(&mut staging, "c", &[]);
    assert_eq!((doubted(&staging), served(&mut staging, "c")), (vec!["d".into()], 0), "confirmed");
    // What was confirmed does not count against others.
    staging.confirm(ObjectKind::EndpointSlice, &Some("d".into()));
    list(&mut staging, "d", &[many("d", 60)]);
    assert_eq!((doubted(&staging), served(&mut staging, "d")), (Vec::new(), 60), "it was a lie");
}

#[test]
fn k21_a_confirmation_counts_for_its_namespace_alone() {
    let (mut staging, _) = four();
    NAMESPACES.into_iter().for_each(|namespace| list(&mut staging, namespace, &[]));
    assert_eq!(doubted(&staging), ["c", "d"]);
    staging.confirm(ObjectKind::EndpointSlice, &Some("c".into()));
    list(&mut staging, "d", &[]);
    assert_eq!((doubted(&staging), served(&mut staging, "d")), (vec!["c".into(), "d".into()], 60));
}

#[test]
fn k21_a_list_that_began_before_the_second_one_was_asked_for_confirms_nothing_and_ends_nothing() {
    let (mut staging, _) = four();
    NAMESPACES[..3].iter().for_each(|namespace| list(&mut staging, namespace, &[]));
    let c = Some(Name::from("c"));
    staging.apply_in(c.clone(), StagedEvent::Slice(SourceEvent::Init));
    staging.confirm(ObjectKind::EndpointSlice, &c);
    let done = SourceEvent::InitDone { reason: ListReason::First };
    staging.apply_in(c, StagedEvent::Slice(done));
    assert_eq!((doubted(&staging), served(&mut staging, "c")), (vec!["c".to_owned()], 60));
    list(&mut staging, "c", &[]);
    assert_eq!((doubted(&staging), served(&mut staging, "c")), (Vec::new(), 0), "the next one does");
}

#[test]
fn k21_what_was_confirmed_to_be_gone_does_not_count_against_others() {
    let (mut staging, _) = four();
    for (namespace, left) in [("a", 20), ("b", 0), ("c", 40)] {
        list(&mut staging, namespace, &[many(namespace, left)]);
    }
    assert_eq!(doubted(&staging), [""; 0], "120 of 240");
    list(&mut staging, "a", &[]);
    assert_eq!(doubted(&staging), ["a"], "140 of 240");
    staging.confirm(ObjectKind::EndpointSlice, &Some("a".into()));
    list(&mut staging, "a", &[]);
    assert_eq!((doubted(&staging), served(&mut staging, "a")), (Vec::new(), 0));
    list(&mut staging, "c", &[many("c", 25)]);
    assert_eq!((doubted(&staging), served(&mut staging, "c")), (Vec::new(), 25), "95 besides those of a");
}

#[test]
fn k21_k38_what_cannot_be_read_is_not_lost() {
    let (mut staging, _) = four();
    for namespace in NAMESPACES {
        let mut bad = many(namespace, 60);
        bad["endpoints"] = json!(7);
        list(&mut staging, namespace, &[bad]);
        assert_eq!((doubted(&staging), served(&mut staging, namespace)), (Vec::new(), 60));
    }
    assert_eq!(staging.quarantined().len(), NAMESPACES.len());
}

#[test]
fn k21_the_places_of_pods_are_not_lost_with_an_empty_list_of_nodes() {
    let mut staging = world(150);
    staging.apply(StagedEvent::Node(SourceEvent::Init));
    staging.apply(StagedEvent::Node(SourceEvent::InitDone { reason: ListReason::First }));
    assert!(staging.take().is_empty());
    let held = staging.held_back();
    assert_eq!((held[0].0, held[0].1.objects, held[0].1.endpoints), (ObjectKind::Node, 2, 150));
    staging.confirm(ObjectKind::Node, &None);
    staging.apply(StagedEvent::Node(SourceEvent::Init));
    staging.apply(StagedEvent::Node(SourceEvent::InitDone { reason: ListReason::First }));
    assert_eq!((staging.take().workloads.len(), staging.held_back()), (150, Vec::new()));
}

#[test]
fn k21_an_empty_list_of_gateways_takes_none_away_at_once() {
    let mut staging = empty();
    staging.apply(apply(&system_namespace("n1")));
    let gateway = json!({"kind": "Gateway", "metadata": {"name": "gw", "namespace": "istio-system",
            "labels": {"topology.istio.io/network": "n1"}},
        "spec": {"gatewayClassName": "istio-east-west",
            "addresses": [{"type": "IPAddress", "value": "192.0.2.1"}],
            "listeners": [{"name": "x", "port": 15443, "protocol": "TLS",
                "tls": {"mode": "Passthrough",
                    "options": {"gateway.istio.io/listener-protocol": "auto-passthrough"}}}]}});
    let received = received::<GatewayObject>(&gateway);
    staging.apply(StagedEvent::Gateway(SourceEvent::Apply(received)));
    assert_eq!(staging.state().networks.gateways.len(), 1);
    for gateways in [1, 0] {
        staging.apply(StagedEvent::Gateway(SourceEvent::Init));
        staging.apply(StagedEvent::Gateway(SourceEvent::InitDone { reason: ListReason::First }));
        assert_eq!(staging.state().networks.gateways.len(), gateways);
        staging.confirm(ObjectKind::Gateway, &None);
    }
}
