//! Z-40: what hostile clients make the server hold is bounded, and given back to the system.

use bytes::{BufMut as _, Bytes, BytesMut};
use http_body_util::StreamBody;
use hyper::body::Frame;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tombolo::xds::resource::ResourceType::Endpoint;
use tonic::Code;

use super::client::{DEADLINE, Delta, Stream, connect, sidecar};
use super::plane::{Plane, eventually};
use super::world::{eds, slice};

/// The largest message that is taken, and the parts it comes in.
const MESSAGE: usize = 4 << 20;
const PART: usize = 64 << 10;
const MIB: u64 = 1 << 20;

/// A call that goes on until it is dropped.
struct Unfinished {
    _sender: mpsc::Sender<Bytes>,
    _connection: tokio::task::JoinSet<()>,
}

/// All of a message but its last byte, on a connection of its own; `None` if the server refuses the call for want of
/// memory.
async fn unfinished(plane: &Plane) -> Option<Unfinished> {
    let socket = TcpStream::connect(plane.address()).await.unwrap();
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(socket)).await.unwrap();
    let mut running = tokio::task::JoinSet::new();
    running.spawn(async move { drop(connection.await) });
    let (sender, parts) = mpsc::channel::<Bytes>(1);
    let body =
        StreamBody::new(ReceiverStream::new(parts).map(|part| Ok::<_, std::io::Error>(Frame::data(part))));
    let call = http::Request::post(format!("http://{}{}", plane.address(), Delta.ads()))
        .header("content-type", "application/grpc")
        .body(body)
        .unwrap();
    let answer = tokio::time::timeout(DEADLINE, client.send_request(call)).await.unwrap().unwrap();
    if let Some(status) = answer.headers().get("grpc-status") {
        assert_eq!(status, "8", "RESOURCE_EXHAUSTED");
        return None;
    }
    let mut head = BytesMut::new();
    head.put_u8(0);
    head.put_u32(MESSAGE as u32);
    sender.send(head.freeze()).await.unwrap();
    // One that is refused only now takes no more of it.
    for part in 0..MESSAGE / PART {
        let length = if part == 0 { PART - 1 } else { PART };
        if sender.send(Bytes::from(vec![0xaa; length])).await.is_err() {
            break;
        }
    }
    Some(Unfinished { _sender: sender, _connection: running })
}

async fn resident(plane: &Plane) -> u64 {
    plane.server.metric("process_resident_memory_bytes", "").await
}

#[tokio::test(flavor = "multi_thread")]
async fn z40_garbage_fills_memory_to_its_limit_and_is_given_back() {
    let plane = Plane::limited(1, "limits: {memory: 300Mi}").await;
    assert_eq!(plane.server.metric("tombolo_memory_limit_bytes", "").await, 300 * MIB);
    let mut healthy = plane.proxy(Delta, "early").await;
    healthy.start(Endpoint, &[eds(0)]).await;
    let before = resident(&plane).await;
    assert!(before < 200 * MIB, "{before}");

    // 400 MiB of it, were it all taken.
    let (mut held, mut refused) = (Vec::new(), 0);
    for _ in 0..100 {
        match unfinished(&plane).await {
            Some(call) => held.push(call),
            None => refused += 1,
        }
    }
    assert!(refused > 0 && !held.is_empty(), "{refused} refused, {} held", held.len());
    let most = resident(&plane).await;
    assert!(most < 400 * MIB, "{most}");
    assert!(plane.server.metric("tombolo_connections", "no_memory").await >= refused);
    // What the refused ones had brought is given back meanwhile, so that there may be room for some more.
    let open = async || {
        let channel = connect(plane.address()).await;
        Stream::on(channel, Delta.ads(), Delta, sidecar("late", "east", "net-east")).await
    };
    let error = loop {
        let Some(error) = open().await.err() else {
            assert!(held.len() < 100, "never refused");
            held.extend(unfinished(&plane).await);
            continue;
        };
        break error;
    };
    assert_eq!(error.code(), Code::ResourceExhausted);
    assert!(error.message().contains("limits.memory"), "{error}");

    // Who has a stream is served as before.
    plane.apply(slice(0, 2));
    assert_eq!(healthy.take(Endpoint).await.endpoints(&eds(0)).len(), 2);

    drop(held);
    eventually("the memory is given back", async || {
        (resident(&plane).await < before + 48 * MIB).then_some(())
    })
    .await;
    // The server looks at its memory now and then only.
    eventually("new streams are served again", async || open().await.ok()).await;
    plane.serves().await;
}
