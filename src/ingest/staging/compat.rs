//! What the peer remembers and we derive anew: kept under `--compat istiod` only (D1).

use std::collections::{HashMap, HashSet};

use super::Staging;
use super::pod_table::PodId;
use crate::ingest::convert::HealthBasis;
use crate::ingest::objects::ObjectKey;
use crate::model::{Quirk, Quirks};

/// What was known when each slice came.
#[derive(Debug)]
pub(super) struct Compat {
    quirks: Quirks,
    /// Q32: what its Service said then.
    basis: HashMap<ObjectKey, HealthBasis>,
    /// Q23: pods it names that were not known then and have not been ready since.
    late: HashMap<ObjectKey, HashSet<PodId>>,
}

impl Compat {
    pub(super) fn new(quirks: Quirks) -> Self {
        Self { quirks, basis: HashMap::new(), late: HashMap::new() }
    }

    /// Whether slices have to be remembered.
    pub(super) fn is_used(&self) -> bool {
        self.quirks.has(Quirk::Q20) || self.quirks.has(Quirk::Q23) || self.quirks.has(Quirk::Q32)
    }

    /// What the health of a slice's endpoints is derived from, if not from its Service as it is now.
    pub(super) fn basis(&self, slice: &ObjectKey) -> Option<HealthBasis> {
        self.basis.get(slice).copied()
    }

    /// Pods that count as unknown for a slice.
    pub(super) fn late(&self, slice: &ObjectKey) -> Option<&HashSet<PodId>> {
        self.late.get(slice)
    }

    /// A pod is ready; says whether any slice waited for that.
    pub(super) fn ready(&mut self, pod: PodId) -> bool {
        let mut waited = false;
        self.late.retain(|_, pods| {
            waited |= pods.remove(&pod);
            !pods.is_empty()
        });
        waited
    }
}

impl Staging {
    /// A slice came, changed or went: what is known now is what counts for it.
    pub(super) fn remember_slice(&mut self, key: &ObjectKey) {
        self.compat.basis.remove(key);
        self.compat.late.remove(key);
        let slice = self.slices.get(key);
        let Some((slice, service)) = slice.and_then(|slice| Some((slice, slice.service.clone()?))) else {
            return;
        };
        let pods: HashSet<_> = slice.entries.iter().filter_map(|entry| entry.pod).collect();
        if self.context.quirks.has(Quirk::Q20) {
            // The peer looks at the node when it builds the endpoint.
            pods.iter().for_each(|pod| self.convert_pod(*pod));
        }
        if self.context.quirks.has(Quirk::Q32) {
            let service = self.services.get(&ObjectKey::new(&key.namespace, service));
            self.compat.basis.insert(key.clone(), HealthBasis::of(service.map(AsRef::as_ref)));
        }
        if self.context.quirks.has(Quirk::Q23) {
            let unknown: HashSet<_> =
                pods.into_iter().filter(|pod| self.pods.workload(*pod).is_none()).collect();
            if !unknown.is_empty() {
                self.compat.late.insert(key.clone(), unknown);
            }
        }
    }
}
