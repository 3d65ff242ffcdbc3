//! A connected stream that does what it is woken for, and keeps what it was sent.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Instant;

use super::*;
use crate::model::{Dialect, InterceptionMode, Labels, Locality, Node, ProxyKind, WorkloadId};
use crate::xds::hub::Hub;
use crate::xds::proxy::Proxy;
use crate::xds::resource::ResourceType;

/// A sidecar that says little of itself.
pub(super) fn node(cluster: &str, namespace: &str, pod: &str) -> Node {
    let address: IpAddr = [10, 9, 0, 1].into();
    Node {
        id: format!("sidecar~{address}~{pod}.{namespace}~{namespace}.svc.cluster.local").into(),
        kind: ProxyKind::Sidecar,
        addresses: vec![address],
        workload: WorkloadId { cluster: cluster.into(), namespace: namespace.into(), name: pod.into() },
        dns_domain: format!("{namespace}.svc.cluster.local").into(),
        network: NetworkId::default(),
        requested_view: Vec::new(),
        mode: InterceptionMode::Redirect,
        dialect: Dialect::Vanilla,
        locality: Locality::default(),
        node_name: Name::default(),
        workload_name: Name::default(),
        version: Name::default(),
        generator: Name::default(),
        outbound_address: None,
        app_address: None,
        labels: Labels::new(),
        sends_hbone: true,
    }
}

/// The changes noted so far become a push.
pub(super) fn push(hub: &Hub) {
    hub.push(&hub.registry.changes().take(), Instant::now());
}

pub(super) struct Client {
    proxy: Proxy,
    /// The digests of the assignments that it was sent last.
    pub(super) held: BTreeMap<Name, u128>,
}

impl Client {
    pub(super) fn new(hub: &Arc<Hub>, node: Node) -> Self {
        let entry = hub.connect(Arc::new(node), None, "test");
        Self { proxy: Proxy::new(Arc::clone(hub), entry), held: BTreeMap::new() }
    }

    pub(super) fn node(&self) -> &Node {
        &self.proxy.entry.node
    }

    pub(super) fn view(&self) -> Arc<ProxyView> {
        self.proxy.entry.view.load_full()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &Name> {
        self.held.keys()
    }

    pub(super) fn cell(&self, name: &Name) -> &Arc<AssignmentCell> {
        self.proxy.assignment(name).expect("a watched name")
    }

    pub(super) fn watch(&mut self, hub: &Hub, name: &Name) {
        self.proxy.watch(ResourceType::Endpoint, name);
        self.read(hub, name);
    }

    /// Asks for the lists of the wildcard types.
    pub(super) fn watch_lists(&mut self) {
        self.proxy.watch_lists();
    }

    pub(super) fn unwatch(&mut self, name: &Name) {
        self.proxy.unwatch(ResourceType::Endpoint, name);
        self.held.remove(name);
    }

    /// Is sent an assignment as of now.
    pub(super) fn read(&mut self, hub: &Hub, name: &Name) -> Arc<Encoded> {
        let encoded = hub.assignments.current(self.cell(name));
        self.held.insert(name.clone(), encoded.hash);
        encoded
    }

    /// Does what it was woken for; says which assignments it was sent.
    pub(super) fn listen(&mut self, hub: &Hub) -> BTreeSet<Name> {
        let dirty = self.proxy.entry.handle.take();
        let mut sent = BTreeSet::new();
        if (dirty.view && self.proxy.refresh(dirty.rules).shared) || dirty.everything {
            sent.extend(self.names().cloned());
        }
        sent.extend(self.proxy.rekey(&dirty.rekeys));
        sent.extend(
            dirty.names.into_iter().map(|(_, name)| name).filter(|name| self.held.contains_key(name)),
        );
        for name in &sent {
            self.read(hub, name);
        }
        sent
    }
}
