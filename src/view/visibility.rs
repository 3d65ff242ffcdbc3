//! Which services a proxy sees, and which of several with one host name it means (R4.2).

use std::sync::Arc;

use super::EdsName;
use crate::model::policy::Sidecar;
use crate::model::{Name, ProxyKind, ProxyView, Service};
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

/// Whether proxies of `namespace` may see a service (R4.2).
pub fn is_exported(service: &Service, namespace: &str, policies: &PolicySnapshot) -> bool {
    let default = &policies.mesh().default_service_export_to;
    service.export_to.reaches(namespace, &service.key.namespace, default)
}

/// Whether a Sidecar lets its proxies see a service on a port; one that names no hosts lets them see everything.
pub fn is_imported(sidecar: &Sidecar, namespace: &str, host: &str, port: u16) -> bool {
    let on_port = sidecar
        .egress
        .iter()
        .filter(|listener| listener.port.as_ref().is_none_or(|listened| listened.number == port));
    sidecar.egress.is_empty()
        || on_port.flat_map(|listener| &listener.hosts).any(|pattern| pattern.matches(namespace, host))
}

/// The namespace of the service that a proxy means by a host name: of those it sees its own namespace's, else a
/// Kubernetes Service, else the oldest. `None` when it sees none (R4.2, R5.38).
pub(super) fn meant(
    view: &ProxyView,
    name: &EdsName,
    candidates: &[Arc<ServiceSnapshot>],
    policies: &PolicySnapshot,
) -> Option<Arc<ServiceSnapshot>> {
    let sidecar = sidecar(view, policies);
    let seen = candidates.iter().filter(|candidate| {
        candidate.service.as_deref().is_some_and(|service| {
            is_exported(service, view.namespace(), policies)
                && sidecar
                    .is_none_or(|sidecar| is_imported(sidecar, &service.key.namespace, &name.host, name.port))
        })
    });
    let rank = |candidate: &&Arc<ServiceSnapshot>| -> (bool, bool, i64, Name) {
        let service = candidate.service.as_deref();
        let own = service.is_some_and(|service| service.key.namespace == *view.namespace());
        let entry = service.is_some_and(|service| service.entry.is_some());
        let created = service.map_or(i64::MAX, |service| service.created);
        (!own, entry, created, service.map(|service| service.key.namespace.clone()).unwrap_or_default())
    };
    seen.min_by_key(rank).cloned()
}
