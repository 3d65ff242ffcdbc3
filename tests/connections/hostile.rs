//! Bytes that no proxy sends.

use std::time::{Duration, Instant};

use prost::Message as _;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tombolo::proto::discovery as wire;
use tombolo::xds::resource::ResourceType::Endpoint;
use tombolo::xds::{Limits, Settings};
use tonic::Code;

use crate::client::{DEADLINE, Delta, Sotw, node, sidecar};
use crate::world::{World, eds, key, shard};

fn request(names: Vec<String>) -> wire::DeltaDiscoveryRequest {
    wire::DeltaDiscoveryRequest {
        type_url: Endpoint.url().to_owned(),
        resource_names_subscribe: names,
        ..wire::DeltaDiscoveryRequest::default()
    }
}

/// The status that answers `request`, sent first on a stream.
async fn refused(world: &World, request: wire::DeltaDiscoveryRequest) -> Code {
    let mut stream = Delta::open(world.address, sidecar("hostile", "east", "net-east")).await;
    stream.send(request).await;
    stream.next().await.expect_err("refused").code()
}

/// A healthy proxy is served as before.
async fn serves(world: &mut World, round: usize) {
    let mut stream = Delta::open(world.address, sidecar("healthy", "east", "net-east")).await;
    stream.subscribe(Endpoint, &[&eds(0)]).await;
    stream.expect(Endpoint).await;
    world.east.set(key(0), shard("east", 0, round + 2));
    stream.expect(Endpoint).await;
}

#[tokio::test]
async fn f05_s16_requests_beyond_the_limits_end_their_stream_with_a_status() {
    let mut world = World::start(1).await;
    let long = "x".repeat(64 << 10);
    assert_eq!(refused(&world, request(vec![long.clone()])).await, Code::InvalidArgument);
    let url = wire::DeltaDiscoveryRequest { type_url: long, ..request(Vec::new()) };
    assert_eq!(refused(&world, url).await, Code::InvalidArgument);
    // 5 MiB in one message.
    assert_eq!(refused(&world, request(vec!["y".repeat(5 << 20)])).await, Code::OutOfRange);
    // A million names in messages of their size limit.
    let mut stream = Delta::open(world.address, sidecar("many", "east", "net-east")).await;
    for part in 0..10 {
        let names = (0..100_000).map(|name| format!("n{part}-{name}")).collect();
        if stream.try_send(request(names)).await.is_err() {
            break;
        }
    }
    let code = loop {
        if let Err(status) = stream.next().await {
            break status.code();
        }
    };
    assert_eq!(code, Code::ResourceExhausted);
    serves(&mut world, 0).await;
    assert!(world.server.streams().iter().all(|stream| &*stream.node.id != "hostile"));
    world.stop().await;
}

#[tokio::test]
async fn z36_deep_and_large_metadata_is_bounded() {
    let mut world = World::start(1).await;
    let nested = |levels: usize| {
        let leaf = prost_types::Value { kind: Some(prost_types::value::Kind::NullValue(0)) };
        (0..levels).fold(leaf, |inner, _| prost_types::Value {
            kind: Some(prost_types::value::Kind::StructValue(prost_types::Struct {
                fields: [("a".to_owned(), inner)].into(),
            })),
        })
    };
    let with = |fields: Vec<(String, prost_types::Value)>| wire::Node {
        id: "sidecar~10.0.0.9~p.sample~sample.svc.cluster.local".to_owned(),
        metadata: Some(prost_types::Struct { fields: fields.into_iter().collect() }),
        ..wire::Node::default()
    };
    // Deeper than the decoder goes: no request at all.
    let mut deep = Delta::open(world.address, with(vec![("A".to_owned(), nested(200))])).await;
    deep.subscribe(Endpoint, &[&eds(0)]).await;
    assert!(deep.next().await.is_err());
    let mut large =
        Delta::open(world.address, node("sidecar~10.0.0.9~p.sample~s", &[("A", &"x".repeat(80 << 10))]))
            .await;
    large.subscribe(Endpoint, &[&eds(0)]).await;
    assert_eq!(large.next().await.expect_err("refused").code(), Code::InvalidArgument);
    serves(&mut world, 1).await;
    world.stop().await;
}

