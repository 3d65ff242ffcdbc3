//! The list/watch loop of one kind of one API server as a pure state machine.
//!
//! Inputs are what happened and when; outputs are what to do next. There is no clock, no socket and no channel
//! in here: the same inputs and seed give the same outputs. At most two requests are under way: the list or
//! watch itself ([`Lane::Main`]) and a probe beside an open watch ([`Lane::Side`]).
//!
//! ```text
//!            ┌──────────── 410, regression, disorder, request ───────────┐
//!  begin ─→ list (streamed, else in pages) ─→ watch ─→ watch ─→ … ───────┘
//!            each failure: a pause, then the same again; what is held stays
//! ```

mod attempt;
mod entrance;
mod look;
mod pages;
mod position;
mod probe;
mod rate;
mod side;
mod stream;
mod timers;
mod watch;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use self::attempt::Waiting;
use self::look::Looks;
use self::pages::Pages;
use self::position::Position;
use self::side::Side;
use self::stream::Streaming;
use self::watch::Watching;
use super::backoff::Backoff;
use super::counts::{SourceCounts, SourcePhase};
use super::limits::SourceLimits;
use super::permits::Pool;
use super::random::Random;
use super::server::{Member, Scout, Server};
use super::urls::Urls;
use super::{Failure, ListReason, SourceEvent};
use crate::ingest::client::TransportError;
use crate::ingest::objects::wire::Encoding;
use crate::ingest::objects::{Object, plural};

/// Outputs that room is kept for.
const KEPT: usize = 32;

/// Which of the two exchanges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// The list or the watch.
    Main,
    /// A probe.
    Side,
}

/// What response headers say, as far as it matters.
#[derive(Clone, Debug, Default)]
pub(super) struct Head {
    pub(super) status: u16,
    pub(super) content_type: Option<String>,
    pub(super) retry_after: Option<Duration>,
}

/// What happened.
#[derive(Debug)]
pub(super) enum Input {
    /// Response headers are there.
    Headers(Lane, Head),
    /// A part of the body.
    Body(Lane, Bytes),
    /// The body is complete, as far as HTTP is concerned.
    End(Lane),
    /// No headers, or the body broke off.
    Broken(Lane, TransportError),
    /// The permit asked for is there.
    Permit,
    /// The consumer wants a complete list.
    Relist(ListReason),
    /// A deadline has passed, or the [server](Server) has news.
    Wake,
}

/// What to do.
#[derive(Debug)]
pub(super) enum Output<T> {
    /// Send a request; the lane is free.
    Send(Lane, String, &'static str),
    /// Give up what is under way on this lane; nothing more of it is to come in.
    Drop(Lane),
    /// Have what the last request of this lane came with obtained anew (K-15, K-16).
    Unauthorized(Lane),
    /// Have it looked at once more beside what goes on: it is known and not permitted to (K-15).
    Forbidden(Lane),
    /// Have new requests take another connection.
    Suspect,
    /// Get a permit to read a list; the body of the main lane is not read before.
    Acquire(Pool),
    /// Give the permit back, or stop waiting for it.
    Release,
    /// Tell the consumer.
    Tell(SourceEvent<T>),
}

/// What the main lane is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    List(ListReason),
    Watch,
}

/// What the main lane does.
#[derive(Debug)]
enum Main {
    Waiting(Waiting),
    Pages(Pages),
    Streaming(Streaming),
    Watching(Watching),
}

/// What the consumer was told last of the state of affairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Nothing,
    Connected,
    Failed,
}

