//! Gateways in place of the endpoints behind them, and exact weights (R4.19–R4.25 with D3–D5).

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::assignment::{AssignedEndpoint, LocalityGroup, Origin};
use crate::model::{ClusterId, Health, IpFamilies, Locality, NetworkGateway, Standing};
use crate::registry::NetworkPart;

/// How an endpoint is reached.
#[derive(Debug)]
pub(super) enum Route {
    /// At its own address.
    Direct,
    /// Through these gateways, ordered by address, then port.
    Gateways(Vec<NetworkGateway>),
}

/// The gateways in front of an endpoint of `cluster` (R4.21.2): its own cluster's if that has any, else all of
/// the network. Gateways without an mTLS port do not count (Q12, Q15).
pub(super) fn candidates(part: &NetworkPart, cluster: &ClusterId) -> Vec<NetworkGateway> {
    let usable = || part.gateways.iter().filter(|gateway| gateway.port != 0);
    let own: Vec<_> = usable().filter(|gateway| gateway.cluster == *cluster).cloned().collect();
    if own.is_empty() { usable().cloned().collect() } else { own }
}

/// The gateways a proxy with these address families reaches (R4.21.3).
pub(super) fn reached(mut gateways: Vec<NetworkGateway>, families: IpFamilies) -> Vec<NetworkGateway> {
    gateways.retain(|gateway| families.reaches(gateway.address));
    gateways
}

/// What one locality collects before weights are final.
#[derive(Debug, Default)]
struct Collected {
    direct: Vec<AssignedEndpoint>,
    /// Weight of the endpoints behind each set of gateways.
    via: BTreeMap<Vec<NetworkGateway>, u128>,
}

/// A group whose weights are not fitted yet.
struct Members {
    standing: Standing,
    locality: Locality,
    endpoints: Vec<(AssignedEndpoint, u128)>,
}

/// Collects an assignment's endpoints and turns them into groups with exact weights.
#[derive(Debug, Default)]
pub(super) struct Weighing {
    /// What the endpoints that come next are worth.
    standing: Standing,
    ranks: BTreeMap<Standing, BTreeMap<Locality, Collected>>,
    /// Whether there is an endpoint that traffic can go to.
    serves: bool,
}

impl Weighing {
    /// The endpoints that come next are of a cluster with this standing.
    pub(super) fn rank(&mut self, standing: Standing) {
        self.standing = standing;
    }

    /// Whether traffic has somewhere to go with what came so far.
    pub(super) fn serves(&self) -> bool {
        self.serves
    }

    /// An endpoint at its own address.
    pub(super) fn direct(&mut self, locality: &Locality, endpoint: AssignedEndpoint) {
        self.serves |= endpoint.health == Some(Health::Healthy);
        self.collected(locality).direct.push(endpoint);
    }

    /// An endpoint behind `gateways`.
    pub(super) fn via(&mut self, locality: &Locality, gateways: Vec<NetworkGateway>, weight: u32) {
        self.serves = true;
        *self.collected(locality).via.entry(gateways).or_default() += u128::from(weight);
    }

    fn collected(&mut self, locality: &Locality) -> &mut Collected {
        let localities = self.ranks.entry(self.standing).or_default();
        if !localities.contains_key(locality) {
            localities.insert(locality.clone(), Collected::default());
        }
        localities.get_mut(locality).expect("inserted above")
    }

    /// Scales, divides, merges and sums (D3, D5). Groups come out by priority, then locality, never empty.
    pub(super) fn finish(self) -> Vec<LocalityGroup> {
        let scale = self.scale();
        let mut first_seen = BTreeMap::new();
        let mut groups: Vec<Members> = Vec::new();
        let ranks = self.ranks.into_iter();
        let localities = ranks.flat_map(|(standing, all)| all.into_iter().map(move |one| (standing, one)));
        for (standing, (locality, collected)) in localities {
            let here = groups.len();
            let scaled = |endpoint: AssignedEndpoint| {
                let weight = u128::from(endpoint.weight).saturating_mul(scale);
                (endpoint, weight)
            };
            let endpoints = collected.direct.into_iter().map(scaled).collect();
            groups.push(Members { standing, locality, endpoints });
            for (place, (gateway, weight)) in divide(&collected.via, scale) {
                let &mut (group, member) =
                    first_seen.entry(place).or_insert((here, groups[here].endpoints.len()));
                match groups[group].endpoints.get_mut(member) {
                    Some((_, sum)) => *sum += weight,
                    None => groups[group].endpoints.push((entrance(&gateway), weight)),
                }
            }
        }
        groups.retain(|group| !group.endpoints.is_empty());
        fit(groups)
    }

