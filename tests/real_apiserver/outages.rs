//! API servers and stores that go away and come back (K-02, K-05, K-19).

use std::path::Path;
use std::time::{Duration, Instant};

use tombolo::ingest::{Deadlines, IngestOptions, RetryPolicy};

use super::assets::assets;
use super::cluster::{Cluster, PODS, service, slice};
use super::front::Wire;
use super::plane::{Plane, impatient};

/// How soon after its return an API server is heard again; what is promised is printed beside what was measured.
const BACK: Duration = Duration::from_secs(5);
/// What a busy machine may add to deadlines.
const SLACK: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_loses_nothing_and_is_live_again_soon_after_its_return() {
    let Some(assets) = assets() else { return };
    let mut east = Cluster::with_world(&assets, "east", &[]).await;
    east.create(&service("vanishing")).await;
    // With the pauses of a deployment.
    let deployed = |options: &mut IngestOptions, _: &Path| options.retry = RetryPolicy::default();
    let plane = Plane::start_with("east", &east.kubeconfig(), deployed).await;
    plane.is("east", "live").await;
    let (held, publishes) = (plane.state("east"), plane.publishes());
    for round in 0..3 {
        let killed = Instant::now();
        east.server.kill_api().await;
        plane.is("east", "stale").await;
        println!("round {round}: stale {:?} after the kill", killed.elapsed());
        assert!(plane.state("east") == held, "what was told last is served");
        // Returns when clients can work: the plane may have come back before.
        east.server.resume_api().await.unwrap();
        let back = Instant::now();
        plane.is("east", "live").await;
        println!("round {round}: live {:?} after the return, of at most {BACK:?}", back.elapsed());
        assert!(back.elapsed() < BACK + SLACK, "{:?}", back.elapsed());
        assert!(plane.state("east") == held && plane.publishes() == publishes, "nothing was published");
    }
    // What changes between the return of the server and that of its watches is seen too.
    east.server.kill_api().await;
    plane.is("east", "stale").await;
    east.restart_api().await;
    east.delete(&service("vanishing")).await;
    east.change(&slice("helloworld", &PODS[1..])).await;
    plane
        .until("the changes are seen", || {
            plane.endpoints("helloworld") == ["east 10.0.0.2"] && !plane.has_service("vanishing")
        })
        .await;
    plane.is("east", "live").await;
    assert_eq!(plane.problems(), [""; 0]);
    plane.agrees_with_a_new_one("east", &east.kubeconfig()).await;
    plane.stop().await;
    east.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hanging_server_is_noticed_by_its_connection() {
    let Some(assets) = assets() else { return };
    let east = Cluster::with_world(&assets, "east", &[]).await;
    let plane = Plane::start("east", &east.kubeconfig()).await;
    plane.is("east", "live").await;
    let (held, publishes) = (plane.state("east"), plane.publishes());
    // The kernel goes on to acknowledge what is sent: only an answer to PING would be a sign of life.
    east.server.hang();
    let hanging = Instant::now();
    plane.is("east", "stale").await;
    println!("stale {:?} after it hung, of at most 30s", hanging.elapsed());
    assert!(hanging.elapsed() < Duration::from_secs(30) + SLACK, "{:?}", hanging.elapsed());
    assert!(plane.state("east") == held && plane.publishes() == publishes, "nothing was published");
    east.server.unhang();
    let back = Instant::now();
    plane.is("east", "live").await;
    println!("live {:?} after it went on, of at most {BACK:?}", back.elapsed());
    assert!(back.elapsed() < BACK + SLACK, "{:?}", back.elapsed());
    east.change(&slice("helloworld", &PODS[1..])).await;
    plane.until("changes arrive again", || plane.endpoints("helloworld") == ["east 10.0.0.2"]).await;
    plane.stop().await;
    east.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn goaways_are_invisible() {
    let Some(assets) = assets() else { return };
    // The most it permits: every fiftieth request ends its connection, watches on it go on.
    let east = Cluster::with_world(&assets, "east", &["--goaway-chance=0.02"]).await;
    let wire = Wire::to(east.server.address());
    let plane = Plane::start_with("east", &wire.kubeconfig(&east.kubeconfig()), |options, _| {
        options.deadlines = Deadlines { silence: Duration::from_millis(20), ..impatient() };
    })
    .await;
    plane.is("east", "live").await;
    let publishes = plane.publishes();
    let failures =
        || plane.status("east").sources.values().map(|source| source.counters.failures).sum::<u64>();
    plane
        .until("several connections have ended", || {
            assert_eq!(plane.health("east"), "live", "{}", plane.detail("east"));
            wire.connections() >= 4
        })
        .await;
    // Kinds that nobody defines here: Gateways, exports, imports, ServiceEntries, WorkloadEntries.
    assert_eq!((failures(), plane.publishes()), (5, publishes));
    east.change(&slice("helloworld", &PODS[1..])).await;
    plane.until("changes arrive", || plane.endpoints("helloworld") == ["east 10.0.0.2"]).await;
    plane.stop().await;
    east.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_etcd_is_noticed_and_nothing_is_lost_by_it() {
    let Some(assets) = assets() else { return };
    let east = Cluster::with_world(&assets, "east", &[]).await;
    let mut wire = Wire::to(east.server.address());
    let deadlines = impatient();
    let change = |options: &mut IngestOptions, _: &Path| options.deadlines = deadlines;
    let plane = Plane::start_with("east", &wire.kubeconfig(&east.kubeconfig()), change).await;
    plane.is("east", "live").await;
    let (held, publishes) = (plane.state("east"), plane.publishes());

    east.server.freeze_etcd();
    let frozen = Instant::now();
    // Watches stay open and silent; lists get no headers; only the probe of a silent watch tells.
    plane.is("east", "stale").await;
    // A look by name that is under way goes before the probe, and is not answered either.
    let bound = deadlines.silence + 2 * deadlines.headers;
    println!("stale {:?} after the freeze, of at most {bound:?} with these deadlines", frozen.elapsed());
    assert!(frozen.elapsed() < bound + SLACK, "{:?}", frozen.elapsed());
    plane.until("the cause is named", || plane.detail("east").contains("/readyz says 500")).await;
    // New watches are opened and stay silent: that is no life.
    let failures =
        || plane.status("east").sources.values().map(|source| source.counters.failures).sum::<u64>();
    let before = failures();
    wire.cut();
    wire.join();
    plane
        .until("probes of the new watches fail", || {
            assert_eq!(plane.health("east"), "stale", "a watch without a store behind it is not live");
            failures() > before + 8
        })
        .await;
    assert!(plane.state("east") == held && plane.publishes() == publishes, "nothing was published");

    east.server.thaw_etcd();
    let thawed = Instant::now();
    plane.is("east", "live").await;
    println!("live {:?} after the thaw", thawed.elapsed());
    assert!(plane.state("east") == held && plane.publishes() == publishes, "nothing was published");
    east.change(&slice("helloworld", &PODS[1..])).await;
    plane.until("changes arrive again", || plane.endpoints("helloworld") == ["east 10.0.0.2"]).await;
    plane.agrees_with_a_new_one("east", &east.kubeconfig()).await;
    plane.stop().await;
    east.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn k19_a_restored_etcd_is_seen_by_reads_by_name_and_after_a_restart_by_revisions() {
    let Some(assets) = assets() else { return };
    let mut east = Cluster::with_world(&assets, "east", &[]).await;
    east.create(&service("restored")).await;
    east.create(&slice("restored", &PODS)).await;
    east.server.back_up().await.unwrap();
    east.restart_api().await;
    // All of this is undone.
    east.delete(&service("restored")).await;
    for service in ["helloworld", "restored"] {
        east.change(&slice(service, &PODS[1..])).await;
    }
    east.create(&service("undone")).await;
    let impatiently =
        Plane::start_with("east", &east.kubeconfig(), |options, _| options.deadlines = impatient()).await;
    let usual = Plane::start("east", &east.kubeconfig()).await;
    for plane in [&impatiently, &usual] {
        plane.is("east", "live").await;
        assert_eq!(plane.endpoints("helloworld"), ["east 10.0.0.2"]);
    }
    let held = usual.state("east");

    east.server.restore().await.unwrap();
    let restored = Instant::now();
    // Lists and watches go on telling the old state: only reads by name contradict it.
    for plane in [&impatiently, &usual] {
        let noticed = || plane.detail("east").contains("restart the API server");
        plane.until("the restore is noticed", noticed).await;
        println!("noticed {:?} after the restore", restored.elapsed());
        assert!(restored.elapsed() <= Duration::from_secs(60), "G5");
        assert_eq!(plane.health("east"), "stale");
        assert!(plane.state("east") == held, "nobody knows better: what was told last is served");
    }

    east.restart_api().await;
    let back = Instant::now();
    for plane in [&impatiently, &usual] {
        plane
            .until("the restored state is served", || {
                plane.endpoints("helloworld") == ["east 10.0.0.1", "east 10.0.0.2"]
                    && plane.has_service("restored")
                    && !plane.has_service("undone")
            })
            .await;
        plane.is("east", "live").await;
        println!("the restored state is served {:?} after the restart", back.elapsed());
        plane
            .until("a regression is counted", || plane.lists("east", "EndpointSlice", "regressed") >= 1)
            .await;
        plane.agrees_with_a_new_one("east", &east.kubeconfig()).await;
        plane.stop().await;
    }
    east.server.stop().await;
}
