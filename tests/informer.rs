//! client-go's informers against the synthetic and the real API server: whatever happens on the way, all end with
//! the objects the server holds, and both servers with the same ones.
//!
//! Needs the programs of `make kube-assets`. Without them the tests are skipped loudly; with `CI=true` that is a
//! failure.
// The allowance for tests covers test functions only, not what they share.
#![allow(clippy::unwrap_used, clippy::print_stdout, unreachable_pub)]

use std::time::Duration;

use tombolo::sim::apiserver::{ApiServer, RunningApiServer};
use tombolo::sim::kube_apiserver::{KubeApiServer, KubeAssets};

#[path = "kube/assets.rs"]
mod assets;
#[path = "kube/client.rs"]
mod client;
#[path = "informer/program.rs"]
mod program;
#[path = "informer/truth.rs"]
mod truth;
#[path = "informer/world.rs"]
mod world;

use self::assets::assets;
use self::client::client;
use self::program::{Encoding, Informer, Mode, Start};
use self::truth::Truth;
use self::world::World;

/// Every way an informer may work.
const MODES: [Mode; 4] = [
    Mode { encoding: Encoding::Json, start: Start::Pages(7) },
    Mode { encoding: Encoding::Json, start: Start::Stream },
    Mode { encoding: Encoding::Protobuf, start: Start::Pages(7) },
    Mode { encoding: Encoding::Protobuf, start: Start::Stream },
];
/// What an informer holds: services, EndpointSlices and pods.
const KINDS: u64 = 3;

/// The programs, the informer too: other collections of them, as `KUBEBUILDER_ASSETS` may name, are without it.
fn programs() -> Option<KubeAssets> {
    let assets = assets()?;
    if assets.dir().join("informer").is_file() {
        return Some(assets);
    }
    let dir = assets.dir().display();
    assert!(std::env::var_os("CI").is_none(), "no informer in {dir}: `make kube-assets` builds it");
    println!("SKIPPED: what needs the informer: there is none in {dir}; `make kube-assets` builds it");
    None
}

/// Starts an informer of every mode; returns when each holds what the server holds.
async fn start_all(assets: &KubeAssets, kubeconfig: &str, world: &World) -> Vec<Informer> {
    let mut informers: Vec<Informer> =
        MODES.iter().map(|mode| Informer::start(assets.dir(), *mode, kubeconfig)).collect();
    agree(&mut informers, world).await;
    for informer in &mut informers {
        let requests = informer.dump().await.requests;
        let (pages, streams) = match informer.mode().start {
            Start::Pages(_) => (1.., 0),
            Start::Stream => (0.., KINDS),
        };
        assert!(pages.contains(&requests.pages) && requests.streams == streams, "{informer:?}: {requests:?}");
        match informer.mode().encoding {
            Encoding::Json => assert_eq!(requests.protobuf, 0, "{informer:?}"),
            Encoding::Protobuf => assert_eq!(requests.json, 0, "{informer:?}"),
        }
    }
    informers
}

/// Waits until every informer holds what the server holds now.
async fn agree(informers: &mut [Informer], world: &World) {
    let truth = world.truth().await;
    for informer in informers {
        informer.until(|held| truth.differs_from(held)).await;
    }
}

/// How often each informer asked for everything.
async fn full_reads(informers: &mut [Informer]) -> Vec<u64> {
    let mut reads = Vec::new();
    for informer in informers {
        let requests = informer.dump().await.requests;
        reads.push(requests.lists + requests.streams);
    }
    reads
}

/// Asserts that each watch met a 410: a mere end of a watch is answered with another.
async fn met_gone(informers: &mut [Informer]) {
    let reads = full_reads(informers).await;
    for (informer, reads) in informers.iter().zip(reads) {
        let expected = match informer.mode().start {
            // After a list in pages the next one asks for just the version that is gone, and is refused too.
            Start::Pages(_) => 3 * KINDS,
            Start::Stream => 2 * KINDS,
        };
        assert_eq!(reads, expected, "{informer:?}");
    }
}

