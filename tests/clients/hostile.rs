//! Hostile input of every kind at once, against the binary: each meets a status or a closed connection, and a proxy
//! beside it has every change in one message of its own.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tombolo::proto::discovery::{DeltaDiscoveryRequest, DiscoveryRequest, Node};
use tombolo::xds::resource::ResourceType::Endpoint;
use tonic::Code;

use super::machine;
use crate::nodes::{node, sidecar};
use crate::xds_conformance::client::{BOTH, Delta, Protocol, Sotw, Stream};
use crate::xds_conformance::plane::{Options, Plane, eventually};
use crate::xds_conformance::world::{eds, services, slice};

/// How long a connection that says nothing sensible may stay, with the slowness of a machine under load.
const CLOSED: Duration = Duration::from_secs(30);
/// What the allocator may keep of it.
const MEMORY: usize = 64 << 20;
/// What all of it together may take while it lasts: requests of 4 MiB, and 8 MiB of names of each stream (X-F08).
const PEAK: usize = 96 << 20;
/// Processor seconds of a round of it, unoptimised.
const WORK: f64 = 10.0;
/// Processor seconds per second of a server that nobody asks anything.
const IDLE: f64 = 0.2;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// A connection with these bytes on it.
async fn raw(address: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut socket = TcpStream::connect(address).await.expect("connects");
    // It may be closed while we write.
    let _ = socket.write_all(bytes).await;
    socket
}

/// Waits until the server has closed it: by the end of the stream or by a reset.
async fn closed(mut socket: TcpStream) {
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(CLOSED, socket.read_to_end(&mut answer)).await.expect("closed in time");
}

/// Calls that are taken back before they are looked at, so many of them.
fn rapid_resets(count: u32) -> Vec<u8> {
    let mut bytes = PREFACE.to_vec();
    for stream in 0..count {
        let id = (2 * stream + 1).to_be_bytes();
        // HEADERS of one indexed field (:method POST), then RST_STREAM.
        bytes.extend([0, 0, 1, 1, 4]);
        bytes.extend(id);
        bytes.push(0x83);
        bytes.extend([0, 0, 4, 3, 0]);
        bytes.extend(id);
        bytes.extend([0, 0, 0, 8]);
    }
    bytes
}

/// HEADERS without an end, and so many CONTINUATIONs of 16 KiB that never come to one (Z-35).
fn endless_headers(count: usize) -> Vec<u8> {
    let mut bytes = PREFACE.to_vec();
    bytes.extend([0, 0, 1, 1, 0, 0, 0, 0, 1, 0x83]);
    for _ in 0..count {
        bytes.extend([0, 0x40, 0, 9, 0, 0, 0, 0, 1]);
        // Fields that are not indexed, of one byte each.
        bytes.extend([0, 1, b'a', 1, b'b'].iter().cycle().take(16 << 10));
    }
    bytes
}

/// Metadata of so many maps in one another.
fn deep(levels: usize) -> Node {
    let leaf = prost_types::Value { kind: Some(prost_types::value::Kind::NullValue(0)) };
    let nested = (0..levels).fold(leaf, |inner, _| prost_types::Value {
        kind: Some(prost_types::value::Kind::StructValue(prost_types::Struct {
            fields: [("a".to_owned(), inner)].into(),
        })),
    });
    let mut node = sidecar("deep", "east", "net-east");
    node.metadata.get_or_insert_default().fields.insert("A".to_owned(), nested);
    node
}

fn ask(stream: &mut Stream, type_url: &str, names: Vec<String>) {
    let type_url = type_url.to_owned();
    match stream.protocol {
        Sotw => stream.sotw(DiscoveryRequest { type_url, resource_names: names, ..Default::default() }),
        Delta => stream.delta(DeltaDiscoveryRequest {
            type_url,
            resource_names_subscribe: names,
            ..Default::default()
        }),
    }
}

