//! Other namespaces are selected while a cluster is served (Z-11, D35).

use super::*;
use crate::ingest::watch::Failure;

const A: [(&str, &str); 1] = [("namespaces", "a")];
const A_AND_B: [(&str, &str); 1] = [("namespaces", "a,b")];

/// A cluster with `web` in namespaces `a` and `b`.
fn two_namespaces() -> FakeServer {
    let mut objects = world("n1", "u1", 1, 2);
    objects.push(namespace("b", "", "b"));
    let mut elsewhere = service("web");
    elsewhere["metadata"]["namespace"] = "b".into();
    objects.push(elsewhere);
    FakeServer::with(objects)
}

fn has_b(plane: &Plane) -> bool {
    let cell = plane.set.registry.service(&ServiceKey::new("b", "web.b.svc.cluster.local"));
    cell.is_some_and(|cell| cell.load().service.is_some())
}

#[tokio::test(start_paused = true)]
async fn what_was_selected_before_is_followed_until_the_new_selection_is_listed() {
    let server = two_namespaces();
    let mut plane = Plane::new();
    plane.run_with("c1", &server, &[A[0], ("stale", "demote"), ("stale-after", "60s")]);
    plane.settle().await;
    server.hold_new_lists(true);
    plane.tell("c1", &[A_AND_B[0], ("stale", "demote"), ("stale-after", "60s")]);
    plane.settle().await;
    assert_eq!((server.open_now(), plane.health("c1"), has_b(&plane)), (2, "live", false));
    server.serve("web", &addresses(1, 4));
    plane.settle().await;
    assert_eq!(plane.web(), web(&[("c1", 4)]), "it is followed");
    server.go_down();
    plane.pass(Duration::from_secs(59)).await;
    assert_eq!((plane.health("c1"), plane.row("c1").standing), ("stale", Standing::Regular));
    plane.pass(Duration::from_secs(2)).await;
    assert_eq!(plane.row("c1").standing, Standing::Demoted, "and grows old");
    assert_eq!(plane.web(), web(&[("c1", 4)]));
    plane.changes();
    server.hold_new_lists(false);
    server.come_up();
    plane.settle().await;
    assert_eq!((plane.health("c1"), plane.row("c1").standing), ("live", Standing::Regular));
    assert_eq!((server.open_now(), has_b(&plane), plane.problems()), (1, true, Vec::new()));
}

#[tokio::test(start_paused = true)]
async fn a_selection_that_may_not_be_read_leaves_the_one_before_live_and_says_so() {
    let server = two_namespaces();
    server.forbid_in(ObjectKind::Service, "b");
    let mut plane = Plane::new();
    plane.run_with("c1", &server, &A);
    plane.settle().await;
    plane.changes();
    for permitted in [false, true] {
        plane.tell("c1", &A_AND_B);
        plane.pass(HOUR).await;
        let problems = plane.problems();
        let told = "cluster c1, namespaces: not in use, what was selected before stays: Services: HTTP 403";
        assert!(problems.len() == 1 && problems[0].starts_with(told), "{problems:?}");
        assert_eq!((plane.web(), plane.health("c1"), has_b(&plane)), (web(&[("c1", 2)]), "live", false));
        assert!(plane.changes().is_empty());
        server.serve("web", &addresses(1, 3));
        plane.settle().await;
        assert_eq!(plane.web(), web(&[("c1", 3)]));
        server.serve("web", &addresses(1, 2));
        plane.settle().await;
        plane.changes();
        if !permitted {
            // As it was before: at once, without another list.
            let opened = server.opened();
            plane.tell("c1", &A);
            plane.settle().await;
            assert_eq!((plane.problems(), server.open_now(), server.opened()), (Vec::new(), 1, opened));
        }
    }
    server.permit_in(ObjectKind::Service, "b");
    plane.settle().await;
    assert_eq!((plane.problems(), has_b(&plane), server.open_now()), (Vec::new(), true, 1));
    server.serve("web", &addresses(1, 3));
    plane.settle().await;
    assert_eq!(plane.web(), web(&[("c1", 3)]));
}

#[tokio::test(start_paused = true)]
async fn another_selection_is_listed_at_once_whatever_is_being_listed() {
    let server = two_namespaces();
    server.forbid_in(ObjectKind::Service, "b");
    let mut plane = Plane::new();
    plane.run_with("c1", &server, &A_AND_B);
    plane.pass(Duration::from_secs(60)).await;
    assert_eq!((plane.web(), plane.health("c1")), (web(&[]), "unauthorized"));
    plane.tell("c1", &A);
    plane.settle().await;
    assert_eq!((plane.web(), plane.health("c1"), server.open_now()), (web(&[("c1", 2)]), "live", 1));
    // New credentials that are being listed, and a new selection that is.
    let new = two_namespaces();
    new.forbid_in(ObjectKind::Service, "b");
    plane.run_with("c1", &new, &A_AND_B);
    plane.pass(Duration::from_secs(60)).await;
    assert_eq!((plane.web(), plane.health("c1")), (web(&[("c1", 2)]), "live"));
    plane.tell("c1", &[("namespaces", "a,c")]);
    plane.settle().await;
    assert_eq!((server.open_now(), new.open_now(), plane.problems()), (0, 1, Vec::new()));
    assert_eq!((plane.web(), plane.health("c1")), (web(&[("c1", 2)]), "live"));
}

