//! Ways to the networks of endpoints: directly, through gateways, or none (R4.20–R4.25 with D2).

use hashbrown::HashMap;

use super::gate::Gate;
use super::shares::lcm;
use super::{Decision, EdsKey, Inputs, Role};
use crate::model::{ClusterId, NetworkId, Quirk};

/// How proxies are told of the endpoints of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// By addresses, apart from the Envoy cluster: EDS.
    Apart,
    /// With the Envoy cluster, which resolves their names and those of their gateways itself (R3.14).
    WithCluster,
}

/// How endpoints of one network and cluster are reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Road {
    /// At their own addresses.
    Direct,
    /// Through one of the [sets of gateways](Roads::sets).
    Gateways(usize),
    /// Not at all.
    Hidden(Decision),
}

/// The ways that one assignment uses; each is found once.
#[derive(Debug)]
pub(super) struct Roads<'a, 'q> {
    inputs: Inputs<'a>,
    key: &'q EdsKey,
    told: Told,
    found: HashMap<(NetworkId, ClusterId), Road>,
    sets: Vec<Vec<Gate<'a>>>,
    read: Vec<(NetworkId, u64)>,
    /// Whether any network has a gateway; looked at only where the peer does.
    multi_network: Option<bool>,
}

impl<'a, 'q> Roads<'a, 'q> {
    pub(super) fn new(inputs: Inputs<'a>, key: &'q EdsKey, told: Told) -> Self {
        let (mut read, mut multi_network) = (Vec::new(), None);
        let quirks = inputs.mesh.quirks();
        if [Quirk::Q16, Quirk::Q17, Quirk::Q26, Quirk::Q29].into_iter().any(|row| quirks.has(row)) {
            let all = NetworkId::default();
            read.push((all.clone(), inputs.networks.part(&all).version));
            multi_network = Some(every(inputs, told).next().is_some());
        }
        Self { inputs, key, told, found: HashMap::new(), sets: Vec::new(), read, multi_network }
    }

    /// The sets of gateways in use; each is ordered.
    pub(super) fn sets(&self) -> &[Vec<Gate<'a>>] {
        &self.sets
    }

    /// The networks that were looked at, ordered.
    pub(super) fn into_read(mut self) -> Vec<(NetworkId, u64)> {
        self.read.sort();
        self.read.dedup();
        self.read
    }

    /// Whether the mesh has no gateway at all; known under the quirks that look at it, else `false`.
    pub(super) fn has_no_gateway(&self) -> bool {
        self.multi_network == Some(false)
    }

    /// Whether gateways are reached by HBONE inside HBONE (R4.21, R4.24): only assignments lead into tunnels.
    pub(super) fn by_hbone(&self) -> bool {
        let multi_network = self.inputs.mesh.features().multi_network;
        multi_network && self.key.role != Role::Sidecar && self.told == Told::Apart
    }

    /// The way to endpoints of `cluster` on `network`.
    pub(super) fn to(&mut self, network: &NetworkId, cluster: &ClusterId) -> Road {
        let place = (network.clone(), cluster.clone());
        if let Some(road) = self.found.get(&place) {
            return *road;
        }
        let road = self.find(network, cluster);
        self.found.insert(place, road);
        road
    }

    fn find(&mut self, network: &NetworkId, cluster: &ClusterId) -> Road {
        let own = &self.key.network;
        if network.is_empty() || own == network || self.inputs.mesh.reachable(own, network) {
            return Road::Direct;
        }
        self.read.push((network.clone(), self.inputs.networks.gateways_of(network).0));
        let known = self.gates(network);
        let is_untold = known.is_empty();
        let mut candidates = self.candidates(known, cluster);
        if let Some(hidden) = self.ambient(&candidates) {
            return Road::Hidden(hidden);
        }
        if candidates.is_empty() {
            return self.without_gateway(is_untold);
        }
        let quirks = self.inputs.mesh.quirks();
        candidates.retain(|gate| gate.is_reached(self.key.families, quirks));
        if candidates.is_empty() {
            return Road::Hidden(Decision::GatewayFamily);
        }
        Road::Gateways(self.set(candidates))
    }

