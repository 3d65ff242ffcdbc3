//! One connection: HTTP/2 within limits, its age, its end.

use std::convert::Infallible;
use std::hash::{BuildHasher as _, RandomState};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Status;

use super::accept::UNSENT;
use super::limits::{Idle, Limits};
use super::service::Services;

/// How often an idle connection is pinged, and how long the answer may take (§2.7, X-L01).
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(10));
/// Longest list of headers, in bytes (Z-35).
const HEADERS: u32 = 16 << 10;
/// Streams that the peer reset before we looked at them (Z-34).
const RESETS: usize = 20;
/// Streams that we reset for errors of the peer (Z-34).
const ERRORS: usize = 1024;
/// What each connection adds to the time over which all of them end at shutdown.
const DRAIN_EACH: Duration = Duration::from_millis(2);
/// How long streams may take to end once they were told to.
const GRACE: Duration = Duration::from_secs(2);

/// Why a connection ends although its proxy did nothing wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::xds) enum Ending {
    /// It has reached its maximum age (X-L03).
    Age,
    /// The server stops.
    Shutdown,
}

impl Ending {
    fn status(self) -> Status {
        Status::unavailable(match self {
            Self::Age => "the connection has reached its maximum age; connect again",
            Self::Shutdown => "the server is shutting down; connect again",
        })
    }
}

/// What the streams of a connection know of it.
#[derive(Debug)]
pub(in crate::xds) struct Connection {
    pub(in crate::xds) peer: SocketAddr,
    /// Its place among the connections without a served stream, until it has one.
    idle: Mutex<Option<Idle>>,
    called: AtomicBool,
    why: OnceLock<Ending>,
    ending: CancellationToken,
    broken: CancellationToken,
}

impl Connection {
    pub(super) fn new(peer: SocketAddr, idle: Idle) -> Arc<Self> {
        Arc::new(Self {
            peer,
            idle: Mutex::new(Some(idle)),
            called: AtomicBool::new(false),
            why: OnceLock::new(),
            ending: CancellationToken::new(),
            broken: CancellationToken::new(),
        })
    }

    /// Completes with the status that its streams are to end with.
    pub(in crate::xds) async fn ending(&self) -> Status {
        self.ending.cancelled().await;
        self.why.get().copied().unwrap_or(Ending::Shutdown).status()
    }

    /// Closes it at once: its peer does not read, so that nothing else would reach it.
    pub(in crate::xds) fn abort(&self) {
        self.broken.cancel();
    }

    /// A proxy has introduced itself: the connection no longer counts against its source address.
    pub(in crate::xds) fn introduced(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Something was called on it.
    pub(super) fn called(&self) {
        self.called.store(true, Ordering::Relaxed);
    }

    fn end(&self, why: Ending) {
        // The first reason stands.
        let _ = self.why.set(why);
        self.ending.cancel();
    }
}

/// Why a connection was closed, for the counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closed {
    /// By its peer, or with it.
    Gone,
    /// It called nothing in time (X-L13).
    Silent,
    /// It reached its maximum age.
    Age,
    /// The server stops.
    Shutdown,
    /// Its peer did not read (X-F03).
    Stuck,
}

/// The end of all connections, each at a moment of its own: their proxies are not to come back all at once (X-L04).
#[derive(Clone, Debug)]
pub(super) struct Drain {
    pub(super) shutdown: CancellationToken,
    /// Every connection's task.
    pub(super) connections: TaskTracker,
    /// Over which time they end, however many they are.
    pub(super) longest: Duration,
}

impl Drain {
    /// Completes a while after the shutdown.
    async fn turn(&self) {
        self.shutdown.cancelled().await;
        let each = DRAIN_EACH.saturating_mul(u32::try_from(self.connections.len()).unwrap_or(u32::MAX));
        tokio::time::sleep(each.min(self.longest).mul_f64(fraction())).await;
    }
}

/// Serves HTTP/2 on `io` until it ends.
pub(super) async fn serve<IO>(
    io: IO,
    connection: Arc<Connection>,
    services: Services,
    limits: Limits,
    drain: Drain,
) -> Closed
where
    IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let of_calls = Arc::clone(&connection);
    let calls = service_fn(move |request| {
        let (mut services, connection) = (services.clone(), Arc::clone(&of_calls));
        async move { Ok::<_, Infallible>(services.call(request, connection).await) }
    });
    let mut http = pin!(options(&limits).serve_connection(TokioIo::new(io), calls));
    let introduction = Instant::now() + limits.introduction;
    let age =
        (!limits.max_age.is_zero()).then(|| Instant::now() + limits.max_age.mul_f64(0.8 + 0.4 * fraction()));
    let mut closed = Closed::Gone;
    let mut overdue = None;
    let mut introduced = false;
    let mut last = pin!(drain.turn());
    loop {
        // Biased: the connection's own end first; of the others one is as good as the other.
        tokio::select! {
            biased;
            _ = http.as_mut() => return closed,
            () = connection.broken.cancelled() => return Closed::Stuck,
            () = at(overdue) => return closed,
            () = tokio::time::sleep_until(introduction), if !introduced => {
                introduced = true;
                if !connection.called.load(Ordering::Relaxed) {
                    return Closed::Silent;
                }
            }
            () = at(age), if overdue.is_none() => {
                closed = Closed::Age;
                overdue = Some(Instant::now() + GRACE);
                http.as_mut().graceful_shutdown();
                connection.end(Ending::Age);
            }
            () = last.as_mut(), if overdue.is_none() => {
                closed = Closed::Shutdown;
                overdue = Some(Instant::now() + GRACE);
                http.as_mut().graceful_shutdown();
                connection.end(Ending::Shutdown);
            }
        }
    }
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

fn options(limits: &Limits) -> http2::Builder<TokioExecutor> {
    let mut options = http2::Builder::new(TokioExecutor::new());
    options
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(KEEPALIVE.0))
        .keep_alive_timeout(KEEPALIVE.1)
        .max_concurrent_streams(Some(limits.streams_per_connection))
        .max_header_list_size(HEADERS)
        .max_send_buf_size(UNSENT as usize)
        .max_pending_accept_reset_streams(Some(RESETS))
        .max_local_error_reset_streams(Some(ERRORS));
    options
}

/// A number in [0, 1), another one each time.
fn fraction() -> f64 {
    let top = u32::try_from(RandomState::new().hash_one(()) >> 32).expect("32 bits");
    f64::from(top) / (f64::from(u32::MAX) + 1.0)
}
