//! The pods of a cluster, packed: by key, by node and by the addresses they lend their metadata to.
//!
//! One place per pod, whether the pod itself is known or a slice names it. Of a pod that has been converted
//! only its shape is kept: node and addresses are read from what it was converted to.

use std::cell::OnceCell;
use std::collections::{BTreeSet, HashMap};
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::few::Few;
use super::held::Store;
use super::slices::ServiceId;
use crate::ingest::convert::{Pod, PodShape};
use crate::ingest::objects::{ObjectKey, PodObject};
use crate::model::{Labels, Name, ServiceKey, Set, Shared, Workload, WorkloadCell};

/// The place of a pod; used again once nothing speaks of the pod any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PodId(NonZeroU32);

impl PodId {
    fn new(index: usize) -> Self {
        let number = u32::try_from(index + 1).ok().and_then(NonZeroU32::new);
        Self(number.expect("fewer than 2^32 pods"))
    }

    fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

#[derive(Debug)]
struct Slot {
    key: ObjectKey,
    kept: Kept,
    /// What endpoints see.
    workload: Option<Arc<Workload>>,
    /// The services last told with it.
    told: Set<ServiceKey>,
    /// Services whose slices name it, once for each slice.
    named_by: Few<ServiceId>,
}

#[derive(Debug)]
enum Kept {
    Absent,
    Whole(Box<Pod>),
    /// The rest is what its workload says.
    Shape(Arc<PodShape>),
    /// The same of one that lends its metadata.
    Lender(Arc<PodShape>),
}

impl Kept {
    fn of(pod: Pod, workload: Option<&Workload>) -> Self {
        let told = |workload: &Workload| workload.addresses == pod.addresses && *workload.node() == pod.node;
        match !pod.failed && workload.is_some_and(told) {
            true if pod.lends => Self::Lender(pod.shape),
            true => Self::Shape(pod.shape),
            false => Self::Whole(Box::new(pod)),
        }
    }
}

/// Every pod that is known or named.
#[derive(Debug, Default)]
pub(super) struct PodTable {
    slots: Vec<Slot>,
    free: Vec<PodId>,
    hasher: DefaultHashBuilder,
    by_key: HashTable<PodId>,
    /// By namespace and each address lent. Several pods may have one address (host network, reuse). Made when
    /// the first address without a pod asks: most clusters have none.
    lenders: OnceCell<HashTable<(u32, PodId)>>,
    by_node: HashMap<Name, Vec<PodId>>,
    shapes: Shared<PodShape>,
    /// Pods that are known.
    len: usize,
}

impl PodTable {
    /// How many pods are known.
    pub(super) fn count(&self) -> usize {
        self.len
    }

    /// What is kept of a pod.
    pub(super) fn pack(&mut self, object: PodObject) -> Pod {
        let mut pod = Pod::from(object);
        pod.shape = self.shapes.of_arc(pod.shape, |shape| {
            let interned = |(name, value): (&Name, &Name)| (Name::interned(name), Name::interned(value));
            PodShape {
                labels: shape.labels.iter().map(interned).collect::<Labels>(),
                ..PodShape::clone(shape)
            }
        });
        pod.node = Name::interned(&pod.node);
        pod
    }

    /// The place of a pod, if it has one.
    pub(super) fn find(&self, key: &ObjectKey) -> Option<PodId> {
        let hash = self.hasher.hash_one((&*key.namespace, &*key.name));
        self.by_key.find(hash, |id| self.slots[id.index()].key == *key).copied()
    }

    /// The place of a pod that a slice names, made if need be.
    pub(super) fn place_named(&mut self, key: &ObjectKey) -> PodId {
        match self.find(key) {
            Some(id) => id,
            None => {
                self.place(&ObjectKey { namespace: Name::interned(&key.namespace), name: key.name.clone() })
            }
        }
    }

    /// The place of a pod, made if need be.
    fn place(&mut self, key: &ObjectKey) -> PodId {
        let hash = self.hasher.hash_one((&*key.namespace, &*key.name));
        if let Some(id) = self.by_key.find(hash, |id| self.slots[id.index()].key == *key) {
            return *id;
        }
        let slot = Slot {
            key: key.clone(),
            kept: Kept::Absent,
            workload: None,
            told: Set::default(),
            named_by: Few::None,
        };
        let id = match self.free.pop() {
            Some(id) => {
                self.slots[id.index()] = slot;
                id
            }
            None => {
                self.slots.push(slot);
                PodId::new(self.slots.len() - 1)
            }
        };
        let (slots, hasher) = (&self.slots, &self.hasher);
        self.by_key.insert_unique(hash, id, |id| {
            let key = &slots[id.index()].key;
            hasher.hash_one((&*key.namespace, &*key.name))
        });
        id
    }

