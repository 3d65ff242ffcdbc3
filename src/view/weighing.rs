//! Endpoints of one assignment by locality, and exact weights (R4.19, R4.22 with D3–D5).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::HashSet;

use super::assignment::{AssignedEndpoint, InternalListener, LocalityGroup, Origin, SocketMatch, Target};
use super::lb::{self, Client, Group, Member, Plan};
use super::roads::{Roads, lcm};
use crate::model::{Health, Locality, NetworkGateway, NodePlace, Quirk, Quirks, Standing};

/// Weight that goes through one set of gateways.
#[derive(Debug)]
struct Through {
    set: usize,
    total: u128,
    /// What each gateway gets under Q14: every endpoint's weight divided on its own.
    each: u128,
}

/// What one locality collects before weights are final.
#[derive(Debug)]
struct Collected {
    standing: Standing,
    locality: Locality,
    direct: Vec<AssignedEndpoint>,
    through: Vec<Through>,
}

/// An endpoint whose weight is not fitted yet.
struct Weighed {
    endpoint: AssignedEndpoint,
    weight: u128,
}

impl Member for Weighed {
    fn label(&self, label: &str) -> &str {
        match (&self.endpoint.origin, label) {
            (Origin::Direct(workload), _) => workload.label(label).unwrap_or_default(),
            (Origin::Gateway { network, .. }, "topology.istio.io/network") => network,
            (Origin::Gateway { cluster, .. }, "topology.istio.io/cluster") => cluster,
            (Origin::Gateway { .. }, _) => "",
        }
    }

    fn weight(&self) -> u128 {
        self.weight
    }
}

/// Collects an assignment's endpoints and turns them into groups with exact weights.
#[derive(Debug)]
pub(super) struct Weighing {
    quirks: Quirks,
    /// The factor for every weight; `None` when it follows from the gateways in use (D5).
    scale: Option<u128>,
    collected: Vec<Collected>,
    index: BTreeMap<(Standing, Locality), usize>,
    /// Where the endpoint before went: neighbours mostly are on one node.
    last: Option<(Standing, *const NodePlace, usize)>,
    /// What the endpoints that come next are worth.
    standing: Standing,
    /// Whether there is an endpoint that traffic can go to.
    serves: bool,
    /// Addresses that are sent; looked at only where one may come twice.
    sent: Option<HashSet<(IpAddr, u16)>>,
}

impl Weighing {
    /// Nothing yet. `scale` is the factor for every weight if that is settled; `once` asks for every address only once.
    pub(super) fn new(quirks: Quirks, scale: Option<u128>, once: bool) -> Self {
        Self {
            quirks,
            scale,
            collected: Vec::new(),
            index: BTreeMap::new(),
            last: None,
            standing: Standing::Regular,
            serves: false,
            sent: once.then(HashSet::new),
        }
    }

    /// The endpoints that come next are of a cluster with this standing.
    pub(super) fn rank(&mut self, standing: Standing) {
        self.standing = standing;
    }

    /// Whether traffic has somewhere to go with what came so far.
    pub(super) fn serves(&self) -> bool {
        self.serves
    }

    /// A locality has endpoints, whatever becomes of them.
    pub(super) fn meet(&mut self, place: &Arc<NodePlace>) {
        self.at(place);
    }

    /// An endpoint at its own address; says whether that was not sent yet.
    pub(super) fn direct(&mut self, place: &Arc<NodePlace>, endpoint: AssignedEndpoint) -> bool {
        if let (Some(sent), Some(address)) = (&mut self.sent, endpoint.address())
            && !sent.insert((address, endpoint.port()))
        {
            return false;
        }
        self.serves |= endpoint.health == Some(Health::Healthy);
        self.at(place).direct.push(endpoint);
        true
    }

    /// An endpoint behind a set of so many gateways.
    pub(super) fn through(&mut self, place: &Arc<NodePlace>, set: usize, gateways: usize, weight: u32) {
        self.serves = true;
        let scaled = self.scaled(weight.into(), self.scale.unwrap_or(1));
        let collected = self.at(place);
        let at = collected.through.iter().position(|through| through.set == set).unwrap_or_else(|| {
            collected.through.push(Through { set, total: 0, each: 0 });
            collected.through.len() - 1
        });
        let through = &mut collected.through[at];
        through.total += u128::from(weight);
        through.each += scaled / gateways as u128;
    }

    fn at(&mut self, place: &Arc<NodePlace>) -> &mut Collected {
        let pointer = Arc::as_ptr(place);
        let at = match self.last {
            Some((standing, last, at)) if standing == self.standing && last == pointer => at,
            _ => self.find(&place.locality),
        };
        self.last = Some((self.standing, pointer, at));
        &mut self.collected[at]
    }

