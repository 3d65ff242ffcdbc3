//! One cluster's objects and what they amount to. Single-threaded: no locks, no I/O, no clock.
//!
//! Events go in by [`Staging::apply`] in any order: an endpoint may precede its Service, pod or node, and the
//! reverse (contract 3). [`Staging::take`] converts what the events touched since the last call, each thing
//! once, and hands out only what differs. The result depends on the objects held, never on the order in
//! which they came.

mod compat;
mod entries;
mod estimate;
mod few;
mod guard;
mod held;
mod listing;
mod networks;
mod nodes;
mod pod_table;
mod pods;
mod quarantine;
mod revisions;
mod services;
mod slices;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use compat::Compat;
use entries::EntryStaging;
pub use guard::{Guard, HeldBack};
use held::{Door, Gate, packed, weightless};
pub use held::{Held, Scope};
use networks::NetworkStaging;
use nodes::NodeWaits;
use pod_table::{PodId, PodTable};
use quarantine::Quarantine;
use slices::{KeptSlice, References};

use super::convert::{ClusterContext, GatewayOptions, Pod, PodShape};
use super::counts::{Counts, EventKind};
use super::entries::SelectingEntries;
use super::networks::MeshNetworks;
use super::objects::{
    GatewayObject, NamespaceObject, NodeObject, ObjectKey, ObjectKind, PodObject, ServiceEntryObject,
    ServiceExportObject, ServiceImportObject, ServiceObject, SliceObject, WorkloadEntryObject,
};
use super::watch::SourceEvent;
use crate::model::{
    ClusterLocalHosts, EndpointShard, Name, NetworkId, NodePlace, Quirk, ServiceKey, Set, Shared,
    WorkloadCell, WorkloadId, WorkloadProfile,
};
use crate::registry::{ClusterState, NetworkClaim};

/// An event of any source.
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
    /// About a ServiceExport; such sources run only where multi-cluster services are on (R4.38).
    Export(SourceEvent<ServiceExportObject>),
    /// About a ServiceImport (R4.39).
    Import(SourceEvent<ServiceImportObject>),
    /// About a Gateway.
    Gateway(SourceEvent<GatewayObject>),
    /// The document `meshNetworks`, now.
    MeshNetworks(Arc<MeshNetworks>),
    /// About a ServiceEntry; those of the config cluster count.
    ServiceEntry(SourceEvent<ServiceEntryObject>),
    /// About a WorkloadEntry.
    WorkloadEntry(SourceEvent<WorkloadEntryObject>),
    /// The ServiceEntries of the config cluster that select something, now; `None`: they are waited for no longer.
    SelectingEntries(Option<Arc<SelectingEntries>>),
}

/// The namespace every cluster has.
const HOME: &str = "kube-system";
/// More than a list may take away unasked: no cluster is without its first namespace.
const WHOLE_CLUSTER: usize = 1000;

/// What differs since the last one: to be published together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// The networks part, if it differs.
    pub networks: Option<NetworkClaim>,
    /// Pods; `None` are gone.
    pub workloads: Vec<(WorkloadId, Option<WorkloadCell>)>,
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
    /// Hosts of ServiceEntries.
    hosts: BTreeSet<ServiceKey>,
    /// WorkloadEntries.
    members: BTreeSet<ObjectKey>,
    /// With what was told of each before.
    pods: hashbrown::HashMap<PodId, Option<WorkloadCell>>,
    networks: bool,
}

/// The objects of one cluster, their reverse indexes and what was made of them.
#[derive(Debug)]
pub struct Staging {
    context: ClusterContext,
    system_namespace: Name,
    cluster_local: ClusterLocalHosts,
    counts: Arc<Counts>,
    guard: Guard,
    namespaces: Held<NamespaceObject>,
    nodes: Held<NodeObject>,
    pods: PodTable,
    pod_gate: Gate<Pod>,
    services: Held<Box<ServiceObject>>,
    slices: Held<KeptSlice>,
    exports: Held<ServiceExportObject>,
    imports: Held<ServiceImportObject>,
    /// Keys of the Services, by namespace.
    service_keys: BTreeSet<ObjectKey>,
    networks: NetworkStaging,
    entries: EntryStaging,
    references: References,
    /// Addresses withheld because their pods are not known, by Service, and all together.
    withheld: HashMap<ObjectKey, usize>,
    withheld_addresses: usize,
    waits: NodeWaits,
    compat: Compat,
    quarantine: Quarantine,
    dirty: Dirty,
    /// What was told of networks and services.
    current: ClusterState,
    profiles: Shared<WorkloadProfile>,
    /// The one that a pod was converted to last, and its shape.
    last_profile: Option<(Arc<PodShape>, Arc<WorkloadProfile>)>,
    places: Shared<NodePlace>,
    /// Services that may have to be exported (R4.40).
    unexported: BTreeSet<ObjectKey>,
    service_sets: Shared<Set<ServiceKey>>,
    /// Entries of slices held, and endpoints told.
    slice_entries: usize,
    endpoints: usize,
}

