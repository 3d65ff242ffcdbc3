//! Remote clusters that only their snapshots tell of: the config cluster, whose Secrets name them, has not been
//! read since the start.
//!
//! They are served so that a restart during an outage of the config cluster forgets none of them. Once the
//! Secrets are known each is taken over by whoever has credentials for it, or withdrawn.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::time::Instant;

use super::snapshot::{Keeper, Loaded};
use crate::model::{ClusterHealth, ClusterId, ClusterRole, ClusterStatus, Moment, Restored, StaleCause};
use crate::registry::Registry;

/// The clusters that were adopted.
pub(super) struct Adopted {
    registry: Arc<Registry>,
    keeper: Arc<Keeper>,
    ids: BTreeSet<ClusterId>,
}

impl Adopted {
    /// None yet.
    pub(super) fn new(registry: Arc<Registry>, keeper: Arc<Keeper>) -> Self {
        Self { registry, keeper, ids: BTreeSet::new() }
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

    fn serve(&mut self, loaded: Loaded) {
        let id = loaded.snapshot.cluster;
        if self.registry.clusters().get(&id).is_some() {
            return;
        }
        // Somebody else who writes for it knows more.
        let Ok(mut writer) = self.registry.writer(id.clone(), ClusterRole::Remote) else {
            return;
        };
        // The data stays when the writer goes, for whoever takes the cluster over.
        writer.replace(loaded.snapshot.state);
        drop(writer);
        let now: Moment = Instant::now().into_std().into();
        let confirmed = now.before(loaded.age);
        let path = loaded.path.display().to_string();
        tracing::info!(cluster = %id, path, "served from its snapshot: its Secret cannot be read");
        let mut row = ClusterStatus::new(id.clone(), ClusterRole::Remote, format!("file {path}"));
        row.set_health(ClusterHealth::Stale { since: confirmed, cause: StaleCause::Snapshot }, now);
        row.restored = Some(Restored { path, confirmed });
        row.uid = loaded.snapshot.uid;
        self.registry.clusters().put(row);
        self.ids.insert(id);
    }

    /// The Secrets are known: withdraws the clusters that none of them names. `running` are named.
    pub(super) async fn settle<'a>(&mut self, running: impl IntoIterator<Item = &'a ClusterId>) {
        for id in running {
            self.ids.remove(id);
        }
        for id in std::mem::take(&mut self.ids) {
            if let Ok(writer) = self.registry.writer(id.clone(), ClusterRole::Remote) {
                writer.withdraw();
            }
            self.registry.clusters().remove(&id);
            self.keeper.forget(&id).await;
            tracing::info!(cluster = %id, "cluster removed: no Secret names it any more");
        }
    }
}
