//! Where changes of the registry meet the streams that asked for them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use dashmap::DashMap;
use hashbrown::HashSet;

use super::assignments::Assignments;
use super::cache::{Cache, CacheValues};
use super::counts::Counts;
use super::inbound;
use super::outbound::Outbounds;
use super::resource::ResourceType;
use super::server::{Joined, Limits, Slot};
use super::siblings::SiblingWatchers;
use super::status::{ChainCollision, Reports, StreamStatus, statuses};
use super::watchers::{Marks, StreamHandle, Watchers};
use crate::model::policy::{PolicyKind, PolicyPart, Scoping};
use crate::model::{ClusterId, Name, Node, ProxyView, ServiceKey, WorkloadId};
use crate::registry::{ChangeSet, Registry};
use crate::trust::SecretSource;
use crate::view::MeshRules;

/// How long the names of streams that ended are kept for those that come back at once.
const FORGET_AFTER: Duration = Duration::from_secs(1);

/// How the server behaves.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Mesh-wide rules.
    pub mesh: MeshRules,
    /// The trust domain whose identities inbound listeners accept.
    pub trust_domain: Name,
    /// Quiet time before a push; zero pushes the first change at once (D28).
    pub debounce_after: Duration,
    /// The longest a change waits under `debounce_after`.
    pub debounce_max: Duration,
    /// Whether private keys may go over plaintext connections (D29).
    pub insecure_plaintext_sds: bool,
    /// Cluster ids that proxies report, and the clusters they mean (R1.8).
    pub cluster_aliases: BTreeMap<ClusterId, ClusterId>,
    /// Bounds of connections and streams.
    pub limits: Limits,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mesh: MeshRules::default(),
            trust_domain: "cluster.local".into(),
            debounce_after: Duration::ZERO,
            debounce_max: Duration::from_secs(10),
            insecure_plaintext_sds: false,
            cluster_aliases: BTreeMap::new(),
            limits: Limits::default(),
        }
    }
}

/// One connected stream as others see it.
pub(super) struct StreamEntry {
    pub(super) handle: Arc<StreamHandle>,
    pub(super) node: Arc<Node>,
    pub(super) view: ArcSwap<ProxyView>,
    pub(super) types: Mutex<Reports>,
    pub(super) peer: Option<SocketAddr>,
    /// The way to the proxy, once there is one.
    pub(super) way: OnceLock<Arc<Slot>>,
    connected_at: SystemTime,
    protocol: &'static str,
}

impl StreamEntry {
    fn status(&self) -> StreamStatus {
        let (now, wall) = (Instant::now(), SystemTime::now());
        let unread_since = self.way.get().and_then(|way| way.unread_since());
        StreamStatus {
            connection_id: format!("{}-{}", self.node.id, self.handle.id),
            node: Arc::clone(&self.node),
            view: self.view.load_full(),
            peer: self.peer,
            connected_at: self.connected_at,
            protocol: self.protocol,
            unread_since: unread_since.and_then(|at| wall.checked_sub(now.saturating_duration_since(at))),
            types: statuses(&self.types.lock().unwrap_or_else(PoisonError::into_inner), now, wall),
        }
    }
}

/// The pods behind a service that are connected.
#[derive(Debug, Default)]
struct Behind {
    watchers: Watchers,
    /// Digest of the target ports their listeners were built from.
    target_ports: u64,
}

/// Shared by all streams and the pusher.
pub(super) struct Hub {
    pub(super) registry: Arc<Registry>,
    pub(super) settings: Settings,
    pub(super) secrets: Option<Arc<dyn SecretSource>>,
    pub(super) counts: Arc<Counts>,
    /// Large responses that are being sent.
    pub(super) joined: Joined,
    cache: Arc<Cache>,
    pub(super) assignments: Assignments,
    pub(super) outbounds: Outbounds,
    /// Streams by the pod they belong to.
    workloads: DashMap<WorkloadId, Watchers>,
    /// Streams by the namespace of their proxy.
    namespaces: DashMap<Name, Watchers>,
    /// Streams by the services their own ports come from.
    behind: DashMap<ServiceKey, Behind>,
    /// Streams that ask for their siblings.
    pub(super) siblings: SiblingWatchers,
    streams: DashMap<u64, Arc<StreamEntry>>,
    /// Whether the memory of names is going to be given back.
    forgetting: AtomicBool,
    next_stream: AtomicU64,
}

