//! Work done by ingest since the start: counted, not timed, so that tests can bound it and operators see it.

use std::sync::atomic::{AtomicU64, Ordering};

use super::objects::ObjectKind;

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// It was added.
    Add,
    /// It changed.
    Update,
    /// It was deleted.
    Delete,
    /// It was told again and nothing that matters differs.
    UpdateSame,
}

impl EventKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Add, Self::Update, Self::Delete, Self::UpdateSame];

    /// The value of label `event` of metric `pilot_k8s_reg_events`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::UpdateSame => "updatesame",
        }
    }
}

/// Counters of all clusters together. Every value only grows; reading is lock-free.
#[derive(Debug, Default)]
pub struct Counts {
    /// Services whose share of a cluster was converted. One slice change is one conversion.
    pub conversions: AtomicU64,
    /// Pods that were converted.
    pub pod_conversions: AtomicU64,
    /// Objects that could not be read.
    pub quarantined: AtomicU64,
    /// Complete lists read, the first ones included.
    pub lists: AtomicU64,
    /// Attempts that failed.
    pub failures: AtomicU64,
    /// Remote clusters that did not sync in time (`remote_cluster_sync_timeouts_total`).
    pub sync_timeouts: AtomicU64,
    /// Lists whose removals were held back for a second one (K-21).
    pub mass_delete_holds: AtomicU64,
    /// Times that another cluster answered in the place of one that was read (K-20).
    pub cluster_swaps: AtomicU64,
    /// Times that it was settled which namespaces of a cluster are read.
    pub plans: AtomicU64,
    /// Times that the endpoints of a cluster were demoted or dropped for their age (D35).
    pub stale_actions: AtomicU64,
    /// Endpoints that came before the pod they name (`pilot_k8s_endpoints_with_no_pods`).
    pub endpoints_without_pods: AtomicU64,
    /// Remote clusters that were added (`remote_cluster_secret_events_total`).
    pub clusters_added: AtomicU64,
    /// Remote clusters that got other credentials.
    pub clusters_changed: AtomicU64,
    /// Remote clusters that were removed.
    pub clusters_removed: AtomicU64,
    events: [[AtomicU64; EventKind::ALL.len()]; ObjectKind::ALL.len()],
}

impl Counts {
    /// How many events of this kind came: metric `pilot_k8s_reg_events{type, event}`, where `type` is
    /// [`ObjectKind::name`].
    pub fn events(&self, object: ObjectKind, event: EventKind) -> u64 {
        self.events[object as usize][event as usize].load(Ordering::Relaxed)
    }

    pub(crate) fn event(&self, object: ObjectKind, event: EventKind) {
        self.events[object as usize][event as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn add(counter: &AtomicU64, amount: usize) {
        counter.fetch_add(amount as u64, Ordering::Relaxed);
    }
}
