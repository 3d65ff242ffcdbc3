//! Which mTLS a workload asks for, and whether it is spoken to an endpoint (R4.12).

use std::sync::Arc;

use crate::model::policy::{ClientTlsMode, MtlsMode, PeerAuthentication};
use crate::model::{Name, Workload};
use crate::registry::PolicySnapshot;

/// The mode that PeerAuthentications give a workload of `namespace` for one of its target ports: that of the port, of
/// the workload, of the namespace, of the mesh; of each the oldest object counts, and what is not set inherits. Objects
/// of the root namespace that select workloads do not count.
pub fn mode<'a>(
    policies: &PolicySnapshot,
    namespace: &Name,
    port: u16,
    label: impl Fn(&str) -> Option<&'a str>,
) -> MtlsMode {
    let root = &policies.mesh().root_namespace;
    let own: &[Arc<PeerAuthentication>] =
        if namespace == root { &[] } else { policies.of::<PeerAuthentication>(namespace) };
    let whole = |all: &[Arc<PeerAuthentication>]| {
        let first = all.iter().find(|one| one.selector.is_everything());
        first.and_then(|one| one.mode)
    };
    let selecting = own.iter().find(|one| !one.selector.is_everything() && one.selector.selects(&label));
    let of_port = selecting
        .and_then(|one| one.ports.iter().find(|(number, _)| *number == port).and_then(|(_, mode)| *mode));
    of_port
        .or_else(|| selecting.and_then(|one| one.mode))
        .or_else(|| whole(own))
        .or_else(|| whole(policies.of::<PeerAuthentication>(root)))
        .unwrap_or_default()
}

/// Whether mesh mTLS is meant for an endpoint: the DestinationRule decides alone if it says anything; else the endpoint
/// must offer it and its PeerAuthentication must not forbid it.
pub fn is_meant(
    rule: Option<ClientTlsMode>,
    policies: &PolicySnapshot,
    workload: &Workload,
    port: u16,
) -> bool {
    match rule {
        Some(mode) => mode == ClientTlsMode::IstioMutual,
        None => {
            workload.tls_mode_text() == "istio"
                && mode(policies, &workload.namespace, port, |key| workload.label(key)) != MtlsMode::Disable
        }
    }
}
