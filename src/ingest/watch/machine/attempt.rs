//! Beginning, failing and pausing.

use std::time::{Duration, Instant};

use super::entrance::Foreign;
use super::{Lane, Machine, Main, Output, Plan, Told};
use crate::ingest::client::TransportError;
use crate::ingest::objects::Object;
use crate::ingest::objects::wire::{ApiStatus, Encoding};
use crate::ingest::watch::counts::SourcePhase;
use crate::ingest::watch::permits::Pool;
use crate::ingest::watch::server::{Pace, Turn};
use crate::ingest::watch::{Failure, ListReason};

/// Longest pause after a request that was accepted and never answered: the attempt itself takes long enough.
const SILENT_LONGEST: Duration = Duration::from_millis(4500);

/// Nothing is under way on the main lane.
#[derive(Debug)]
pub(super) struct Waiting {
    /// Until when; `None`: until the server can be reached.
    pub(super) until: Option<Instant>,
    /// Another source's recovery ends it, this long after `since` at the earliest.
    hope: Option<Hope>,
    /// A request of the consumer ends it.
    cut: bool,
}

#[derive(Debug)]
struct Hope {
    recoveries: u64,
    earliest: Instant,
}

impl Waiting {
    pub(super) fn until(at: Instant) -> Self {
        Self { until: Some(at), hope: None, cut: false }
    }

    fn for_server() -> Self {
        Self { until: None, hope: None, cut: false }
    }

    pub(super) fn may_be_cut(&self) -> bool {
        self.cut
    }

    /// When it is to be looked at again, if not for news.
    pub(super) fn due(&self, recoveries: u64, next_turn: Option<Instant>) -> Option<Instant> {
        match (&self.hope, self.until) {
            (_, None) => next_turn,
            (Some(hope), Some(until)) if hope.recoveries != recoveries => Some(until.min(hope.earliest)),
            (_, Some(until)) => Some(until),
        }
    }
}

/// How long to wait after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pause {
    /// The usual, growing.
    Usual,
    /// After silence.
    Silent,
    /// After an answer that is no API server's (K-12).
    Foreign,
    /// As the server says (K-13).
    Said(Duration),
    /// While credentials are refused (K-15).
    Refused,
    /// Until the kind may be served (K-46).
    NotServed,
    /// Until the server is found (K-01).
    Unreachable,
}

impl<T: Object> Machine<T> {
    /// Begins what is planned, if it is this source's turn.
    pub(super) fn begin(&mut self, now: Instant) {
        // The place is taken anew: a request that was given up proved nothing.
        self.scout = None;
        // Whatever was asked for is over.
        self.counts.set_retry_after(Duration::ZERO);
        match self.server.turn(now) {
            Turn::Go => {}
            Turn::Scout(scout) => self.scout = Some(scout),
            Turn::Wait => {
                self.counts.set_phase(SourcePhase::Unreachable);
                self.main = Main::Waiting(Waiting::for_server());
                return;
            }
        }
        if self.plan == Plan::Watch && self.position.is_behind() {
            self.plan = Plan::List(ListReason::Opaque);
        }
        match self.plan {
            Plan::List(_) => self.begin_list(now),
            Plan::Watch => self.begin_watch(now),
        }
    }

    /// Begins again when it is time.
    pub(super) fn tick_waiting(&mut self, now: Instant) {
        let Main::Waiting(waiting) = &self.main else { return };
        let due = waiting.due(self.server.recoveries(), self.server.next_turn());
        if due.is_some_and(|due| due <= now) || (waiting.until.is_none() && self.server.is_up()) {
            self.begin(now);
        }
    }

    /// Gives up what is under way on both lanes.
    pub(super) fn abandon(&mut self) {
        if !matches!(self.main, Main::Waiting(_)) {
            self.outputs.push_back(Output::Drop(Lane::Main));
        }
        self.release();
        self.drop_side();
    }

    /// The server answered.
    pub(super) fn answered(&mut self) {
        self.server.answered();
        self.scout = None;
        self.silences = 0;
    }

    /// The server grants what was asked for: the credentials are good, and the next refusal is a new one.
    pub(super) fn admitted(&mut self) {
        self.answered();
        self.refused = None;
    }

    /// Gives up, tells why, and waits.
    pub(super) fn fail(&mut self, now: Instant, failure: Failure, pause: Pause) {
        self.tell_failed(failure);
        self.give_up(now, pause);
    }

