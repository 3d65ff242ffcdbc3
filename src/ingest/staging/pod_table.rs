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

use super::few::{Few, Lists};
use super::held::{Put, Store};
use super::slices::ServiceId;
use crate::ingest::convert::{Pod, PodShape};
use crate::ingest::objects::{ObjectKey, PodObject};
use crate::model::{Name, Shared, Workload};

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

/// Small, because there is one for every pod.
#[derive(Debug)]
struct Slot {
    state: State,
    named_by: Few<ServiceId>,
    marks: Marks,
}

/// The revision of a pod, 0 when it is not known, and whether a converted pod lends its metadata.
#[derive(Clone, Copy, Debug, Default)]
struct Marks(u64);

impl Marks {
    const LENDS: u64 = 1 << 63;

    fn lends(self) -> bool {
        self.0 & Self::LENDS != 0
    }

    fn set_lends(&mut self, lends: bool) {
        self.0 = self.0 & !Self::LENDS | if lends { Self::LENDS } else { 0 };
    }

    fn revision(self) -> Option<u64> {
        Some(self.0 & !Self::LENDS).filter(|revision| *revision != 0)
    }

    /// Revisions count the writes to a store: 63 bits do.
    fn set_revision(&mut self, revision: Option<u64>) {
        self.0 = self.0 & Self::LENDS | revision.unwrap_or_default().min(!Self::LENDS);
    }
}

#[derive(Debug)]
enum State {
    /// A pod whose name, node and addresses are what its workload says.
    Converted(Arc<PodShape>, Arc<Workload>),
    /// Any other; `None` is a free place.
    Other(Option<Box<Other>>),
}

#[derive(Debug)]
struct Other {
    key: ObjectKey,
    /// `None`: slices name it, or endpoints still see it.
    pod: Option<Pod>,
    /// What endpoints see.
    workload: Option<Arc<Workload>>,
}

impl Slot {
    fn new(key: ObjectKey) -> Self {
        let other = Other { key, pod: None, workload: None };
        Self { state: State::Other(Some(Box::new(other))), named_by: Few::None, marks: Marks::default() }
    }

    fn key(&self) -> (&str, &str) {
        match &self.state {
            State::Converted(_, workload) => (&workload.namespace, &workload.name),
            State::Other(Some(other)) => (&other.key.namespace, &other.key.name),
            State::Other(None) => ("", ""),
        }
    }

    fn workload(&self) -> Option<&Arc<Workload>> {
        match &self.state {
            State::Converted(_, workload) => Some(workload),
            State::Other(other) => other.as_ref()?.workload.as_ref(),
        }
    }

    fn pod(&self) -> Option<Pod> {
        match &self.state {
            State::Converted(shape, workload) => Some(Pod {
                shape: Arc::clone(shape),
                node: workload.node().clone(),
                addresses: workload.addresses.clone(),
                failed: false,
                lends: self.marks.lends(),
            }),
            State::Other(other) => other.as_ref()?.pod.clone(),
        }
    }

    /// Addresses it lends its metadata to.
    fn lent(&self) -> &[IpAddr] {
        match &self.state {
            State::Converted(_, workload) if self.marks.lends() => &workload.addresses,
            State::Other(Some(other)) => other.pod.as_ref().map(Pod::lent).unwrap_or_default(),
            _ => &[],
        }
    }

    fn is_known(&self) -> bool {
        match &self.state {
            State::Converted(..) => true,
            State::Other(other) => other.as_ref().is_some_and(|other| other.pod.is_some()),
        }
    }

    /// Whether the pod is known and says this.
    fn says(&self, pod: &Pod) -> bool {
        match &self.state {
            State::Converted(shape, workload) => {
                let own = (pod.failed, pod.lends) == (false, self.marks.lends());
                own && pod.is_told_by(workload) && pod.shape == *shape
            }
            State::Other(other) => other.as_ref().and_then(|other| other.pod.as_ref()) == Some(pod),
        }
    }

    /// Takes apart what is kept, to be [set](Self::set) again.
    fn apart(&mut self) -> Other {
        match std::mem::replace(&mut self.state, State::Other(None)) {
            State::Converted(shape, workload) => Other {
                key: ObjectKey { namespace: workload.namespace.clone(), name: workload.name.clone() },
                pod: Some(Pod {
                    shape,
                    node: workload.node().clone(),
                    addresses: workload.addresses.clone(),
                    failed: false,
                    lends: self.marks.lends(),
                }),
                workload: Some(workload),
            },
            State::Other(Some(other)) => *other,
            State::Other(None) => Other { key: ObjectKey::default(), pod: None, workload: None },
        }
    }

