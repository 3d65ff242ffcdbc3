//! ServiceEntries and WorkloadEntries: what they select, and what becomes of the services they are part of
//! (R5.24, R5.33–R5.38).

mod members;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hashbrown::HashSet;

use super::Staging;
use super::guard::HeldBack;
use super::held::{Door, Held, Scope, packed};
use super::pod_table::PodId;
use super::services::Share;
use crate::ingest::convert::{self, EntryInput, EntryShare, Member, selects};
use crate::ingest::counts::Counts;
use crate::ingest::entries::SelectingEntries;
use crate::ingest::objects::{ObjectKey, ObjectKind, ServiceEntryObject, WorkloadEntryObject};
use crate::ingest::watch::SourceEvent;
use crate::model::{
    Endpoint, EndpointShard, Labels, Name, Quirk, Service, ServiceKey, ServicePort, WorkloadCell,
};

/// Adds what entries tell to a cluster's endpoints, no address twice: what Pods and slices say of an address and port
/// name stands. Of entries one machine may serve a port under several numbers (R5.34).
pub(super) fn add_absent(endpoints: &mut Vec<Endpoint>, more: Vec<Endpoint>) {
    if more.is_empty() {
        return;
    }
    let place = |endpoint: &Endpoint| Some((*endpoint.addresses.first()?, endpoint.port_name.clone()));
    let told: HashSet<_> = endpoints.iter().filter_map(place).collect();
    let mut seen = HashSet::new();
    let is_new = |endpoint: &Endpoint| {
        place(endpoint).is_none_or(|place| !told.contains(&place) && seen.insert((place, endpoint.port)))
    };
    endpoints.extend(more.into_iter().filter(is_new));
}

/// What is held of both kinds.
#[derive(Debug, Default)]
pub(super) struct EntryStaging {
    /// ServiceEntries of this cluster; the config cluster's only.
    own: Held<Arc<ServiceEntryObject>>,
    pub(super) workloads: Held<Arc<WorkloadEntryObject>>,
    /// The ServiceEntries in force: its own, or those of the config cluster that select something.
    all: BTreeMap<ObjectKey, Arc<ServiceEntryObject>>,
    /// Which of them have a host.
    by_host: BTreeMap<ServiceKey, BTreeSet<ObjectKey>>,
    /// Names of those with a selector, by namespace.
    selecting: BTreeMap<Name, BTreeSet<Name>>,
    /// What was made of WorkloadEntries.
    members: BTreeMap<ObjectKey, Member>,
    /// What was told of them.
    cells: BTreeMap<ObjectKey, WorkloadCell>,
    /// What the config cluster tells the others, and whether it differs from what was told.
    told: Arc<SelectingEntries>,
    differs: bool,
    /// What the config cluster told, and whether that is waited for.
    fed: Arc<SelectingEntries>,
    awaited: bool,
}

impl EntryStaging {
    /// Nothing held yet; nothing is waited for unless it is said.
    pub(super) fn new() -> Self {
        // That there is nothing is news too.
        let mut new = Self { differs: true, ..Self::default() };
        new.own.gate().await_lists(0);
        new.workloads.gate().await_lists(0);
        new
    }

    /// The lists of ServiceEntries.
    pub(super) fn own(&mut self) -> &mut Held<Arc<ServiceEntryObject>> {
        &mut self.own
    }

    /// Removals that wait for a second list.
    pub(super) fn held_back(&self) -> [(ObjectKind, Vec<HeldBack>); 2] {
        [
            (ObjectKind::ServiceEntry, self.own.held_back()),
            (ObjectKind::WorkloadEntry, self.workloads.held_back()),
        ]
    }

    /// Whether nothing is waited for.
    pub(super) fn is_complete(&self) -> bool {
        self.own.is_complete() && self.workloads.is_complete() && !self.awaited
    }

    /// ServiceEntries of this cluster held.
    pub(super) fn count(&self) -> usize {
        self.own.len()
    }

