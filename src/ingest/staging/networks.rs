//! Where the cluster belongs, and its gateways: what changes them, and what they change (R2.5, R3.7).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::compat::Deleted;
use super::guard::HeldBack;
use super::held::{Door, Held, Scope};
use super::{Dirty, Staging, WHOLE_CLUSTER};
use crate::ingest::convert::{
    self, ClusterNetwork, ClusterNetworks, GatewayInput, GatewayNodes, Gateways, is_api_gateway, is_labelled,
};
use crate::ingest::networks::MeshNetworks;
use crate::ingest::objects::{
    GatewayObject, NamespaceObject, NodeObject, ObjectKey, ObjectKind, ServiceObject,
};
use crate::ingest::watch::{Failure, SourceEvent};
use crate::model::{Name, NetworkId, Quirk};
use crate::registry::NetworkClaim;

/// What is held of networks.
#[derive(Debug, Default)]
pub(super) struct NetworkStaging {
    /// The label of the system namespace; empty when there is none.
    label: NetworkId,
    /// The document; a cluster is not complete while it is awaited.
    mesh: Arc<MeshNetworks>,
    mesh_awaited: bool,
    /// What both amount to.
    of: ClusterNetworks,
    /// Services with the network label.
    labelled: BTreeSet<ObjectKey>,
    /// Gateway Services reached through nodes, and those of them that need a pod on the node.
    by_node: BTreeSet<ObjectKey>,
    by_local_node: BTreeSet<ObjectKey>,
    /// Nodes with an ExternalIP.
    external_nodes: BTreeSet<Name>,
    api: Held<GatewayObject>,
    /// Gateways of the Gateway API with the network label.
    api_labelled: BTreeSet<ObjectKey>,
}

impl NetworkStaging {
    /// Where addresses belong.
    pub(super) fn of_cluster(&self) -> &ClusterNetwork {
        &self.of.network
    }

    /// Whether everything that gateways depend on has been heard of.
    pub(super) fn is_complete(&self, gateway_api: bool) -> bool {
        !self.mesh_awaited && (!gateway_api || self.api.is_complete())
    }

    /// How many lists make Gateways complete.
    pub(super) fn await_gateway_lists(&mut self, lists: usize) {
        self.api.gate().await_lists(lists);
    }

    /// Removals of Gateways that wait for a second list.
    pub(super) fn held_back(&self) -> Vec<HeldBack> {
        self.api.held_back()
    }

    /// The next list of Gateways of this scope is believed.
    pub(super) fn confirm(&mut self, scope: &Scope) {
        self.api.gate().confirm(scope);
    }

    /// Whether the cluster does not have the Gateway API, or does not give its Gateways.
    pub(super) fn api_is_denied(&self) -> bool {
        self.api.is_denied()
    }

    /// Gateways of the Gateway API held.
    pub(super) fn api_gateways(&self) -> usize {
        self.api.len()
    }

    /// Marks gateways that depend on where the pods of touched services run.
    pub(super) fn touch(&self, dirty: &mut Dirty) {
        if self.by_local_node.iter().any(|service| dirty.services.contains(service)) {
            dirty.networks = true;
        }
    }

    fn is_candidate(&self, key: &ObjectKey) -> bool {
        self.labelled.contains(key) || self.of.named.contains_key(key)
    }

    fn candidates(&self) -> BTreeSet<ObjectKey> {
        self.labelled.iter().chain(self.of.named.keys()).cloned().collect()
    }
}

impl Staging {
    /// Nothing is complete until the document `meshNetworks` has been told.
    pub fn await_mesh_networks(&mut self) {
        self.networks.mesh_awaited = true;
    }

    pub(super) fn apply_mesh_networks(&mut self, mesh: Arc<MeshNetworks>) {
        self.networks.mesh_awaited = false;
        self.networks.mesh = mesh;
        self.network_rules_changed();
    }

