//! Services and Gateways of one cluster → gateways of networks (R3.1–R3.12).

mod advertised;
mod gateway_api;
mod service;

use std::collections::{BTreeMap, BTreeSet};

use super::{ClusterContext, ClusterNetwork};
use crate::ingest::networks::MeshNetworks;
use crate::ingest::objects::{Labels, NETWORK_LABEL, NodeObject, ObjectKey};
use crate::model::{GatewayAddress, GatewayHost, Name, NetworkGateway, NetworkId, Quirk, Quirks};

pub use advertised::Advertised;
pub use gateway_api::{api_gateways, gateway_account, is_api_gateway};
pub use service::{has_addresses, is_labelled, service_gateways};

/// Label with the mTLS port (R3.2, R3.9).
const PORT_LABEL: &str = "networking.istio.io/gatewayPort";

/// Which networks a cluster may tell gateways of without belonging to them (D10).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrustedNetworks {
    /// Any, as at the peer.
    Any,
    /// These.
    Only(BTreeSet<NetworkId>),
}

impl Default for TrustedNetworks {
    fn default() -> Self {
        Self::Only(BTreeSet::new())
    }
}

/// How the gateways of a cluster are found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GatewayOptions {
    /// Networks it may tell gateways of besides its own (D10).
    pub trusted: TrustedNetworks,
    /// Where its gateways are reached instead, unless their objects say so themselves.
    pub advertised: Option<Advertised>,
    /// Whether Gateways of the Gateway API are read (`PILOT_MULTI_NETWORK_DISCOVER_GATEWAY_API`).
    pub gateway_api: bool,
    /// Whether it is the config cluster, which may point to gateways elsewhere (R3.10).
    pub config_cluster: bool,
}

/// Where a cluster belongs, and which of its Services the document calls gateways.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterNetworks {
    /// The network of its addresses (R2.1).
    pub network: ClusterNetwork,
    /// Every network it belongs to: by label, and by each network that claims it (Q3).
    pub member_of: BTreeSet<NetworkId>,
    /// `registryServiceName` gateways: networks and ports by Service (R3.1 b).
    pub named: BTreeMap<ObjectKey, Vec<(NetworkId, u16)>>,
}

impl ClusterNetworks {
    /// What the label of the system namespace (empty: none) and the document say of a cluster.
    pub fn new(context: &ClusterContext, label: &NetworkId, mesh: &MeshNetworks) -> Self {
        let mut member_of: BTreeSet<_> = mesh.claiming(&context.cluster).cloned().collect();
        if !label.is_empty() {
            member_of.insert(label.clone());
        }
        let suffix = format!(".svc.{}", context.domain);
        let key = |host: &str| {
            let (name, namespace) = host.strip_suffix(&suffix)?.split_once('.')?;
            (!namespace.contains('.')).then(|| ObjectKey::new(namespace, name))
        };
        let services = mesh.services(&context.cluster).into_iter();
        Self {
            network: mesh.of_cluster(&context.cluster, label),
            member_of,
            named: services.filter_map(|(host, networks)| Some((key(&host)?, networks))).collect(),
        }
    }
}

/// The nodes of a cluster, as NodePort gateways see them.
pub trait GatewayNodes {
    /// Nodes with an ExternalIP, by name.
    fn external(&self) -> Vec<(&Name, &NodeObject)>;
    /// Names of the nodes that run a ready pod of this Service.
    fn running(&self, service: &ObjectKey) -> BTreeSet<Name>;
}

/// What gateways depend on besides the object they are told by.
#[derive(Clone, Copy)]
pub struct GatewayInput<'a> {
    /// The cluster.
    pub context: &'a ClusterContext,
    /// Where it belongs.
    pub networks: &'a ClusterNetworks,
    /// Its nodes.
    pub nodes: &'a dyn GatewayNodes,
}

/// What objects say of gateways.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gateways {
    /// Gateways with an IP address.
    pub gateways: Vec<NetworkGateway>,
    /// Gateways with a host name.
    pub hosts: Vec<GatewayHost>,
    /// What of it is not used, and why.
    pub notes: Vec<String>,
}

impl Gateways {
    /// Adds what another object says.
    pub fn extend(&mut self, other: Self) {
        self.gateways.extend(other.gateways);
        self.hosts.extend(other.hosts);
        self.notes.extend(other.notes);
    }

    /// In order, each gateway once, whoever tells of it (R3.14).
    pub fn settle(&mut self) {
        self.gateways.sort();
        self.gateways.dedup();
        self.hosts.sort();
        self.hosts.dedup();
    }

