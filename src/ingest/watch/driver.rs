//! The task of one source: it carries bytes and instants to the machine and does what the machine says.

use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use futures::stream::{self, StreamExt};
use http::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;

use super::counts::SourceCounts;
use super::limits::SourceLimits;
use super::machine::{Head, Input, Lane, Machine, Output};
use super::permits::Pool;
use super::random::Random;
use super::urls::Urls;
use super::{KubeSource, ListReason, SourceControl, SourceEvent, TimedSource};
use crate::ingest::client::{Answer, ByteStream, Exchange, Presented, TransportError};
use crate::ingest::objects::Object;

/// Batches of events that wait for the consumer. When they do, nothing more is read.
const BATCHES: usize = 4;
/// A consumer that holds the task up for longer than this delays deadlines as well.
const HELD_UP: Duration = Duration::from_millis(100);

/// Events, and when what they were read from arrived.
type Batch<T> = (Instant, Vec<SourceEvent<T>>);

/// Starts a source's task.
pub(super) fn start<T: Object>(source: KubeSource) -> TimedSource<T> {
    let counts = Arc::new(SourceCounts::new(now()));
    let (relist, requests) = mpsc::channel(1);
    let (events, batches) = mpsc::channel(BATCHES);
    // Before the machine looks at the server: what happens from then on is news.
    let news = source.server.news();
    let machine = Machine::<T>::new(
        source.exchange.server(),
        Urls::new::<T>(&source.selection),
        Arc::clone(&source.limits),
        Arc::clone(&source.server),
        Arc::clone(&counts),
        Random::seed(),
        now(),
    );
    let machine = machine.needed(source.needed);
    let driver = Driver {
        machine,
        exchange: source.exchange,
        limits: source.limits,
        main: Way::default(),
        side: Way::default(),
        permit: Permit::None,
        requests,
        events,
    };
    let span = tracing::debug_span!("source", kind = T::KIND);
    let task = AbortOnDropHandle::new(tokio::spawn(driver.run(news).instrument(span)));
    let state = (batches, now(), Vec::new().into_iter(), task);
    let events = stream::unfold(state, |(mut batches, mut at, mut batch, task)| async move {
        loop {
            if let Some(event) = Iterator::next(&mut batch) {
                return Some(((at, event), (batches, at, batch, task)));
            }
            let next: Batch<T> = batches.recv().await?;
            (at, batch) = (next.0, next.1.into_iter());
        }
    });
    TimedSource { events: events.boxed(), control: SourceControl { relist, counts } }
}

/// The present, also in tests with paused time.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// One exchange after another.
#[derive(Default)]
struct Way {
    stage: Stage,
    /// What the last one that was answered came with.
    presented: Presented,
}

#[derive(Default)]
enum Stage {
    #[default]
    Free,
    Asking(BoxFuture<'static, Result<Answer, TransportError>>),
    Reading(ByteStream),
}

impl Way {
    /// What comes next; nothing on a free way.
    async fn next(&mut self, lane: Lane) -> Input {
        match &mut self.stage {
            Stage::Free => pending().await,
            Stage::Asking(answer) => match answer.await {
                Ok(answer) => {
                    let head = head(answer.status.as_u16(), &answer.headers);
                    *self = Self { stage: Stage::Reading(answer.body), presented: answer.presented };
                    Input::Headers(lane, head)
                }
                Err(error) => {
                    self.stage = Stage::Free;
                    Input::Broken(lane, error)
                }
            },
            Stage::Reading(body) => match body.next().await {
                Some(Ok(bytes)) => Input::Body(lane, bytes),
                Some(Err(error)) => {
                    self.stage = Stage::Free;
                    Input::Broken(lane, error)
                }
                None => {
                    self.stage = Stage::Free;
                    Input::End(lane)
                }
            },
        }
    }

