//! Lists in pages (K-03, K-07, K-08, K-11, K-37).

use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::attempt::Pause;
use super::entrance::{Entrance, Refusal};
use super::position::Order;
use super::rate::Rate;
use super::{Head, Lane, Machine, Main, Output, Plan};
use crate::ingest::objects::Object;
use crate::ingest::objects::wire::{Encoding, ListPage, Received, Revision, accept_list, decode_list};
use crate::ingest::watch::counts::SourcePhase;
use crate::ingest::watch::permits::Pool;
use crate::ingest::watch::{Failure, ListReason, SourceEvent};

/// How often a list begins again at once because its pages expired (K-11).
const RESTARTS: u32 = 3;
/// Pages of one list: what has more makes no progress.
const MOST: u32 = 20_000;
/// Bytes of the largest object: pages of fewer objects than fit are of no use against a body that is too large.
const LARGEST: usize = 4 << 20;
/// Pages of so many times fewer objects after one that was too large, and of so many more when there is room.
const STEP: u32 = 4;

/// A list in pages under way.
#[derive(Debug)]
pub(super) struct Pages {
    /// Of the page asked for; `None` for the first one.
    token: Option<String>,
    /// Of the first page. A watch goes on from it: whatever a later page shows beyond comes again.
    revision: Option<Revision>,
    progress: Progress,
    deadline: Instant,
    stage: Stage,
}

/// What of a list was asked for and told.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    restarts: u32,
    pages: u32,
    objects: u32,
    /// Bytes of the largest page.
    largest: usize,
}

#[derive(Debug)]
enum Stage {
    Asking,
    Refused(Refusal),
    Queued { encoding: Encoding, since: Instant },
    Reading { encoding: Encoding, body: BytesMut, rate: Rate },
}

impl Pages {
    /// Whether the body waits for a permit.
    pub(super) fn is_queued(&self) -> bool {
        matches!(self.stage, Stage::Queued { .. })
    }

    pub(super) fn due(&self, window: Duration) -> Option<Instant> {
        match &self.stage {
            Stage::Asking => Some(self.deadline),
            Stage::Refused(refusal) => Some(refusal.deadline),
            Stage::Queued { .. } => None,
            Stage::Reading { rate, .. } => Some(self.deadline.min(rate.window_ends(window))),
        }
    }

    pub(super) fn postpone(&mut self, by: Duration) {
        self.deadline += by;
        match &mut self.stage {
            Stage::Refused(refusal) => refusal.deadline += by,
            Stage::Reading { rate, .. } => rate.postpone(by),
            Stage::Asking | Stage::Queued { .. } => {}
        }
    }
}

impl<T: Object> Machine<T> {
    /// Begins the planned list, as a stream where that works.
    pub(super) fn begin_list(&mut self, now: Instant) {
        if self.server.streams_lists(now) && !self.pages_next {
            self.begin_streaming(now);
        } else {
            self.begin_pages(now, 0);
        }
    }

    pub(super) fn begin_pages(&mut self, now: Instant, restarts: u32) {
        self.request_page(now, None, None, Progress { restarts, ..Progress::default() });
    }

    fn request_page(
        &mut self,
        now: Instant,
        token: Option<String>,
        revision: Option<Revision>,
        progress: Progress,
    ) {
        let path = self.urls.page(self.page_objects, token.as_deref());
        self.send(Lane::Main, path, accept_list(self.encoding(now)));
        self.counts.set_phase(SourcePhase::Listing);
        let deadline = now + self.limits.deadlines.page;
        self.main = Main::Pages(Pages { token, revision, progress, deadline, stage: Stage::Asking });
    }

    pub(super) fn page_headers(&mut self, now: Instant, head: Head) {
        match Entrance::of(head, now + self.limits.deadlines.headers) {
            Entrance::Foreign(foreign) => self.foreign(now, &foreign),
            Entrance::Refused(refusal) => {
                self.answered();
                self.set_page_stage(Stage::Refused(refusal));
            }
            Entrance::Open(encoding) => {
                self.admitted();
                self.set_page_stage(Stage::Queued { encoding, since: now });
                self.acquire();
            }
        }
    }

