//! One HTTP/2 connection with one stream or none, with Envoy's windows.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use h2::client::{Connection, ResponseFuture, SendRequest};
use h2::{Ping, RecvStream, SendStream};
use http::{HeaderMap, Method, Request};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

use super::behaviour::Protocol;
use super::throttle::Throttled;
use crate::proto::GRPC_CODES;

/// Envoy's defaults.
const STREAM_WINDOW: u32 = 16 << 20;
const CONNECTION_WINDOW: u32 = 24 << 20;
/// How long a connection may take to be there.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);

/// The server, and how it is reached.
#[derive(Clone)]
pub struct Target {
    /// Its address.
    pub address: SocketAddr,
    /// TLS with this configuration and server name; plaintext if there is none.
    pub tls: Option<(Arc<rustls::ClientConfig>, ServerName<'static>)>,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.address, if self.tls.is_some() { " (TLS)" } else { "" })
    }
}

/// Where proxy `number` connects from on this machine: each from an address of its own, as pods do.
fn source(target: SocketAddr, number: usize) -> Option<SocketAddr> {
    const FIRST: u32 = Ipv4Addr::new(127, 64, 0, 1).to_bits();
    match target.ip() {
        IpAddr::V4(ip) if ip.is_loopback() => {
            // Up to 127.127.255.255.
            let ip = Ipv4Addr::from_bits(FIRST + number as u32 % 0x003f_ffff);
            Some(SocketAddr::from((ip, 0)))
        }
        _ => None,
    }
}

pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// An open stream whose answer is still to come.
pub(super) struct Opened {
    /// Has to be polled for anything to happen.
    pub(super) connection: Connection<Box<dyn Io>, Bytes>,
    pub(super) requests: SendStream<Bytes>,
    pub(super) answer: ResponseFuture,
}

/// Connects as proxy `number` and opens the stream of `protocol`; with `rate`, bytes are read no faster.
///
/// # Errors
/// One of few texts that can be counted.
pub(super) async fn open(
    target: &Target,
    number: usize,
    protocol: Protocol,
    rate: Option<u32>,
) -> Result<Opened, String> {
    in_time(connect(target, number, protocol, rate)).await
}

async fn in_time<T>(opened: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let limit = tokio::time::timeout(CONNECT_LIMIT, opened).await;
    limit.unwrap_or_else(|_| Err("connect: timeout".to_owned()))
}

async fn connect(
    target: &Target,
    number: usize,
    protocol: Protocol,
    rate: Option<u32>,
) -> Result<Opened, String> {
    let (mut sender, connection) = greet(target, number, rate).await?;
    let (answer, requests) =
        sender.send_request(request(target, protocol), false).map_err(|error| failure(&error))?;
    Ok(Opened { connection, requests, answer })
}

/// Connects as proxy `number` and begins HTTP/2.
async fn greet(
    target: &Target,
    number: usize,
    rate: Option<u32>,
) -> Result<(SendRequest<Bytes>, Connection<Box<dyn Io>, Bytes>), String> {
    let failed = |error: std::io::Error| format!("connect: {}", error.kind());
    let tcp = reach(target.address, number).await.map_err(failed)?;
    // As Envoy does: acknowledgements do not wait.
    tcp.set_nodelay(true).map_err(failed)?;
    let io: Box<dyn Io> = match &target.tls {
        None => Box::new(tcp),
        Some((config, name)) => {
            let tls = TlsConnector::from(Arc::clone(config)).connect(name.clone(), tcp).await;
            Box::new(tls.map_err(|error| format!("TLS: {}", error.kind()))?)
        }
    };
    let io: Box<dyn Io> = match rate {
        None => io,
        Some(rate) => Box::new(Throttled::new(io, rate)),
    };
    let handshake = h2::client::Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .enable_push(false)
        .handshake(io);
    handshake.await.map_err(|error| failure(&error))
}