    pub(super) fn apply_gateway(&mut self, scope: Scope, event: SourceEvent<GatewayObject>) {
        if let SourceEvent::Failed(Failure::NotServed(_) | Failure::Forbidden(_)) = &event {
            // Optional: a cluster without the kind, or that does not give it, has no such gateways.
            self.networks.api.gate().deny(&scope);
        }
        let (kind, guard, now) = (ObjectKind::Gateway, self.guard, self.waits.now());
        // All that lies behind one is lost with it.
        let weigh =
            |_: &ObjectKey, gateway: &GatewayObject| usize::from(is_api_gateway(gateway)) * WHOLE_CLUSTER;
        let door = Door { kind, scope, guard, now, weigh, quarantine: &mut self.quarantine };
        let changes = self.networks.api.apply(event, door);
        self.note(ObjectKind::Gateway, changes, Self::gateway_changed);
    }

    fn gateway_changed(&mut self, key: ObjectKey, _: Option<GatewayObject>) {
        if self.networks.api.get(&key).is_none() {
            self.dirty.networks |= self.compat.deleted(&key, Deleted::Gateway);
        }
        let is = self.networks.api.get(&key).is_some_and(is_api_gateway);
        let known = &mut self.networks.api_labelled;
        // A label that is taken away takes the gateways away, unless Q8 has them kept.
        let was = known.remove(&key);
        if is {
            known.insert(key);
        }
        self.dirty.networks |= was || is;
    }

    pub(super) fn namespace_changed(&mut self, key: ObjectKey, old: Option<NamespaceObject>) {
        self.default_changed(&key, old.as_ref());
        if key.name != self.system_namespace {
            return;
        }
        let namespace = self.namespaces.get(&key);
        self.networks.label =
            namespace.map(|namespace| NetworkId::from(&*namespace.network)).unwrap_or_default();
        self.network_rules_changed();
    }

    /// R2.5: what the label and the document amount to, again. Pods, bare addresses and gateways are looked at
    /// again if it differs for them, and published if they differ.
    fn network_rules_changed(&mut self) {
        let next = ClusterNetworks::new(&self.context, &self.networks.label, &self.networks.mesh);
        if next == self.networks.of {
            return;
        }
        let moved = next.network != self.networks.of.network;
        self.networks.of = next;
        self.compat.rules_changed();
        self.dirty.networks = true;
        if !moved {
            return;
        }
        self.convert_pods();
        self.convert_entries();
        self.dirty.services.extend(self.references.borrowing());
    }

    /// Only nodes with an ExternalIP matter, and only to gateways behind node ports (R3.7, Q6).
    pub(super) fn gateway_node_changed(&mut self, key: &ObjectKey) {
        if self.context.quirks.has(Quirk::Q6) {
            let matters = self.compat.node(&key.name, self.nodes.get(key));
            self.dirty.networks |= matters && !self.networks.by_node.is_empty();
            return;
        }
        let is = self.nodes.get(key).is_some_and(|node| node.external_ip.is_some());
        let known = &mut self.networks.external_nodes;
        let was = known.remove(&key.name);
        if is {
            known.insert(key.name.clone());
        }
        self.dirty.networks |= (was || is) && !self.networks.by_node.is_empty();
    }

    /// Q6: a Service that is or was a candidate is always evaluated again.
    pub(super) fn gateway_service_changed(&mut self, key: &ObjectKey) {
        if self.services.get(key).is_none() {
            self.dirty.networks |= self.compat.deleted(key, Deleted::Service);
        }
        let was = self.networks.is_candidate(key);
        if self.services.get(key).is_some_and(|service| is_labelled(service)) {
            self.networks.labelled.insert(key.clone());
        } else {
            self.networks.labelled.remove(key);
        }
        self.dirty.networks |= was || self.networks.is_candidate(key);
    }

    /// Whether gateways are reached through nodes, as far as Services say. Cost ∝ what was touched.
    pub fn has_gateways_by_node(&mut self) -> bool {
        self.take();
        !self.networks.by_node.is_empty()
    }

