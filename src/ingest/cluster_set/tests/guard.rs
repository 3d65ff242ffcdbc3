//! Lists that take most of a cluster away (K-21), and clusters that are another one (K-20).

use super::*;

#[tokio::test(start_paused = true)]
async fn k20_another_cluster_behind_the_same_address_takes_over_whole_and_raises_an_alarm() {
    let server = FakeServer::with(world("n1", "u1", 1, 3));
    let mut plane = Plane::new();
    plane.run("c1", &server);
    plane.settle().await;
    plane.changes();
    // The other cluster has other Services; its lists do not come at once.
    let mut objects = world("n1", "u2", 9, 4);
    objects.push(service("other"));
    server.become_another(objects);
    server.hold_new_lists(true);
    server.relist_kind(ObjectKind::EndpointSlice);
    plane.settle().await;
    assert_eq!(plane.web(), web(&[("c1", 3)]), "nothing of it counts before all of it is listed");
    assert!(plane.changes().is_empty());
    assert_eq!(plane.row("c1").uid, "u1".into());
    server.hold_new_lists(false);
    plane.settle().await;
    assert_eq!(plane.web(), web(&[("c1", 4)]));
    assert_eq!(plane.row("c1").uid, "u2".into());
    assert!(plane.snapshot("other").is_some());
    let alarm = plane.problems();
    assert!(alarm.len() == 1 && alarm[0].starts_with("cluster c1, identity: another cluster"), "{alarm:?}");
    assert_eq!(plane.set.counts.cluster_swaps.load(Ordering::Relaxed), 1);
    assert_eq!(server.open_now(), 1);
    plane.run("c1", &server);
    plane.settle().await;
    assert_eq!(plane.problems(), NOTHING, "configured anew");
}

#[tokio::test(start_paused = true)]
async fn k21_a_list_that_takes_most_away_is_held_confirmed_and_then_applied() {
    for kind in [ObjectKind::EndpointSlice, ObjectKind::Service] {
        let server = FakeServer::with(world("n1", "u1", 1, 150));
        let mut plane = Plane::new();
        plane.run("c1", &server);
        plane.settle().await;
        plane.changes();
        let lists = server.lists(kind);
        // One false answer: the second list says better.
        server.lie(kind, 1);
        server.relist_kind(kind);
        plane.settle().await;
        assert_eq!((plane.web(), plane.holds()), (web(&[("c1", 150)]), 1), "{kind:?}");
        assert!(plane.snapshot("web").unwrap().service.is_some());
        assert_eq!(plane.row("c1").mass_delete_holds, 1);
        assert!(plane.problems()[0].contains("held back"), "{:?}", plane.problems());
        plane.pass(CONFIRM_AFTER).await;
        assert_eq!(server.lists(kind), lists + 2, "asked again");
        assert_eq!((plane.web(), plane.problems()), (web(&[("c1", 150)]), Vec::new()));
        assert!(plane.changes().is_empty());
        // It is true: applied once it was confirmed, and not before.
        server.lie(kind, usize::MAX);
        server.relist_kind(kind);
        plane.pass(CONFIRM_AFTER - Duration::from_secs(1)).await;
        assert_eq!(plane.web(), web(&[("c1", 150)]));
        plane.pass(Duration::from_secs(2)).await;
        let snapshot = plane.snapshot("web").unwrap();
        assert!(snapshot.service.is_none() || snapshot.shards[0].endpoints.is_empty(), "{kind:?}");
        assert_eq!((plane.holds(), plane.problems()), (2, Vec::new()));
    }
}

#[tokio::test(start_paused = true)]
async fn k21_events_count_while_a_list_is_held() {
    let server = FakeServer::with(world("n1", "u1", 1, 150));
    server.apply(service("small"));
    server.apply(slice("small", &addresses(3, 2)));
    let mut plane = Plane::new();
    plane.run("c1", &server);
    plane.settle().await;
    server.lie(ObjectKind::EndpointSlice, 1);
    server.relist_kind(ObjectKind::EndpointSlice);
    plane.settle().await;
    server.apply(slice("small", &addresses(3, 5)));
    server.apply(service("new"));
    plane.settle().await;
    let endpoints = |plane: &Plane, name: &str| plane.snapshot(name).unwrap().shards[0].endpoints.len();
    assert_eq!((endpoints(&plane, "small"), endpoints(&plane, "new")), (5, 0));
    server.delete(&slice("web", &[]));
    plane.settle().await;
    assert_eq!(endpoints(&plane, "web"), 0, "a delete event is no list");
    assert_eq!(plane.problems(), NOTHING, "nothing is held back any more");
}

