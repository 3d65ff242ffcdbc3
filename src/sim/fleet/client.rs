//! One running proxy: connects, talks, and comes back.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::{RecvStream, SendStream};
use tokio::sync::watch;

use super::Shared;
use super::backoff::Backoff;
use super::behaviour::{Behaviour, Manner};
use super::connection::{self, Opened, failure, last_words, status};
use super::dice::Dice;
use super::frames::Frames;
use super::session::Session;

/// An order to leave and come back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Order {
    pub(super) whom: Whom,
    pub(super) pause: Pause,
}

/// Who is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whom {
    Nobody,
    /// Those that behave so.
    Storm,
    All,
}

/// When to come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pause {
    None,
    /// As after a failure.
    Backoff,
}

/// Why a stream ended.
enum End {
    /// The proxy left by itself.
    Left(Pause),
    /// Something else ended it.
    Failed(String),
}

/// One proxy.
pub(super) struct Client {
    number: usize,
    session: Session,
    behaviour: Behaviour,
    backoff: Backoff,
    dice: Dice,
    shared: Arc<Shared>,
    started: Instant,
    complete: bool,
    /// The last wait that counted it.
    counted: u64,
}

impl Client {
    pub(super) fn new(number: usize, session: Session, behaviour: Behaviour, shared: Arc<Shared>) -> Self {
        let seed = shared.seed;
        Self {
            number,
            session,
            behaviour,
            backoff: Backoff::new(Dice::new(seed, number)),
            dice: Dice::new(!seed, number),
            shared,
            started: Instant::now(),
            complete: false,
            counted: 0,
        }
    }

    /// Runs until it is dropped.
    pub(super) async fn run(mut self, wait: Duration) {
        tokio::time::sleep(wait).await;
        self.started = Instant::now();
        loop {
            let pause = match self.stream().await {
                End::Left(pause) => pause,
                End::Failed(why) => {
                    self.shared.tally.ended(why);
                    Pause::Backoff
                }
            };
            if pause == Pause::Backoff {
                tokio::time::sleep(self.backoff.next()).await;
            }
        }
    }

    /// One connection from its begin to its end.
    async fn stream(&mut self) -> End {
        let rate = (self.behaviour.manner == Manner::Slow).then_some(self.shared.slow_rate);
        let opened =
            match connection::open(&self.shared.target, self.number, self.behaviour.protocol, rate).await {
                Ok(opened) => opened,
                Err(why) => return End::Failed(why),
            };
        let mut orders = pin!(ordered(self.shared.orders.subscribe(), self.behaviour.manner));
        let mut leave = pin!(self.leave());
        // Biased: an order is obeyed however much comes.
        tokio::select! {
            biased;
            pause = &mut orders => End::Left(pause),
            () = &mut leave => End::Left(Pause::Backoff),
            end = self.talk(opened) => end,
        }
    }

    /// Completes when a proxy that comes and goes wants to go.
    fn leave(&mut self) -> impl Future<Output = ()> + use<> {
        // Intervals of independent events: exponential.
        let stay = (self.behaviour.manner == Manner::Random)
            .then(|| self.shared.stay.mul_f64(-self.dice.share().ln()));
        async move {
            match stay {
                Some(stay) => tokio::time::sleep(stay).await,
                None => std::future::pending().await,
            }
        }
    }

    async fn talk(&mut self, opened: Opened) -> End {
        let Opened { mut connection, mut requests, answer } = opened;
        for request in self.session.open() {
            if let Err(error) = requests.send_data(request, false) {
                return End::Failed(failure(&error));
            }
        }
        let mut answer = pin!(answer);
        // Biased: without the connection nothing else moves.
        let head = tokio::select! {
            biased;
            head = &mut answer => head,
            ended = &mut connection => return End::Failed(closed(ended, None)),
        };
        let mut body = match head {
            Ok(head) => match status(head.headers()) {
                Some(status) => return End::Failed(status),
                None if !head.status().is_success() => {
                    return End::Failed(format!("HTTP {}", head.status().as_u16()));
                }
                None => head.into_body(),
            },
            Err(error) => return End::Failed(failure(&error)),
        };
        self.shared.tally.connected();
        if self.behaviour.manner == Manner::Stopped {
            // The connection stays open, and nobody reads it.
            return std::future::pending().await;
        }
        let mut frames = Frames::default();
        loop {
            // Biased: as above.
            tokio::select! {
                biased;
                ended = &mut connection => return End::Failed(closed(ended, Some(&mut body))),
                chunk = body.data() => match chunk {
                    Some(Ok(chunk)) => {
                        if let Err(end) = self.chunk(&chunk, &mut frames, &mut body, &mut requests) {
                            return end;
                        }
                    }
                    Some(Err(error)) => return End::Failed(failure(&error)),
                    None => return End::Failed(last_words(&mut body).unwrap_or_else(|| "end of stream".to_owned())),
                },
            }
        }
    }

    fn chunk(
        &mut self,
        chunk: &Bytes,
        frames: &mut Frames,
        body: &mut RecvStream,
        requests: &mut SendStream<Bytes>,
    ) -> Result<(), End> {
        let failed = |error: &h2::Error| End::Failed(failure(error));
        body.flow_control().release_capacity(chunk.len()).map_err(|error| failed(&error))?;
        frames.push(chunk);
        while let Some(message) = frames.next().map_err(|error| End::Failed(error.to_string()))? {
            for request in self.message(&message)? {
                requests.send_data(request, false).map_err(|error| failed(&error))?;
            }
        }
        Ok(())
    }

    fn message(&mut self, message: &Bytes) -> Result<Vec<Bytes>, End> {
        let now = Instant::now();
        let watched = self.shared.watched.load();
        let watched = watched.as_deref().filter(|watched| watched.number != self.counted);
        let mut found = false;
        let received = self.session.receive(message, |id| {
            found |= watched.is_some_and(|watched| watched.name == id);
        });
        let (received, requests) = received.map_err(|error| End::Failed(error.to_string()))?;
        // Counted first: who has all receipts has the counts of them too.
        self.shared.tally.received(received, message.len(), now);
        if let Some(watched) = watched.filter(|_| found) {
            self.counted = watched.number;
            watched.receipt(now);
        }
        self.backoff.reset();
        if !self.complete && self.session.is_complete() {
            self.complete = true;
            self.shared.tally.subscribed(self.started, now);
            self.shared.complete.send_modify(|count| *count += 1);
        }
        Ok(requests)
    }
}

/// Completes when an order is meant for a proxy of this manner.
async fn ordered(mut orders: watch::Receiver<Order>, manner: Manner) -> Pause {
    while orders.changed().await.is_ok() {
        let order = *orders.borrow_and_update();
        match order.whom {
            Whom::All => return order.pause,
            Whom::Storm if manner == Manner::Storm => return order.pause,
            Whom::Storm | Whom::Nobody => {}
        }
    }
    // The fleet is going.
    std::future::pending().await
}

/// Why a connection ended: what the server said on the stream, or what the connection says.
fn closed(ended: Result<(), h2::Error>, body: Option<&mut RecvStream>) -> String {
    body.and_then(last_words).unwrap_or_else(|| match ended {
        Ok(()) => "connection: closed".to_owned(),
        Err(error) => failure(&error),
    })
}
