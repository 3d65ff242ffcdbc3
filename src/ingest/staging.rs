//! One cluster's objects and what they amount to. Single-threaded: no locks, no I/O, no clock.
//!
//! Events go in by [`Staging::apply`] in any order: an endpoint may precede its Service, pod or node, and the
//! reverse (contract 3). [`Staging::take`] converts what the events touched since the last call, each thing
//! once, and hands out only what differs. The result depends on the objects held, never on the order in
//! which they came.

mod guard;
mod held;
mod index;
mod quarantine;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

pub use guard::{Guard, HeldBack};
pub use held::{Held, Scope};
use held::Door;
use index::{PodIndex, References};
use quarantine::Quarantine;

use super::convert::{self, ClusterContext, EndpointInput, PodLookup};
use super::counts::{Counts, EventKind};
use super::objects::{
    NamespaceObject, NodeObject, ObjectKey, ObjectKind, PodObject, ServiceObject, SliceObject,
};
use super::watch::SourceEvent;
use crate::model::{EndpointShard, Name, NetworkGateway, NetworkId, ServiceKey, Workload, WorkloadId};
use crate::registry::ClusterState;

/// An event of any of the five sources.
#[derive(Clone, Debug)]
pub enum StagedEvent {
    /// About a Namespace.
    Namespace(SourceEvent<NamespaceObject>),
    /// About a Node.
    Node(SourceEvent<NodeObject>),
    /// About a Pod.
    Pod(SourceEvent<PodObject>),
    /// About a Service.
    Service(SourceEvent<ServiceObject>),
    /// About an EndpointSlice.
    Slice(SourceEvent<SliceObject>),
}

/// Where a cluster belongs and its gateways.
pub type Networks = (Option<NetworkId>, Vec<NetworkGateway>);

/// The namespace every cluster has.
const HOME: &str = "kube-system";
/// More than a list may take away unasked: no cluster is without its first namespace.
const WHOLE_CLUSTER: usize = 1000;

/// What differs since the last one: to be published together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// The networks part, if it differs.
    pub networks: Option<Networks>,
    /// Pods; `None` are gone.
    pub workloads: Vec<(WorkloadId, Option<Arc<Workload>>)>,
    /// Shares of services; `None` are gone.
    pub shards: Vec<(ServiceKey, Option<Arc<EndpointShard>>)>,
}

impl Batch {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What the events touched and nobody converted yet.
#[derive(Debug, Default)]
struct Dirty {
    services: BTreeSet<ObjectKey>,
    pods: BTreeSet<ObjectKey>,
    networks: bool,
}

/// The objects of one cluster, their reverse indexes and what was made of them.
#[derive(Debug)]
pub struct Staging {
    context: ClusterContext,
    system_namespace: Name,
    counts: Arc<Counts>,
    guard: Guard,
    namespaces: Held<NamespaceObject>,
    nodes: Held<NodeObject>,
    pods: Held<PodObject>,
    services: Held<ServiceObject>,
    slices: Held<SliceObject>,
    /// Names of slices by the Service they belong to.
    by_service: HashMap<ObjectKey, BTreeSet<Name>>,
    /// The network of the system namespace.
    network: NetworkId,
    gateway_services: BTreeSet<ObjectKey>,
    pod_index: PodIndex,
    references: References,
    /// Pods as endpoints see them (without `services`).
    converted: HashMap<ObjectKey, Arc<Workload>>,
    withheld: HashMap<ObjectKey, usize>,
    quarantine: Quarantine,
    dirty: Dirty,
    current: ClusterState,
}

impl Staging {
    /// Nothing held yet.
    pub fn new(context: ClusterContext, system_namespace: Name, counts: Arc<Counts>) -> Self {
        Self {
            context,
            system_namespace,
            counts,
            guard: Guard::default(),
            namespaces: Held::default(),
            nodes: Held::default(),
            pods: Held::default(),
            services: Held::default(),
            slices: Held::default(),
            by_service: HashMap::new(),
            network: NetworkId::default(),
            gateway_services: BTreeSet::new(),
            pod_index: PodIndex::default(),
            references: References::default(),
            converted: HashMap::new(),
            withheld: HashMap::new(),
            quarantine: Quarantine::default(),
            dirty: Dirty::default(),
            current: ClusterState::default(),
        }
    }