impl Staging {
    /// Nothing held yet.
    pub fn new(context: ClusterContext, system_namespace: Name, counts: Arc<Counts>) -> Self {
        let compat = Compat::new(context.quirks);
        Self {
            cluster_local: ClusterLocalHosts::new(&context.domain, &system_namespace),
            context,
            system_namespace,
            counts,
            guard: Guard::default(),
            namespaces: Held::default(),
            nodes: Held::default(),
            pods: PodTable::default(),
            pod_gate: Gate::default(),
            services: Held::default(),
            slices: Held::default(),
            exports: Held::default(),
            imports: Held::default(),
            service_keys: BTreeSet::new(),
            networks: NetworkStaging::default(),
            entries: EntryStaging::new(),
            references: References::default(),
            withheld: HashMap::new(),
            withheld_addresses: 0,
            waits: NodeWaits::default(),
            compat,
            quarantine: Quarantine::default(),
            dirty: Dirty::default(),
            current: ClusterState::default(),
            profiles: Shared::default(),
            last_profile: None,
            places: Shared::default(),
            unexported: BTreeSet::new(),
            service_sets: Shared::default(),
            slice_entries: 0,
            endpoints: 0,
        }
    }

    /// Whether lists that take most of the cluster away are doubted (K-21).
    pub fn guarded(mut self, guard: Guard) -> Self {
        self.guard = guard;
        self
    }

    /// Options that may change while it runs; what depends on them is converted anew.
    pub fn reconfigure(&mut self, gateways: GatewayOptions, trust_domain: &Name, serve_without_pods: bool) {
        if self.context.gateways != gateways {
            self.context.gateways = gateways;
            self.dirty.networks = true;
        }
        if self.context.serve_without_pods != serve_without_pods {
            self.context.serve_without_pods = serve_without_pods;
            self.dirty.services.extend(self.references.services().cloned());
        }
        if self.context.trust_domain != *trust_domain {
            self.context.trust_domain = trust_domain.clone();
            // Whose identities pods have, and services name (R5.9, R5.23).
            self.convert_pods();
            self.convert_entries();
            self.dirty.services.extend(self.service_keys.iter().cloned());
        }
    }

    /// Takes in one event. Cost ∝ what it touches; nothing is converted but pods.
    pub fn apply(&mut self, event: StagedEvent) {
        self.apply_in(None, event);
    }

    /// Takes in one event of a source that reads one namespace only.
    pub fn apply_in(&mut self, scope: Scope, event: StagedEvent) {
        let (guard, now, quarantine) = (self.guard, self.waits.now(), &mut self.quarantine);
        match event {
            StagedEvent::Namespace(event) => {
                let kind = ObjectKind::Namespace;
                let weigh = |key: &ObjectKey, _: &_| if &*key.name == HOME { WHOLE_CLUSTER } else { 0 };
                let changes =
                    self.namespaces.apply(event, Door { kind, scope, guard, now, weigh, quarantine });
                self.note(kind, changes, Self::namespace_changed);
            }
            StagedEvent::Node(event) => {
                // What is lost with a node is where its pods are.
                let (kind, pods) = (ObjectKind::Node, &self.pods);
                let weigh = |key: &ObjectKey, _: &_| pods.count_on(&key.name);
                let changes = self.nodes.apply(event, Door { kind, scope, guard, now, weigh, quarantine });
                self.note(kind, changes, Self::node_changed);
            }
            StagedEvent::Pod(event) => self.apply_pod(scope, event),
            StagedEvent::Service(event) => {
                let kind = ObjectKind::Service;
                let (references, slices) = (&self.references, &self.slices);
                let weigh = |key: &ObjectKey, _: &_| {
                    let names = references.slices(key).into_iter().flatten();
                    let slices = names.filter_map(|name| slices.get(&ObjectKey::new(&key.namespace, name)));
                    slices.map(|slice| slice.entries.len()).sum::<usize>().max(1)
                };
                let keeps = self.context.entries.services_select;
                let event = packed(event, |object| services::tidy(object, keeps));
                let changes = self.services.apply(event, Door { kind, scope, guard, now, weigh, quarantine });
                self.note(kind, changes, Self::service_changed);
            }
            StagedEvent::Slice(event) => self.apply_slice(scope, event),
            StagedEvent::Export(event) => {
                let (kind, weigh) = (ObjectKind::ServiceExport, weightless);
                let of = scope.clone();
                let changes = self.exports.apply(event, Door { kind, scope, guard, now, weigh, quarantine });
                if changes.allowed {
                    self.exports_may_be_missing(&of);
                }
                self.note(kind, changes, Self::export_changed);
            }
            StagedEvent::Import(event) => {
                let (kind, weigh) = (ObjectKind::ServiceImport, weightless);
                let changes = self.imports.apply(event, Door { kind, scope, guard, now, weigh, quarantine });
                self.note(kind, changes, Self::import_changed);
            }
            StagedEvent::Gateway(event) => self.apply_gateway(scope, event),
            StagedEvent::MeshNetworks(mesh) => self.apply_mesh_networks(mesh),
            StagedEvent::ServiceEntry(event) => self.apply_service_entry(scope, event),
            StagedEvent::WorkloadEntry(event) => self.apply_workload_entry(scope, event),
            StagedEvent::SelectingEntries(entries) => self.apply_entries(entries),
        }
    }

