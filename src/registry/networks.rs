//! Networks: versioned parts, one per network (D14).
//!
//! Clusters, and the one who reads static gateways, tell of gateways by address or by host name; one resolver
//! tells the addresses of host names. A part is derived from both in one step: its resolved and its unresolved
//! gateways never diverge, and whoever leaves takes exactly its own gateways along (Q9 and Q2 say otherwise).

mod hosts;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use hosts::Hosts;

use crate::model::{ClusterId, GatewayHost, Hostname, NetworkGateway, NetworkId, Quirk, Quirks};

/// Networks without a gateway that are remembered one by one. What they say is only that nothing is told any more, and
/// names that come and go must not cost more and more.
const MAX_EMPTY: usize = 256;
/// How many of them are forgotten at once. Each time, everything that was built upon a network that nobody tells of is
/// out of date (D13).
const FORGOTTEN: usize = 128;

/// What one cluster tells of networks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkClaim {
    /// The network it belongs to, if that is known.
    pub network: Option<NetworkId>,
    /// Its gateways with an address.
    pub gateways: Vec<NetworkGateway>,
    /// Its gateways with a host name.
    pub hosts: Vec<GatewayHost>,
}

impl NetworkClaim {
    /// The networks it tells gateways of.
    pub fn networks(&self) -> BTreeSet<NetworkId> {
        let hosts = self.hosts.iter().map(|host| &host.network);
        self.gateways.iter().map(|gateway| &gateway.network).chain(hosts).cloned().collect()
    }
}

/// The gateways of one network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkPart {
    /// Process-wide version, never less than before. A network nobody ever told of has 0, or, once there were many
    /// empty ones, the version of the youngest that was forgotten.
    pub version: u64,
    /// Gateways, host names resolved, ordered by address, then port (R3.17). Empty for a network that has lost
    /// them all: a versioned tombstone (D13).
    pub gateways: Arc<[NetworkGateway]>,
    /// The unresolved view (R3.14), with [`hosts`](Self::hosts): gateways told by address.
    pub addressed: Arc<[NetworkGateway]>,
    /// Gateways told by host name.
    pub hosts: Arc<[GatewayHost]>,
}

impl NetworkPart {
    /// Whether nobody tells anything.
    fn is_empty(&self) -> bool {
        self.addressed.is_empty() && self.hosts.is_empty()
    }
}

/// What a write to the networks changed.
#[derive(Debug, Default)]
pub(super) struct NetworkDifference {
    /// The writing cluster now belongs to another network.
    pub(super) moved: bool,
    /// Networks whose gateways differ.
    pub(super) networks: BTreeSet<NetworkId>,
    /// Other host names are to be resolved.
    pub(super) hosts: bool,
}

impl NetworkDifference {
    fn if_any(self) -> Option<Self> {
        (self.moved || self.hosts || !self.networks.is_empty()).then_some(self)
    }
}

/// All networks at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkSnapshot {
    parts: BTreeMap<NetworkId, NetworkPart>,
    /// Networks whose parts are empty, by version: the oldest are forgotten.
    empty: BTreeMap<u64, NetworkId>,
    /// The version of all networks that have no part (D13).
    floor: u64,
    /// Where each cluster belongs, for proxies that do not say (Q13).
    clusters: BTreeMap<ClusterId, NetworkId>,
    /// Of which networks each cluster tells gateways; the empty id stands for static gateways (R3.13).
    tellers: BTreeMap<ClusterId, BTreeSet<NetworkId>>,
    hosts: Hosts,
    /// Q9: unresolved views that were left behind when the resolved ones changed.
    behind: BTreeMap<NetworkId, Unresolved>,
}

/// The unresolved view of one network (R3.14): gateways told by address and by host name.
pub type Unresolved = (Arc<[NetworkGateway]>, Arc<[GatewayHost]>);

impl NetworkSnapshot {
    /// The part of one network; the empty part when nobody told of it.
    pub fn part(&self, network: &NetworkId) -> NetworkPart {
        let absent = || NetworkPart { version: self.floor, ..NetworkPart::default() };
        self.parts.get(network).cloned().unwrap_or_else(absent)
    }

    /// The gateways of one network, in order, and the version of its part.
    pub fn gateways_of(&self, network: &NetworkId) -> (u64, &[NetworkGateway]) {
        self.parts.get(network).map_or((self.floor, &[]), |part| (part.version, &part.gateways))
    }