impl Hub {
    pub(super) fn new(
        registry: Arc<Registry>,
        settings: Settings,
        secrets: Option<Arc<dyn SecretSource>>,
    ) -> Self {
        let counts = Arc::new(Counts::default());
        let (mesh, cache) = (Arc::new(settings.mesh.clone()), Cache::new(settings.limits.cache_bytes));
        let assignments = Assignments::new(Arc::clone(&registry), Arc::clone(&mesh), Arc::clone(&counts));
        let outbounds = Outbounds::new(Arc::clone(&registry), mesh, Arc::clone(&counts));
        Self {
            assignments: assignments.keeping_in(&cache),
            outbounds: outbounds.keeping_in(&cache),
            joined: Joined::default(),
            cache,
            registry,
            settings,
            secrets,
            counts,
            workloads: DashMap::new(),
            namespaces: DashMap::new(),
            behind: DashMap::new(),
            siblings: SiblingWatchers::default(),
            streams: DashMap::new(),
            forgetting: AtomicBool::new(false),
            next_stream: AtomicU64::new(1),
        }
    }

    /// The view of a proxy as of now.
    pub(super) fn view(&self, node: &Node) -> ProxyView {
        let workload = self.registry.workload(&node.workload);
        let network = self.registry.networks().of_cluster(node.cluster());
        ProxyView::new(node, workload, &network, self.registry.quirks())
    }

    /// Registers a stream: from here on it is told of changes of its own pod.
    pub(super) fn connect(
        &self,
        node: Arc<Node>,
        peer: Option<SocketAddr>,
        protocol: &'static str,
    ) -> Arc<StreamEntry> {
        let handle = StreamHandle::new(self.next_stream.fetch_add(1, Ordering::Relaxed));
        self.workloads.entry(node.workload.clone()).or_default().add(&handle);
        self.namespaces.entry(node.workload.namespace.clone()).or_default().add(&handle);
        // Read after registering: a change of the pod is either seen here or told later.
        let view = ArcSwap::from_pointee(self.view(&node));
        let types = Mutex::default();
        let entry = Arc::new(StreamEntry {
            handle,
            node,
            view,
            types,
            peer,
            way: OnceLock::new(),
            connected_at: SystemTime::now(),
            protocol,
        });
        self.streams.insert(entry.handle.id, Arc::clone(&entry));
        entry
    }

    /// Whether no stream is served.
    pub(super) fn is_idle(&self) -> bool {
        self.streams.is_empty()
    }

