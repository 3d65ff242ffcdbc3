//! How fresh a cluster's data is.

use std::collections::BTreeMap;
use std::fmt;
use std::time::SystemTime;

use serde::Serialize;

use super::{ClusterId, Name, NetworkId, Standing, StartRule};

/// Why the data of a cluster is no longer fresh.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum StaleCause {
    /// The API server cannot be reached or broke the connection.
    Unreachable(String),
    /// The API server answers with an error.
    Refused(String),
}

impl fmt::Display for StaleCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) => write!(f, "unreachable: {why}"),
            Self::Refused(why) => write!(f, "refused: {why}"),
        }
    }
}

/// State of one cluster's sources.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum ClusterHealth {
    /// Connecting for the first time.
    Connecting,
    /// The initial lists are being read; nothing is served yet (contract 2).
    Syncing,
    /// All watches are up.
    Live,
    /// A watch is lost: the last known data is served.
    Stale {
        /// Since when.
        since: SystemTime,
        /// Why.
        cause: StaleCause,
    },
    /// The credentials are refused.
    Unauthorized {
        /// Since when.
        since: SystemTime,
    },
    /// Being withdrawn.
    Removing,
}

impl ClusterHealth {
    /// The word in tables.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Syncing => "syncing",
            Self::Live => "live",
            Self::Stale { .. } => "stale",
            Self::Unauthorized { .. } => "unauthorized",
            Self::Removing => "removing",
        }
    }
}

/// Whose cluster it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ClusterRole {
    /// The control plane's own cluster: policies and remote Secrets come from here, and its records come
    /// first in merges (R5.25).
    Config,
    /// Any other cluster.
    Remote,
}

/// What operators are told about one cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ClusterStatus {
    /// The cluster.
    pub id: ClusterId,
    /// Config or remote.
    pub role: ClusterRole,
    /// Where its credentials come from: `secret istio-system/name`, `file PATH`; never the credentials.
    pub source: String,
    /// State of its sources.
    pub health: ClusterHealth,
    /// Since when `health` holds.
    pub since: SystemTime,
    /// Whether its initial lists have ever been complete since the start (D27).
    pub synced: bool,
    /// Whether it did not sync within the start gate's time (R1.17).
    pub timed_out: bool,
    /// Whether the start gate waits for it without limit (D35).
    pub start: StartRule,
    /// What its endpoints are worth while it is stale.
    pub standing: Standing,
    /// The uid of its `kube-system` namespace: which cluster answers (K-20). Empty when it cannot be read.
    pub uid: Name,
    /// The network of its system namespace; empty when it has no label.
    pub network: NetworkId,
    /// When the last event came from it.
    pub last_event: Option<SystemTime>,
    /// Objects held, by kind.
    pub objects: BTreeMap<&'static str, usize>,
    /// Objects set aside because they could not be read, `Kind namespace/name: reason`, at most 100.
    pub quarantined: Vec<String>,
    /// Endpoints withheld because the pod they name is not known (D9).
    pub pending_pods: usize,
}

impl ClusterStatus {
    /// The status of a cluster that was just configured.
    pub fn new(id: ClusterId, role: ClusterRole, source: impl Into<String>) -> Self {
        Self {
            id,
            role,
            source: source.into(),
            health: ClusterHealth::Connecting,
            since: SystemTime::now(),
            synced: false,
            timed_out: false,
            start: StartRule::Optional,
            standing: Standing::Regular,
            uid: Name::default(),
            network: NetworkId::default(),
            last_event: None,
            objects: BTreeMap::new(),
            quarantined: Vec::new(),
            pending_pods: 0,
        }
    }

    /// istiod's word for it in `/debug/clusterz` (R1.22): `synced`, `syncing`, `timeout` or `closed`.
    pub fn sync_status(&self) -> &'static str {
        match (&self.health, self.synced, self.timed_out) {
            (ClusterHealth::Removing, ..) => "closed",
            (_, true, _) => "synced",
            (_, false, true) => "timeout",
            (_, false, false) => "syncing",
        }
    }
}