    /// D33: the headers are there, so it is a server that answers.
    pub(super) fn acquire(&mut self) {
        self.permit = true;
        self.counts.set_phase(SourcePhase::Queued);
        self.outputs.push_back(Output::Acquire(self.server.pool()));
    }

    pub(super) fn page_permitted(&mut self, now: Instant) {
        let Main::Pages(pages) = &mut self.main else { return };
        let Stage::Queued { encoding, since } = &pages.stage else { return };
        pages.deadline += now.saturating_duration_since(*since);
        pages.stage = Stage::Reading { encoding: *encoding, body: BytesMut::new(), rate: Rate::new(now) };
    }

    pub(super) fn page_body(&mut self, now: Instant, bytes: &[u8]) {
        let most = self.limits.sizes.page;
        let Main::Pages(pages) = &mut self.main else { return };
        match &mut pages.stage {
            Stage::Asking | Stage::Queued { .. } => {}
            Stage::Refused(refusal) => {
                if refusal.push(bytes) {
                    self.page_refused(now);
                }
            }
            Stage::Reading { body, rate, .. } => {
                rate.add(bytes.len());
                if body.len() + bytes.len() > most {
                    self.smaller_pages();
                    self.unusable(now, &format!("a page has more than {most} bytes"));
                } else {
                    body.extend_from_slice(bytes);
                }
            }
        }
    }

    pub(super) fn page_end(&mut self, now: Instant) {
        let Main::Pages(pages) = &mut self.main else { return };
        match std::mem::replace(&mut pages.stage, Stage::Asking) {
            Stage::Reading { encoding, body, .. } => {
                pages.progress.largest = pages.progress.largest.max(body.len());
                self.release();
                match decode_list::<T>(encoding, &body) {
                    Ok(page) => self.page_complete(now, page),
                    Err(error) => self.unreadable_list(now, encoding, &error),
                }
            }
            refused @ Stage::Refused(_) => {
                self.set_page_stage(refused);
                self.page_refused(now);
            }
            Stage::Asking | Stage::Queued { .. } => self.unusable(now, &"an answer without a body"),
        }
    }

    /// Not a list, or not in the encoding it says.
    pub(super) fn unreadable_list(&mut self, now: Instant, encoding: Encoding, why: &dyn std::fmt::Display) {
        if encoding == Encoding::Protobuf {
            self.distrust_protobuf(now);
        }
        self.server.set_pool(Pool::Suspect);
        self.unusable(now, why);
    }

    fn page_complete(&mut self, now: Instant, page: ListPage<T>) {
        let Main::Pages(pages) = &mut self.main else { return };
        let first = pages.token.is_none();
        let same = page.next.is_some() && page.next == pages.token;
        let mut progress = pages.progress;
        progress.pages += 1;
        let objects = u32::try_from(page.items.len()).unwrap_or(u32::MAX);
        progress.objects = progress.objects.saturating_add(objects);
        let most = self.limits.sizes.list_objects;
        if same {
            return self.unusable(now, &"a page names itself as the next one");
        }
        if progress.pages > MOST || progress.objects > most {
            self.larger_pages(progress.largest);
            return self.unusable(now, &format!("a list has more than {MOST} pages or {most} objects"));
        }
        let revision = pages.revision.take().unwrap_or(page.revision);
        if first {
            self.list_begins();
        }
        for item in page.items {
            self.list_item(item);
        }
        match page.next {
            Some(token) => self.request_page(now, Some(token), Some(revision), progress),
            None => {
                self.larger_pages(progress.largest);
                self.counts.set_streamed(false);
                self.list_complete(now, revision);
                self.begin(now);
            }
        }
    }