    fn set(&mut self, other: Other) {
        self.state = match other {
            Other { pod: Some(pod), workload: Some(workload), .. }
                if !pod.failed && pod.is_told_by(&workload) =>
            {
                self.marks.set_lends(pod.lends);
                State::Converted(pod.shape, workload)
            }
            other => State::Other(Some(Box::new(other))),
        };
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
    /// By namespace. Made when the first ServiceEntry with a selector asks: most clusters have none.
    by_namespace: OnceCell<HashMap<Name, BTreeSet<PodId>>>,
    /// What `named_by` of some pods stands for.
    lists: Lists<ServiceId>,
    shapes: Shared<PodShape>,
    /// Pods that are known.
    len: usize,
}

impl PodTable {
    /// How many pods are known.
    pub(super) fn count(&self) -> usize {
        self.len
    }

    /// How many deployments they belong to, about.
    pub(super) fn shapes(&self) -> usize {
        self.shapes.len()
    }

    /// Bytes of the table itself.
    pub(super) fn bytes(&self) -> usize {
        let lenders = self.lenders.get().map_or(0, |all| all.capacity() * size_of::<(u32, PodId)>());
        // A hash table has a byte beside each entry; pods stand in the list of their node.
        self.slots.len() * size_of::<Slot>() + self.by_key.capacity() * 5 + lenders + self.len * 4
    }

    /// What is kept of a pod.
    pub(super) fn pack(&mut self, object: PodObject) -> Pod {
        let mut pod = Pod::from(object);
        self.shapes.unify(&mut pod.shape);
        pod
    }

    fn hash(&self, (namespace, name): (&str, &str)) -> u64 {
        self.hasher.hash_one((namespace, name))
    }

    fn slot(&self, id: PodId) -> &Slot {
        &self.slots[id.index()]
    }

    /// The place of a pod, if it has one.
    pub(super) fn find(&self, key: &ObjectKey) -> Option<PodId> {
        self.find_named(&key.namespace, &key.name)
    }

    fn find_named(&self, namespace: &str, name: &str) -> Option<PodId> {
        let key = (namespace, name);
        self.by_key.find(self.hash(key), |id| self.slot(*id).key() == key).copied()
    }

    /// The place of a pod that a slice names, made if need be.
    pub(super) fn place_named(&mut self, namespace: &str, name: &str) -> PodId {
        match self.find_named(namespace, name) {
            Some(id) => id,
            None => self.new_place(ObjectKey { namespace: Name::interned(namespace), name: name.into() }),
        }
    }

    fn new_place(&mut self, key: ObjectKey) -> PodId {
        let hash = self.hash((&key.namespace, &key.name));
        let slot = Slot::new(key);
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
        self.by_key.insert_unique(hash, id, |id| hasher.hash_one(slots[id.index()].key()));
        if let Some(all) = self.by_namespace.get_mut() {
            all.entry(slots[id.index()].key().0.into()).or_default().insert(id);
        }
        id
    }

    /// Gives a place free if nothing speaks of its pod.
    pub(super) fn release(&mut self, id: PodId) {
        let slot = &self.slots[id.index()];
        let idle = matches!(&slot.state, State::Other(Some(o)) if o.pod.is_none() && o.workload.is_none());
        if !idle || !slot.named_by.is_empty() {
            return;
        }
        let hash = self.hash(slot.key());
        if let Ok(entry) = self.by_key.find_entry(hash, |other| *other == id) {
            entry.remove();
            self.leave_namespace(id);
            self.slots[id.index()].state = State::Other(None);
            self.free.push(id);
        }
    }

    fn leave_namespace(&mut self, id: PodId) {
        let namespace = self.slots[id.index()].key().0;
        if let Some(all) = self.by_namespace.get_mut()
            && let Some(pods) = all.get_mut(namespace)
        {
            pods.remove(&id);
            if pods.is_empty() {
                all.remove(namespace);
            }
        }
    }

