//! Remote clusters that only their snapshots tell of: the Secrets that name them have not been read since the start.
//!
//! They are served so that a restart while Secrets cannot be read, for whatever reason, forgets none of them, and grow
//! old as any cluster that is not heard (D35). Once the Secrets are known each is taken over by whoever has
//! credentials for it, or withdrawn.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch as signal;
use tokio::time::Instant;

use super::IngestOptions;
use super::absences::{self, Absences};
use super::cluster::Age;
use super::counts::Counts;
use super::networks::MeshFeed;
use super::options::ClusterOptions;
use super::problems::Problems;
use super::roster::Roster;
use super::snapshot::{Filter, Keeper, Loaded, select};
use crate::model::{
    ClusterHealth, ClusterId, ClusterRole, ClusterStatus, Moment, Restored, StaleCause, Standing,
};
use crate::registry::{ClusterWriter, Registry};

/// How long Secrets may take, if nothing fails, before the snapshots are served meanwhile. Most are there sooner, and
/// then nobody sees old data.
const PATIENCE: Duration = Duration::from_secs(1);
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
    /// Clusters whose snapshot cannot be used, which is told until it is known whether there are such clusters.
    ignored: BTreeSet<ClusterId>,
    absences: Absences,
    /// When to serve them; `None` once they are.
    begin: Option<Instant>,
}

/// What the clusters that were adopted are of those there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// The Secrets may still say more.
    Some,
    /// More is not to be had.
    All,
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
        let (ages, ignored) = (BTreeMap::new(), BTreeSet::new());
        let begin = Some(Instant::now() + PATIENCE);
        Self { registry, keeper, problems, counts, options, mesh, ages, ignored, absences, begin }
    }

    /// Serves every cluster there is a snapshot of and no other news: when the Secrets cannot be read (`failing`), or
    /// the config cluster, which has them, is served from its own, and at the latest when nothing was heard of them for
    /// a while. Returns first when they are served, and then when they are known to be all that can be known for now;
    /// which of the two it is. Cancelling loses nothing.
    pub(super) async fn adopt(&mut self, failing: &mut signal::Receiver<bool>) -> Known {
        if let Some(begin) = self.begin {
            // It ends either way.
            let _ = tokio::time::timeout_at(begin, self.given_up(failing)).await;
            let (usable, ignored) = self.keeper.load_all().await;
            usable.into_iter().for_each(|loaded| self.serve(loaded));
            self.ignored.extend(ignored);
            self.begin = None;
            return Known::Some;
        }
        self.given_up(failing).await;
        if self.ages.is_empty() {
            // Not a single one is known, and there may be many: unless the cluster that has the Secrets knew of none.
            self.config_restored().await;
        }
        Known::All
    }

    /// Waits until the cluster that has the Secrets is served from its snapshot, which may be never.
    async fn config_restored(&self) {
        let mut table = self.registry.clusters().watch();
        while !self.is_config_restored() {
            if table.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Waits until the Secrets cannot be read.
    async fn given_up(&self, failing: &mut signal::Receiver<bool>) {
        let mut table = self.registry.clusters().watch();
        while !self.is_config_restored() && !*failing.borrow_and_update() {
            let heard = tokio::select! {
                // Unbiased: both are looked at again.
                heard = table.changed() => heard,
                heard = failing.changed() => heard,
            };
            if heard.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Whether the cluster that has the Secrets is served from its snapshot.
    fn is_config_restored(&self) -> bool {
        let restored = |row: &ClusterStatus| row.role == ClusterRole::Config && row.restored.is_some();
        self.options.secrets_by.is_none() && self.registry.clusters().all().iter().any(restored)
    }

    fn serve(&mut self, mut loaded: Loaded) {
        let id = loaded.snapshot.cluster.clone();
        // One with a document was the config cluster, and no Secret ever named it.
        if self.registry.clusters().get(&id).is_some() || loaded.snapshot.has_documents() {
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
        if let Some(said) = self.options.clusters.get(&id) {
            let selection = ClusterOptions::read([said], None).0.selection;
            select(&selection, &self.options.system_namespace, &mut loaded.snapshot.state);
        }
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
            self.ignored.remove(id);
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
        if complete.is_some() {
            let unheard = self.ignored.extract_if(.., |id| !roster.names(id));
            unheard.for_each(|id| self.keeper.never_mind(&id));
        }
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