    fn find(&mut self, locality: &Locality) -> usize {
        let next = self.collected.len();
        let at = *self.index.entry((self.standing, locality.clone())).or_insert(next);
        if at == next {
            let (standing, locality) = (self.standing, locality.clone());
            self.collected.push(Collected { standing, locality, direct: Vec::new(), through: Vec::new() });
        }
        at
    }

    /// Scales, divides, ranks, merges and sums (D3, D5, R4.29–R4.35). Groups come out by locality as text, then
    /// priority; never empty, unless under Q27.
    pub(super) fn finish(
        mut self,
        roads: &Roads<'_>,
        plan: &Plan<'_>,
        client: Client<'_>,
    ) -> Vec<LocalityGroup> {
        let scale = self.scale.unwrap_or_else(|| self.own_scale(roads));
        self.collected.sort_by_cached_key(|one| (one.locality.to_string(), one.standing));
        let mut standings: Vec<_> = self.collected.iter().map(|one| one.standing).collect();
        standings.sort_unstable();
        standings.dedup();
        let collected = std::mem::take(&mut self.collected);
        let groups = collected.into_iter().map(|one| {
            let priority = standings.partition_point(|standing| *standing < one.standing) as u32;
            self.group(one, priority, scale, roads)
        });
        let groups: Vec<_> = groups.collect();
        let mut groups = lb::apply(plan, client, groups);
        let shares = matches!(plan, Plan::Distribute(_));
        if !self.quirks.has(Quirk::Q27) {
            merge(&mut groups, shares);
            groups.retain(|group| !group.members.is_empty());
            close(&mut groups);
        }
        self.fit(groups, shares, roads)
    }

    /// The least common multiple of the sizes of the gateway sets in use (D5, Q29): every division is exact.
    fn own_scale(&self, roads: &Roads<'_>) -> u128 {
        let through = self.collected.iter().flat_map(|collected| &collected.through);
        through.fold(1, |scale, through| lcm(scale, roads.sets()[through.set].len() as u128))
    }

    /// A weight times the scale; under Q16 within 32 bits.
    fn scaled(&self, weight: u128, scale: u128) -> u128 {
        let scaled = weight.saturating_mul(scale);
        if self.quirks.has(Quirk::Q16) { scaled.min(u32::MAX.into()) } else { scaled }
    }

    fn group(&self, collected: Collected, priority: u32, scale: u128, roads: &Roads<'_>) -> Group<Weighed> {
        let gateways = self.gateways(&collected.through, scale, roads);
        let mut members = Vec::with_capacity(collected.direct.len() + gateways.len());
        members.extend(collected.direct.into_iter().map(|endpoint| {
            let weight = self.scaled(endpoint.weight.into(), scale);
            Weighed { endpoint, weight }
        }));
        members.extend(gateways);
        let weight = Some(self.sum(members.iter().map(|member| member.weight), roads));
        Group { locality: collected.locality, priority, weight, members }
    }

    /// Under Q16 sums wrap around, but where the peer only adds up what there is.
    fn sum(&self, weights: impl Iterator<Item = u128>, roads: &Roads<'_>) -> u128 {
        let sum = weights.fold(0_u128, u128::saturating_add);
        match self.quirks.has(Quirk::Q16) {
            true if roads.has_no_gateway() => sum.min(u32::MAX.into()),
            true => sum % (1 << 32),
            false => sum,
        }
    }

    /// Shares out each set's weight: equal parts, the remainder to the first gateways in order (D5, Q14). One entry for
    /// each address and port, ordered by them.
    fn gateways(&self, through: &[Through], scale: u128, roads: &Roads<'_>) -> Vec<Weighed> {
        let mut shares: BTreeMap<(String, u16, usize), (&NetworkGateway, u128)> = BTreeMap::new();
        for one in through {
            let set = &roads.sets()[one.set];
            let (count, total) = (set.len() as u128, one.total.saturating_mul(scale));
            for (position, gateway) in set.iter().enumerate() {
                let exact = total / count + u128::from((position as u128) < total % count);
                let share =
                    if self.quirks.has(Quirk::Q14) && self.scale.is_some() { one.each } else { exact };
                let target = if roads.by_hbone() { gateway.hbone_port } else { gateway.port };
                // At the peer only what is equal in everything is one gateway.
                let apart = if self.quirks.has(Quirk::Q27) { kind(roads, gateway) } else { 0 };
                let slot = shares.entry((gateway.address.to_string(), target, apart));
                slot.or_insert((gateway, 0)).1 += share;
            }
        }
        let weighed = |(gateway, weight): (&NetworkGateway, u128)| {
            let weight = if self.quirks.has(Quirk::Q16) { weight % (1 << 32) } else { weight };
            Weighed { endpoint: entrance(gateway, roads.by_hbone()), weight: weight.max(1) }
        };
        shares.into_values().map(weighed).collect()
    }

