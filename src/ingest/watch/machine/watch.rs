//! Watches: the changes after a revision (K-04, K-05, K-09, K-10, K-23, K-27, K-37).

use std::time::{Duration, Instant};

use super::attempt::{Pause, is_suspicious};
use super::entrance::{Entrance, Refusal};
use super::position::Order;
use super::{Head, Lane, Machine, Main, Told};
use crate::ingest::client::TransportError;
use crate::ingest::objects::Object;
use crate::ingest::objects::wire::{
    ApiStatus, Encoding, FrameError, Framer, Received, Revision, WatchFrame, accept_watch, decode_frame,
};
use crate::ingest::watch::counts::SourcePhase;
use crate::ingest::watch::{Failure, ListReason, SourceEvent};

/// Watches in a row with an unreadable frame after which a list tells what they could not.
const UNREADABLE: u32 = 3;
/// Watches in a row that end early before that is called a failure.
const SHORT: u32 = 3;
/// Watches in a row that show nothing of a revision that moves on before a list tells (K-05).
const UNCONFIRMED: u32 = 3;
/// Answers in a row that our revision is too large before a list tells (K-19, K-23).
const AHEAD: u32 = 2;

/// A watch under way.
#[derive(Debug)]
pub(super) struct Watching {
    /// Its `timeoutSeconds`.
    pub(super) timeout: Duration,
    pub(super) stage: Stage,
}

#[derive(Debug)]
pub(super) enum Stage {
    Asking { deadline: Instant },
    Refused(Refusal),
    Open(Open),
}

/// A watch whose events are being read.
#[derive(Debug)]
pub(super) struct Open {
    encoding: Encoding,
    framer: Framer,
    since: Instant,
    last_byte: Instant,
    /// Something came that was not known.
    shown: bool,
    /// When to probe next, if nothing comes before.
    pub(super) next_probe: Instant,
    /// What has to be shown until when (K-05).
    pub(super) awaiting: Option<(u64, Instant)>,
    /// Probes in a row that were not answered.
    pub(super) silent_probes: u32,
    /// New requests take another connection than this watch.
    pub(super) doubted: bool,
    /// It worked for long enough.
    pub(super) proved: bool,
    /// When it will have; `None` while it is not known to work, and afterwards.
    pub(super) healthy_at: Option<Instant>,
}

impl Open {
    pub(super) fn new(now: Instant, encoding: Encoding, framer: Framer) -> Self {
        Self {
            encoding,
            framer,
            since: now,
            last_byte: now,
            shown: false,
            next_probe: now,
            awaiting: None,
            silent_probes: 0,
            doubted: false,
            proved: false,
            healthy_at: None,
        }
    }
}

impl Watching {
    pub(super) fn open(timeout: Duration, open: Open) -> Self {
        Self { timeout, stage: Stage::Open(open) }
    }

    /// When it counts as dead: the server should have ended it (K-05).
    fn dead_at(&self, open: &Open, grace: Duration) -> Instant {
        open.last_byte + self.timeout + grace
    }

    pub(super) fn due(&self, grace: Duration) -> Instant {
        match &self.stage {
            Stage::Asking { deadline } => *deadline,
            Stage::Refused(refusal) => refusal.deadline,
            Stage::Open(open) => {
                let dead = self.dead_at(open, grace);
                let until = open.awaiting.map_or(dead, |(_, until)| until.min(dead));
                open.healthy_at.map_or(until, |at| at.min(until))
            }
        }
    }

    pub(super) fn postpone(&mut self, by: Duration) {
        match &mut self.stage {
            Stage::Asking { deadline } => *deadline += by,
            Stage::Refused(refusal) => refusal.deadline += by,
            Stage::Open(open) => {
                open.last_byte += by;
                open.next_probe += by;
                if let Some((_, until)) = &mut open.awaiting {
                    *until += by;
                }
                if let Some(at) = &mut open.healthy_at {
                    *at += by;
                }
            }
        }
    }
}

