//! Exact weights of groups, and each gateway once (R4.22, R4.29–R4.35 with D3, D5).

use std::collections::BTreeMap;

use super::assignment::{AssignedEndpoint, Host, LocalityGroup};
use super::gate::Gate;
use super::lb::{self, Client, Group, Plan};
use super::roads::Roads;
use super::shares::{fitted, lcm, part, shrink};
use super::weighing::{Collected, Through, Weighed, Weighing};
use crate::model::Quirk;

impl<'a> Weighing<'a> {
    /// Scales, divides, ranks, merges and sums (D3, D5, R4.29–R4.35). Groups come out by locality as text, then
    /// priority; never empty, unless under Q27.
    pub(super) fn finish(
        mut self,
        roads: &Roads<'a, '_>,
        plan: &Plan<'_>,
        client: Client<'_>,
    ) -> Vec<LocalityGroup<'a>> {
        let scale = self.scale.unwrap_or_else(|| self.own_scale(roads));
        let mut collected = std::mem::take(&mut self.collected);
        collected.sort_by_cached_key(|one| (one.locality.to_string(), one.standing));
        let mut standings: Vec<_> = collected.iter().map(|one| one.standing).collect();
        standings.sort_unstable();
        standings.dedup();
        let by_gateway = collected.iter().any(|one| !one.through.is_empty());
        let groups = collected.into_iter().map(|one| {
            let priority = standings.partition_point(|standing| *standing < one.standing) as u32;
            self.group(one, priority, scale, roads)
        });
        let mut groups = lb::apply(plan, client, groups.collect());
        let shares = matches!(plan, Plan::Distribute(rules) if lb::shares(rules, client.locality));
        if !self.quirks.has(Quirk::Q27) {
            if by_gateway {
                merge(&mut groups, shares);
            }
            groups.retain(|group| !group.members.is_empty());
            close(&mut groups);
        }
        self.fit(groups, shares, roads)
    }

    /// The least common multiple of the sizes of the gateway sets in use (D5, Q29): every division is exact.
    fn own_scale(&self, roads: &Roads<'_, '_>) -> u128 {
        let through = self.collected.iter().flat_map(|collected| &collected.through);
        through.fold(1, |scale, through| lcm(scale, roads.sets()[through.set].len() as u128))
    }

    fn group(
        &self,
        collected: Collected<'a>,
        priority: u32,
        scale: u128,
        roads: &Roads<'a, '_>,
    ) -> Group<Weighed<'a>> {
        let Collected { locality, direct: mut members, mut weight, through, .. } = collected;
        if scale != 1 {
            members.iter_mut().for_each(|member| member.weight = self.scaled(member.weight, scale));
            weight = members.iter().map(|member| member.weight).fold(0, u128::saturating_add);
        }
        for gateway in self.gateways(&through, scale, roads) {
            weight = weight.saturating_add(gateway.weight);
            members.push(gateway);
        }
        // R4.22: at the peer a locality that lost everything has no weight, and so counts as 1.
        let unset = members.is_empty() && self.quirks.has(Quirk::Q27);
        let weight = (!unset).then(|| self.sum(weight, roads));
        Group { locality: locality.clone(), priority, weight, members }
    }

    /// Under Q16 sums wrap around, but where the peer only adds up what there is.
    fn sum(&self, sum: u128, roads: &Roads<'_, '_>) -> u128 {
        match self.quirks.has(Quirk::Q16) {
            true if roads.has_no_gateway() => sum.min(u32::MAX.into()),
            true => sum % (1 << 32),
            false => sum,
        }
    }

    /// Shares out each set's weight: equal parts, the remainder to the first gateways in order (D5, Q14). One entry for
    /// each address and port, ordered by them.
    fn gateways(
        &self,
        through: &[Through],
        scale: u128,
        roads: &Roads<'a, '_>,
    ) -> impl Iterator<Item = Weighed<'a>> {
        let mut shares: BTreeMap<(String, u16, usize), (Gate<'a>, u128)> = BTreeMap::new();
        for one in through {
            let set = &roads.sets()[one.set];
            let total = one.total.saturating_mul(scale);
            for (position, &gate) in set.iter().enumerate() {
                let exact = part(total, set.len(), position);
                let share =
                    if self.quirks.has(Quirk::Q14) && self.scale.is_some() { one.each } else { exact };
                let target = if roads.by_hbone() { gate.hbone_port() } else { gate.port() };
                // At the peer only what is equal in everything is one gateway.
                let apart = if self.quirks.has(Quirk::Q27) { kind(roads, gate) } else { 0 };
                let slot = shares.entry((gate.text(), target, apart));
                slot.or_insert((gate, 0)).1 += share;
            }
        }
        let (by_hbone, wraps) = (roads.by_hbone(), self.quirks.has(Quirk::Q16));
        let weighed = move |(gate, weight): (Gate<'a>, u128)| {
            let weight = if wraps { weight % (1 << 32) } else { weight };
            Weighed { endpoint: gate.endpoint(by_hbone), weight: weight.max(1) }
        };
        shares.into_values().map(weighed)
    }

    /// Makes weights fit: all are scaled down together until the sum over the assignment fits 32 bits, minimum 1
    /// (D5, Q16). A group has the sum of its endpoints', but with `shares` those that were dealt out, 0 where it has none.
    fn fit(
        &self,
        groups: Vec<Group<Weighed<'a>>>,
        shares: bool,
        roads: &Roads<'_, '_>,
    ) -> Vec<LocalityGroup<'a>> {
        let weights = || groups.iter().flat_map(|group| group.members.iter().map(|member| member.weight));
        let total = weights().fold(0_u128, u128::saturating_add);
        let shrink = if self.quirks.has(Quirk::Q16) { 1 } else { shrink(total, weights().count()) };
        let group = |group: Group<Weighed<'a>>| {
            let empty = group.members.is_empty();
            let mut sum = 0_u128;
            let mut endpoints = Vec::with_capacity(group.members.len());
            for Weighed { endpoint, weight } in group.members {
                let weight = fitted(weight, shrink);
                sum += u128::from(weight);
                endpoints.push(AssignedEndpoint { weight, ..endpoint });
            }
            let weight = match () {
                () if shares => group.weight.unwrap_or(0),
                () if empty => 0,
                () => self.sum(sum, roads),
            };
            let weight = u32::try_from(weight).unwrap_or(u32::MAX);
            LocalityGroup { locality: group.locality, priority: group.priority, weight, endpoints }
        };
        groups.into_iter().map(group).collect()
    }
}

