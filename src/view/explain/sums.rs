//! What the weights of gateways are made of (R4.21, D3–D5).

use std::collections::BTreeMap;

use serde::Serialize;

use super::Decided;
use super::chain::Facts;
use super::gateways::{Entrance, Entrances};
use crate::model::{ClusterId, NetworkId};
use crate::view::Decision;

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

/// The shares of one gateway, by cluster and number of gateways.
type Shares = BTreeMap<(ClusterId, usize), Share>;

/// Every gateway of an assignment, in wire order.
pub(super) fn sums(entrances: &Entrances, decided: &[Decided], facts: &Facts<'_>) -> Vec<GatewaySum> {
    let mut behind: Vec<Shares> = entrances.all().iter().map(|_| Shares::new()).collect();
    for one in decided.iter().filter(|one| one.decision == Decision::ViaGateway) {
        let (cluster, weight) = (&one.endpoint.workload.cluster, one.endpoint.weight());
        let (places, gateways) = entrances.before(&one.endpoint, facts);
        for at in places {
            let none = || Share { cluster: cluster.clone(), endpoints: 0, weight: 0, gateways };
            let share = behind[at].entry((cluster.clone(), gateways)).or_insert_with(none);
            share.endpoints += 1;
            share.weight += u64::from(weight);
        }
    }
    let sum = |(entrance, shares): (&Entrance, Shares)| {
        let shares: Vec<Share> = shares.into_values().collect();
        GatewaySum {
            arithmetic: arithmetic(&shares, entrance.weight),
            network: entrance.network.clone(),
            priority: entrance.priority,
            weight: entrance.weight,
            address: entrance.place.clone(),
            shares,
        }
    };
    entrances.all().iter().zip(behind).map(sum).collect()
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
