//! From a service snapshot to the endpoints a proxy sees (R4.1–R4.28 with D2–D7).
//!
//! Shards → ports → per-endpoint filter → direct, through a gateway, or hidden → localities → weights. Every
//! endpoint gets exactly one [`Decision`]; with the recorder `()` none of that costs anything.

use std::collections::BTreeMap;

use serde::Serialize;

use super::assignment::{AssignedEndpoint, Assignment, Origin};
use super::split_horizon::{self, Route, Weighing};
use super::{EdsKey, EdsName, MeshRules};
use crate::model::{
    Endpoint, EndpointShard, Health, Name, NetworkId, Quirk, Service, Standing, TlsMode, Transport,
};
use crate::registry::{NetworkPart, NetworkSnapshot, PolicySnapshot, ServiceSnapshot, StandingSnapshot};

/// Label that marks a draining pod (R4.9).
const DRAINING_LABEL: &str = "istio.io/draining";

/// What happened to one endpoint. The codes are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Decision {
    /// Sent as it is.
    #[serde(rename = "direct")]
    Direct,
    /// Counted into the weight of its network's gateways.
    #[serde(rename = "via-gateway")]
    ViaGateway,
    /// Another port of the service (R4.6, D7).
    #[serde(rename = "hidden/other-port")]
    OtherPort,
    /// On another node than the proxy, and the service is node-local (R4.9).
    #[serde(rename = "hidden/other-node")]
    OtherNode,
    /// Its network is not in the proxy's requested view (R2.8).
    #[serde(rename = "hidden/network-view")]
    NetworkView,
    /// In another cluster, and the host is cluster-local (R4.5).
    #[serde(rename = "hidden/other-cluster")]
    OtherCluster,
    /// In another cluster, and its own does not export the service (R4.38).
    #[serde(rename = "hidden/not-exported")]
    NotExported,
    /// Not ready, and the service does not send such endpoints (R4.10).
    #[serde(rename = "hidden/unhealthy")]
    Unhealthy,
    /// Terminating (R4.9).
    #[serde(rename = "hidden/terminating")]
    Terminating,
    /// Draining, and the service has no sticky sessions (R4.9).
    #[serde(rename = "hidden/draining")]
    Draining,
    /// On another network that has no usable gateway (D2).
    #[serde(rename = "hidden/no-gateway")]
    NoGateway,
    /// On another network whose gateways have none of the proxy's address families (R4.21).
    #[serde(rename = "hidden/gateway-family")]
    GatewayFamily,
    /// Behind a gateway or asked for by SNI, and without mesh mTLS (R4.21, R4.28).
    #[serde(rename = "hidden/mtls-required")]
    MtlsRequired,
    /// Behind a gateway and not ready: gives no weight (D4).
    #[serde(rename = "hidden/not-ready-behind-gateway")]
    NotReadyBehindGateway,
    /// Directly reached, and nobody says at which address (R4.26, Q17).
    #[serde(rename = "hidden/no-address")]
    NoAddress,
    /// Its cluster has not been heard for longer than it may serve, and others serve (D35).
    #[serde(rename = "hidden/stale-cluster")]
    StaleCluster,
}

impl Decision {
    /// The stable code.
    pub fn code(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::ViaGateway => "via-gateway",
            Self::OtherPort => "hidden/other-port",
            Self::OtherNode => "hidden/other-node",
            Self::NetworkView => "hidden/network-view",
            Self::OtherCluster => "hidden/other-cluster",
            Self::NotExported => "hidden/not-exported",
            Self::Unhealthy => "hidden/unhealthy",
            Self::Terminating => "hidden/terminating",
            Self::Draining => "hidden/draining",
            Self::NoGateway => "hidden/no-gateway",
            Self::GatewayFamily => "hidden/gateway-family",
            Self::MtlsRequired => "hidden/mtls-required",
            Self::NotReadyBehindGateway => "hidden/not-ready-behind-gateway",
            Self::NoAddress => "hidden/no-address",
            Self::StaleCluster => "hidden/stale-cluster",
        }
    }
}