/// Which of the gateways that share an address and a port it is.
fn kind(roads: &Roads<'_, '_>, gate: Gate<'_>) -> usize {
    let (all, text) = (roads.sets().iter().flatten(), gate.text());
    let same = all.copied().filter(|other| other.text() == text && other.port() == gate.port());
    same.take_while(|other| *other != gate).count()
}

/// Leaves each gateway in the group with the lowest priority, the first of them, with the sum of its weights (D3). With
/// shares its part of the share of the group that it leaves goes with it: all of it together with the last member. What
/// was dealt out to one priority stays there: a locality of both has its share in each.
fn merge<'a>(groups: &mut [Group<Weighed<'a>>], shares: bool) {
    let mut order: Vec<usize> = (0..groups.len()).collect();
    order.sort_by_key(|at| groups[*at].priority);
    let mut first: BTreeMap<(Host<'a>, u16), (usize, usize)> = BTreeMap::new();
    for at in order {
        let members = &mut groups[at].members;
        let Some(start) = members.iter().position(Weighed::is_gateway) else { continue };
        let total = members.iter().map(|member| member.weight).fold(0, u128::saturating_add);
        // Gateways come last.
        let gateways = members.split_off(start);
        let mut leaving = Leaving { share: groups[at].weight.unwrap_or(1), total, gone: 0, moved: 0 };
        for member in gateways {
            let host = member.endpoint.target.host().filter(|_| member.is_gateway());
            let place = host.map(|host| (host, member.endpoint.port()));
            let known = place.and_then(|place| first.get(&place).copied());
            let Some((to, member_at)) = known else {
                first.extend(place.map(|place| (place, (at, groups[at].members.len()))));
                groups[at].members.push(member);
                continue;
            };
            groups[to].members[member_at].weight += member.weight;
            if shares && to != at && groups[to].priority == groups[at].priority {
                let moved = leaving.part(member.weight);
                groups[to].weight = groups[to].weight.map(|weight| weight + moved);
                groups[at].weight = groups[at].weight.map(|weight| weight - moved.min(weight));
            }
        }
    }
}

/// A group that members leave with their parts of its share.
struct Leaving {
    share: u128,
    /// The weight of all members.
    total: u128,
    /// The weight of those that left, and what went with them.
    gone: u128,
    moved: u128,
}

impl Leaving {
    /// What goes with one more: rounded over all that left, so that nothing is lost between them.
    fn part(&mut self, weight: u128) -> u128 {
        self.gone = self.gone.saturating_add(weight);
        let moved = self.share.saturating_mul(self.gone) / self.total.max(1);
        let part = moved.saturating_sub(self.moved);
        self.moved += part;
        part
    }
}

/// Numbers priorities without gaps, as Envoy and gRPC expect them.
fn close(groups: &mut [Group<Weighed<'_>>]) {
    let mut seen: Vec<u32> = groups.iter().map(|group| group.priority).collect();
    seen.sort_unstable();
    seen.dedup();
    for group in groups {
        group.priority = seen.partition_point(|priority| *priority < group.priority) as u32;
    }
}