    /// The unresolved view of one network (R3.14), for clusters whose endpoints are sent with them. It is the
    /// part's, but for Q9.
    pub fn unresolved(&self, network: &NetworkId) -> (&[NetworkGateway], &[GatewayHost]) {
        match (self.behind.get(network), self.parts.get(network)) {
            (Some((addressed, hosts)), _) => (addressed, hosts),
            (None, Some(part)) => (&part.addressed, &part.hosts),
            (None, None) => (&[], &[]),
        }
    }

    /// Every network that somebody told of.
    pub fn ids(&self) -> impl Iterator<Item = &NetworkId> {
        self.parts.keys()
    }

    /// The network a cluster belongs to; empty when it does not say.
    pub fn of_cluster(&self, cluster: &ClusterId) -> NetworkId {
        self.clusters.get(cluster).cloned().unwrap_or_default()
    }

    /// Every gateway, host names resolved, by network, then address.
    pub fn gateways(&self) -> impl Iterator<Item = &NetworkGateway> {
        self.parts.values().flat_map(|part| part.gateways.iter())
    }

    /// The same with one more gateway of a network: what would be.
    pub fn and(&self, gateway: NetworkGateway) -> Self {
        let mut next = self.clone();
        let part = next.parts.entry(gateway.network.clone()).or_default();
        part.gateways = part.gateways.iter().cloned().chain([gateway.clone()]).collect();
        part.addressed = part.addressed.iter().cloned().chain([gateway]).collect();
        next
    }

    /// Every gateway that is told by host name, by network.
    pub fn gateway_hosts(&self) -> impl Iterator<Item = &GatewayHost> {
        self.parts.values().flat_map(|part| part.hosts.iter())
    }

    /// The host names to resolve, each once.
    pub fn host_names(&self) -> impl Iterator<Item = &Hostname> {
        self.hosts.names()
    }

    /// What a host name resolves to; `None` if no gateway has it.
    pub fn host_addresses(&self, host: &Hostname) -> Option<&[IpAddr]> {
        self.hosts.addresses(host)
    }

    /// What a cluster tells; of static gateways for the empty id.
    pub fn told_by(&self, cluster: &ClusterId) -> NetworkClaim {
        let parts = || self.tellers.get(cluster).into_iter().flatten().filter_map(|id| self.parts.get(id));
        let gateways = parts().flat_map(|part| part.addressed.iter()).filter(|told| told.cluster == *cluster);
        let hosts = parts().flat_map(|part| part.hosts.iter()).filter(|told| told.cluster == *cluster);
        NetworkClaim {
            network: self.clusters.get(cluster).cloned(),
            gateways: gateways.cloned().collect(),
            hosts: hosts.cloned().collect(),
        }
    }

    /// Replaces what one cluster tells; says what differs, or `None` when nothing does. Looks only at networks
    /// of which it tells or told gateways.
    pub(super) fn replace(
        &mut self,
        cluster: &ClusterId,
        claim: &NetworkClaim,
        quirks: Quirks,
        version: impl Fn() -> u64,
    ) -> Option<NetworkDifference> {
        let mut difference = NetworkDifference {
            moved: self.clusters.get(cluster) != claim.network.as_ref(),
            ..NetworkDifference::default()
        };
        match &claim.network {
            Some(network) => self.clusters.insert(cluster.clone(), network.clone()),
            None => self.clusters.remove(cluster),
        };
        let told = claim.networks();
        let before = match told.is_empty() {
            true => self.tellers.remove(cluster),
            false => self.tellers.insert(cluster.clone(), told.clone()),
        };
        let touched = told.union(&before.unwrap_or_default()).cloned().collect::<Vec<_>>();
        let retold = touched.into_iter().filter_map(|network| self.retell(network, cluster, claim, quirks));
        let retold: Vec<_> = retold.collect();
        // Names first: one that moves from network to network keeps its addresses.
        difference.hosts =
            self.hosts.rename(retold.iter().map(|told| (&told.network, &*told.before, &*told.hosts)));
        let (mut before, mut resolved_differ) = (Vec::new(), false);
        for Retold { network, addressed, hosts, .. } in retold {
            let gateways = self.hosts.resolve(&addressed, &hosts);
            let old = self.part(&network);
            resolved_differ |= *old.gateways != *gateways;
            before.push((network.clone(), (old.addressed, old.hosts)));
            let part = NetworkPart { version: version(), gateways, addressed, hosts };
            self.put(network.clone(), part);
            difference.networks.insert(network);
        }
        if quirks.has(Quirk::Q9) {
            self.passed(before, resolved_differ);
        }
        self.touch(&mut difference, quirks, version);
        difference.if_any()
    }

