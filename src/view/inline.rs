//! Endpoints that Envoy is told with the Envoy cluster, across networks: those of services that it resolves itself (R3.14,
//! R4.21–R4.23 with D2, D3, D5).
//!
//! Their gateways are the unresolved ones: Envoy resolves a gateway's host name as it resolves the endpoints'.

use std::collections::{BTreeMap, BTreeSet};

use super::roads::lcm;
use super::{MeshRules, OutboundKey};
use crate::model::{
    ClusterId, GatewayAddress, InlineAddress, InlineEndpoint, IpFamilies, Locality, NetworkId, ProxyKind,
    Quirk,
};
use crate::registry::NetworkSnapshot;

/// What leads from network to network at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Ways<'a> {
    /// The gateways.
    pub networks: &'a NetworkSnapshot,
    /// Which networks reach each other, and where to answer as the peer does.
    pub mesh: &'a MeshRules,
}

/// One endpoint as it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InlineSent<'a> {
    /// Where it is.
    pub to: InlineTarget<'a>,
    /// Its weight, at least 1.
    pub weight: u32,
}

/// Where an endpoint that is sent is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InlineTarget<'a> {
    /// Where it says.
    Own(&'a InlineEndpoint),
    /// Behind a gateway, which stands for all of its network.
    Gateway(GatewayAddress, u16),
}

/// The endpoints of one locality.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InlineGroup<'a> {
    /// The locality; empty when not known.
    pub locality: &'a Locality,
    /// Direct ones first, in order, then gateways by address as text and port.
    pub sent: Vec<InlineSent<'a>>,
}

/// A gateway as it may be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entrance {
    cluster: ClusterId,
    address: GatewayAddress,
    port: u16,
}

enum Road {
    Direct,
    Gateways(Vec<Entrance>),
    Hidden,
}

/// The networks whose gateways decide about the inline endpoints of a service, for these clients.
pub fn inline_networks(endpoints: &[InlineEndpoint], key: &OutboundKey) -> BTreeSet<NetworkId> {
    let networks = endpoints.iter().map(|endpoint| &endpoint.workload.network);
    networks.filter(|network| !network.is_empty() && **network != key.network).cloned().collect()
}

/// What clients of `key` are sent for some inline endpoints, by locality: a pod of another network is behind the gateways
/// of that network if mesh mTLS is spoken to it, and hidden else. Each gateway comes once, with the exact share of the
/// weight. Without `ways` all are direct. Cost ∝ the endpoints.
pub fn inline<'a>(
    endpoints: &[&'a InlineEndpoint],
    key: &OutboundKey,
    ways: Option<Ways<'_>>,
    is_mtls: impl Fn(&InlineEndpoint) -> bool,
) -> Vec<InlineGroup<'a>> {
    let seen = endpoints.iter().filter(|one| key.requested_view.sees(&one.workload.network));
    let road = |one: &&InlineEndpoint| match ways.map_or(Road::Direct, |ways| ways.road(key, one)) {
        Road::Gateways(_) if !is_mtls(one) => Road::Hidden,
        road => road,
    };
    let roads: Vec<_> = seen.map(|one| (*one, road(one))).collect();
    let counts = roads.iter().filter_map(|(_, road)| match road {
        Road::Gateways(set) => Some(set.len() as u128),
        _ => None,
    });
    let scale = counts.fold(1, lcm);
    let mut localities: BTreeMap<&Locality, Collected<'a>> = BTreeMap::new();
    for (endpoint, road) in roads {
        let weight = u128::from(endpoint.weight());
        match road {
            Road::Direct if endpoint.address != InlineAddress::Absent => {
                let collected = localities.entry(endpoint.workload.locality()).or_default();
                collected.direct.push((endpoint, weight * scale));
            }
            Road::Gateways(set) => {
                let collected = localities.entry(endpoint.workload.locality()).or_default();
                collected.through(set, weight);
            }
            _ => {}
        }
    }
    fitted(localities, scale, ways.is_none_or(|ways| !ways.mesh.quirks().has(Quirk::Q27)))
}

