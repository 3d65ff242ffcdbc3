//! What a generation serves before it has read anything: the snapshot of its cluster, and for how long.

use std::sync::Arc;

use tokio::time::Instant;

use super::age::Age;
use super::restore::Restore;
use super::status::Status;
use super::{Generation, Place};
use crate::model::Name;
use crate::registry::{ClusterWriter, NetworkClaim};

/// A snapshot that may be served, or is.
pub(super) struct StandIn {
    restore: Option<Restore>,
    /// Held while a snapshot is served.
    seat: Option<Place>,
    age: Age,
}

impl StandIn {
    /// Nothing: somebody else serves. A snapshot is kept once the cluster was read.
    pub(super) fn keeping(restore: Option<Restore>) -> Self {
        Self { restore, seat: None, age: Age::default() }
    }

    /// Looks for a snapshot. One that is served already, because whoever was to read the cluster was called off or
    /// its Secret could not be read, is taken charge of.
    pub(super) async fn look(mut restore: Option<Restore>, generation: &Generation, status: &Status) -> Self {
        let cluster = &generation.context.cluster;
        let uid = if status.serves_snapshot() {
            generation.registry.clusters().look(cluster, |row| row.uid.clone())
        } else if let Some(restore) = &mut restore {
            restore.load().await;
            Some(restore.uid())
        } else {
            None
        };
        // Another cluster that answers in its place is told of, however fast it is (K-20).
        generation.identities.recall(cluster, uid.unwrap_or_default());
        if status.serves_snapshot() {
            let seat = Some(Arc::clone(&generation.seat).lock_owned().await);
            return Self { restore, seat, age: Age::default() };
        }
        Self::keeping(restore)
    }

    /// Endpoints of a snapshot that is not served yet.
    pub(super) fn endpoints(&self) -> usize {
        self.restore.as_ref().map_or(0, Restore::endpoints)
    }

    /// Whether there is a snapshot that is not served yet.
    pub(super) fn is_ready(&self) -> bool {
        self.restore.as_ref().is_some_and(|restore| restore.due().is_some())
    }

    /// What a snapshot tells of networks that is not served yet.
    pub(super) fn claim(&self) -> Option<NetworkClaim> {
        self.restore.as_ref()?.claim()
    }

    /// Whether a snapshot that is not served yet has pods, of one namespace if there is one.
    pub(super) fn has_workloads(&self, namespace: Option<&Name>) -> bool {
        self.restore.as_ref().is_some_and(|restore| restore.has_workloads(namespace))
    }

    /// Whether other clusters see endpoints of a snapshot that is not served yet.
    pub(super) fn is_seen_elsewhere(&self) -> bool {
        self.restore.as_ref().is_some_and(Restore::is_seen_elsewhere)
    }

    /// Whether a snapshot that is not served yet has services of ServiceEntries.
    pub(super) fn has_entries(&self) -> bool {
        self.restore.as_ref().is_some_and(Restore::has_entries)
    }

    /// There is nothing to wait for: what there is, is served now.
    pub(super) fn hurry(&mut self) {
        self.restore.iter_mut().for_each(Restore::hurry);
    }

    /// When to [`attend`](Generation::attend) to it next.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        let age = self.age.due().filter(|due| self.seat.is_some() && *due > now);
        self.restore.as_ref().and_then(Restore::due).into_iter().chain(age).min()
    }

    /// The writer, if it is held, and what is to be told that the cluster was read.
    pub(super) fn retire(self) -> (Option<Place>, Option<Restore>) {
        (self.seat, self.restore)
    }
}

impl Generation {
    /// Serves the snapshot once it is due, and sees to what its endpoints are worth by its age (D35).
    pub(super) async fn attend(&self, stand_in: &mut StandIn, status: &mut Status, now: Instant) {
        if stand_in.restore.as_ref().and_then(Restore::due).is_some_and(|due| due <= now) {
            let seat = match stand_in.seat.take() {
                Some(seat) => seat,
                None => Arc::clone(&self.seat).lock_owned().await,
            };
            self.serve_snapshot(stand_in.seat.insert(seat), stand_in.restore.as_mut(), status);
        }
        let Some(writer) = stand_in.seat.as_mut().and_then(|seat| seat.as_mut()) else {
            return;
        };
        stand_in.age.set_policy(self.options.borrow().stale);
        self.weigh(&mut stand_in.age, status.stale_since(), writer, now);
    }

    fn serve_snapshot(
        &self,
        seat: &mut Option<ClusterWriter>,
        restore: Option<&mut Restore>,
        status: &mut Status,
    ) {
        // None: the cluster is being removed.
        let (Some(writer), Some(restore)) = (seat.as_mut(), restore) else {
            return;
        };
        let mut age = Age::default();
        age.set_policy(self.options.borrow().stale);
        // Before the endpoints are there: they never count for more than they are worth.
        self.weigh(&mut age, restore.confirmed(), writer, Instant::now());
        restore.serve(writer, status);
    }
}
