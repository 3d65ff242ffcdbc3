//! Outbound Envoy clusters, listeners and routes: one world for each projection, shared by its proxies.

mod placed;
mod reach;
mod reader;
#[cfg(test)]
mod tests;
mod world;

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use dashmap::DashMap;
use hashbrown::HashSet;

pub(super) use self::placed::Placed;
use self::reach::Reach;
pub(super) use self::reader::Reader;
use self::world::World;
use super::cache::{Cache, CacheValues, Kept};
use super::counts::Counts;
use super::resource::{Encoded, ResourceList, ResourceType};
use super::resources::{self, Collision};
use super::watchers::{Marks, StreamHandle, Watchers};
use crate::model::policy::PolicyPart;
use crate::model::{Name, NetworkId, ProxyView, ServiceKey};
use crate::registry::{NetworkSnapshot, PolicySnapshot, Registry};
use crate::view::{Client, MeshRules, OutboundKey, Place};

/// How long a removed Envoy cluster stays after the listeners and routes without it were published (D25).
pub const LINGER: Duration = Duration::from_secs(5);

/// What one reading of the registry is made of besides services.
struct Snapshots {
    policies: Arc<PolicySnapshot>,
    networks: Arc<NetworkSnapshot>,
    /// Where there are clients.
    places: Vec<Place>,
}

impl Snapshots {
    /// The policies that a world is built with, and the networks as of now. To be read under the lock of the world: a
    /// change is either seen here or noted later.
    fn of(world: &World, registry: &Registry) -> Self {
        let places = world.places.keys().cloned().collect();
        Self { policies: Arc::clone(&world.policies), networks: registry.networks(), places }
    }
}

/// Everything outbound for one projection.
#[derive(Debug)]
pub(super) struct Outbound {
    key: OutboundKey,
    mesh: Arc<MeshRules>,
    world: Mutex<World>,
    /// Set once every service known when the projection appeared is in; whoever joins waits for it.
    filled: OnceLock<()>,
    clusters: ArcSwap<ResourceList>,
    listeners: ArcSwap<ResourceList>,
    /// Streams that opened one of the wildcard types.
    lists: Watchers,
    /// Streams by route configuration.
    routes: DashMap<Name, Watchers>,
    /// Every stream with this projection; it goes when the last one does.
    streams: Watchers,
    counts: Arc<Counts>,
    cache: Arc<Cache>,
}

impl Outbound {
    fn new(key: OutboundKey, mesh: Arc<MeshRules>, counts: Arc<Counts>, cache: Arc<Cache>) -> Self {
        Self {
            key,
            mesh,
            world: Mutex::default(),
            filled: OnceLock::new(),
            clusters: ArcSwap::default(),
            listeners: ArcSwap::default(),
            lists: Watchers::default(),
            routes: DashMap::new(),
            streams: Watchers::default(),
            counts,
            cache,
        }
    }

    /// The projection.
    pub(super) fn key(&self) -> &OutboundKey {
        &self.key
    }

    /// The Envoy clusters.
    pub(super) fn clusters(&self) -> Arc<ResourceList> {
        self.clusters.load_full()
    }

    /// The listeners.
    pub(super) fn listeners(&self) -> Arc<ResourceList> {
        self.listeners.load_full()
    }

    /// Has `stream` told of changes of the lists.
    pub(super) fn watch_lists(&self, stream: &Arc<StreamHandle>) {
        self.lists.add(stream);
    }

    /// Has `stream` told of changes of one route configuration.
    pub(super) fn watch_route(&self, name: &Name, stream: &Arc<StreamHandle>) {
        self.routes.entry(name.clone()).or_default().add(stream);
    }

    /// No longer tells `stream` of one route configuration.
    pub(super) fn unwatch_route(&self, name: &Name, stream: &StreamHandle) {
        let unwatched = self.routes.remove_if(name, |_, watchers| {
            watchers.remove(stream);
            watchers.is_empty()
        });
        if unwatched.is_some() {
            self.world().built.remove(name);
        }
    }

    /// Has `stream` join the place of its proxy, as far as anything here compares that; `None` where nothing does. The
    /// first client of a place pays for the Envoy clusters that do.
    pub(super) fn place(
        &self,
        view: &ProxyView,
        stream: &Arc<StreamHandle>,
        registry: &Registry,
    ) -> Option<Arc<Placed>> {
        let mut world = self.world();
        if world.compared.is_nothing() {
            return None;
        }
        let place = world.compared.place(view);
        if let Some(known) = world.places.get(&place) {
            known.streams.add(stream);
            return Some(Arc::clone(known));
        }
        let placed = Placed::new(place.clone(), stream);
        world.places.insert(place, Arc::clone(&placed));
        let read = Snapshots::of(&world, registry);
        let (keys, mut marks) = (world.comparing(), Marks::new(None));
        self.replace(&mut world, &self.reader(registry, &read), keys, Instant::now(), &mut marks);
        // What was built for this place before, when it had other clients, is not built again.
        placed.put(ResourceList::new(world.clusters_at(placed.place())));
        drop(world);
        self.cache.make_room();
        marks.wake();
        Some(placed)
    }

