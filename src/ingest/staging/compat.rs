//! What the peer remembers and we derive anew: kept under `--compat istiod` only (D1).

use std::collections::{BTreeMap, HashMap, HashSet};

use super::Staging;
use super::pod_table::PodId;
use crate::ingest::convert::{Gateways, HealthBasis};
use crate::ingest::objects::{NodeObject, ObjectKey};
use crate::model::{Name, Quirk, Quirks};

/// Which kind of object is deleted.
#[derive(Clone, Copy, Debug)]
pub(super) enum Deleted {
    Service,
    Gateway,
}

/// What was known when each slice came, and of gateways that no object tells of any longer.
#[derive(Debug)]
pub(super) struct Compat {
    quirks: Quirks,
    /// Q32: what its Service said then.
    basis: HashMap<ObjectKey, HealthBasis>,
    /// Q23: pods it names that were not known then and have not been ready since.
    late: HashMap<ObjectKey, HashSet<PodId>>,
    /// Q6: nodes as they were when they last had an ExternalIP.
    nodes: BTreeMap<Name, NodeObject>,
    /// Q6: gateways of Services as they were when those last had addresses.
    services: BTreeMap<ObjectKey, Gateways>,
    /// Q8: gateways of Gateway objects as they were when those last had the label, with their account.
    labelled: BTreeMap<ObjectKey, (Name, Gateways)>,
}

impl Compat {
    pub(super) fn new(quirks: Quirks) -> Self {
        Self {
            quirks,
            basis: HashMap::new(),
            late: HashMap::new(),
            nodes: BTreeMap::new(),
            services: BTreeMap::new(),
            labelled: BTreeMap::new(),
        }
    }

    /// Q6: a node is there; one without an ExternalIP counts as it was. Says whether what counts differs.
    pub(super) fn node(&mut self, name: &Name, node: Option<&NodeObject>) -> bool {
        match node {
            Some(node) if node.external_ip.is_none() => false,
            Some(node) => self.nodes.insert(name.clone(), node.clone()).as_ref() != Some(node),
            None => self.nodes.remove(name).is_some(),
        }
    }

    /// Q6: the nodes that count.
    pub(super) fn nodes(&self) -> impl Iterator<Item = (&Name, &NodeObject)> {
        self.nodes.iter()
    }

    /// Q6: a Service is evaluated; what it told is remembered while it has addresses.
    pub(super) fn service(&mut self, key: &ObjectKey, told: &Gateways) {
        if self.quirks.has(Quirk::Q6) {
            self.services.insert(key.clone(), told.clone());
        }
    }

    /// Q6: Services whose gateways are remembered.
    pub(super) fn services(&self) -> impl Iterator<Item = (&ObjectKey, &Gateways)> {
        self.services.iter()
    }

    /// Q8: a Gateway object with the label is evaluated.
    pub(super) fn labelled(&mut self, key: &ObjectKey, account: &Name, told: &Gateways) {
        if self.quirks.has(Quirk::Q8) {
            self.labelled.insert(key.clone(), (account.clone(), told.clone()));
        }
    }

    /// Q8: Gateway objects whose gateways are remembered.
    pub(super) fn once_labelled(&self) -> impl Iterator<Item = (&ObjectKey, &(Name, Gateways))> {
        self.labelled.iter()
    }

    /// A Service or Gateway object is deleted: nothing of it is remembered. Says whether anything was.
    pub(super) fn deleted(&mut self, key: &ObjectKey, what: Deleted) -> bool {
        match what {
            Deleted::Service => self.services.remove(key).is_some(),
            Deleted::Gateway => self.labelled.remove(key).is_some(),
        }
    }

    /// The rules of the networks changed: every Service is evaluated as it is.
    pub(super) fn rules_changed(&mut self) {
        self.services.clear();
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
            let basis = HealthBasis::of(service.map(AsRef::as_ref), &self.context.session_labels);
            self.compat.basis.insert(key.clone(), basis);
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
