//! Lists as streams: every object as an event, then a bookmark (K-24, K-25, K-26).
//!
//! What comes before that bookmark is told as a list that is not complete: its consumer applies nothing of it,
//! and a stream that is cut leaves nothing behind (K-24).

use std::time::{Duration, Instant};

use super::attempt::described;
use super::entrance::{Entrance, Refusal};
use super::rate::Rate;
use super::watch::{Open, Watching};
use super::{Head, Lane, Machine, Main};
use crate::ingest::objects::Object;
use crate::ingest::objects::wire::{
    ApiStatus, Encoding, Framer, Revision, WatchFrame, accept_watch, decode_frame,
};
use crate::ingest::watch::counts::SourcePhase;
use crate::ingest::watch::{Failure, SourceEvent};

use super::attempt::Pause;

/// A streaming list under way.
#[derive(Debug)]
pub(super) struct Streaming {
    /// `timeoutSeconds` of the watch it becomes.
    timeout: Duration,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Asking { deadline: Instant },
    Refused(Refusal),
    Queued(Encoding),
    Reading(Reading),
}

#[derive(Debug)]
struct Reading {
    encoding: Encoding,
    framer: Framer,
    /// When it began, or when the last page's worth of objects was complete.
    since: Instant,
    rate: Rate,
    /// Objects told as there; only these lengthen the time the list may take.
    added: u32,
    /// Events of objects, of whatever kind: each costs memory until the list is complete.
    told: u32,
}

impl Reading {
    /// When the bookmark or as many further objects as a page has must be there (K-26).
    fn deadline(&self, page: Duration) -> Instant {
        self.since + page
    }
}

impl Streaming {
    /// Whether the body waits for a permit.
    pub(super) fn is_queued(&self) -> bool {
        matches!(self.stage, Stage::Queued(_))
    }

    pub(super) fn due(&self, window: Duration, page: Duration) -> Option<Instant> {
        match &self.stage {
            Stage::Asking { deadline } => Some(*deadline),
            Stage::Refused(refusal) => Some(refusal.deadline),
            Stage::Queued(_) => None,
            Stage::Reading(reading) => Some(reading.rate.window_ends(window).min(reading.deadline(page))),
        }
    }

    pub(super) fn postpone(&mut self, by: Duration) {
        match &mut self.stage {
            Stage::Asking { deadline } => *deadline += by,
            Stage::Refused(refusal) => refusal.deadline += by,
            Stage::Queued(_) => {}
            Stage::Reading(reading) => {
                reading.since += by;
                reading.rate.postpone(by);
            }
        }
    }
}

impl<T: Object> Machine<T> {
    pub(super) fn begin_streaming(&mut self, now: Instant) {
        let timeout = self.watch_timeout();
        self.send(Lane::Main, self.urls.streaming_list(timeout), accept_watch(self.encoding(now)));
        self.counts.set_phase(SourcePhase::Listing);
        let deadline = now + self.limits.deadlines.headers;
        self.main = Main::Streaming(Streaming { timeout, stage: Stage::Asking { deadline } });
    }

    pub(super) fn stream_headers(&mut self, now: Instant, head: Head) {
        match Entrance::of(head, now + self.limits.deadlines.headers) {
            Entrance::Foreign(foreign) => self.foreign(now, &foreign),
            Entrance::Refused(refusal) => {
                self.answered();
                self.set_stream_stage(Stage::Refused(refusal));
            }
            Entrance::Open(encoding) => {
                self.admitted();
                self.set_stream_stage(Stage::Queued(encoding));
                self.acquire();
            }
        }
    }

    pub(super) fn stream_permitted(&mut self, now: Instant) {
        let most = self.limits.sizes.frame;
        let Main::Streaming(streaming) = &mut self.main else { return };
        let Stage::Queued(encoding) = streaming.stage else { return };
        streaming.stage = Stage::Reading(Reading {
            encoding,
            framer: Framer::new(encoding, most),
            since: now,
            rate: Rate::new(now),
            added: 0,
            told: 0,
        });
        self.list_begins();
    }

    pub(super) fn stream_body(&mut self, now: Instant, bytes: &[u8]) {
        let Main::Streaming(streaming) = &mut self.main else { return };
        match &mut streaming.stage {
            Stage::Asking { .. } | Stage::Queued(_) => {}
            Stage::Refused(refusal) => {
                if refusal.push(bytes) {
                    self.stream_refused(now);
                }
            }
            Stage::Reading(reading) => {
                reading.rate.add(bytes.len());
                reading.framer.push(bytes);
                self.stream_frames(now);
            }
        }
    }

    fn stream_frames(&mut self, now: Instant) {
        while let Main::Streaming(Streaming { stage: Stage::Reading(reading), .. }) = &mut self.main {
            let encoding = reading.encoding;
            let frame = match reading.framer.next() {
                Ok(Some(frame)) => decode_frame::<T>(encoding, &frame),
                Ok(None) => return,
                Err(error) => Err(error),
            };
            self.counts.frame();
            match frame {
                Ok(frame) => self.stream_frame(now, frame),
                Err(error) => {
                    self.pages_next = true;
                    self.unreadable_list(now, encoding, &error);
                }
            }
        }
        // Whatever follows the bookmark is a watch.
        self.watch_frames(now);
        self.free_buffer();
    }

