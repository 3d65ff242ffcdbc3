//! Outbound Envoy clusters, listeners and routes: one world for each projection, shared by its proxies.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use dashmap::DashMap;

use super::counts::Counts;
use super::resource::{Encoded, Entry, ResourceList, ResourceType};
use super::resources::{self, ServiceResources};
use super::watchers::{Marks, StreamHandle, Watchers};
use crate::model::{Name, Service, ServiceKey};
use crate::registry::Registry;
use crate::view::OutboundKey;

/// How long a removed Envoy cluster stays after the listeners and routes without it were published (D25).
pub const LINGER: Duration = Duration::from_secs(5);

/// Where a service stands in name conflicts: the oldest first.
type Rank = (i64, ServiceKey);

/// What all services together contribute for one projection.
#[derive(Debug, Default)]
struct World {
    services: BTreeMap<Rank, Arc<ServiceResources>>,
    ranks: HashMap<ServiceKey, Rank>,
    /// Route configuration name → the services with a virtual host in it.
    routes: HashMap<Name, BTreeSet<Rank>>,
    /// Removed Envoy clusters and when they may go.
    lingering: BTreeMap<Name, (Arc<Encoded>, Instant)>,
    /// Route configurations somebody asked for.
    built: HashMap<Name, Option<Arc<Encoded>>>,
}

/// Everything outbound for one projection.
#[derive(Debug)]
pub(super) struct Outbound {
    key: OutboundKey,
    fixed: ServiceResources,
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
}