    /// The reverse of [`place`](Self::place).
    pub(super) fn unplace(&self, placed: &Placed, stream: &StreamHandle) {
        let mut world = self.world();
        placed.streams.remove(stream);
        if placed.streams.is_empty() {
            world.places.remove(placed.place());
        }
    }

    /// The current bytes of a route configuration; `None` when no service has a virtual host in it. Built again when they
    /// are gone, of what they were built of before: whatever a route reads has it rebuilt where that changes.
    pub(super) fn route(&self, name: &Name) -> Option<Arc<Encoded>> {
        let encoded = {
            let mut world = self.world();
            let there = world.built.get(name).map(|kept| kept.as_ref().map(|kept| kept.get()));
            match there {
                Some(None) => return None,
                Some(Some(Some(encoded))) => return Some(encoded),
                Some(Some(None)) | None => {}
            }
            self.cache.missed(ResourceType::Route);
            let encoded = self.build_route(&world, name);
            if self.routes.contains_key(name) {
                world.built.insert(name.clone(), self.keep(encoded.as_ref()));
            }
            encoded
        };
        self.cache.make_room();
        encoded
    }

    fn keep(&self, route: Option<&Arc<Encoded>>) -> Option<Arc<Kept>> {
        route.map(|route| self.cache.keep(ResourceType::Route, route))
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn build_route(&self, world: &World, name: &Name) -> Option<Arc<Encoded>> {
        let hosts = world.virtual_hosts(name)?;
        Counts::add(&self.counts.route_builds);
        let client = self.client(&world.policies);
        Some(Arc::new(resources::route(name, &client, hosts.into_iter())))
    }

    fn reader<'a>(&'a self, registry: &'a Registry, read: &'a Snapshots) -> Reader<'a> {
        let client = self.client(&read.policies).across(&read.networks);
        let (counts, places) = (&*self.counts, &*read.places);
        Reader { registry, client, counts, places, passthroughs: OnceCell::new() }
    }

    fn client<'a>(&'a self, policies: &'a PolicySnapshot) -> Client<'a> {
        Client::new(&self.key, policies).under(&self.mesh)
    }

    /// Reads every service once. Records are read under the lock: a change is either seen here or noted later.
    fn fill(&self, registry: &Registry) {
        let mut world = self.world();
        world.policies = registry.policies();
        let read = Snapshots::of(&world, registry);
        let reader = self.reader(registry, &read);
        world.fixed = resources::fixed(&reader.client);
        let keys = world.everything(&reader);
        world.put_all(&reader, keys, Instant::now(), &mut BTreeSet::new());
        world.put_gateway(&reader);
        self.rebuild_lists(&mut world, &mut Marks::new(None));
    }

    /// Reads the records of changed services again, then rebuilds each list and route that differs once and
    /// marks its watchers. Cost ∝ the changed services and what leads there, plus one pass over the lists' pointers.
    fn update(&self, changed: &[ServiceKey], registry: &Registry, now: Instant, marks: &mut Marks) {
        let mut world = self.world();
        let read = Snapshots::of(&world, registry);
        let reader = self.reader(registry, &read);
        let keys = world.with_readers(&reader, changed);
        self.replace(&mut world, &reader, keys, now, marks);
        if world.gateway_reads(changed.iter().map(|key| key.hostname.as_str())) {
            self.replace_gateway(&mut world, &reader, marks);
        }
    }

    /// Reads those of the services again that are made of their own addresses.
    fn update_addresses(&self, changed: &[ServiceKey], registry: &Registry, now: Instant, marks: &mut Marks) {
        let mut world = self.world();
        let keys: BTreeSet<_> = changed.iter().filter(|key| world.reads_addresses(key)).cloned().collect();
        if keys.is_empty() {
            return;
        }
        let read = Snapshots::of(&world, registry);
        self.replace(&mut world, &self.reader(registry, &read), keys, now, marks);
    }

    /// Reads those of the services again whose Envoy clusters were made of the gateways of these networks. Cost ∝ those.
    fn update_networks(
        &self,
        networks: &HashSet<NetworkId>,
        registry: &Registry,
        now: Instant,
        marks: &mut Marks,
    ) {
        let mut world = self.world();
        let keys = world.through(networks);
        if keys.is_empty() {
            return;
        }
        let read = Snapshots::of(&world, registry);
        self.replace(&mut world, &self.reader(registry, &read), keys, now, marks);
    }

    /// Reads again what the changed parts of the policies are about: of the hosts they name those whose policies
    /// differ for these clients; everything after the mesh-wide document, the Sidecar, or other ports on which mesh
    /// traffic is led on. Proxies that may now have another projection look at themselves again.
    fn update_policies(
        &self,
        parts: &HashSet<PolicyPart>,
        registry: &Registry,
        now: Instant,
        marks: &mut Marks,
    ) {
        let mut world = self.world();
        let before = std::mem::replace(&mut world.policies, registry.policies());
        let read = Snapshots::of(&world, registry);
        let reader = self.reader(registry, &read);
        let reach = Reach::of(parts, &self.key, &before, &read.policies);
        let leads = world.gateway_reads(reach.hosts.iter().map(|host| host.as_str()));
        if reach.everything || reach.gateways || leads {
            self.replace_gateway(&mut world, &reader, marks);
        }
        if reach.proxies {
            marks.view(&self.streams);
        }
        if reach.everything {
            world.fixed = resources::fixed(&reader.client);
            let keys = world.everything(&reader);
            self.replace(&mut world, &reader, keys, now, marks);
            let built: Vec<_> = world.built.keys().cloned().collect();
            for name in built {
                self.rebuild_route(&mut world, &name, marks);
            }
            self.rebuild_lists(&mut world, marks);
            return;
        }
        let mut keys = world.affected(&reader, &reach.hosts);
        keys.extend(world.asking(parts));
        if !keys.is_empty() {
            self.replace(&mut world, &reader, keys, now, marks);
        }
    }

    fn replace(
        &self,
        world: &mut World,
        reader: &Reader<'_>,
        keys: BTreeSet<ServiceKey>,
        now: Instant,
        marks: &mut Marks,
    ) {
        let mut routes = BTreeSet::new();
        if !world.put_all(reader, keys, now, &mut routes) {
            return;
        }
        for name in routes {
            self.rebuild_route(world, &name, marks);
        }
        self.rebuild_lists(world, marks);
    }

    /// Builds the routes of Gateways anew; listeners name their destinations too, so proxies look at their own.
    fn replace_gateway(&self, world: &mut World, reader: &Reader<'_>, marks: &mut Marks) {
        if self.key.gateways.is_empty() {
            return;
        }
        for name in world.put_gateway(reader) {
            self.rebuild_route(world, &name, marks);
        }
        marks.view(&self.streams);
    }

    fn rebuild_route(&self, world: &mut World, name: &Name, marks: &mut Marks) {
        let Some(watchers) = self.routes.get(name) else {
            // Its last watcher is just leaving; the next one must not find what was built for that.
            world.built.remove(name);
            return;
        };
        let hash = |built: &Option<Arc<Kept>>| built.as_ref().map(|kept| kept.hash());
        let built = self.keep(self.build_route(world, name).as_ref());
        let now = hash(&built);
        let before = world.built.insert(name.clone(), built);
        if before.as_ref().map(hash) != Some(now) {
            marks.name(&watchers, ResourceType::Route, name);
        }
    }

    fn rebuild_lists(&self, world: &mut World, marks: &mut Marks) {
        Counts::add(&self.counts.list_builds);
        let client = self.client(&world.policies);
        let (clusters, (listeners, conflicts)) = (world.clusters(), world.listeners(&client));
        self.counts.chain_conflicts.fetch_add(conflicts as u64, Ordering::Relaxed);
        let parts = [
            (ResourceType::Cluster, &self.clusters, ResourceList::new(clusters)),
            (ResourceType::Listener, &self.listeners, ResourceList::new(listeners)),
        ];
        for (kind, slot, list) in parts {
            if slot.load().hash() != list.hash() {
                slot.store(Arc::new(list));
                marks.list(&self.lists, kind);
            }
        }
        for (place, placed) in &world.places {
            if placed.put(ResourceList::new(world.clusters_at(place))) {
                marks.list(&placed.streams, ResourceType::Cluster);
            }
        }
        let compared = world.all_compared();
        if compared != world.compared {
            world.compared = compared;
            marks.view(&self.streams);
        }
    }

    /// Drops removed Envoy clusters whose time has come.
    fn expire(&self, now: Instant, marks: &mut Marks) {
        let mut world = self.world();
        let before = world.lingering.len();
        world.lingering.retain(|_, (_, until)| *until > now);
        if world.lingering.len() != before {
            self.rebuild_lists(&mut world, marks);
        }
    }

    fn next_expiry(&self) -> Option<Instant> {
        self.world().lingering.values().map(|(_, until)| *until).min()
    }
}

