//! What one stream may read: the cells and lists behind its subscriptions, and its own resources.

use std::borrow::Borrow;
use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use hashbrown::HashSet;

use super::assignments::AssignmentCell;
use super::counts::Counts;
use super::hub::{Hub, StreamEntry};
use super::inbound::{self, Own};
use super::outbound::{Outbound, Placed};
use super::resource::{Encoded, ResourceList, ResourceType};
use super::resources;
use super::session::Source;
use super::watchers::StreamHandle;
use crate::model::{Dialect, Name, ProxyView, ServiceKey, SpiffeId};
use crate::view::{Client, LOCAL_CLUSTER, OutboundKey};

/// The name of the workload certificate (§3.5).
const CERTIFICATE: &str = "default";
/// The name of the roots peers are verified against.
const ROOTS: &str = "ROOTCA";

/// What differs for a proxy after the registry learned more about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ViewChange {
    /// Its assignments or outbound resources may differ.
    pub(super) shared: bool,
    /// Its own listeners or Envoy clusters differ.
    pub(super) own: bool,
    /// Its identity differs.
    pub(super) identity: bool,
}

/// An assignment, found by its name: a pointer for each subscription.
struct ByName(Arc<AssignmentCell>);

impl Borrow<str> for ByName {
    fn borrow(&self) -> &str {
        self.0.name()
    }
}

impl Hash for ByName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.name().hash(state);
    }
}

impl PartialEq for ByName {
    fn eq(&self, other: &Self) -> bool {
        self.0.name() == other.0.name()
    }
}

impl Eq for ByName {}

/// The subscriptions of one stream, resolved. Everything is given back when it is dropped.
pub(super) struct Proxy {
    hub: Arc<Hub>,
    pub(super) entry: Arc<StreamEntry>,
    view: Arc<ProxyView>,
    assignments: HashSet<ByName>,
    routes: BTreeSet<Name>,
    /// Made by the first request for something outbound.
    outbound: Option<Arc<Outbound>>,
    /// Where it is among the proxies of its projection, if that matters.
    placed: Option<Arc<Placed>>,
    /// Made by the first request for a wildcard type.
    own: Option<Own>,
    behind: BTreeSet<ServiceKey>,
    /// The services that may tell of its siblings, while it asks for these.
    siblings: BTreeSet<ServiceKey>,
    lists: bool,
    /// Who the registry last said this proxy is.
    identity: Option<SpiffeId>,
}

impl Proxy {
    pub(super) fn new(hub: Arc<Hub>, entry: Arc<StreamEntry>) -> Self {
        Self {
            hub,
            identity: account(&entry.view.load()).cloned(),
            view: entry.view.load_full(),
            entry,
            assignments: HashSet::new(),
            routes: BTreeSet::new(),
            outbound: None,
            placed: None,
            own: None,
            behind: BTreeSet::new(),
            siblings: BTreeSet::new(),
            lists: false,
        }
    }

    /// Has the stream told of changes of the lists of the wildcard types.
    pub(super) fn watch_lists(&mut self) {
        if self.lists {
            return;
        }
        self.lists = true;
        let outbound = Arc::clone(self.outbound());
        outbound.watch_lists(&self.entry.handle);
        self.behind = inbound::services(&self.view);
        self.hub.watch_behind(&self.behind, &self.entry.handle);
        // The ports of a router's Services were not watched until now.
        if !self.rekey_outbound() {
            self.replace();
        }
        // Built after registering: a change is either seen here or told later.
        self.own = Some(Own::build(
            &self.hub.registry,
            &self.view,
            &self.hub.settings.trust_domain,
            &self.hub.counts,
        ));
    }

