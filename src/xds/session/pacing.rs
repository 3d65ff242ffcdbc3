//! What is outstanding of one type, and when the next push of it may go (D22).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::xds::status::Report;

/// How long pushes wait for the ACK of what was written before them (D22).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// The first push.
    pub(super) first: Duration,
    /// Every further one, while nothing is acknowledged.
    pub(super) next: Duration,
}

impl Default for Pace {
    /// The longest first wait and the shortest further ones that the rule allows.
    fn default() -> Self {
        Self { first: Duration::from_millis(250), next: Duration::from_secs(5) }
    }
}

impl Pace {
    /// The pace of stream number `stream`: a first wait up to a half shorter and further ones up to a quarter longer, so
    /// that what a thousand proxies do not acknowledge is not written again to all of them at the same moment (X-F02).
    pub fn of_stream(stream: u64) -> Self {
        // Multiples of the golden ratio fall evenly into the unit interval, however many there are.
        let place = stream.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let part = f64::from(u32::try_from(place).expect("32 bits")) / f64::from(u32::MAX);
        let Self { first, next } = Self::default();
        Self { first: first.mul_f64(1.0 - part / 2.0), next: next.mul_f64(1.0 + part / 4.0) }
    }
}

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
    last_version: Option<Arc<str>>,
    acked: Option<(u64, Instant)>,
    error: Option<Arc<str>>,
    nacks: u64,
    responses: u64,
}

impl Pacing {
    /// The nonce of the last response.
    pub(super) fn last_nonce(&self) -> Option<u64> {
        self.last.map(|(nonce, _)| nonce)
    }

    /// When a push may go; `None` means at once.
    pub(super) fn release(&self, pace: Pace) -> Option<Instant> {
        match self.pushed_unacked {
            Some(at) => Some(at + pace.next),
            None => self.waiting_since.map(|at| at + pace.first),
        }
    }

    /// Whether a push must wait at `now`.
    pub(super) fn holds(&self, now: Instant, pace: Pace) -> bool {
        self.release(pace).is_some_and(|at| now < at)
    }

    /// Records a response that will be written; `push` says that it carries a push that pacing may hold.
    pub(super) fn written(&mut self, nonce: u64, version: &str, push: bool, now: Instant) {
        if push && self.waiting_since.is_some() {
            self.pushed_unacked = Some(now);
        }
        self.waiting_since.get_or_insert(now);
        if self.outstanding.len() == MAX_OUTSTANDING {
            self.outstanding.pop_front();
        }
        self.outstanding.push_back((nonce, now));
        self.last = Some((nonce, now));
        self.last_version = Some(version.into());
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
        self.error = Some(message.as_str().into());
        message
    }

    /// The part of a report that it knows.
    pub(super) fn report(&self) -> Report {
        Report {
            sent: self.last,
            version: self.last_version.clone(),
            acked: self.acked,
            unanswered_since: self.outstanding.front().map(|(_, at)| *at),
            error: self.error.clone(),
            nacks: self.nacks,
            responses: self.responses,
            ..Report::default()
        }
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xf11_paces_differ_within_the_rule_and_fall_evenly() {
        let paces: Vec<_> = (0..1000).map(Pace::of_stream).collect();
        for pace in &paces {
            assert!(
                (Duration::from_millis(124)..=Duration::from_millis(250)).contains(&pace.first),
                "{pace:?}"
            );
            assert!((Duration::from_secs(5)..=Duration::from_millis(6250)).contains(&pace.next), "{pace:?}");
        }
        let mut moments: Vec<_> = paces.iter().map(|pace| pace.next.as_millis()).collect();
        moments.sort_unstable();
        // 1 000 over 1 250 ms: in no 25 ms are more than twice those of a perfect spread.
        assert!(moments.windows(40).all(|few| few[39] - few[0] >= 25), "{moments:?}");
    }
}
