//! Follows what was listed, and lists anew beside it when it must.

use std::collections::BTreeSet;

use futures::stream::{self, StreamExt};
use tokio::time::Instant;

use super::age::Age;
use super::entry_problems::EntryProblems;
use super::feeds::Feed;
use super::gather::Gathering;
use super::holds::Holds;
use super::identity::Verdict;
use super::plan::Plan;
use super::question::Question;
use super::status::Errand;
use super::{CREDENTIALS_EVERY, Generation, REPLAN_DELAY, Reading, STATUS_DELAY, publish};
use crate::ingest::counts::Counts;
use crate::model::Name;
use crate::registry::ClusterWriter;

/// What is served, and what is due of it. Whoever follows it may stop at any time and go on later.
pub(super) struct Live {
    pub(super) reading: Reading,
    holds: Holds,
    entries: EntryProblems,
    age: Age,
    question: Question,
    /// When the first event arrived that is not published yet.
    since: Option<std::time::Instant>,
    status_due: Option<Instant>,
    replan_due: Option<Instant>,
    credentials_due: Instant,
}

/// Why a generation lists everything anew while what it published is served.
enum Again {
    /// Another cluster answers (K-20).
    OtherCluster,
    /// Other namespaces are to be read.
    OtherPlan(Plan),
    /// They were to be, and are not any more.
    AsBefore,
}

impl Live {
    pub(super) fn new(generation: &Generation, reading: Reading) -> Self {
        let mut age = Age::default();
        age.set_policy(reading.options.borrow().stale);
        Self {
            reading,
            holds: Holds::new(&generation.context.cluster, &generation.problems),
            entries: EntryProblems::new(&generation.context.cluster, &generation.problems),
            age,
            question: Question::default(),
            since: None,
            // What is wrong with entries is known once the first of them are published.
            status_due: Some(Instant::now() + STATUS_DELAY),
            replan_due: None,
            credentials_due: Instant::now() + CREDENTIALS_EVERY,
        }
    }

    fn due(&self, now: Instant) -> Option<Instant> {
        let waits = self.reading.staging.next_deadline().map(Instant::from_std);
        let age = self.age.due().filter(|due| *due > now);
        let question = self.question.holds_until(now);
        let looks = Some(self.credentials_due);
        let all = [self.status_due, self.replan_due, waits, self.holds.due(), age, question, looks];
        all.into_iter().flatten().min()
    }

    /// Publishes what differs, unless it is asked whose it is.
    fn publish(&mut self, writer: &mut ClusterWriter) {
        let now = Instant::now();
        if self.question.holds_until(now).is_none() {
            publish(self.reading.staging.take(), self.since.take(), writer);
        }
        let held_back = self.reading.staging.held_back();
        self.holds.update(&held_back, now);
        self.reading.status.holds(held_back.len());
    }
}

impl Generation {
    /// Serves what was read until something else is to be served.
    pub(super) async fn serve_on(&self, live: &mut Live, writer: &mut ClusterWriter) -> Reading {
        loop {
            match self.follow(live, writer, false).await {
                Again::OtherCluster => return self.exchange(live, writer).await,
                Again::OtherPlan(plan) => {
                    if let Some(reading) = self.replan(live, writer, plan).await {
                        return reading;
                    }
                }
                Again::AsBefore => {}
            }
        }
    }

    /// Lists what is selected now while what was selected before is followed, and stays if that is never complete.
    async fn replan(&self, live: &mut Live, writer: &mut ClusterWriter, plan: Plan) -> Option<Reading> {
        tracing::info!("other namespaces are to be read");
        let errand = Errand::Namespaces;
        let gathering = Gathering::again(self, &live.reading.options, errand, plan);
        let listed = tokio::select! {
            // What is served first: it may find that nothing else is to be listed. It waits after every turn.
            biased;
            again = self.follow(live, writer, true) => Err(again),
            (reading, _) = self.gather(gathering) => Ok(reading),
        };
        match listed {
            Ok(reading) => {
                // Whoever takes its place goes on counting there.
                live.reading.status.flush(&live.reading.staging);
                Some(reading)
            }
            Err(again) => {
                self.call_off(errand);
                match again {
                    Again::OtherCluster => Some(self.exchange(live, writer).await),
                    Again::AsBefore | Again::OtherPlan(_) => None,
                }
            }
        }
    }

    /// Lists the cluster that answers in the place of the one that is served, which ages.
    async fn exchange(&self, live: &mut Live, writer: &mut ClusterWriter) -> Reading {
        Counts::add(&self.counts.cluster_swaps, 1);
        tracing::warn!("another cluster answers; what was read is served until it is listed");
        live.reading.feed =
            Feed { events: stream::pending().boxed(), relist: Box::new(|_| ()), counts: Vec::new() };
        live.reading.status.flush(&live.reading.staging);
        live.reading.status.lost("another cluster answers in its place");
        let plan = self.plan(&live.reading.options, None);
        let gathering = Gathering::again(self, &live.reading.options, Errand::OtherCluster, plan);
        tokio::select! {
            // Unbiased: each goes on while the other waits.
            never = self.grow_old(live, writer) => match never {},
            (reading, _) = self.gather(gathering) => reading,
        }
    }

