//! What ends a connection: age, shutdown, silence, a proxy that does not read.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tombolo::proto::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use tombolo::xds::resource::ResourceType::Endpoint;
use tombolo::xds::{Limits, Settings};
use tonic::Code;

use crate::client::{DEADLINE, Delta, Sotw, sidecar};
use crate::world::{World, eds, key, shard};

fn settings(limits: Limits) -> Settings {
    Settings { limits, ..Settings::default() }
}

/// Waits for what is to become true in time.
async fn eventually(holds: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "not in time");
        tokio::task::yield_now().await;
    }
}

/// The status that ends a stream; what comes before it is read away.
async fn status(stream: &mut Delta) -> Code {
    loop {
        if let Err(status) = stream.next().await {
            return status.code();
        }
    }
}

#[tokio::test]
async fn l03_streams_end_around_their_age_and_not_all_at_once() {
    let limits = Limits { max_age: Duration::from_secs(2), ..Limits::default() };
    let world = World::start_with(1, settings(limits), None).await;
    let started = tokio::time::Instant::now();
    let mut streams = tokio::task::JoinSet::new();
    for number in 0..40 {
        let address = world.address;
        streams.spawn(async move {
            let mut stream = Delta::open(address, sidecar(&format!("p{number}"), "east", "net-east")).await;
            stream.subscribe(Endpoint, &[&eds(0)]).await;
            stream.expect(Endpoint).await;
            let code = status(&mut stream).await;
            (code, started.elapsed())
        });
    }
    let ended = streams.join_all().await;
    assert!(ended.iter().all(|(code, _)| *code == Code::Unavailable), "a status of its own: {ended:?}");
    let first = ended.iter().map(|(_, at)| *at).min().unwrap();
    let last = ended.iter().map(|(_, at)| *at).max().unwrap();
    assert!(first >= Duration::from_millis(1_600), "{first:?}");
    // The spread is 40 % of the age; 40 draws cover half of it but once in 10^10 runs.
    assert!(last - first >= Duration::from_millis(400), "{first:?} to {last:?}");
    eventually(|| world.server.counts().connections.aged.load(Ordering::Relaxed) == 40).await;
    world.stop().await;
}

#[tokio::test]
async fn l04_a_shutdown_ends_streams_with_a_status_over_some_time() {
    let world = World::start(1).await;
    let mut streams = Vec::new();
    for number in 0..30 {
        let mut stream = Delta::open(world.address, sidecar(&format!("p{number}"), "east", "net-east")).await;
        stream.subscribe(Endpoint, &[&eds(0)]).await;
        stream.expect(Endpoint).await;
        streams.push(stream);
    }
    // Half an introduction: it holds nothing up.
    let silent = TcpStream::connect(world.address).await.unwrap();
    world.shutdown.cancel();
    for stream in &mut streams {
        assert_eq!(status(stream).await, Code::Unavailable);
    }
    drop(silent);
    world.stop().await;
}