    /// Gives up and waits. What is planned stays planned.
    pub(super) fn give_up(&mut self, now: Instant, pause: Pause) {
        if self.permit {
            self.server.set_pool(Pool::Suspect);
        }
        self.abandon();
        let mut pause = pause;
        if let Some(scout) = self.scout.take() {
            // The scout came back without the server.
            let shortest = match pause {
                Pause::Said(said) => {
                    self.counts.set_retry_after(said);
                    said.min(self.limits.deadlines.retry_after)
                }
                _ => Duration::ZERO,
            };
            self.server.lost(now, Some(scout), Pace { shortest, longest: None }, &mut self.random);
            pause = Pause::Unreachable;
        }
        self.counts.set_phase(match pause {
            Pause::NotServed => SourcePhase::NotServed,
            Pause::Unreachable => SourcePhase::Unreachable,
            _ => SourcePhase::Paused,
        });
        let length = self.length(pause);
        let hopes = matches!(pause, Pause::Usual | Pause::Silent | Pause::Foreign);
        let hope = hopes
            .then(|| Hope { recoveries: self.server.recoveries(), earliest: now + self.limits.retry.first });
        let cut = pause == Pause::NotServed;
        self.main = Main::Waiting(Waiting { until: length.map(|length| now + length), hope, cut });
    }

    fn length(&mut self, pause: Pause) -> Option<Duration> {
        let deadlines = self.limits.deadlines;
        let random = &mut self.random;
        Some(match pause {
            Pause::Unreachable => return None,
            Pause::Usual => self.pauses.next(random),
            Pause::Silent => self.pauses.next_up_to(SILENT_LONGEST, random),
            Pause::Foreign => self.pauses.next_up_to(deadlines.foreign, random),
            Pause::Said(said) => {
                self.counts.set_retry_after(said);
                let honoured = said.min(deadlines.retry_after);
                // At least the usual: a server may say 0 for ever.
                random.between(honoured, honoured.mul_f64(1.1)).max(self.pauses.next(random))
            }
            Pause::Refused => self.refusals.next(random),
            Pause::NotServed => deadlines.not_served,
        })
    }

    /// A list from scratch. The first one begins at once, spread over some seconds when many sources need one
    /// (K-42); the next ones without a healthy watch in between wait longer and longer (K-10).
    pub(super) fn relist(&mut self, now: Instant, reason: ListReason) {
        self.abandon();
        self.plan = Plan::List(reason);
        let storm = self.limits.is_storm(now);
        let pause = if self.relisted {
            // Meanwhile changes are missed, and whoever looks is to see it.
            if self.told != Told::Failed {
                let (subject, reason) = (self.subject(), reason.label());
                let text = format!("{subject}: a list again and again, and no watch that works ({reason})");
                self.tell_failed(Failure::Refused(text));
            }
            self.pauses.next(&mut self.random)
        } else if storm {
            self.random.between(Duration::ZERO, self.limits.deadlines.storm)
        } else {
            Duration::ZERO
        };
        self.relisted = true;
        self.resume(now, pause);
    }

    /// Goes on with what is planned after `pause`.
    pub(super) fn resume(&mut self, now: Instant, pause: Duration) {
        if pause.is_zero() {
            self.begin(now);
        } else {
            self.counts.set_phase(SourcePhase::Paused);
            self.main = Main::Waiting(Waiting::until(now + pause));
        }
    }

    /// A watch worked for long enough.
    pub(super) fn healthy(&mut self) {
        self.pauses.reset();
        self.refusals.reset();
        self.relisted = false;
    }

    /// No answer, or half of one.
    pub(super) fn unreachable(&mut self, now: Instant, error: &TransportError) {
        let failure = Failure::Unreachable(format!("{}: {error}", self.subject()));
        match error {
            TransportError::Closed { .. } | TransportError::Request { .. } => {
                self.fail(now, failure, Pause::Usual);
            }
            TransportError::Credentials { .. }
            | TransportError::Resolve { .. }
            | TransportError::ForbiddenAddress { .. }
            | TransportError::Connect { .. }
            | TransportError::Tls { .. }
            | TransportError::Deadline { .. } => {
                let scout = self.scout.take();
                self.server.lost(now, scout, Pace::default(), &mut self.random);
                self.fail(now, failure, Pause::Unreachable);
            }
        }
    }