    /// Under rows that look at all gateways of the mesh, a change of any network is one of the empty id too: that part
    /// stands for all of them.
    fn touch(&mut self, difference: &mut NetworkDifference, quirks: Quirks, version: impl Fn() -> u64) {
        let rows = [Quirk::Q16, Quirk::Q17, Quirk::Q26, Quirk::Q29];
        if difference.networks.is_empty() || !rows.into_iter().any(|row| quirks.has(row)) {
            return;
        }
        let all = NetworkId::default();
        self.put(all.clone(), NetworkPart { version: version(), ..NetworkPart::default() });
        difference.networks.insert(all);
    }

    fn put(&mut self, network: NetworkId, part: NetworkPart) {
        let (version, is_empty) = (part.version, part.is_empty());
        if let Some(before) = self.parts.insert(network.clone(), part) {
            self.empty.remove(&before.version);
        }
        if is_empty {
            self.empty.insert(version, network);
        }
        if self.empty.len() <= MAX_EMPTY {
            return;
        }
        for _ in 0..FORGOTTEN {
            let Some((version, oldest)) = self.empty.pop_first() else { return };
            self.parts.remove(&oldest);
            self.floor = version;
        }
    }

    /// Q9: a pass in which the resolved view changes leaves the unresolved one as it was; any other brings it up
    /// to date.
    fn passed(&mut self, before: Vec<(NetworkId, Unresolved)>, resolved_differ: bool) {
        if !resolved_differ {
            self.behind.clear();
            return;
        }
        for (network, view) in before {
            self.behind.entry(network).or_insert(view);
        }
    }

    /// What is told of a network once one cluster tells something else; `None` if that is the same.
    fn retell(
        &self,
        network: NetworkId,
        cluster: &ClusterId,
        claim: &NetworkClaim,
        quirks: Quirks,
    ) -> Option<Retold> {
        let part = self.part(&network);
        let addressed = united(
            part.addressed.iter().filter(|gateway| gateway.cluster != *cluster),
            claim.gateways.iter().filter(|gateway| gateway.network == network),
            quirks,
        );
        let hosts = united(
            part.hosts.iter().filter(|gateway| gateway.cluster != *cluster),
            claim.hosts.iter().filter(|gateway| gateway.network == network),
            quirks,
        );
        let differs = *addressed != *part.addressed || *hosts != *part.hosts;
        differs.then_some(Retold { network, before: part.hosts, addressed, hosts })
    }

    /// Takes in the addresses of a host name; says what differs. Looks only at networks that name it.
    pub(super) fn resolved(
        &mut self,
        host: &Hostname,
        addresses: &[IpAddr],
        quirks: Quirks,
        version: impl Fn() -> u64 + Copy,
    ) -> Option<NetworkDifference> {
        let mut difference = NetworkDifference::default();
        for network in self.hosts.set(host, addresses)? {
            let Some(part) = self.parts.get_mut(&network) else { continue };
            let gateways = self.hosts.resolve(&part.addressed, &part.hosts);
            if *gateways != *part.gateways {
                (part.gateways, part.version) = (gateways, version());
                difference.networks.insert(network);
            }
        }
        if quirks.has(Quirk::Q9) {
            self.passed(Vec::new(), !difference.networks.is_empty());
        }
        self.touch(&mut difference, quirks, version);
        // Addresses that are all told otherwise change no part, but are to be kept.
        Some(difference)
    }
}

/// A network of which other things are told than before.
struct Retold {
    network: NetworkId,
    before: Arc<[GatewayHost]>,
    addressed: Arc<[NetworkGateway]>,
    hosts: Arc<[GatewayHost]>,
}

/// In order, each once, but as often as it is told under Q7.
fn united<'a, T: Ord + Clone + 'a>(
    others: impl Iterator<Item = &'a T>,
    own: impl Iterator<Item = &'a T>,
    quirks: Quirks,
) -> Arc<[T]> {
    let mut all: Vec<&T> = others.chain(own).collect();
    all.sort();
    if !quirks.has(Quirk::Q7) {
        all.dedup();
    }
    all.into_iter().cloned().collect()
}

#[cfg(test)]
mod tests;
