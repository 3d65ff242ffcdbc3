//! What operators are told of clusters, and the clocks it goes by.

use serde_json::json;

use super::*;
use crate::ingest::snapshot::{Keeper, Pin, SnapshotOptions, SnapshotStore};
use crate::ingest::watch::Failure;
use crate::model::{Moment, Restored, SourceState, StaleCause};

#[tokio::test(start_paused = true)]
async fn k41_objects_dated_an_hour_ahead_or_behind_are_served_alike() {
    let mut seen = Vec::new();
    for offset in [-3600_i64, 0, 3600] {
        let now = jiff::Timestamp::now();
        let dated = (now + jiff::SignedDuration::from_secs(offset)).to_string();
        let objects = world("n1", "u1", 1, 2).into_iter().map(|mut object| {
            object["metadata"]["creationTimestamp"] = json!(dated);
            object
        });
        let server = FakeServer::with(objects);
        let mut plane = Plane::new();
        plane.run("c1", &server);
        plane.pass(HOUR).await;
        let snapshot = plane.snapshot("web").unwrap();
        let shard = &snapshot.shards[0];
        let record = crate::model::Service { created: 0, ..(**shard.service.as_ref().unwrap()).clone() };
        seen.push((record, Arc::clone(&shard.endpoints), plane.health("c1"), plane.problems()));
    }
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[2], seen[1]);
    assert_eq!(seen[1].2, "live");
}

#[tokio::test(start_paused = true)]
async fn k41_ages_go_by_the_monotonic_clock() {
    let server = FakeServer::with(world("n1", "u1", 1, 2));
    let mut plane = Plane::new();
    plane.run("c1", &server);
    plane.settle().await;
    server.go_down();
    plane.settle().await;
    let lost: Moment = Instant::now().into_std().into();
    plane.pass(HOUR).await;
    let now: Moment = Instant::now().into_std().into();
    let row = plane.row("c1");
    let age = row.stale_since().unwrap().age(now);
    assert!((HOUR..HOUR + Duration::from_secs(2)).contains(&age), "an hour by the runtime's clock: {age:?}");
    assert!(row.since <= lost && row.last_contact().unwrap().age(now) >= HOUR);
}

#[tokio::test(start_paused = true)]
async fn each_kind_has_a_state_of_its_own() {
    let server = FakeServer::with(world("n1", "u1", 1, 2));
    server.forbid(ObjectKind::Node);
    let mut plane = Plane::new();
    plane.run("c1", &server);
    plane.pass(Duration::from_secs(5)).await;
    let row = plane.row("c1");
    assert_eq!(row.health.word(), "degraded");
    assert!(row.health.detail().starts_with("Node: "), "{}", row.health.detail());
    assert!(matches!(row.sources["Node"].state, SourceState::Forbidden(_)));
    assert_eq!(
        (row.sources["Service"].state.word(), row.sources["Service"].objects),
        ("live", row.objects["Service"])
    );
    server.permit(ObjectKind::Node);
    plane.pass(Duration::from_secs(5)).await;
    assert_eq!(plane.row("c1").health.word(), "live");
}

fn keeper(plane: &mut Plane, dir: &tempfile::TempDir) -> Arc<Keeper> {
    let options = SnapshotOptions { dir: dir.path().to_owned(), max_age: 24 * HOUR };
    let store = SnapshotStore::open(&options).unwrap();
    let keeper =
        Arc::new(Keeper::new(store, Arc::clone(&plane.set.registry), Arc::clone(&plane.set.problems)));
    plane.set.snapshots = Some(Arc::clone(&keeper));
    keeper
}

/// Writes what changed.
async fn write(keeper: &Arc<Keeper>) {
    let cancel = CancellationToken::new();
    cancel.cancel();
    Arc::clone(keeper).run(cancel).await;
}

fn pinned(server: &FakeServer) -> Start {
    Start {
        id: "c1".into(),
        role: ClusterRole::Remote,
        source: "secret x".to_owned(),
        feeds: Arc::new(server.clone()),
        hash: 1,
        options: Arc::default(),
        pin: Some(Pin { server: "https://192.0.2.1:443".to_owned(), ca: None }),
    }
}

/// A directory with the snapshot of a cluster with three endpoints.
async fn kept(uid: &str) -> tempfile::TempDir {
    kept_with(uid, 3).await
}