/// Told of every endpoint's decision, in pipeline order.
pub trait Recorder {
    /// `endpoint` was decided.
    fn decided(&mut self, endpoint: &Endpoint, decision: Decision);
}

/// Records nothing.
impl Recorder for () {
    fn decided(&mut self, _: &Endpoint, _: Decision) {}
}

/// Records everything.
impl Recorder for Vec<(Endpoint, Decision)> {
    fn decided(&mut self, endpoint: &Endpoint, decision: Decision) {
        self.push((endpoint.clone(), decision));
    }
}

/// The versioned inputs of an assignment.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// The service.
    pub service: &'a ServiceSnapshot,
    /// The networks.
    pub networks: &'a NetworkSnapshot,
    /// Mesh-wide rules.
    pub mesh: &'a MeshRules,
    /// What the endpoints of each cluster are worth.
    pub standings: &'a StandingSnapshot,
    /// The policies.
    pub policies: &'a PolicySnapshot,
}

/// The endpoints that proxies with projection `key` get for `name`. Cost ∝ the service's endpoints.
///
/// An unknown service, port or subset gives an empty assignment, never an error (R4.2).
pub fn assign(inputs: Inputs<'_>, name: &EdsName, key: &EdsKey, recorder: &mut impl Recorder) -> Assignment {
    let Some(service) = inputs.service.service.as_deref() else {
        return Assignment::default();
    };
    if service.resolution.is_dns() || !name.subset.is_empty() || service.port(name.port).is_none() {
        return Assignment::default();
    }
    let mut pass = Pass { inputs, service, name, key, read: BTreeMap::new() };
    let mut weighing = Weighing::default();
    let mut shards: Vec<&EndpointShard> = inputs.service.shards.iter().map(AsRef::as_ref).collect();
    let standing = |shard: &EndpointShard| inputs.standings.part(&shard.cluster).standing;
    // Dropped clusters last: they serve only where nothing else does.
    shards.sort_by(|a, b| {
        let dropped = |shard| standing(shard) == Standing::Dropped;
        (dropped(a), &a.cluster).cmp(&(dropped(b), &b.cluster))
    });
    for shard in shards {
        let standing = standing(shard);
        let names = if inputs.mesh.quirks().has(Quirk::Q30) {
            service.port(name.port).map(|port| &port.name).into_iter().collect()
        } else {
            port_names(shard, name.port)
        };
        weighing.rank(standing);
        let spare = standing == Standing::Dropped && weighing.serves();
        for endpoint in shard.endpoints.iter() {
            let decision = match pass.matches(endpoint, &names) {
                Err(hidden) => hidden,
                Ok(()) if spare => Decision::StaleCluster,
                Ok(()) => pass.decide(endpoint, &mut weighing),
            };
            recorder.decided(endpoint, decision);
        }
    }
    let networks_read = pass.read.into_iter().map(|(id, part)| (id, part.version)).collect();
    let clusters = inputs.service.shards.iter().map(|shard| &shard.cluster);
    Assignment {
        groups: weighing.finish(),
        networks_read,
        standings_read: inputs.standings.version(clusters),
        policies_read: Vec::new(),
    }
}

/// The names under which a cluster's own record carries this port number (D7). Without a record the cluster's
/// endpoints match nothing: they wait for it (contract 3).
fn port_names(shard: &EndpointShard, number: u16) -> Vec<&Name> {
    let ports = shard.service.iter().flat_map(|service| &service.ports);
    ports
        .filter(|port| port.number == number && port.transport == Transport::Tcp)
        .map(|port| &port.name)
        .collect()
}

/// One run over the endpoints of one service.
struct Pass<'a> {
    inputs: Inputs<'a>,
    service: &'a Service,
    name: &'a EdsName,
    key: &'a EdsKey,
    /// The parts of networks that were looked at.
    read: BTreeMap<NetworkId, NetworkPart>,
}

