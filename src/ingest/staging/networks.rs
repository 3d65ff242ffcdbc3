//! Where the cluster belongs, and its gateways: what changes them, and what they change (R2.5, R3.7).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

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
use crate::model::{Name, NetworkId};
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
    /// The API server does not have, or does not give, that kind.
    api_absent: bool,
}

impl NetworkStaging {
    /// Where addresses belong.
    pub(super) fn of_cluster(&self) -> &ClusterNetwork {
        &self.of.network
    }

    /// Whether everything that gateways depend on has been heard of.
    pub(super) fn is_complete(&self, gateway_api: bool) -> bool {
        !self.mesh_awaited && (!gateway_api || self.api_absent || self.api.is_listed())
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
        match &event {
            // Optional: a cluster without the kind, or that does not give it, has no such gateways.
            SourceEvent::Failed(Failure::NotServed(_) | Failure::Forbidden(_)) => {
                self.networks.api_absent = true;
            }
            SourceEvent::InitDone { .. } => self.networks.api_absent = false,
            _ => {}
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
        let is = self.networks.api.get(&key).is_some_and(is_api_gateway);
        let known = &mut self.networks.api_labelled;
        // Q8: a label that is taken away takes the gateways away.
        let was = known.remove(&key);
        if is {
            known.insert(key);
        }
        self.dirty.networks |= was || is;
    }

    pub(super) fn namespace_changed(&mut self, key: ObjectKey, old: Option<NamespaceObject>) {
        self.distribution_changed(&key, old.as_ref());
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
        self.dirty.networks = true;
        if !moved {
            return;
        }
        self.convert_pods();
        self.dirty.services.extend(self.references.borrowing());
    }

    /// Only nodes with an ExternalIP matter, and only to gateways behind node ports (R3.7, Q6).
    pub(super) fn gateway_node_changed(&mut self, key: &ObjectKey) {
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
        let was = self.networks.is_candidate(key);
        if self.services.get(key).is_some_and(|service| is_labelled(service)) {
            self.networks.labelled.insert(key.clone());
        } else {
            self.networks.labelled.remove(key);
        }
        self.dirty.networks |= was || self.networks.is_candidate(key);
    }

    /// Every gateway of the cluster, again. Cost ∝ its gateway objects and, behind node ports, nodes.
    pub(super) fn convert_networks(&mut self) -> Option<NetworkClaim> {
        let mut all = Gateways::default();
        let mut notes = BTreeMap::new();
        let (mut by_node, mut by_local_node) = (BTreeSet::new(), BTreeSet::new());
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
            notes.insert((ObjectKind::Service, key), std::mem::take(&mut told.notes));
            all.extend(told);
        }
        for key in &self.networks.api_labelled {
            let Some(gateway) = self.networks.api.get(key) else { continue };
            let mut told = convert::api_gateways(input, gateway);
            notes.insert((ObjectKind::Gateway, key.clone()), std::mem::take(&mut told.notes));
            all.extend(told);
        }
        all.settle();
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