    /// The least common multiple of the sizes of the gateway sets in use (D5, Q29): every division is exact.
    fn scale(&self) -> u128 {
        let sizes = self
            .ranks
            .values()
            .flat_map(BTreeMap::values)
            .flat_map(|collected| collected.via.keys())
            .map(Vec::len);
        sizes.fold(1, |scale, size| lcm(scale, size as u128))
    }
}

/// Shares out each set's weight: equal parts, the remainder to the first gateways in order (D5).
fn divide(
    via: &BTreeMap<Vec<NetworkGateway>, u128>,
    scale: u128,
) -> BTreeMap<(Ordered, u16), (NetworkGateway, u128)> {
    let mut shares: BTreeMap<(Ordered, u16), (NetworkGateway, u128)> = BTreeMap::new();
    for (gateways, weight) in via {
        let (count, total) = (gateways.len() as u128, weight.saturating_mul(scale));
        for (position, gateway) in gateways.iter().enumerate() {
            let share = total / count + u128::from((position as u128) < total % count);
            let slot = shares.entry((Ordered::new(gateway.address), gateway.port));
            slot.or_insert_with(|| (gateway.clone(), 0)).1 += share;
        }
    }
    shares
}

/// An address ordered as text, as R3.17 orders gateways.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Ordered(String);

impl Ordered {
    fn new(address: IpAddr) -> Self {
        Self(address.to_string())
    }
}

/// The endpoint that stands for everything behind a gateway (R4.23).
fn entrance(gateway: &NetworkGateway) -> AssignedEndpoint {
    AssignedEndpoint {
        address: gateway.address,
        port: gateway.port,
        weight: 0,
        health: None,
        mtls: true,
        origin: Origin::Gateway { network: gateway.network.clone(), cluster: gateway.cluster.clone() },
    }
}

/// Makes weights fit: all are scaled down together until the sum over the assignment fits 32 bits, minimum 1
/// (D5, Q16). Envoy refuses a priority whose localities' sum is larger.
fn fit(groups: Vec<Members>) -> Vec<LocalityGroup> {
    let weights = || groups.iter().flat_map(|group| group.endpoints.iter().map(|(_, weight)| *weight));
    let total = weights().fold(0_u128, u128::saturating_add);
    let limit = u128::from(u32::MAX).saturating_sub(weights().count() as u128);
    let shrink = total / limit + 1;
    let fitted = |weight: u128| {
        let weight = if total > limit { weight / shrink } else { weight };
        u32::try_from(weight.max(1)).unwrap_or(u32::MAX)
    };
    let mut standings: Vec<_> = groups.iter().map(|group| group.standing).collect();
    standings.dedup();
    let group = |members: Members| {
        // Envoy and gRPC expect priorities without gaps.
        let priority = standings.iter().take_while(|standing| **standing < members.standing).count() as u32;
        let fit = |(endpoint, weight)| AssignedEndpoint { weight: fitted(weight), ..endpoint };
        let endpoints: Vec<_> = members.endpoints.into_iter().map(fit).collect();
        let weight = endpoints.iter().map(|endpoint| endpoint.weight).sum();
        LocalityGroup { locality: members.locality, priority, weight, endpoints }
    };
    groups.into_iter().map(group).collect()
}

fn lcm(a: u128, b: u128) -> u128 {
    let (mut x, mut y) = (a, b);
    while y != 0 {
        (x, y) = (y, x % y);
    }
    // Bounded: beyond this the weights would be scaled down to the same ratios anyway.
    (a / x).saturating_mul(b).min(1 << 64)
}