    /// Makes weights fit: all are scaled down together until the sum over the assignment fits 32 bits, minimum 1
    /// (D5, Q16). Envoy refuses a priority whose localities' sum is larger.
    fn fit(&self, groups: Vec<Group<Weighed>>, shares: bool, roads: &Roads<'_>) -> Vec<LocalityGroup> {
        let weights = || groups.iter().flat_map(|group| group.members.iter().map(|member| member.weight));
        let total = weights().fold(0_u128, u128::saturating_add);
        let limit = u128::from(u32::MAX).saturating_sub(weights().count() as u128);
        let shrinks = total > limit && !self.quirks.has(Quirk::Q16);
        let shrink = total / limit + 1;
        let fitted = |weight: u128| {
            let weight = if shrinks { weight / shrink } else { weight };
            u32::try_from(weight.max(1)).unwrap_or(u32::MAX)
        };
        let group = |group: Group<Weighed>| {
            let fit = |member: Weighed| AssignedEndpoint { weight: fitted(member.weight), ..member.endpoint };
            let empty = group.members.is_empty();
            let endpoints: Vec<_> = group.members.into_iter().map(fit).collect();
            let sum = || self.sum(endpoints.iter().map(|endpoint| endpoint.weight.into()), roads);
            let weight = if shares {
                group.weight.unwrap_or(1)
            } else if empty {
                0
            } else {
                sum()
            };
            let weight = u32::try_from(weight).unwrap_or(u32::MAX);
            LocalityGroup { locality: group.locality, priority: group.priority, weight, endpoints }
        };
        groups.into_iter().map(group).collect()
    }
}

/// Which of the gateways that share an address and a port it is.
fn kind(roads: &Roads<'_>, gateway: &NetworkGateway) -> usize {
    let all = roads.sets().iter().flatten();
    let same = all.filter(|other| other.address == gateway.address && other.port == gateway.port);
    same.take_while(|other| *other != gateway).count()
}

/// Leaves each gateway in the group with the lowest priority, the first of them, with the sum of its weights (D3). Under
/// shares its part of the share of the group it leaves goes with it.
fn merge(groups: &mut [Group<Weighed>], shares: bool) {
    let mut order: Vec<usize> = (0..groups.len()).collect();
    order.sort_by_key(|at| groups[*at].priority);
    let mut first: BTreeMap<(IpAddr, u16), (usize, usize)> = BTreeMap::new();
    for at in order {
        let members = std::mem::take(&mut groups[at].members);
        let total = members.iter().map(|member| member.weight).fold(0, u128::saturating_add);
        let share = groups[at].weight.unwrap_or(1);
        for member in members {
            let gateway = matches!(member.endpoint.origin, Origin::Gateway { .. });
            let place = member
                .endpoint
                .address()
                .filter(|_| gateway)
                .map(|address| (address, member.endpoint.port()));
            let known = place.and_then(|place| first.get(&place).copied());
            let Some((to, member_at)) = known else {
                first.extend(place.map(|place| (place, (at, groups[at].members.len()))));
                groups[at].members.push(member);
                continue;
            };
            groups[to].members[member_at].weight += member.weight;
            if shares && to != at {
                let moved = share.saturating_mul(member.weight) / total.max(1);
                groups[to].weight = groups[to].weight.map(|weight| weight + moved);
                groups[at].weight = groups[at].weight.map(|weight| weight - moved.min(weight));
            }
        }
    }
}

/// Numbers priorities without gaps, as Envoy and gRPC expect them.
fn close(groups: &mut [Group<Weighed>]) {
    let mut seen: Vec<u32> = groups.iter().map(|group| group.priority).collect();
    seen.sort_unstable();
    seen.dedup();
    for group in groups {
        group.priority = seen.partition_point(|priority| *priority < group.priority) as u32;
    }
}

/// The endpoint that stands for everything behind a gateway (R4.23, R4.24).
fn entrance(gateway: &NetworkGateway, by_hbone: bool) -> AssignedEndpoint {
    let address = gateway.address;
    let target = match (by_hbone, gateway.port) {
        (true, _) => Target::Internal {
            listener: InternalListener::InnerConnectOriginate,
            address,
            port: gateway.hbone_port,
        },
        // Q15: a port of 0 is a Unix socket.
        (false, 0) => Target::Pipe(address.to_string().into()),
        (false, port) => Target::Socket { addresses: address.into(), port },
    };
    AssignedEndpoint {
        target,
        weight: 0,
        health: None,
        socket: if by_hbone { SocketMatch::Tunnel } else { SocketMatch::TlsMode },
        origin: Origin::Gateway { network: gateway.network.clone(), cluster: gateway.cluster.clone() },
    }
}