async fn kept_with(uid: &str, endpoints: usize) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::with(world("n1", uid, 1, endpoints));
    let mut plane = Plane::new();
    let keeper = keeper(&mut plane, &dir);
    plane.set.start(pinned(&server)).unwrap();
    plane.settle().await;
    assert_eq!(plane.web(), web(&[("c1", endpoints)]));
    write(&keeper).await;
    dir
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_answers_in_time_is_never_served_from_its_snapshot() {
    let dir = kept("u1").await;
    let server = FakeServer::with(world("n1", "u1", 1, 2));
    let mut plane = Plane::new();
    keeper(&mut plane, &dir);
    plane.set.start(pinned(&server)).unwrap();
    plane.settle().await;
    assert_eq!((plane.web(), plane.health("c1")), (web(&[("c1", 2)]), "live"));
    assert_eq!(plane.changes().services.len(), plane.set.registry.services().len(), "published once");
    assert!(plane.row("c1").restored.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_does_not_answer_is_served_from_its_snapshot_after_a_second() {
    let dir = kept("u1").await;
    let server = FakeServer::with(world("n1", "u1", 1, 3));
    server.hold_new_lists(true);
    let mut plane = Plane::new();
    keeper(&mut plane, &dir);
    plane.set.start(pinned(&server)).unwrap();
    plane.pass(Duration::from_millis(900)).await;
    assert_eq!((plane.web(), plane.set.registry.clusters().gate_open()), (web(&[]), false));
    plane.pass(Duration::from_millis(200)).await;
    assert_eq!((plane.web(), plane.health("c1")), (web(&[("c1", 3)]), "stale"));
    assert!(plane.set.registry.clusters().gate_open() && !plane.set.registry.clusters().all_synced());
    let row = plane.row("c1");
    assert_eq!((&*row.network, row.objects["Pod"], row.objects["Service"]), ("n1", 3, 2), "what is served");
    plane.changes();
    server.hold_new_lists(false);
    plane.settle().await;
    assert_eq!(plane.health("c1"), "live");
    assert_eq!((&*plane.row("c1").network, plane.row("c1").objects["EndpointSlice"]), ("n1", 1));
    assert!(plane.changes().is_empty(), "equal content is not published again");
}

#[tokio::test(start_paused = true)]
async fn d35_another_cluster_behind_the_same_address_than_the_snapshots_is_told_of() {
    let dir = kept("u1").await;
    let server = FakeServer::with(world("n1", "u2", 1, 2));
    server.hold_new_lists(true);
    let mut plane = Plane::new();
    keeper(&mut plane, &dir);
    plane.set.start(pinned(&server)).unwrap();
    plane.pass(Duration::from_secs(2)).await;
    assert_eq!(plane.web(), web(&[("c1", 3)]));
    server.hold_new_lists(false);
    plane.settle().await;
    assert_eq!(plane.web(), web(&[("c1", 2)]));
    assert!(plane.problems().iter().any(|text| text.contains("was u1 and is u2")), "{:?}", plane.problems());
}

#[tokio::test(start_paused = true)]
async fn k20_another_cluster_than_the_snapshots_is_told_of_however_fast_it_answers() {
    let dir = kept("u1").await;
    let server = FakeServer::with(world("n1", "u2", 1, 2));
    let mut plane = Plane::new();
    keeper(&mut plane, &dir);
    plane.set.start(pinned(&server)).unwrap();
    plane.settle().await;
    assert_eq!((plane.web(), plane.row("c1").uid), (web(&[("c1", 2)]), "u2".into()));
    assert!(plane.problems().iter().any(|text| text.contains("was u1 and is u2")), "{:?}", plane.problems());
}

/// Another address, while nothing but the snapshot is served: whoever answers there with nothing is not believed.
#[tokio::test(start_paused = true)]
async fn k31_new_credentials_that_show_no_services_take_the_place_of_no_snapshot() {
    let dir = kept("u1").await;
    let (old, new) = (FakeServer::default(), FakeServer::with([namespace("kube-system", "", "u1")]));
    old.go_down();
    let mut plane = Plane::new();
    keeper(&mut plane, &dir);
    plane.set.start(pinned(&old)).unwrap();
    plane.settle().await;
    assert_eq!((plane.web(), plane.health("c1")), (web(&[("c1", 3)]), "stale"));
    plane.changes();
    let pin = Some(Pin { server: "https://192.0.2.2:443".to_owned(), ca: Some([1; 32]) });
    plane.set.start(Start { hash: 2, pin, ..pinned(&new) }).unwrap();
    for _ in 0..10 {
        plane.pass(CONFIRM_AFTER).await;
        assert_eq!((plane.web(), plane.health("c1")), (web(&[("c1", 3)]), "stale"));
    }
    assert!(plane.changes().is_empty());
    let told = "cluster c1, replacement: lists 0 endpoints where 3 were known";
    assert!(plane.problems().iter().any(|text| text.starts_with(told)), "{:?}", plane.problems());
    world("n1", "u1", 1, 3).into_iter().for_each(|object| new.apply(object));
    plane.pass(CONFIRM_AFTER + Duration::from_secs(3)).await;
    assert_eq!((plane.web(), plane.health("c1"), plane.problems()), (web(&[("c1", 3)]), "live", Vec::new()));
    assert_eq!((old.open_now(), new.open_now()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn what_is_doubted_of_credentials_that_are_replaced_is_moot() {
    let dir = kept_with("u1", 250).await;
    let server = FakeServer::with(world("n1", "u1", 1, 2));
    let mut plane = Plane::new();
    keeper(&mut plane, &dir);
    plane.set.start(pinned(&server)).unwrap();
    plane.settle().await;
    assert!(plane.problems()[0].starts_with("cluster c1, replacement: lists 2"), "{:?}", plane.problems());
    let silent = FakeServer::default();
    silent.hold_new_lists(true);
    plane.set.start(Start { hash: 2, ..pinned(&silent) }).unwrap();
    plane.pass(HOUR).await;
    assert_eq!((plane.web(), plane.problems()), (web(&[("c1", 250)]), Vec::new()));
}

#[tokio::test(start_paused = true)]
async fn d35_the_age_goes_on_while_failures_change_their_words() {
    let server = FakeServer::with(world("n1", "u1", 1, 2));
    let mut plane = Plane::new();
    plane.run_with("c1", &server, &[("stale", "drop"), ("stale-after", "1h")]);
    plane.settle().await;
    server.go_down();
    plane.settle().await;
    let lost = plane.row("c1").stale_since().expect("it is lost");
    for (health, failure) in [
        ("unauthorized", Failure::Unauthorized("HTTP 401".to_owned())),
        ("unauthorized", Failure::Forbidden("HTTP 403".to_owned())),
        ("stale", Failure::Refused("HTTP 500".to_owned())),
    ] {
        plane.pass(Duration::from_secs(1190)).await;
        assert_eq!(plane.row("c1").standing, Standing::Regular);
        server.fail(&failure);
        plane.settle().await;
        assert_eq!((plane.health("c1"), plane.row("c1").stale_since()), (health, Some(lost)));
    }
    plane.pass(Duration::from_secs(31)).await;
    assert_eq!(plane.row("c1").standing, Standing::Dropped, "an hour after the first failure");
    for failure in [Failure::Unauthorized("HTTP 401".to_owned()), Failure::Unreachable("gone".to_owned())] {
        server.fail(&failure);
        plane.pass(Duration::from_secs(2)).await;
        assert_eq!(plane.row("c1").standing, Standing::Dropped, "nothing was heard");
    }
    server.come_up();
    plane.settle().await;
    let row = plane.row("c1");
    assert_eq!((row.health.word(), row.standing, row.stale_since()), ("live", Standing::Regular, None));
}

#[tokio::test(start_paused = true)]
async fn d35_a_kind_that_was_listed_and_may_not_be_read_any_more_makes_a_cluster_old() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::with(world("n1", "u1", 1, 2));
    let mut plane = Plane::new();
    let kept = keeper(&mut plane, &dir);
    let options =
        plane.set.read_options(&"c1".into(), &as_texts(&[("stale", "drop"), ("stale-after", "1h")]));
    plane.set.start(Start { options, ..pinned(&server) }).unwrap();
    plane.settle().await;
    write(&kept).await;
    server.forbid(ObjectKind::Pod);
    server.relist_kind(ObjectKind::Pod);
    plane.settle().await;
    let row = plane.row("c1");
    assert_eq!((row.health.word(), plane.web()), ("degraded", web(&[("c1", 2)])));
    let since = row.stale_since().expect("pods come and go unseen");
    plane.pass(HOUR).await;
    let row = plane.row("c1");
    assert_eq!((row.standing, row.stale_since()), (Standing::Dropped, Some(since)));
    server.permit(ObjectKind::Pod);
    plane.settle().await;
    let row = plane.row("c1");
    assert_eq!((row.health.word(), row.standing, row.stale_since()), ("live", Standing::Regular, None));
    // One that never could be read is none of that.
    let without = FakeServer::with(world("n1", "u2", 2, 2));
    without.forbid(ObjectKind::Node);
    plane.run_with("c2", &without, &[("stale", "drop"), ("stale-after", "1h")]);
    plane.pass(2 * HOUR).await;
    let row = plane.row("c2");
    assert_eq!((row.health.word(), row.standing, row.stale_since()), ("degraded", Standing::Regular, None));
}

#[tokio::test(start_paused = true)]
async fn k13_what_old_sources_were_asked_to_wait_for_is_not_told_of_new_ones() {
    let server = FakeServer::with(world("n1", "u1", 1, 2));
    server.ask_to_wait(Some(Duration::from_secs(600)));
    let mut plane = Plane::new();
    let told = |plane: &Plane| plane.row("c1").sources["Service"].counters.retry_after;
    plane.run("c1", &server);
    plane.settle().await;
    assert_eq!(told(&plane), Some(Duration::from_secs(600)));
    server.ask_to_wait(None);
    plane.run("c1", &server);
    plane.pass(Duration::from_secs(5)).await;
    assert_eq!((told(&plane), plane.health("c1")), (None, "live"), "new credentials");
    server.ask_to_wait(Some(Duration::from_secs(60)));
    plane.tell("c1", &[("namespaces", "a")]);
    plane.pass(Duration::from_secs(5)).await;
    assert_eq!(told(&plane), Some(Duration::from_secs(60)));
    server.ask_to_wait(None);
    plane.tell("c1", &[("namespaces", "a,b")]);
    plane.pass(Duration::from_secs(5)).await;
    assert_eq!(told(&plane), None, "other namespaces");
}

#[tokio::test(start_paused = true)]
async fn k21_a_list_that_loses_most_of_a_snapshot_is_read_twice() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::with(world("n1", "u1", 1, 250));
    let mut plane = Plane::new();
    let kept = keeper(&mut plane, &dir);
    plane.set.start(pinned(&server)).unwrap();
    plane.settle().await;
    write(&kept).await;
    drop(plane);

    let server = FakeServer::with(world("n1", "u1", 1, 2));
    server.hold_new_lists(true);
    let mut plane = Plane::new();
    keeper(&mut plane, &dir);
    plane.set.start(pinned(&server)).unwrap();
    plane.pass(Duration::from_secs(2)).await;
    server.hold_new_lists(false);
    plane.settle().await;
    assert_eq!(plane.web(), web(&[("c1", 250)]), "held until it is confirmed");
    plane.pass(CONFIRM_AFTER + Duration::from_secs(5)).await;
    assert_eq!(plane.web(), web(&[("c1", 2)]));
}

#[tokio::test(start_paused = true)]
async fn k21_a_first_list_that_loses_most_of_a_snapshot_is_read_twice_and_the_snapshot_served() {
    let dir = kept_with("u1", 250).await;
    for kind in [ObjectKind::EndpointSlice, ObjectKind::Service] {
        // It answers at once, and the first answer is false.
        let server = FakeServer::with(world("n1", "u1", 1, 250));
        server.lie(kind, 1);
        let mut plane = Plane::new();
        let kept = keeper(&mut plane, &dir);
        plane.set.start(pinned(&server)).unwrap();
        plane.settle().await;
        assert_eq!((plane.web(), plane.health("c1")), (web(&[("c1", 250)]), "stale"), "{kind:?}");
        assert!(plane.problems().iter().any(|problem| problem.contains("endpoints where 250 were known")));
        assert!(plane.row("c1").restored.is_some() && plane.set.registry.clusters().gate_open());
        write(&kept).await;
        plane.changes();
        plane.pass(CONFIRM_AFTER + Duration::from_secs(1)).await;
        assert_eq!((plane.web(), plane.health("c1")), (web(&[("c1", 250)]), "live"));
        assert!(plane.changes().is_empty() && plane.problems().is_empty());
        write(&kept).await;
    }
    // It is true.
    let server = FakeServer::with(world("n1", "u1", 1, 2));
    let mut plane = Plane::new();
    let kept = keeper(&mut plane, &dir);
    plane.set.start(pinned(&server)).unwrap();
    plane.pass(CONFIRM_AFTER - Duration::from_secs(1)).await;
    assert_eq!((plane.web(), plane.health("c1")), (web(&[("c1", 250)]), "stale"));
    plane.pass(Duration::from_secs(2)).await;
    assert_eq!((plane.web(), plane.health("c1")), (web(&[("c1", 2)]), "live"));
    write(&kept).await;
}

#[tokio::test(start_paused = true)]
async fn k21_a_first_list_without_any_service_is_read_twice_however_small_the_snapshot() {
    let dir = kept("u1").await;
    let server = FakeServer::with(world("n1", "u1", 1, 3));
    [ObjectKind::Service, ObjectKind::EndpointSlice].into_iter().for_each(|kind| server.lie(kind, 1));
    let mut plane = Plane::new();
    keeper(&mut plane, &dir);
    plane.set.start(pinned(&server)).unwrap();
    plane.pass(Duration::from_secs(5)).await;
    assert_eq!((plane.web(), plane.health("c1")), (web(&[("c1", 3)]), "stale"));
    plane.pass(CONFIRM_AFTER).await;
    assert_eq!((plane.web(), plane.health("c1")), (web(&[("c1", 3)]), "live"));
}

#[tokio::test(start_paused = true)]
async fn d35_the_endpoints_of_a_snapshot_grow_old() {
    let dir = kept("u1").await;
    let server = FakeServer::with(world("n1", "u1", 1, 3));
    server.go_down();
    let mut plane = Plane::new();
    keeper(&mut plane, &dir);
    let options =
        plane.set.read_options(&"c1".into(), &as_texts(&[("stale", "demote"), ("stale-after", "60s")]));
    plane.set.start(Start { options, ..pinned(&server) }).unwrap();
    plane.pass(Duration::from_secs(50)).await;
    assert_eq!((plane.web(), plane.row("c1").standing), (web(&[("c1", 3)]), Standing::Regular));
    plane.pass(Duration::from_secs(11)).await;
    assert_eq!((plane.web(), plane.row("c1").standing), (web(&[("c1", 3)]), Standing::Demoted));
    plane.tell("c1", &[("stale", "drop"), ("stale-after", "61s")]);
    plane.settle().await;
    assert_eq!(plane.row("c1").standing, Standing::Dropped, "another policy counts at once");
    // New credentials that do not work either change nothing of that, nor of what is served.
    let bad = FakeServer::default();
    bad.go_down();
    let options =
        plane.set.read_options(&"c1".into(), &as_texts(&[("stale", "drop"), ("stale-after", "61s")]));
    plane.set.start(Start { options, hash: 2, ..pinned(&bad) }).unwrap();
    plane.pass(Duration::from_secs(5)).await;
    assert_eq!((plane.row("c1").standing, plane.health("c1")), (Standing::Dropped, "stale"));
    server.come_up();
    plane.set.start(Start { hash: 3, ..pinned(&server) }).unwrap();
    plane.settle().await;
    assert_eq!((plane.row("c1").standing, plane.health("c1")), (Standing::Regular, "live"));
}

#[tokio::test(start_paused = true)]
async fn d35_a_snapshot_that_is_old_already_counts_for_no_more_than_that() {
    let dir = kept("u1").await;
    let server = FakeServer::with(world("n1", "u1", 1, 3));
    server.go_down();
    let mut plane = Plane::new();
    keeper(&mut plane, &dir);
    let options =
        plane.set.read_options(&"c1".into(), &as_texts(&[("stale", "demote"), ("stale-after", "1ns")]));
    plane.set.start(Start { options, ..pinned(&server) }).unwrap();
    plane.settle().await;
    assert_eq!((plane.web(), plane.row("c1").standing), (web(&[("c1", 3)]), Standing::Demoted));
    let services = plane.set.registry.services().len();
    assert_eq!(plane.changes().services.len(), services);
    assert_eq!(plane.set.counts.stale_actions.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn the_row_of_a_cluster_is_written_once_a_second_while_it_is_listed() {
    const OBJECTS: usize = 5_000;
    let server = FakeServer::with(world("n1", "u1", 1, 3));
    (0..OBJECTS).for_each(|n| server.apply(service(&format!("s{n}"))));
    server.forbid(ObjectKind::EndpointSlice);
    let mut plane = Plane::new();
    let table = plane.set.registry.clusters().watch();
    plane.run("c1", &server);
    plane.pass(Duration::from_secs(10)).await;
    assert!(server.taken() > OBJECTS && !plane.row("c1").synced);
    // And as they come one by one.
    for n in 0..200 {
        server.apply(service(&format!("t{n}")));
        plane.settle().await;
    }
    assert!(*table.borrow() < 30, "{} changes for {OBJECTS} objects", *table.borrow());
    plane.pass(Duration::from_secs(1)).await;
    assert_eq!(plane.row("c1").sources["Service"].objects, OBJECTS + 202);
}

#[tokio::test(start_paused = true)]
async fn d10_a_restored_gateway_passes_the_options_of_now() {
    let dir = tempfile::tempdir().unwrap();
    let trusted = as_texts(&[("trusted-networks", "n2")]);
    let mut foreign = gateway("n2", "192.0.2.2");
    foreign["metadata"]["name"] = "foreign".into();
    let server = FakeServer::with(world("n1", "u1", 1, 3).into_iter().chain([foreign]));
    let start = |plane: &Plane, server: &FakeServer, texts: &Texts| {
        let options = plane.set.read_options(&"c1".into(), texts);
        Start { options, ..pinned(server) }
    };
    let mut plane = Plane::new();
    let kept = keeper(&mut plane, &dir);
    plane.set.start(start(&plane, &server, &trusted)).unwrap();
    plane.settle().await;
    assert_eq!(plane.gateways().len(), 2);
    write(&kept).await;
    drop(plane);

    let silent = FakeServer::default();
    silent.hold_new_lists(true);
    let elsewhere = as_texts(&[("gateway-address", "203.0.113.1")]);
    let addresses = |plane: &Plane| -> Vec<String> {
        let networks = plane.set.registry.networks();
        networks.gateways().map(|one| format!("{} {}", one.network, one.address)).collect()
    };
    for (texts, expected) in [
        (&trusted, &["n1 192.0.2.1", "n2 192.0.2.2"][..]),
        (&Texts::new(), &["n1 192.0.2.1"]),
        (&elsewhere, &["n1 203.0.113.1"]),
    ] {
        let mut plane = Plane::new();
        keeper(&mut plane, &dir);
        plane.set.start(start(&plane, &silent, texts)).unwrap();
        plane.pass(Duration::from_secs(2)).await;
        assert_eq!((addresses(&plane), plane.web()), (as_strings(expected), web(&[("c1", 3)])));
    }
}

#[tokio::test(start_paused = true)]
async fn d34_a_snapshot_is_served_under_the_trust_domain_of_now() {
    let dir = tempfile::tempdir().unwrap();
    let server = FakeServer::with(world("n1", "u1", 1, 3));
    let start = |plane: &Plane, server: &FakeServer, domain: &str| {
        let options = plane.set.read_options(&"c1".into(), &as_texts(&[("trust-domain", domain)]));
        Start { options, ..pinned(server) }
    };
    let accounts = |plane: &Plane| -> Vec<String> {
        let snapshot = plane.snapshot("web").unwrap();
        let behind = snapshot.shards.iter().flat_map(|shard| shard.endpoints.iter());
        let pods = behind.map(|endpoint| endpoint.workload.account.as_ref().unwrap().to_string());
        let all = snapshot.accounts.iter().map(ToString::to_string);
        let (mut all, mut pods): (Vec<_>, Vec<_>) = (all.collect(), pods.collect());
        pods.dedup();
        all.append(&mut pods);
        all
    };
    let mut plane = Plane::new();
    let kept = keeper(&mut plane, &dir);
    plane.set.start(start(&plane, &server, "old.example")).unwrap();
    plane.settle().await;
    assert_eq!(accounts(&plane), ["spiffe://old.example/ns/a/sa/default"; 2]);
    write(&kept).await;
    drop(plane);
    let silent = FakeServer::default();
    silent.hold_new_lists(true);
    for domain in ["old.example", "new.example"] {
        let mut plane = Plane::new();
        keeper(&mut plane, &dir);
        plane.set.start(start(&plane, &silent, domain)).unwrap();
        plane.pass(Duration::from_secs(2)).await;
        let account = format!("spiffe://{domain}/ns/a/sa/default");
        assert_eq!((accounts(&plane), plane.web()), (vec![account.clone(), account], web(&[("c1", 3)])));
    }
}

#[tokio::test(start_paused = true)]
async fn z11_what_is_not_selected_any_more_is_not_restored_and_not_missed() {
    let dir = kept_with("u1", 250).await;
    let only = |plane: &Plane, server: &FakeServer, namespaces: &str| {
        let options = plane.set.read_options(&"c1".into(), &as_texts(&[("namespaces", namespaces)]));
        Start { options, ..pinned(server) }
    };
    let down = FakeServer::default();
    down.go_down();
    let mut plane = Plane::new();
    keeper(&mut plane, &dir);
    plane.set.start(only(&plane, &down, "!a")).unwrap();
    plane.settle().await;
    assert_eq!((plane.web(), plane.health("c1")), (web(&[]), "stale"));
    assert_eq!(plane.gateways().len(), 1, "the system namespace always is");
    // It was selected differently while nobody had read it.
    let mut plane = Plane::new();
    keeper(&mut plane, &dir);
    let silent = FakeServer::default();
    silent.hold_new_lists(true);
    plane.set.start(pinned(&silent)).unwrap();
    plane.settle().await;
    plane.tell("c1", &[("namespaces", "!a")]);
    plane.pass(Duration::from_secs(2)).await;
    assert_eq!((plane.web(), plane.health("c1")), (web(&[]), "stale"));
    // One that can be read is live at once: nothing is missing that it should have.
    let server = FakeServer::with(world("n1", "u1", 1, 250));
    let mut plane = Plane::new();
    keeper(&mut plane, &dir);
    plane.set.start(only(&plane, &server, "!a")).unwrap();
    plane.settle().await;
    assert_eq!((plane.web(), plane.health("c1"), plane.problems()), (web(&[]), "live", Vec::new()));
}

fn as_strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// Its Secret could not be read at first: somebody else served its snapshot, and stopped.
#[tokio::test(start_paused = true)]
async fn d35_a_snapshot_that_is_served_already_is_taken_charge_of() {
    let server = FakeServer::with(world("n1", "u1", 1, 3));
    let mut before = Plane::new();
    before.run("c1", &server);
    before.settle().await;
    let id = ClusterId::from("c1");
    let state = before.set.registry.states(&[id.clone()].into()).remove(&id).unwrap();
    let mut plane = Plane::new();
    plane.set.registry.writer("c1".into(), ClusterRole::Remote).unwrap().replace(state);
    let confirmed: Moment = Instant::now().into_std().into();
    let mut row = ClusterStatus::new("c1".into(), ClusterRole::Remote, "file x");
    row.set_health(ClusterHealth::Stale { since: confirmed, cause: StaleCause::Snapshot }, confirmed);
    row.restored = Some(Restored { path: "x".to_owned(), confirmed });
    row.uid = "u0".into();
    plane.set.registry.clusters().put(row);
    plane.changes();
    server.hold_new_lists(true);
    plane.run_with("c1", &server, &[("stale", "demote"), ("stale-after", "60s")]);
    plane.pass(Duration::from_secs(59)).await;
    assert_eq!((plane.web(), plane.health("c1")), (web(&[("c1", 3)]), "stale"));
    assert!(plane.set.registry.clusters().gate_open() && plane.changes().is_empty());
    plane.pass(Duration::from_secs(2)).await;
    assert_eq!((plane.web(), plane.row("c1").standing), (web(&[("c1", 3)]), Standing::Demoted));
    server.hold_new_lists(false);
    plane.settle().await;
    assert_eq!((plane.health("c1"), plane.row("c1").standing), ("live", Standing::Regular));
    assert!(plane.row("c1").restored.is_none());
    assert!(
        plane.problems().iter().any(|text| text.contains("was u0 and is u1")),
        "K-20: {:?}",
        plane.problems()
    );
}
