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

/// Who is told of an endpoint, and whether while it is unhealthy: two facts in one byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(into = "ExposureParts")]
pub struct Exposure(u8);

#[derive(Serialize)]
struct ExposureParts {
    discoverability: Discoverability,
    send_unhealthy: bool,
}

impl From<Exposure> for ExposureParts {
    fn from(exposure: Exposure) -> Self {
        Self { discoverability: exposure.discoverability(), send_unhealthy: exposure.sends_unhealthy() }
    }
}

impl Exposure {
    const SAME_CLUSTER: u8 = 1;
    const HIDE_UNHEALTHY: u8 = 2;

    /// Who may use it (R4.38), and whether it is sent while it is unhealthy (R4.10): a new one that is not sent
    /// wakes nobody (R6.1).
    pub fn new(discoverability: Discoverability, send_unhealthy: bool) -> Self {
        let own = discoverability == Discoverability::SameCluster;
        Self((u8::from(own) * Self::SAME_CLUSTER) | (u8::from(!send_unhealthy) * Self::HIDE_UNHEALTHY))
    }

    /// Who may use it (R4.38).
    pub fn discoverability(self) -> Discoverability {
        if self.0 & Self::SAME_CLUSTER == 0 { Discoverability::Always } else { Discoverability::SameCluster }
    }

    /// Whether it is sent while it is unhealthy (R4.10).
    pub fn sends_unhealthy(self) -> bool {
        self.0 & Self::HIDE_UNHEALTHY == 0
    }
}

impl Default for Exposure {
    /// Everybody, always.
    fn default() -> Self {
        Self::new(Discoverability::Always, true)
    }
}

impl From<Discoverability> for Exposure {
    fn from(discoverability: Discoverability) -> Self {
        Self::new(discoverability, true)
    }
}

/// One address and port behind one service port (R0.1). What its pod knows is shared in `workload`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Endpoint {
    /// The addresses; the first is the identity. Empty only where the workload has a network: it counts behind that
    /// network's gateways (R4.26).
    pub addresses: Addresses,
    /// The target port.
    pub port: u16,
    /// The service port's name in its own cluster, as the EndpointSlice spells it (R5.2).
    pub port_name: Name,
    /// Health (R5.13).
    pub health: Health,
    /// Weight; `None` counts as 1 (R4.11).
    pub weight: Option<NonZeroU32>,
    /// Who is told of it (R4.38), and when.
    pub exposure: Exposure,
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
            exposure: Exposure::default(),
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

    /// How many endpoints a Service has here: none where slices are all there is of it.
    pub fn of_service(&self) -> usize {
        if self.service.is_some() { self.endpoints.len() } else { 0 }
    }

    /// Whether its record is a ServiceEntry's (R5.33).
    pub fn is_of_entry(&self) -> bool {
        self.service.as_ref().is_some_and(|service| service.entry.is_some())
    }

    /// Whether other clusters see endpoints of it (R4.38).
    pub fn is_seen_elsewhere(&self) -> bool {
        self.endpoints.iter().any(|one| one.exposure.discoverability() == Discoverability::Always)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_small() {
        assert_eq!(size_of::<Endpoint>(), 48);
    }

    #[test]
    fn both_facts_of_an_exposure_stand_by_themselves() {
        for discoverability in [Discoverability::Always, Discoverability::SameCluster] {
            for send in [true, false] {
                let exposure = Exposure::new(discoverability, send);
                assert_eq!((exposure.discoverability(), exposure.sends_unhealthy()), (discoverability, send));
            }
        }
    }
}