#[tokio::test]
async fn l13_connections_that_call_nothing_are_closed() {
    let limits = Limits { introduction: Duration::from_millis(300), ..Limits::default() };
    let world = World::start_with(1, settings(limits), None).await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    for bytes in
        [&b""[..], b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", &preface[..20], preface]
    {
        let mut socket = TcpStream::connect(world.address).await.unwrap();
        socket.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        // Closed: by the end of the stream or by a reset.
        let _ =
            tokio::time::timeout(DEADLINE, socket.read_to_end(&mut answer)).await.expect("closed in time");
    }
    // A proxy that came before, and one that comes now, are served.
    let mut stream = Sotw::open(world.address, sidecar("p", "east", "net-east")).await;
    stream.send(Endpoint, &[&eds(0)], None).await;
    stream.next().await.unwrap();
    tokio::time::sleep(Duration::from_millis(400)).await;
    stream.silent().await;
    world.stop().await;
}

#[tokio::test]
async fn f03_a_proxy_that_does_not_read_is_closed_and_the_others_are_not() {
    let limits = Limits { stuck: Duration::from_millis(500), ..Limits::default() };
    let mut world = World::start_with(1, settings(limits), None).await;
    // Far more than a window of HTTP/2.
    world.east.set(key(0), shard("east", 0, 2_000));
    let mut reading = Delta::open(world.address, sidecar("reads", "east", "net-east")).await;
    reading.subscribe(Endpoint, &[&eds(0)]).await;
    reading.expect(Endpoint).await;
    let address = tonic::transport::Endpoint::from_shared(format!("http://{}", world.address)).unwrap();
    let windows = address.initial_stream_window_size(65_535).initial_connection_window_size(65_535);
    let channel = windows.connect().await.unwrap();
    let client = AggregatedDiscoveryServiceClient::new(channel);
    let mut stopped = Delta::on(client, sidecar("stopped", "east", "net-east")).await.unwrap();
    stopped.subscribe(Endpoint, &[&eds(0)]).await;
    let count = || world.server.counts().connections.stuck.load(Ordering::Relaxed);
    let deadline = tokio::time::Instant::now() + 4 * DEADLINE;
    for endpoints in (1_u16..).map(|n| 2_000 + usize::from(n)) {
        if count() > 0 {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "not closed in time");
        world.east.set(key(0), shard("east", 0, endpoints));
        reading.expect(Endpoint).await;
    }
    assert_eq!(count(), 1);
    // Nothing is left of it.
    eventually(|| world.server.streams().len() == 1).await;
    world.stop().await;
}

#[tokio::test]
async fn z33_a_source_address_has_so_many_connections_without_a_stream() {
    let limits = Limits { idle_per_source: 3, ..Limits::default() };
    let world = World::start_with(1, settings(limits), None).await;
    // Served streams do not count.
    let mut served = Vec::new();
    for number in 0..5 {
        let mut stream = Delta::open(world.address, sidecar(&format!("p{number}"), "east", "net-east")).await;
        stream.subscribe(Endpoint, &[&eds(0)]).await;
        stream.expect(Endpoint).await;
        served.push(stream);
    }
    let mut idle = Vec::new();
    for _ in 0..3 {
        idle.push(TcpStream::connect(world.address).await.unwrap());
    }
    let mut more = TcpStream::connect(world.address).await.unwrap();
    let mut answer = [0_u8; 16];
    let read = tokio::time::timeout(DEADLINE, more.read(&mut answer)).await.expect("closed in time");
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    assert_eq!(world.server.counts().connections.refused.load(Ordering::Relaxed), 1);
    world.stop().await;
}

#[tokio::test]
async fn l08_connections_over_the_limit_wait_and_are_served_when_there_is_room() {
    let limits = Limits { connections: 1, ..Limits::default() };
    let world = World::start_with(1, settings(limits), None).await;
    let mut first = Delta::open(world.address, sidecar("a", "east", "net-east")).await;
    first.subscribe(Endpoint, &[&eds(0)]).await;
    first.expect(Endpoint).await;
    let address = world.address;
    let second = tokio::spawn(async move {
        let mut second = Delta::open(address, sidecar("b", "east", "net-east")).await;
        second.subscribe(Endpoint, &[&eds(0)]).await;
        second.expect(Endpoint).await;
    });
    first.silent().await;
    assert!(!second.is_finished());
    drop(first);
    tokio::time::timeout(DEADLINE, second).await.expect("served in time").unwrap();
    world.stop().await;
}

#[tokio::test]
async fn l06_too_many_new_streams_wait_and_then_are_told_to_come_again() {
    let limits =
        Limits { stream_rate: (10, 2), stream_wait: Duration::from_millis(500), ..Limits::default() };
    let world = World::start_with(1, settings(limits), None).await;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..20 {
        let address = world.address;
        tasks.spawn(async move {
            let node = sidecar(&format!("p{number}"), "east", "net-east");
            match Delta::try_open(address, node).await {
                Err(status) => Err(status.code()),
                Ok(mut stream) => {
                    stream.subscribe(Endpoint, &[&eds(0)]).await;
                    stream.expect(Endpoint).await;
                    Ok(())
                }
            }
        });
    }
    let outcomes = tasks.join_all().await;
    let served = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    assert!((7..20).contains(&served), "two at once and at least five in half a second: {outcomes:?}");
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Ok(()) | Err(Code::ResourceExhausted))));
    world.stop().await;
}