    /// The selecting entries of a namespace.
    fn selecting(&self, namespace: &Name) -> impl Iterator<Item = (ObjectKey, &Arc<ServiceEntryObject>)> {
        let names = self.selecting.get(namespace).into_iter().flatten();
        names.filter_map(|name| {
            let key = ObjectKey { namespace: namespace.clone(), name: name.clone() };
            let entry = self.all.get(&key)?;
            Some((key, entry))
        })
    }

    /// The services that selecting entries make something with these labels part of.
    fn services_of(&self, namespace: &Name, labels: &Labels) -> Vec<ServiceKey> {
        let picked = |entry: &ServiceEntryObject| {
            entry.selector.as_ref().is_some_and(|selector| selects(selector, labels))
        };
        let picking = self.selecting(namespace).filter(|(_, entry)| picked(entry));
        picking.flat_map(|(key, entry)| hosts(&key, entry).collect::<Vec<_>>()).collect()
    }

    fn members_in(&self, namespace: &Name) -> impl Iterator<Item = (&ObjectKey, &Member)> {
        let first = ObjectKey { namespace: namespace.clone(), name: Name::default() };
        self.members.range(first..).take_while(move |(key, _)| key.namespace == *namespace)
    }

    /// Replaces an entry in force.
    fn set(&mut self, key: &ObjectKey, entry: Option<Arc<ServiceEntryObject>>) {
        if let Some(old) = self.all.remove(key) {
            for host in hosts(key, &old) {
                if let Some(keys) = self.by_host.get_mut(&host) {
                    keys.remove(key);
                    if keys.is_empty() {
                        self.by_host.remove(&host);
                    }
                }
            }
            if let Some(names) = self.selecting.get_mut(&key.namespace) {
                names.remove(&key.name);
                if names.is_empty() {
                    self.selecting.remove(&key.namespace);
                }
            }
        }
        let Some(entry) = entry else { return };
        for host in hosts(key, &entry) {
            self.by_host.entry(host).or_default().insert(key.clone());
        }
        if entry.selector.is_some() {
            self.selecting.entry(key.namespace.clone()).or_default().insert(key.name.clone());
        }
        self.all.insert(key.clone(), entry);
    }
}

/// The services of an entry.
fn hosts<'a>(key: &'a ObjectKey, entry: &'a ServiceEntryObject) -> impl Iterator<Item = ServiceKey> + 'a {
    entry.hosts.iter().map(|host| convert::entry_key(key, host))
}

impl Staging {
    /// Nothing is complete until the entries of the config cluster have been told, or are waited for no longer.
    pub fn await_entries(&mut self) {
        self.entries.awaited = true;
    }

    pub(super) fn apply_service_entry(&mut self, scope: Scope, event: SourceEvent<ServiceEntryObject>) {
        if !self.context.gateways.config_cluster {
            return;
        }
        let (kind, guard, now) = (ObjectKind::ServiceEntry, self.guard, self.waits.now());
        let weigh = |_: &ObjectKey, entry: &Arc<ServiceEntryObject>| entry.endpoints.len().max(1);
        let door = Door { kind, scope, guard, now, weigh, quarantine: &mut self.quarantine };
        let changes = self.entries.own.apply(packed(event, Arc::new), door);
        self.entries.differs |= changes.listed;
        self.note(kind, changes, |staging, key, _| {
            let entry = staging.entries.own.get(&key).cloned();
            Arc::make_mut(&mut staging.entries.told).set(&key, entry.as_ref());
            staging.entries.differs = true;
            staging.set_entry(&key, entry);
        });
    }

    /// What the config cluster says; `None`: it is waited for no longer. The config cluster has its own.
    pub(super) fn apply_entries(&mut self, entries: Option<Arc<SelectingEntries>>) {
        self.entries.awaited = false;
        let Some(entries) = entries.filter(|_| !self.context.gateways.config_cluster) else {
            return;
        };
        let changes = entries.changes_from(&self.entries.fed);
        self.entries.fed = entries;
        for (key, entry) in changes {
            self.set_entry(&key, entry);
        }
    }

