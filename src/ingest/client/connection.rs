//! One connection and the exchanges on it.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{HOST, HeaderValue};
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::rt::Executor;
use hyper_util::rt::TokioTimer;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::dial::{Patience, WireIo};
use super::error::{Ending, causes};
use super::traffic::Epitaph;

/// Most requests have an empty body.
pub(super) type Outgoing = Request<Full<Bytes>>;

/// Streams that share one connection. Beyond that another one is opened: servers allow 100 and more, and a
/// stream too many would wait without a word.
pub(super) const MAX_STREAMS: usize = 80;
/// What a server may send on one stream before we read it: 2.5 MB/s over 100 ms. A thousand servers may have as
/// much waiting for each kind when all of them are listed at once.
pub(super) const STREAM_WINDOW: u32 = 256 << 10;
/// What it may send on all of them: streams that nobody reads for a while must not hold up the others.
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * MAX_STREAMS as u32;
/// Largest frame: list pages come in few pieces.
const MAX_FRAME: u32 = 256 << 10;
/// Largest response header list (Z-35's limit, for servers we talk to).
const MAX_HEADERS: u32 = 64 << 10;
/// How long a stream that broke waits for its connection's last word.
const LAST_WORD: Duration = Duration::from_secs(1);

/// A request that got no answer.
pub(super) enum Unanswered {
    /// The server has not looked at it, by its own word or because it was never sent: it may be sent again.
    Unprocessed(Ending),
    /// It may have been processed.
    Broken(Ending),
}

/// How a connection ended, and that it did.
#[derive(Clone)]
pub(super) struct Fate {
    epitaph: Epitaph,
    over: CancellationToken,
}

impl Fate {
    fn new(epitaph: Epitaph) -> Self {
        Self { epitaph, over: CancellationToken::new() }
    }

    /// Why an exchange on this connection broke.
    pub(super) fn explain<'a>(
        &'a self,
        error: &(dyn std::error::Error + 'static),
    ) -> impl Future<Output = Ending> + Send + use<'a> {
        let own = Ending::of(error);
        async move {
            if !matches!(own, Ending::Connection(_)) {
                return own;
            }
            if self.epitaph.get().is_none() {
                // A missed PING ends the streams before the connection's task can say so.
                let _ = tokio::time::timeout(LAST_WORD, self.over.cancelled()).await;
            }
            self.epitaph.get().cloned().unwrap_or(own)
        }
    }

    fn close(&self, result: hyper::Result<()>) {
        if let Err(error) = result {
            let _ = self.epitaph.set(Ending::of(&error));
        }
        self.over.cancel();
    }
}

/// An HTTP/2 connection.
pub(super) struct Http2 {
    sender: http2::SendRequest<Full<Bytes>>,
    fate: Fate,
    streams: AtomicUsize,
    connection: Arc<Mutex<Option<Connection>>>,
    pub(super) since: Instant,
    /// Of the [pool](super::pool) when it was dialled.
    pub(super) epoch: u64,
    /// Ends what the library runs for it, also requests that a server never lets through.
    _running: DropGuard,
}

type Connection = http2::Connection<WireIo, Full<Bytes>, Until>;

/// Runs futures until a token is cancelled.
#[derive(Clone)]
struct Until(CancellationToken);

impl<F> Executor<F> for Until
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, future: F) {
        let token = self.0.clone();
        tokio::spawn(async move { token.run_until_cancelled(future).await.is_some() });
    }
}

impl Http2 {
    pub(super) async fn open(io: WireIo, epitaph: Epitaph, patience: Patience) -> Result<Self, Ending> {
        let token = CancellationToken::new();
        let (until, running) = (Until(token.clone()), token.drop_guard());
        let mut builder = http2::Builder::new(until.clone());
        builder
            .timer(TokioTimer::new())
            .keep_alive_interval(patience.ping)
            .keep_alive_timeout(patience.pong)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(MAX_FRAME)
            .max_header_list_size(MAX_HEADERS);
        let (sender, connection) =
            builder.handshake::<_, Full<Bytes>>(io).await.map_err(|error| Ending::of(&error))?;
        let fate = Fate::new(epitaph);
        let connection = Arc::new(Mutex::new(Some(connection)));
        let (polled, closing) = (Arc::clone(&connection), fate.clone());
        until.execute(async move {
            let ended = std::future::poll_fn(|cx| match &mut *lock(&polled) {
                Some(connection) => std::pin::Pin::new(connection).poll(cx),
                None => std::task::Poll::Ready(Ok(())),
            });
            let ended = ended.await;
            // Nothing can be sent any more once it is dropped.
            let connection = lock(&polled).take();
            drop(connection);
            closing.close(ended);
        });
        let (streams, since) = (AtomicUsize::new(0), Instant::now());
        Ok(Self { sender, fate, streams, connection, since, epoch: 0, _running: running })
    }

    /// No new streams: closed, or the server took leave.
    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Whether an exchange is on it.
    pub(super) fn is_used(&self) -> bool {
        self.streams.load(Relaxed) > 0
    }

    /// A place for one more exchange, if there is one.
    pub(super) fn place(self: &Arc<Self>) -> Option<Place> {
        let permitted = lock(&self.connection).as_ref().map_or(0, Connection::current_max_send_streams);
        let limit = permitted.min(MAX_STREAMS);
        let more = |streams: usize| (streams < limit).then_some(streams + 1);
        let taken = self.streams.fetch_update(Relaxed, Relaxed, more).is_ok();
        taken.then(|| Place(Arc::clone(self)))
    }
}

