//! The document `meshNetworks`: which networks there are, who belongs to them, how they are entered (R2.4).

mod read;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;

use crate::ingest::convert::{Blocks, ClusterNetwork};
use crate::model::{ClusterId, GatewayAddress, Hostname, NetworkId};

pub use read::{HostNames, Reading};

/// What the document says. Immutable: every change is a new value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MeshNetworks {
    networks: BTreeMap<NetworkId, MeshNetwork>,
    blocks: Arc<Blocks>,
}

/// One network of the document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct MeshNetwork {
    registries: BTreeSet<ClusterId>,
    blocks: Vec<IpNet>,
    /// `registryServiceName` gateways: host name of the Service, port.
    services: Vec<(Hostname, u16)>,
    /// `address` gateways.
    addresses: Vec<(GatewayAddress, u16)>,
}

/// A gateway of the document that names its address (R3.13).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticGateway {
    /// The network behind it.
    pub network: NetworkId,
    /// Its address.
    pub address: GatewayAddress,
    /// Its mTLS port.
    pub port: u16,
}

impl MeshNetworks {
    /// Whether the document names no network.
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty()
    }

    /// Where a cluster whose system namespace has this label (empty: none) and its addresses belong (R2.1,
    /// rules 2 to 5). Of several networks that claim the cluster the first one by name counts (Q3).
    pub fn of_cluster(&self, cluster: &ClusterId, label: &NetworkId) -> ClusterNetwork {
        let own = match label.is_empty() {
            false => label.clone(),
            true => self.claiming(cluster).next().cloned().unwrap_or_default(),
        };
        ClusterNetwork::new(own, Arc::clone(&self.blocks))
    }

    /// The networks that list a cluster in `fromRegistry`, by name.
    pub fn claiming<'a>(&'a self, cluster: &'a ClusterId) -> impl Iterator<Item = &'a NetworkId> {
        let claims = |network: &MeshNetwork| network.registries.contains(cluster);
        self.networks.iter().filter(move |(_, network)| claims(network)).map(|(name, _)| name)
    }

    /// The Services of a cluster that are gateways by `registryServiceName`, each with the networks behind it
    /// and the port (R3.1 b, R3.3).
    pub fn services(&self, cluster: &ClusterId) -> BTreeMap<Hostname, Vec<(NetworkId, u16)>> {
        let mut services: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (name, network) in self.networks.iter().filter(|(_, n)| n.registries.contains(cluster)) {
            for (host, port) in &network.services {
                services.entry(host.clone()).or_default().push((name.clone(), *port));
            }
        }
        services
    }

    /// Every gateway that names its address.
    pub fn static_gateways(&self) -> impl Iterator<Item = StaticGateway> {
        self.networks.iter().flat_map(|(name, network)| {
            network.addresses.iter().map(|(address, port)| StaticGateway {
                network: name.clone(),
                address: address.clone(),
                port: *port,
            })
        })
    }
}
