//! What the table of clusters says of a generation.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use crate::ingest::objects::ObjectKind;
use crate::ingest::problems::Problems;
use crate::ingest::staging::Staging;
use crate::ingest::watch::Failure;
use crate::model::{ClusterHealth, ClusterId, StaleCause};
use crate::registry::Registry;

/// What the problem of a generation that does not get to serve is about.
pub(in crate::ingest) fn rotation_subject(cluster: &ClusterId) -> String {
    format!("cluster {cluster}, new credentials")
}

/// State of one kind's watch.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Watch {
    Up,
    Down(Failure),
}

/// The health of a generation, from the state of its watches.
pub(super) struct Status {
    registry: Arc<Registry>,
    problems: Arc<Problems>,
    cluster: ClusterId,
    /// Another generation serves: the row is its, and this one's troubles are problems.
    follower: bool,
    synced: bool,
    contacted: bool,
    watches: BTreeMap<ObjectKind, Watch>,
    /// When the last event came, if the row does not say so yet.
    last_event: Option<SystemTime>,
    /// Health differs from what the row says.
    changed: bool,
}

impl Status {
    pub(super) fn new(
        registry: Arc<Registry>,
        problems: Arc<Problems>,
        cluster: ClusterId,
        follower: bool,
    ) -> Self {
        Self {
            registry,
            problems,
            cluster,
            follower,
            synced: false,
            contacted: false,
            watches: BTreeMap::new(),
            last_event: None,
            changed: false,
        }
    }

    /// Something arrived.
    pub(super) fn contact(&mut self) {
        self.last_event = Some(SystemTime::now());
        if !self.contacted {
            self.contacted = true;
            self.changed = true;
        }
    }

    /// The watch of a kind works.
    pub(super) fn up(&mut self, kind: ObjectKind) {
        self.contact();
        if self.watches.get(&kind) != Some(&Watch::Up) {
            self.watches.insert(kind, Watch::Up);
            self.changed = true;
        }
    }

    /// The watch of a kind does not work.
    pub(super) fn down(&mut self, kind: ObjectKind, failure: &Failure) {
        let down = Watch::Down(failure.clone());
        if self.watches.get(&kind) != Some(&down) {
            self.watches.insert(kind, down);
            self.changed = true;
        }
    }

    /// It did not sync in time (R1.17).
    pub(super) fn timed_out(&mut self) {
        tracing::warn!(cluster = %self.cluster, "cluster did not sync in time; going on without it");
        if !self.follower {
            self.registry.clusters().update(&self.cluster, |row| row.timed_out = true);
        }
    }

    /// This generation serves from now on.
    pub(super) fn synced(&mut self, staging: &Staging) {
        self.follower = false;
        self.synced = true;
        self.changed = true;
        self.problems.clear(&self.subject());
        self.problems.clear(&rotation_subject(&self.cluster));
        self.registry.clusters().update(&self.cluster, |row| row.synced = true);
        tracing::info!(cluster = %self.cluster, objects = ?staging.objects(), "cluster synced");
        self.flush(staging);
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
        let last_event = self.last_event.take();
        // Nothing of a cluster that is not synced is served: its counts would only mislead.
        if !self.synced {
            if let Some(at) = last_event {
                self.registry.clusters().update(&self.cluster, |row| row.last_event = Some(at));
            }
            return;
        }
        self.registry.clusters().update(&self.cluster, |row| {
            row.last_event = last_event.or(row.last_event);
            row.objects = staging.objects();
            row.quarantined = staging.quarantined();
            row.pending_pods = staging.pending_pods();
            row.network = staging.network().clone();
        });
    }

    fn subject(&self) -> String {
        format!("cluster {}", self.cluster)
    }

    fn write_health(&mut self) {
        let failed = self.worst().map(|(kind, failure)| format!("{}s: {}", kind.name(), failure.text()));
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
        let health = self.health();
        self.registry.clusters().update(&self.cluster, |row| match (&mut row.health, health) {
            (ClusterHealth::Removing, _) => {}
            (ClusterHealth::Stale { cause, .. }, ClusterHealth::Stale { cause: now, .. }) => *cause = now,
            (before, after) if before.word() != after.word() => {
                tracing::info!(cluster = %row.id, from = before.word(), to = after.word(), "cluster");
                *before = after;
                row.since = SystemTime::now();
            }
            _ => {}
        });
    }

    /// The failure that says most: refused credentials first.
    fn worst(&self) -> Option<(ObjectKind, &Failure)> {
        let failures = || {
            self.watches.iter().filter_map(|(kind, watch)| match watch {
                Watch::Down(failure) => Some((*kind, failure)),
                Watch::Up => None,
            })
        };
        failures().find(|(_, failure)| failure.is_unauthorized()).or_else(|| failures().next())
    }

    fn health(&self) -> ClusterHealth {
        let since = SystemTime::now();
        match (self.worst(), self.synced) {
            (Some((_, Failure::Unauthorized(_) | Failure::Forbidden(_))), _) => ClusterHealth::Unauthorized { since },
            (Some((_, Failure::Unreachable(why))), true) => {
                ClusterHealth::Stale { since, cause: StaleCause::Unreachable(why.clone()) }
            }
            (Some((_, Failure::Refused(why) | Failure::NotServed(why))), true) => {
                ClusterHealth::Stale { since, cause: StaleCause::Refused(why.clone()) }
            }
            (Some(_), false) => ClusterHealth::Connecting,
            (None, true) if ObjectKind::BUILT_IN.iter().all(|kind| self.watches.contains_key(kind)) => {
                ClusterHealth::Live
            }
            (None, _) if self.contacted => ClusterHealth::Syncing,
            (None, _) => ClusterHealth::Connecting,
        }
    }
}
