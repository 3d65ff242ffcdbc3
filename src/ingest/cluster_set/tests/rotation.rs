//! New credentials (K-30, K-31, R1.21).

use super::*;

#[tokio::test(start_paused = true)]
async fn k30_a_hundred_rotations_under_load_lose_nothing_and_push_only_what_differs() {
    let servers = [FakeServer::with(world("n1", "u1", 1, 3)), FakeServer::with(world("n1", "u1", 1, 3))];
    let mut plane = Plane::new();
    plane.run("c1", &servers[0]);
    plane.settle().await;
    plane.changes();
    let (version, placed) = (plane.snapshot("web").unwrap().version, plane.placed("web"));
    assert_eq!(placed[..2], ["c1 10.1.0.1 on node-2 in z2", "c1 10.1.0.2 on node-1 in z1"]);
    for round in 1..=100 {
        plane.run("c1", &servers[round % 2]);
        for _ in 0..20 {
            tokio::task::yield_now().await;
            assert_eq!(plane.placed("web"), placed, "at every instant");
        }
    }
    plane.settle().await;
    assert!(plane.changes().is_empty());
    assert_eq!(plane.snapshot("web").unwrap().version, version, "equal content publishes nothing");
    assert_eq!((servers[0].open_now(), servers[1].open_now()), (1, 0), "old watches have ended");
    for round in 0..100 {
        let count = round % 5 + 1;
        servers.iter().for_each(|server| server.serve("web", &addresses(1, count)));
        plane.run("c1", &servers[round % 2]);
        plane.settle().await;
        assert_eq!((plane.web(), plane.workloads("c1")), (web(&[("c1", count)]), count));
    }
    assert_eq!(plane.set.tasks.len(), 1, "no task is left behind");
}

#[tokio::test(start_paused = true)]
async fn k31_bad_credentials_keep_the_old_ones_and_good_ones_recover() {
    let (old, bad) = (FakeServer::with(world("n1", "u1", 1, 3)), FakeServer::default());
    bad.go_down();
    let mut plane = Plane::new();
    plane.run("c1", &old);
    plane.settle().await;
    plane.changes();
    plane.run("c1", &bad);
    plane.pass(HOUR).await;
    assert_eq!((plane.web(), plane.health("c1"), old.open_now()), (web(&[("c1", 3)]), "live", 1));
    assert!(plane.problems()[0].starts_with("cluster c1, new credentials: not in use"));
    // They show a cluster without any Service: they do not take over either.
    bad.come_up();
    plane.pass(HOUR).await;
    assert_eq!((plane.web(), old.open_now()), (web(&[("c1", 3)]), 1));
    let problems = plane.problems();
    assert!(problems.iter().any(|problem| problem.contains("it lists no Service")), "{problems:?}");
    assert!(plane.row("c1").replacement_held);
    old.serve("web", &addresses(1, 4));
    plane.settle().await;
    assert_eq!(plane.web(), web(&[("c1", 4)]), "the old ones go on");
    let good = FakeServer::with(world("n1", "u1", 1, 4));
    plane.changes();
    plane.run("c1", &good);
    plane.settle().await;
    assert_eq!((plane.problems(), good.open_now(), old.open_now(), bad.open_now()), (Vec::new(), 1, 0, 0));
    assert!(plane.changes().is_empty());
}

#[tokio::test(start_paused = true)]
async fn k31_a_replacement_that_would_take_most_away_is_listed_twice() {
    let old = FakeServer::with(world("n1", "u1", 1, 150));
    let mut plane = Plane::new();
    plane.run("c1", &old);
    plane.settle().await;
    let new = FakeServer::with(world("n1", "u1", 1, 150));
    new.lie(ObjectKind::EndpointSlice, 1);
    plane.run("c1", &new);
    plane.settle().await;
    assert_eq!((plane.web(), old.open_now()), (web(&[("c1", 150)]), 1));
    assert!(plane.problems()[0].starts_with("cluster c1, replacement: it lists 0 endpoints where 150"));
    assert!(plane.row("c1").replacement_held);
    plane.pass(CONFIRM_AFTER).await;
    plane.settle().await;
    assert_eq!((plane.web(), new.open_now(), old.open_now()), (web(&[("c1", 150)]), 1, 0));
    assert_eq!(plane.problems(), NOTHING);
    // True, so it takes over after the second list.
    let small = FakeServer::with(world("n1", "u1", 1, 5));
    plane.run("c1", &small);
    plane.pass(CONFIRM_AFTER / 2).await;
    assert_eq!(plane.web(), web(&[("c1", 150)]));
    plane.pass(CONFIRM_AFTER).await;
    assert_eq!((plane.web(), small.opened()), (web(&[("c1", 5)]), 2));
}