    /// Removals that wait for a second list, by kind and scope (K-21).
    pub fn held_back(&self) -> Vec<(ObjectKind, HeldBack)> {
        let all = [
            (ObjectKind::Namespace, self.namespaces.held_back()),
            (ObjectKind::Node, self.nodes.held_back()),
            (ObjectKind::Pod, self.pod_gate.held_back()),
            (ObjectKind::Service, self.services.held_back()),
            (ObjectKind::EndpointSlice, self.slices.held_back()),
            (ObjectKind::Gateway, self.networks.held_back()),
        ];
        let all = all.into_iter().chain(self.entries.held_back());
        all.flat_map(|(kind, all)| all.into_iter().map(move |one| (kind, one))).collect()
    }

    /// The next list of this kind and scope that begins is believed, whatever it takes away (K-21).
    pub fn confirm(&mut self, kind: ObjectKind, scope: &Scope) {
        match kind {
            ObjectKind::Namespace => self.namespaces.gate().confirm(scope),
            ObjectKind::Node => self.nodes.gate().confirm(scope),
            ObjectKind::Pod => self.pod_gate.confirm(scope),
            ObjectKind::Service => self.services.gate().confirm(scope),
            ObjectKind::EndpointSlice => self.slices.gate().confirm(scope),
            ObjectKind::Gateway => self.networks.confirm(scope),
            ObjectKind::ServiceEntry => self.entries.own().gate().confirm(scope),
            ObjectKind::WorkloadEntry => self.entries.workloads.gate().confirm(scope),
            // Nothing of these is ever held back.
            ObjectKind::ConfigMap | ObjectKind::ServiceExport | ObjectKind::ServiceImport => {}
        }
    }

