//! What the table of clusters says of a generation.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::Instant;

use super::Generation;
use super::plan::Plan;
use super::turn::Turn;
use crate::ingest::objects::ObjectKind;
use crate::ingest::objects::wire::Encoding;
use crate::ingest::problems::Problems;
use crate::ingest::staging::{Scope, Staging};
use crate::ingest::watch::{Failure, ListReason, SourceCounts};
use crate::model::{
    ApiFacts, ClusterHealth, ClusterId, ClusterStatus, CredentialFacts, Moment, Need, Restored, Served,
    SourceCounters, SourceState, SourceStatus, StaleCause,
};
use crate::registry::Registry;

/// Why everything is read once more while something is served: what the troubles of that are told as, and the
/// part of their text that says what happens meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ingest) enum Errand {
    /// New credentials (K-31).
    Credentials,
    /// Other namespaces were selected.
    Namespaces,
    /// Another cluster answers (K-20).
    OtherCluster,
}

impl Errand {
    /// What its problems are about.
    pub(in crate::ingest) fn subject(self, cluster: &ClusterId) -> String {
        let what = match self {
            Self::Credentials => "new credentials",
            Self::Namespaces => "namespaces",
            Self::OtherCluster => "exchange",
        };
        format!("cluster {cluster}, {what}")
    }

    fn meanwhile(self) -> &'static str {
        match self {
            Self::Credentials => "not in use, the old ones stay",
            Self::Namespaces => "not in use, what was selected before stays",
            Self::OtherCluster => "not in use, what was read before another cluster answered stays",
        }
    }
}

/// The health of one reading of a cluster, from the state of its sources.
pub(super) struct Status {
    registry: Arc<Registry>,
    problems: Arc<Problems>,
    turn: Arc<Turn>,
    cluster: ClusterId,
    /// Something else is served: the row is not this one's, and its troubles are problems.
    errand: Option<Errand>,
    /// The trouble that was told of an errand.
    told: Option<String>,
    served: Served,
    sources: BTreeMap<ObjectKind, SourceStatus>,
    /// What those of each kind sum up: no source of one namespace hides how another is.
    parts: BTreeMap<ObjectKind, BTreeMap<Scope, SourceStatus>>,
    /// What the sources of each kind count, and what those of earlier readings counted.
    counts: BTreeMap<ObjectKind, Vec<Arc<SourceCounts>>>,
    earlier: BTreeMap<ObjectKind, SourceCounters>,
    holds: usize,
    /// Health may differ from what the row says.
    changed: bool,
}

/// The moment by the runtime's clock, which tests may hold.
fn now() -> Moment {
    Instant::now().into_std().into()
}

/// What time it is by the runtime's clock, which tests may hold.
fn time_of_day() -> SystemTime {
    SystemTime::now() + Instant::now().into_std().saturating_duration_since(std::time::Instant::now())
}

/// Whether nothing can be served without this kind (K-45).
pub(super) fn is_required(kind: ObjectKind) -> bool {
    need(kind) == Need::Required
}

/// What a cluster is without this kind.
fn need(kind: ObjectKind) -> Need {
    match kind {
        ObjectKind::Service | ObjectKind::EndpointSlice => Need::Required,
        ObjectKind::Pod => Need::Current,
        ObjectKind::Namespace | ObjectKind::Node => Need::Expected,
        _ => Need::AddOn,
    }
}

/// A source that has not been heard.
fn fresh(kind: ObjectKind, now: Moment) -> SourceStatus {
    SourceStatus::new(now, need(kind))
}

impl Status {
    /// For one reading of these kinds. A snapshot that is served stays served until that is complete.
    pub(super) fn new(
        generation: &Generation,
        errand: Option<Errand>,
        kinds: impl IntoIterator<Item = ObjectKind>,
    ) -> Self {
        let cluster = generation.context.cluster.clone();
        let restored = |row: &ClusterStatus| row.restored.as_ref().map(|restored| restored.confirmed);
        let confirmed = generation.registry.clusters().look(&cluster, restored).flatten();
        let served = confirmed.map_or(Served::Nothing, Served::Snapshot);
        let now = now();
        let sources = kinds.into_iter().map(|kind| (kind, fresh(kind, now))).collect();
        Self {
            registry: Arc::clone(&generation.registry),
            problems: Arc::clone(&generation.problems),
            turn: Arc::clone(&generation.turn),
            cluster,
            errand,
            told: None,
            served,
            sources,
            parts: BTreeMap::new(),
            counts: BTreeMap::new(),
            earlier: BTreeMap::new(),
            holds: 0,
            changed: false,
        }
    }