    /// The places of a namespace, in no order that means anything. The first call looks at every pod.
    pub(super) fn in_namespace(&self, namespace: &Name) -> Vec<PodId> {
        let all = self.by_namespace.get_or_init(|| {
            let mut all: HashMap<Name, BTreeSet<PodId>> = HashMap::new();
            for id in self.ids() {
                all.entry(self.slot(id).key().0.into()).or_default().insert(id);
            }
            all
        });
        all.get(namespace).into_iter().flatten().copied().collect()
    }

    /// Every place that is in use.
    pub(super) fn ids(&self) -> impl Iterator<Item = PodId> {
        self.by_key.iter().copied()
    }

    pub(super) fn key(&self, id: PodId) -> ObjectKey {
        match &self.slot(id).state {
            State::Converted(_, workload) => ObjectKey::new(&workload.namespace, &workload.name),
            State::Other(other) => other.as_ref().map(|other| other.key.clone()).unwrap_or_default(),
        }
    }

    /// The pod, if it is known.
    pub(super) fn pod(&self, id: PodId) -> Option<Pod> {
        self.slot(id).pod()
    }

    /// The pod's node; empty when it has none or is not known.
    pub(super) fn node(&self, id: PodId) -> Name {
        match &self.slot(id).state {
            State::Converted(_, workload) => workload.node().clone(),
            State::Other(other) => {
                let pod = other.as_ref().and_then(|other| other.pod.as_ref());
                pod.map(|pod| pod.node.clone()).unwrap_or_default()
            }
        }
    }

    /// Replaces what is known of a pod; gives what it was. What it was converted to stays until it is
    /// converted again.
    fn set_pod(&mut self, id: PodId, pod: Option<Pod>) -> Option<Pod> {
        let mut kept = self.slots[id.index()].apart();
        let old = std::mem::replace(&mut kept.pod, pod);
        let new = kept.pod.as_ref();
        self.len = self.len + usize::from(new.is_some()) - usize::from(old.is_some());
        self.move_between_nodes(id, node(old.as_ref()), node(new));
        if self.lenders.get().is_some() {
            self.move_lent(id, &kept, old.as_ref());
        }
        self.slots[id.index()].set(kept);
        old
    }

    fn move_lent(&mut self, id: PodId, kept: &Other, old: Option<&Pod>) {
        let before = old.map(Pod::lent).unwrap_or_default();
        let after = kept.pod.as_ref().map(Pod::lent).unwrap_or_default();
        for address in before.iter().filter(|address| !after.contains(address)) {
            self.end_lending(id, &kept.key.namespace, *address);
        }
        for (at, address) in after.iter().enumerate() {
            if !before.contains(address) && !after[..at].contains(address) {
                self.lend(id, &kept.key.namespace, *address);
            }
        }
    }

    fn move_between_nodes(&mut self, id: PodId, before: Option<&Name>, after: Option<&Name>) {
        if before == after {
            return;
        }
        if let Some(node) = before
            && let Some(pods) = self.by_node.get_mut(node)
        {
            pods.retain(|other| *other != id);
            if pods.is_empty() {
                self.by_node.remove(node);
            }
        }
        if let Some(node) = after {
            match self.by_node.get_mut(node) {
                Some(pods) => pods.push(id),
                None => _ = self.by_node.insert(node.clone(), vec![id]),
            }
        }
    }

    fn lend(&mut self, id: PodId, namespace: &str, address: IpAddr) {
        let short = self.short(namespace, address);
        if let Some(lenders) = self.lenders.get_mut() {
            lenders.insert_unique(spread(short), (short, id), |(short, _)| spread(*short));
        }
    }

    fn end_lending(&mut self, id: PodId, namespace: &str, address: IpAddr) {
        let short = self.short(namespace, address);
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
            let lent: BTreeSet<IpAddr> = self.lent_by(id).iter().copied().collect();
            for address in lent {
                let short = self.short(self.slot(id).key().0, address);
                lenders.insert_unique(spread(short), (short, id), |(short, _)| spread(*short));
            }
        }
        lenders
    }

    /// What an address of a namespace is entered by: a table of pods cannot tell for which of a pod's
    /// addresses an entry stands, so that each keeps its hash.
    fn short(&self, namespace: &str, address: IpAddr) -> u32 {
        self.hasher.hash_one((namespace, address)) as u32
    }

    /// Pods that run on a node.
    pub(super) fn on_node(&self, node: &Name) -> Vec<PodId> {
        self.by_node.get(node).cloned().unwrap_or_default()
    }

