//! Endpoints and the share of a service that one cluster contributes.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use serde::Serialize;

use super::{Addresses, ClusterId, Name, Service, Set, SpiffeId, Workload, WorkloadProfile};

/// Health of an endpoint as its EndpointSlice and Service tell it (R5.13, D46).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// Ready.
    #[default]
    Healthy,
    /// Not ready: sent as unhealthy, gives a gateway no weight (R4.10, D4).
    Unhealthy,
    /// Leaving, still serving sticky sessions.
    Draining,
    /// Leaving: never sent (R4.9).
    Terminating,
}

/// Who may use an endpoint (R4.38).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Discoverability {
    /// Proxies of every cluster.
    #[default]
    Always,
    /// Proxies of the endpoint's own cluster.
    SameCluster,
}

impl Discoverability {
    /// Whether an endpoint of cluster `own` may be used from `viewer`; an empty id counts as the same cluster.
    pub fn permits(self, own: &ClusterId, viewer: &ClusterId) -> bool {
        self == Self::Always || own.is_empty() || viewer.is_empty() || own == viewer
    }
}

/// One address and port behind one service port (R0.1). What its pod knows is shared in `workload`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Endpoint {
    /// The addresses; the first is the identity. Never empty.
    pub addresses: Addresses,
    /// The target port.
    pub port: u16,
    /// The service port's name in its own cluster, as the EndpointSlice spells it (R5.2).
    pub port_name: Name,
    /// Health (R5.13).
    pub health: Health,
    /// Weight; `None` counts as 1 (R4.11).
    pub weight: Option<NonZeroU32>,
    /// Who may use it (R4.38).
    pub discoverability: Discoverability,
    /// Whether it is sent while it is unhealthy (R4.10); a new one that is not sent wakes nobody (R6.1).
    pub send_unhealthy: bool,
    /// The pod behind it, or what is known of a bare address.
    pub workload: Arc<Workload>,
}

impl Endpoint {
    /// A healthy endpoint of weight 1.
    pub fn new(
        address: IpAddr,
        port: u16,
        port_name: impl Into<Name>,
        workload: impl Into<Arc<Workload>>,
    ) -> Self {
        Self {
            addresses: address.into(),
            port,
            port_name: port_name.into(),
            health: Health::Healthy,
            weight: None,
            discoverability: Discoverability::Always,
            send_unhealthy: true,
            workload: workload.into(),
        }
    }

    /// The weight with its default (R4.11).
    pub fn weight(&self) -> u32 {
        self.weight.map_or(1, NonZeroU32::get)
    }
}

/// What one cluster contributes to one service: its own record and its endpoints (D11).
///
/// Endpoints may be there before the record, and the reverse (contract 3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointShard {
    /// The cluster.
    pub cluster: ClusterId,
    /// The cluster's own record of the service, once its Service object is known.
    pub service: Option<Arc<Service>>,
    /// Its endpoints, in the order of slice name, then position (Q25).
    pub endpoints: Arc<[Endpoint]>,
    /// Identities behind the endpoints.
    pub accounts: Set<SpiffeId>,
}

impl EndpointShard {
    /// A shard whose accounts are those of `endpoints`.
    pub fn new(cluster: ClusterId, service: Option<Arc<Service>>, endpoints: Vec<Endpoint>) -> Self {
        let mut accounts = Vec::new();
        let mut last: Option<&Arc<WorkloadProfile>> = None;
        for endpoint in &endpoints {
            let profile = &endpoint.workload.profile;
            // Neighbours mostly are pods of one deployment.
            if last.is_none_or(|last| !Arc::ptr_eq(last, profile)) {
                accounts.extend(profile.account.clone());
                last = Some(profile);
            }
        }
        let accounts = accounts.into_iter().collect();
        Self { cluster, service, endpoints: endpoints.into(), accounts }
    }
}