    /// Gives a place free if nothing speaks of its pod.
    pub(super) fn release(&mut self, id: PodId) {
        let slot = &self.slots[id.index()];
        let used = slot.workload.is_some() || !slot.named_by.is_empty();
        if used || !matches!(slot.kept, Kept::Absent) {
            return;
        }
        let hash = self.hasher.hash_one((&*slot.key.namespace, &*slot.key.name));
        if let Ok(entry) = self.by_key.find_entry(hash, |other| *other == id) {
            entry.remove();
            self.slots[id.index()].key = ObjectKey::default();
            self.free.push(id);
        }
    }

    /// Every place that is in use.
    pub(super) fn ids(&self) -> impl Iterator<Item = PodId> {
        self.by_key.iter().copied()
    }

    pub(super) fn key(&self, id: PodId) -> &ObjectKey {
        &self.slots[id.index()].key
    }

    /// Whether the pod itself is known.
    pub(super) fn is_known(&self, id: PodId) -> bool {
        !matches!(self.slots[id.index()].kept, Kept::Absent)
    }

    /// The pod, if it is known.
    pub(super) fn pod(&self, id: PodId) -> Option<Pod> {
        let slot = &self.slots[id.index()];
        match (&slot.kept, &slot.workload) {
            (Kept::Whole(pod), _) => Some(Pod::clone(pod)),
            (Kept::Shape(shape) | Kept::Lender(shape), Some(workload)) => Some(Pod {
                shape: Arc::clone(shape),
                node: workload.node().clone(),
                addresses: workload.addresses.clone(),
                failed: false,
                lends: matches!(slot.kept, Kept::Lender(_)),
            }),
            _ => None,
        }
    }

    /// The pod's node; empty when it has none or is not known.
    pub(super) fn node(&self, id: PodId) -> Name {
        let slot = &self.slots[id.index()];
        match (&slot.kept, &slot.workload) {
            (Kept::Whole(pod), _) => pod.node.clone(),
            (Kept::Shape(_) | Kept::Lender(_), Some(workload)) => workload.node().clone(),
            _ => Name::default(),
        }
    }

    /// Replaces what is known of a pod; gives what it was. What it was converted to stays until it is
    /// converted again.
    fn set_pod(&mut self, id: PodId, pod: Option<Pod>) -> Option<Pod> {
        let old = self.pod(id);
        self.len = self.len + usize::from(pod.is_some()) - usize::from(old.is_some());
        let present = |pod: Option<&Pod>| pod.filter(|pod| !pod.failed).cloned();
        self.move_between_nodes(id, present(old.as_ref()), present(pod.as_ref()));
        let before = old.as_ref().map(Pod::lent).unwrap_or_default();
        let after = pod.as_ref().map(Pod::lent).unwrap_or_default();
        for address in before.iter().filter(|address| !after.contains(address)) {
            self.end_lending(id, *address);
        }
        for (at, address) in after.iter().enumerate() {
            if !before.contains(address) && !after[..at].contains(address) {
                self.lend(id, *address);
            }
        }
        let slot = &mut self.slots[id.index()];
        slot.kept = pod.map_or(Kept::Absent, |pod| Kept::of(pod, slot.workload.as_deref()));
        old
    }

    fn move_between_nodes(&mut self, id: PodId, before: Option<Pod>, after: Option<Pod>) {
        let node = |pod: Option<Pod>| pod.map(|pod| pod.node).filter(|node| !node.is_empty());
        let (before, after) = (node(before), node(after));
        if before == after {
            return;
        }
        if let Some(pods) = before.as_ref().and_then(|node| self.by_node.get_mut(node)) {
            pods.retain(|other| *other != id);
            if pods.is_empty() {
                before.map(|node| self.by_node.remove(&node));
            }
        }
        if let Some(node) = after {
            self.by_node.entry(node).or_default().push(id);
        }
    }

    fn lend(&mut self, id: PodId, address: IpAddr) {
        let short = self.short(&self.slots[id.index()].key.namespace, address);
        if let Some(lenders) = self.lenders.get_mut() {
            lenders.insert_unique(spread(short), (short, id), |(short, _)| spread(*short));
        }
    }

    fn end_lending(&mut self, id: PodId, address: IpAddr) {
        let short = self.short(&self.slots[id.index()].key.namespace, address);
        let lenders = self.lenders.get_mut();
        if let Some(Ok(entry)) =
            lenders.map(|all| all.find_entry(spread(short), |other| *other == (short, id)))
        {
            entry.remove();
        }
    }

    fn all_lenders(&self) -> HashTable<(u32, PodId)> {
        let mut lenders = HashTable::with_capacity(self.len);
        for id in self.ids() {
            let lent: BTreeSet<IpAddr> = self.lent_by(id).into_iter().collect();
            for address in lent {
                let short = self.short(&self.slots[id.index()].key.namespace, address);
                lenders.insert_unique(spread(short), (short, id), |(short, _)| spread(*short));
            }
        }
        lenders
    }

    /// What an address of a namespace is entered by: a table of pods cannot tell for which of a pod's
    /// addresses an entry stands, so that each keeps its hash.
    fn short(&self, namespace: &Name, address: IpAddr) -> u32 {
        self.hasher.hash_one((&**namespace, address)) as u32
    }

