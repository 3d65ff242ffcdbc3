//! What all services together contribute for one projection.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use hashbrown::HashSet;

use super::LINGER;
use super::placed::Placed;
use super::reader::{Reader, Used, stand_in};
use crate::model::policy::{HostPattern, PolicyPart, VirtualService};
use crate::model::{Hostname, Name, NetworkId, ServiceKey};
use crate::registry::PolicySnapshot;
use crate::view::{Client, Compared, Place};
use crate::xds::cache::Kept;
use crate::xds::resource::{Encoded, Entry};
use crate::xds::resources::{self, Collision, GatewayRoutes, ServiceResources, SharedChain};

/// Where a service stands in name conflicts: the oldest first.
type Rank = (i64, ServiceKey);

/// What all services together contribute for one projection.
#[derive(Debug, Default)]
pub(super) struct World {
    /// The policies that everything here was built with.
    pub(super) policies: Arc<PolicySnapshot>,
    /// What does not come from services.
    pub(super) fixed: ServiceResources,
    /// The routes of Gateways.
    pub(super) gateway: GatewayRoutes,
    services: BTreeMap<Rank, Arc<ServiceResources>>,
    ranks: HashMap<ServiceKey, (Rank, Used)>,
    /// Route configuration name → the services with a virtual host in it.
    routes: HashMap<Name, BTreeSet<Rank>>,
    /// Host → the services whose routes lead there.
    readers: HashMap<Hostname, BTreeSet<ServiceKey>>,
    /// Network → the services whose Envoy clusters were made of its gateways.
    through: HashMap<NetworkId, BTreeSet<ServiceKey>>,
    /// Policies → the services whose Envoy clusters tell of endpoints that these say something of.
    asking: HashMap<PolicyPart, BTreeSet<ServiceKey>>,
    /// The services whose Envoy clusters differ by where clients are, with what they compare.
    comparing: BTreeMap<ServiceKey, Compared>,
    /// What those that the lists were made of compared.
    pub(super) compared: Compared,
    /// Where there are clients.
    pub(super) places: BTreeMap<Place, Arc<Placed>>,
    /// Removed Envoy clusters, of one place if they differed by that, and when they may go.
    pub(super) lingering: BTreeMap<(Name, Option<Place>), (Arc<Encoded>, Instant)>,
    /// Route configurations somebody asked for.
    pub(super) built: HashMap<Name, Option<Arc<Kept>>>,
}

impl World {
    /// Every key there is, or was here: all services, and hosts of VirtualServices.
    pub(super) fn everything(&self, reader: &Reader<'_>) -> BTreeSet<ServiceKey> {
        let services = reader.registry.services();
        let hosts = self.policies.scopes::<VirtualService>();
        let hosts = hosts.into_iter().filter(|scope| !scope.contains('/'));
        let keys = services.iter().map(|cell| cell.key().clone());
        keys.chain(hosts.map(|host| stand_in(host))).chain(self.ranks.keys().cloned()).collect()
    }

    /// Changed services with all others of their names, and everything whose routes lead there.
    pub(super) fn with_readers(&self, reader: &Reader<'_>, changed: &[ServiceKey]) -> BTreeSet<ServiceKey> {
        let hosts: BTreeSet<_> = changed.iter().map(|key| &key.hostname).collect();
        let readers = hosts.iter().filter_map(|host| self.readers.get(*host)).flatten().cloned();
        let named = hosts.iter().flat_map(|host| reader.keys_of(host));
        named.chain(readers).chain(changed.iter().cloned()).collect()
    }