#[tokio::test]
async fn f10_compressed_requests_are_unimplemented() {
    let world = World::start(1).await;
    let mut client = wire::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient::connect(
        format!("http://{}", world.address),
    )
    .await
    .unwrap();
    let mut request = tonic::Request::new(tokio_stream::empty());
    request.metadata_mut().insert("grpc-encoding", "gzip".parse().unwrap());
    let status = client.delta_aggregated_resources(request).await.expect_err("refused");
    assert_eq!(status.code(), Code::Unimplemented);
    assert_eq!(status.metadata().get("grpc-accept-encoding").unwrap(), "identity");
    world.stop().await;
}

#[tokio::test]
async fn garbage_in_a_message_ends_its_stream_with_a_status() {
    let mut world = World::start(1).await;
    let (mut sender, connection) = handshake(&world).await;
    tokio::spawn(connection);
    let path = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources";
    let call = http::Request::post(format!("http://{}{path}", world.address))
        .header("content-type", "application/grpc")
        .body(http_body_util::Full::new(bytes::Bytes::from_static(b"\0\0\0\0\x04\xff\xff\xff\xff")))
        .unwrap();
    let response = tokio::time::timeout(DEADLINE, sender.send_request(call)).await.unwrap().unwrap();
    let trailers = {
        use http_body_util::BodyExt as _;
        let collected = response.into_body().collect().await.unwrap();
        collected.trailers().cloned().expect("trailers")
    };
    assert_ne!(trailers["grpc-status"], "0");
    serves(&mut world, 2).await;
    world.stop().await;
}

type Sender = hyper::client::conn::http2::SendRequest<http_body_util::Full<bytes::Bytes>>;

async fn handshake(world: &World) -> (Sender, impl Future<Output = ()> + use<>) {
    let socket = TcpStream::connect(world.address).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(socket);
    let (sender, connection) =
        hyper::client::conn::http2::handshake(hyper_util::rt::TokioExecutor::new(), io).await.unwrap();
    (sender, async { drop(connection.await) })
}

#[tokio::test]
async fn z34_rapid_resets_close_the_connection_and_nobody_else_notices() {
    let mut world = World::start(1).await;
    let mut socket = TcpStream::connect(world.address).await.unwrap();
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    for stream in 0..5_000_u32 {
        let id = (2 * stream + 1).to_be_bytes();
        // HEADERS of one indexed field (:method POST), then RST_STREAM.
        bytes.extend([0, 0, 1, 1, 4]);
        bytes.extend(id);
        bytes.push(0x83);
        bytes.extend([0, 0, 4, 3, 0]);
        bytes.extend(id);
        bytes.extend([0, 0, 0, 8]);
    }
    // It may be closed while we write.
    let _ = socket.write_all(&bytes).await;
    let mut answer = Vec::new();
    let closed = tokio::io::AsyncReadExt::read_to_end(&mut socket, &mut answer);
    let _ = tokio::time::timeout(2 * DEADLINE, closed).await.expect("closed in time");
    serves(&mut world, 3).await;
    world.stop().await;
}

#[tokio::test]
async fn f07_a_flood_of_requests_is_read_at_its_rate_and_answers_are_free() {
    let limits = Limits { request_rate: (20, 10), ..Limits::default() };
    let settings = Settings { limits, ..Settings::default() };
    let mut world = World::start_with(1, settings, None).await;
    let mut flood = Sotw::open(world.address, sidecar("flood", "east", "net-east")).await;
    let started = Instant::now();
    flood.send(Endpoint, &[&eds(0)], None).await;
    let mut last = flood.next().await.unwrap();
    for _ in 0..30 {
        // A new subscription every time: each is answered.
        flood.send(Endpoint, &[&eds(0)], None).await;
        last = flood.next().await.unwrap();
    }
    assert!(started.elapsed() >= Duration::from_millis(900), "31 requests, 10 at once, 20 a second");
    let started = Instant::now();
    for round in 0..40 {
        flood.send(Endpoint, &[&eds(0)], Some(&last)).await;
        world.east.set(key(0), shard("east", 0, round + 2));
        last = flood.next().await.unwrap();
    }
    assert!(started.elapsed() < Duration::from_millis(2_000), "ACKs wait for nobody");
    assert!(last.encoded_len() > 0);
    world.stop().await;
}