    /// How many lists make a kind complete: one for each source that reads it.
    pub fn await_lists(&mut self, kind: ObjectKind, lists: usize) {
        match kind {
            ObjectKind::Namespace => self.namespaces.gate().await_lists(lists),
            ObjectKind::Node => self.nodes.gate().await_lists(lists),
            ObjectKind::Pod => self.pod_gate.await_lists(lists),
            ObjectKind::Service => self.services.gate().await_lists(lists),
            ObjectKind::EndpointSlice => self.slices.gate().await_lists(lists),
            ObjectKind::ServiceExport => self.exports.gate().await_lists(lists),
            ObjectKind::ServiceImport => self.imports.gate().await_lists(lists),
            ObjectKind::Gateway => self.networks.await_gateway_lists(lists),
            ObjectKind::ServiceEntry => self.entries.own().gate().await_lists(lists),
            ObjectKind::WorkloadEntry => self.entries.workloads.gate().await_lists(lists),
            ObjectKind::ConfigMap => {}
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

    /// Whether every kind has been listed completely at least once (contract 2), but for what may not be read.
    pub fn is_complete(&self) -> bool {
        self.namespaces.is_complete()
            && self.nodes.is_complete()
            && self.pod_gate.is_complete()
            && self.services.is_complete()
            && self.slices.is_complete()
            && self.networks.is_complete(self.context.gateways.gateway_api)
            && self.entries.is_complete()
            && (!self.context.mcs.reads_exports() || self.exports.is_complete())
            && (!self.context.mcs.discovery || self.imports.is_complete())
    }

    /// Nothing waits any longer for the objects of a kind, of one namespace where they are read by namespace, that
    /// the credentials may not read or that the server does not have. Without Nodes localities come from pods'
    /// labels alone (K-45); without Pods endpoints that name one are withheld, unless the configuration has them
    /// served from their slices (D9). What was listed before stays, and a list that comes after all ends it.
    pub fn set_unavailable(&mut self, kind: ObjectKind, scope: &Scope) {
        let denied = match kind {
            ObjectKind::Namespace => self.namespaces.gate().deny(scope),
            ObjectKind::Node => self.nodes.gate().deny(scope),
            ObjectKind::Pod => self.pod_gate.deny(scope),
            ObjectKind::ServiceExport => self.exports.gate().deny(scope),
            ObjectKind::ServiceImport => self.imports.gate().deny(scope),
            ObjectKind::ServiceEntry => self.entries.own().gate().deny(scope),
            ObjectKind::WorkloadEntry => self.entries.workloads.gate().deny(scope),
            // Gateways see to it themselves, and without the others there is nothing.
            ObjectKind::Gateway | ObjectKind::Service | ObjectKind::EndpointSlice | ObjectKind::ConfigMap => {
                false
            }
        };
        match kind {
            ObjectKind::Pod if denied => self.touch_services_in(scope),
            ObjectKind::Node if denied => {
                self.waits.give_up().into_iter().for_each(|pod| self.convert_pod(pod));
            }
            _ => {}
        }
    }

    /// Whether nothing waits for the objects of a kind that is done without (K-45).
    pub fn is_unavailable(&self, kind: ObjectKind) -> bool {
        match kind {
            ObjectKind::Namespace => self.namespaces.is_denied(),
            ObjectKind::Node => self.nodes.is_denied(),
            ObjectKind::Gateway => self.networks.api_is_denied(),
            ObjectKind::ServiceExport => self.exports.is_denied(),
            _ => false,
        }
    }

    /// The parts of Pods that nothing waits for.
    pub fn unavailable_pods(&self) -> impl Iterator<Item = &Scope> {
        self.pod_gate.denied()
    }

    /// Whether anything is exported.
    pub fn has_exports(&self) -> bool {
        !self.exports.is_empty()
    }

    /// What it tells of networks now. Cost ∝ what was touched.
    pub fn network_claim(&mut self) -> &NetworkClaim {
        self.take();
        &self.current.networks
    }

    /// Tells the time, which nothing else does: what was waited for long enough is waited for no longer (D9).
    /// Without a clock nothing is waited for.
    pub fn advance(&mut self, now: Instant) {
        for pod in self.waits.advance(now) {
            self.convert_pod(pod);
        }
    }

    /// When to call [`advance`](Self::advance) next, at the latest.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.waits.next_deadline()
    }

    /// The network of the cluster: the label of its system namespace, else the one that claims it (R2.1).
    pub fn network(&self) -> &NetworkId {
        self.networks.of_cluster().own()
    }

    /// Objects held, by kind.
    pub fn objects(&self) -> BTreeMap<&'static str, usize> {
        BTreeMap::from([
            (ObjectKind::Namespace.name(), self.namespaces.len()),
            (ObjectKind::Node.name(), self.nodes.len()),
            (ObjectKind::Pod.name(), self.pods.count()),
            (ObjectKind::Service.name(), self.services.len()),
            (ObjectKind::EndpointSlice.name(), self.slices.len()),
            (ObjectKind::ServiceExport.name(), self.exports.len()),
            (ObjectKind::ServiceImport.name(), self.imports.len()),
            (ObjectKind::Gateway.name(), self.networks.api_gateways()),
            (ObjectKind::ServiceEntry.name(), self.entries.count()),
            (ObjectKind::WorkloadEntry.name(), self.entries.workloads.len()),
        ])
    }

    /// Objects set aside or used in part, with the reason, at most 100.
    pub fn quarantined(&self) -> Vec<String> {
        self.quarantine.all()
    }

    /// What is wrong with ServiceEntries and WorkloadEntries, by `Kind namespace/name`, at most 100.
    pub fn entry_problems(&self) -> BTreeMap<String, String> {
        self.quarantine.entries()
    }

    /// How many objects are set aside or used in part.
    pub fn quarantined_objects(&self) -> usize {
        self.quarantine.len()
    }

