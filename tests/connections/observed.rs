//! What operators see: times from a change to its ACK, and errors of ours.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tombolo::proto::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use tombolo::trust::{Issued, SecretSource, SpiffeId, TrustError};
use tombolo::xds::Settings;
use tombolo::xds::resource::ResourceType::{Endpoint, Secret};

use crate::client::{DEADLINE, Delta, sidecar};
use crate::world::{World, eds, key, shard};

/// Waits until `holds`, in time.
pub async fn until(what: &str, holds: impl Fn() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < DEADLINE, "in time: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_change_is_timed_until_its_write_and_until_its_ack() {
    let mut world = World::start(1).await;
    let mut stream = Delta::open(world.address, sidecar("a", "east", "net-east")).await;
    stream.subscribe(Endpoint, &[&eds(0)]).await;
    let first = stream.expect(Endpoint).await;
    stream.ack(&first).await;
    let times = || &world.server.counts().times;
    let unanswered = |world: &World| world.server.streams()[0].types[&Endpoint].unanswered_since;
    until("the first response is acknowledged", || unanswered(&world).is_none()).await;
    assert_eq!(
        (times().convergence.get_sample_count(), times().ack.of(Endpoint).get_sample_count()),
        (0, 0),
        "what was asked for is no change"
    );

    // An event that arrived a while ago.
    let arrived = Instant::now().checked_sub(Duration::from_secs(7)).expect("the machine runs longer");
    let shards = [(key(0), Some(Arc::new(shard("west", 0, 3))))];
    world.west.publish_since(Some(arrived), None, [], shards);
    let second = stream.expect(Endpoint).await;
    until("it is written", || world.server.counts().times.convergence.get_sample_count() == 1).await;
    assert!(unanswered(&world).is_some());
    let times = &world.server.counts().times;
    assert!((7.0..7.0 + DEADLINE.as_secs_f64()).contains(&times.convergence.get_sample_sum()));
    assert_eq!(times.ack.of(Endpoint).get_sample_count(), 0);
    stream.ack(&second).await;
    until("it is acknowledged", || times.ack.of(Endpoint).get_sample_count() == 1).await;
    assert!(times.ack.of(Endpoint).get_sample_sum() >= times.convergence.get_sample_sum());
    until("nothing is left", || unanswered(&world).is_none()).await;

    let counted = [&times.push, &times.size].map(|of| of.of(Endpoint).get_sample_count());
    assert_eq!(counted, [2, 2], "two responses");
    assert_eq!(times.queue.get_sample_count(), 1, "one wake-up");
    assert_eq!(times.send.get_sample_count(), 2);
    assert!(times.debounce.get_sample_count() >= 1);
    let bytes = world.server.counts().bytes.get(Endpoint);
    assert_eq!(times.size.of(Endpoint).get_sample_sum() as u64, bytes);
    assert!(world.server.counts().largest_request.load(Ordering::Relaxed) > 0);
    world.stop().await;
}

/// Panics where streams ask it.
struct Broken;

impl SecretSource for Broken {
    fn workload_certificate(&self, _: &SpiffeId) -> Result<Arc<Issued>, TrustError> {
        panic!("as the test wants it");
    }

    fn root_certificates(&self) -> Bytes {
        panic!("as the test wants it");
    }
}

#[tokio::test]
async fn z45_a_panic_in_a_stream_ends_that_stream_with_a_status_and_counts() {
    let mut world = World::start_with(1, Settings::default(), Some(Arc::new(Broken))).await;
    let connection = AggregatedDiscoveryServiceClient::connect(format!("http://{}", world.address));
    let connection = connection.await.expect("connects");
    let mut healthy = Delta::on(connection.clone(), sidecar("a", "east", "net-east")).await.expect("opens");
    let mut broken = Delta::on(connection, sidecar("b", "east", "net-east")).await.expect("opens");
    for stream in [&mut healthy, &mut broken] {
        stream.subscribe(Endpoint, &[&eds(0)]).await;
        stream.expect(Endpoint).await;
    }
    broken.subscribe(Secret, &["ROOTCA"]).await;
    let status = broken.next().await.expect_err("it ends");
    assert_eq!(status.code(), tonic::Code::Internal, "{status}");
    let counts = world.server.counts();
    until("it is counted", || counts.internal_errors.load(Ordering::Relaxed) == 1).await;
    assert_eq!(world.server.streams().len(), 1, "what it held is given back");
    assert_eq!(counts.connections.closed.load(Ordering::Relaxed), 0, "its connection goes on");
    world.west.set(key(0), shard("west", 0, 3));
    healthy.expect(Endpoint).await;
    world.stop().await;
}