#[tokio::test(start_paused = true)]
async fn k21_an_outage_during_the_hold_confirms_nothing_and_the_guard_can_be_switched_off() {
    let server = FakeServer::with(world("n1", "u1", 1, 150));
    let mut plane = Plane::new();
    plane.run("c1", &server);
    plane.settle().await;
    server.lie(ObjectKind::EndpointSlice, 1);
    server.relist_kind(ObjectKind::EndpointSlice);
    plane.settle().await;
    server.go_down();
    plane.pass(HOUR).await;
    assert_eq!(plane.web(), web(&[("c1", 150)]));
    server.come_up();
    plane.settle().await;
    assert_eq!(plane.web(), web(&[("c1", 150)]));
    assert!(!plane.problems().iter().any(|problem| problem.contains("held back")));

    let server = FakeServer::with(world("n1", "u1", 1, 150));
    let mut plane = Plane::with(|options| options.mass_delete_guard = false);
    plane.run("c1", &server);
    plane.settle().await;
    server.lie(ObjectKind::EndpointSlice, 1);
    server.relist_kind(ObjectKind::EndpointSlice);
    plane.settle().await;
    assert_eq!((plane.web(), plane.holds()), (web(&[("c1", 0)]), 0));
}

#[tokio::test(start_paused = true)]
async fn k21_endpoints_that_only_moved_are_not_lost() {
    let server = FakeServer::with(world("n1", "u1", 1, 150));
    let mut plane = Plane::new();
    plane.run("c1", &server);
    plane.settle().await;
    server.go_down();
    server.delete(&slice("web", &[]));
    let mut moved = slice("web", &addresses(7, 140));
    moved["metadata"]["name"] = "web-2".into();
    server.apply(moved);
    server.come_up();
    plane.settle().await;
    assert_eq!((plane.web(), plane.holds()), (web(&[("c1", 140)]), 0));
}

#[tokio::test(start_paused = true)]
async fn k20_a_list_waits_for_the_answer_who_it_is_and_nothing_else_does() {
    let server = FakeServer::with(world("n1", "u1", 1, 3));
    let mut plane = Plane::new();
    plane.run("c1", &server);
    plane.settle().await;
    server.hide_identity(true);
    server.relist();
    server.serve("web", &addresses(1, 5));
    plane.pass(Duration::from_secs(3)).await;
    assert_eq!(plane.web(), web(&[("c1", 3)]), "it may be another cluster's");
    server.go_down();
    plane.settle().await;
    assert_eq!(plane.health("c1"), "stale", "how it is, is told");
    plane.tell("c1", &[("stale", "demote"), ("stale-after", "1s")]);
    plane.pass(Duration::from_secs(1)).await;
    assert_eq!(plane.row("c1").standing, Standing::Demoted, "and options count");
    plane.pass(Duration::from_millis(1100)).await;
    assert_eq!(plane.web(), web(&[("c1", 5)]), "an answer that cannot be had is not waited for");
}

#[tokio::test(start_paused = true)]
async fn k20_an_answer_that_comes_late_counts() {
    let server = FakeServer::with(world("n1", "u1", 1, 3));
    let mut plane = Plane::new();
    plane.run("c1", &server);
    plane.settle().await;
    server.hide_identity(true);
    server.become_another(world("n1", "u2", 9, 4));
    server.relist_kind(ObjectKind::Pod);
    plane.pass(Duration::from_secs(8)).await;
    server.hide_identity(false);
    plane.pass(Duration::from_secs(8)).await;
    assert_eq!((plane.web(), plane.row("c1").uid), (web(&[("c1", 4)]), "u2".into()));
}

#[tokio::test(start_paused = true)]
async fn k20_an_answer_that_is_older_than_a_list_is_asked_for_again() {
    let server = FakeServer::with(world("n1", "u1", 1, 3));
    let mut plane = Plane::new();
    plane.run("c1", &server);
    plane.settle().await;
    plane.changes();
    server.delay_identity(Duration::from_secs(2));
    server.relist_kind(ObjectKind::Pod);
    plane.pass(Duration::from_secs(1)).await;
    server.become_another(world("n1", "u2", 9, 4));
    server.relist_kind(ObjectKind::EndpointSlice);
    plane.pass(Duration::from_secs(2)).await;
    assert_eq!(plane.web(), web(&[("c1", 3)]), "the first answer says nothing of the second list");
    assert!(plane.changes().is_empty());
    plane.pass(Duration::from_secs(2)).await;
    assert_eq!((plane.web(), plane.row("c1").uid), (web(&[("c1", 4)]), "u2".into()));
}