    /// Whether lists that take most of the cluster away are doubted (K-21).
    pub fn guarded(mut self, guard: Guard) -> Self {
        self.guard = guard;
        self
    }

    /// Takes in one event. Cost ∝ what it touches; nothing is converted but pods.
    pub fn apply(&mut self, event: StagedEvent) {
        self.apply_in(None, event);
    }

    /// Takes in one event of a source that reads one namespace only.
    pub fn apply_in(&mut self, scope: Scope, event: StagedEvent) {
        let (guard, quarantine) = (self.guard, &mut self.quarantine);
        match event {
            StagedEvent::Namespace(event) => {
                let kind = ObjectKind::Namespace;
                let weigh = |key: &ObjectKey, _: &_| if &*key.name == HOME { WHOLE_CLUSTER } else { 0 };
                let changes = self.namespaces.apply(event, Door { kind, scope, guard, weigh, quarantine });
                self.note(kind, changes, Self::namespace_changed);
            }
            StagedEvent::Node(event) => {
                let kind = ObjectKind::Node;
                let weigh = |_: &ObjectKey, _: &_| 0;
                let changes = self.nodes.apply(event, Door { kind, scope, guard, weigh, quarantine });
                self.note(kind, changes, Self::node_changed);
            }
            StagedEvent::Pod(event) => {
                let kind = ObjectKind::Pod;
                let weigh = |_: &ObjectKey, _: &_| 1;
                let changes = self.pods.apply(event, Door { kind, scope, guard, weigh, quarantine });
                self.note(kind, changes, Self::pod_changed);
            }
            StagedEvent::Service(event) => {
                let kind = ObjectKind::Service;
                let (by_service, slices) = (&self.by_service, &self.slices);
                let weigh = |key: &ObjectKey, _: &ServiceObject| {
                    let slices = by_service.get(key).into_iter().flatten().filter_map(|name| {
                        slices.get(&ObjectKey::new(key.namespace.clone(), name.clone()))
                    });
                    slices.map(|slice| slice.endpoints.len()).sum::<usize>().max(1)
                };
                let changes = self.services.apply(event, Door { kind, scope, guard, weigh, quarantine });
                self.note(kind, changes, Self::service_changed);
            }
            StagedEvent::Slice(event) => {
                let kind = ObjectKind::EndpointSlice;
                let weigh = |_: &ObjectKey, slice: &SliceObject| slice.endpoints.len();
                let changes = self.slices.apply(event, Door { kind, scope, guard, weigh, quarantine });
                self.note(kind, changes, Self::slice_changed);
            }
        }
    }

    /// Removals that wait for a second list, by kind (K-21).
    pub fn held_back(&self) -> Vec<(ObjectKind, HeldBack)> {
        let all = [
            (ObjectKind::Namespace, self.namespaces.held_back()),
            (ObjectKind::Pod, self.pods.held_back()),
            (ObjectKind::Service, self.services.held_back()),
            (ObjectKind::EndpointSlice, self.slices.held_back()),
        ];
        all.into_iter().filter_map(|(kind, held_back)| Some((kind, held_back?))).collect()
    }

    /// The next list of this kind that begins is believed, whatever it takes away (K-21).
    pub fn confirm(&mut self, kind: ObjectKind) {
        match kind {
            ObjectKind::Namespace => self.namespaces.confirm(),
            ObjectKind::Node => self.nodes.confirm(),
            ObjectKind::Pod => self.pods.confirm(),
            ObjectKind::Service => self.services.confirm(),
            ObjectKind::EndpointSlice => self.slices.confirm(),
        }
    }