impl Pass<'_> {
    /// Whether an endpoint is one of this name at all, and one the proxy may have.
    fn matches(&self, endpoint: &Endpoint, names: &[&Name]) -> Result<(), Decision> {
        // A slice whose port has no number (R5.2) says which port is meant to nobody.
        if endpoint.port == 0 || !names.contains(&&endpoint.port_name) {
            return Err(Decision::OtherPort);
        }
        self.filter(endpoint).map_or(Ok(()), Err)
    }

    fn decide(&mut self, endpoint: &Endpoint, weighing: &mut Weighing) -> Decision {
        let mtls = endpoint.workload.tls_mode == TlsMode::Istio;
        if self.name.sni_dnat && !mtls {
            return Decision::MtlsRequired;
        }
        match self.route(endpoint) {
            Err(hidden) => hidden,
            // Q17: never an address that nobody knows.
            Ok(Route::Direct) if endpoint.addresses.is_empty() => Decision::NoAddress,
            Ok(Route::Direct) => {
                weighing.direct(endpoint.workload.locality(), direct(endpoint, mtls));
                Decision::Direct
            }
            Ok(Route::Gateways(_)) if !mtls => Decision::MtlsRequired,
            Ok(Route::Gateways(_)) if endpoint.health != Health::Healthy => Decision::NotReadyBehindGateway,
            Ok(Route::Gateways(gateways)) => {
                weighing.via(endpoint.workload.locality(), gateways, endpoint.weight());
                Decision::ViaGateway
            }
        }
    }

    /// The filter of R4.9; `None` keeps the endpoint.
    fn filter(&self, endpoint: &Endpoint) -> Option<Decision> {
        let pod = &endpoint.workload;
        if self.key.node.as_ref().is_some_and(|node| node != pod.node() || *self.key.cluster != *pod.cluster)
        {
            return Some(Decision::OtherNode);
        }
        if !self.key.requested_view.sees(&pod.network) {
            return Some(Decision::NetworkView);
        }
        if pod.cluster != self.key.cluster && self.inputs.mesh.cluster_local(&self.name.host) {
            return Some(Decision::OtherCluster);
        }
        if !endpoint.exposure.discoverability().permits(&pod.cluster, &self.key.cluster) {
            return Some(Decision::NotExported);
        }
        match endpoint.health {
            Health::Unhealthy if !endpoint.exposure.sends_unhealthy() => Some(Decision::Unhealthy),
            Health::Terminating => Some(Decision::Terminating),
            _ if draining(endpoint) && !self.inputs.mesh.session_labels().mark(&self.service.labels) => {
                Some(Decision::Draining)
            }
            _ => None,
        }
    }

    /// Direct, through gateways, or hidden (R4.21, R4.25, D2).
    fn route(&mut self, endpoint: &Endpoint) -> Result<Route, Decision> {
        let (own, other) = (&self.key.network, &endpoint.workload.network);
        if other.is_empty() || own == other || self.inputs.mesh.reachable(own, other) {
            return Ok(Route::Direct);
        }
        let networks = self.inputs.networks;
        let part = self.read.entry(other.clone()).or_insert_with(|| networks.part(other));
        let candidates = split_horizon::candidates(part, &endpoint.workload.cluster);
        if candidates.is_empty() {
            return if own.is_empty() { Ok(Route::Direct) } else { Err(Decision::NoGateway) };
        }
        let reached = split_horizon::reached(candidates, self.key.families);
        if reached.is_empty() { Err(Decision::GatewayFamily) } else { Ok(Route::Gateways(reached)) }
    }
}

fn draining(endpoint: &Endpoint) -> bool {
    let label = endpoint.workload.label(DRAINING_LABEL);
    endpoint.health == Health::Draining || label.is_some_and(|value| !value.is_empty())
}

fn direct(endpoint: &Endpoint, mtls: bool) -> AssignedEndpoint {
    AssignedEndpoint {
        address: endpoint.addresses[0],
        port: endpoint.port,
        weight: endpoint.weight(),
        health: Some(if draining(endpoint) { Health::Draining } else { endpoint.health }),
        mtls,
        origin: Origin::Direct(std::sync::Arc::clone(&endpoint.workload)),
    }
}
