//! Networks: versioned parts, one per network (D14).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::{ClusterId, NetworkGateway, NetworkId};

/// The gateways of one network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkPart {
    /// Process-wide version; 0 for a network nobody ever told of.
    pub version: u64,
    /// Gateways, ordered by address, then port (R3.17). Empty for a network that has lost them all: a
    /// versioned tombstone (D13).
    pub gateways: Arc<[NetworkGateway]>,
}

/// What a write to the networks changed.
#[derive(Debug)]
pub(super) struct NetworkDifference {
    /// The writing cluster now belongs to another network.
    pub(super) moved: bool,
    /// Networks whose gateways differ.
    pub(super) networks: BTreeSet<NetworkId>,
}

/// All networks at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkSnapshot {
    parts: BTreeMap<NetworkId, NetworkPart>,
    /// Where each cluster belongs (its system namespace's label), for proxies that do not say (Q13).
    clusters: BTreeMap<ClusterId, NetworkId>,
}

impl NetworkSnapshot {
    /// The part of one network; the empty part when nobody told of it.
    pub fn part(&self, network: &NetworkId) -> NetworkPart {
        self.parts.get(network).cloned().unwrap_or_default()
    }

    /// The network a cluster belongs to; empty when it does not say.
    pub fn of_cluster(&self, cluster: &ClusterId) -> NetworkId {
        self.clusters.get(cluster).cloned().unwrap_or_default()
    }

    /// Every gateway, by network, then address.
    pub fn gateways(&self) -> impl Iterator<Item = &NetworkGateway> {
        self.parts.values().flat_map(|part| part.gateways.iter())
    }

    /// Replaces what one cluster tells; says what differs, or `None` when nothing does.
    pub(super) fn replace(
        &mut self,
        cluster: &ClusterId,
        network: Option<&NetworkId>,
        gateways: &[NetworkGateway],
        version: impl Fn() -> u64,
    ) -> Option<NetworkDifference> {
        let moved = self.clusters.get(cluster) != network;
        match network {
            Some(network) => self.clusters.insert(cluster.clone(), network.clone()),
            None => self.clusters.remove(cluster),
        };
        let named = gateways.iter().map(|gateway| gateway.network.clone());
        let touched: BTreeSet<NetworkId> = self.parts.keys().cloned().chain(named).collect();
        let networks: BTreeSet<_> =
            touched.into_iter().filter(|id| self.replace_part(id, cluster, gateways, &version)).collect();
        (moved || !networks.is_empty()).then_some(NetworkDifference { moved, networks })
    }

    fn replace_part(
        &mut self,
        network: &NetworkId,
        cluster: &ClusterId,
        gateways: &[NetworkGateway],
        version: &impl Fn() -> u64,
    ) -> bool {
        let part = self.parts.entry(network.clone()).or_default();
        let others = part.gateways.iter().filter(|gateway| gateway.cluster != *cluster);
        let own = gateways.iter().filter(|gateway| gateway.network == *network);
        let mut next: Vec<_> = others.chain(own).cloned().collect();
        next.sort();
        next.dedup();
        let differs = *part.gateways != *next;
        if differs {
            *part = NetworkPart { version: version(), gateways: next.into() };
        }
        differs
    }
}
