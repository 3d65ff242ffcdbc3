//! Which connection a request goes on: one for all while the server speaks HTTP/2 (K-43).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared, WeakShared};

use super::TransportError;
use super::connection::{Held, Http2, Outgoing, Shelf, Unanswered};
use super::dial::{Dialed, Dialer};

/// How often a request that the server has not looked at is sent again, on another connection.
const REPLAYS: usize = 3;
/// Connections to one server for new requests, each with as many streams as it permits.
const MOST: usize = 64;
/// How often one request looks for a place before it gives up: others may take what was dialled for it.
const LOOKS: usize = 16;

type Dial = Shared<BoxFuture<'static, Result<(), TransportError>>>;

/// The connections to one API server.
#[derive(Clone)]
pub(super) struct Pool {
    dialer: Arc<Dialer>,
    open: Arc<Mutex<Open>>,
    shelf: Shelf,
}

#[derive(Default)]
struct Open {
    /// Usually one; another one when streams run out.
    http2: Vec<Arc<Http2>>,
    /// The last connection could only speak HTTP/1.1: requests do not wait for each other's.
    http1: bool,
    /// The connection attempt that all who need one wait for. Gone when nobody waits any more.
    dialing: Option<WeakShared<BoxFuture<'static, Result<(), TransportError>>>>,
    /// How often who we are was put in doubt. Connections of before, also those being made, get no new requests.
    epoch: u64,
}

impl Pool {
    pub(super) fn new(dialer: Dialer) -> Self {
        Self { dialer: Arc::new(dialer), open: Arc::default(), shelf: Shelf::default() }
    }

    /// Sends what `request` makes and returns the answer with the connection that it comes on. GOAWAY and
    /// refused streams are invisible here: what the server has not processed goes to another connection.
    ///
    /// # Errors
    /// No connection, or it ended before the headers came.
    pub(super) async fn send(
        &self,
        request: impl Fn() -> Outgoing,
    ) -> Result<(http::Response<hyper::body::Incoming>, Held), TransportError> {
        let mut replays = 0;
        loop {
            let mut held = self.connection().await?;
            let ending = match held.send(request()).await {
                Ok(response) => return Ok((response, held)),
                Err(Unanswered::Unprocessed(_)) if replays < REPLAYS => {
                    replays += 1;
                    continue;
                }
                Err(Unanswered::Unprocessed(ending) | Unanswered::Broken(ending)) => ending,
            };
            return Err(TransportError::Closed { server: Arc::clone(&self.dialer.server), ending });
        }
    }

    /// Who we are on a connection of this epoch was refused. New requests take new connections, made with what the
    /// credentials are then; running exchanges stay. Once for all requests of one epoch.
    pub(super) fn retire(&self, refused: u64) {
        let mut open = self.lock();
        if open.epoch == refused {
            open.epoch += 1;
            open.http2.clear();
            open.dialing = None;
            self.shelf.begin(open.epoch);
        }
    }

    /// New requests take new connections, unless the present ones are as good as new.
    pub(super) fn suspect(&self) {
        let young = self.dialer.patience.young;
        self.lock().http2.retain(|connection| connection.since.elapsed() < young);
        self.shelf.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn epoch(&self) -> u64 {
        self.lock().epoch
    }

    async fn connection(&self) -> Result<Held, TransportError> {
        for _ in 0..LOOKS {
            if let Some(held) = self.idle() {
                return Ok(held);
            }
            if self.lock().http2.len() >= MOST {
                let cause = format!("{MOST} connections to it are full").into();
                return Err(TransportError::Connect { server: Arc::clone(&self.dialer.server), cause });
            }
            match self.dialing() {
                Some(dial) => dial.await?,
                None => match self.dial().await? {
                    Dialed::Http1(connection) if connection.epoch == self.epoch() => {
                        return Ok(Held::Http1 { connection, shelf: self.shelf.clone() });
                    }
                    dialed => self.keep(&mut self.lock(), dialed),
                },
            }
        }
        let cause = "every new connection was full at once".into();
        Err(TransportError::Connect { server: Arc::clone(&self.dialer.server), cause })
    }

    /// A place on a connection that is there, the oldest first. Those that nothing is on and that are not needed,
    /// or of no use because they permit nothing, are closed.
    fn idle(&self) -> Option<Held> {
        let mut open = self.lock();
        let mut place = None;
        open.http2.retain(|connection| {
            if connection.is_closed() {
                return false;
            }
            if place.is_none() {
                place = connection.place();
            }
            connection.is_used()
        });
        if let Some(place) = place {
            return Some(Held::Http2(place));
        }
        self.shelf.take().map(|connection| Held::Http1 { connection, shelf: self.shelf.clone() })
    }

    /// The one connection attempt there is, or a new one; `None` when each request needs its own.
    fn dialing(&self) -> Option<Dial> {
        let mut open = self.lock();
        if open.http1 {
            return None;
        }
        if let Some(dial) = open.dialing.as_ref().and_then(WeakShared::upgrade) {
            return Some(dial);
        }
        let (pool, epoch) = (self.clone(), open.epoch);
        let dial = async move {
            let dialed = pool.dial().await;
            let mut open = pool.lock();
            // Else it is another attempt's by now.
            if open.epoch == epoch {
                open.dialing = None;
            }
            dialed.map(|dialed| pool.keep(&mut open, dialed))
        };
        let dial = dial.boxed().shared();
        open.dialing = dial.downgrade();
        Some(dial)
    }

    /// A connection made with what the credentials are now.
    async fn dial(&self) -> Result<Dialed, TransportError> {
        let now = self.epoch();
        let mut dialed = self.dialer.dial().await?;
        *dialed.epoch_mut() = now;
        Ok(dialed)
    }

    fn keep(&self, open: &mut Open, mut dialed: Dialed) {
        open.http1 = matches!(dialed, Dialed::Http1(_));
        if *dialed.epoch_mut() != open.epoch {
            return;
        }
        match dialed {
            Dialed::Http1(connection) => self.shelf.put(connection),
            Dialed::Http2(connection) => open.http2.push(Arc::new(connection)),
        }
    }
}