    /// Pods that run on a node.
    pub(super) fn on_node(&self, node: &Name) -> Vec<PodId> {
        self.by_node.get(node).cloned().unwrap_or_default()
    }

    /// Addresses a pod lends its metadata to.
    pub(super) fn lent_by(&self, id: PodId) -> Vec<IpAddr> {
        let slot = &self.slots[id.index()];
        if slot.is_lending() { slot.addresses().to_vec() } else { Vec::new() }
    }

    /// The pod of a namespace that lends its metadata to an address: the first by name.
    pub(super) fn lender(&self, namespace: &Name, address: IpAddr) -> Option<PodId> {
        let lenders = self.lenders.get_or_init(|| self.all_lenders());
        let short = self.short(namespace, address);
        let slot = |id: PodId| &self.slots[id.index()];
        let lends =
            |id: &PodId| slot(*id).key.namespace == *namespace && slot(*id).addresses().contains(&address);
        let candidates = lenders.iter_hash(spread(short)).filter(|(other, _)| *other == short);
        candidates.map(|(_, id)| *id).filter(lends).min_by(|a, b| slot(*a).key.cmp(&slot(*b).key))
    }

    /// What endpoints see of a pod.
    pub(super) fn workload(&self, id: PodId) -> Option<&Arc<Workload>> {
        self.slots[id.index()].workload.as_ref()
    }

    /// Replaces what endpoints see of a pod.
    pub(super) fn set_workload(&mut self, id: PodId, workload: Option<Arc<Workload>>) {
        let pod = self.pod(id);
        let slot = &mut self.slots[id.index()];
        slot.workload = workload;
        slot.kept = pod.map_or(Kept::Absent, |pod| Kept::of(pod, slot.workload.as_deref()));
    }

    /// Services whose slices name a pod, once for each slice.
    pub(super) fn named_by(&self, id: PodId) -> &[ServiceId] {
        self.slots[id.index()].named_by.as_slice()
    }

    /// One more slice of a service names a pod; says whether it is the first one.
    pub(super) fn name(&mut self, id: PodId, service: ServiceId) -> bool {
        let named_by = &mut self.slots[id.index()].named_by;
        let first = !named_by.contains(service);
        named_by.add(service);
        first
    }

    /// One slice of a service less names a pod; says whether it was the last one.
    pub(super) fn unname(&mut self, id: PodId, service: ServiceId) -> bool {
        let named_by = &mut self.slots[id.index()].named_by;
        named_by.remove(service);
        !named_by.contains(service)
    }

    /// Remembers the services that are told with a pod; gives those that were told before.
    pub(super) fn set_told(&mut self, id: PodId, services: Set<ServiceKey>) -> Set<ServiceKey> {
        std::mem::replace(&mut self.slots[id.index()].told, services)
    }

    /// Everything that is told of pods now.
    pub(super) fn cells(&self) -> Vec<WorkloadCell> {
        let cell = |slot: &Slot| {
            Some(WorkloadCell { workload: slot.workload.clone()?, services: slot.told.clone() })
        };
        let mut cells = Vec::with_capacity(self.len);
        cells.extend(self.slots.iter().filter_map(cell));
        cells
    }
}

impl Store<Pod> for PodTable {
    fn len(&self) -> usize {
        self.len
    }

    fn is_same(&self, key: &ObjectKey, pod: &Pod) -> bool {
        self.find(key).and_then(|id| self.pod(id)).as_ref() == Some(pod)
    }

    fn weight(&self, key: &ObjectKey, weigh: &impl Fn(&ObjectKey, &Pod) -> usize) -> usize {
        self.find(key).and_then(|id| self.pod(id)).map_or(0, |pod| weigh(key, &pod))
    }

    fn all(&self) -> impl Iterator<Item = &ObjectKey> {
        self.ids().filter(|id| self.is_known(*id)).map(|id| self.key(id))
    }

    fn put(&mut self, key: &ObjectKey, pod: Pod) -> Option<Pod> {
        let id = self.place(key);
        self.set_pod(id, Some(pod))
    }

    fn take(&mut self, key: &ObjectKey) -> Option<Pod> {
        let id = self.find(key)?;
        self.set_pod(id, None)
    }
}

impl Slot {
    fn is_lending(&self) -> bool {
        match &self.kept {
            Kept::Whole(pod) => !pod.lent().is_empty(),
            Kept::Lender(_) => true,
            Kept::Shape(_) | Kept::Absent => false,
        }
    }

    fn addresses(&self) -> &[IpAddr] {
        match (&self.kept, &self.workload) {
            (Kept::Whole(pod), _) => &pod.addresses,
            (Kept::Shape(_) | Kept::Lender(_), Some(workload)) => &workload.addresses,
            _ => &[],
        }
    }
}

/// Labels whose texts are the process's only copies.
pub(super) fn interned(labels: &Labels) -> Labels {
    labels.iter().map(|(label, value)| (Name::interned(label), Name::interned(value))).collect()
}

/// A hash for a table out of half of one.
fn spread(short: u32) -> u64 {
    u64::from(short).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