    /// New requests are to take another connection: nothing good comes on this one (K-06, K-12).
    pub(super) fn suspect(&mut self) {
        self.outputs.push_back(Output::Suspect);
    }

    /// A request was not answered. Once may be a hiccup; when it goes on, the connection may lead nowhere, and
    /// asking for new ones has its limits too.
    pub(super) fn silent(&mut self, now: Instant, what: &str) {
        self.silences += 1;
        if is_suspicious(self.silences) {
            self.suspect();
        }
        self.too_slow(now, what);
    }

    /// Something took too long.
    pub(super) fn too_slow(&mut self, now: Instant, what: &str) {
        let failure = Failure::Unreachable(format!("{}: {what}", self.subject()));
        self.fail(now, failure, Pause::Silent);
    }

    /// What came cannot be used.
    pub(super) fn unusable(&mut self, now: Instant, why: &dyn std::fmt::Display) {
        let failure = Failure::Refused(format!("{}: {why}", self.subject()));
        self.fail(now, failure, Pause::Usual);
    }

    /// Something else answers in the API server's place (K-12).
    pub(super) fn foreign(&mut self, now: Instant, foreign: &Foreign) {
        let failure = Failure::Refused(format!("{}: {}", self.subject(), foreign.text));
        // Whoever answers here has this connection: the next attempt is to find another one.
        self.suspect();
        if let Some(said) = foreign.retry_after {
            self.fail(now, failure, Pause::Said(said));
        } else if foreign.gateway {
            let scout = self.scout.take();
            let pace = Pace { longest: Some(self.limits.deadlines.foreign), ..Pace::default() };
            self.server.lost(now, scout, pace, &mut self.random);
            self.fail(now, failure, Pause::Unreachable);
        } else {
            self.answered();
            // A proxy may not know the type asked for.
            if foreign.is_answer && self.encoding(now) == Encoding::Protobuf {
                self.distrust_protobuf(now);
            }
            self.fail(now, failure, Pause::Foreign);
        }
    }

    /// The API server says no, with nothing about this request that would be answered otherwise.
    pub(super) fn refused(&mut self, now: Instant, status: &ApiStatus) {
        let text = format!("{}: {}", self.subject(), described(status));
        if !matches!(status.code, 401 | 403) {
            self.refused = None;
        }
        match status.code {
            401 => self.unauthorized(now, text),
            403 => {
                self.forbidden(Lane::Main);
                let text = format!("{text}; {}", self.urls.permission());
                self.fail(now, Failure::Forbidden(text), Pause::Refused);
            }
            // A proxy, or a server that is just starting.
            404 if self.is_served => self.fail(now, Failure::NotServed(text), Pause::Refused),
            404 => self.fail(now, Failure::NotServed(text), Pause::NotServed),
            _ => {
                let pause = status.retry_after.map_or(Pause::Usual, Pause::Said);
                self.fail(now, Failure::Refused(text), pause);
            }
        }
    }

    /// K-15: once at once with credentials read again, then slowly.
    fn unauthorized(&mut self, now: Instant, text: String) {
        self.outputs.push_back(Output::Unauthorized(Lane::Main));
        if self.is_first(401) {
            self.abandon();
            self.begin(now);
        } else {
            self.fail(now, Failure::Unauthorized(text), Pause::Refused);
        }
    }

    /// K-15: others may be permitted to, and who we are may have changed. Looked at once more, once: what is forbidden to
    /// the right one as well stays so for ever.
    pub(super) fn forbidden(&mut self, lane: Lane) {
        if self.is_first(403) {
            self.outputs.push_back(Output::Forbidden(lane));
        }
    }

    /// Whether a refusal is the first one of its row.
    pub(super) fn is_first(&mut self, code: u16) -> bool {
        self.refused.replace(code) != Some(code)
    }
}

/// Whether this many silences in a row cast doubt on the connection.
pub(super) fn is_suspicious(silences: u32) -> bool {
    silences == 2 || (silences > 0 && silences.is_multiple_of(8))
}

/// A status in one line.
pub(super) fn described(status: &ApiStatus) -> String {
    let space = if status.reason.is_empty() { "" } else { " " };
    format!("HTTP {}{space}{}: {}", status.code, status.reason, status.message)
}
