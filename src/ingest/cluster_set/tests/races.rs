//! Two things that happen at once.

use super::*;
use crate::registry::ClusterWriter;

const DEMOTE: [(&str, &str); 2] = [("stale", "demote"), ("stale-after", "60s")];

/// Rotates to `new` and stops where the new credentials have stopped the old ones and have not got the writer yet:
/// it is held here, because this was asked for it before.
async fn between(plane: &mut Plane, new: &FakeServer) -> tokio::sync::OwnedMutexGuard<Option<ClusterWriter>> {
    let seat = Arc::clone(&plane.set.running[&ClusterId::from("c1")].seat);
    let waiting = tokio::spawn(seat.lock_owned());
    tokio::task::yield_now().await;
    plane.run("c1", new);
    plane.settle().await;
    waiting.await.unwrap()
}

async fn served_by(plane: &mut Plane, server: &FakeServer, others: &[&FakeServer]) {
    plane.settle().await;
    assert_eq!((server.open_now(), plane.set.tasks.len()), (1, 1), "somebody reads the cluster");
    assert!(others.iter().all(|other| other.open_now() == 0));
    server.serve("web", &addresses(1, 5));
    plane.settle().await;
    assert_eq!(plane.web(), web(&[("c1", 5)]), "and publishes");
    assert_eq!(plane.problems(), NOTHING);
}

#[tokio::test(start_paused = true)]
async fn k30_credentials_that_flip_back_while_the_new_ones_take_over_leave_somebody_who_serves() {
    let (old, new) = (FakeServer::with(world("n1", "u1", 1, 3)), FakeServer::with(world("n1", "u1", 1, 3)));
    let mut plane = Plane::new();
    plane.run("c1", &old);
    plane.settle().await;
    let (first, writer) = (plane.hash, between(&mut plane, &new).await);
    plane.hash = first - 1;
    plane.run("c1", &old);
    drop(writer);
    served_by(&mut plane, &old, &[&new]).await;
}

#[tokio::test(start_paused = true)]
async fn k31_bad_credentials_while_good_ones_take_over_leave_the_good_ones() {
    let (old, new) = (FakeServer::with(world("n1", "u1", 1, 3)), FakeServer::with(world("n1", "u1", 1, 3)));
    let bad = FakeServer::default();
    bad.go_down();
    let mut plane = Plane::new();
    plane.run("c1", &old);
    plane.settle().await;
    let writer = between(&mut plane, &new).await;
    plane.run("c1", &bad);
    drop(writer);
    plane.pass(HOUR).await;
    assert_eq!((plane.web(), plane.health("c1")), (web(&[("c1", 3)]), "live"));
    assert_eq!((old.open_now(), new.open_now()), (0, 1));
    new.serve("web", &addresses(1, 4));
    plane.settle().await;
    assert_eq!(plane.web(), web(&[("c1", 4)]), "it is read");
    assert!(plane.problems()[0].starts_with("cluster c1, new credentials: not in use"));
}

#[tokio::test(start_paused = true)]
async fn q24_removed_while_new_credentials_take_over_nothing_stays() {
    let (old, new) = (FakeServer::with(world("n1", "u1", 1, 3)), FakeServer::with(world("n1", "u1", 1, 3)));
    let mut plane = Plane::with(|options| options.removal_grace = Duration::ZERO);
    plane.run("c1", &old);
    plane.settle().await;
    let writer = between(&mut plane, &new).await;
    plane.remove("c1");
    let mut going = Box::pin(plane.set.withdraw_due());
    assert!(futures::poll!(&mut going).is_pending(), "the writer is held");
    drop(writer);
    going.await;
    plane.settle().await;
    assert_eq!((plane.web(), old.open_now(), new.open_now(), plane.set.tasks.len()), (web(&[]), 0, 0, 0));
    // And it comes back as a new one.
    plane.run("c1", &new);
    served_by(&mut plane, &new, &[&old]).await;
}

/// Rotations as fast as they come while others have their turn in every order that threads may have: whoever is left
/// reads the cluster.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn k30_rotations_from_other_threads_never_leave_a_cluster_without_a_reader() {
    let servers = [(); 3].map(|()| FakeServer::with(world("n1", "u1", 1, 3)));
    let mut plane = Plane::new();
    plane.run("c1", &servers[0]);
    for round in 1..=300_usize {
        let (server, flip) = (&servers[round % 3], round % 5 == 0);
        if flip {
            plane.hash = plane.hash.saturating_sub(2);
        }
        plane.run("c1", server);
        for _ in 0..round % 7 {
            tokio::task::yield_now().await;
        }
    }
    let last = FakeServer::with(world("n1", "u1", 1, 2));
    plane.hash += 1000;
    plane.run("c1", &last);
    let there = async {
        while plane.web() != web(&[("c1", 2)]) || plane.set.tasks.len() != 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        last.serve("web", &addresses(1, 4));
        while plane.web() != web(&[("c1", 4)]) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), there).await.expect("the last credentials serve");
    assert!(servers.iter().all(|server| server.open_now() == 0));
    assert_eq!(plane.problems(), NOTHING);
}

#[tokio::test(start_paused = true)]
async fn k33_what_happens_during_the_grace_shows_when_it_comes_back() {
    let server = FakeServer::with(world("n1", "u1", 1, 2));
    let mut plane = Plane::new();
    plane.run("c1", &server);
    plane.settle().await;
    plane.changes();
    plane.remove("c1");
    server.go_down();
    plane.pass(Duration::from_secs(2)).await;
    plane.remove("c1");
    assert_eq!(plane.health("c1"), "removing");
    plane.hash -= 1;
    plane.run("c1", &server);
    plane.settle().await;
    assert_eq!(plane.health("c1"), "stale", "it was lost meanwhile");
    plane.pass(HOUR).await;
    assert_eq!((plane.web(), plane.health("c1")), (web(&[("c1", 2)]), "stale"), "it is not removed");
    assert!(plane.changes().is_empty());
    server.come_up();
    plane.settle().await;
    assert_eq!(plane.health("c1"), "live");
}

#[tokio::test(start_paused = true)]
async fn k33_what_is_removed_is_worth_no_more_than_before() {
    let server = FakeServer::with(world("n1", "u1", 1, 2));
    let mut plane = Plane::new();
    plane.run_with("c1", &server, &DEMOTE);
    plane.settle().await;
    server.go_down();
    plane.pass(Duration::from_secs(61)).await;
    assert_eq!(plane.row("c1").standing, Standing::Demoted);
    plane.changes();
    plane.remove("c1");
    plane.tell("c1", &[("stale", "demote"), ("stale-after", "50s")]);
    plane.pass(Duration::from_secs(3)).await;
    assert_eq!(plane.row("c1").standing, Standing::Demoted);
    assert!(plane.changes().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_was_told_of_credentials_that_are_called_off_is_taken_back() {
    let (old, few) = (FakeServer::with(world("n1", "u1", 1, 150)), FakeServer::with(world("n1", "u1", 1, 3)));
    let mut plane = Plane::new();
    plane.run("c1", &old);
    plane.settle().await;
    plane.run("c1", &few);
    plane.settle().await;
    assert!(plane.problems()[0].starts_with("cluster c1, replacement"), "{:?}", plane.problems());
    plane.hash -= 2;
    plane.run("c1", &old);
    plane.settle().await;
    assert_eq!((plane.problems(), plane.web()), (Vec::new(), web(&[("c1", 150)])));
    plane.pass(HOUR).await;
    assert_eq!((plane.problems(), plane.web()), (Vec::new(), web(&[("c1", 150)])));
}