#[tokio::test(start_paused = true)]
async fn q24_removed_while_new_credentials_sync_nothing_stays() {
    let (old, new) = (FakeServer::with(world("n1", "u1", 1, 3)), FakeServer::default());
    new.go_down();
    let mut plane = Plane::new();
    plane.run("c1", &old);
    plane.settle().await;
    plane.run("c1", &new);
    plane.settle().await;
    plane.remove("c1");
    plane.pass(Duration::from_secs(10)).await;
    assert_eq!((plane.web(), plane.gateways()), (web(&[]), Vec::<String>::new()));
    assert_eq!((old.open_now(), new.open_now(), plane.set.tasks.len()), (0, 0, 0));
    assert_eq!(plane.problems(), NOTHING);
}

/// Rotates the credentials of `r1` three times; the service `vanishing` is behind the first ones only.
#[tokio::test(start_paused = true)]
async fn secret_06_rotation_without_gap_or_flap_prunes_services_that_are_gone() {
    let stable = || served("stable", &addresses(10, 1));
    let before = FakeServer::with(world("n1", "u1", 1, 1).into_iter().chain(stable()));
    served("vanishing", &addresses(11, 1)).into_iter().for_each(|object| before.apply(object));
    let mut plane = Plane::new();
    plane.run("r1", &before);
    plane.settle().await;
    let endpoints = |plane: &Plane, name: &str| -> usize {
        let snapshot = plane.snapshot(name);
        snapshot.map_or(0, |snapshot| snapshot.shards.iter().map(|shard| shard.endpoints.len()).sum())
    };
    assert_eq!((endpoints(&plane, "stable"), endpoints(&plane, "vanishing")), (1, 1));
    let mut last = before.clone();
    for _ in 0..3 {
        let after = FakeServer::with(world("n1", "u1", 1, 1).into_iter().chain(stable()));
        plane.run("r1", &after);
        for _ in 0..50 {
            tokio::task::yield_now().await;
            assert_eq!(endpoints(&plane, "stable"), 1, "never empty");
            assert!(plane.set.registry.clusters().get(&"r1".into()).is_some(), "always there");
        }
        plane.settle().await;
        assert_eq!((endpoints(&plane, "stable"), endpoints(&plane, "vanishing")), (1, 0));
        assert_eq!(plane.workloads("r1"), 2, "pods go with it");
        assert_eq!((last.open_now(), after.open_now()), (0, 1), "old watchers have stopped");
        last = after;
    }
    assert_eq!(plane.set.registry.clusters().all().len(), 1);
    assert_eq!(plane.set.tasks.len(), 1, "one instance");
}

/// Objects that are behind both, only the new or only the old credentials: nothing happens to the first, the
/// second appear and the third go in the one step in which the new credentials take over.
#[tokio::test(start_paused = true)]
async fn secret_07_objects_are_kept_added_and_deleted_when_the_new_credentials_have_synced() {
    let with = |name: &'static str, subnet| {
        world("n1", "u1", 1, 2).into_iter().chain(served(name, &addresses(subnet, 1)))
    };
    let (old, new) = (FakeServer::with(with("old", 2)), FakeServer::with(with("new", 3)));
    let mut plane = Plane::new();
    plane.run("c1", &old);
    plane.settle().await;
    plane.changes();
    new.go_down();
    plane.run("c1", &new);
    plane.pass(HOUR).await;
    assert!(plane.changes().is_empty(), "not before the new ones have synced");
    new.come_up();
    plane.settle().await;
    let changes = plane.changes();
    let mut changed: Vec<_> = changes.services.keys().map(|key| key.hostname.to_string()).collect();
    changed.sort();
    assert_eq!(changed, ["new.a.svc.cluster.local", "old.a.svc.cluster.local"]);
    let mut changed: Vec<_> = changes.workloads.iter().map(|pod| pod.name.to_string()).collect();
    changed.sort();
    assert_eq!(changed, ["new-10-3-0-1", "old-10-2-0-1"]);
    assert_eq!(plane.web(), web(&[("c1", 2)]));
}

