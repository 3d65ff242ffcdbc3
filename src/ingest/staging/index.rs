//! Reverse indexes: from a pod, a node or an address to what depends on it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use crate::ingest::objects::{ObjectKey, PodObject, SliceObject};
use crate::model::Name;

/// Pods by node and by the address they lend their metadata to.
#[derive(Debug, Default)]
pub(super) struct PodIndex {
    by_node: HashMap<Name, HashSet<ObjectKey>>,
    /// Several pods may have one address (host network, reuse): ordered by name, the first one lends.
    lenders: HashMap<(Name, IpAddr), BTreeSet<ObjectKey>>,
    lent: HashMap<ObjectKey, Vec<IpAddr>>,
}

impl PodIndex {
    /// Replaces what is known of a pod and returns the addresses for which the lender may differ.
    pub(super) fn replace(
        &mut self,
        key: &ObjectKey,
        old: Option<&PodObject>,
        new: Option<&PodObject>,
    ) -> BTreeSet<IpAddr> {
        if let Some(pods) = old.and_then(|old| self.by_node.get_mut(&old.node)) {
            pods.remove(key);
        }
        if let Some(new) = new.filter(|new| !new.node.is_empty()) {
            self.by_node.entry(new.node.clone()).or_default().insert(key.clone());
        }
        if let Some(old) = old.filter(|old| self.by_node.get(&old.node).is_some_and(HashSet::is_empty)) {
            self.by_node.remove(&old.node);
        }
        let before = self.lent.remove(key).unwrap_or_default();
        let after = new.filter(|new| new.lends).map(|new| new.addresses.clone()).unwrap_or_default();
        for address in &before {
            let place = (key.namespace.clone(), *address);
            if let Some(pods) = self.lenders.get_mut(&place) {
                pods.remove(key);
                if pods.is_empty() {
                    self.lenders.remove(&place);
                }
            }
        }
        for address in &after {
            self.lenders.entry((key.namespace.clone(), *address)).or_default().insert(key.clone());
        }
        let (before, after): (BTreeSet<_>, BTreeSet<_>) =
            (before.into_iter().collect(), after.into_iter().collect());
        if !after.is_empty() {
            self.lent.insert(key.clone(), after.iter().copied().collect());
        }
        before.symmetric_difference(&after).copied().collect()
    }

    /// Pods that run on a node.
    pub(super) fn on_node(&self, node: &Name) -> Vec<ObjectKey> {
        self.by_node.get(node).into_iter().flatten().cloned().collect()
    }

    /// Addresses a pod lends its metadata to.
    pub(super) fn lent_by(&self, key: &ObjectKey) -> Vec<IpAddr> {
        self.lent.get(key).cloned().unwrap_or_default()
    }

    /// The pod that lends its metadata to an address.
    pub(super) fn lender(&self, namespace: &Name, address: IpAddr) -> Option<ObjectKey> {
        self.lenders.get(&(namespace.clone(), address))?.first().cloned()
    }
}

/// Which services name a pod, and which have bare addresses.
#[derive(Debug, Default)]
pub(super) struct References {
    /// Pod → services whose slices name it, with the number of slices.
    pods: HashMap<ObjectKey, BTreeMap<ObjectKey, usize>>,
    /// (namespace, bare address) → services, with the number of slices.
    addresses: HashMap<(Name, IpAddr), BTreeMap<ObjectKey, usize>>,
}

impl References {
    /// Adds what a slice of `service` names; pods whose services differ are put into `touched`.
    pub(super) fn add(
        &mut self,
        service: &ObjectKey,
        slice: &SliceObject,
        touched: &mut BTreeSet<ObjectKey>,
    ) {
        for pod in named(slice) {
            let count = self.pods.entry(pod.clone()).or_default().entry(service.clone()).or_default();
            *count += 1;
            if *count == 1 {
                touched.insert(pod.clone());
            }
        }
        for address in bare(slice) {
            let place = (service.namespace.clone(), address);
            *self.addresses.entry(place).or_default().entry(service.clone()).or_default() += 1;
        }
    }

    /// Takes back what [`add`](Self::add) added.
    pub(super) fn remove(
        &mut self,
        service: &ObjectKey,
        slice: &SliceObject,
        touched: &mut BTreeSet<ObjectKey>,
    ) {
        for pod in named(slice) {
            if decrement(&mut self.pods, pod, service) {
                touched.insert(pod.clone());
            }
        }
        for address in bare(slice) {
            decrement(&mut self.addresses, &(service.namespace.clone(), address), service);
        }
    }

    /// Services whose slices name a pod.
    pub(super) fn naming(&self, pod: &ObjectKey) -> impl Iterator<Item = ObjectKey> {
        self.pods.get(pod).into_iter().flat_map(BTreeMap::keys).cloned()
    }

    /// Services of a namespace with this bare address.
    pub(super) fn borrowers(&self, namespace: &Name, address: IpAddr) -> Vec<ObjectKey> {
        let place = (namespace.clone(), address);
        self.addresses.get(&place).into_iter().flat_map(BTreeMap::keys).cloned().collect()
    }

    /// Every service with a bare address: its network is the cluster's (R2.5).
    pub(super) fn borrowing(&self) -> BTreeSet<ObjectKey> {
        self.addresses.values().flat_map(BTreeMap::keys).cloned().collect()
    }
}

/// One less; says whether that was the last one.
fn decrement<K: std::hash::Hash + Eq + Clone>(
    counts: &mut HashMap<K, BTreeMap<ObjectKey, usize>>,
    key: &K,
    service: &ObjectKey,
) -> bool {
    let Some(services) = counts.get_mut(key) else {
        return false;
    };
    let Some(count) = services.get_mut(service) else {
        return false;
    };
    *count -= 1;
    if *count > 0 {
        return false;
    }
    services.remove(service);
    if services.is_empty() {
        counts.remove(key);
    }
    true
}

fn named(slice: &SliceObject) -> HashSet<&ObjectKey> {
    slice.endpoints.iter().filter_map(|endpoint| endpoint.pod.as_ref()).collect()
}

fn bare(slice: &SliceObject) -> HashSet<IpAddr> {
    let without_pod = slice.endpoints.iter().filter(|endpoint| endpoint.pod.is_none());
    let addresses = without_pod.flat_map(|endpoint| &endpoint.addresses);
    let parsed = addresses.filter_map(|text| text.parse::<IpAddr>().ok());
    parsed.map(|address| address.to_canonical()).collect()
}