/// An HTTP/2 connection without a stream. It ends when it is dropped.
#[derive(Debug)]
pub struct Bare {
    _sender: SendRequest<Bytes>,
    running: AbortOnDropHandle<()>,
}

impl Bare {
    /// Connects as proxy `number` would; the server has answered a ping.
    ///
    /// # Errors
    /// One of few texts that can be counted.
    pub async fn open(target: &Target, number: usize) -> Result<Self, String> {
        in_time(async {
            let (sender, mut connection) = greet(target, number, None).await?;
            let mut pings = connection.ping_pong().expect("not taken yet");
            let running = tokio::spawn(async move { drop(connection.await) });
            let running = AbortOnDropHandle::new(running);
            pings.ping(Ping::opaque()).await.map_err(|error| failure(&error))?;
            Ok(Self { _sender: sender, running })
        })
        .await
    }

    /// Whether neither side has ended it.
    pub fn is_open(&self) -> bool {
        !self.running.is_finished()
    }
}

async fn reach(target: SocketAddr, number: usize) -> std::io::Result<TcpStream> {
    let Some(source) = source(target, number) else { return TcpStream::connect(target).await };
    let socket = TcpSocket::new_v4()?;
    socket.bind(source)?;
    socket.connect(target).await
}

fn request(target: &Target, protocol: Protocol) -> Request<()> {
    let method = match protocol {
        Protocol::Delta => "DeltaAggregatedResources",
        Protocol::Sotw => "StreamAggregatedResources",
    };
    let (scheme, authority) = match &target.tls {
        None => ("http", target.address.to_string()),
        Some((_, name)) => ("https", name.to_str().into_owned()),
    };
    Request::builder()
        .method(Method::POST)
        .uri(format!("{scheme}://{authority}/envoy.service.discovery.v3.AggregatedDiscoveryService/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .expect("made of an address and fixed texts")
}

/// Why a connection failed, in few texts.
pub(super) fn failure(error: &h2::Error) -> String {
    match (error.reason(), error.get_io()) {
        (_, Some(io)) => format!("connection: {}", io.kind()),
        (Some(reason), None) if error.is_go_away() => format!("GOAWAY: {}", reason.description()),
        (Some(reason), None) => format!("reset: {}", reason.description()),
        (None, None) => "connection: broken".to_owned(),
    }
}

/// gRPC's word for how a stream ended, from its last headers.
pub(super) fn status(headers: &HeaderMap) -> Option<String> {
    let code = headers.get("grpc-status")?.to_str().ok()?.parse::<usize>().ok()?;
    Some(format!("status {}", GRPC_CODES.get(code).copied().unwrap_or("of no known code")))
}

/// What the server said before the connection ended, as far as it has arrived.
pub(super) fn last_words(body: &mut RecvStream) -> Option<String> {
    // What is buffered is bounded by the window.
    while let Some(Some(Ok(_))) = body.data().now_or_never() {}
    status(&body.trailers().now_or_never()?.ok()??)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_on_this_machine_have_addresses_of_their_own() {
        let target = |text: &str| text.parse::<SocketAddr>().unwrap();
        let ten_thousand: std::collections::BTreeSet<_> =
            (0..10_000).filter_map(|number| source(target("127.0.0.1:1"), number)).collect();
        assert!(ten_thousand.len() == 10_000 && ten_thousand.iter().all(|from| from.ip().is_loopback()));
        assert_eq!(source(target("192.0.2.1:1"), 1), None);
        assert_eq!(source(target("[::1]:1"), 1), None);
    }

    #[test]
    fn statuses_are_the_words_of_grpc() {
        let with = |code: &'static str| {
            HeaderMap::from_iter([("grpc-status".parse().unwrap(), code.parse().unwrap())])
        };
        assert_eq!(status(&with("14")).as_deref(), Some("status UNAVAILABLE"));
        assert_eq!(status(&with("99")).as_deref(), Some("status of no known code"));
        assert_eq!(status(&HeaderMap::new()), None);
    }
}