impl<T: Object> Machine<T> {
    /// Whole seconds, different for each watch: not all end at once (K-05).
    pub(super) fn watch_timeout(&mut self) -> Duration {
        let (from, to) = self.limits.deadlines.watch;
        Duration::from_secs(self.random.between(from, to).as_secs().max(1))
    }

    pub(super) fn begin_watch(&mut self, now: Instant) {
        let timeout = self.watch_timeout();
        let path = self.urls.watch(&self.position.revision(), timeout);
        self.send(Lane::Main, path, accept_watch(self.encoding(now)));
        self.counts.set_phase(SourcePhase::Connecting);
        let deadline = now + self.limits.deadlines.headers;
        self.main = Main::Watching(Watching { timeout, stage: Stage::Asking { deadline } });
    }

    pub(super) fn watch_headers(&mut self, now: Instant, head: Head) {
        let most = self.limits.sizes.frame;
        let entrance = Entrance::of(head, now + self.limits.deadlines.headers);
        let Main::Watching(watching) = &mut self.main else { return };
        match entrance {
            Entrance::Foreign(foreign) => self.foreign(now, &foreign),
            Entrance::Refused(refusal) => {
                watching.stage = Stage::Refused(refusal);
                self.answered();
            }
            Entrance::Open(encoding) => {
                watching.stage = Stage::Open(Open::new(now, encoding, Framer::new(encoding, most)));
                self.counts.set_encoding(encoding);
                self.admitted();
                self.watch_is_open(now);
            }
        }
    }

    /// Headers say little: an API server without its store opens watches that stay silent. Right after a list
    /// that is enough; after failures a probe has to confirm it.
    pub(super) fn watch_is_open(&mut self, now: Instant) {
        self.counts.set_phase(SourcePhase::Watching);
        let fresh = std::mem::take(&mut self.fresh);
        let first = match self.told {
            _ if fresh => self.silence(),
            Told::Failed => Duration::ZERO,
            Told::Nothing | Told::Connected => self.limits.deadlines.first_silence,
        };
        if let Some(open) = self.open_watch() {
            open.next_probe = now + first;
        }
        self.probe_pauses.reset();
        if fresh || self.told == Told::Connected {
            self.tell_connected(now);
        }
    }

    /// How long a watch may show nothing before it is probed: not all at once.
    pub(super) fn silence(&mut self) -> Duration {
        let longest = self.limits.deadlines.silence;
        self.random.between(longest.mul_f64(0.9), longest)
    }

    /// The present watch works, as far as is known; when it has for long enough, the next failure is a first one
    /// (K-01).
    pub(super) fn works(&mut self, now: Instant) {
        let healthy_at = now + self.limits.retry.healthy_after;
        if let Some(open) = self.open_watch()
            && !open.proved
            && open.healthy_at.is_none()
        {
            open.healthy_at = Some(healthy_at);
        }
    }

    fn credit(&mut self, now: Instant) {
        if let Some(open) = self.open_watch()
            && open.healthy_at.is_some_and(|at| at <= now)
        {
            open.healthy_at = None;
            open.proved = true;
            self.healthy();
        }
    }

    /// The open watch, if there is one.
    pub(super) fn open_watch(&mut self) -> Option<&mut Open> {
        match &mut self.main {
            Main::Watching(Watching { stage: Stage::Open(open), .. }) => Some(open),
            _ => None,
        }
    }

    pub(super) fn watch_body(&mut self, now: Instant, bytes: &[u8]) {
        let Main::Watching(watching) = &mut self.main else { return };
        match &mut watching.stage {
            Stage::Asking { .. } => {}
            Stage::Refused(refusal) => {
                if refusal.push(bytes) {
                    self.watch_refused(now);
                }
            }
            Stage::Open(open) => {
                open.last_byte = now;
                open.framer.push(bytes);
                self.watch_frames(now);
                self.free_buffer();
            }
        }
    }

    /// Tells every complete frame there is.
    pub(super) fn watch_frames(&mut self, now: Instant) {
        while let Some(open) = self.open_watch() {
            let encoding = open.encoding;
            let frame = match open.framer.next() {
                Ok(Some(frame)) => decode_frame::<T>(encoding, &frame),
                Ok(None) => return,
                Err(error) => Err(error),
            };
            self.counts.frame();
            match frame {
                Ok(frame) => self.watch_frame(now, frame),
                Err(error) => self.watch_unreadable(now, encoding, &error),
            }
        }
    }