    /// Whether a snapshot is served.
    pub(super) fn serves_snapshot(&self) -> bool {
        matches!(self.served, Served::Snapshot(_))
    }

    /// Whether something is served that this reading is to take the place of.
    pub(super) fn is_errand(&self) -> bool {
        self.errand.is_some()
    }

    /// The sources of this plan are heard from now on. What those before them counted stays counted.
    pub(super) fn begin(&mut self, plan: &Plan, counts: &[(ObjectKind, Arc<SourceCounts>)]) {
        let now = now();
        for (kind, source) in &mut self.sources {
            let mut before = self.parts.remove(kind).unwrap_or_default();
            let scopes = plan.scopes(*kind).into_iter();
            let parts = scopes.map(|scope| {
                let part = before.remove(&scope).unwrap_or_else(|| fresh(*kind, now));
                (scope, part)
            });
            let parts: BTreeMap<_, _> = parts.collect();
            self.changed |= source.summarize(now, parts.values());
            self.parts.insert(*kind, parts);
            let sum = counters(self.counts.remove(kind).iter().flatten());
            let earlier = self.earlier.entry(*kind).or_default();
            *earlier = sum.after(earlier).done();
        }
        for (kind, counts) in counts {
            self.counts.entry(*kind).or_default().push(Arc::clone(counts));
        }
    }

    /// A part of a list arrived.
    pub(super) fn heard(&mut self, kind: ObjectKind, scope: &Scope) {
        self.source(kind, scope, SourceStatus::heard);
    }

    /// A list is complete.
    pub(super) fn listed(&mut self, kind: ObjectKind, scope: &Scope) {
        self.source(kind, scope, SourceStatus::listed);
    }

    /// The watch of a kind works: it was established, or told of something, or a probe found it current.
    pub(super) fn up(&mut self, kind: ObjectKind, scope: &Scope) {
        self.source(kind, scope, SourceStatus::watched);
    }

    /// The watch of a kind told of a change.
    pub(super) fn event(&mut self, kind: ObjectKind, scope: &Scope) {
        self.source(kind, scope, SourceStatus::changed);
    }

    /// The watch of a kind does not work.
    pub(super) fn down(&mut self, kind: ObjectKind, scope: &Scope, failure: &Failure) {
        self.source(kind, scope, |source, now| source.failed(now, state(failure)));
    }

    /// What is served cannot be read any more.
    pub(super) fn lost(&mut self, why: &str) {
        let now = now();
        for (kind, parts) in &mut self.parts {
            for part in parts.values_mut() {
                part.failed(now, SourceState::Failing(StaleCause::Refused(why.to_owned())));
            }
            if let Some(source) = self.sources.get_mut(kind) {
                source.summarize(now, parts.values());
            }
        }
        self.write_health();
    }

    /// Changes the state of one source. Cost ∝ the sources of its kind when the state differs, else a look.
    fn source(
        &mut self,
        kind: ObjectKind,
        scope: &Scope,
        change: impl FnOnce(&mut SourceStatus, Moment) -> bool,
    ) {
        let (Some(parts), Some(source)) = (self.parts.get_mut(&kind), self.sources.get_mut(&kind)) else {
            return;
        };
        let Some(part) = parts.get_mut(scope) else {
            return;
        };
        let now = now();
        if change(part, now) {
            self.changed |= source.summarize(now, parts.values());
        } else {
            source.met(part);
        }
    }

    /// Whether the API server did not answer, or not as it should, and nothing worked since. A kind that may not
    /// be read, or that it does not have, is an answer.
    pub(super) fn is_failing(&self) -> bool {
        self.sources.values().any(SourceStatus::is_failing)
    }

