//! The accept loop: connections within limits, one task each.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

#[cfg(target_os = "linux")]
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::rustls::server::Acceptor;

use super::connection::{self, Closed, Connection, Drain};
use super::limits::{Idle, Limits, Sources};
use super::service::Services;
use super::tls::Certificates;
use crate::xds::counts::Counts;

/// Pauses after the system refused a connection, e.g. for want of file descriptors (X-L08).
const RETRY: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));
/// How long a handshake may take from the client's first message on.
const FINISH: Duration = Duration::from_secs(2);
/// Most bytes that the kernel holds for a proxy beyond what its window allows to send (X-F01, X-F04). What is behind
/// them is not composed yet, and is newer once it goes.
pub(super) const UNSENT: u32 = 128 << 10;
/// How often the same trouble is told.
const TELL: Duration = Duration::from_secs(60);

/// Where proxies connect to.
#[derive(Debug)]
pub struct Listener {
    /// Bound by the caller, with a backlog that holds a storm: see [`listen`](super::listen).
    pub tcp: TcpListener,
    /// Without them it is plaintext.
    pub certificates: Option<Arc<Certificates>>,
}

impl From<TcpListener> for Listener {
    /// In plaintext.
    fn from(tcp: TcpListener) -> Self {
        Self { tcp, certificates: None }
    }
}

/// Shared by the listeners of one server.
pub(super) struct Gate {
    pub(super) limits: Limits,
    pub(super) services: Services,
    pub(super) counts: Arc<Counts>,
    pub(super) sources: Arc<Sources>,
    /// Room for connections.
    pub(super) room: Arc<Semaphore>,
    pub(super) handshakes: Arc<Semaphore>,
    pub(super) drain: Drain,
}

/// Accepts until shutdown.
pub(super) async fn run(gate: Arc<Gate>, listener: Listener) {
    let mut pause = RETRY.0;
    let mut told: Option<Instant> = None;
    loop {
        // Shutdown first: it is not delayed by further clients.
        let accepted = tokio::select! {
            biased;
            () = gate.drain.shutdown.cancelled() => return,
            accepted = next(&gate, &listener.tcp) => accepted,
        };
        match accepted {
            Ok((stream, peer, permit)) => {
                pause = RETRY.0;
                let Some(idle) = gate.sources.enter(peer.ip()) else {
                    Counts::add(&gate.counts.connections.refused);
                    continue;
                };
                let (gate, certificates) = (Arc::clone(&gate), listener.certificates.clone());
                let tasks = gate.drain.connections.clone();
                tasks.spawn(async move {
                    serve(&gate, stream, peer, idle, certificates).await;
                    drop(permit);
                });
            }
            Err(error) => {
                Counts::add(&gate.counts.connections.accept_failed);
                if told.is_none_or(|told| told.elapsed() >= TELL) {
                    told = Some(Instant::now());
                    tracing::warn!(%error, "cannot accept connections; those that are served go on; trying again, at most once a second");
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(RETRY.1);
            }
        }
    }
}

/// The next connection, once there is room for it.
async fn next(
    gate: &Gate,
    listener: &TcpListener,
) -> std::io::Result<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(&gate.room).acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, permit))
}

async fn serve(
    gate: &Gate,
    stream: TcpStream,
    peer: SocketAddr,
    idle: Idle,
    certificates: Option<Arc<Certificates>>,
) {
    let counts = &gate.counts.connections;
    Counts::add(&counts.accepted);
    // Small messages must not wait for one another.
    let _ = stream.set_nodelay(true);
    // Where there is no such option the kernel's own limits hold.
    #[cfg(target_os = "linux")]
    let _ = SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT);
    let connection = Connection::new(peer, idle);
    let (services, limits, drain) = (gate.services.clone(), gate.limits, gate.drain.clone());
    let closed = match certificates {
        None => connection::serve(stream, connection, services, limits, drain).await,
        Some(certificates) => match handshake(gate, stream, &certificates).await {
            Some(stream) => connection::serve(stream, connection, services, limits, drain).await,
            None => {
                Counts::add(&counts.handshakes_failed);
                Closed::Gone
            }
        },
    };
    match closed {
        Closed::Gone | Closed::Shutdown => {}
        Closed::Silent => Counts::add(&counts.silent),
        Closed::Age => Counts::add(&counts.aged),
        Closed::Stuck => Counts::add(&counts.stuck),
    }
    Counts::add(&counts.closed);
}

/// A TLS handshake in time, when there is room for one; `None` when it failed. Who only pretends to begin one takes no
/// room (X-L09): the signature is what costs.
async fn handshake(
    gate: &Gate,
    stream: TcpStream,
    certificates: &Certificates,
) -> Option<tokio_rustls::server::TlsStream<TcpStream>> {
    let hello = async {
        let start = told(LazyConfigAcceptor::new(Acceptor::default(), stream).await)?;
        Some((start, gate.handshakes.acquire().await.ok()?))
    };
    let (start, _permit) = tokio::time::timeout(gate.limits.introduction, hello).await.ok().flatten()?;
    let rest = start.into_stream(certificates.current());
    tokio::time::timeout(FINISH, rest).await.ok().and_then(told)
}

fn told<T>(result: std::io::Result<T>) -> Option<T> {
    result.inspect_err(|error| tracing::debug!(%error, "a TLS handshake failed")).ok()
}
