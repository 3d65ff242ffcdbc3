//! Kubernetes objects → model: pure functions, no clock, no state.

mod endpoints;
mod entry;
mod gateways;
mod mcs;
mod network;
mod pod;
mod protocol;
mod service;
mod slice;
mod waypoint;
mod workload;

use crate::model::{ClusterId, Hostname, Labels, Name, Quirks, ServiceKey, SessionLabels};

use super::objects::{NamespaceObject, ObjectKey};

pub use endpoints::{EndpointInput, Endpoints, HealthBasis, PodLookup, SliceInput, endpoints};
#[cfg(test)]
pub(crate) use entry::read_entry;
pub use entry::{
    EntryInput, EntryOptions, EntryShare, Member, entry_key, entry_share, selects, service_member, united,
};
pub use gateways::{
    Advertised, ClusterNetworks, GatewayInput, GatewayNodes, GatewayOptions, Gateways, TrustedNetworks,
    api_gateways, gateway_account, has_addresses, is_api_gateway, is_labelled, service_gateways,
};
pub use mcs::{McsOptions, discoverability, imported, imported_key};
pub use network::{Blocks, ClusterNetwork, Overlap};
pub use pod::{Pod, PodShape};
pub use service::{service, traffic_distribution};
pub use slice::{Conditions, Entry, EntryAddresses, Slice};
pub use waypoint::says_of_waypoints;
pub use workload::{bare_workload, pod_profile, pod_workload};

/// What is the same for every object of one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterContext {
    /// The cluster: objects are keyed by the connection they came from, never by what they say (Z-10).
    pub cluster: ClusterId,
    /// The DNS domain of services.
    pub domain: Name,
    /// The trust domain of its workloads (D34).
    pub trust_domain: Name,
    /// Whether loopback and other special addresses may be endpoints and gateways (K-40, D34).
    pub special_addresses: SpecialAddresses,
    /// Where to answer as the peer does (D1).
    pub quirks: Quirks,
    /// R5.15: one endpoint with every address of its pod, `ISTIO_DUAL_STACK`.
    pub dual_stack: bool,
    /// Multi-cluster services (R4.38–R4.40).
    pub mcs: McsOptions,
    /// Who selects whom of WorkloadEntries and Pods.
    pub entries: EntryOptions,
    /// How its gateways are found.
    pub gateways: GatewayOptions,
    /// D9: whether endpoints are served from slices alone while Pods may not be read.
    pub serve_without_pods: bool,
    /// Which Services have sticky sessions (R5.13).
    pub session_labels: SessionLabels,
    /// Whether rules of the mesh may ask for labels of Namespaces: in an ambient mesh of several networks (R4.9).
    pub service_scopes: bool,
}

/// What to do with endpoint and gateway addresses that belong to one machine or link only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpecialAddresses {
    /// Drop them (K-40).
    Drop,
    /// Keep them: labs on loopback addresses.
    Keep,
}

impl ClusterContext {
    /// The labels of a Namespace as the records of its services carry them: only the config cluster's are asked for.
    pub(super) fn labels_of(&self, namespace: Option<&NamespaceObject>) -> Labels {
        let asked = self.service_scopes && self.gateways.config_cluster;
        namespace.filter(|_| asked).map(|namespace| namespace.labels.clone()).unwrap_or_default()
    }

    /// A cluster with the usual domains and our own answers.
    pub fn new(cluster: ClusterId) -> Self {
        Self {
            cluster,
            domain: "cluster.local".into(),
            trust_domain: "cluster.local".into(),
            special_addresses: SpecialAddresses::Drop,
            quirks: Quirks::OURS,
            dual_stack: false,
            mcs: McsOptions::default(),
            entries: EntryOptions::default(),
            gateways: GatewayOptions::default(),
            serve_without_pods: false,
            session_labels: SessionLabels::default(),
            service_scopes: false,
        }
    }

    /// The key of a Kubernetes Service: `<name>.<namespace>.svc.<domain>` (R0.5).
    pub fn service_key(&self, key: &ObjectKey) -> ServiceKey {
        let hostname = format!("{}.{}.svc.{}", key.name, key.namespace, self.domain);
        ServiceKey { namespace: key.namespace.clone(), hostname: Hostname::from(hostname) }
    }

    /// Whether others may connect to an address (K-40).
    pub(in crate::ingest) fn permits(&self, address: std::net::IpAddr) -> bool {
        self.special_addresses == SpecialAddresses::Keep || super::client::special_kind(address).is_none()
    }

    /// Reads an address that others are to connect to; says why it cannot be used.
    fn address(&self, text: &str) -> Result<std::net::IpAddr, String> {
        self.usable(text.parse().map_err(|_| format!("`{text}` is not an IP address"))?)
    }

    /// An address that others are to connect to, or why it cannot be used.
    fn usable(&self, address: std::net::IpAddr) -> Result<std::net::IpAddr, String> {
        match (self.special_addresses, super::client::special_kind(address)) {
            (SpecialAddresses::Drop, Some(kind)) => Err(format!("{address} is a {kind} address")),
            _ => Ok(address.to_canonical()),
        }
    }
}

#[cfg(test)]
pub(in crate::ingest) fn test_context() -> ClusterContext {
    ClusterContext::new("c1".into())
}
