//! Remote clusters that only their snapshots tell of: the config cluster, whose Secrets name them, has not been
//! read since the start.
//!
//! They are served so that a restart during an outage of the config cluster forgets none of them, and grow old as
//! any cluster that is not heard (D35). Once the Secrets are known each is taken over by whoever has credentials
//! for it, or withdrawn.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::Instant;

use super::IngestOptions;
use super::absences::{self, Absences};
use super::cluster::Age;
use super::counts::Counts;
use super::networks::MeshFeed;
use super::problems::Problems;
use super::roster::Roster;
use super::snapshot::{Filter, Keeper, Loaded};
use crate::model::{
    ClusterHealth, ClusterId, ClusterRole, ClusterStatus, Moment, Restored, StaleCause, Standing,
};
use crate::registry::{ClusterWriter, Registry};

/// What the problem of Secrets that do not name most of them is about.
const SUBJECT: &str = "remote Secrets, clusters known from snapshots";

/// The clusters that were adopted, and that nobody has taken over.
pub(super) struct Adopted {
    registry: Arc<Registry>,
    keeper: Arc<Keeper>,
    problems: Arc<Problems>,
    counts: Arc<Counts>,
    options: Arc<IngestOptions>,
    mesh: MeshFeed,
    ages: BTreeMap<ClusterId, Age>,
    absences: Absences,
}

impl Adopted {
    /// None yet.
    pub(super) fn new(
        registry: Arc<Registry>,
        keeper: Arc<Keeper>,
        problems: Arc<Problems>,
        counts: Arc<Counts>,
        options: Arc<IngestOptions>,
        mesh: MeshFeed,
    ) -> Self {
        let absences = Absences::new(options.guard());
        Self { registry, keeper, problems, counts, options, mesh, ages: BTreeMap::new(), absences }
    }

    /// Waits until the config cluster is served from its snapshot, then serves every other cluster there is a
    /// snapshot of.
    pub(super) async fn adopt(&mut self) {
        let mut table = self.registry.clusters().watch();
        let restored = |row: &ClusterStatus| row.role == ClusterRole::Config && row.restored.is_some();
        while !self.registry.clusters().all().iter().any(restored) {
            if table.changed().await.is_err() {
                return;
            }
        }
        for loaded in self.keeper.load_all().await {
            self.serve(loaded);
        }
    }

    fn serve(&mut self, mut loaded: Loaded) {
        let id = loaded.snapshot.cluster.clone();
        if self.registry.clusters().get(&id).is_some() {
            return;
        }
        // Somebody else who writes for it knows more.
        let Ok(mut writer) = self.registry.writer(id.clone(), ClusterRole::Remote) else {
            return;
        };
        let then = std::mem::take(&mut loaded.snapshot.terms);
        // What annotations of its Secret say is not known; they are as they were.
        let terms = self.options.clusters.get(&id).map_or_else(|| then.clone(), |said| then.overridden(said));
        let policy = terms.stale;
        let mesh = self.mesh.borrow().clone();
        let filter = Filter { terms, special: self.options.special_addresses(), mesh: mesh.as_deref() };
        filter.apply(&id, &then, &mut loaded.snapshot.state);
        let at = Instant::now();
        let now: Moment = at.into_std().into();
        let confirmed = now.before(loaded.age);
        let mut age = Age::default();
        age.set_policy(policy);
        age.observe(Some(confirmed), at);
        // Before the endpoints are there: they never count for more than they are worth.
        self.stand(&id, age.standing(at), &mut writer);
        let shown = loaded.snapshot.shown();
        // The data stays when the writer goes, for whoever takes the cluster over.
        writer.replace(loaded.snapshot.state);
        drop(writer);
        let path = loaded.path.display().to_string();
        tracing::info!(cluster = %id, path, "served from its snapshot: its Secret cannot be read");
        let mut row = ClusterStatus::new(id.clone(), ClusterRole::Remote, format!("file {path}"));
        row.set_health(ClusterHealth::Stale { since: confirmed, cause: StaleCause::Snapshot }, now);
        row.restored = Some(Restored { path, confirmed });
        row.standing = age.standing(at);
        row.stale_policy = policy.to_string();
        shown(&mut row);
        self.registry.clusters().put(row);
        self.ages.insert(id, age);
    }

    /// When the endpoints of one of them are worth less than they are.
    pub(super) fn next_age(&self, now: Instant) -> Option<Instant> {
        self.ages.values().filter_map(Age::due).filter(|due| *due > now).min()
    }

    /// D35: what their endpoints are worth by now.
    pub(super) fn grow_old(&mut self, now: Instant) {
        for (id, age) in &self.ages {
            let standing = age.standing(now);
            if self.registry.standings().part(id).standing == standing {
                continue;
            }
            // Somebody else who writes for it has the say.
            if let Ok(mut writer) = self.registry.writer(id.clone(), ClusterRole::Remote) {
                self.stand(id, standing, &mut writer);
            }
        }
    }

    fn stand(&self, id: &ClusterId, standing: Standing, writer: &mut ClusterWriter) {
        if writer.set_standing(standing) {
            Counts::add(&self.counts.stale_actions, usize::from(standing != Standing::Regular));
            tracing::warn!(cluster = %id, ?standing, "what its endpoints are worth has changed");
            self.registry.clusters().update(id, |row| row.standing = standing);
        }
    }

    /// Secrets have been told of: gives up the clusters that are `running` now, and withdraws those that no Secret
    /// names. One whose Secret is there and cannot be used is served on. `complete` is when the look began, if it
    /// was one at all Secrets; one that names hardly any of them is confirmed first.
    pub(super) async fn settle(
        &mut self,
        running: impl IntoIterator<Item = &ClusterId>,
        roster: &Roster,
        complete: Option<Instant>,
    ) {
        let known = self.ages.len();
        for id in running {
            self.ages.remove(id);
        }
        let missing: Vec<_> = self.ages.keys().filter(|id| !roster.names(id)).cloned().collect();
        let believed = match complete {
            _ if missing.is_empty() => {
                self.absences.settle();
                true
            }
            Some(began) => self.absences.believes(missing.len(), known, began),
            // An event says that one Secret is gone; what lists lacked stays doubted.
            None => !self.absences.is_doubting(),
        };
        if !believed {
            self.problems.set(SUBJECT, absences::text(missing.len(), known, "clusters"));
            return;
        }
        self.problems.clear(SUBJECT);
        for id in missing {
            self.withdraw(&id).await;
        }
    }

    /// When the Secrets are to be listed again; told once.
    pub(super) fn due(&self) -> Option<Instant> {
        self.absences.due()
    }

    /// They are being listed again.
    pub(super) fn asked(&mut self) {
        self.absences.asked();
    }

    async fn withdraw(&mut self, id: &ClusterId) {
        self.ages.remove(id);
        if let Ok(writer) = self.registry.writer(id.clone(), ClusterRole::Remote) {
            writer.withdraw();
        }
        self.registry.clusters().remove(id);
        self.keeper.forget(id).await;
        tracing::info!(cluster = %id, "cluster removed: no Secret names it any more");
    }
}

#[cfg(test)]
mod tests;
