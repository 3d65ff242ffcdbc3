//! What the table of clusters says of a generation.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::Instant;

use crate::ingest::objects::ObjectKind;
use crate::ingest::objects::wire::Encoding;
use crate::ingest::problems::Problems;
use crate::ingest::staging::Staging;
use crate::ingest::watch::{Failure, ListReason, SourceCounts};
use crate::model::{
    ApiFacts, ClusterHealth, ClusterId, ClusterStatus, Moment, Name, Restored, Served, SourceCounters,
    SourceState, SourceStatus, StaleCause,
};
use crate::registry::Registry;

/// What the problem of a generation that does not get to serve is about.
pub(in crate::ingest) fn rotation_subject(cluster: &ClusterId) -> String {
    format!("cluster {cluster}, new credentials")
}

/// The health of a generation, from the state of its sources.
pub(super) struct Status {
    registry: Arc<Registry>,
    problems: Arc<Problems>,
    cluster: ClusterId,
    /// Another generation serves: the row is its, and this one's troubles are problems.
    follower: bool,
    served: Served,
    sources: BTreeMap<ObjectKind, SourceStatus>,
    /// What the sources of each kind count, and what those of earlier generations counted.
    counts: BTreeMap<ObjectKind, Vec<Arc<SourceCounts>>>,
    earlier: BTreeMap<ObjectKind, SourceCounters>,
    /// Health may differ from what the row says.
    changed: bool,
}

/// The moment by the runtime's clock, which tests may hold.
fn now() -> Moment {
    Instant::now().into_std().into()
}

/// Whether nothing can be served without this kind (K-45).
fn is_required(kind: ObjectKind) -> bool {
    matches!(kind, ObjectKind::Service | ObjectKind::EndpointSlice)
}

/// Whether every API server has this kind.
fn is_expected(kind: ObjectKind) -> bool {
    ObjectKind::BUILT_IN.contains(&kind)
}

impl Status {
    /// For a generation that watches these kinds.
    pub(super) fn new(
        registry: Arc<Registry>,
        problems: Arc<Problems>,
        cluster: ClusterId,
        follower: bool,
        kinds: impl IntoIterator<Item = ObjectKind>,
    ) -> Self {
        let now = now();
        let source = |kind| (kind, SourceStatus::new(now, is_required(kind), is_expected(kind)));
        Self {
            registry,
            problems,
            cluster,
            follower,
            served: Served::Nothing,
            sources: kinds.into_iter().map(source).collect(),
            counts: BTreeMap::new(),
            earlier: BTreeMap::new(),
            changed: false,
        }
    }

    /// These sources count from now on; what those before them counted stays counted.
    pub(super) fn recount(&mut self, sources: &[(ObjectKind, Arc<SourceCounts>)]) {
        for kind in self.sources.keys() {
            let sum = counters(self.counts.remove(kind).iter().flatten());
            let earlier = self.earlier.entry(*kind).or_default();
            *earlier = sum.after(earlier);
        }
        for (kind, counts) in sources {
            self.counts.entry(*kind).or_default().push(Arc::clone(counts));
        }
    }

    /// A part of a list arrived.
    pub(super) fn heard(&mut self, kind: ObjectKind) {
        self.source(kind, SourceStatus::heard);
    }

    /// A list is complete.
    pub(super) fn listed(&mut self, kind: ObjectKind) {
        self.source(kind, SourceStatus::listed);
    }

    /// The watch of a kind works: it was established, or told of something, or a probe found it current.
    pub(super) fn up(&mut self, kind: ObjectKind) {
        self.source(kind, SourceStatus::watched);
    }

    /// The watch of a kind told of a change.
    pub(super) fn event(&mut self, kind: ObjectKind) {
        self.source(kind, SourceStatus::changed);
    }

    /// The watch of a kind does not work.
    pub(super) fn down(&mut self, kind: ObjectKind, failure: &Failure) {
        self.source(kind, |source, now| source.failed(now, state(failure)));
    }

    fn source(&mut self, kind: ObjectKind, change: impl FnOnce(&mut SourceStatus, Moment) -> bool) {
        if let Some(source) = self.sources.get_mut(&kind) {
            self.changed |= change(source, now());
        }
    }

    /// Whether the API server did not answer, or not as it should, and nothing worked since. A kind that may not
    /// be read, or that it does not have, is an answer.
    pub(super) fn is_failing(&self) -> bool {
        self.sources.values().any(SourceStatus::is_failing)
    }

    /// Since when what is served may be out of date, by the runtime's clock; `None` while it is not.
    pub(super) fn stale_since(&self) -> Option<Moment> {
        self.registry.clusters().look(&self.cluster, ClusterStatus::stale_since)?
    }

    /// It did not sync in time (R1.17).
    pub(super) fn timed_out(&mut self) {
        tracing::warn!(cluster = %self.cluster, "cluster did not sync in time; going on without it");
        if !self.follower {
            self.registry.clusters().update(&self.cluster, |row| {
                row.timed_out = true;
                row.sync_timeouts += 1;
            });
        }
    }

    /// A snapshot is served until this generation is ready.
    pub(super) fn restored(&mut self, restored: Restored, uid: Name) {
        self.served = Served::Snapshot(restored.confirmed);
        self.registry.clusters().update(&self.cluster, |row| {
            row.restored = Some(restored);
            row.uid = uid;
        });
        self.write_health();
    }

    /// When the credentials in use expire (K-18).
    pub(super) fn credentials(&mut self, expire: Option<SystemTime>) {
        if !self.follower {
            self.registry.clusters().update(&self.cluster, |row| row.credentials_expire = expire);
        }
    }

    /// How many kinds have a mass deletion held back (K-21).
    pub(super) fn holds(&mut self, kinds: usize) {
        self.registry.clusters().update(&self.cluster, |row| row.mass_delete_holds = kinds);
    }

    /// This generation serves from now on.
    pub(super) fn synced(&mut self, staging: &Staging) {
        if self.follower {
            self.inherit();
        }
        self.follower = false;
        self.served = Served::Live;
        self.problems.clear(&self.subject());
        self.problems.clear(&rotation_subject(&self.cluster));
        self.registry.clusters().update(&self.cluster, |row| {
            row.synced = true;
            row.restored = None;
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
                self.earlier.insert(*kind, own.after(&source.counters));
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
        if self.follower {
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
        self.registry.clusters().update(&self.cluster, |row| {
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

    fn subject(&self) -> String {
        format!("cluster {}", self.cluster)
    }

    fn write_health(&mut self) {
        let failed = self.worst();
        if self.follower {
            if let Some(text) = failed {
                let text = format!("not in use, the old ones stay: {text}");
                self.problems.set(rotation_subject(&self.cluster), text);
            }
            return;
        }
        match failed {
            Some(text) => self.problems.set(self.subject(), text),
            None => self.problems.clear(&self.subject()),
        }
        let sources = self.sources.iter().map(|(kind, source)| (kind.name(), source));
        let health = ClusterHealth::of(sources, self.served);
        self.registry.clusters().update(&self.cluster, |row| {
            if row.health == ClusterHealth::Removing {
                return;
            }
            let from = row.health.word();
            if row.set_health(health, now()) {
                tracing::info!(cluster = %row.id, from, to = row.health.word(), "cluster");
            }
        });
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