    /// K-37, from the next list on.
    fn smaller_pages(&mut self) {
        let least = u32::try_from(self.limits.sizes.page / LARGEST).unwrap_or(u32::MAX).max(1);
        self.page_objects = self.page_objects.min((self.page_objects / STEP).max(least));
    }

    /// The next list may have larger pages, if those of this one leave room: what was too large may have been no
    /// page at all, or objects that are gone.
    fn larger_pages(&mut self, largest: usize) {
        if largest.saturating_mul(2 * STEP as usize) <= self.limits.sizes.page {
            self.page_objects = self.page_objects.saturating_mul(STEP).min(self.limits.sizes.page_objects);
        }
    }

    /// A complete list follows.
    pub(super) fn list_begins(&mut self) {
        self.looks.list_begins();
        self.tell(SourceEvent::Init);
    }

    /// An object of it.
    pub(super) fn list_item(&mut self, item: Received<T>) {
        self.looks.listed(&item);
        self.tell(SourceEvent::InitApply(item));
    }

    /// It is complete: a generation begins, whatever the revision (D32).
    pub(super) fn list_complete(&mut self, now: Instant, revision: Revision) {
        let Plan::List(mut reason) = self.plan else { return };
        if revision.number().is_none() {
            self.counts.opaque();
        }
        if self.position.list(revision) == Order::Back {
            self.count_regression();
            reason = ListReason::Regressed;
        }
        self.release();
        self.server.set_pool(Pool::Sound);
        self.looks.list_complete(now, &self.limits.deadlines, &mut self.random);
        self.counts.listed(reason);
        self.counts.event(now);
        self.tell(SourceEvent::InitDone { reason });
        self.plan = Plan::Watch;
        self.pages_next = false;
        self.fresh = true;
        self.is_served = true;
        (self.unreadable, self.ahead, self.unconfirmed) = (0, 0, 0);
    }

    /// An error that has explained itself.
    pub(super) fn page_refused(&mut self, now: Instant) {
        let Main::Pages(pages) = &self.main else { return };
        let Stage::Refused(refusal) = &pages.stage else { return };
        let (status, restarts) = (refusal.status(), pages.progress.restarts);
        let is_later_page = pages.token.is_some();
        match status.code {
            410 if is_later_page && restarts < RESTARTS => {
                self.counts.restarted();
                self.outputs.push_back(Output::Drop(Lane::Main));
                self.begin_pages(now, restarts + 1);
            }
            406 | 415 if self.encoding(now) == Encoding::Protobuf => self.ask_for_json(now),
            _ => self.refused(now, &status),
        }
    }

    /// The same again, in JSON.
    pub(super) fn ask_for_json(&mut self, now: Instant) {
        self.distrust_protobuf(now);
        self.abandon();
        self.begin(now);
    }

    pub(super) fn tick_pages(&mut self, now: Instant) {
        let (window, least) = (self.limits.deadlines.slow, self.limits.sizes.slow);
        let Main::Pages(pages) = &mut self.main else { return };
        let drips = match &mut pages.stage {
            Stage::Reading { rate, .. } => rate.is_too_slow(now, window, least),
            _ => false,
        };
        match &pages.stage {
            Stage::Refused(refusal) if refusal.deadline <= now => self.page_refused(now),
            Stage::Asking | Stage::Reading { .. } if pages.deadline <= now => {
                let limit = humantime::format_duration(self.limits.deadlines.page);
                let text = format!("no complete page within {limit}");
                if matches!(pages.stage, Stage::Asking) {
                    self.silent(now, &text);
                } else {
                    self.suspect();
                    self.too_slow(now, &text);
                }
            }
            _ if drips => {
                let window = humantime::format_duration(window);
                let text = format!("{}: fewer than {least} bytes within {window}", self.subject());
                self.suspect();
                self.fail(now, Failure::Unreachable(text), Pause::Usual);
            }
            _ => {}
        }
    }

    fn set_page_stage(&mut self, stage: Stage) {
        if let Main::Pages(pages) = &mut self.main {
            pages.stage = stage;
        }
    }
}