    /// How many lists make a kind complete: one for each source that reads it, 0 to do without (K-45).
    pub fn await_lists(&mut self, kind: ObjectKind, lists: usize) {
        match kind {
            ObjectKind::Namespace => self.namespaces.await_lists(lists),
            ObjectKind::Node => self.nodes.await_lists(lists),
            ObjectKind::Pod => self.pods.await_lists(lists),
            ObjectKind::Service => self.services.await_lists(lists),
            ObjectKind::EndpointSlice => self.slices.await_lists(lists),
        }
    }

    /// The uid of the cluster's first namespace: which cluster it is (K-20). Empty while that is not known.
    pub fn uid(&self) -> Name {
        self.namespaces.get(&ObjectKey::new("", HOME)).map(|home| home.uid.clone()).unwrap_or_default()
    }

    /// The namespaces and what matters of them.
    pub fn namespaces(&self) -> impl Iterator<Item = (&Name, &NamespaceObject)> {
        self.namespaces.keys().filter_map(|key| Some((&key.name, self.namespaces.get(key)?)))
    }

    /// Whether there is nothing that could serve.
    pub fn is_void(&self) -> bool {
        self.services.is_empty() && self.slices.is_empty()
    }

    fn note<T>(
        &mut self,
        kind: ObjectKind,
        changes: held::Changes<T>,
        changed: fn(&mut Self, ObjectKey, Option<T>),
    ) {
        Counts::add(&self.counts.lists, usize::from(changes.listed));
        Counts::add(&self.counts.mass_delete_holds, usize::from(changes.doubted));
        Counts::add(&self.counts.quarantined, changes.unreadable);
        for _ in 0..changes.same {
            self.counts.event(kind, EventKind::UpdateSame);
        }
        for (key, old, event) in changes.changed {
            self.counts.event(kind, event);
            changed(self, key, old);
        }
    }

    /// Whether every kind has been listed completely at least once (contract 2).
    pub fn is_complete(&self) -> bool {
        self.namespaces.is_listed()
            && self.nodes.is_listed()
            && self.pods.is_listed()
            && self.services.is_listed()
            && self.slices.is_listed()
    }

    /// The network of the cluster: the label of its system namespace (R2.1).
    pub fn network(&self) -> &NetworkId {
        &self.network
    }

    /// Objects held, by kind.
    pub fn objects(&self) -> BTreeMap<&'static str, usize> {
        BTreeMap::from([
            (ObjectKind::Namespace.name(), self.namespaces.len()),
            (ObjectKind::Node.name(), self.nodes.len()),
            (ObjectKind::Pod.name(), self.pods.len()),
            (ObjectKind::Service.name(), self.services.len()),
            (ObjectKind::EndpointSlice.name(), self.slices.len()),
        ])
    }

    /// Objects set aside or used in part, with the reason, at most 100.
    pub fn quarantined(&self) -> Vec<String> {
        self.quarantine.all()
    }

    /// How many objects are set aside or used in part.
    pub fn quarantined_objects(&self) -> usize {
        self.quarantine.len()
    }

    /// Endpoint addresses withheld because the pod they name is not known (D9).
    pub fn pending_pods(&self) -> usize {
        self.withheld.values().sum()
    }

    /// Converts what was touched and returns what differs. Cost ∝ what was touched.
    pub fn take(&mut self) -> Batch {
        let dirty = std::mem::take(&mut self.dirty);
        let mut batch = Batch::default();
        if dirty.networks {
            batch.networks = self.convert_networks();
        }
        for key in dirty.pods {
            batch.workloads.extend(self.publish_pod(&key));
        }
        for key in dirty.services {
            batch.shards.extend(self.convert_service(&key));
        }
        batch
    }

    /// Everything this cluster amounts to now.
    pub fn state(&mut self) -> ClusterState {
        self.take();
        self.current.clone()
    }

