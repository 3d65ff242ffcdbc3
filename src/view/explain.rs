//! Why a proxy gets what it gets: the pipeline itself, run with a recorder, in words.
//!
//! [`explain`] runs [`assign`] and says for every endpoint which checks it passed and which hid it, what would have to
//! be otherwise for it to appear, where the weights of gateways come from and why priorities are what they are. What
//! would be is not guessed: the pipeline runs again with that one thing changed. Cost ∝ the service's endpoints ×
//! the distinct reasons: for operators, not for the hot path.

mod chain;
mod priorities;
mod sums;
#[cfg(test)]
mod tests;
mod would;

use std::net::IpAddr;

use serde::Serialize;

pub use chain::Check;
pub use priorities::PriorityRow;
pub use sums::{GatewaySum, Share};
pub use would::Would;

use super::{Assignment, Decision, Destination, EdsKey, EdsName, Inputs, Origin, assign};
use crate::model::policy::PolicyId;
use crate::model::{ClusterId, Endpoint, Health, Locality, Name, NetworkId};
use chain::Facts;

/// What one proxy gets for one name, and why.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The name of the assignment.
    pub name: String,
    /// Why there is nothing to decide; `None` when endpoints were decided.
    pub nothing: Option<Nothing>,
    /// The DestinationRules that hold, in order (R4.3).
    pub rules: Vec<PolicyId>,
    /// What orders localities, in words (R4.29–R4.31).
    pub locality_setting: String,
    /// Every endpoint that any cluster tells of, in the order of the pipeline.
    pub endpoints: Vec<EndpointExplanation>,
    /// The priorities, the preferred first.
    pub priorities: Vec<PriorityRow>,
    /// What the weights of gateways are made of.
    pub gateways: Vec<GatewaySum>,
}

/// Why a name has no endpoints at all. The codes are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Nothing {
    /// No cluster has such a service, or the proxy does not see it: by exportTo or by its Sidecar (R4.2).
    #[serde(rename = "hidden/not-visible")]
    NotVisible,
    /// The service has no such TCP port (R4.2).
    #[serde(rename = "hidden/no-port")]
    NoPort,
    /// No DestinationRule that holds has such a subset (R4.8).
    #[serde(rename = "hidden/no-subset")]
    NoSubset,
    /// Envoy resolves the service itself: its endpoints are in the Envoy cluster (R4.2).
    #[serde(rename = "dns")]
    Dns,
}

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointExplanation {
    /// Its address; none where nobody tells one.
    pub address: Option<IpAddr>,
    /// Its target port.
    pub port: u16,
    /// Its pod; empty for a bare address.
    pub pod: Name,
    /// Its pod's namespace.
    pub namespace: Name,
    /// The cluster that tells of it.
    pub cluster: ClusterId,
    /// Its network.
    pub network: NetworkId,
    /// Where it runs.
    pub locality: Locality,
    /// Its health.
    pub health: Health,
    /// Its own weight.
    pub weight: u32,
    /// What became of it.
    pub decision: Decision,
    /// Its priority, or that of its gateways; none when it is hidden.
    pub priority: Option<u32>,
    /// The checks, in order; only the last can have failed.
    pub chain: Vec<Check>,
    /// What would have to be otherwise.
    pub would: Option<Would>,
}

/// Explains what proxies with projection `key` get for `name`.
pub fn explain(inputs: Inputs<'_>, name: &EdsName, key: &EdsKey) -> Explanation {
    let mut decided: Vec<(Endpoint, Decision)> = Vec::new();
    let assignment = assign(inputs, name, key, &mut decided);
    let facts = Facts::new(inputs, name, key);
    let mut woulds = would::Woulds::new(inputs, name, key);
    let endpoints = decided.iter().enumerate().map(|(at, (endpoint, decision))| {
        let workload = &endpoint.workload;
        EndpointExplanation {
            address: endpoint.addresses.first().copied(),
            port: endpoint.port,
            pod: workload.name.clone(),
            namespace: workload.namespace.clone(),
            cluster: workload.cluster.clone(),
            network: workload.network.clone(),
            locality: workload.locality().clone(),
            health: endpoint.health,
            weight: endpoint.weight(),
            decision: *decision,
            priority: priority_of(&assignment, endpoint, *decision),
            chain: facts.chain(endpoint, *decision),
            would: woulds.of(at, endpoint, *decision),
        }
    });
    let endpoints: Vec<_> = endpoints.collect();
    Explanation {
        name: name.to_string(),
        nothing: nothing(inputs, name, key),
        rules: key.rules.clone(),
        locality_setting: priorities::setting(inputs, name, key),
        priorities: priorities::rows(&assignment, inputs, name, key),
        gateways: sums::sums(&assignment, &decided, &facts),
        endpoints,
    }
}

fn nothing(inputs: Inputs<'_>, name: &EdsName, key: &EdsKey) -> Option<Nothing> {
    let service = inputs.service.service.as_deref();
    let Some(service) = service.filter(|service| key.namespace.as_ref() == Some(&service.key.namespace))
    else {
        return Some(Nothing::NotVisible);
    };
    let destination = Destination::of_ids(inputs.policies, &name.host, &key.rules);
    match () {
        () if service.resolution.is_dns() => Some(Nothing::Dns),
        () if service.port(name.port).is_none() => Some(Nothing::NoPort),
        () if !name.subset.is_empty() && destination.subset(&name.subset).is_none() => {
            Some(Nothing::NoSubset)
        }
        () => None,
    }
}

/// The priority under which traffic reaches an endpoint: the best of those of its gateways, or of its own address.
fn priority_of(assignment: &Assignment<'_>, endpoint: &Endpoint, decision: Decision) -> Option<u32> {
    let groups = assignment.groups.iter();
    let has = |origin: Origin<'_>, address: Option<IpAddr>, port: u16| match (decision, origin) {
        (Decision::Direct, Origin::Direct(_)) => {
            address == endpoint.addresses.first().copied() && port == endpoint.port
        }
        (Decision::ViaGateway, Origin::Gateway { network, .. }) => *network == endpoint.workload.network,
        _ => false,
    };
    let reached =
        groups.filter(|group| group.endpoints.iter().any(|one| has(one.origin, one.address(), one.port())));
    reached.map(|group| group.priority).min()
}
