//! Which services a client sees, and which of several with one host name it means (R4.2).
//!
//! Assignments and Envoy clusters ask the same [`Sight`]: there is an Envoy cluster exactly where there is an assignment.

use std::sync::Arc;

use super::EdsName;
use crate::model::policy::{EgressListener, MESH_GATEWAY, Sidecar, VirtualService};
use crate::model::{ProxyKind, ProxyView, Resolution, Service, ServiceKey};
use crate::registry::{PolicySnapshot, ServiceSnapshot};

/// The Sidecar that selects a proxy: one of its namespace that selects it by labels, one for the whole namespace,
/// one for the mesh; the oldest each. Routers have none.
pub fn sidecar<'a>(view: &ProxyView, policies: &'a PolicySnapshot) -> Option<&'a Sidecar> {
    if view.kind != ProxyKind::Sidecar {
        return None;
    }
    let own = || policies.of::<Sidecar>(view.namespace()).iter();
    let selected =
        own().find(|one| !one.selector.is_everything() && one.selector.selects(|key| view.own_label(key)));
    let root = || policies.of::<Sidecar>(&policies.mesh().root_namespace).iter();
    let everybody = |one: &&Arc<Sidecar>| one.selector.is_everything();
    selected.or_else(|| own().find(everybody)).or_else(|| root().find(everybody)).map(AsRef::as_ref)
}

/// Whether a Sidecar names a host of a namespace on a port; one that names no hosts names everything.
pub fn is_imported(sidecar: &Sidecar, namespace: &str, host: &str, port: u16) -> bool {
    let on_port = |listener: &&EgressListener| own_port(listener).is_none_or(|own| own == port);
    sidecar.egress.is_empty()
        || sidecar.egress.iter().filter(on_port).any(|listener| reads(listener, namespace, host))
}

/// The one port of a listener; `None` for all others, and for a Unix socket.
pub(super) fn own_port(listener: &EgressListener) -> Option<u16> {
    listener.port.as_ref().map(|port| port.number).filter(|port| *port != 0)
}

/// Whether a listener names a host of a namespace.
pub(super) fn reads(listener: &EgressListener, namespace: &str, host: &str) -> bool {
    listener.hosts.iter().any(|egress| egress.matches(namespace, host))
}

/// What clients of one namespace and Sidecar may see under the policies of one moment.
#[derive(Clone, Copy, Debug)]
pub struct Sight<'a> {
    namespace: &'a str,
    sidecar: Option<&'a Sidecar>,
    policies: &'a PolicySnapshot,
}

impl<'a> Sight<'a> {
    /// What clients of `namespace` see whom `sidecar` selects.
    pub fn new(namespace: &'a str, sidecar: Option<&'a Sidecar>, policies: &'a PolicySnapshot) -> Self {
        Self { namespace, sidecar, policies }
    }

    /// What a proxy sees.
    pub fn of(view: &'a ProxyView, policies: &'a PolicySnapshot) -> Self {
        Self::new(view.namespace(), sidecar(view, policies), policies)
    }

    /// The Sidecar that selects them.
    pub fn sidecar(&self) -> Option<&'a Sidecar> {
        self.sidecar
    }

    /// Where their Sidecar names hosts; `None` without one, or where it names none: they see everything then.
    pub fn egress(&self) -> Option<&'a [EgressListener]> {
        self.sidecar.map(|sidecar| sidecar.egress.as_slice()).filter(|listeners| !listeners.is_empty())
    }

    /// Whether a service is exported to them.
    pub fn is_told(&self, service: &Service) -> bool {
        let default = &self.policies.mesh().default_service_export_to;
        service.export_to.reaches(self.namespace, &service.key.namespace, default)
    }

    /// Whether their Sidecar names a host and port of a namespace on any listener; without one everything.
    pub fn names(&self, service: &ServiceKey, port: u16) -> bool {
        let named = |sidecar| is_imported(sidecar, &service.namespace, &service.hostname, port);
        self.sidecar.is_none_or(named)
    }

    /// Whether they may send to a port of the service that they mean by its host: their Sidecar names it, or a
    /// VirtualService that they heed leads to the host.
    pub fn reaches(&self, service: &ServiceKey, port: u16) -> bool {
        self.names(service, port) || self.is_led_to(&service.hostname)
    }

    /// Whether they have a Sidecar that may hide things, and a VirtualService that they heed leads to a host
    /// nevertheless. Cost ∝ the VirtualServices that lead there.
    pub fn is_led_to(&self, host: &str) -> bool {
        let leading = || self.policies.of::<VirtualService>(&VirtualService::leading_to(host)).iter();
        self.egress().is_some() && leading().any(|one| self.heeds(one))
    }

    /// Whether a VirtualService is for the mesh, exported to them and about hosts that their Sidecar names.
    pub fn heeds(&self, one: &VirtualService) -> bool {
        self.is_routed(one) && one.is_for(MESH_GATEWAY) && self.reads_routes(one)
    }

    /// Whether a VirtualService is exported to them.
    pub fn is_routed(&self, one: &VirtualService) -> bool {
        let own = one.meta.id.namespace.as_str();
        let default = &self.policies.mesh().default_virtual_service_export_to;
        own == self.namespace || one.export_to.reaches(self.namespace, own, default)
    }

    fn reads_routes(&self, one: &VirtualService) -> bool {
        self.egress().is_none_or(|listeners| {
            let hosts = listeners.iter().flat_map(|listener| &listener.hosts);
            hosts.into_iter().any(|egress| {
                let namespace = egress.is_of(&one.meta.id.namespace);
                namespace && one.hosts.iter().any(|host| egress.host.overlaps(host.as_str()))
            })
        })
    }

    /// Of the records of one host name the one that they mean: of those that are exported to them one that their
    /// Sidecar names on some port, then that of their own namespace, then a Kubernetes Service, then the oldest
    /// (R5.38). Names of other names are none.
    pub fn meant<T>(
        &self,
        all: impl IntoIterator<Item = T>,
        record: impl Fn(&T) -> Option<&Service>,
    ) -> Option<T> {
        let told = |one: &T| {
            let is_seen =
                |record: &Service| self.is_told(record) && !matches!(record.resolution, Resolution::Alias(_));
            record(one).is_some_and(is_seen)
        };
        let told = all.into_iter().filter(told);
        told.min_by(|a, b| {
            let rank = |one| record(one).map(|record| self.preference(record));
            rank(a).cmp(&rank(b))
        })
    }

    /// The smallest is preferred.
    fn preference<'s>(&self, service: &'s Service) -> impl Ord + use<'s> {
        let (namespace, host) = (&service.key.namespace, &service.key.hostname);
        let named = |listeners: &[EgressListener]| listeners.iter().any(|one| reads(one, namespace, host));
        let hidden = !self.egress().is_none_or(named);
        let foreign = namespace.as_str() != self.namespace;
        (hidden, foreign, service.entry.is_some(), service.created, &service.key)
    }
}

/// The service behind an assignment of a proxy; `None` when it sees none.
pub(super) fn meant(
    view: &ProxyView,
    name: &EdsName,
    candidates: &[Arc<ServiceSnapshot>],
    policies: &PolicySnapshot,
) -> Option<Arc<ServiceSnapshot>> {
    let sight = Sight::of(view, policies);
    let found = sight.meant(candidates, |candidate| candidate.service.as_deref())?;
    let reached = |service: &Service| sight.reaches(&service.key, name.port);
    found.service.as_deref().is_some_and(reached).then(|| Arc::clone(found))
}
