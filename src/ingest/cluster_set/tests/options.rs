//! What is said per cluster (D35).

use std::collections::BTreeSet;

use serde_json::json;

use super::*;
use crate::model::StartRule;

const DEMOTE: [(&str, &str); 2] = [("stale", "demote"), ("stale-after", "60s")];

#[tokio::test(start_paused = true)]
async fn d35_options_change_without_restarting_a_watch() {
    let server = FakeServer::with(world("n1", "u1", 1, 2));
    let mut plane = Plane::new();
    plane.run("c1", &server);
    plane.settle().await;
    plane.changes();
    plane.tell("c1", &[("start", "required"), ("stale", "demote"), ("stale-after", "soon")]);
    plane.settle().await;
    assert_eq!(plane.row("c1").start, StartRule::Required);
    let problems = plane.problems();
    assert!(problems.len() == 1 && problems[0].starts_with("cluster c1, options: stale-after: `soon`"));
    plane.tell("c1", &DEMOTE);
    plane.settle().await;
    assert_eq!((server.opened(), plane.problems()), (1, Vec::new()));
    assert!(plane.changes().is_empty());
}

#[tokio::test(start_paused = true)]
async fn d34_each_cluster_has_identities_of_its_own_trust_domain() {
    let (one, two) = (FakeServer::with(world("n1", "u1", 1, 2)), FakeServer::with(world("n1", "u2", 2, 3)));
    let mut named = service("web");
    named["metadata"]["annotations"] = json!({"alpha.istio.io/kubernetes-serviceaccounts": "vm",
        "alpha.istio.io/canonical-serviceaccounts": "spiffe://else.where/ns/a/sa/vm"});
    two.apply(named);
    let mut plane = Plane::with(|options| {
        options.trust_domain = "home.example".into();
        let file = as_texts(&[("trust-domain", "file.example")]);
        options.clusters.insert("c3".into(), file);
    });
    plane.run("c1", &one);
    plane.run_with("c2", &two, &[("trust-domain", "west.example")]);
    plane.settle().await;
    let accounts = |plane: &Plane| -> Vec<String> {
        let snapshot = plane.snapshot("web").unwrap();
        let merged = snapshot.service.as_ref().unwrap();
        merged.accounts.iter().map(ToString::to_string).collect()
    };
    let pods_of = |plane: &Plane, id: &str| -> BTreeSet<String> {
        let states = plane.set.registry.states(&[ClusterId::from(id)].into());
        let pods = states.values().flat_map(|state| &state.workloads);
        pods.map(|cell| cell.workload.account.as_ref().unwrap().to_string()).collect()
    };
    let account = |domain: &str, name: &str| format!("spiffe://{domain}/ns/a/sa/{name}");
    let foreign = account("else.where", "vm");
    let both = |domain: &str| {
        let home = account("home.example", "default");
        let mut all = vec![foreign.clone(), home, account(domain, "default"), account(domain, "vm")];
        all.sort();
        all
    };
    assert_eq!(accounts(&plane), both("west.example"));
    assert_eq!(pods_of(&plane, "c1"), [account("home.example", "default")].into());
    assert_eq!(pods_of(&plane, "c2"), [account("west.example", "default")].into());
    // Another one is a matter of that cluster alone, and of no watch.
    let shard = plane.snapshot("web").unwrap().shards[0].clone();
    plane.changes();
    plane.tell("c2", &[("trust-domain", "other.example")]);
    plane.settle().await;
    assert_eq!(accounts(&plane), both("other.example"));
    assert_eq!(pods_of(&plane, "c2"), [account("other.example", "default")].into());
    assert!(
        Arc::ptr_eq(&plane.snapshot("web").unwrap().shards[0], &shard),
        "of the other nothing is touched"
    );
    assert_eq!((one.opened(), two.opened()), (1, 1));
    // A slip of the pen does not turn expectations round.
    plane.tell("c2", &[("trust-domain", "spiffe://other")]);
    plane.settle().await;
    assert_eq!(accounts(&plane), both("other.example"));
    assert!(plane.problems()[0].contains("the one before stays"), "{:?}", plane.problems());
    plane.tell("c2", &[]);
    plane.settle().await;
    let home = ["default", "vm"].map(|name| account("home.example", name));
    assert_eq!(accounts(&plane), [&[foreign][..], &home].concat());
    let file = FakeServer::with(world("n1", "u3", 3, 1));
    plane.run_with("c3", &file, &[("trust-domain", "annotation.example")]);
    plane.settle().await;
    assert_eq!(pods_of(&plane, "c3"), [account("file.example", "default")].into(), "the file wins");
}

