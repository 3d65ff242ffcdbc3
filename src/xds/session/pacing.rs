//! What is outstanding of one type, and when the next push of it may go (D22).

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant, SystemTime};

use crate::xds::resource::ResourceType;
use crate::xds::status::TypeStatus;

/// How long the first push waits for the ACK of what was written before it.
pub(super) const FIRST_WAIT: Duration = Duration::from_millis(250);
/// How long every further push waits while nothing is acknowledged.
pub(super) const NEXT_WAIT: Duration = Duration::from_secs(5);
/// Nonces remembered as outstanding; of older ones neither ACK nor NACK is noticed.
const MAX_OUTSTANDING: usize = 256;
/// Longest text kept of a rejection.
const MAX_ERROR: usize = 1024;

/// Responses written and answered, of one type on one stream.
#[derive(Debug, Default)]
pub(super) struct Pacing {
    /// With when each was written.
    outstanding: VecDeque<(u64, Instant)>,
    /// When the oldest response of the outstanding run was written.
    waiting_since: Option<Instant>,
    /// The last push written while something was outstanding.
    pushed_unacked: Option<Instant>,
    last: Option<(u64, Instant)>,
    last_version: String,
    acked: Option<(u64, Instant)>,
    error: Option<String>,
    nacks: u64,
    responses: u64,
}

impl Pacing {
    /// The nonce of the last response.
    pub(super) fn last_nonce(&self) -> Option<u64> {
        self.last.map(|(nonce, _)| nonce)
    }

    /// When a push may go; `None` means at once.
    pub(super) fn release(&self) -> Option<Instant> {
        match self.pushed_unacked {
            Some(at) => Some(at + NEXT_WAIT),
            None => self.waiting_since.map(|at| at + FIRST_WAIT),
        }
    }

    /// Whether a push must wait at `now`.
    pub(super) fn holds(&self, now: Instant) -> bool {
        self.release().is_some_and(|at| now < at)
    }

    /// Records a response that will be written; `push` says that it carries a push that pacing may hold.
    pub(super) fn written(&mut self, nonce: u64, version: String, push: bool, now: Instant) {
        if push && self.waiting_since.is_some() {
            self.pushed_unacked = Some(now);
        }
        self.waiting_since.get_or_insert(now);
        if self.outstanding.len() == MAX_OUTSTANDING {
            self.outstanding.pop_front();
        }
        self.outstanding.push_back((nonce, now));
        self.last = Some((nonce, now));
        self.last_version = version;
        self.responses += 1;
    }

    /// Whether the response `nonce` is neither accepted nor rejected yet.
    pub(super) fn awaits(&self, nonce: u64) -> bool {
        self.outstanding.iter().any(|(known, _)| *known == nonce)
    }

    /// Takes the answer to `nonce`, and with it to everything before; false when it is not outstanding.
    pub(super) fn answered(&mut self, nonce: u64) -> bool {
        let Some(index) = self.outstanding.iter().position(|(known, _)| *known == nonce) else {
            return false;
        };
        self.outstanding.drain(..=index);
        // The client makes progress: what is still outstanding is waited for anew.
        self.pushed_unacked = None;
        self.waiting_since = self.last.filter(|_| !self.outstanding.is_empty()).map(|(_, at)| at);
        true
    }

    /// Records an acceptance.
    pub(super) fn accepted(&mut self, nonce: u64, now: Instant) {
        self.acked = Some((nonce, now));
        self.error = None;
    }

    /// Records a rejection and returns its text as it is kept.
    pub(super) fn rejected(&mut self, message: &str) -> String {
        let message = clean(message);
        self.nacks += 1;
        self.error = Some(message.clone());
        message
    }

    /// Fills in the part of a status that it knows.
    pub(super) fn status(&self, now: Instant, wall: SystemTime) -> TypeStatus {
        let wall_at = |at: Instant| wall.checked_sub(now.saturating_duration_since(at));
        TypeStatus {
            sent_nonce: self.last.map(|(nonce, _)| nonce.to_string()).unwrap_or_default(),
            sent_version: self.last_version.clone(),
            sent_at: self.last.and_then(|(_, at)| wall_at(at)),
            acked_nonce: self.acked.map(|(nonce, _)| nonce.to_string()).unwrap_or_default(),
            acked_at: self.acked.and_then(|(_, at)| wall_at(at)),
            unanswered_since: self.outstanding.front().and_then(|(_, at)| wall_at(*at)),
            last_error: self.error.clone(),
            nacks: self.nacks,
            responses: self.responses,
            ..TypeStatus::default()
        }
    }
}

/// The status of a stream.
pub(super) type Statuses = BTreeMap<ResourceType, TypeStatus>;

/// At most 1 KiB of `message`, without control characters.
fn clean(message: &str) -> String {
    let mut kept = String::new();
    for c in message.chars() {
        let c = if c.is_control() { ' ' } else { c };
        if kept.len() + c.len_utf8() > MAX_ERROR {
            break;
        }
        kept.push(c);
    }
    kept
}