fn lock(connection: &Mutex<Option<Connection>>) -> MutexGuard<'_, Option<Connection>> {
    connection.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The right to one stream; gives it back when dropped.
pub(super) struct Place(Arc<Http2>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Relaxed);
    }
}

/// An HTTP/1.1 connection: one exchange at a time.
pub(super) struct Http1 {
    sender: http1::SendRequest<Full<Bytes>>,
    fate: Fate,
    used: bool,
    /// Of the [pool](super::pool) when it was dialled.
    pub(super) epoch: u64,
}

impl Http1 {
    pub(super) async fn open(io: WireIo, epitaph: Epitaph) -> Result<Self, Ending> {
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_HEADERS as usize)
            .handshake(io)
            .await
            .map_err(|error| Ending::of(&error))?;
        let fate = Fate::new(epitaph);
        // Ends with the connection, at the latest when its handle is dropped.
        tokio::spawn({
            let fate = fate.clone();
            async move { fate.close(connection.await) }
        });
        Ok(Self { sender, fate, used: false, epoch: 0 })
    }

    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }
}

/// How many connections wait for their next exchange.
const SHELF: usize = 4;

/// Connections that wait for their next exchange. Clones are the same one.
#[derive(Clone, Default)]
pub(super) struct Shelf(Arc<Mutex<Shelved>>);

#[derive(Default)]
struct Shelved {
    epoch: u64,
    connections: Vec<Http1>,
}

impl Shelf {
    /// Keeps one, if it is of the present epoch.
    pub(super) fn put(&self, connection: Http1) {
        let mut shelved = self.lock();
        let room = shelved.connections.len() < SHELF;
        if room && shelved.epoch == connection.epoch && !connection.is_closed() {
            shelved.connections.push(connection);
        }
    }

    /// One that can be used.
    pub(super) fn take(&self) -> Option<Http1> {
        let mut shelved = self.lock();
        std::iter::from_fn(|| shelved.connections.pop()).find(|connection| !connection.is_closed())
    }

    /// Closes all.
    pub(super) fn clear(&self) {
        self.lock().connections.clear();
    }

    /// Closes all, and those of before this epoch when they come back.
    pub(super) fn begin(&self, epoch: u64) {
        *self.lock() = Shelved { epoch, connections: Vec::new() };
    }

    fn lock(&self) -> MutexGuard<'_, Shelved> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection while an exchange is on it.
pub(super) enum Held {
    Http1 { connection: Http1, shelf: Shelf },
    Http2(Place),
}

impl Held {
    /// Sends a request with an absolute URI and waits for the headers of its answer.
    pub(super) async fn send(&mut self, request: Outgoing) -> Result<Response<Incoming>, Unanswered> {
        match self {
            Self::Http1 { connection, .. } => {
                let again = std::mem::replace(&mut connection.used, true);
                if let Err(error) = connection.sender.ready().await {
                    return Err(Unanswered::Unprocessed(connection.fate.explain(&error).await));
                }
                match connection.sender.try_send_request(origin_form(request)).await {
                    Ok(response) => Ok(response),
                    Err(mut failed) => {
                        let unsent = failed.take_message().is_some();
                        let error = failed.into_error();
                        let ending = connection.fate.explain(&error).await;
                        // The server may close an idle connection at any time; reading has no effect to repeat.
                        Err(unanswered(ending, unsent || (again && error.is_incomplete_message())))
                    }
                }
            }
            Self::Http2(place) => match place.0.sender.clone().try_send_request(request).await {
                Ok(response) => Ok(response),
                Err(mut failed) => {
                    let unsent = failed.take_message().is_some();
                    let error = failed.into_error();
                    let ending = place.0.fate.explain(&error).await;
                    Err(unanswered(ending, unsent || is_refused(&error)))
                }
            },
        }
    }

    /// How the connection ended.
    pub(super) fn fate(&self) -> &Fate {
        match self {
            Self::Http1 { connection, .. } => &connection.fate,
            Self::Http2(place) => &place.0.fate,
        }
    }

    /// Of the connection.
    pub(super) fn epoch(&self) -> u64 {
        match self {
            Self::Http1 { connection, .. } => connection.epoch,
            Self::Http2(place) => place.0.epoch,
        }
    }

    /// Whether the end of a body must be marked as such: HTTP/2 also ends them when a stream is reset.
    pub(super) fn marks_ends(&self) -> bool {
        matches!(self, Self::Http2(_))
    }

    /// After a complete exchange: the connection may be used again.
    pub(super) fn release(self) {
        if let Self::Http1 { connection, shelf } = self {
            shelf.put(connection);
        }
    }
}

/// HTTP/1.1 has the host in a header of its own.
fn origin_form(mut request: Outgoing) -> Outgoing {
    let host = request.uri().authority().and_then(|host| HeaderValue::from_str(host.as_str()).ok());
    if let Some(host) = host {
        request.headers_mut().insert(HOST, host);
    }
    if let Some(path) = request.uri().path_and_query() {
        *request.uri_mut() = path.clone().into();
    }
    request
}

fn unanswered(ending: Ending, unprocessed: bool) -> Unanswered {
    if unprocessed { Unanswered::Unprocessed(ending) } else { Unanswered::Broken(ending) }
}

/// The server says that it has not processed the request: a stream above GOAWAY's last one, or REFUSED_STREAM.
fn is_refused(error: &(dyn std::error::Error + 'static)) -> bool {
    let error = causes(error).find_map(|error| error.downcast_ref::<h2::Error>());
    error.is_some_and(|error| {
        error.is_remote()
            && (error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM)
                || error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR))
    })
}