    /// Has the stream told of changes of a named resource.
    pub(super) fn watch(&mut self, kind: ResourceType, name: &Name) {
        match kind {
            ResourceType::Endpoint if !self.assignments.contains(name.as_str()) => {
                if name.as_str() == LOCAL_CLUSTER {
                    self.follow(inbound::services(&self.view));
                }
                let cell = self.hub.assignments.watch_for(&self.view, name, &self.entry.handle);
                self.assignments.insert(ByName(cell));
            }
            ResourceType::Route if self.routes.insert(name.clone()) => {
                let outbound = Arc::clone(self.outbound());
                outbound.watch_route(name, &self.entry.handle);
            }
            _ => {}
        }
    }

    /// Makes room for assignments that are about to be watched.
    pub(super) fn expect(&mut self, assignments: usize) {
        self.assignments.reserve(assignments);
    }

    /// The reverse of [`watch`](Self::watch).
    pub(super) fn unwatch(&mut self, kind: ResourceType, name: &Name) {
        match kind {
            ResourceType::Endpoint => {
                if let Some(ByName(cell)) = self.assignments.take(name.as_str()) {
                    self.hub.assignments.unwatch(&cell, &self.entry.handle);
                }
                if name.as_str() == LOCAL_CLUSTER {
                    self.follow(BTreeSet::new());
                }
            }
            ResourceType::Route if self.routes.remove(name) => {
                if let Some(outbound) = &self.outbound {
                    outbound.unwatch_route(name, &self.entry.handle);
                }
            }
            _ => {}
        }
    }

    /// Has the stream told of these services, which may tell of its siblings, and of no others. Before the projection is
    /// made that they decide: a change is either seen there or told later.
    fn follow(&mut self, services: BTreeSet<ServiceKey>) {
        let (hub, handle) = (&self.hub, &self.entry.handle);
        hub.siblings.watch(services.difference(&self.siblings), handle);
        hub.siblings.unwatch(self.siblings.difference(&services), handle);
        self.siblings = services;
    }

    /// The cell behind a name that it watches.
    pub(super) fn assignment(&self, name: &str) -> Option<&Arc<AssignmentCell>> {
        self.assignments.get(name).map(|found| &found.0)
    }

    fn outbound(&mut self) -> &Arc<Outbound> {
        let (hub, view, handle) = (&self.hub, &self.view, &self.entry.handle);
        self.outbound.get_or_insert_with(|| join(hub, view, handle))
    }

    /// Looks again at what the registry knows of this proxy and switches keys where they differ (D12). All assignments
    /// are looked at only if that is something else, or if `rules` may be, which all keys read: what else a key reads is
    /// marked by its name. Cost ∝ subscriptions then.
    pub(super) fn refresh(&mut self, rules: bool) -> ViewChange {
        let view = Arc::new(self.hub.view(&self.entry.node));
        let differs = rules || view != self.view;
        // A pod object that goes takes nothing away: its proxy keeps the certificate it has until it leaves.
        let identity = account(&view).is_some_and(|account| self.identity.as_ref() != Some(account));
        if identity {
            self.identity = account(&view).cloned();
        }
        self.view = Arc::clone(&view);
        self.entry.view.store(view);
        let assignments = differs && self.rekey_assignments();
        let outbound = self.rekey_outbound() || self.replace();
        ViewChange { shared: assignments || outbound, own: self.refresh_own(), identity }
    }

    fn rekey_assignments(&mut self) -> bool {
        if self.assignments.contains(LOCAL_CLUSTER) {
            self.follow(inbound::services(&self.view));
        }
        let names = self.assignments.iter().map(|ByName(cell)| cell.name().clone()).collect();
        !self.rekey(&names).is_empty()
    }

    /// Switches the assignments among `names` that belong to another projection now, and says which. Cost ∝ `names`.
    pub(super) fn rekey(&mut self, names: &BTreeSet<Name>) -> Vec<Name> {
        let mut switched = Vec::new();
        self.hub.counts.rekeys.fetch_add(names.len() as u64, Ordering::Relaxed);
        for name in names {
            let Some(old) = self.assignment(name).cloned() else { continue };
            if self.hub.assignments.is_for(&old, &self.view) {
                continue;
            }
            let cell = self.hub.assignments.watch_for(&self.view, name, &self.entry.handle);
            if Arc::ptr_eq(&cell, &old) {
                // Its projection was another one for a moment only.
                continue;
            }
            self.assignments.replace(ByName(cell));
            self.hub.assignments.unwatch(&old, &self.entry.handle);
            switched.push(name.clone());
        }
        switched
    }

