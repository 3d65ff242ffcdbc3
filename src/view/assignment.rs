//! What a proxy gets for one Envoy cluster: plain values, no protobuf.

use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;

use crate::model::policy::PolicyPart;
use crate::model::{ClusterId, Health, Locality, NetworkId, Workload};

/// What an assigned endpoint stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Origin {
    /// One pod (or bare address), reached directly.
    Direct(Arc<Workload>),
    /// Every ready endpoint of a network behind this gateway (R4.23).
    Gateway {
        /// The network behind it.
        network: NetworkId,
        /// The cluster that told of the gateway.
        cluster: ClusterId,
    },
}

/// One address a proxy may send to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AssignedEndpoint {
    /// Where to connect.
    pub address: IpAddr,
    /// The port to connect to.
    pub port: u16,
    /// Its weight, at least 1.
    pub weight: u32,
    /// Its health; `None` for gateways, which have none of their own (R4.23).
    pub health: Option<Health>,
    /// Whether to speak mesh mTLS to it (R4.13).
    pub mtls: bool,
    /// What stands behind it.
    pub origin: Origin,
}

impl AssignedEndpoint {
    /// The telemetry text of R4.14 and R4.23.
    pub fn telemetry(&self) -> String {
        match &self.origin {
            Origin::Direct(workload) => workload.telemetry(),
            Origin::Gateway { cluster, .. } => format!(";;;;{cluster}"),
        }
    }
}

/// The endpoints of one locality and priority.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LocalityGroup {
    /// The locality; empty when not known.
    pub locality: Locality,
    /// 0 is preferred; without gaps over an assignment.
    pub priority: u32,
    /// Sum of the endpoints' weights.
    pub weight: u32,
    /// Direct endpoints first, then gateways by address and port (R4.22). Never empty.
    pub endpoints: Vec<AssignedEndpoint>,
}

/// The answer for one Envoy cluster name and projection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Assignment {
    /// Groups ordered by priority, then locality (R4.19).
    pub groups: Vec<LocalityGroup>,
    /// The networks whose gateways were looked at, with the version of each (D14); ordered.
    pub networks_read: Vec<(NetworkId, u64)>,
    /// The newest version among the standings of the clusters that were looked at.
    pub standings_read: u64,
    /// The parts of the policies that were looked at, with the version of each (D14); ordered.
    pub policies_read: Vec<(PolicyPart, u64)>,
}

impl Assignment {
    /// Every endpoint, in wire order.
    pub fn endpoints(&self) -> impl Iterator<Item = &AssignedEndpoint> {
        self.groups.iter().flat_map(|group| &group.endpoints)
    }
}