/// The state of one source.
#[derive(Debug)]
pub(super) struct Machine<T> {
    /// The server's name, for messages.
    name: String,
    urls: Urls,
    limits: Arc<SourceLimits>,
    server: Arc<Server>,
    member: Member,
    counts: Arc<SourceCounts>,
    random: Random,
    /// Pauses after failures; start over after a healthy watch.
    pauses: Backoff,
    /// Pauses while credentials are refused.
    refusals: Backoff,
    /// The status of the present row of refusals, after which credentials were read again (K-15).
    refused: Option<u16>,
    /// The server has this kind, or must have it: a 404 speaks of something else (K-46).
    is_served: bool,
    scout: Option<Scout>,
    plan: Plan,
    main: Main,
    side: Option<Side>,
    position: Position,
    looks: Looks,
    told: Told,
    /// A permit is held or waited for.
    permit: bool,
    /// The last relist was not followed by a healthy watch: another one waits (K-10).
    relisted: bool,
    /// A list was completed and no watch opened since.
    fresh: bool,
    /// Pauses between probes that fail.
    probe_pauses: Backoff,
    /// The next list is to be read in pages.
    pages_next: bool,
    /// Objects per page: less after a page that was too large.
    page_objects: u32,
    /// Protobuf did not work: JSON until then.
    json_until: Option<Instant>,
    /// Watches in a row that brought a frame which cannot be read.
    unreadable: u32,
    /// Watches in a row that ended too soon.
    short: u32,
    /// Watches in a row that did not show a probed revision, nor anything else.
    unconfirmed: u32,
    /// Answers in a row that our revision is too large.
    ahead: u32,
    /// Requests in a row that were not answered.
    silences: u32,
    /// How often the cluster's history went back, as far as it was seen to.
    regressions: u64,
    /// When a probe followed what another source found.
    hurried: Option<Instant>,
    outputs: VecDeque<Output<T>>,
}

impl<T: Object> Machine<T> {
    pub(super) fn new(
        name: &str,
        urls: Urls,
        limits: Arc<SourceLimits>,
        server: Arc<Server>,
        counts: Arc<SourceCounts>,
        seed: u64,
        now: Instant,
    ) -> Self {
        let (first, longest) = limits.deadlines.refused;
        let mut machine = Self {
            member: server.join(),
            name: name.to_owned(),
            urls,
            pauses: Backoff::new(limits.retry.first, limits.retry.longest),
            refusals: Backoff::new(first, longest),
            refused: None,
            is_served: T::GROUP.is_empty(),
            scout: None,
            plan: Plan::List(ListReason::First),
            main: Main::Waiting(Waiting::until(now)),
            side: None,
            position: Position::default(),
            looks: Looks::default(),
            told: Told::Nothing,
            permit: false,
            relisted: false,
            fresh: false,
            probe_pauses: Backoff::new(limits.retry.first, limits.retry.longest),
            pages_next: false,
            page_objects: limits.sizes.page_objects,
            json_until: None,
            unreadable: 0,
            short: 0,
            unconfirmed: 0,
            ahead: 0,
            silences: 0,
            regressions: server.regressions(),
            hurried: None,
            outputs: VecDeque::new(),
            random: Random::new(seed),
            limits,
            server,
            counts,
        };
        machine.begin(now);
        machine
    }

    /// Whether every server has this kind.
    pub(super) fn needed(mut self, needed: bool) -> Self {
        self.is_served |= needed;
        self
    }

    /// Takes in what happened at `now`, which never goes back.
    pub(super) fn handle(&mut self, now: Instant, input: Input) {
        match input {
            Input::Headers(Lane::Main, head) => self.main_headers(now, head),
            Input::Headers(Lane::Side, head) => self.side_headers(now, head),
            Input::Body(lane, bytes) => {
                self.counts.received(bytes.len(), now);
                match lane {
                    Lane::Main => self.main_body(now, &bytes),
                    Lane::Side => self.side_body(now, &bytes),
                }
            }
            Input::End(Lane::Main) => self.main_end(now),
            Input::End(Lane::Side) => self.side_end(now),
            Input::Broken(Lane::Main, error) => self.main_broken(now, &error),
            Input::Broken(Lane::Side, error) => self.side_broken(now, &error),
            Input::Permit => self.permitted(now),
            Input::Relist(reason) => self.requested(now, reason),
            Input::Wake => {}
        }
        // Always: a flood of input must not put off what is due.
        self.tick(now);
    }

    /// The next thing to do, until there is nothing more.
    pub(super) fn next_output(&mut self) -> Option<Output<T>> {
        let output = self.outputs.pop_front();
        if output.is_none() && self.outputs.capacity() > KEPT {
            // The room of a whole list is not kept for single events.
            self.outputs = VecDeque::new();
        }
        output
    }