/// What one locality collects.
#[derive(Default)]
struct Collected<'a> {
    direct: Vec<(&'a InlineEndpoint, u128)>,
    /// Weight by the set of gateways it goes through.
    through: Vec<(Vec<Entrance>, u128)>,
}

impl Collected<'_> {
    fn through(&mut self, set: Vec<Entrance>, weight: u128) {
        match self.through.iter_mut().find(|(known, _)| *known == set) {
            Some((_, total)) => *total += weight,
            None => self.through.push((set, weight)),
        }
    }

    /// Each gateway with its part of the weight: equal parts, the remainder to the first in order (D5).
    fn shares(&self, scale: u128) -> BTreeMap<(String, u16), (GatewayAddress, u128)> {
        let mut shares = BTreeMap::new();
        for (set, total) in &self.through {
            let (count, total) = (set.len() as u128, total * scale);
            for (at, gateway) in set.iter().enumerate() {
                let share = total / count + u128::from((at as u128) < total % count);
                let slot = shares.entry((gateway.address.to_string(), gateway.port));
                slot.or_insert((gateway.address.clone(), 0)).1 += share;
            }
        }
        shares
    }
}

/// Groups with weights that fit: scaled down together until their sum does (D5). `once`: a gateway goes to the first
/// locality that leads to it, with all of its weight (D3).
fn fitted<'a>(
    localities: BTreeMap<&'a Locality, Collected<'a>>,
    scale: u128,
    once: bool,
) -> Vec<InlineGroup<'a>> {
    let mut shares: Vec<_> = localities.values().map(|collected| collected.shares(scale)).collect();
    for at in (1..shares.len()).filter(|_| once) {
        let (before, rest) = shares.split_at_mut(at);
        rest[0].retain(|place, (_, weight)| {
            let known = before.iter_mut().find_map(|shares| shares.get_mut(place));
            known.map(|(_, first)| *first += *weight).is_none()
        });
    }
    let direct = localities.values().flat_map(|one| one.direct.iter().map(|(_, weight)| *weight));
    let gateways = shares.iter().flat_map(|shares| shares.values().map(|(_, weight)| *weight));
    let (count, total) = direct.chain(gateways).fold((0, 0), |(count, total), one| (count + 1, total + one));
    let limit = u128::from(u32::MAX).saturating_sub(count).max(1);
    let shrink = if total > limit { total / limit + 1 } else { 1 };
    let fit = |weight: u128| u32::try_from((weight / shrink).max(1)).unwrap_or(u32::MAX);
    let group = |((locality, one), shares): ((&'a Locality, Collected<'a>), BTreeMap<_, _>)| {
        let direct = one.direct.into_iter().map(|(own, weight)| (InlineTarget::Own(own), weight));
        let gateways =
            shares.into_iter().map(|((_, port), (address, weight)): ((String, u16), (_, u128))| {
                (InlineTarget::Gateway(address, port), weight)
            });
        let sent = direct.chain(gateways).map(|(to, weight)| InlineSent { to, weight: fit(weight) });
        InlineGroup { locality, sent: sent.collect() }
    };
    let groups = localities.into_iter().zip(shares).map(group);
    groups.filter(|group| !group.sent.is_empty()).collect()
}