/// Every projection somebody is connected with.
#[derive(Debug)]
pub(super) struct Outbounds {
    registry: Arc<Registry>,
    mesh: Arc<MeshRules>,
    counts: Arc<Counts>,
    cache: Arc<Cache>,
    all: DashMap<OutboundKey, Arc<Outbound>>,
}

impl Outbounds {
    /// Nobody connected yet.
    pub(super) fn new(registry: Arc<Registry>, mesh: Arc<MeshRules>, counts: Arc<Counts>) -> Self {
        Self { registry, mesh, counts, cache: Cache::new(u64::MAX), all: DashMap::new() }
    }

    /// Keeps bytes in `cache`; without, as many as there are.
    pub(super) fn keeping_in(self, cache: &Arc<Cache>) -> Self {
        Self { cache: Arc::clone(cache), ..self }
    }

    /// The world of a projection, with `stream` among its users. The first user of a projection pays for
    /// looking at every service once.
    pub(super) fn join(&self, key: OutboundKey, stream: &Arc<StreamHandle>) -> Arc<Outbound> {
        let outbound = {
            let make = || {
                let (mesh, counts) = (Arc::clone(&self.mesh), Arc::clone(&self.counts));
                Arc::new(Outbound::new(key.clone(), mesh, counts, Arc::clone(&self.cache)))
            };
            let outbound = self.all.entry(key.clone()).or_insert_with(make);
            outbound.streams.add(stream);
            Arc::clone(&outbound)
        };
        outbound.filled.get_or_init(|| outbound.fill(&self.registry));
        outbound
    }