    /// Whether a kind may not be read in some part.
    pub(super) fn is_forbidden(&self, kind: ObjectKind) -> bool {
        let mut parts = self.parts.get(&kind).into_iter().flatten();
        parts.any(|(_, part)| matches!(part.state, SourceState::Forbidden(_)))
    }

    /// Since when what is served may be out of date, by the runtime's clock; `None` while it is not.
    pub(super) fn stale_since(&self) -> Option<Moment> {
        match self.served {
            Served::Snapshot(confirmed) => Some(confirmed),
            Served::Live => ClusterHealth::lost_since(self.sources.values()),
            Served::Nothing => None,
        }
    }

    /// It did not sync in time (R1.17).
    pub(super) fn timed_out(&mut self) {
        tracing::warn!(cluster = %self.cluster, "cluster did not sync in time; going on without it");
        self.row(|row| {
            row.timed_out = true;
            row.sync_timeouts += 1;
        });
    }

    /// A snapshot is served until this generation is ready; `show` tells the rest of it.
    pub(super) fn restored(&mut self, restored: Restored, show: impl FnOnce(&mut ClusterStatus)) {
        self.served = Served::Snapshot(restored.confirmed);
        self.row(|row| {
            show(row);
            row.restored = Some(restored);
        });
        self.write_health();
    }

    /// What is known of the credentials in use (K-18). Of those that are only tried nothing is told.
    pub(super) fn credentials(&self, facts: CredentialFacts) {
        if !self.is_errand() {
            let subject = format!("cluster {}, credentials", self.cluster);
            self.tell(subject, facts.trouble(time_of_day()));
            self.row(|row| row.credentials = facts);
        }
    }

    /// How many kinds have a mass deletion held back (K-21).
    pub(super) fn holds(&mut self, kinds: usize) {
        if std::mem::replace(&mut self.holds, kinds) != kinds {
            self.row(|row| row.mass_delete_holds = kinds);
        }
    }

    /// Takes the generation's turn to serve, unless it was called off.
    pub(super) fn take_turn(&mut self) -> bool {
        self.told = None;
        let (problems, subject) = (&self.problems, Errand::Credentials.subject(&self.cluster));
        // Whoever comes next tells its own troubles under the same subject, and must not find them taken back.
        self.turn.take(|| problems.clear(&subject))
    }

    /// What was read is served from now on.
    pub(super) fn synced(&mut self, staging: &Staging) {
        if let Some(errand) = self.errand.take() {
            self.inherit();
            if self.told.take().is_some() {
                self.tell(errand.subject(&self.cluster), None);
            }
        }
        (self.served, self.holds) = (Served::Live, 0);
        self.row(|row| {
            row.synced = true;
            row.restored = None;
            row.mass_delete_holds = 0;
        });
        tracing::info!(cluster = %self.cluster, objects = ?staging.objects(), "cluster synced");
        self.flush(staging);
    }

    /// Goes on counting where the generation before this one stopped.
    fn inherit(&mut self) {
        let Some(row) = self.registry.clusters().get(&self.cluster) else {
            return;
        };
        for kind in self.sources.keys() {
            if let Some(source) = row.sources.get(kind.name()) {
                let own = self.earlier.remove(kind).unwrap_or_default();
                self.earlier.insert(*kind, own.after(&source.counters).done());
            }
        }
    }

    /// Writes health if it differs.
    pub(super) fn flush_health(&mut self) {
        if std::mem::take(&mut self.changed) {
            self.write_health();
        }
    }

    /// Writes everything that may differ.
    pub(super) fn flush(&mut self, staging: &Staging) {
        self.changed = false;
        self.write_health();
        if self.is_errand() {
            return;
        }
        let objects = staging.objects();
        for (kind, source) in &mut self.sources {
            source.objects = objects.get(kind.name()).copied().unwrap_or_default();
            let now = counters(self.counts.get(kind).into_iter().flatten());
            source.counters = now.after(self.earlier.get(kind).unwrap_or(&SourceCounters::default()));
        }
        let sources = self.sources.iter().map(|(kind, source)| (kind.name(), source.clone())).collect();
        let serving = self.served == Served::Live;
        let api = self.api();
        self.row(|row| {
            row.sources = sources;
            row.api = api;
            // Nothing of a cluster that is not synced is served: its counts would only mislead.
            if serving {
                row.objects = objects;
                row.quarantined = staging.quarantined();
                row.quarantined_objects = staging.quarantined_objects();
                row.pending_pods = staging.pending_pods();
                row.memory = Some(staging.memory_estimate());
                row.network = staging.network().clone();
            }
        });
    }

