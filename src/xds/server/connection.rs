//! One connection: HTTP/2 within limits, its age, its end.

use std::convert::Infallible;
use std::hash::{BuildHasher as _, RandomState};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Status;

use super::accept::UNSENT;
use super::limits::{Idle, Limits};
use super::outlet::{Outlet, Slot};
use super::service::Services;
use super::ticks::{self, Ticks};
use crate::model::{Name, Node};

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
    /// The proxies of its streams, and the ways to them.
    proxies: Mutex<Vec<(Name, Weak<Slot>)>>,
}

impl Connection {
    pub(super) fn new(peer: SocketAddr, idle: Idle) -> Arc<Self> {
        Arc::new(Self {
            peer,
            idle: Mutex::new(Some(idle)),
            called: AtomicBool::new(false),
            why: OnceLock::new(),
            ending: CancellationToken::new(),
            proxies: Mutex::default(),
        })
    }

    /// Completes with the status that its streams are to end with.
    pub(in crate::xds) async fn ending(&self) -> Status {
        self.ending.cancelled().await;
        self.why.get().copied().unwrap_or(Ending::Shutdown).status()
    }

    /// A proxy has introduced itself: the connection no longer counts against its source address.
    pub(super) fn introduced(&self, proxy: &Node, outlet: &Outlet) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut proxies = self.proxies();
        proxies.retain(|(_, slot)| slot.strong_count() > 0);
        proxies.push((proxy.id.clone(), Arc::downgrade(&outlet.slot())));
    }

    fn proxies(&self) -> MutexGuard<'_, Vec<(Name, Weak<Slot>)>> {
        self.proxies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When to look next whether somebody leaves a response unread for `stuck`.
    ///
    /// # Errors
    /// The proxy that does (X-F03).
    fn look(&self, now: Instant, stuck: Duration) -> Result<Instant, Name> {
        let mut next = now + stuck;
        for (proxy, slot) in self.proxies().iter() {
            let unread = slot.upgrade().and_then(|slot| slot.unread_since());
            let over = unread.map_or(next, |since| Instant::from_std(since) + stuck);
            if over <= now {
                return Err(proxy.clone());
            }
            next = next.min(over);
        }
        Ok(next)
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
    let together = |at: Instant| Instant::from_std(ticks::at_or_after(at.into_std()));
    let first_look = introduction.min(Instant::now() + limits.stuck);
    let mut look = pin!(tokio::time::sleep_until(together(first_look)));
    let mut last = pin!(drain.turn());
    loop {
        // Biased: the connection's own end first; of the others one is as good as the other.
        tokio::select! {
            biased;
            _ = http.as_mut() => return closed,
            () = at(overdue) => return closed,
            () = look.as_mut() => {
                let now = Instant::now();
                let called = connection.called.load(Ordering::Relaxed);
                if !called && now >= introduction {
                    return Closed::Silent;
                }
                match connection.look(now, limits.stuck) {
                    Ok(next) if called => look.as_mut().reset(together(next)),
                    Ok(next) => look.as_mut().reset(together(next.min(introduction))),
                    // No status would reach it.
                    Err(proxy) => {
                        let peer = connection.peer;
                        tracing::warn!(%proxy, %peer, "the proxy has stopped reading; closing its connection");
                        return Closed::Stuck;
                    }
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
        .timer(Ticks::new())
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