    /// What was read ages; nothing else of it can change.
    async fn grow_old(&self, live: &mut Live, writer: &mut ClusterWriter) -> std::convert::Infallible {
        loop {
            let now = Instant::now();
            self.judge(live, writer, now);
            let due = live.age.due().filter(|due| *due > now);
            tokio::select! {
                // Unbiased: both are rare.
                changed = live.reading.options.changed() => {
                    if changed.is_err() {
                        return std::future::pending().await;
                    }
                    live.age.set_policy(live.reading.options.borrow_and_update().stale);
                    live.reading.status.write_health();
                }
                () = tokio::time::sleep_until(due.unwrap_or(now)), if due.is_some() => {}
            }
        }
    }

    /// What is told of an errand that was called off is moot.
    fn call_off(&self, errand: Errand) {
        self.problem(errand.subject(&self.context.cluster), None);
        self.tell_doubt(None);
    }

    fn judge(&self, live: &mut Live, writer: &mut ClusterWriter, now: Instant) {
        self.weigh(&mut live.age, live.reading.status.stale_since(), writer, now);
    }

    /// Publishes what happens, batch by batch, until everything is to be listed anew. Stops at every `await` without
    /// harm.
    async fn follow(&self, live: &mut Live, writer: &mut ClusterWriter, replanning: bool) -> Again {
        loop {
            let now = Instant::now();
            self.judge(live, writer, now);
            let due = live.due(now);
            tokio::select! {
                // Unbiased: a flood of events must not hold back the rest for ever.
                event = live.reading.feed.events.next() => {
                    let Some(event) = event else { return std::future::pending().await };
                    let Reading { feed, staging, status, .. } = &mut live.reading;
                    let news = self.take_in_batch(event, feed, staging, status);
                    live.since = live.since.or(news.since);
                    if news.listed && !self.identities.pin(&self.context.cluster).is_empty() {
                        live.question.ask(&self.feeds, Instant::now());
                    }
                    if news.namespaces {
                        if self.is_other(&live.reading.staging.uid()) {
                            return Again::OtherCluster;
                        }
                        live.replan_due = live.replan_due.or_else(|| self.replan_due(live, replanning));
                    }
                    live.publish(writer);
                    self.export(&mut live.reading.staging);
                    self.tell_entries(&mut live.reading.staging);
                    live.reading.status.flush_health();
                    live.status_due.get_or_insert_with(|| Instant::now() + STATUS_DELAY);
                    tokio::task::yield_now().await;
                }
                uid = live.question.answer(&self.feeds) => {
                    if self.is_other(&uid) {
                        return Again::OtherCluster;
                    }
                    live.publish(writer);
                }
                changed = live.reading.options.changed() => {
                    if changed.is_err() {
                        return std::future::pending().await; // The set is gone: so are we, at once.
                    }
                    live.age.set_policy(live.reading.options.borrow_and_update().stale);
                    self.configure(&mut live.reading.staging);
                    live.publish(writer);
                    live.reading.status.write_health();
                    if let Some(again) = self.settle_plan(live, replanning) {
                        return again;
                    }
                }
                () = tokio::time::sleep_until(due.unwrap_or(now)), if due.is_some() => {
                    if let Some(again) = self.on_time(live, writer, replanning) {
                        return again;
                    }
                }
            }
        }
    }

    /// Does what is due.
    fn on_time(&self, live: &mut Live, writer: &mut ClusterWriter, replanning: bool) -> Option<Again> {
        let now = Instant::now();
        if live.status_due.is_some_and(|due| due <= now) {
            live.status_due = None;
            live.reading.status.flush(&live.reading.staging);
            self.turn.say(|| live.entries.update(live.reading.staging.entry_problems()));
        }
        if live.credentials_due <= now {
            live.credentials_due = now + CREDENTIALS_EVERY;
            live.reading.status.credentials(self.feeds.credentials());
        }
        live.reading.staging.advance(now.into_std());
        live.publish(writer);
        let ripe = live.holds.ripe(now);
        ripe.iter().for_each(|(kind, scope)| live.reading.staging.confirm(*kind, scope));
        // Every scope of a kind is listed together.
        let kinds: BTreeSet<_> = ripe.into_iter().map(|(kind, _)| kind).collect();
        kinds.into_iter().for_each(|kind| (live.reading.feed.relist)(kind));
        live.replan_due.take_if(|due| *due <= now)?;
        self.settle_plan(live, replanning)
    }

    /// Looks at what is to be read.
    fn settle_plan(&self, live: &mut Live, replanning: bool) -> Option<Again> {
        live.replan_due = None;
        let wanted = self.plan(&live.reading.options, Some(&live.reading.staging));
        match (wanted == live.reading.plan, replanning) {
            (true, true) => Some(Again::AsBefore),
            (false, false) => Some(Again::OtherPlan(wanted)),
            _ => None,
        }
    }

    /// Whether and when to look again at what is to be read, after a namespace came, went or changed.
    fn replan_due(&self, live: &Live, replanning: bool) -> Option<Instant> {
        let wanted = self.plan(&live.reading.options, Some(&live.reading.staging));
        ((wanted == live.reading.plan) == replanning).then(|| Instant::now() + REPLAN_DELAY)
    }

    fn is_other(&self, uid: &Name) -> bool {
        self.identities.check(&self.context.cluster, uid) == Verdict::Other
    }
}