    fn is_reading(&self) -> bool {
        matches!(self.stage, Stage::Reading(_))
    }
}

/// The permit to read a list.
enum Permit {
    None,
    Wanted(BoxFuture<'static, OwnedSemaphorePermit>),
    Held(#[expect(dead_code, reason = "held until dropped")] OwnedSemaphorePermit),
}

impl Permit {
    async fn next(&mut self) -> Input {
        let Self::Wanted(wanted) = self else { return pending().await };
        *self = Self::Held(wanted.await);
        Input::Permit
    }
}

struct Driver<T> {
    machine: Machine<T>,
    exchange: Arc<dyn Exchange>,
    limits: Arc<SourceLimits>,
    main: Way,
    side: Way,
    permit: Permit,
    requests: mpsc::Receiver<ListReason>,
    events: mpsc::Sender<Batch<T>>,
}

impl<T: Object> Driver<T> {
    /// Until nobody listens any more.
    async fn run(mut self, mut news: tokio::sync::watch::Receiver<u64>) {
        let mut controlled = true;
        loop {
            if self.perform().await.is_err() {
                return;
            }
            let deadline = self.machine.deadline().map(tokio::time::Instant::from_std);
            let reads = !self.main.is_reading() || self.machine.reads_main();
            let input = tokio::select! {
                // Biased: what came counts before a deadline that passed while this task was held up. The machine
                // looks at its deadlines after every input, so a flood cannot put them off.
                biased;
                reason = self.requests.recv(), if controlled => match reason {
                    Some(reason) => Input::Relist(reason),
                    None => {
                        controlled = false;
                        continue;
                    }
                },
                input = self.main.next(Lane::Main), if reads => input,
                input = self.side.next(Lane::Side) => input,
                input = self.permit.next() => input,
                Ok(()) = news.changed() => Input::Wake,
                () = until(deadline) => Input::Wake,
            };
            self.machine.handle(now(), input);
        }
    }

    /// Does what the machine says. Requests are made before the consumer is waited for.
    async fn perform(&mut self) -> Result<(), mpsc::error::SendError<Batch<T>>> {
        let mut batch = Vec::new();
        while let Some(output) = self.machine.next_output() {
            match output {
                Output::Send(lane, path, accept) => {
                    self.way(lane).stage = Stage::Asking(self.exchange.get(path, accept));
                }
                Output::Drop(lane) => self.way(lane).stage = Stage::Free,
                Output::Unauthorized(lane) => {
                    let refused = self.way(lane).presented;
                    self.exchange.unauthorized(refused);
                }
                Output::Forbidden(lane) => {
                    let refused = self.way(lane).presented;
                    self.exchange.forbidden(refused);
                }
                Output::Suspect => self.exchange.suspect_connection(),
                Output::Acquire(pool) => self.permit = Permit::Wanted(self.acquire(pool)),
                Output::Release => self.permit = Permit::None,
                Output::Tell(event) => batch.push(event),
            }
        }
        if batch.is_empty() {
            return Ok(());
        }
        let began = now();
        self.events.send((began, batch)).await?;
        let held_up = now().saturating_duration_since(began);
        if held_up > HELD_UP {
            self.machine.postpone(held_up);
        }
        Ok(())
    }

    fn way(&mut self, lane: Lane) -> &mut Way {
        match lane {
            Lane::Main => &mut self.main,
            Lane::Side => &mut self.side,
        }
    }

    fn acquire(&self, pool: Pool) -> BoxFuture<'static, OwnedSemaphorePermit> {
        let limits = Arc::clone(&self.limits);
        Box::pin(async move { limits.permits.acquire(pool).await })
    }
}

async fn until(deadline: Option<tokio::time::Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => pending().await,
    }
}

/// What matters of the headers. A `Retry-After` that is a date is not read: clocks differ (K-41).
fn head(status: u16, headers: &HeaderMap) -> Head {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let seconds = text(RETRY_AFTER).and_then(|value| value.trim().parse().ok());
    Head {
        status,
        content_type: text(CONTENT_TYPE).map(str::to_owned),
        retry_after: seconds.map(Duration::from_secs),
    }
}