#[tokio::test(start_paused = true)]
async fn another_cluster_that_answers_while_a_selection_is_listed_takes_over_whole() {
    let server = two_namespaces();
    let mut plane = Plane::new();
    plane.run_with("c1", &server, &[A[0], ("stale", "demote"), ("stale-after", "60s")]);
    plane.settle().await;
    plane.changes();
    server.hold_new_lists(true);
    plane.tell("c1", &[A_AND_B[0], ("stale", "demote"), ("stale-after", "60s")]);
    plane.settle().await;
    server.become_another(world("n1", "u2", 9, 4));
    server.relist_kind(ObjectKind::Namespace);
    plane.settle().await;
    assert_eq!(
        (plane.web(), plane.health("c1")),
        (web(&[("c1", 2)]), "stale"),
        "what was read cannot be any more"
    );
    assert!(plane.changes().is_empty());
    plane.pass(Duration::from_secs(61)).await;
    assert_eq!(plane.row("c1").standing, Standing::Demoted, "and grows old");
    server.hold_new_lists(false);
    plane.settle().await;
    assert_eq!((plane.web(), plane.row("c1").uid), (web(&[("c1", 4)]), "u2".into()));
    assert_eq!((plane.health("c1"), plane.row("c1").standing), ("live", Standing::Regular));
    assert_eq!((server.open_now(), plane.problems().len()), (1, 1), "the alarm");
}

#[tokio::test(start_paused = true)]
async fn what_is_read_is_settled_anew_when_namespaces_change_and_never_for_endpoints() {
    let server = FakeServer::with(world("n1", "u1", 1, 2));
    let mut plane = Plane::new();
    plane.run_with("c1", &server, &[("namespace-selector", "name=a")]);
    plane.settle().await;
    let plans = |plane: &Plane| plane.set.counts.plans.load(Ordering::Relaxed);
    let before = plans(&plane);
    for n in 1..50 {
        server.serve("web", &addresses(1, n));
        plane.settle().await;
    }
    assert_eq!(plans(&plane), before);
    server.apply(namespace("other", "", "o"));
    plane.settle().await;
    assert_eq!(plans(&plane), before + 1);
}

/// Each namespace has a source of its own, and none of them hides how another is.
#[tokio::test(start_paused = true)]
async fn a_kind_is_as_well_as_the_worst_of_its_namespaces() {
    let server = two_namespaces();
    let mut plane = Plane::new();
    plane.run_with("c1", &server, &A_AND_B);
    plane.settle().await;
    let word = |plane: &Plane| plane.row("c1").sources["Pod"].state.word();
    assert_eq!((word(&plane), plane.health("c1")), ("live", "live"));
    server.fail_in(ObjectKind::Pod, "b", &Failure::Unreachable("cut".to_owned()));
    plane.pass(Duration::from_secs(2)).await;
    let lost = plane.row("c1").stale_since().expect("b is lost");
    // The other goes on.
    server.connect_in(ObjectKind::Pod, "a");
    server.serve("web", &addresses(1, 3));
    plane.pass(HOUR).await;
    assert_eq!((word(&plane), plane.health("c1"), plane.web()), ("stale", "stale", web(&[("c1", 3)])));
    // A list alone is no watch.
    server.list_in(ObjectKind::Pod, "b");
    server.connect_in(ObjectKind::Pod, "a");
    server.serve("web", &addresses(1, 4));
    plane.pass(Duration::from_secs(2)).await;
    assert_eq!((word(&plane), plane.row("c1").stale_since()), ("stale", Some(lost)));
    server.connect_in(ObjectKind::Pod, "b");
    plane.pass(Duration::from_secs(2)).await;
    assert_eq!((word(&plane), plane.health("c1"), plane.row("c1").stale_since()), ("live", "live", None));
}

/// K-45: what may not be read of one namespace from the start is not out of date, and binds no other.
#[tokio::test(start_paused = true)]
async fn k45_pods_that_may_not_be_read_in_one_namespace_cost_the_others_nothing() {
    let server = two_namespaces();
    server.forbid_in(ObjectKind::Pod, "b");
    let stale = [A_AND_B[0], ("stale", "drop"), ("stale-after", "60s")];
    let mut plane = Plane::new();
    plane.run_with("c1", &server, &stale);
    plane.pass(HOUR).await;
    let row = plane.row("c1");
    assert_eq!((row.health.word(), plane.web(), has_b(&plane)), ("degraded", web(&[("c1", 2)]), true));
    assert_eq!((row.standing, row.stale_since()), (Standing::Regular, None));
    // New credentials that show no more of it are as good.
    let new = two_namespaces();
    new.forbid_in(ObjectKind::Pod, "b");
    plane.run_with("c1", &new, &stale);
    plane.pass(Duration::from_secs(5)).await;
    assert_eq!((server.open_now(), new.open_now(), plane.health("c1")), (0, 1, "degraded"));
    // Those that do not show the pods that are served are not.
    let less = two_namespaces();
    less.forbid_in(ObjectKind::Pod, "a");
    plane.run_with("c1", &less, &stale);
    plane.pass(HOUR).await;
    assert_eq!((new.open_now(), less.open_now(), plane.web()), (1, 1, web(&[("c1", 2)])));
}