#[tokio::test(start_paused = true)]
async fn d35_age_demotes_the_endpoints_of_a_cluster_and_coming_back_restores_them_at_once() {
    let (one, two) = (FakeServer::with(world("n1", "u1", 1, 2)), FakeServer::with(world("n1", "u2", 2, 3)));
    let mut plane = Plane::new();
    plane.run_with("c1", &one, &DEMOTE);
    plane.run("c2", &two);
    plane.settle().await;
    plane.changes();
    let standing = |plane: &Plane, id: &str| plane.set.registry.standings().part(&id.into()).standing;
    one.go_down();
    plane.pass(Duration::from_secs(59)).await;
    assert_eq!(standing(&plane, "c1"), Standing::Regular);
    assert!(plane.changes().is_empty());
    plane.pass(Duration::from_secs(2)).await;
    assert_eq!((standing(&plane, "c1"), standing(&plane, "c2")), (Standing::Demoted, Standing::Regular));
    assert_eq!((plane.row("c1").standing, plane.web()), (Standing::Demoted, web(&[("c1", 2), ("c2", 3)])));
    assert_eq!(plane.changes().services.len(), 2, "the services of that cluster, and no other");
    plane.tell("c1", &[("stale", "drop"), ("stale-after", "1s")]);
    plane.settle().await;
    assert_eq!(standing(&plane, "c1"), Standing::Dropped, "another policy counts at once");
    plane.changes();
    one.come_up();
    plane.settle().await;
    assert_eq!(standing(&plane, "c1"), Standing::Regular);
    assert_eq!(plane.changes().services.len(), 2);
    assert_eq!(plane.set.counts.stale_actions.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn d35_a_required_cluster_holds_the_start_gate_without_limit() {
    let server = FakeServer::with(world("n1", "u1", 1, 2));
    server.go_down();
    let mut plane = Plane::new();
    plane.run_with("c1", &server, &[("start", "required")]);
    plane.pass(HOUR).await;
    assert!(!plane.set.registry.clusters().gate_open());
    plane.tell("c1", &[]);
    assert!(plane.set.registry.clusters().gate_open(), "its time is long over");
    plane.tell("c1", &[("start", "required")]);
    assert!(!plane.set.registry.clusters().gate_open());
    server.come_up();
    plane.settle().await;
    assert!(plane.set.registry.clusters().gate_open());
}

#[tokio::test(start_paused = true)]
async fn z11_only_the_selected_namespaces_are_read_and_another_selection_replaces_them_in_one_step() {
    let mut objects = world("n1", "u1", 1, 2);
    objects.push(namespace("b", "", "b"));
    let mut elsewhere = service("web");
    elsewhere["metadata"]["namespace"] = "b".into();
    objects.push(elsewhere);
    let server = FakeServer::with(objects);
    let mut plane = Plane::new();
    let b = |plane: &Plane| {
        let cell = plane.set.registry.service(&ServiceKey::new("b", "web.b.svc.cluster.local"));
        cell.is_some_and(|cell| cell.load().service.is_some())
    };
    plane.run_with("c1", &server, &[("namespaces", "a")]);
    plane.settle().await;
    let scope = |names: &[&str]| vec![names.iter().map(|name| Some((*name).into())).collect::<Vec<_>>()];
    assert_eq!(server.scopes(ObjectKind::Service), scope(&["a", "istio-system"]));
    assert_eq!((plane.web(), b(&plane), plane.gateways().len()), (web(&[("c1", 2)]), false, 1));
    let version = plane.snapshot("web").unwrap().version;
    plane.tell("c1", &[("namespaces", "a,b")]);
    plane.settle().await;
    assert_eq!((server.scopes(ObjectKind::Service), b(&plane)), (scope(&["a", "b", "istio-system"]), true));
    assert_eq!(plane.snapshot("web").unwrap().version, version, "what stays selected is not touched");
    plane.tell("c1", &[]);
    plane.settle().await;
    assert_eq!(server.scopes(ObjectKind::Service), [[None]]);
    // One namespace's list sweeps that namespace only.
    plane.tell("c1", &[("namespaces", "a,b")]);
    plane.settle().await;
    server.forget(&service("web"));
    server.relist_scope(ObjectKind::Service, &Some("a".into()));
    plane.settle().await;
    assert!(b(&plane) && plane.snapshot("web").is_none_or(|snapshot| snapshot.service.is_none()));
}

#[tokio::test(start_paused = true)]
async fn z11_a_typing_error_in_a_restriction_opens_nothing() {
    let server = FakeServer::with(world("n1", "u1", 1, 2));
    let mut plane = Plane::new();
    plane.run_with("c1", &server, &[("namespaces", "A")]);
    plane.settle().await;
    let scope = |names: &[&str]| vec![names.iter().map(|name| Some((*name).into())).collect::<Vec<_>>()];
    assert_eq!(server.scopes(ObjectKind::Service), scope(&["istio-system"]));
    assert!(plane.web().is_empty() && plane.problems()[0].contains("nothing but the system namespace"));
    plane.tell("c1", &[("namespaces", "a")]);
    plane.settle().await;
    assert_eq!((plane.web(), plane.problems()), (web(&[("c1", 2)]), Vec::new()));
    let opened = server.opened();
    plane.tell("c1", &[("namespaces", "a,Dev")]);
    plane.settle().await;
    assert_eq!((server.opened(), plane.web()), (opened, web(&[("c1", 2)])));
    assert_eq!(server.scopes(ObjectKind::Service), scope(&["a", "istio-system"]));
    assert!(plane.problems()[0].contains("are read on"), "{:?}", plane.problems());
}

#[tokio::test(start_paused = true)]
async fn discovery_selectors_follow_the_labels_of_namespaces() {
    let server = FakeServer::with(world("n1", "u1", 1, 2));
    let mut plane = Plane::new();
    plane.run_with("c1", &server, &[("namespace-selector", "name=a")]);
    plane.settle().await;
    assert_eq!((plane.web(), plane.gateways().len()), (web(&[("c1", 2)]), 1));
    let mut other = namespace("a", "", "a");
    other["metadata"]["labels"]["name"] = "z".into();
    server.apply(other);
    plane.pass(Duration::from_secs(2)).await;
    assert_eq!((plane.web(), plane.gateways().len()), (web(&[]), 1));
    server.apply(namespace("a", "", "a"));
    plane.pass(Duration::from_secs(2)).await;
    assert_eq!(plane.web(), web(&[("c1", 2)]));
}