impl Outbound {
    fn new(key: OutboundKey, counts: Arc<Counts>) -> Self {
        Self {
            fixed: resources::fixed(&key),
            key,
            world: Mutex::default(),
            filled: OnceLock::new(),
            clusters: ArcSwap::default(),
            listeners: ArcSwap::default(),
            lists: Watchers::default(),
            routes: DashMap::new(),
            streams: Watchers::default(),
            counts,
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

    /// The current bytes of a route configuration; `None` when no service has a virtual host in it.
    pub(super) fn route(&self, name: &Name) -> Option<Arc<Encoded>> {
        let mut world = self.world();
        if let Some(built) = world.built.get(name) {
            return built.clone();
        }
        let built = self.build_route(&world, name);
        if self.routes.contains_key(name) {
            world.built.insert(name.clone(), built.clone());
        }
        built
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn build_route(&self, world: &World, name: &Name) -> Option<Arc<Encoded>> {
        let ranks = world.routes.get(name)?;
        Counts::add(&self.counts.route_builds);
        let services = ranks.iter().filter_map(|rank| world.services.get(rank));
        let hosts = services.flat_map(|service| &service.virtual_hosts);
        let hosts = hosts.filter(|(route, _)| route == name).map(|(_, host)| host);
        Some(Arc::new(resources::route(name, &self.key, hosts)))
    }

    /// Reads every service once. Records are read under the lock: a change is either seen here or noted later.
    fn fill(&self, registry: &Registry) {
        let mut world = self.world();
        let now = Instant::now();
        for cell in registry.services() {
            let service = cell.load().service.clone();
            self.put(&mut world, cell.key(), service.as_deref(), now, &mut BTreeSet::new());
        }
        self.rebuild_lists(&mut world, &mut Marks::new(None));
    }

    /// Reads the records of changed services again, then rebuilds each list and route that differs once and
    /// marks its watchers. Cost ∝ the changed services, plus one pass over the lists' pointers.
    fn update(&self, changed: &[ServiceKey], registry: &Registry, now: Instant, marks: &mut Marks) {
        let mut world = self.world();
        let mut routes = BTreeSet::new();
        let mut touched = false;
        for key in changed {
            let service = registry.service(key).and_then(|cell| cell.load().service.clone());
            touched |= self.put(&mut world, key, service.as_deref(), now, &mut routes);
        }
        if !touched {
            return;
        }
        for name in routes {
            self.rebuild_route(&mut world, &name, marks);
        }
        self.rebuild_lists(&mut world, marks);
    }

    /// Replaces one service; says whether anything differs and which routes it is part of.
    fn put(
        &self,
        world: &mut World,
        key: &ServiceKey,
        service: Option<&Service>,
        now: Instant,
        routes: &mut BTreeSet<Name>,
    ) -> bool {
        let new = service.map(|service| {
            Counts::add(&self.counts.service_builds);
            ((service.created, key.clone()), Arc::new(resources::service(service, &self.key)))
        });
        let old = world.ranks.remove(key).and_then(|rank| world.services.remove_entry(&rank));
        let differs = new.as_ref() != old.as_ref();
        let hosts = |one: &Option<(Rank, Arc<ServiceResources>)>| -> BTreeMap<Name, Bytes> {
            one.iter().flat_map(|(_, resources)| resources.virtual_hosts.iter().cloned()).collect()
        };
        let (before, after) = (hosts(&old), hosts(&new));
        let moved = old.as_ref().map(|(rank, _)| rank) != new.as_ref().map(|(rank, _)| rank);
        let names: BTreeSet<_> = before.keys().chain(after.keys()).cloned().collect();
        routes.extend(names.into_iter().filter(|name| moved || before.get(name) != after.get(name)));
        if let Some((rank, resources)) = old {
            for (name, _) in &resources.virtual_hosts {
                let ranks = world.routes.entry(name.clone()).or_default();
                ranks.remove(&rank);
                if ranks.is_empty() {
                    world.routes.remove(name);
                }
            }
            for cluster in &resources.clusters {
                world.lingering.insert(cluster.name.clone(), (Arc::clone(&cluster.encoded), now + LINGER));
            }
        }
        if let Some((rank, resources)) = new {
            for (name, _) in &resources.virtual_hosts {
                world.routes.entry(name.clone()).or_default().insert(rank.clone());
            }
            for cluster in &resources.clusters {
                world.lingering.remove(&cluster.name);
            }
            world.ranks.insert(key.clone(), rank.clone());
            world.services.insert(rank, resources);
        }
        differs
    }

    fn rebuild_route(&self, world: &mut World, name: &Name, marks: &mut Marks) {
        let Some(watchers) = self.routes.get(name) else {
            // Its last watcher is just leaving; the next one must not find what was built for that.
            world.built.remove(name);
            return;
        };
        let built = self.build_route(world, name);
        if world.built.insert(name.clone(), built.clone()) != Some(built) {
            marks.name(&watchers, ResourceType::Route, name);
        }
    }

    fn rebuild_lists(&self, world: &mut World, marks: &mut Marks) {
        Counts::add(&self.counts.list_builds);
        let all = || std::iter::once(&self.fixed).chain(world.services.values().map(AsRef::as_ref));
        let lingering = world
            .lingering
            .iter()
            .map(|(name, (encoded, _))| Entry { name: name.clone(), encoded: Arc::clone(encoded) });
        let clusters = all().flat_map(|part| part.clusters.iter().cloned()).chain(lingering).collect();
        let gateway = resources::sni_listener(&self.key, all().map(|part| &part.sni_chains));
        let listeners = all().flat_map(|part| part.listeners.iter().cloned()).chain(gateway).collect();
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
    counts: Arc<Counts>,
    all: DashMap<OutboundKey, Arc<Outbound>>,
}

impl Outbounds {
    /// Nobody connected yet.
    pub(super) fn new(registry: Arc<Registry>, counts: Arc<Counts>) -> Self {
        Self { registry, counts, all: DashMap::new() }
    }

    /// The world of a projection, with `stream` among its users. The first user of a projection pays for
    /// looking at every service once.
    pub(super) fn join(&self, key: OutboundKey, stream: &Arc<StreamHandle>) -> Arc<Outbound> {
        let outbound = {
            let make = || Arc::new(Outbound::new(key.clone(), Arc::clone(&self.counts)));
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

    /// Works off changed records, once for each projection.
    pub(super) fn services_changed(&self, keys: &[ServiceKey], now: Instant, marks: &mut Marks) {
        if keys.is_empty() || self.all.is_empty() {
            return;
        }
        for outbound in self.worlds() {
            outbound.update(keys, &self.registry, now, marks);
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

    fn worlds(&self) -> Vec<Arc<Outbound>> {
        self.all.iter().map(|entry| Arc::clone(entry.value())).collect()
    }
}