    /// How many they are.
    pub(super) fn count_on(&self, node: &Name) -> usize {
        self.by_node.get(node).map_or(0, |pods| pods.len())
    }

    /// Addresses a pod lends its metadata to.
    pub(super) fn lent_by(&self, id: PodId) -> &[IpAddr] {
        self.slot(id).lent()
    }

    /// The pod of a namespace that lends its metadata to an address: the first by name.
    pub(super) fn lender(&self, namespace: &Name, address: IpAddr) -> Option<PodId> {
        let lenders = self.lenders.get_or_init(|| self.all_lenders());
        let short = self.short(namespace, address);
        let lends = |id: &PodId| {
            let slot = self.slot(*id);
            slot.key().0 == namespace.as_str() && slot.lent().contains(&address)
        };
        let candidates = lenders.iter_hash(spread(short)).filter(|(other, _)| *other == short);
        let candidates = candidates.map(|(_, id)| *id).filter(lends);
        candidates.min_by(|a, b| self.slot(*a).key().cmp(&self.slot(*b).key()))
    }

    /// What endpoints see of a pod.
    pub(super) fn workload(&self, id: PodId) -> Option<&Arc<Workload>> {
        self.slot(id).workload()
    }

    /// Replaces what endpoints see of a pod.
    pub(super) fn set_workload(&mut self, id: PodId, workload: Option<Arc<Workload>>) {
        let slot = &mut self.slots[id.index()];
        let kept = slot.apart();
        slot.set(Other { workload, ..kept });
    }

    /// Services whose slices name a pod, once for each slice.
    pub(super) fn named_by(&self, id: PodId) -> &[ServiceId] {
        self.lists.of(&self.slot(id).named_by)
    }

    /// How many pods were named by more than one slice at once, at most.
    #[cfg(test)]
    pub(super) fn lists_made(&self) -> usize {
        self.lists.made()
    }

    /// One more slice of a service names a pod.
    pub(super) fn name(&mut self, id: PodId, service: ServiceId) {
        self.lists.add(&mut self.slots[id.index()].named_by, service);
    }

    /// One slice of a service less names a pod.
    pub(super) fn unname(&mut self, id: PodId, service: ServiceId) {
        self.lists.remove(&mut self.slots[id.index()].named_by, service);
    }
}

impl Store<Pod> for PodTable {
    fn len(&self) -> usize {
        self.len
    }

    fn reserve(&mut self, pods: usize) {
        self.slots.reserve_exact(pods);
        let (slots, hasher) = (&self.slots, &self.hasher);
        self.by_key.reserve(pods, |id| hasher.hash_one(slots[id.index()].key()));
    }

    fn weight(&self, key: &ObjectKey, weigh: &impl Fn(&ObjectKey, &Pod) -> usize) -> usize {
        self.find(key).and_then(|id| self.pod(id)).map_or(0, |pod| weigh(key, &pod))
    }

    fn all(&self) -> impl Iterator<Item = ObjectKey> {
        self.ids().filter(|id| self.slot(*id).is_known()).map(|id| self.key(id))
    }

    fn revision(&self, key: &ObjectKey) -> Option<u64> {
        self.slot(self.find(key)?).marks.revision()
    }

    fn set_revision(&mut self, key: &ObjectKey, revision: Option<u64>) -> bool {
        let slot = self.find(key).map(|id| &mut self.slots[id.index()]).filter(|slot| slot.is_known());
        let there = slot.is_some();
        if let Some(slot) = slot {
            slot.marks.set_revision(revision);
        }
        there
    }

    fn put(&mut self, key: &ObjectKey, pod: Pod) -> Put<Pod> {
        let id = match self.find(key) {
            Some(id) if self.slot(id).says(&pod) => return Put::Same,
            Some(id) => id,
            None => self.new_place(key.clone()),
        };
        self.set_pod(id, Some(pod)).map_or(Put::New, Put::Changed)
    }

    fn take(&mut self, key: &ObjectKey) -> Option<Pod> {
        let id = self.find(key)?;
        self.slots[id.index()].marks.set_revision(None);
        self.set_pod(id, None)
    }
}

/// Where a pod runs, if it counts.
fn node(pod: Option<&Pod>) -> Option<&Name> {
    pod.filter(|pod| !pod.failed).map(|pod| &pod.node).filter(|node| !node.is_empty())
}

/// A hash for a table out of half of one.
fn spread(short: u32) -> u64 {
    u64::from(short).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