    fn namespace_changed(&mut self, key: ObjectKey, _: Option<NamespaceObject>) {
        if key.name != self.system_namespace {
            return;
        }
        let namespace = self.namespaces.get(&key);
        let network = namespace.map(|namespace| NetworkId::from(&*namespace.network)).unwrap_or_default();
        if network == self.network {
            return;
        }
        self.network = network;
        self.dirty.networks = true;
        for pod in self.pods.keys().cloned().collect::<Vec<_>>() {
            self.convert_pod(&pod);
        }
        // Bare addresses take the cluster's network.
        self.dirty.services.extend(self.by_service.keys().cloned());
    }

    /// R5.11 and Q20: pods that run on it move with it.
    fn node_changed(&mut self, key: ObjectKey, _: Option<NodeObject>) {
        for pod in self.pod_index.on_node(&key.name) {
            self.convert_pod(&pod);
        }
    }

    fn pod_changed(&mut self, key: ObjectKey, old: Option<PodObject>) {
        let new = self.pods.get(&key).filter(|pod| !pod.failed);
        let lent = self.pod_index.replace(&key, old.as_ref(), new);
        for address in lent {
            let borrowers = self.references.borrowers(&key.namespace, address);
            self.dirty.services.extend(borrowers);
        }
        self.convert_pod(&key);
    }

    fn service_changed(&mut self, key: ObjectKey, old: Option<ServiceObject>) {
        let new = self.services.get(&key);
        let was = old.as_ref().is_some_and(convert::is_gateway);
        let is = new.is_some_and(convert::is_gateway);
        if is {
            self.gateway_services.insert(key.clone());
        } else {
            self.gateway_services.remove(&key);
        }
        // Q6: always evaluated again.
        self.dirty.networks |= was || is;
        self.dirty.services.insert(key);
    }

    fn slice_changed(&mut self, key: ObjectKey, old: Option<SliceObject>) {
        let new = self.slices.get(&key).cloned();
        let of = |slice: &SliceObject| {
            let service = slice.service.clone();
            service.map(|name| ObjectKey::new(key.namespace.clone(), name))
        };
        if let Some((service, slice)) = old.as_ref().and_then(|slice| Some((of(slice)?, slice))) {
            self.references.remove(&service, slice, &mut self.dirty.pods);
            if let Some(slices) = self.by_service.get_mut(&service) {
                slices.remove(&key.name);
                if slices.is_empty() {
                    self.by_service.remove(&service);
                }
            }
            self.dirty.services.insert(service);
        }
        if let Some((service, slice)) = new.and_then(|slice| Some((of(&slice)?, slice))) {
            self.references.add(&service, &slice, &mut self.dirty.pods);
            self.by_service.entry(service.clone()).or_default().insert(key.name);
            self.dirty.services.insert(service);
        }
    }

    /// Converts one pod; when it differs, itself and the services whose slices name it are touched.
    fn convert_pod(&mut self, key: &ObjectKey) {
        let converted = self.pods.get(key).filter(|pod| !pod.failed).map(|pod| {
            Counts::add(&self.counts.pod_conversions, 1);
            let node = self.nodes.get(&ObjectKey::new("", pod.node.clone()));
            let locality = node.map(|node| &node.locality);
            convert::pod_workload(&self.context, key, pod, locality, &self.network)
        });
        if self.converted.get(key).map(|old| &**old) == converted.as_ref() {
            return;
        }
        for address in self.pod_index.lent_by(key) {
            let borrowers = self.references.borrowers(&key.namespace, address);
            self.dirty.services.extend(borrowers);
        }
        match converted {
            Some(workload) => self.converted.insert(key.clone(), Arc::new(workload)),
            None => self.converted.remove(key),
        };
        self.dirty.services.extend(self.references.naming(key));
        self.dirty.pods.insert(key.clone());
    }