    /// Gives back the memory of names soon, once for all streams that end until then (X-F08).
    pub(super) fn forget_names(self: &Arc<Self>) {
        if self.forgetting.swap(true, Ordering::AcqRel) {
            return;
        }
        let hub = Arc::clone(self);
        // Without a runtime the process ends, and its memory with it.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            tokio::time::sleep(FORGET_AFTER).await;
            hub.forgetting.store(false, Ordering::Release);
            // It looks at every name there is.
            let _ = tokio::task::spawn_blocking(Name::forget_unused).await;
        });
    }

    /// Forgets a stream.
    pub(super) fn disconnect(&self, entry: &StreamEntry) {
        self.streams.remove(&entry.handle.id);
        let leave = |watchers: &Watchers| {
            watchers.remove(&entry.handle);
            watchers.is_empty()
        };
        self.workloads.remove_if(&entry.node.workload, |_, watchers| leave(watchers));
        self.namespaces.remove_if(&entry.node.workload.namespace, |_, watchers| leave(watchers));
    }

    /// Has a stream told of changes of the ports of these services.
    pub(super) fn watch_behind(&self, services: &BTreeSet<ServiceKey>, stream: &Arc<StreamHandle>) {
        for key in services {
            let mut behind = self.behind.entry(key.clone()).or_default();
            if behind.watchers.is_empty() {
                behind.target_ports = self.target_ports(key);
            }
            behind.watchers.add(stream);
        }
    }

    /// The reverse of [`watch_behind`](Self::watch_behind).
    pub(super) fn unwatch_behind(&self, services: &BTreeSet<ServiceKey>, stream: &StreamHandle) {
        for key in services {
            self.behind.remove_if(key, |_, behind| {
                behind.watchers.remove(stream);
                behind.watchers.is_empty()
            });
        }
    }

    fn target_ports(&self, key: &ServiceKey) -> u64 {
        self.registry.service(key).map_or(0, |cell| inbound::target_ports(&cell.load()))
    }

    /// Works off a change set: everything that differs is built once, then its watchers are woken, once each.
    pub(super) fn push(&self, changes: &ChangeSet, now: Instant) {
        Counts::add(&self.counts.rounds);
        self.counts.triggers.note(changes);
        let mut marks = Marks::new(changes.since);
        for id in &changes.workloads {
            if let Some(watchers) = self.workloads.get(id) {
                marks.view(&watchers);
            }
        }
        if !changes.clusters.is_empty() {
            let moved = self.workloads.iter().filter(|entry| changes.clusters.contains(&entry.key().cluster));
            moved.for_each(|entry| marks.view(entry.value()));
        }
        let records: Vec<_> =
            changes.services.iter().filter(|(_, change)| change.record).map(|(key, _)| key.clone()).collect();
        let others = changes.services.iter().filter(|(_, change)| !change.record);
        let others: Vec<_> = others.map(|(key, _)| key.clone()).collect();
        // First: what is built below reads them.
        self.outbounds.policies_changed(&changes.policies, now, &mut marks);
        self.outbounds.services_changed(&records, now, &mut marks);
        self.outbounds.endpoints_changed(&others, now, &mut marks);
        self.outbounds.networks_changed(&changes.networks, now, &mut marks);
        for (key, change) in &changes.services {
            self.behind_changed(key, change.record, &mut marks);
            self.siblings.changed(key, &mut marks);
            self.assignments.service_changed(&key.hostname, change.record, &mut marks);
        }
        for (key, change) in &changes.hidden {
            self.behind_changed(key, change.record, &mut marks);
            self.assignments.hidden_changed(&key.hostname, &mut marks);
        }
        for network in &changes.networks {
            self.assignments.network_changed(network, &mut marks);
        }
        self.policies_changed(&changes.policies, &mut marks);
        self.wake(marks);
    }

    /// Policies of a namespace are about its proxies, those of the root namespace and the mesh-wide document about all.
    fn policies_changed(&self, parts: &HashSet<PolicyPart>, marks: &mut Marks) {
        if parts.is_empty() {
            return;
        }
        let root = self.registry.policies().mesh().root_namespace.clone();
        for part in parts {
            let everybody = match part.kind.scoping() {
                Scoping::Mesh => true,
                Scoping::Namespaces => part.scope == root,
                // Routers are told by their world.
                Scoping::Hosts | Scoping::Routers => false,
            };
            if everybody {
                self.namespaces.iter().for_each(|watchers| mark(part.kind, watchers.value(), marks));
            } else if part.kind.scoping() == Scoping::Namespaces
                && let Some(watchers) = self.namespaces.get(&part.scope)
            {
                mark(part.kind, &watchers, marks);
            }
            self.assignments.policy_changed(part, marks);
        }
    }

    /// Drops removed Envoy clusters whose time has come.
    pub(super) fn expire(&self, now: Instant) {
        let mut marks = Marks::new(None);
        self.outbounds.expire(now, &mut marks);
        self.wake(marks);
    }

    fn wake(&self, marks: Marks) {
        self.counts.wakeups.fetch_add(marks.wake() as u64, Ordering::Relaxed);
    }

    fn behind_changed(&self, key: &ServiceKey, record: bool, marks: &mut Marks) {
        if let Some(mut behind) = self.behind.get_mut(key) {
            let target_ports = self.target_ports(key);
            if record || behind.target_ports != target_ports {
                behind.target_ports = target_ports;
                marks.view(&behind.watchers);
            }
        }
    }

    /// Reads and contents of the cells of one type. Lists of Envoy clusters and listeners stay while a proxy has them: they
    /// are what its state is compared with, and are not bounded. Cost ∝ the projections of connected proxies.
    pub(super) fn cached(&self, kind: ResourceType) -> CacheValues {
        match kind {
            ResourceType::Cluster | ResourceType::Listener => self.outbounds.listed(kind),
            _ => self.cache.values(kind),
        }
    }

    /// What is left out of the shared listeners of connected proxies. Cost ∝ the chains of all projections.
    pub(super) fn chain_collisions(&self) -> Vec<ChainCollision> {
        let all = self.outbounds.collisions().into_iter();
        all.map(|(collision, clients)| ChainCollision {
            port: collision.port,
            name: collision.name,
            block: collision.block,
            kept: collision.kept,
            left_out: collision.left_out,
            clients,
        })
        .collect()
    }

    /// Every connected stream, by id.
    pub(super) fn streams(&self) -> Vec<StreamStatus> {
        let mut all: Vec<_> = self.streams.iter().map(|entry| Arc::clone(entry.value())).collect();
        all.sort_by(|a, b| (&a.node.id, a.handle.id).cmp(&(&b.node.id, b.handle.id)));
        all.iter().map(|entry| entry.status()).collect()
    }
}

/// Those policies that projections read make proxies look at everything again, the others at their own listeners.
fn mark(kind: PolicyKind, watchers: &Watchers, marks: &mut Marks) {
    match kind {
        PolicyKind::PeerAuthentication | PolicyKind::AuthorizationPolicy => marks.own(watchers),
        _ => marks.rules(watchers),
    }
}