impl Ways<'_> {
    fn road(&self, key: &OutboundKey, endpoint: &InlineEndpoint) -> Road {
        let (own, network) = (&key.network, &endpoint.workload.network);
        let near = matches!(endpoint.address, InlineAddress::Unix(_)) || network.is_empty() || own == network;
        if near || self.mesh.reachable(own, network) {
            return Road::Direct;
        }
        let quirks = self.mesh.quirks();
        let all = self.entrances(network);
        let untold = all.is_empty();
        let candidates = self.candidates(all, key, &endpoint.workload.cluster);
        if candidates.is_empty() {
            // D2, as for other endpoints.
            let unusable = !untold && !quirks.has(Quirk::Q12);
            let direct = !unusable && (own.is_empty() || quirks.has(Quirk::Q26));
            return if direct { Road::Direct } else { Road::Hidden };
        }
        let reached = candidates.into_iter().filter(|gateway| self.reaches(key.families, &gateway.address));
        let reached: Vec<_> = reached.collect();
        if reached.is_empty() { Road::Hidden } else { Road::Gateways(reached) }
    }

    /// Every gateway of a network, by address as text, then port.
    fn entrances(&self, network: &NetworkId) -> Vec<Entrance> {
        let (addressed, hosts) = self.networks.unresolved(network);
        let addressed = addressed.iter().map(|one| Entrance {
            cluster: one.cluster.clone(),
            address: GatewayAddress::Ip(one.address),
            port: one.port,
        });
        let hosts = hosts.iter().map(|one| Entrance {
            cluster: one.cluster.clone(),
            address: GatewayAddress::Host(one.host.clone()),
            port: one.port,
        });
        let mut all: Vec<_> = addressed.chain(hosts).collect();
        all.sort_by_cached_key(|one| (one.address.to_string(), one.port));
        all
    }

    /// Those with the port that the clients need: the own cluster's if it has any, else all.
    fn candidates(&self, all: Vec<Entrance>, key: &OutboundKey, cluster: &ClusterId) -> Vec<Entrance> {
        let quirks = self.mesh.quirks();
        let usable =
            |one: &Entrance| one.port != 0 || key.kind == ProxyKind::Router && quirks.has(Quirk::Q15);
        let (own_first, early) = (|one: &Entrance| one.cluster == *cluster, !quirks.has(Quirk::Q12));
        let counted = |one: &Entrance| !early || usable(one);
        let of_own = all.iter().filter(|one| counted(one)).any(own_first);
        all.into_iter().filter(|one| usable(one) && (!of_own || own_first(one))).collect()
    }

    /// Whether clients with addresses of these families reach a gateway: a host name may have any, and Envoy looks for
    /// those it can use (Q18: it has none).
    fn reaches(&self, families: IpFamilies, address: &GatewayAddress) -> bool {
        match address {
            GatewayAddress::Ip(address) => families.reaches(*address),
            GatewayAddress::Host(_) => families == IpFamilies::Dual || !self.mesh.quirks().has(Quirk::Q18),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{
        ClusterRole, GatewayHost, NetworkGateway, Node, NodeMetadata, ProxyView, Quirks, WorkloadParts,
    };
    use crate::registry::{PolicySnapshot, Registry};

    fn key(families: IpFamilies) -> OutboundKey {
        let metadata = NodeMetadata {
            cluster_id: "east".to_owned(),
            network: "net-east".to_owned(),
            ..NodeMetadata::default()
        };
        let id = "sidecar~10.0.0.9~p.a~a.svc.cluster.local";
        let node = Node::parse(id, metadata, Locality::default(), std::iter::empty()).expect("a node");
        let view = ProxyView { families, ..ProxyView::new(&node, None, &"".into(), Quirks::OURS) };
        OutboundKey::of(&view, &PolicySnapshot::default())
    }

    fn at(host: &str, network: &str, locality: &str) -> InlineEndpoint {
        let parts = WorkloadParts {
            cluster: "east".into(),
            network: network.into(),
            locality: Locality::parse(locality),
            ..WorkloadParts::default()
        };
        let address = if host.is_empty() { InlineAddress::Absent } else { InlineAddress::Host(host.into()) };
        InlineEndpoint {
            address,
            port: 443,
            port_name: "tls".into(),
            weight: None,
            workload: Arc::new(parts.into()),
        }
    }

    /// One gateway of `net-west` with an IPv4 address, one with an IPv6 address and one with a host name.
    fn gateways(quirks: &[Quirk]) -> (Arc<NetworkSnapshot>, MeshRules) {
        let registry = Registry::new();
        let of = |address: &str| {
            let address = address.parse().expect("address");
            NetworkGateway::new("net-west".into(), "west".into(), address)
        };
        let host = GatewayHost {
            network: "net-west".into(),
            host: "gw.example".into(),
            port: 15443,
            hbone_port: 0,
            cluster: "west".into(),
        };
        let mut west = registry.writer("west".into(), ClusterRole::Remote).expect("first writer");
        let claim = crate::registry::NetworkClaim {
            network: Some("net-west".into()),
            gateways: vec![of("172.30.0.2"), of("fd00::2")],
            hosts: vec![host],
        };
        west.claim_networks(claim);
        let networks = registry.networks();
        (networks, MeshRules::default().with_quirks(Quirks::of(quirks.iter().copied())))
    }

    /// `where*weight`, localities separated.
    fn sees(families: IpFamilies, quirks: &[Quirk], mtls: bool, endpoints: &[InlineEndpoint]) -> Vec<String> {
        let (networks, mesh) = gateways(quirks);
        let ways = Ways { networks: &networks, mesh: &mesh };
        let all: Vec<_> = endpoints.iter().collect();
        let groups = inline(&all, &key(families), Some(ways), |_| mtls);
        let one = |sent: &InlineSent<'_>| match &sent.to {
            InlineTarget::Own(own) => format!("{:?}*{}", own.address, sent.weight),
            InlineTarget::Gateway(address, port) => format!("{address}:{port}*{}", sent.weight),
        };
        groups.iter().map(|group| group.sent.iter().map(one).collect::<Vec<_>>().join(" ")).collect()
    }

    #[test]
    fn q18_gateways_with_host_names_stay_where_envoy_resolves_them() {
        let all = [at("b.example", "net-west", ""), at("", "net-west", "")];
        let ours = ["172.30.0.2:15443*2 gw.example:15443*2"];
        assert_eq!(sees(IpFamilies::V4, &[], true, &all), ours);
        assert_eq!(sees(IpFamilies::V4, &[Quirk::Q18], true, &all), ["172.30.0.2:15443*2"]);
        assert_eq!(sees(IpFamilies::V6, &[], true, &all), ["fd00::2:15443*2 gw.example:15443*2"]);
        assert_eq!(sees(IpFamilies::V6, &[Quirk::Q18], true, &all), ["fd00::2:15443*2"]);
        let every = ["172.30.0.2:15443*2 fd00::2:15443*2 gw.example:15443*2"];
        assert_eq!(sees(IpFamilies::Dual, &[], true, &all), every);
        assert_eq!(sees(IpFamilies::Dual, &[Quirk::Q18], true, &all), every, "no family is missing");
    }

    #[test]
    fn r4_25_inline_endpoints_are_direct_behind_gateways_or_hidden() {
        let near = at("a.example", "net-east", "");
        let open = at("o.example", "", "");
        let far = at("b.example", "net-west", "");
        let nowhere = at("c.example", "net-none", "");
        let own = ["Host(\"a.example\")*1 Host(\"o.example\")*1"];
        let all = [near.clone(), open, far, nowhere.clone(), at("", "net-east", "")];
        assert_eq!(
            sees(IpFamilies::V4, &[], false, &all),
            own,
            "without mTLS nothing goes through a gateway"
        );
        let through = format!("{} 172.30.0.2:15443*1 gw.example:15443*1", own[0].replace("*1", "*2"));
        assert_eq!(sees(IpFamilies::V4, &[], true, &all), [through]);
        assert!(sees(IpFamilies::V4, &[], true, std::slice::from_ref(&nowhere)).is_empty(), "D2");
        assert_eq!(sees(IpFamilies::V4, &[Quirk::Q26], true, &[nowhere]), ["Host(\"c.example\")*1"]);
        let read = inline_networks(&all, &key(IpFamilies::V4));
        assert_eq!(read.iter().map(|network| network.as_str()).collect::<Vec<_>>(), ["net-none", "net-west"]);
    }

    #[test]
    fn d03_a_gateway_comes_once() {
        let all = [at("b.example", "net-west", "r1"), at("c.example", "net-west", "r2")];
        assert_eq!(sees(IpFamilies::V4, &[], true, &all), ["172.30.0.2:15443*2 gw.example:15443*2"]);
        let twice = ["172.30.0.2:15443*1 gw.example:15443*1"; 2];
        assert_eq!(sees(IpFamilies::V4, &[Quirk::Q27], true, &all), twice);
    }
}