    /// The selecting entries, if they may differ from those told here before.
    pub fn selecting_entries(&mut self) -> Option<Arc<SelectingEntries>> {
        std::mem::take(&mut self.entries.differs).then(|| Arc::clone(&self.entries.told))
    }

    fn set_entry(&mut self, key: &ObjectKey, entry: Option<Arc<ServiceEntryObject>>) {
        let old = self.entries.all.get(key).cloned();
        // First: what is told of Pods now is remembered with what selects them now.
        for entry in old.iter().chain(&entry) {
            self.touch_selected(&key.namespace, entry.selector.as_ref());
            self.dirty.hosts.extend(hosts(key, entry));
        }
        if entry.is_none() {
            self.quarantine.set_entry(ObjectKind::ServiceEntry, key, Vec::new());
        }
        self.entries.set(key, entry);
    }

    fn touch_selected(&mut self, namespace: &Name, selector: Option<&Labels>) {
        let Some(selector) = selector else { return };
        for pod in self.pods_selected(namespace, selector) {
            self.touch_pod(pod);
        }
        self.touch_members(namespace, selector);
    }

    fn touch_members(&mut self, namespace: &Name, selector: &Labels) {
        let picked = self
            .entries
            .members_in(namespace)
            .filter(|(_, member)| selects(selector, &member.workload.own_labels));
        for key in picked.map(|(key, _)| key.clone()).collect::<Vec<_>>() {
            self.dirty.members.insert(key);
        }
    }

    /// Pods that a selector picks, whether ready or not.
    fn pods_selected(&self, namespace: &Name, selector: &Labels) -> Vec<PodId> {
        if !self.context.entries.select_pods {
            return Vec::new();
        }
        let picked = |pod: &PodId| {
            self.pods.workload(*pod).is_some_and(|workload| selects(selector, &workload.own_labels))
        };
        self.pods.in_namespace(namespace).into_iter().filter(picked).collect()
    }

    /// Something with these labels came, went or changed: entries that select it are looked at again.
    pub(super) fn touch_selecting(&mut self, namespace: &Name, labels: &Labels) {
        if !self.entries.selecting.is_empty() {
            self.dirty.hosts.extend(self.entries.services_of(namespace, labels));
        }
    }

    /// What a Namespace says of its services has changed.
    pub(super) fn touch_entries_in(&mut self, namespace: &Name) {
        let first = ServiceKey::new(namespace.clone(), "");
        let inside = self.entries.by_host.range(first..).take_while(|(id, _)| id.namespace == *namespace);
        self.dirty.hosts.extend(inside.map(|(id, _)| id.clone()));
    }

    /// Everything of entries again: where addresses belong, or whose identities there are, has changed.
    pub(super) fn convert_entries(&mut self) {
        let members: Vec<_> = self.entries.workloads.keys().cloned().collect();
        members.into_iter().for_each(|key| self.workload_entry_changed(key, None));
        self.dirty.hosts.extend(self.entries.by_host.keys().cloned());
    }

    /// The services that entries make a Pod part of.
    pub(super) fn entry_services(&self, pod: PodId) -> Vec<ServiceKey> {
        if self.entries.selecting.is_empty() || !self.context.entries.select_pods {
            return Vec::new();
        }
        let workload = self.pods.workload(pod);
        workload
            .map(|workload| self.entries.services_of(&workload.namespace, &workload.own_labels))
            .unwrap_or_default()
    }

    /// The Kubernetes Service that has this host in this cluster, were there one.
    pub(super) fn object_of(&self, id: &ServiceKey) -> Option<ObjectKey> {
        let rest = id.hostname.strip_suffix(self.context.domain.as_str())?.strip_suffix(".svc.")?;
        let name = rest.strip_suffix(id.namespace.as_str())?.strip_suffix('.')?;
        (!name.is_empty() && !name.contains('.')).then(|| ObjectKey::new(&id.namespace, name))
    }

