//! When something is due.

use std::time::{Duration, Instant};

use super::{Machine, Main};
use crate::ingest::objects::Object;

impl<T: Object> Machine<T> {
    /// When [`super::Input::Wake`] is due next. Meanwhile the [server](super::Server)'s news are to wake as well.
    pub(super) fn deadline_of_main(&self) -> Option<Instant> {
        let deadlines = &self.limits.deadlines;
        match &self.main {
            Main::Waiting(waiting) => waiting.due(self.server.recoveries(), self.server.next_turn()),
            Main::Pages(pages) => pages.due(deadlines.slow),
            Main::Streaming(streaming) => streaming.due(deadlines.slow, deadlines.page),
            Main::Watching(watching) => Some(watching.due(deadlines.grace)),
        }
    }

    /// The next instant at which something is due.
    pub(in crate::ingest::watch) fn deadline(&self) -> Option<Instant> {
        let side = self.side.as_ref().map(|side| side.deadline).or_else(|| self.next_side());
        [self.deadline_of_main(), side].into_iter().flatten().min()
    }

    /// When the side lane is wanted next.
    fn next_side(&self) -> Option<Instant> {
        let Main::Watching(watching) = &self.main else { return None };
        let super::watch::Stage::Open(open) = &watching.stage else { return None };
        let probe = open.awaiting.is_none().then_some(open.next_probe);
        [probe, self.looks.next()].into_iter().flatten().min()
    }

    /// Whether the body of the main lane is to be read now.
    pub(in crate::ingest::watch) fn reads_main(&self) -> bool {
        match &self.main {
            Main::Waiting(_) => false,
            Main::Pages(pages) => !pages.is_queued(),
            Main::Streaming(streaming) => !streaming.is_queued(),
            Main::Watching(_) => true,
        }
    }

    /// Nothing was read for this long because the consumer was busy: no fault of the server.
    pub(in crate::ingest::watch) fn postpone(&mut self, by: Duration) {
        match &mut self.main {
            Main::Waiting(_) => {}
            Main::Pages(pages) => pages.postpone(by),
            Main::Streaming(streaming) => streaming.postpone(by),
            Main::Watching(watching) => watching.postpone(by),
        }
        if let Some(side) = &mut self.side {
            side.postpone(by);
        }
    }

    /// Does what is due. Each step leaves a state in which nothing of it is due any more.
    pub(super) fn tick(&mut self, now: Instant) {
        self.tick_side(now);
        match &self.main {
            Main::Waiting(_) => self.tick_waiting(now),
            Main::Pages(_) => self.tick_pages(now),
            Main::Streaming(_) => self.tick_streaming(now),
            Main::Watching(_) => self.tick_watching(now),
        }
        self.tick_regressions(now);
        self.tick_probe(now);
    }
}
