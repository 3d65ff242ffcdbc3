//! How long changes take to reach one proxy, and until it says so.

use std::collections::VecDeque;
use std::time::Instant;

use super::resource::ResourceType;
use super::times::{Times, observe};

/// Responses whose answers are timed; of more, the oldest are not.
const MOST: usize = 64;

/// Times of one stream. Knows nothing of clocks.
#[derive(Debug, Default)]
pub(super) struct Timing {
    /// When the first change arrived that is not written yet.
    since: Option<Instant>,
    /// When the last response since then was written.
    written: Option<Instant>,
    /// Responses that carry a change and are not answered yet, and when that change arrived.
    unanswered: VecDeque<(ResourceType, u64, Instant)>,
}

impl Timing {
    /// The stream is told of a change that arrived at `since`.
    pub(super) fn told(&mut self, since: Option<Instant>) {
        self.since = self.since.or(since);
    }

    /// A response is written.
    pub(super) fn wrote(&mut self, kind: ResourceType, nonce: &str, now: Instant) {
        let Some(since) = self.since else { return };
        self.written = Some(now);
        if let Ok(nonce) = nonce.parse() {
            if self.unanswered.len() == MOST {
                self.unanswered.pop_front();
            }
            self.unanswered.push_back((kind, nonce, since));
        }
    }

    /// Everything is written: with the last response the proxy has all of the change.
    pub(super) fn done(&mut self, times: &Times) {
        if let (Some(since), Some(written)) = (self.since.take(), self.written.take()) {
            observe(&times.convergence, since, written);
        }
    }

    /// The proxy answers the response `nonce`, and with it those of its type before. A rejection ends the wait without
    /// a time.
    pub(super) fn answered(
        &mut self,
        kind: ResourceType,
        nonce: u64,
        accepted: bool,
        now: Instant,
        times: &Times,
    ) {
        self.unanswered.retain(|(of, number, since)| {
            let answered = *of == kind && *number <= nonce;
            if answered && accepted {
                observe(times.ack.of(kind), *since, now);
            }
            !answered
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use ResourceType::{Cluster, Endpoint};

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn totals(times: &Times) -> [(u64, u64); 3] {
        let of = |histogram: &prometheus::Histogram| {
            (histogram.get_sample_count(), (histogram.get_sample_sum() * 1000.0).round() as u64)
        };
        [of(&times.convergence), of(times.ack.of(Cluster)), of(times.ack.of(Endpoint))]
    }

    #[test]
    fn a_change_counts_until_its_last_response_and_each_until_its_ack() {
        let (times, mut timing, start) = (Times::default(), Timing::default(), Instant::now());
        timing.wrote(Endpoint, "1", start);
        timing.done(&times);
        timing.answered(Endpoint, 1, true, start, &times);
        assert_eq!(totals(&times), [(0, 0); 3], "what the proxy asked for carries no change");
        timing.told(Some(start));
        timing.told(Some(start + ms(5)));
        timing.wrote(Cluster, "2", start + ms(10));
        timing.wrote(Endpoint, "3", start + ms(20));
        timing.answered(Cluster, 2, true, start + ms(30), &times);
        timing.done(&times);
        timing.done(&times);
        assert_eq!(totals(&times), [(1, 20), (1, 30), (0, 0)]);
        timing.answered(Endpoint, 3, true, start + ms(70), &times);
        timing.answered(Endpoint, 3, true, start + ms(80), &times);
        assert_eq!(totals(&times), [(1, 20), (1, 30), (1, 70)]);
    }

    #[test]
    fn an_ack_answers_what_came_before_it_and_a_rejection_has_no_time() {
        let (times, mut timing, start) = (Times::default(), Timing::default(), Instant::now());
        timing.told(Some(start));
        for nonce in ["1", "2", "3"] {
            timing.wrote(Endpoint, nonce, start);
        }
        timing.answered(Endpoint, 2, true, start + ms(1), &times);
        timing.answered(Endpoint, 3, false, start + ms(1), &times);
        assert_eq!(totals(&times)[2].0, 2);
        assert!(timing.unanswered.is_empty());
        for nonce in 0..1000_u64 {
            timing.wrote(Endpoint, &nonce.to_string(), start);
        }
        assert_eq!(timing.unanswered.len(), MOST, "who never answers costs no more");
    }

    #[test]
    fn a_change_without_a_response_for_this_proxy_has_no_time() {
        let (times, mut timing, start) = (Times::default(), Timing::default(), Instant::now());
        timing.told(Some(start));
        timing.done(&times);
        timing.wrote(Endpoint, "1", start + ms(50));
        timing.done(&times);
        assert_eq!(totals(&times), [(0, 0); 3]);
    }
}