/// What one list has and another does not yet is waited for, as long as it is served already.
#[tokio::test(start_paused = true)]
async fn k30_a_node_and_a_pod_that_come_after_the_lists_cost_nothing() {
    let old = FakeServer::with(world("n1", "u1", 1, 3));
    let mut plane = Plane::new();
    plane.run("c1", &old);
    plane.settle().await;
    plane.changes();
    let all = world("n1", "u1", 1, 3);
    let find = |kind: &str| all.iter().find(|object| object["kind"] == kind).unwrap().clone();
    for late in [find("Node"), find("Pod")] {
        let new = FakeServer::with(all.clone());
        new.forget(&late);
        plane.run("c1", &new);
        plane.pass(Duration::from_millis(1900)).await;
        assert_eq!(
            (plane.web(), old.open_now(), plane.changes()),
            (web(&[("c1", 3)]), 1, ChangeSet::default())
        );
        new.apply(late);
        plane.settle().await;
        assert_eq!((plane.web(), old.open_now(), new.open_now()), (web(&[("c1", 3)]), 0, 1), "at once");
        assert!(plane.changes().is_empty());
        plane.run("c1", &old);
        plane.settle().await;
        assert_eq!((old.open_now(), new.open_now()), (1, 0));
    }
    assert!(plane.changes().is_empty());
}

#[tokio::test(start_paused = true)]
async fn k30_what_never_comes_is_waited_for_for_two_seconds() {
    let lacks = |kind: &str| {
        let all = world("n1", "u1", 1, 3);
        let lost = all.iter().position(|object| object["kind"] == kind).unwrap();
        let server = FakeServer::with(all.clone());
        server.forget(&all[lost]);
        server
    };
    let (old, new) = (lacks("Node"), lacks("Node"));
    let mut plane = Plane::new();
    plane.run("c1", &old);
    plane.pass(Duration::from_secs(3)).await;
    assert_eq!(plane.web(), web(&[("c1", 3)]));
    plane.changes();
    plane.run("c1", &new);
    plane.pass(Duration::from_millis(2100)).await;
    assert_eq!((plane.web(), old.open_now(), new.open_now()), (web(&[("c1", 3)]), 0, 1));
    assert!(plane.changes().is_empty(), "nobody has it: nothing differs");
    // A pod that only the old credentials show is gone.
    let less = lacks("Pod");
    plane.run("c1", &less);
    plane.pass(Duration::from_millis(2100)).await;
    assert_eq!((plane.web(), new.open_now(), less.open_now()), (web(&[("c1", 2)]), 0, 1));
}

#[tokio::test(start_paused = true)]
async fn k21_what_was_held_back_is_moot_once_new_credentials_serve() {
    let (old, new) =
        (FakeServer::with(world("n1", "u1", 1, 150)), FakeServer::with(world("n1", "u1", 1, 150)));
    let mut plane = Plane::new();
    plane.run("c1", &old);
    plane.settle().await;
    old.lie(ObjectKind::EndpointSlice, usize::MAX);
    old.relist_kind(ObjectKind::EndpointSlice);
    plane.settle().await;
    assert_eq!((plane.problems().len(), plane.row("c1").mass_delete_holds), (1, 1));
    plane.run("c1", &new);
    plane.settle().await;
    assert_eq!((plane.problems(), plane.row("c1").mass_delete_holds), (Vec::new(), 0));
    assert_eq!(plane.web(), web(&[("c1", 150)]));
}

#[tokio::test(start_paused = true)]
async fn k31_credentials_that_show_services_after_all_take_over_and_nothing_is_told_of_them() {
    let (old, new) = (FakeServer::with(world("n1", "u1", 1, 3)), FakeServer::default());
    let mut plane = Plane::new();
    plane.run("c1", &old);
    plane.settle().await;
    plane.run("c1", &new);
    plane.pass(HOUR + CONFIRM_AFTER / 2).await;
    assert_eq!((plane.problems().len(), old.open_now()), (1, 1));
    // Not with the first Service of many that may come one by one.
    let (slices, others): (Vec<_>, Vec<_>) =
        world("n1", "u1", 1, 3).into_iter().partition(|object| object["kind"] == "EndpointSlice");
    others.into_iter().for_each(|object| new.apply(object));
    plane.settle().await;
    assert_eq!((plane.web(), old.open_now()), (web(&[("c1", 3)]), 1));
    slices.into_iter().for_each(|object| new.apply(object));
    plane.pass(CONFIRM_AFTER + Duration::from_secs(3)).await;
    assert_eq!((plane.web(), plane.health("c1")), (web(&[("c1", 3)]), "live"));
    assert_eq!((plane.problems(), old.open_now(), new.open_now()), (Vec::new(), 0, 1));
}
