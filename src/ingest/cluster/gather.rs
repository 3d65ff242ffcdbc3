//! Lists everything until it may be published. What is served meanwhile, by whomever, stays.

use std::sync::Arc;
use std::time::Duration;

use futures::stream::StreamExt;
use tokio::sync::watch as signal;
use tokio::time::Instant;

use super::feeds::Feed;
use super::holds::CONFIRM_AFTER;
use super::plan::Plan;
use super::stand_in::StandIn;
use super::status::{Errand, Status};
use super::{CREDENTIALS_EVERY, Generation, Reading, STATUS_DELAY};
use crate::ingest::counts::Counts;
use crate::ingest::options::{ClusterOptions, Selection};
use crate::ingest::staging::{Guard, Staging};
use crate::model::Name;

/// How long lists that are complete wait for what they refer to and do not have, where something is served: a pod
/// that came between the lists of pods and of slices, and the node of a pod (D9). Nothing of it is missing in what
/// is served.
const SETTLE: Duration = Duration::from_secs(2);
/// The namespace of the Service that every API server has: its own.
const DEFAULT: &str = "default";

/// Everything that is being listed.
pub(super) struct Gathering {
    options: signal::Receiver<Arc<ClusterOptions>>,
    plan: Plan,
    status: Status,
    stand_in: StandIn,
    /// Until when the start gate waits (R1.17).
    gate: Option<Instant>,
    credentials_due: Instant,
}

/// How a listing ended.
#[derive(Debug, PartialEq, Eq)]
enum Listed {
    /// Everything is there.
    Complete,
    /// Other namespaces were selected meanwhile.
    OtherSelection,
}

impl Gathering {
    /// The first one of a generation.
    pub(super) fn first(generation: &Generation, status: Status, stand_in: StandIn) -> Self {
        let options = generation.options.clone();
        let gate = generation.timeout.map(|timeout| Instant::now() + timeout);
        Self {
            plan: generation.plan(&options, None),
            options,
            status,
            stand_in,
            gate,
            credentials_due: Instant::now(),
        }
    }

    /// Another one, while what was read before is served.
    pub(super) fn again(
        generation: &Generation,
        options: &signal::Receiver<Arc<ClusterOptions>>,
        errand: Errand,
        plan: Plan,
    ) -> Self {
        let status = Status::new(generation, Some(errand), generation.kinds());
        let (stand_in, credentials_due) = (StandIn::keeping(None), Instant::now());
        Self { options: options.clone(), plan, status, stand_in, gate: None, credentials_due }
    }

    /// Whether something is served that this takes the place of.
    fn replaces(&self) -> bool {
        self.status.is_errand() || self.status.serves_snapshot() || self.stand_in.endpoints() > 0
    }

    fn due(&self, now: Instant) -> Option<Instant> {
        [self.gate, self.stand_in.due(now), Some(self.credentials_due)].into_iter().flatten().min()
    }
}

impl Generation {
    /// Lists everything into new staging, until it may be published, and begins anew when other namespaces are to be
    /// read. A list that would take most of what is served, or of what a snapshot has, away is read twice (K-21), and
    /// one without any Service until there are some.
    pub(super) async fn gather(&self, mut gathering: Gathering) -> (Reading, StandIn) {
        let mut confirmed = false;
        loop {
            let selection = gathering.options.borrow_and_update().selection.clone();
            let mut feed = self.open(&gathering.plan);
            gathering.status.begin(&gathering.plan, &feed.counts);
            let mut staging = self.staging(&gathering.plan);
            let listed = self.sync(&mut gathering, &selection, &mut feed, &mut staging).await;
            let wanted = self.plan(&gathering.options, Some(&staging));
            if listed == Listed::OtherSelection || wanted != gathering.plan {
                gathering.plan = wanted;
                continue;
            }
            let believed = confirmed && !self.is_void_for_something(&gathering, &staging);
            if believed || !self.doubts(&mut gathering, &mut staging, Instant::now()).await {
                self.problem(self.doubt_subject(), None);
                let Gathering { options, plan, status, stand_in, .. } = gathering;
                return (Reading { options, plan, feed, staging, status }, stand_in);
            }
            drop((feed, staging));
            confirmed = self.pause(&mut gathering, &selection).await == Listed::Complete;
            gathering.plan = self.plan(&gathering.options, None);
        }
    }

    /// Whether too much would go; what was not served yet is, then.
    async fn doubts(&self, gathering: &mut Gathering, staging: &mut Staging, now: Instant) -> bool {
        let (served, lists) = (self.known(gathering), staging.endpoints());
        if !self.is_void_for_something(gathering, staging) && !self.guard.doubts(served, lists) {
            return false;
        }
        Counts::add(&self.counts.mass_delete_holds, 1);
        let text = format!(
            "lists {lists} endpoints where {served} were known: those stay, and it is listed again after {}s",
            CONFIRM_AFTER.as_secs()
        );
        self.problem(self.doubt_subject(), Some(text));
        gathering.stand_in.hurry();
        self.attend(&mut gathering.stand_in, &mut gathering.status, now).await;
        true
    }