    /// Every gateway of the cluster, again. Cost ∝ its gateway objects and, behind node ports, nodes.
    pub(super) fn convert_networks(&mut self) -> Option<NetworkClaim> {
        let mut notes = BTreeMap::new();
        let (mut by_node, mut by_local_node) = (BTreeSet::new(), BTreeSet::new());
        let (mut services, mut labelled) = (Vec::new(), Vec::new());
        let input = GatewayInput { context: &self.context, networks: &self.networks.of, nodes: self };
        for key in self.networks.candidates() {
            let Some(service) = self.services.get(&key) else { continue };
            if is_by_node(service) {
                by_node.insert(key.clone());
                if service.external_traffic_local {
                    by_local_node.insert(key.clone());
                }
            }
            let mut told = convert::service_gateways(input, &key, service);
            notes.insert((ObjectKind::Service, key.clone()), std::mem::take(&mut told.notes));
            // Q6: without addresses it is not looked at, and what it told before stands.
            if !self.context.quirks.has(Quirk::Q6) || convert::has_addresses(input, &key, service) {
                services.push((key, told));
            }
        }
        for key in &self.networks.api_labelled {
            let Some(gateway) = self.networks.api.get(key) else { continue };
            let mut told = convert::api_gateways(input, gateway);
            notes.insert((ObjectKind::Gateway, key.clone()), std::mem::take(&mut told.notes));
            labelled.push((key.clone(), convert::gateway_account(key, gateway), told));
        }
        let all = self.united(services, labelled);
        let own = self.networks.of.network.own();
        let claim = NetworkClaim {
            network: (!own.is_empty()).then(|| own.clone()),
            gateways: all.gateways,
            hosts: all.hosts,
        };
        self.quarantine.set_gateways(notes);
        self.networks.by_node = by_node;
        self.networks.by_local_node = by_local_node;
        self.claim(claim)
    }

    /// What objects tell, with what the peer's side remembers of others (Q6, Q8). Those of Services have no
    /// account, those of Gateway objects have one (R3.11, Q7).
    fn united(
        &mut self,
        services: Vec<(ObjectKey, Gateways)>,
        labelled: Vec<(ObjectKey, Name, Gateways)>,
    ) -> Gateways {
        let mut by_account: BTreeMap<Name, Gateways> = BTreeMap::new();
        for (key, told) in &services {
            self.compat.service(key, told);
        }
        for (key, account, told) in &labelled {
            self.compat.labelled(key, account, told);
        }
        let stale = self.compat.services().filter(|(key, _)| services.iter().all(|(told, _)| told != *key));
        for told in stale.map(|(_, told)| told).chain(services.iter().map(|(_, told)| told)) {
            by_account.entry(Name::default()).or_default().extend(told.clone());
        }
        let stale = self.compat.once_labelled();
        let stale = stale.filter(|(key, _)| labelled.iter().all(|(told, ..)| told != *key));
        let stale = stale.map(|(_, (account, told))| (account, told));
        for (account, told) in stale.chain(labelled.iter().map(|(_, account, told)| (account, told))) {
            by_account.entry(account.clone()).or_default().extend(told.clone());
        }
        let mut all = Gateways::default();
        for mut told in by_account.into_values() {
            told.settle();
            all.beside(told, self.context.quirks);
        }
        all
    }

    /// The claim, if it differs from the one before.
    fn claim(&mut self, claim: NetworkClaim) -> Option<NetworkClaim> {
        if self.current.networks == claim {
            return None;
        }
        self.current.networks.clone_from(&claim);
        Some(claim)
    }
}

fn is_by_node(service: &ServiceObject) -> bool {
    service.node_port_type && service.node_selector.is_some()
}

impl GatewayNodes for Staging {
    fn external(&self) -> Vec<(&Name, &NodeObject)> {
        if self.context.quirks.has(Quirk::Q6) {
            return self.compat.nodes().collect();
        }
        let names = self.networks.external_nodes.iter();
        names.filter_map(|name| Some((name, self.nodes.get(&ObjectKey::new("", name.clone()))?))).collect()
    }

    fn running(&self, service: &ObjectKey) -> BTreeSet<Name> {
        let names = self.references.slices(service).into_iter().flatten();
        let slice = |name: &Name| self.slices.get(&ObjectKey::new(service.namespace.clone(), name.clone()));
        let entries = names.filter_map(slice).flat_map(|slice| &slice.entries);
        let ready = entries.filter(|entry| entry.conditions.ready().unwrap_or(true));
        let nodes = ready.filter_map(|entry| Some(self.pods.node(entry.pod?)));
        nodes.filter(|node| !node.is_empty()).collect()
    }
}

#[cfg(test)]
mod tests;