    /// Takes `stream` out, and the world when it was the last.
    pub(super) fn leave(&self, outbound: &Outbound, stream: &StreamHandle) {
        outbound.lists.remove(stream);
        outbound.streams.remove(stream);
        self.all.remove_if(&outbound.key, |_, outbound| outbound.streams.is_empty());
    }

    /// Works off services with other endpoints, for those projections whose listeners name them.
    pub(super) fn endpoints_changed(&self, keys: &[ServiceKey], now: Instant, marks: &mut Marks) {
        if keys.is_empty() || self.all.is_empty() {
            return;
        }
        for outbound in self.worlds() {
            outbound.update_addresses(keys, &self.registry, now, marks);
            self.cache.make_room();
        }
    }

    /// Works off networks with other gateways, for those projections that have Envoy clusters made of them.
    pub(super) fn networks_changed(&self, networks: &HashSet<NetworkId>, now: Instant, marks: &mut Marks) {
        if networks.is_empty() || self.all.is_empty() {
            return;
        }
        for outbound in self.worlds() {
            outbound.update_networks(networks, &self.registry, now, marks);
            self.cache.make_room();
        }
    }

    /// Works off changed parts of the policies, once for each projection.
    pub(super) fn policies_changed(&self, parts: &HashSet<PolicyPart>, now: Instant, marks: &mut Marks) {
        if parts.is_empty() || self.all.is_empty() {
            return;
        }
        for outbound in self.worlds() {
            outbound.update_policies(parts, &self.registry, now, marks);
            self.cache.make_room();
        }
    }

    /// Works off changed records, once for each projection.
    pub(super) fn services_changed(&self, keys: &[ServiceKey], now: Instant, marks: &mut Marks) {
        if keys.is_empty() || self.all.is_empty() {
            return;
        }
        for outbound in self.worlds() {
            outbound.update(keys, &self.registry, now, marks);
            self.cache.make_room();
        }
    }

    /// Drops removed Envoy clusters whose time has come.
    pub(super) fn expire(&self, now: Instant, marks: &mut Marks) {
        self.worlds().iter().for_each(|outbound| outbound.expire(now, marks));
    }

    /// When the next removed Envoy cluster may go.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.worlds().iter().filter_map(|outbound| outbound.next_expiry()).min()
    }

    /// What is left out of the shared listeners of connected proxies, with the namespaces of those proxies. Cost ∝ the
    /// chains of all projections: for operators only.
    pub(super) fn collisions(&self) -> BTreeMap<Collision<ServiceKey>, BTreeSet<Name>> {
        let mut all: BTreeMap<_, BTreeSet<Name>> = BTreeMap::new();
        for outbound in self.worlds() {
            for collision in outbound.world().collisions() {
                all.entry(collision).or_default().insert(outbound.key.namespace.clone());
            }
        }
        all
    }

    /// What the lists of a wildcard type hold. Cost ∝ projections and places.
    pub(super) fn listed(&self, kind: ResourceType) -> CacheValues {
        let mut all = CacheValues::default();
        for outbound in self.worlds() {
            let mut add = |list: &ResourceList| {
                all.entries += list.entries().len() as u64;
                all.bytes += list.bytes() as u64;
            };
            if kind == ResourceType::Listener {
                add(&outbound.listeners());
                continue;
            }
            add(&outbound.clusters());
            outbound.world().places.values().for_each(|placed| add(&placed.clusters()));
        }
        all
    }

    fn worlds(&self) -> Vec<Arc<Outbound>> {
        self.all.iter().map(|entry| Arc::clone(entry.value())).collect()
    }
}
