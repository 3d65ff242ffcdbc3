//! What the weights of gateways are made of (R4.21, D3–D5).

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::Serialize;

use super::chain::Facts;
use crate::model::{ClusterId, Endpoint, NetworkId};
use crate::view::{Assignment, Decision, Origin};

/// One gateway of an assignment.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewaySum {
    /// Its address and port.
    pub address: String,
    /// The network behind it.
    pub network: NetworkId,
    /// The priority it has.
    pub priority: u32,
    /// The weight it is sent with.
    pub weight: u32,
    /// What that is made of.
    pub shares: Vec<Share>,
    /// The sum in words.
    pub arithmetic: String,
}

/// The endpoints of one cluster that share a set of gateways.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Share {
    /// The cluster.
    pub cluster: ClusterId,
    /// How many ready endpoints.
    pub endpoints: usize,
    /// Their weight together.
    pub weight: u64,
    /// By how many gateways it is divided.
    pub gateways: usize,
}

/// Every gateway of an assignment, in wire order.
pub(super) fn sums(
    assignment: &Assignment<'_>,
    decided: &[(Endpoint, Decision)],
    facts: &Facts<'_>,
) -> Vec<GatewaySum> {
    let mut behind: BTreeMap<String, BTreeMap<(ClusterId, usize), Share>> = BTreeMap::new();
    for (endpoint, _) in decided.iter().filter(|(_, decision)| *decision == Decision::ViaGateway) {
        let gateways = facts.gateways(endpoint);
        for gateway in &gateways {
            let cluster = &endpoint.workload.cluster;
            let share = behind
                .entry(SocketAddr::new(gateway.address, gateway.port).to_string())
                .or_default()
                .entry((cluster.clone(), gateways.len()))
                .or_insert_with(|| Share {
                    cluster: cluster.clone(),
                    endpoints: 0,
                    weight: 0,
                    gateways: gateways.len(),
                });
            share.endpoints += 1;
            share.weight += u64::from(endpoint.weight());
        }
    }
    let mut sums = Vec::new();
    for group in &assignment.groups {
        for endpoint in &group.endpoints {
            let (Origin::Gateway { network, .. }, Some(address)) = (endpoint.origin, endpoint.address())
            else {
                continue;
            };
            let address = SocketAddr::new(address, endpoint.port()).to_string();
            let shares: Vec<Share> = behind.remove(&address).unwrap_or_default().into_values().collect();
            sums.push(GatewaySum {
                arithmetic: arithmetic(&shares, endpoint.weight),
                network: network.clone(),
                priority: group.priority,
                weight: endpoint.weight,
                address,
                shares,
            });
        }
    }
    sums
}

/// `3 endpoints of west weigh 3, over 2 gateways: 1.5; times 2 = 3`.
fn arithmetic(shares: &[Share], weight: u32) -> String {
    let part = |share: &Share| {
        let (noun, weigh) =
            if share.endpoints == 1 { ("endpoint", "weighs") } else { ("endpoints", "weigh") };
        let of = format!("{} {noun} of {} {weigh} {}", share.endpoints, share.cluster, share.weight);
        if share.gateways > 1 { format!("{of}, over {} gateways", share.gateways) } else { of }
    };
    let parts: Vec<String> = shares.iter().map(part).collect();
    let exact: f64 = shares.iter().map(|share| share.weight as f64 / share.gateways as f64).sum();
    let factor = f64::from(weight) / exact;
    let factor = if exact == 0.0 || (factor - 1.0).abs() < 0.005 {
        String::new()
    } else {
        format!("; every weight of this answer is multiplied by about {factor:.2}")
    };
    format!("{}{factor} = {weight}", parts.join(" + "))
}