    /// How Services arrive: the kind that every cluster has and that does not come in JSON only.
    fn api(&self) -> ApiFacts {
        let services = self.counts.get(&ObjectKind::Service).and_then(|counts| counts.first());
        let encoding = services.and_then(|counts| counts.encoding()).map(|encoding| match encoding {
            Encoding::Json => "json",
            Encoding::Protobuf => "protobuf",
        });
        ApiFacts { encoding, streaming_lists: services.and_then(|counts| counts.streamed()) }
    }

    /// Says how it is, whether or not that differs: somebody else may have written the row.
    pub(super) fn write_health(&mut self) {
        let failed = self.worst();
        if let Some(errand) = self.errand {
            let text = failed.map(|failed| format!("{}: {failed}", errand.meanwhile()));
            if self.told != text {
                self.told.clone_from(&text);
                self.tell(errand.subject(&self.cluster), text);
            }
            return;
        }
        self.tell(format!("cluster {}", self.cluster), failed);
        let sources = self.sources.iter().map(|(kind, source)| (kind.name(), source));
        let health = ClusterHealth::of(sources, self.served);
        let live = self.served == Served::Live;
        let lost_since = ClusterHealth::lost_since(self.sources.values()).filter(|_| live);
        self.row(|row| {
            row.lost_since = lost_since;
            if row.health == ClusterHealth::Removing {
                return;
            }
            let from = row.health.word();
            if row.set_health(health, now()) {
                tracing::info!(cluster = %row.id, from, to = row.health.word(), "cluster");
            }
        });
    }

    /// Changes the row, if it is this one's.
    fn row(&self, change: impl FnOnce(&mut ClusterStatus)) {
        if !self.is_errand() {
            self.turn.say(|| self.registry.clusters().update(&self.cluster, change));
        }
    }

    /// Sets or clears a problem.
    fn tell(&self, subject: String, text: Option<String>) {
        self.turn.say(|| self.problems.tell(subject, text));
    }

    /// The failure that says most: refused credentials first. A kind of an add-on that is not installed or not
    /// permitted is none.
    fn worst(&self) -> Option<String> {
        let failed = |source: &&SourceStatus| !source.is_done_without() && !source.state.detail().is_empty();
        let unauthorized =
            |(_, source): &(_, &SourceStatus)| matches!(source.state, SourceState::Unauthorized(_));
        let mut failures = self.sources.iter().filter(|(_, source)| failed(source));
        let first = failures.clone().find(unauthorized).or_else(|| failures.next());
        first.map(|(kind, source)| format!("{}s: {}", kind.name(), source.state.detail()))
    }
}

/// What these sources have done together.
fn counters<'a>(all: impl IntoIterator<Item = &'a Arc<SourceCounts>>) -> SourceCounters {
    all.into_iter().fold(SourceCounters::default(), |sum, counts| {
        let lists = ListReason::ALL.map(|reason| (reason.label(), counts.relists(reason)));
        let retry_after = counts.retry_after();
        SourceCounters {
            lists: lists.into_iter().filter(|(_, count)| *count > 0).collect(),
            regressions: counts.rv_regressions(),
            bytes: counts.bytes_in(),
            failures: counts.failures(),
            retry_after: (!retry_after.is_zero()).then_some(retry_after),
        }
        .after(&sum)
    })
}

/// The state a failure leads to.
fn state(failure: &Failure) -> SourceState {
    match failure {
        Failure::Unreachable(why) => SourceState::Failing(StaleCause::Unreachable(why.clone())),
        Failure::Refused(why) => SourceState::Failing(StaleCause::Refused(why.clone())),
        Failure::Unauthorized(why) => SourceState::Unauthorized(why.clone()),
        Failure::Forbidden(why) => SourceState::Forbidden(why.clone()),
        Failure::NotServed(why) => SourceState::NotServed(why.clone()),
    }
}
