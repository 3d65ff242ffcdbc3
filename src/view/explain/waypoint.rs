//! The waypoint that stands in for a service's endpoints (R4.37).

use std::net::IpAddr;

use serde::Serialize;

use super::Decided;
use crate::model::{ClusterId, Name, NetworkId};
use crate::view::{Assignment, Decision};

/// A waypoint, and what became of its endpoints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WaypointExplanation {
    /// Its service, as `namespace/host`.
    pub service: String,
    /// Whether some cluster has that service.
    pub known: bool,
    /// Where it is to lead: a virtual address and port of the service.
    pub to: String,
    /// Every endpoint that any cluster tells of; those on other ports among them.
    pub endpoints: Vec<WaypointEndpoint>,
}

/// One endpoint of a waypoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WaypointEndpoint {
    /// Its address; none where nobody tells one.
    pub address: Option<IpAddr>,
    /// Its target port.
    pub port: u16,
    /// Its pod; empty for a bare address.
    pub pod: Name,
    /// The cluster that tells of it.
    pub cluster: ClusterId,
    /// Its network.
    pub network: NetworkId,
    /// What became of it.
    pub decision: Decision,
}

/// The waypoint of an assignment; `None` where the service's own endpoints are sent.
pub(super) fn of(assignment: &Assignment<'_>, decided: &[Decided]) -> Option<WaypointExplanation> {
    let (service, version) = assignment.waypoint_read.as_ref()?;
    let endpoint = |Decided { endpoint, decision, .. }: &Decided| WaypointEndpoint {
        address: endpoint.addresses.first().copied(),
        port: endpoint.port,
        pod: endpoint.workload.name.clone(),
        cluster: endpoint.workload.cluster.clone(),
        network: endpoint.workload.network.clone(),
        decision: *decision,
    };
    Some(WaypointExplanation {
        service: service.to_string(),
        known: *version != 0,
        to: assignment.waypoint_to.map(|to| to.to_string()).unwrap_or_default(),
        endpoints: decided.iter().map(endpoint).collect(),
    })
}
