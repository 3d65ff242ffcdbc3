//! The row of one cluster.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{ClusterHealth, ClusterRole, CredentialFacts, SourceStatus};
use crate::model::{ClusterId, Moment, Name, NetworkId, Standing, StartRule};

/// How the Services of a cluster arrive; what is not known yet is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiFacts {
    /// `protobuf` or `json`.
    pub encoding: Option<&'static str>,
    /// Whether its last list arrived as a stream (`sendInitialEvents`), not in pages.
    pub streaming_lists: Option<bool>,
}

/// The snapshot a cluster is, or was at first, served from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The file.
    pub path: String,
    /// When its content was last known to be true.
    pub confirmed: Moment,
}

/// What operators are told about one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterStatus {
    /// The cluster.
    pub id: ClusterId,
    /// Config or remote.
    pub role: ClusterRole,
    /// Where its credentials come from: `secret istio-system/name`, `file PATH`; never the credentials.
    pub source: String,
    /// State of the cluster. Change it by [`Self::set_health`].
    pub health: ClusterHealth,
    /// Since when [`ClusterHealth::word`] is what it is.
    pub since: Moment,
    /// Since when what its sources told may be out of date (D35).
    pub lost_since: Option<Moment>,
    /// Whether its initial lists have ever been complete since the start (D27). Never true of a snapshot.
    pub synced: bool,
    /// Whether it did not sync within the start gate's time (R1.17).
    pub timed_out: bool,
    /// How often that happened.
    pub sync_timeouts: u64,
    /// The snapshot that is served until it syncs; afterwards `None`.
    pub restored: Option<Restored>,
    /// Whether the start gate waits for it without limit (D35).
    pub start: StartRule,
    /// What its endpoints are worth while it is stale.
    pub standing: Standing,
    /// What becomes of its endpoints while it is stale: `hold`, `demote after 5m`, `drop after 5m` (D35).
    pub stale_policy: String,
    /// The uid of its `kube-system` namespace: which cluster answers (K-20). Empty when it cannot be read.
    pub uid: Name,
    /// What is known of the credentials in use (K-18).
    pub credentials: CredentialFacts,
    /// How often another token of the same user took over and nothing was listed anew.
    pub tokens_exchanged: u64,
    /// How its API server is read.
    pub api: ApiFacts,
    /// The network of its system namespace; empty when it has no label.
    pub network: NetworkId,
    /// The sources, by kind.
    pub sources: BTreeMap<&'static str, SourceStatus>,
    /// Objects held, by kind.
    pub objects: BTreeMap<&'static str, usize>,
    /// Objects set aside because they could not be read, `Kind namespace/name: reason`, at most 100.
    pub quarantined: Vec<String>,
    /// How many objects are set aside, or used in part only.
    pub quarantined_objects: usize,
    /// Endpoints withheld because the pod they name is not known (D9).
    pub pending_pods: usize,
    /// Kinds whose mass deletion is held until it is confirmed (K-21).
    pub mass_delete_holds: usize,
    /// Whether what was listed anew is not served, because too much of what is served would be lost by it (K-21, K-31).
    pub replacement_held: bool,
    /// Estimated bytes of memory held for it; `None` when nobody estimates.
    pub memory: Option<usize>,
}

impl ClusterStatus {
    /// The status of a cluster that was just configured.
    pub fn new(id: ClusterId, role: ClusterRole, source: impl Into<String>) -> Self {
        Self {
            id,
            role,
            source: source.into(),
            health: ClusterHealth::Connecting,
            since: Moment::now(),
            lost_since: None,
            synced: false,
            timed_out: false,
            sync_timeouts: 0,
            restored: None,
            start: StartRule::Optional,
            standing: Standing::Regular,
            stale_policy: "hold".to_owned(),
            uid: Name::default(),
            credentials: CredentialFacts::default(),
            tokens_exchanged: 0,
            api: ApiFacts::default(),
            network: NetworkId::default(),
            sources: BTreeMap::new(),
            objects: BTreeMap::new(),
            quarantined: Vec::new(),
            quarantined_objects: 0,
            pending_pods: 0,
            mass_delete_holds: 0,
            replacement_held: false,
            memory: None,
        }
    }

    /// Enters a state. `since` moves only when the word changes. Says whether it did.
    pub fn set_health(&mut self, health: ClusterHealth, now: Moment) -> bool {
        let moved = self.health.word() != health.word();
        if moved {
            self.since = now;
        }
        self.health = health;
        moved
    }

    /// Whether the start need not wait for it (R1.18): it synced, or its time is over, or its snapshot is served.
    pub fn gate_open(&self) -> bool {
        let waits = self.start == StartRule::Required;
        self.synced || (!waits && (self.timed_out || self.restored.is_some()))
    }

    /// Since when what is served of it may be out of date; `None` while it is not, or nothing is served.
    pub fn stale_since(&self) -> Option<Moment> {
        match (&self.restored, &self.health) {
            (Some(restored), _) => Some(restored.confirmed),
            (None, ClusterHealth::Stale { since, .. }) => Some(self.lost_since.unwrap_or(*since)),
            (None, _) => self.lost_since,
        }
    }

    /// Since when nothing was heard of what is served; `None` while it is. Less than [`Self::stale_since`]: pods that
    /// may not be read any more (K-45) make endpoints old, and say nothing against what else is heard.
    pub fn unconfirmed_since(&self) -> Option<Moment> {
        self.stale_since().filter(|_| !matches!(self.health, ClusterHealth::Degraded(_)))
    }

    /// Lists of it that are not believed, or not yet (K-21).
    pub fn holds(&self) -> usize {
        self.mass_delete_holds + usize::from(self.replacement_held)
    }

    /// When the last change of an object came.
    pub fn last_event(&self) -> Option<Moment> {
        self.sources.values().filter_map(|source| source.last_event).max()
    }

    /// When something came at all.
    pub fn last_contact(&self) -> Option<Moment> {
        self.sources.values().filter_map(|source| source.last_contact).max()
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
