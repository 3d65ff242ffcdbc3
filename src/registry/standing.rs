//! What the endpoints of each cluster are worth: versioned parts, one per cluster (D13, D35).

use std::collections::BTreeMap;

use crate::model::{ClusterId, Standing};

/// The standing of one cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StandingPart {
    /// Process-wide version; 0 for a cluster whose standing never changed.
    pub version: u64,
    /// What its endpoints are worth.
    pub standing: Standing,
}

/// The standings of all clusters at one moment. Clusters that are not in it are regular.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StandingSnapshot {
    parts: BTreeMap<ClusterId, StandingPart>,
}

impl StandingSnapshot {
    /// The part of one cluster.
    pub fn part(&self, cluster: &ClusterId) -> StandingPart {
        self.parts.get(cluster).copied().unwrap_or_default()
    }

    /// The newest version among some clusters: what was built from them is valid as long as it stays the same.
    /// Free while no standing ever changed.
    pub fn version<'a>(&self, mut clusters: impl Iterator<Item = &'a ClusterId>) -> u64 {
        if self.parts.is_empty() {
            return 0;
        }
        let first = clusters.next().map_or(0, |cluster| self.part(cluster).version);
        clusters.map(|cluster| self.part(cluster).version).fold(first, u64::max)
    }

    /// The same with another standing of one cluster: what would be.
    pub fn but(&self, cluster: &ClusterId, standing: Standing) -> Self {
        self.with(cluster, standing, || u64::MAX).unwrap_or_else(|| self.clone())
    }

    /// Replaces one part; `None` when nothing differs.
    pub(super) fn with(
        &self,
        cluster: &ClusterId,
        standing: Standing,
        version: impl Fn() -> u64,
    ) -> Option<Self> {
        if self.part(cluster).standing == standing {
            return None;
        }
        let mut next = self.clone();
        next.parts.insert(cluster.clone(), StandingPart { version: version(), standing });
        Some(next)
    }
}