    /// Endpoint addresses withheld because the pod they name is not known (D9).
    pub fn pending_pods(&self) -> usize {
        self.withheld_addresses
    }

    /// Converts what was touched and returns what differs. Cost ∝ what was touched.
    pub fn take(&mut self) -> Batch {
        let mut dirty = std::mem::take(&mut self.dirty);
        self.networks.touch(&mut dirty);
        let mut batch = Batch::default();
        if dirty.networks {
            batch.networks = self.convert_networks();
        }
        let mut pods: Vec<_> = dirty.pods.into_iter().collect();
        pods.sort_unstable_by_key(|(pod, _)| *pod);
        for (pod, before) in pods {
            batch.workloads.extend(self.publish_pod(pod, before));
        }
        for key in dirty.members {
            batch.workloads.extend(self.publish_member(key));
        }
        for id in dirty.hosts {
            match self.object_of(&id) {
                Some(key) => _ = dirty.services.insert(key),
                None => batch.shards.extend(self.convert_host(id)),
            }
        }
        for key in dirty.services {
            batch.shards.extend(self.convert_service(&key));
        }
        batch
    }

    /// How many endpoints of Services this cluster has now. Cost ∝ its services and what was touched.
    pub fn endpoints(&mut self) -> usize {
        self.take();
        self.current.shards.values().map(|shard| shard.of_service()).sum()
    }

    /// Whether nothing is waited for: no endpoint names a pod that is not known, and no pod a node that may still
    /// come (D9). For what is published as a whole: what differed before is forgotten.
    pub fn is_settled(&mut self) -> bool {
        self.take();
        self.pending_pods() == 0 && self.next_deadline().is_none()
    }

    /// Everything this cluster amounts to now.
    pub fn state(&mut self) -> ClusterState {
        // Nobody asks what differs.
        let pods = std::mem::take(&mut self.dirty.pods);
        pods.into_keys().for_each(|pod| self.let_go(pod));
        self.take();
        let mut workloads = self.cells();
        workloads.extend(self.member_cells());
        ClusterState { workloads, ..self.current.clone() }
    }

    /// R5.11 and Q20: pods that run on it move with it.
    fn node_changed(&mut self, key: ObjectKey, _: Option<NodeObject>) {
        self.gateway_node_changed(&key);
        if self.context.quirks.has(Quirk::Q20) {
            return;
        }
        self.convert_pods_on(&key.name);
    }

    fn service_changed(&mut self, key: ObjectKey, old: Option<Box<ServiceObject>>) {
        let selector = self.services.get(&key).map(|service| service.selector.clone());
        for selector in old.map(|service| service.selector).into_iter().chain(selector) {
            self.service_selects(&key, &selector);
        }
        if self.services.get(&key).is_some() {
            self.service_keys.insert(key.clone());
        } else {
            self.service_keys.remove(&key);
        }
        self.gateway_service_changed(&key);
        self.export_may_be_missing(&key);
        self.dirty.services.insert(key);
    }

    fn export_changed(&mut self, key: ObjectKey, _: Option<ServiceExportObject>) {
        self.export_may_be_missing(&key);
        self.dirty.services.insert(key);
    }

    fn export_may_be_missing(&mut self, key: &ObjectKey) {
        let leaves = || !self.cluster_local.contains(&self.context.service_key(key).hostname);
        if self.context.mcs.auto_export && leaves() {
            self.unexported.insert(key.clone());
        }
    }

    /// Exports can be read there after all.
    fn exports_may_be_missing(&mut self, scope: &Scope) {
        let within = |key: &&ObjectKey| scope.as_ref().is_none_or(|scope| key.namespace == *scope);
        let services: Vec<_> = self.service_keys.iter().filter(within).cloned().collect();
        services.iter().for_each(|key| self.export_may_be_missing(key));
    }

    /// R4.40: Services that are to be exported, are not, and have not been told here since they or their export
    /// changed. None of a namespace whose exports cannot be read, while they cannot.
    pub fn missing_exports(&mut self) -> Vec<ObjectKey> {
        let changed = std::mem::take(&mut self.unexported).into_iter();
        let readable = changed.filter(|key| !self.exports.denies(&key.namespace));
        readable.filter(|key| self.services.get(key).is_some() && self.exports.get(key).is_none()).collect()
    }

    fn import_changed(&mut self, key: ObjectKey, _: Option<ServiceImportObject>) {
        self.dirty.services.insert(key);
    }
}

#[cfg(test)]
mod tests;
