//! Projections: the part of a proxy that one kind of resource may read (D16).

use std::net::{IpAddr, Ipv4Addr};

use serde::Serialize;

use crate::model::policy::{DestinationRule, Gateway, PolicyId, Sidecar, VirtualService};
use crate::model::{
    ClusterId, Dialect, InterceptionMode, IpFamilies, Labels, Name, NetworkId, ProxyKind, ProxyView, RequestedView,
    Service, WorkloadId,
};
use crate::registry::PolicySnapshot;

/// All that an assignment may depend on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct EdsKey {
    /// Sidecar or router.
    pub kind: ProxyKind,
    /// The proxy's cluster.
    pub cluster: ClusterId,
    /// The proxy's network.
    pub network: NetworkId,
    /// The families of its own addresses: which gateways it can reach.
    pub families: IpFamilies,
    /// The networks it asked to see.
    pub requested_view: RequestedView,
    /// Its node, only for services that are served from the own node (R4.9).
    pub node: Option<Name>,
}

impl EdsKey {
    /// The projection for assignments of `service`; the node is read only when that service asks for it.
    pub fn of(view: &ProxyView, service: Option<&Service>) -> Self {
        Self {
            kind: view.kind,
            cluster: view.cluster().clone(),
            network: view.network.clone(),
            families: view.families,
            requested_view: view.requested_view.clone(),
            node: service.filter(|service| service.node_local).map(|_| view.node_name.clone()),
        }
    }
}

/// All that outbound Envoy clusters, listeners and routes may depend on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct OutboundKey {
    /// Sidecar or router.
    pub kind: ProxyKind,
    /// The proxy's cluster: VIPs differ by cluster (R5.28).
    pub cluster: ClusterId,
    /// The proxy's namespace: visibility and short names.
    pub namespace: Name,
    /// The proxy's DNS domain: short names.
    pub dns_domain: Name,
    /// How its traffic is captured: the shape of listeners.
    pub mode: InterceptionMode,
    /// Which filters it knows.
    pub dialect: Dialect,
    /// The families of its own addresses: wildcard bind addresses.
    pub families: IpFamilies,
    /// Where listeners bind when traffic is not captured: a sidecar's outbound listeners (default 127.0.0.1)
    /// or a router's own address. `None` with capture: the wildcard address.
    pub bind: Option<IpAddr>,
    /// Whether it is the gateway of a network and carries the SNI-DNAT listener (D43).
    pub east_west: bool,
    /// The Sidecar that selects it (R4.2); never for a router.
    pub sidecar: Option<PolicyId>,
    /// The Gateways that select it, the oldest first; never for a sidecar (R7.1).
    pub gateways: Vec<PolicyId>,
    /// Those of its labels that a policy about its calls asks for, with the value that is asked for.
    pub labels: Labels,
}

impl OutboundKey {
    /// The projection of a proxy under these policies.
    pub fn of(view: &ProxyView, policies: &PolicySnapshot) -> Self {
        let uncaptured = view.mode == InterceptionMode::None;
        let bind = match view.kind {
            ProxyKind::Sidecar => Some(view.outbound_address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))),
            ProxyKind::Router => view.addresses.first().copied(),
        };
        Self {
            kind: view.kind,
            cluster: view.cluster().clone(),
            namespace: view.namespace().clone(),
            dns_domain: view.dns_domain.clone(),
            mode: view.mode,
            dialect: view.dialect,
            families: view.families,
            bind: bind.filter(|_| uncaptured),
            east_west: view.kind == ProxyKind::Router && !view.requested_view.is_everything(),
            sidecar: sidecar(view, policies),
            gateways: gateways(view, policies),
            labels: asked_labels(view, policies),
        }
    }
}

/// The Sidecar of a proxy: the oldest of its namespace that selects it by labels, else the oldest there without
/// labels, else the oldest of the mesh's namespace without labels.
fn sidecar(view: &ProxyView, policies: &PolicySnapshot) -> Option<PolicyId> {
    if view.kind != ProxyKind::Sidecar {
        return None;
    }
    let own = policies.of::<Sidecar>(view.namespace());
    let selecting = own.iter().filter(|sidecar| !sidecar.selector.is_everything());
    let selected = selecting.filter(|sidecar| sidecar.selector.selects(|label| view.own_label(label)));
    let mesh = policies.of::<Sidecar>(&policies.mesh().root_namespace);
    let general = own.iter().chain(mesh).filter(|sidecar| sidecar.selector.is_everything());
    selected.chain(general).next().map(|sidecar| sidecar.meta.id.clone())
}

/// The Gateways that select a router. Cost ∝ Gateways.
fn gateways(view: &ProxyView, policies: &PolicySnapshot) -> Vec<PolicyId> {
    if view.kind != ProxyKind::Router {
        return Vec::new();
    }
    let all = policies.of::<Gateway>("").iter();
    let selecting = all.filter(|gateway| gateway.selector.selects(|label| view.own_label(label)));
    selecting.map(|gateway| gateway.meta.id.clone()).collect()
}

/// The labels that DestinationRules of its namespace and VirtualServices ask of their clients, as far as it has
/// them. Cost ∝ those policies alone.
fn asked_labels(view: &ProxyView, policies: &PolicySnapshot) -> Labels {
    let rules = policies.of::<DestinationRule>(&DestinationRule::selecting(view.namespace()));
    let routes = policies.of::<VirtualService>(VirtualService::WITH_LABELS);
    let of_rules = rules.iter().flat_map(|rule| rule.selector.labels().iter());
    let of_routes = routes.iter().flat_map(|one| one.sources()).flat_map(|sources| sources.labels.iter());
    let has = |(label, value): &(&Name, &Name)| view.own_label(label) == Some(value.as_str());
    of_rules.chain(of_routes).filter(has).map(|(label, value)| (label.clone(), value.clone())).collect()
}

/// All that a proxy's own resources may depend on: inbound listeners and Envoy clusters, certificates. Never
/// shared between proxies.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct WorkloadKey {
    /// The pod.
    pub id: WorkloadId,
    /// Sidecar or router.
    pub kind: ProxyKind,
    /// Its own addresses.
    pub addresses: Vec<IpAddr>,
    /// How its traffic is captured.
    pub mode: InterceptionMode,
    /// Which filters it knows.
    pub dialect: Dialect,
    /// Where its application listens when traffic is not captured (default 127.0.0.1).
    pub app_address: IpAddr,
}

impl WorkloadKey {
    /// The projection of a proxy.
    pub fn of(view: &ProxyView) -> Self {
        Self {
            id: view.id.clone(),
            kind: view.kind,
            addresses: view.addresses.clone(),
            mode: view.mode,
            dialect: view.dialect,
            app_address: view.app_address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        }
    }
}