    /// What objects of one account say, beside what others say: a gateway that both tell of counts once, or once
    /// for each account (Q7). Both are settled.
    pub fn beside(&mut self, other: Self, quirks: Quirks) {
        self.extend(other);
        match quirks.has(Quirk::Q7) {
            true => {
                self.gateways.sort();
                self.hosts.sort();
            }
            false => self.settle(),
        }
    }

    fn push(&mut self, context: &ClusterContext, network: &NetworkId, entrance: Entrance) {
        let Entrance { address, port, hbone_port } = entrance;
        let (network, cluster) = (network.clone(), context.cluster.clone());
        match address {
            GatewayAddress::Ip(address) => {
                self.gateways.push(NetworkGateway { network, cluster, address, port, hbone_port });
            }
            GatewayAddress::Host(host) => {
                self.hosts.push(GatewayHost { network, cluster, host, port, hbone_port });
            }
        }
    }
}

/// A gateway without its network.
struct Entrance {
    address: GatewayAddress,
    port: u16,
    hbone_port: u16,
}

impl GatewayInput<'_> {
    /// D10, or the note that says why not.
    fn accepts(&self, network: &NetworkId) -> Result<(), String> {
        let trusted = match &self.context.gateways.trusted {
            TrustedNetworks::Any => true,
            TrustedNetworks::Only(networks) => networks.contains(network),
        };
        if trusted || self.networks.member_of.contains(network) {
            return Ok(());
        }
        let own: Vec<_> = self.networks.member_of.iter().map(|own| format!("`{own}`")).collect();
        let own = if own.is_empty() { "none".to_owned() } else { own.join(", ") };
        Err(format!(
            "gateways for network `{network}` are not used: by the label {NETWORK_LABEL} of its system namespace \
             and by meshNetworks this cluster belongs to {own}; trust it with tombolo.dev/trusted-networks"
        ))
    }

    /// Reads an address that others are to connect to; says why it cannot be used (K-40).
    fn address(&self, text: &str) -> Result<GatewayAddress, String> {
        if text.parse::<std::net::IpAddr>().is_ok() {
            return self.context.address(text).map(GatewayAddress::Ip);
        }
        let shown: String = text.chars().take(80).collect();
        GatewayAddress::host(text)
            .ok_or_else(|| format!("`{shown}` is neither an IP address nor a host name"))
    }

    /// The addresses to use instead of what an object says: its annotation, else the cluster's option.
    fn advertised(&self, annotation: Option<&Name>, notes: &mut Vec<String>) -> Option<Advertised> {
        let own = annotation.and_then(|text| {
            let (advertised, problems) = Advertised::parse(text);
            let name = crate::ingest::objects::GATEWAY_ADDRESS_ANNOTATION;
            notes.extend(problems.into_iter().map(|problem| format!("annotation {name}: {problem}")));
            advertised
        });
        let mut advertised = own.or_else(|| self.context.gateways.advertised.clone())?;
        advertised.entries.retain(|(address, _)| match address {
            GatewayAddress::Host(_) => true,
            GatewayAddress::Ip(ip) => match self.context.address(&ip.to_string()) {
                Ok(_) => true,
                Err(reason) => {
                    notes.push(format!("advertised gateway address not used: {reason}"));
                    false
                }
            },
        });
        (!advertised.entries.is_empty()).then_some(advertised)
    }
}

/// The label with the mTLS port (R3.2): unusable → told, and the default. A number that is no port is none at
/// all under Q34.
fn port_label(context: &ClusterContext, labels: &Labels, notes: &mut Vec<String>) -> Option<u16> {
    use crate::model::DEFAULT_GATEWAY_PORT;
    let Some(label) = labels.get(PORT_LABEL) else {
        return Some(DEFAULT_GATEWAY_PORT);
    };
    let number = label.parse::<i64>().ok();
    if let Some(port) = number.and_then(|number| u16::try_from(number).ok()).filter(|port| *port != 0) {
        return Some(port);
    }
    if number.is_some() && context.quirks.has(Quirk::Q34) {
        notes.push(format!("label {PORT_LABEL} is not a port number: there is no mTLS port"));
        return None;
    }
    notes.push(format!("label {PORT_LABEL} is not a port number: {DEFAULT_GATEWAY_PORT} is used"));
    Some(DEFAULT_GATEWAY_PORT)
}

#[cfg(test)]
mod tests;