    fn rekey_outbound(&mut self) -> bool {
        let key = outbound_key(&self.hub, &self.view);
        let Some(old) = self.outbound.take_if(|outbound| *outbound.key() != key) else {
            return false;
        };
        let handle = Arc::clone(&self.entry.handle);
        let handle = &handle;
        let new = join(&self.hub, &self.view, handle);
        if Arc::ptr_eq(&new, &old) {
            // Its projection was another one for a moment only; meanwhile it may have left these lists.
            if self.lists {
                old.watch_lists(handle);
            }
            self.outbound = Some(old);
            return false;
        }
        if self.lists {
            new.watch_lists(handle);
        }
        for name in &self.routes {
            new.watch_route(name, handle);
            old.unwatch_route(name, handle);
        }
        if let Some(placed) = self.placed.take() {
            old.unplace(&placed, handle);
        }
        self.hub.outbounds.leave(&old, handle);
        self.outbound = Some(new);
        self.replace();
        true
    }

    /// Switches places where the proxy, or what is compared of it, is another now; says whether it did.
    fn replace(&mut self) -> bool {
        let Some(outbound) = self.outbound.as_ref().filter(|_| self.lists) else {
            return false;
        };
        let handle = &self.entry.handle;
        let new = outbound.place(&self.view, handle, &self.hub.registry);
        let same = match (&self.placed, &new) {
            (Some(old), Some(new)) => Arc::ptr_eq(old, new),
            (None, None) => true,
            _ => false,
        };
        if same {
            return false;
        }
        if let Some(old) = std::mem::replace(&mut self.placed, new) {
            outbound.unplace(&old, handle);
        }
        true
    }

    /// Looks again at what is the proxy's own; says whether that differs.
    pub(super) fn refresh_own(&mut self) -> bool {
        if !self.lists || self.view.dialect == Dialect::Grpc {
            return false;
        }
        let services = inbound::services(&self.view);
        if services != self.behind {
            self.hub.watch_behind(&services, &self.entry.handle);
            let gone = self.behind.difference(&services).cloned().collect();
            self.hub.unwatch_behind(&gone, &self.entry.handle);
            self.behind = services;
        }
        let own =
            Own::build(&self.hub.registry, &self.view, &self.hub.settings.trust_domain, &self.hub.counts);
        let hash = |own: &Own| (own.clusters.hash(), own.listeners.hash());
        let changed = self.own.as_ref().map(hash) != Some(hash(&own));
        self.own = Some(own);
        changed
    }

    /// When the certificate of this proxy is due for renewal; `None` when it has none.
    pub(super) fn renewal(&self) -> Option<SystemTime> {
        let issued = self.hub.secrets.as_ref()?.workload_certificate(account(&self.view)?).ok()?;
        Some(issued.renew_after)
    }

    fn secret(&self, name: &str) -> Option<Arc<Encoded>> {
        match name {
            ROOTS | CERTIFICATE => self.mesh_secret(name),
            _ => self.secret_of_files(name),
        }
    }

    /// Names of files of the proxy itself, only of those that a Gateway of this router names.
    fn secret_of_files(&self, name: &str) -> Option<Arc<Encoded>> {
        let policies = self.hub.registry.policies();
        let client = Client::new(self.outbound.as_ref()?.key(), &policies);
        resources::files(name, &client).map(Arc::new)
    }