    fn main_headers(&mut self, now: Instant, head: Head) {
        self.counts.contact(now);
        match &self.main {
            Main::Waiting(_) => {}
            Main::Pages(_) => self.page_headers(now, head),
            Main::Streaming(_) => self.stream_headers(now, head),
            Main::Watching(_) => self.watch_headers(now, head),
        }
    }

    fn main_body(&mut self, now: Instant, bytes: &[u8]) {
        match &self.main {
            Main::Waiting(_) => {}
            Main::Pages(_) => self.page_body(now, bytes),
            Main::Streaming(_) => self.stream_body(now, bytes),
            Main::Watching(_) => self.watch_body(now, bytes),
        }
    }

    fn main_end(&mut self, now: Instant) {
        match &self.main {
            Main::Waiting(_) => {}
            Main::Pages(_) => self.page_end(now),
            Main::Streaming(_) => self.stream_end(now),
            Main::Watching(_) => self.watch_end(now),
        }
    }

    fn main_broken(&mut self, now: Instant, error: &TransportError) {
        match &self.main {
            Main::Waiting(_) => {}
            Main::Pages(_) => self.unreachable(now, error),
            Main::Streaming(_) => {
                self.pages_next |= self.stream_broke_off();
                self.unreachable(now, error);
            }
            Main::Watching(_) => self.watch_broken(now, error),
        }
    }

    fn permitted(&mut self, now: Instant) {
        self.counts.set_phase(SourcePhase::Listing);
        match &self.main {
            Main::Pages(_) => self.page_permitted(now),
            Main::Streaming(_) => self.stream_permitted(now),
            Main::Waiting(_) | Main::Watching(_) => {}
        }
    }

    /// K-21. A list under way is as good as a new one only if it began after the request: it starts over. A
    /// source that waits because of failures keeps waiting: its next attempt is a list.
    fn requested(&mut self, now: Instant, reason: ListReason) {
        self.pages_next = true;
        let begins = match &self.main {
            Main::Waiting(waiting) => waiting.may_be_cut(),
            _ => true,
        };
        if self.plan == Plan::Watch {
            self.plan = Plan::List(reason);
        }
        if begins {
            self.abandon();
            self.begin(now);
        }
    }

    /// Whether there is protobuf for this kind, and it works.
    fn encoding(&self, now: Instant) -> Encoding {
        let works = self.json_until.is_none_or(|until| until <= now);
        if T::PROTOBUF && works { Encoding::Protobuf } else { Encoding::Json }
    }

    /// JSON for a while.
    fn distrust_protobuf(&mut self, now: Instant) {
        self.json_until = Some(now + self.limits.deadlines.remembered);
        self.counts.fell_back();
    }

    fn send(&mut self, lane: Lane, path: String, accept: &'static str) {
        self.counts.request();
        self.outputs.push_back(Output::Send(lane, path, accept));
    }

    fn tell(&mut self, event: SourceEvent<T>) {
        self.outputs.push_back(Output::Tell(event));
    }

    /// The source is current; says so once. Lists that lie (K-19) are not current.
    fn tell_connected(&mut self, now: Instant) {
        if self.looks.are_lying() {
            return;
        }
        self.works(now);
        match std::mem::replace(&mut self.told, Told::Connected) {
            Told::Connected => return,
            Told::Failed => self.server.recovered(),
            Told::Nothing => {}
        }
        self.tell(SourceEvent::Connected);
    }

    fn tell_failed(&mut self, failure: Failure) {
        self.counts.failed();
        self.told = Told::Failed;
        // What a list proved, it proved before this.
        self.fresh = false;
        if let Some(open) = self.open_watch() {
            open.healthy_at = None;
        }
        self.tell(SourceEvent::Failed(failure));
    }

    fn release(&mut self) {
        if std::mem::take(&mut self.permit) {
            self.outputs.push_back(Output::Release);
        }
    }

    /// What was asked for, for messages.
    fn subject(&self) -> String {
        let what = match (&self.main, self.plan) {
            (Main::Watching(_), _) | (_, Plan::Watch) => "watch",
            _ => "list",
        };
        let at = if self.name.is_empty() { "" } else { " at " };
        format!("{what} of {} ({}{at}{})", plural(T::KIND), self.urls.path(), self.name)
    }
}

impl<T> Drop for Machine<T> {
    fn drop(&mut self) {
        self.server.leave(self.member);
    }
}