    /// Those of the hosts' services whose policies are others now, and what leads there.
    pub(super) fn affected(&self, reader: &Reader<'_>, hosts: &BTreeSet<Name>) -> BTreeSet<ServiceKey> {
        let mut keys = BTreeSet::new();
        for host in hosts {
            keys.extend(reader.keys_of(host));
            let pattern = HostPattern::new(host.clone());
            if pattern.is_wildcard() {
                keys.extend(self.ranks.keys().filter(|key| pattern.matches(&key.hostname)).cloned());
            }
        }
        let differs = |key: &ServiceKey| {
            let before = self.ranks.get(key).map(|(_, used)| used);
            *before.unwrap_or(&Used::default()) != reader.used(key)
        };
        keys.retain(differs);
        let readers = keys.iter().filter_map(|key| self.readers.get(&key.hostname)).flatten().cloned();
        let readers: Vec<_> = readers.collect();
        keys.extend(readers);
        keys
    }

    /// Whether what a service contributes was made of its own addresses.
    pub(super) fn reads_addresses(&self, key: &ServiceKey) -> bool {
        let made = self.ranks.get(key).and_then(|(rank, _)| self.services.get(rank));
        made.is_some_and(|made| made.reads.addresses)
    }

    /// The services whose Envoy clusters were made of the gateways of some of these networks.
    pub(super) fn through(&self, networks: &HashSet<NetworkId>) -> BTreeSet<ServiceKey> {
        let of = |network: &NetworkId| self.through.get(network);
        // Some of the peer's answers look at all of them.
        let all = (!networks.is_empty()).then(NetworkId::default);
        networks.iter().chain(&all).filter_map(of).flatten().cloned().collect()
    }

    /// The services whose Envoy clusters asked some of these policies.
    pub(super) fn asking(&self, parts: &HashSet<PolicyPart>) -> BTreeSet<ServiceKey> {
        if self.asking.is_empty() {
            return BTreeSet::new();
        }
        parts.iter().filter_map(|part| self.asking.get(part)).flatten().cloned().collect()
    }

    /// The services whose Envoy clusters differ by where clients are.
    pub(super) fn comparing(&self) -> BTreeSet<ServiceKey> {
        self.comparing.keys().cloned().collect()
    }

    /// What all of them compare.
    pub(super) fn all_compared(&self) -> Compared {
        let mut all = Compared::default();
        self.comparing.values().for_each(|one| all.add(one));
        all
    }

    /// The Envoy clusters that clients at a place have besides those of all, those that were just removed included.
    pub(super) fn clusters_at(&self, place: &Place) -> Vec<Entry> {
        let ranks = self.comparing.keys().filter_map(|key| self.ranks.get(key));
        let made = ranks.filter_map(|(rank, _)| self.services.get(rank));
        let own = made.filter_map(|made| made.placed.get(place)).flatten().cloned();
        let spot = Some(place);
        own.chain(self.lingering_at(spot)).collect()
    }

    fn lingering_at(&self, place: Option<&Place>) -> impl Iterator<Item = Entry> {
        let of = self.lingering.iter().filter(move |((_, spot), _)| spot.as_ref() == place);
        of.map(|((name, _), (encoded, _))| Entry { name: name.clone(), encoded: Arc::clone(encoded) })
    }

    /// Builds services anew; says whether anything differs and which routes it is part of.
    pub(super) fn put_all(
        &mut self,
        reader: &Reader<'_>,
        keys: BTreeSet<ServiceKey>,
        now: Instant,
        routes: &mut BTreeSet<Name>,
    ) -> bool {
        let put = |differs, key| self.put(reader, key, now, routes) || differs;
        keys.iter().fold(false, put)
    }

    fn put(
        &mut self,
        reader: &Reader<'_>,
        key: &ServiceKey,
        now: Instant,
        routes: &mut BTreeSet<Name>,
    ) -> bool {
        let new = reader.build(key);
        let new = new.map(|(created, made)| ((created, key.clone()), Arc::new(made)));
        let old = self.ranks.remove(key).and_then(|(rank, _)| self.services.remove_entry(&rank));
        let differs = new != old;
        changed_routes(old.as_ref(), new.as_ref(), routes);
        if let Some((rank, made)) = old {
            self.take(&rank, &made, now);
        }
        if let Some((rank, made)) = new {
            self.add(&rank, &made);
            self.ranks.insert(key.clone(), (rank.clone(), reader.used(key)));
            self.services.insert(rank, made);
        }
        differs
    }