    /// Between events a watch holds no memory for them: there are many watches, and most are idle.
    pub(super) fn free_buffer(&mut self) {
        let most = self.limits.sizes.frame;
        if let Some(open) = self.open_watch()
            && open.framer.is_between_frames()
        {
            open.framer = Framer::new(open.encoding, most);
        }
    }

    fn watch_frame(&mut self, now: Instant, frame: WatchFrame<T>) {
        match frame {
            WatchFrame::Added(object) | WatchFrame::Modified(object) => {
                if self.takes(now, &object) {
                    self.looks.told(&object);
                    self.tell(SourceEvent::Apply(object));
                }
            }
            WatchFrame::Deleted(object) => {
                if self.takes(now, &object) {
                    self.looks.deleted(&object.key, object.revision);
                    self.tell(SourceEvent::Delete { key: object.key, revision: object.revision });
                }
            }
            WatchFrame::Bookmark { revision, .. } => self.watch_bookmark(now, revision),
            WatchFrame::Error(status) => self.watch_status(now, &status),
        }
    }

    /// Whether an event is to be told. Revisions of one watch rise: what was told is dropped, and what goes back
    /// without having been told means that the order is lost and only a list can tell (K-19, K-27).
    fn takes(&mut self, now: Instant, object: &Received<T>) -> bool {
        if object.key.name.is_empty() {
            // Which object it is about, only a list can tell (K-38).
            self.relist(now, ListReason::Unreadable);
            return false;
        }
        match self.position.event(&object.key, object.revision) {
            Order::Newer => {
                self.counts.event(now);
                self.moved_on(now);
                true
            }
            Order::Same => {
                self.counts.duplicate();
                false
            }
            Order::Back => {
                self.relist(now, ListReason::Disordered);
                false
            }
        }
    }

    fn watch_bookmark(&mut self, now: Instant, revision: Revision) {
        match self.position.bookmark(revision) {
            Order::Newer => {
                self.moved_on(now);
                if self.told == Told::Connected {
                    self.tell(SourceEvent::Idle);
                }
            }
            // Servers without their store may repeat the last one: no news.
            Order::Same => {}
            Order::Back => self.regressed(now),
        }
    }

    /// The history went back: etcd was restored, or another one answers (K-19).
    pub(super) fn regressed(&mut self, now: Instant) {
        self.count_regression();
        // Told once: the list is not to be counted again.
        self.position.forget();
        self.relist(now, ListReason::Regressed);
    }

    /// The watch shows something new.
    fn moved_on(&mut self, now: Instant) {
        let silence = self.silence();
        let highest = self.position.highest();
        (self.unreadable, self.ahead, self.unconfirmed) = (0, 0, 0);
        if let Some(open) = self.open_watch() {
            open.shown = true;
            open.next_probe = now + silence;
            open.awaiting = open.awaiting.filter(|(wanted, _)| highest.is_some_and(|at| at < *wanted));
        }
        self.tell_connected(now);
    }

    fn watch_unreadable(&mut self, now: Instant, encoding: Encoding, error: &FrameError) {
        if encoding == Encoding::Protobuf {
            self.distrust_protobuf(now);
        }
        self.unreadable += 1;
        if self.unreadable < UNREADABLE {
            self.unusable(now, error);
            return;
        }
        let text = format!("{}: {error}", self.subject());
        self.tell_failed(Failure::Refused(text));
        self.relisted = true;
        self.relist(now, ListReason::Unreadable);
    }

    fn watch_refused(&mut self, now: Instant) {
        let Main::Watching(Watching { stage: Stage::Refused(refusal), .. }) = &self.main else { return };
        let status = refusal.status();
        match status.code {
            406 | 415 if self.encoding(now) == Encoding::Protobuf => self.ask_for_json(now),
            // Our revision means nothing to this server.
            400 | 422 => self.relist(now, ListReason::Expired),
            _ => self.watch_status(now, &status),
        }
    }