/// The status that answers these requests.
async fn refused(
    plane: &Plane,
    protocol: Protocol,
    node: Node,
    requests: impl IntoIterator<Item = (String, Vec<String>)>,
) -> Code {
    let mut stream = plane.stream(protocol, node).await;
    for (url, names) in requests {
        ask(&mut stream, &url, names);
    }
    stream.end().await.code()
}

/// The most resident bytes of the server so far.
fn peak(plane: &Plane) -> usize {
    let text = std::fs::read_to_string(format!("/proc/{}/status", plane.server.pid())).expect("the process");
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    line.trim().trim_end_matches(" kB").parse::<usize>().expect("a number") << 10
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_input_of_every_kind_meets_a_status_and_nobody_else_notices() {
    let _machine = machine::alone().await;
    let plane = Plane::of(services(2), Options::default()).await;
    let mut healthy = plane.proxy(Delta, "healthy").await;
    healthy.start(Endpoint, &[eds(0)]).await;
    let url = || Endpoint.url().to_owned();
    let hostile = || sidecar("hostile", "east", "net-east");
    let (before, processor) = (plane.server.memory(), plane.server.processor());
    let mut endpoints = 1;
    let mut refusals = 0;
    for protocol in BOTH {
        let sockets = async {
            let open = [
                b"\x00\xff\x13\x37 garbage".to_vec(),
                b"GET /debug HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
                b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
                PREFACE[..20].to_vec(),
                PREFACE.to_vec(),
                rapid_resets(5_000),
                endless_headers(2_000),
            ];
            let ends = open.iter().map(async |bytes| closed(raw(plane.address(), bytes).await).await);
            futures::future::join_all(ends).await;
        };
        let streams = async {
            let long = "x".repeat(64 << 10);
            let deadly = [
                (Code::InvalidArgument, hostile(), vec![(url(), vec![long.clone()])]),
                (Code::InvalidArgument, hostile(), vec![(long, vec![])]),
                (Code::InvalidArgument, node("no id of ours", &[]), vec![(url(), vec![eds(0)])]),
                (
                    Code::InvalidArgument,
                    node(&hostile().id, &[("A", &"x".repeat(80 << 10))]),
                    vec![(url(), vec![eds(0)])],
                ),
                (Code::InvalidArgument, deep(200), vec![(url(), vec![eds(0)])]),
                (Code::OutOfRange, hostile(), vec![(url(), vec!["y".repeat(5 << 20)])]),
            ];
            let count = deadly.len() as u64 + 1;
            for (code, node, requests) in deadly {
                assert_eq!(refused(&plane, protocol, node, requests).await, code, "{protocol:?}");
            }
            // A million names in messages of a size that is taken.
            let parts =
                (0..10).map(|part| (url(), (0..100_000).map(|name| format!("n{part}-{name}")).collect()));
            assert_eq!(refused(&plane, protocol, hostile(), parts).await, Code::ResourceExhausted);
            count
        };
        let mut rounds = 0;
        let changes = async {
            for _ in 0..40 {
                endpoints += 1;
                plane.apply(slice(0, endpoints));
                // Every change in one message of its own.
                assert_eq!(healthy.take(Endpoint).await.endpoints(&eds(0)).len(), endpoints);
                rounds += 1;
            }
        };
        let ((), (), count) = futures::join!(sockets, changes, streams);
        refusals += count;
        assert_eq!(rounds, 40);
    }
    let (peak, work) = (peak(&plane) - before, plane.server.processor() - processor);
    assert!(peak <= PEAK, "{peak} bytes");
    assert!(work <= 2.0 * WORK, "{work} s of processor");
    assert_eq!(plane.server.metric("tombolo_refused_streams", "").await, refusals);
    plane.server.streams(1).await;
    eventually("memory is given back", async || (plane.server.memory() <= before + MEMORY).then_some(()))
        .await;
    let processor = plane.server.processor();
    healthy.silent().await;
    assert!(plane.server.processor() - processor <= IDLE, "nothing is left to do");
    let lines = plane.server.log().lines().count();
    assert!(lines < 80, "{lines} lines of log");
    plane.serves().await;
}