    /// What differs of a host that entries have, and no Kubernetes Service can have.
    pub(super) fn convert_host(&mut self, id: ServiceKey) -> Option<Share> {
        let shard = self.with_entries(&id, None);
        self.difference(id, shard)
    }

    /// R5.29: a Kubernetes Service with what entries of its host add to it; without one, what entries say.
    pub(super) fn with_entries(
        &mut self,
        id: &ServiceKey,
        own: Option<EndpointShard>,
    ) -> Option<EndpointShard> {
        let record = own.as_ref().and_then(|own| own.service.as_deref());
        // D7; the peer finds endpoints by name alone.
        let ports = record.filter(|_| !self.context.quirks.has(Quirk::Q30)).map(|record| &*record.ports);
        let Some(share) = self.entry_share(id, ports) else {
            return own;
        };
        let own = own.unwrap_or_else(|| EndpointShard::new(self.context.cluster.clone(), None, Vec::new()));
        let adds = !share.endpoints.is_empty() || !share.service.inline().is_empty();
        let service = match own.service {
            Some(service) => Some(service),
            // A cluster that has nothing of it says nothing of it.
            None if !self.context.gateways.config_cluster && !adds => {
                return (!own.endpoints.is_empty()).then_some(own);
            }
            None => Some(self.shared_record(id, share.service)),
        };
        let mut endpoints = own.endpoints.to_vec();
        add_absent(&mut endpoints, share.endpoints);
        Some(EndpointShard::new(self.context.cluster.clone(), service, endpoints))
    }

    /// The record that was told before, if it is equal: comparing them costs nothing then.
    fn shared_record(&self, id: &ServiceKey, service: Service) -> Arc<Service> {
        let told = self.current.shards.get(id).and_then(|shard| shard.service.as_ref());
        told.filter(|told| ***told == service).map_or_else(|| Arc::new(service), Arc::clone)
    }

    /// What entries say of a host, under the names of `ports` if that is given.
    fn entry_share(&mut self, id: &ServiceKey, ports: Option<&[ServicePort]>) -> Option<EntryShare> {
        let keys = self.entries.by_host.get(id)?;
        Counts::add(&self.counts.conversions, 1);
        let is_home = self.context.gateways.config_cluster;
        let namespace = self.namespaces.get(&ObjectKey::new("", id.namespace.clone()));
        let mut shares = Vec::new();
        for key in keys {
            let Some(object) = self.entries.all.get(key) else { continue };
            let selected = self.selected(key, object);
            let (context, of_cluster) = (&self.context, self.networks.of_cluster());
            let selected = selected.as_slice();
            let input = EntryInput { context, of_cluster, namespace, key, object, selected, is_home };
            let share = convert::entry_share(input, &id.hostname);
            let share = ports.into_iter().fold(share, EntryShare::named_by);
            shares.push((object.created, key.clone(), share));
        }
        // Oldest first (R5.38).
        shares.sort_by(|(a, x, _), (b, y, _)| (a, x).cmp(&(b, y)));
        for (_, key, share) in &shares {
            self.quarantine.set_entry(ObjectKind::ServiceEntry, key, share.skipped.clone());
        }
        convert::united(shares.into_iter().map(|(_, _, share)| share))
    }

    /// R5.37: ready Pods (R5.17) by name, then WorkloadEntries by name.
    fn selected(&self, key: &ObjectKey, object: &ServiceEntryObject) -> Vec<Member> {
        let Some(selector) = &object.selector else {
            return Vec::new();
        };
        let mut pods = self.pods_selected(&key.namespace, selector);
        pods.retain(|pod| !self.pods.lent_by(*pod).is_empty());
        let pods: BTreeMap<_, _> = pods
            .into_iter()
            .filter_map(|pod| Some((self.pods.key(pod).name, self.pods.workload(pod)?)))
            .collect();
        let picked = |member: &&Member| member.is_ready() && selects(selector, &member.workload.own_labels);
        let members = self.entries.members_in(&key.namespace).map(|(_, member)| member).filter(picked);
        pods.into_values().filter_map(Member::of_pod).chain(members.cloned()).collect()
    }
}