    /// Until every initial list is complete. Nothing is published.
    async fn sync(
        &self,
        gathering: &mut Gathering,
        selection: &Selection,
        feed: &mut Feed,
        staging: &mut Staging,
    ) -> Listed {
        let mut status_due: Option<Instant> = None;
        let mut settled_by: Option<Instant> = None;
        loop {
            let now = Instant::now();
            self.tend(gathering, now).await;
            if self.is_ready(gathering, staging, &mut settled_by) {
                // From here on a wait at the gate is over, whatever becomes of this.
                gathering.gate = None;
                return Listed::Complete;
            }
            let node = staging.next_deadline().map(Instant::from_std);
            let due = [status_due, settled_by, node, gathering.due(now)].into_iter().flatten().min();
            tokio::select! {
                // Unbiased: neither a flood of events nor a deadline may starve the other.
                event = feed.events.next() => {
                    let Some(event) = event else { return std::future::pending().await };
                    self.take_in_batch(event, feed, staging, &mut gathering.status);
                    gathering.status.flush_health();
                    status_due.get_or_insert(now + STATUS_DELAY);
                    if gathering.status.is_failing() {
                        gathering.stand_in.hurry();
                    }
                    tokio::task::yield_now().await;
                }
                changed = gathering.options.changed() => {
                    if changed.is_err() {
                        return std::future::pending().await; // The set is gone: so are we, at once.
                    }
                    gathering.status.write_health();
                    self.configure(staging);
                    if gathering.options.borrow_and_update().selection != *selection {
                        return Listed::OtherSelection;
                    }
                }
                () = tokio::time::sleep_until(due.unwrap_or(now)), if due.is_some() => {
                    let now = Instant::now();
                    staging.advance(now.into_std());
                    if status_due.is_some_and(|due| due <= now) {
                        status_due = None;
                        gathering.status.flush(staging);
                    }
                }
            }
        }
    }

    /// Waits before a list is read for the second time.
    async fn pause(&self, gathering: &mut Gathering, selection: &Selection) -> Listed {
        let end = Instant::now() + CONFIRM_AFTER;
        loop {
            let now = Instant::now();
            self.tend(gathering, now).await;
            if now >= end {
                return Listed::Complete;
            }
            let due = gathering.due(now).map_or(end, |due| due.min(end));
            tokio::select! {
                // Unbiased: both are rare.
                changed = gathering.options.changed() => {
                    if changed.is_err() {
                        return std::future::pending().await;
                    }
                    gathering.status.write_health();
                    if gathering.options.borrow_and_update().selection != *selection {
                        return Listed::OtherSelection;
                    }
                }
                () = tokio::time::sleep_until(due) => {}
            }
        }
    }

    /// What goes on while nothing is complete: the start gate opens in time, the snapshot is served, and credentials
    /// are looked at.
    async fn tend(&self, gathering: &mut Gathering, now: Instant) {
        if gathering.credentials_due <= now {
            gathering.credentials_due = now + CREDENTIALS_EVERY;
            gathering.status.credentials(self.feeds.credentials());
        }
        if gathering.gate.is_some_and(|gate| gate <= now) {
            gathering.gate = None;
            Counts::add(&self.counts.sync_timeouts, 1);
            gathering.status.timed_out();
        }
        self.attend(&mut gathering.stand_in, &mut gathering.status, now).await;
    }

    fn is_ready(&self, gathering: &Gathering, staging: &mut Staging, by: &mut Option<Instant>) -> bool {
        if !staging.is_complete() || self.is_nothing_for_something(gathering, staging) {
            return false;
        }
        let now = Instant::now();
        let by = *by.get_or_insert(now + SETTLE);
        // Last: it converts everything.
        !gathering.replaces() || now >= by || staging.is_settled()
    }

    /// Endpoints that are served, or that a snapshot has.
    fn known(&self, gathering: &Gathering) -> usize {
        self.registry.endpoints_of(&self.context.cluster).max(gathering.stand_in.endpoints())
    }

    /// Whether nothing was listed where something must be, and would take the place of what is known: that is never
    /// believed, however often it is listed.
    fn is_void_for_something(&self, gathering: &Gathering, staging: &Staging) -> bool {
        gathering.replaces() && self.is_void_of(&gathering.plan, staging) && self.known(gathering) > 0
    }

    /// K-31: new credentials that show an API server without a single Service do not replace ones that serve.
    fn is_nothing_for_something(&self, gathering: &Gathering, staging: &Staging) -> bool {
        let refused = self.turn.is_waiting()
            && self.predecessor.is_some()
            && self.is_void_of(&gathering.plan, staging)
            && self.registry.endpoints_of(&self.context.cluster) > 0;
        if refused {
            let text = "they show a cluster without Services; not in use, the old ones stay";
            self.problem(Errand::Credentials.subject(&self.context.cluster), Some(text.to_owned()));
        }
        refused
    }

    /// Whether nothing is there although something must be: every real API server has at least its own Service.
    fn is_void_of(&self, plan: &Plan, staging: &Staging) -> bool {
        self.guard == Guard::On && staging.is_void() && plan.reads(&Name::from(DEFAULT))
    }

    fn doubt_subject(&self) -> String {
        doubt_subject(&self.context.cluster)
    }

    /// Sets or clears a problem, unless this generation is over.
    pub(super) fn problem(&self, subject: String, text: Option<String>) {
        self.turn.say(|| self.problems.tell(subject, text));
    }
}

/// What the problem of lists that are read twice is about.
pub(in crate::ingest) fn doubt_subject(cluster: &crate::model::ClusterId) -> String {
    format!("cluster {cluster}, replacement")
}
