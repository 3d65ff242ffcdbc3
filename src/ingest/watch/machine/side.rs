//! Exchanges beside an open watch.

use std::time::{Duration, Instant};

use super::entrance::{Entrance, Refusal};
use super::look::Sample;
use super::{Head, Lane, Machine, Output};
use crate::ingest::client::TransportError;
use crate::ingest::objects::Object;
use crate::ingest::objects::wire::{Encoding, accept_list};
use crate::ingest::watch::urls::READY;

/// Bytes of an answer that are read: one object.
const ANSWER: usize = 16 << 20;

/// A probe or a look under way.
#[derive(Debug)]
pub(super) struct Side {
    pub(super) ask: Ask,
    pub(super) deadline: Instant,
    stage: Stage,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// The present revision, by a quorum list of one object (K-05); what was known when it was asked for, which
    /// the answer may not be below. Events that overtake the answer make it old, not wrong.
    Revision { known: Option<u64> },
    /// One object by name (K-19).
    Look(Sample),
    /// Whether the server itself is well, after it did not answer.
    Ready,
}

#[derive(Debug)]
enum Stage {
    Asking,
    Refused(Refusal),
    Reading(Encoding, Vec<u8>),
}

/// How it ended.
#[derive(Debug)]
pub(super) enum Reply {
    Body(Encoding, Vec<u8>),
    Refused(crate::ingest::objects::wire::ApiStatus),
    /// Not an API server's answer, or more than fits.
    Unusable(String),
    Broken(TransportError),
    Silent,
}

impl Side {
    pub(super) fn postpone(&mut self, by: Duration) {
        self.deadline += by;
    }
}

impl<T: Object> Machine<T> {
    pub(super) fn ask(&mut self, now: Instant, ask: Ask) {
        let path = match &ask {
            Ask::Revision { .. } => self.urls.probe(),
            Ask::Look(sample) => self.urls.object(&sample.key),
            Ask::Ready => READY.to_owned(),
        };
        let accept = match ask {
            Ask::Ready => "*/*",
            _ => accept_list(self.encoding(now)),
        };
        self.counts.probed();
        self.send(Lane::Side, path, accept);
        let deadline = now + self.limits.deadlines.headers;
        self.side = Some(Side { ask, deadline, stage: Stage::Asking });
    }

    pub(super) fn drop_side(&mut self) {
        if self.side.take().is_some() {
            self.outputs.push_back(Output::Drop(Lane::Side));
        }
    }

    pub(super) fn side_headers(&mut self, now: Instant, head: Head) {
        self.counts.contact(now);
        let Some(side) = &mut self.side else { return };
        if side.ask == Ask::Ready {
            let status = head.status;
            self.drop_side();
            self.readiness(status);
            return;
        }
        match Entrance::of(head, side.deadline) {
            Entrance::Open(encoding) => side.stage = Stage::Reading(encoding, Vec::new()),
            Entrance::Refused(refusal) => side.stage = Stage::Refused(refusal),
            Entrance::Foreign(foreign) => self.side_over(now, Reply::Unusable(foreign.text)),
        }
    }

    pub(super) fn side_body(&mut self, now: Instant, bytes: &[u8]) {
        let Some(side) = &mut self.side else { return };
        let enough = match &mut side.stage {
            Stage::Asking => false,
            Stage::Refused(refusal) => refusal.push(bytes),
            Stage::Reading(_, body) if body.len() + bytes.len() > ANSWER => {
                self.side_over(now, Reply::Unusable(format!("an answer of more than {ANSWER} bytes")));
                return;
            }
            Stage::Reading(_, body) => {
                body.extend_from_slice(bytes);
                false
            }
        };
        if enough {
            self.side_end(now);
        }
    }

    pub(super) fn side_end(&mut self, now: Instant) {
        let Some(side) = &mut self.side else { return };
        let reply = match std::mem::replace(&mut side.stage, Stage::Asking) {
            Stage::Asking => Reply::Unusable("an answer without a body".to_owned()),
            Stage::Refused(refusal) => Reply::Refused(refusal.status()),
            Stage::Reading(encoding, body) => Reply::Body(encoding, body),
        };
        self.side_over(now, reply);
    }

    pub(super) fn side_broken(&mut self, now: Instant, error: &TransportError) {
        self.side_over(now, Reply::Broken(error.clone()));
    }

    pub(super) fn tick_side(&mut self, now: Instant) {
        if self.side.as_ref().is_some_and(|side| side.deadline <= now) {
            self.side_over(now, Reply::Silent);
        }
    }

    fn side_over(&mut self, now: Instant, reply: Reply) {
        let Some(side) = self.side.take() else { return };
        self.outputs.push_back(Output::Drop(Lane::Side));
        match side.ask {
            Ask::Revision { known } => self.probed(now, known, reply),
            Ask::Look(sample) => self.looked(now, &sample, reply),
            Ask::Ready => {}
        }
    }
}