    /// The pod as its proxy sees it: with the services that name it.
    fn publish_pod(&mut self, key: &ObjectKey) -> Option<(WorkloadId, Option<Arc<Workload>>)> {
        let id = WorkloadId {
            cluster: self.context.cluster.clone(),
            namespace: key.namespace.clone(),
            name: key.name.clone(),
        };
        let services: BTreeSet<_> =
            self.references.naming(key).map(|service| self.context.service_key(&service)).collect();
        let next = self.converted.get(key).map(|workload| {
            if services.is_empty() {
                Arc::clone(workload)
            } else {
                Arc::new(Workload { services, ..Workload::clone(workload) })
            }
        });
        if self.current.workloads.get(&id) == next.as_ref() {
            return None;
        }
        match &next {
            Some(workload) => self.current.workloads.insert(id.clone(), Arc::clone(workload)),
            None => self.current.workloads.remove(&id),
        };
        Some((id, next))
    }

    fn convert_service(&mut self, key: &ObjectKey) -> Option<(ServiceKey, Option<Arc<EndpointShard>>)> {
        let id = self.context.service_key(key);
        let object = self.services.get(key);
        let slices = self.by_service.get(key);
        let next = if object.is_none() && slices.is_none() {
            self.withheld.remove(key);
            self.quarantine.forget_parts(key);
            None
        } else {
            Counts::add(&self.counts.conversions, 1);
            let slice = |name: &Name| self.slices.get(&ObjectKey::new(key.namespace.clone(), name.clone()));
            let slices: Vec<_> = slices.into_iter().flatten().filter_map(slice).collect();
            let result = convert::endpoints(EndpointInput {
                context: &self.context,
                of_cluster: &self.network,
                namespace: &key.namespace,
                service_labels: object.map(|service| &service.labels),
                slices: &slices,
                pods: &Pods { index: &self.pod_index, converted: &self.converted },
            });
            let service = object.map(|object| Arc::new(convert::service(&self.context, key, object)));
            if result.withheld == 0 {
                self.withheld.remove(key);
            } else {
                self.withheld.insert(key.clone(), result.withheld);
            }
            self.quarantine.set_parts(key, &result.skipped);
            let cluster = self.context.cluster.clone();
            Some(Arc::new(EndpointShard::new(cluster, service, result.endpoints)))
        };
        if self.current.shards.get(&id) == next.as_ref() {
            return None;
        }
        match &next {
            Some(shard) => self.current.shards.insert(id.clone(), Arc::clone(shard)),
            None => self.current.shards.remove(&id),
        };
        Some((id, next))
    }

    fn convert_networks(&mut self) -> Option<Networks> {
        let of_cluster = self.network.clone();
        let mut all = Vec::new();
        let mut notes = BTreeMap::new();
        for key in &self.gateway_services {
            let Some(service) = self.services.get(key) else {
                continue;
            };
            let result = convert::gateways(&self.context, service, &of_cluster);
            all.extend(result.gateways);
            notes.insert(key.clone(), result.notes);
        }
        self.quarantine.set_gateways(notes);
        all.sort();
        all.dedup();
        let network = (!of_cluster.is_empty()).then_some(of_cluster);
        if self.current.network == network && self.current.gateways == all {
            return None;
        }
        self.current.network.clone_from(&network);
        self.current.gateways.clone_from(&all);
        Some((network, all))
    }
}

/// The pods as conversion sees them.
struct Pods<'a> {
    index: &'a PodIndex,
    converted: &'a HashMap<ObjectKey, Arc<Workload>>,
}

impl PodLookup for Pods<'_> {
    fn by_name(&self, key: &ObjectKey) -> Option<Arc<Workload>> {
        self.converted.get(key).cloned()
    }

    fn by_address(&self, namespace: &Name, address: IpAddr) -> Option<Arc<Workload>> {
        self.by_name(&self.index.lender(namespace, address)?)
    }
}

#[cfg(test)]
mod tests;