    /// An error at the start or in the middle of a watch (K-09, K-10, K-23).
    fn watch_status(&mut self, now: Instant, status: &ApiStatus) {
        if is_expired(status) {
            self.relist(now, ListReason::Expired);
            return;
        }
        if is_ahead(status) {
            self.ahead += 1;
            if self.ahead >= AHEAD {
                self.ahead = 0;
                self.relist(now, ListReason::Regressed);
                return;
            }
        }
        self.refused(now, status);
    }

    pub(super) fn watch_end(&mut self, now: Instant) {
        let Main::Watching(watching) = &self.main else { return };
        match &watching.stage {
            Stage::Asking { .. } => {}
            Stage::Refused(_) => self.watch_refused(now),
            Stage::Open(_) => self.watch_over(now, None),
        }
    }

    pub(super) fn watch_broken(&mut self, now: Instant, error: &TransportError) {
        if self.open_watch().is_none() {
            self.unreachable(now, error);
            return;
        }
        self.limits.watch_broke(now);
        self.watch_over(now, Some(error));
    }

    /// A healthy watch that ends or breaks is taken up at once and without a word: servers end them as they like
    /// (GOAWAY, restarts, their own timeouts). Others wait.
    fn watch_over(&mut self, now: Instant, error: Option<&TransportError>) {
        self.credit(now);
        let healthy_after = self.limits.retry.healthy_after;
        let told = self.told;
        let Some(open) = self.open_watch() else { return };
        let lived = now.saturating_duration_since(open.since);
        // One that is not known to work and ended in order says nothing new by that either.
        if lived >= healthy_after && (told == Told::Connected || error.is_none()) {
            self.short = 0;
            self.take_up(now);
            return;
        }
        self.short += 1;
        match error {
            Some(error) => self.unreachable(now, error),
            None if self.short >= SHORT => {
                let lived = humantime::format_duration(Duration::from_secs(lived.as_secs()));
                self.unusable(now, &format!("watches end at once, the last one after {lived}"));
            }
            None => self.give_up(now, Pause::Usual),
        }
    }

    pub(super) fn tick_watching(&mut self, now: Instant) {
        self.credit(now);
        let deadlines = self.limits.deadlines;
        let Main::Watching(watching) = &self.main else { return };
        if watching.due(deadlines.grace) > now {
            return;
        }
        match &watching.stage {
            Stage::Asking { .. } => {
                let limit = humantime::format_duration(deadlines.headers);
                self.silent(now, &format!("no answer within {limit}"));
            }
            Stage::Refused(_) => self.watch_refused(now),
            Stage::Open(open) if open.awaiting.is_some_and(|(_, until)| until <= now) => {
                let shown = open.shown;
                self.unconfirmed(now, shown);
            }
            Stage::Open(_) => self.take_up(now),
        }
    }

    /// The server's revision moved on and the watch did not show it in time.
    fn unconfirmed(&mut self, now: Instant, shown: bool) {
        self.unconfirmed = if shown { 0 } else { self.unconfirmed + 1 };
        if is_suspicious(self.unconfirmed) {
            self.suspect();
        }
        if self.unconfirmed >= UNCONFIRMED {
            self.unconfirmed = 0;
            self.relist(now, ListReason::Silent);
        } else {
            self.take_up(now);
        }
    }

    /// Another watch from the last revision, at once.
    pub(super) fn take_up(&mut self, now: Instant) {
        self.abandon();
        self.begin(now);
    }
}

/// 410, or what etcd says in its own words when a revision is compacted.
fn is_expired(status: &ApiStatus) -> bool {
    status.code == 410
        || matches!(status.reason.as_str(), "Expired" | "Gone")
        || status.message.contains("required revision has been compacted")
}

/// Our revision is still to come at this server.
fn is_ahead(status: &ApiStatus) -> bool {
    status.causes.iter().any(|cause| cause == "ResourceVersionTooLarge")
        || status.message.contains("Too large resource version")
}