    fn stream_frame(&mut self, now: Instant, frame: WatchFrame<T>) {
        let page = self.limits.sizes.page_objects.max(1);
        let most = self.limits.sizes.list_objects;
        let Main::Streaming(Streaming { stage: Stage::Reading(reading), .. }) = &mut self.main else {
            return;
        };
        if !matches!(frame, WatchFrame::Bookmark { .. } | WatchFrame::Error(_)) {
            reading.told = reading.told.saturating_add(1);
            if reading.told > most {
                self.pages_next = true;
                self.unusable(now, &format!("a list has more than {most} objects"));
                return;
            }
        }
        match frame {
            WatchFrame::Added(object) => {
                reading.added = reading.added.saturating_add(1);
                if reading.added.is_multiple_of(page) {
                    reading.since = now;
                }
                self.list_item(object);
            }
            WatchFrame::Modified(object) => self.list_item(object),
            WatchFrame::Deleted(object) => {
                self.looks.deleted(&object.key, object.revision);
                self.tell(SourceEvent::InitDelete(object.key));
            }
            WatchFrame::Bookmark { initial_events_end: false, .. } => {}
            WatchFrame::Bookmark { initial_events_end: true, revision } => {
                self.stream_complete(now, revision)
            }
            WatchFrame::Error(status) => self.stream_error(now, &status),
        }
    }

    /// The stream goes on as the watch.
    fn stream_complete(&mut self, now: Instant, revision: Revision) {
        let waiting = Main::Waiting(super::Waiting::until(now));
        let Main::Streaming(Streaming { timeout, stage: Stage::Reading(reading) }) =
            std::mem::replace(&mut self.main, waiting)
        else {
            return;
        };
        self.list_complete(now, revision);
        self.counts.set_encoding(reading.encoding);
        self.counts.set_streamed(true);
        let open = Open::new(now, reading.encoding, reading.framer);
        self.main = Main::Watching(Watching::open(timeout, open));
        self.watch_is_open(now);
    }

    pub(super) fn stream_end(&mut self, now: Instant) {
        let Main::Streaming(streaming) = &self.main else { return };
        if matches!(streaming.stage, Stage::Refused(_)) {
            self.stream_refused(now);
            return;
        }
        self.pages_next = true;
        let text = format!("{}: the stream ended before the list was complete", self.subject());
        self.fail(now, Failure::Unreachable(text), Pause::Usual);
    }

    /// The connection broke. A stream that began is no better than pages the next time.
    pub(super) fn stream_broke_off(&self) -> bool {
        matches!(&self.main, Main::Streaming(Streaming { stage: Stage::Reading(_), .. }))
    }

    fn stream_refused(&mut self, now: Instant) {
        let Main::Streaming(Streaming { stage: Stage::Refused(refusal), .. }) = &self.main else { return };
        let status = refusal.status();
        self.stream_error(now, &status);
    }

    /// K-25: what refuses the parameters is remembered; what says that it cannot now is tried in pages next.
    fn stream_error(&mut self, now: Instant, status: &ApiStatus) {
        match status.code {
            401 | 403 | 404 | 429 => self.refused(now, status),
            406 | 415 if self.encoding(now) == Encoding::Protobuf => self.ask_for_json(now),
            500.. if status.code != 501 => {
                self.pages_next = true;
                self.refused(now, status);
            }
            _ => {
                tracing::debug!(kind = T::KIND, answer = described(status), "lists in pages from now on");
                self.list_in_pages(now, self.limits.deadlines.remembered);
            }
        }
    }

    /// Streaming lists do not work here: pages, at once.
    fn list_in_pages(&mut self, now: Instant, remembered: Duration) {
        self.server.prefers_pages(now + remembered);
        self.counts.fell_back();
        self.abandon();
        self.begin_pages(now, 0);
    }

    pub(super) fn tick_streaming(&mut self, now: Instant) {
        let (deadlines, sizes) = (self.limits.deadlines, self.limits.sizes);
        let Main::Streaming(streaming) = &mut self.main else { return };
        match &mut streaming.stage {
            Stage::Asking { deadline } if *deadline <= now => {
                self.pages_next = true;
                let limit = humantime::format_duration(deadlines.headers);
                self.silent(now, &format!("no answer within {limit}"));
            }
            Stage::Refused(refusal) if refusal.deadline <= now => self.stream_refused(now),
            Stage::Reading(reading) => {
                let late = reading.deadline(deadlines.page) <= now;
                if reading.rate.is_too_slow(now, deadlines.slow, sizes.slow) || late {
                    // Events and no bookmark: the server does not know what it was asked. Nothing at all: it may
                    // be at the moment.
                    let ignored = reading.added > 0;
                    let remembered = if ignored { deadlines.remembered } else { deadlines.withheld };
                    self.list_in_pages(now, remembered);
                }
            }
            _ => {}
        }
    }

    fn set_stream_stage(&mut self, stage: Stage) {
        if let Main::Streaming(streaming) = &mut self.main {
            streaming.stage = stage;
        }
    }
}
