//! To which workloads HBONE is spoken (R4.16, R4.17).

use super::assignment::{AssignedEndpoint, LocalityGroup, Origin, SocketMatch};
use super::{EdsKey, EdsName, Role};
use crate::model::{Features, Workload};

/// Label of gateways that terminate HBONE.
const MANAGED_LABEL: &str = "gateway.istio.io/managed";
/// Label of workloads that terminate HBONE themselves.
const TUNNEL_LABEL: &str = "networking.istio.io/tunnel";

/// Whether a workload takes HBONE: it terminates it, or the node of its pod does, which the pod says by annotation. The
/// pod of an endpoint is the one whose address it is on its network: no other place needs to be asked. An address
/// without a pod takes none.
fn takes(workload: &Workload) -> bool {
    workload.redirected
        || workload.label(MANAGED_LABEL) == Some("istio.io-mesh-controller")
        || workload.label(TUNNEL_LABEL).is_some_and(|label| label.contains("http"))
}

/// Whether HBONE is spoken to a workload: it takes it, the proxy may send it, and mesh mTLS is not preferred. A waypoint
/// passes what came to the address of a service on by HBONE wherever that is taken.
pub(super) fn is_spoken(features: &Features, key: &EdsKey, name: &EdsName, workload: &Workload) -> bool {
    let preferred =
        || workload.tls_mode_text() != "istio" || features.prefer_hbone || name.inbound_vip.is_some();
    key.hbone && takes(workload) && preferred()
}

/// Whether a name is for this kind of proxy at all: only waypoints have Envoy clusters for what comes to the address of a
/// service.
pub(super) fn is_for(name: &EdsName, role: Role) -> bool {
    name.inbound_vip.is_none() || role == Role::Waypoint
}

/// Envoy clusters for what comes to the address of a service speak HBONE only and choose no transport socket: gateways
/// behind which HBONE goes on are written without a match (R4.24). Other endpoints keep theirs.
pub(super) fn without_match(name: &EdsName, groups: &mut [LocalityGroup<'_>]) {
    if name.inbound_vip.is_none() {
        return;
    }
    let tunnelled = |one: &&mut AssignedEndpoint<'_>| {
        one.socket == SocketMatch::Tunnel && matches!(one.origin, Origin::Gateway { .. })
    };
    let endpoints = groups.iter_mut().flat_map(|group| &mut group.endpoints);
    endpoints.filter(tunnelled).for_each(|one| one.socket = SocketMatch::Plain);
}