    fn take(&mut self, rank: &Rank, made: &ServiceResources, now: Instant) {
        for (name, _) in &made.virtual_hosts {
            let ranks = self.routes.entry(name.clone()).or_default();
            ranks.remove(rank);
            if ranks.is_empty() {
                self.routes.remove(name);
            }
        }
        for host in &made.reads.hosts {
            let readers = self.readers.entry(host.clone()).or_default();
            readers.remove(&rank.1);
            if readers.is_empty() {
                self.readers.remove(host);
            }
        }
        for network in &made.reads.networks {
            let through = self.through.entry(network.clone()).or_default();
            through.remove(&rank.1);
            if through.is_empty() {
                self.through.remove(network);
            }
        }
        for part in &made.reads.policies {
            let asking = self.asking.entry(part.clone()).or_default();
            asking.remove(&rank.1);
            if asking.is_empty() {
                self.asking.remove(part);
            }
        }
        self.comparing.remove(&rank.1);
        let mut linger = |cluster: &Entry, place: Option<&Place>| {
            let spot = (cluster.name.clone(), place.cloned());
            self.lingering.insert(spot, (Arc::clone(&cluster.encoded), now + LINGER));
        };
        made.clusters.iter().for_each(|cluster| linger(cluster, None));
        for (place, clusters) in &made.placed {
            clusters.iter().for_each(|cluster| linger(cluster, Some(place)));
        }
    }

    fn add(&mut self, rank: &Rank, made: &ServiceResources) {
        for (name, _) in &made.virtual_hosts {
            self.routes.entry(name.clone()).or_default().insert(rank.clone());
        }
        for host in &made.reads.hosts {
            self.readers.entry(host.clone()).or_default().insert(rank.1.clone());
        }
        for network in &made.reads.networks {
            self.through.entry(network.clone()).or_default().insert(rank.1.clone());
        }
        for part in &made.reads.policies {
            self.asking.entry(part.clone()).or_default().insert(rank.1.clone());
        }
        if !made.reads.compared.is_nothing() {
            self.comparing.insert(rank.1.clone(), made.reads.compared.clone());
        }
        for cluster in &made.clusters {
            self.revive(&cluster.name);
        }
        for (place, clusters) in &made.placed {
            for cluster in clusters {
                self.lingering.remove(&(cluster.name.clone(), Some(place.clone())));
            }
        }
    }

    /// An Envoy cluster is there for all clients: what was removed under its name, for whomever, is replaced by it.
    fn revive(&mut self, name: &Name) {
        let mut first = (name.clone(), None);
        while self.lingering.remove(&first).is_some() || first.1.is_none() {
            let next = self.lingering.range((Bound::Excluded(&first), Bound::Unbounded)).next();
            match next.filter(|((of, _), _)| of == name) {
                Some((spot, _)) => first = spot.clone(),
                None => return,
            }
        }
    }

    /// The virtual hosts of a route configuration, the oldest first; `None` when it has none.
    pub(super) fn virtual_hosts<'a>(&'a self, name: &'a Name) -> Option<Vec<&'a Bytes>> {
        if let Some(hosts) = self.gateway.hosts.get(name) {
            return Some(hosts.iter().collect());
        }
        let ranks = self.routes.get(name)?;
        let services = ranks.iter().filter_map(|rank| self.services.get(rank));
        let hosts = services.flat_map(|service| &service.virtual_hosts);
        Some(hosts.filter(|(route, _)| route == name).map(|(_, host)| host).collect())
    }

