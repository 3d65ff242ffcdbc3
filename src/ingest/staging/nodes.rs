//! Pods that wait for their node to become known (D9, K-28).

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use super::Staging;
use super::pod_table::PodId;
use crate::ingest::objects::ObjectKey;
use crate::model::{Locality, Name, Quirk};

/// How long an unknown node is waited for; then the locality is empty until it comes.
const PATIENCE: Duration = Duration::from_secs(2);

/// Who waits, and until when.
#[derive(Debug, Default)]
pub(super) struct NodeWaits {
    now: Option<Instant>,
    by_deadline: BTreeSet<(Instant, PodId)>,
    /// `None`: it has waited long enough.
    by_pod: HashMap<PodId, Option<Instant>>,
}

impl NodeWaits {
    /// The time, as far as it was told.
    pub(super) fn now(&self) -> Option<Instant> {
        self.now
    }

    /// Whether a pod without a known node is to wait. It begins with the first question.
    fn begin(&mut self, pod: PodId) -> bool {
        let Some(now) = self.now else {
            return false;
        };
        match self.by_pod.get(&pod) {
            Some(deadline) => deadline.is_some(),
            None => {
                let deadline = now + PATIENCE;
                self.by_deadline.insert((deadline, pod));
                self.by_pod.insert(pod, Some(deadline));
                true
            }
        }
    }

    /// The node is known, or nobody wants to know it any longer.
    pub(super) fn end(&mut self, pod: PodId) {
        if self.by_pod.is_empty() {
            return;
        }
        if let Some(Some(deadline)) = self.by_pod.remove(&pod) {
            self.by_deadline.remove(&(deadline, pod));
        }
    }

    /// Pods that have waited long enough by now.
    pub(super) fn advance(&mut self, now: Instant) -> Vec<PodId> {
        self.now = Some(now);
        let mut over = Vec::new();
        while let Some((deadline, _)) = self.by_deadline.first()
            && *deadline <= now
            && let Some((_, pod)) = self.by_deadline.pop_first()
        {
            self.by_pod.insert(pod, None);
            over.push(pod);
        }
        over
    }

    /// Nodes may not be read: everybody who waits has waited long enough.
    pub(super) fn give_up(&mut self) -> Vec<PodId> {
        let waiting = std::mem::take(&mut self.by_deadline).into_iter().map(|(_, pod)| pod);
        self.by_pod.clear();
        waiting.collect()
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.by_deadline.first().map(|(deadline, _)| *deadline)
    }
}

impl Staging {
    /// The locality of the node of a pod that counts, by the node's name: `None` while that is waited for, `Some(None)` when it has none. A pod that
    /// was converted before, on the same node, keeps its locality meanwhile; on another one it is nothing (K-28).
    pub(super) fn locality(&mut self, pod: PodId, name: Option<&Name>) -> Option<Option<Locality>> {
        let name = name.cloned().unwrap_or_default();
        let node = self.nodes.get(&ObjectKey::new("", name.clone()));
        let moot = name.is_empty() || self.nodes.denies(&Name::default());
        if node.is_some() || moot || self.context.quirks.has(Quirk::Q20) {
            self.waits.end(pod);
            return Some(node.map(|node| node.locality.clone()));
        }
        if !self.waits.begin(pod) {
            return Some(None);
        }
        let before = self.pods.workload(pod).filter(|workload| *workload.node() == name);
        before.map(|workload| Some(workload.locality().clone()))
    }
}