    /// The secrets of D29: private keys only where they may go, and only for the identity the registry knows.
    fn mesh_secret(&self, name: &str) -> Option<Arc<Encoded>> {
        let secrets = self.hub.secrets.as_ref()?;
        match name {
            ROOTS => {
                let roots = secrets.root_certificates();
                Some(Arc::new(resources::validation(name, &String::from_utf8_lossy(&roots))))
            }
            CERTIFICATE => {
                let allowed = self.hub.settings.insecure_plaintext_sds;
                let issued =
                    self.identity.as_ref().filter(|_| allowed).map(|id| secrets.workload_certificate(id));
                match issued {
                    Some(Ok(issued)) => Some(Arc::new(resources::certificate(
                        name,
                        &issued.chain_pem,
                        issued.key_pem.reveal(),
                    ))),
                    refused => {
                        Counts::add(&self.hub.counts.secrets_withheld);
                        if let Some(Err(error)) = refused {
                            tracing::warn!(proxy = %self.entry.node.id, %error, "cannot issue a certificate");
                        }
                        None
                    }
                }
            }
            _ => None,
        }
    }
}

/// The projection of a proxy as of now.
fn outbound_key(hub: &Hub, view: &ProxyView) -> OutboundKey {
    let registry = &hub.registry;
    inbound::outbound_key(registry, view, &registry.policies()).tunnelling(view, &hub.settings.mesh)
}

/// Joins the world of a proxy's projection as of now. The policies that the projection reads may change until the
/// world has the stream: then again, until they stand still for that moment.
fn join(hub: &Hub, view: &ProxyView, handle: &Arc<StreamHandle>) -> Arc<Outbound> {
    let now = || outbound_key(hub, view);
    loop {
        let outbound = hub.outbounds.join(now(), handle);
        if *outbound.key() == now() {
            return outbound;
        }
        hub.outbounds.leave(&outbound, handle);
    }
}

fn account(view: &ProxyView) -> Option<&SpiffeId> {
    view.workload.as_deref().and_then(|pod| pod.account.as_ref())
}

impl Source for Proxy {
    fn get(&self, kind: ResourceType, name: &str) -> Option<Arc<Encoded>> {
        match kind {
            ResourceType::Endpoint => self.hub.assignments.existing(self.assignment(name)?),
            ResourceType::Route => self.outbound.as_ref()?.route(&name.into()),
            ResourceType::Secret => self.secret(name),
            ResourceType::Cluster | ResourceType::Listener => {
                self.lists(kind).iter().find_map(|list| list.get(name).cloned())
            }
        }
    }

    fn empty(&self, kind: ResourceType, name: &str) -> Arc<Encoded> {
        Arc::new(match kind {
            ResourceType::Route => resources::empty_route(name),
            _ => resources::empty_assignment(name),
        })
    }

    fn lists(&self, kind: ResourceType) -> [Arc<ResourceList>; 3] {
        let (Some(outbound), Some(own)) = (&self.outbound, &self.own) else {
            return std::array::from_fn(|_| ResourceList::nothing());
        };
        match kind {
            ResourceType::Cluster => {
                let placed = self.placed.as_ref().map(|placed| placed.clusters());
                [placed.unwrap_or_else(ResourceList::nothing), outbound.clusters(), Arc::clone(&own.clusters)]
            }
            ResourceType::Listener => {
                [ResourceList::nothing(), outbound.listeners(), Arc::clone(&own.listeners)]
            }
            _ => std::array::from_fn(|_| ResourceList::nothing()),
        }
    }

    fn all_synced(&self) -> bool {
        self.hub.registry.clusters().all_synced()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let handle = &self.entry.handle;
        for ByName(cell) in std::mem::take(&mut self.assignments) {
            self.hub.assignments.unwatch(&cell, handle);
        }
        if let Some(outbound) = self.outbound.take() {
            for name in &self.routes {
                outbound.unwatch_route(name, handle);
            }
            if let Some(placed) = self.placed.take() {
                outbound.unplace(&placed, handle);
            }
            self.hub.outbounds.leave(&outbound, handle);
        }
        self.hub.unwatch_behind(&self.behind, handle);
        self.hub.siblings.unwatch(&self.siblings, handle);
        self.hub.disconnect(&self.entry);
    }
}