    /// Builds the routes of Gateways anew; the names of those that differ.
    pub(super) fn put_gateway(&mut self, reader: &Reader<'_>) -> BTreeSet<Name> {
        let made = reader.surrounded(resources::gateway_routes);
        let before = std::mem::replace(&mut self.gateway, made);
        let names = before.hosts.keys().chain(self.gateway.hosts.keys());
        names.filter(|name| before.hosts.get(*name) != self.gateway.hosts.get(*name)).cloned().collect()
    }

    /// Whether the routes of Gateways lead to one of these hosts or `*.suffix`.
    pub(super) fn gateway_reads<'a>(&self, mut hosts: impl Iterator<Item = &'a str>) -> bool {
        let read = &self.gateway.reads.hosts;
        !read.is_empty()
            && hosts.any(|host| match HostPattern::new(host) {
                pattern if pattern.is_wildcard() => read.iter().any(|one| pattern.matches(one)),
                _ => read.contains(host),
            })
    }

    fn all(&self) -> impl Iterator<Item = &ServiceResources> {
        std::iter::once(&self.fixed).chain(self.services.values().map(AsRef::as_ref))
    }

    /// All Envoy clusters, those that were just removed included.
    pub(super) fn clusters(&self) -> Vec<Entry> {
        self.all().flat_map(|part| part.clusters.iter().cloned()).chain(self.lingering_at(None)).collect()
    }

    /// What is left out of shared listeners, and whose it is: services, and hosts of VirtualServices that are no service
    /// (without a namespace). Cost ∝ the chains of all services.
    pub(super) fn collisions(&self) -> Vec<Collision<ServiceKey>> {
        let services = self.services.iter().map(|(rank, part)| (&rank.1, part.as_ref()));
        let chains = services.flat_map(|(key, part)| part.chains.iter().map(|chain| (key.clone(), chain)));
        resources::collisions(chains)
    }

    /// All listeners, of which of two with one name the first counts, and how many matches of shared ones were left
    /// out.
    pub(super) fn listeners(&self, client: &Client<'_>) -> (Vec<Entry>, usize) {
        let mut own: Vec<Entry> = self.all().flat_map(|part| part.listeners.iter().cloned()).collect();
        own.extend(self.all().flat_map(|part| part.fallback_listeners.iter().cloned()));
        for (index, passthrough) in client.passthroughs().iter().enumerate() {
            let chains = self.all().filter_map(|part| part.sni_chains.get(index));
            own.push(resources::sni_listener(client.key(), passthrough, chains));
        }
        let mut chains: BTreeMap<u16, Vec<&SharedChain>> = BTreeMap::new();
        for chain in self.all().flat_map(|part| &part.chains) {
            chains.entry(chain.port).or_default().push(chain);
        }
        let (mut all, mut conflicts) = (Vec::new(), 0);
        for (port, chains) in chains {
            let name = resources::shared(port, None, [], client).entry.name;
            let http = own.iter().find(|entry| entry.name == name);
            let made = resources::shared(port, http, chains, client);
            all.push(made.entry);
            conflicts += made.conflicts;
        }
        all.append(&mut own);
        (all, conflicts)
    }
}

/// The route configurations that differ between two states of a service.
fn changed_routes(
    old: Option<&(Rank, Arc<ServiceResources>)>,
    new: Option<&(Rank, Arc<ServiceResources>)>,
    routes: &mut BTreeSet<Name>,
) {
    let hosts = |one: Option<&(Rank, Arc<ServiceResources>)>| -> BTreeMap<Name, Bytes> {
        one.into_iter().flat_map(|(_, made)| made.virtual_hosts.iter().cloned()).collect()
    };
    let (before, after) = (hosts(old), hosts(new));
    let moved = old.map(|(rank, _)| rank) != new.map(|(rank, _)| rank);
    let names: BTreeSet<_> = before.keys().chain(after.keys()).cloned().collect();
    routes.extend(names.into_iter().filter(|name| moved || before.get(name) != after.get(name)));
}