/// What all informers hold, without what each server chooses for itself; the informers end.
async fn finish(informers: Vec<Informer>, world: &World) -> Truth {
    let truth = world.truth().await.content();
    for mut informer in informers {
        informer.dump().await.content().assert_same_as(&truth, &format!("{informer:?}"));
        informer.stop().await;
    }
    truth
}

/// The first steps on any server: a world, informers that hold it, and a change that they see.
async fn begin(assets: &KubeAssets, kubeconfig: &str) -> (World, Vec<Informer>) {
    let world = World::create(client(kubeconfig).await).await;
    let mut informers = start_all(assets, kubeconfig, &world).await;
    world.change().await;
    agree(&mut informers, &world).await;
    assert_eq!(full_reads(&mut informers).await, [KINDS; MODES.len()], "changes come by watch");
    (world, informers)
}

/// The whole way on the synthetic server.
async fn on_synthetic(assets: &KubeAssets) -> Truth {
    let server = ApiServer::builder().cluster("east").start().await.unwrap();
    let (world, mut informers) = begin(assets, &server.kubeconfig()).await;

    informers.iter().for_each(Informer::suspend);
    let server = restart(server).await;
    world.change_unseen().await;
    world.create_service(&world::last_service()).await;
    server.compact();
    informers.iter().for_each(Informer::resume);
    agree(&mut informers, &world).await;
    met_gone(&mut informers).await;
    server.disconnect_watches();
    world.change_again().await;
    agree(&mut informers, &world).await;
    let held = finish(informers, &world).await;
    server.shutdown().await;
    held
}

/// Ends a synthetic server and starts it again with what it held, at the same place.
async fn restart(server: RunningApiServer) -> RunningApiServer {
    let again = ApiServer::builder()
        .cluster(server.cluster())
        .listen(server.address())
        .token(server.token())
        .store(server.store())
        .authority(server.authority().clone());
    server.shutdown().await;
    again.start().await.unwrap()
}

/// The same way on the real server.
async fn on_real(assets: &KubeAssets) -> Truth {
    let mut server = KubeApiServer::builder().cluster("east").start(assets).await.unwrap();
    let (world, mut informers) = begin(assets, &server.kubeconfig()).await;

    // A restarted server knows no history from before. What is written between two restarts is in no watch.
    informers.iter().for_each(Informer::suspend);
    server.kill_api().await;
    server.resume_api().await.unwrap();
    world.change_unseen().await;
    world.create_service(&world::last_service()).await;
    server.kill_api().await;
    server.resume_api().await.unwrap();
    // A client that lists in pages asks for the version it had first.
    server.compact().await.unwrap();
    informers.iter().for_each(Informer::resume);
    agree(&mut informers, &world).await;
    met_gone(&mut informers).await;
    world.change_again().await;
    agree(&mut informers, &world).await;
    let held = finish(informers, &world).await;
    server.stop().await;
    held
}

#[tokio::test]
async fn informers_end_with_the_same_store_on_synthetic_and_real_servers() {
    let Some(assets) = programs() else { return };
    let synthetic = on_synthetic(&assets).await;
    let real = on_real(&assets).await;
    assert!(synthetic.len() > 60, "{} objects", synthetic.len());
    synthetic.assert_same_as(&real, "synthetic and real");
}

#[tokio::test]
async fn bookmarks_spare_an_informer_the_relist_after_a_compaction() {
    let Some(assets) = programs() else { return };
    let builder = ApiServer::builder().cluster("east").bookmark_interval(Duration::from_millis(50));
    let server = builder.start().await.unwrap();
    let world = World::create(client(&server.kubeconfig()).await).await;
    let mut informers = start_all(&assets, &server.kubeconfig(), &world).await;
    // Nothing that an informer watches changes: only bookmarks tell it of this.
    let version = world.create_foreign().await;
    for informer in &mut informers {
        informer.until(|held| held.behind(version)).await;
    }
    server.compact();
    let server = restart(server).await;
    world.change().await;
    agree(&mut informers, &world).await;
    assert_eq!(full_reads(&mut informers).await, [KINDS; MODES.len()], "none listed again");
    for informer in informers {
        informer.stop().await;
    }
    server.shutdown().await;
}