    /// Every gateway of a network, by address or name as text, then port.
    pub(super) fn gates(&self, network: &NetworkId) -> Vec<Gate<'a>> {
        gates(self.inputs, self.told, network)
    }

    /// The place of a set of gateways among those in use.
    fn set(&mut self, gateways: Vec<Gate<'a>>) -> usize {
        // Each is in the snapshot once: the same ones are the same objects.
        let same = |set: &Vec<Gate<'_>>| {
            set.len() == gateways.len() && set.iter().zip(&gateways).all(|(a, b)| a.is(*b))
        };
        self.sets.iter().position(same).unwrap_or_else(|| {
            self.sets.push(gateways);
            self.sets.len() - 1
        })
    }

    /// What the ambient mesh keeps from this kind of proxy (R4.21.4).
    fn ambient(&self, candidates: &[Gate<'_>]) -> Option<Decision> {
        let features = self.inputs.mesh.features();
        match self.key.role {
            _ if !self.by_hbone() || self.key.network.is_empty() => None,
            Role::Waypoint if !features.multi_network_waypoint => Some(Decision::AmbientNetwork),
            Role::Ingress if !features.multi_network_ingress => Some(Decision::AmbientNetwork),
            _ => candidates.is_empty().then_some(Decision::NoGateway),
        }
    }

    /// The gateways in front of endpoints of `cluster` (R4.21.2): its own cluster's if that has any, else all of the
    /// network. Those without the port that the proxy needs do not count; under Q12 the own cluster's stand in the
    /// way even so, and under Q15 routers take any.
    fn candidates(&self, mut all: Vec<Gate<'a>>, cluster: &ClusterId) -> Vec<Gate<'a>> {
        let quirks = self.inputs.mesh.quirks();
        let usable = |gate: &Gate<'_>| match self.key.role {
            _ if self.by_hbone() => gate.hbone_port() != 0,
            Role::Sidecar => gate.port() != 0,
            _ => gate.port() != 0 || quirks.has(Quirk::Q15),
        };
        let early = !quirks.has(Quirk::Q12);
        all.retain(|gate| !early || usable(gate));
        if all.iter().any(|gate| gate.cluster() == cluster) {
            all.retain(|gate| gate.cluster() == cluster);
        }
        all.retain(|gate| early || usable(gate));
        all
    }

    /// A network without a usable gateway: hidden, for its addresses may be another pod's here (D2). Direct for a proxy
    /// that does not know its own network, unless there are gateways that it only cannot use (Q12), and under Q26.
    fn without_gateway(&self, is_untold: bool) -> Road {
        let quirks = self.inputs.mesh.quirks();
        let unusable = !is_untold && !quirks.has(Quirk::Q12);
        match !unusable && (self.key.network.is_empty() || quirks.has(Quirk::Q26)) {
            true => Road::Direct,
            false => Road::Hidden(Decision::NoGateway),
        }
    }

    /// The factor for every weight at the peer (R3.17): the least common multiple of the numbers of gateways of every
    /// network, and of every cluster on it (Q29).
    pub(super) fn mesh_scale(&self) -> u128 {
        let mut counts: Vec<(&NetworkId, Option<&ClusterId>, usize)> = Vec::new();
        for gate in every(self.inputs, self.told) {
            for place in [None, Some(gate.cluster())] {
                match counts.iter_mut().find(|(n, c, _)| *n == gate.network() && *c == place) {
                    Some((_, _, count)) => *count += 1,
                    None => counts.push((gate.network(), place, 1)),
                }
            }
        }
        counts.iter().fold(1, |scale, (_, _, count)| lcm(scale, *count as u128))
    }
}

/// The gateways of a network as whoever is told knows them (R3.14).
fn gates<'a>(inputs: Inputs<'a>, told: Told, network: &NetworkId) -> Vec<Gate<'a>> {
    if told == Told::Apart {
        return inputs.networks.gateways_of(network).1.iter().map(Gate::At).collect();
    }
    let (addressed, hosts) = inputs.networks.unresolved(network);
    let mut all: Vec<_> = addressed.iter().map(Gate::At).chain(hosts.iter().map(Gate::Named)).collect();
    all.sort_by_cached_key(|gate| (gate.text(), gate.port()));
    all
}

/// Those of all networks.
fn every(inputs: Inputs<'_>, told: Told) -> impl Iterator<Item = Gate<'_>> {
    inputs.networks.ids().flat_map(move |network| gates(inputs, told, network))
}
