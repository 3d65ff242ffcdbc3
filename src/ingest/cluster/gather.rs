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
use crate::ingest::objects::ObjectKind;
use crate::ingest::options::{ClusterOptions, Selection};
use crate::ingest::problems::Problems;
use crate::ingest::staging::Staging;
use crate::model::ClusterId;
use crate::registry::ClusterTable;

/// How long lists that are complete wait for what they refer to and do not have, where something is served: a pod
/// that came between the lists of pods and of slices, and the node of a pod (D9). Nothing of it is missing in what
/// is served.
const SETTLE: Duration = Duration::from_secs(2);

/// Everything that is being listed.
pub(super) struct Gathering {
    options: signal::Receiver<Arc<ClusterOptions>>,
    plan: Plan,
    status: Status,
    stand_in: StandIn,
    /// Until when the start gate waits (R1.17).
    gate: Option<Instant>,
    /// What is said of what is not shown, and when that is asked for next.
    told: Option<String>,
    again: Option<Instant>,
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
        let plan = generation.plan(&options, None);
        let credentials_due = Instant::now();
        Self { plan, options, status, stand_in, gate, told: None, again: None, credentials_due }
    }

    /// Another one, while what was read before is served.
    pub(super) fn again(
        generation: &Generation,
        options: &signal::Receiver<Arc<ClusterOptions>>,
        errand: Errand,
        plan: Plan,
    ) -> Self {
        let status = Status::new(generation, Some(errand), generation.kinds());
        let (options, stand_in) = (options.clone(), StandIn::keeping(None));
        let credentials_due = Instant::now();
        Self { options, plan, status, stand_in, gate: None, told: None, again: None, credentials_due }
    }

    /// Whether something is served that this takes the place of.
    pub(super) fn replaces(&self) -> bool {
        self.status.is_errand() || self.status.serves_snapshot() || self.stand_in.is_ready()
    }

    /// What it reads.
    pub(super) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The options of now.
    pub(super) fn options(&self) -> signal::Ref<'_, Arc<ClusterOptions>> {
        self.options.borrow()
    }

    /// What is served meanwhile, or will be.
    pub(super) fn stand_in(&self) -> &StandIn {
        &self.stand_in
    }

    /// Whether a kind may not be read, which it might be otherwise.
    pub(super) fn is_forbidden(&self, kind: ObjectKind) -> bool {
        self.status.is_forbidden(kind)
    }

    fn due(&self, now: Instant) -> Option<Instant> {
        let credentials = Some(self.credentials_due);
        [self.gate, self.stand_in.due(now), self.again, credentials].into_iter().flatten().min()
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
            if !self.doubts(&mut gathering, &mut staging, confirmed).await {
                self.tell_doubt(None);
                let Gathering { options, plan, status, stand_in, .. } = gathering;
                return (Reading { options, plan, feed, staging, status }, stand_in);
            }
            drop((feed, staging));
            confirmed = self.pause(&mut gathering, &selection).await == Listed::Complete;
            gathering.plan = self.plan(&gathering.options, None);
        }
    }

    /// Whether too much would go; what was not served yet is, then.
    async fn doubts(&self, gathering: &mut Gathering, staging: &mut Staging, confirmed: bool) -> bool {
        let Some(text) = self.doubt(gathering, staging, confirmed) else {
            return false;
        };
        Counts::add(&self.counts.mass_delete_holds, 1);
        gathering.told = None;
        self.tell_doubt(Some(text));
        gathering.stand_in.hurry();
        self.attend(&mut gathering.stand_in, &mut gathering.status, Instant::now()).await;
        true
    }

    /// Whether something is not shown that is served: that is served, then, until it is shown.
    fn withholds(&self, gathering: &mut Gathering, staging: &mut Staging, feed: &Feed, now: Instant) -> bool {
        let Some(hidden) = self.hidden(gathering, staging) else {
            gathering.again = None;
            return false;
        };
        gathering.stand_in.hurry();
        gathering.again = hidden.list.map(|kind| match gathering.again {
            Some(due) if due > now => due,
            due => {
                due.into_iter().for_each(|_| (feed.relist)(kind));
                now + CONFIRM_AFTER
            }
        });
        if gathering.told.as_ref() != Some(&hidden.text) {
            gathering.told = Some(hidden.text.clone());
            self.tell_doubt(Some(hidden.text));
        }
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
            let shown = staging.is_complete() && !self.withholds(gathering, staging, feed, now);
            if shown && is_settled(gathering, staging, &mut settled_by, now) {
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

    /// Says why what was listed is not served, or that nothing speaks against it.
    pub(super) fn tell_doubt(&self, text: Option<String>) {
        let clusters = self.registry.clusters();
        self.turn.say(|| tell_doubt(&self.problems, clusters, &self.context.cluster, text));
    }

    /// Sets or clears a problem, unless this generation is over.
    pub(super) fn problem(&self, subject: String, text: Option<String>) {
        self.turn.say(|| self.problems.tell(subject, text));
    }
}

/// Whether nothing is waited for any longer that the lists refer to, where something is served.
fn is_settled(gathering: &Gathering, staging: &mut Staging, by: &mut Option<Instant>, now: Instant) -> bool {
    let by = *by.get_or_insert(now + SETTLE);
    // Last: it converts everything.
    !gathering.replaces() || now >= by || staging.is_settled()
}

/// Says why what was listed of a cluster is not served in the place of what is, or that it is moot.
pub(in crate::ingest) fn tell_doubt(
    problems: &Problems,
    clusters: &ClusterTable,
    cluster: &ClusterId,
    text: Option<String>,
) {
    let held = text.is_some();
    problems.tell(format!("cluster {cluster}, replacement"), text);
    clusters.update(cluster, |row| row.replacement_held = held);
}
