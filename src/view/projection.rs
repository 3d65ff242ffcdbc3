//! Projections: the part of a proxy that one kind of resource may read (D16).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use serde::Serialize;

use super::lb::{self, Plan, Setting};
use super::{Destination, EdsName, InternalListener, MeshRules, Siblings, visibility};
use crate::model::policy::{
    DestinationRule, Gateway, MESH_GATEWAY, MeshConfig, PolicyId, Sources, TrafficSettings, VirtualService,
};
use crate::model::{
    ClusterId, Dialect, InterceptionMode, IpFamilies, Labels, Locality, Name, NetworkId, ProxyKind,
    ProxyView, Quirk, Quirks, RequestedView, Service, ServiceKey, WorkloadId,
};
use crate::registry::{PolicySnapshot, ServiceSnapshot};

/// The part a proxy plays (R4.21).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Beside a workload.
    Sidecar,
    /// A gateway that nobody manages.
    Router,
    /// A gateway made for a Gateway object.
    Ingress,
    /// A waypoint of the ambient mesh.
    Waypoint,
    /// An east-west gateway of the ambient mesh.
    EastWest,
}

/// Label of managed gateways with the controller that made them.
const MANAGED: &str = "gateway.istio.io/managed";

impl Role {
    /// The part of a proxy, by its kind and the label of managed gateways.
    pub fn of(view: &ProxyView) -> Self {
        match (view.kind, view.own_label(MANAGED)) {
            (ProxyKind::Sidecar, _) => Self::Sidecar,
            (ProxyKind::Router, Some("istio.io-gateway-controller")) => Self::Ingress,
            (ProxyKind::Router, Some("istio.io-mesh-controller")) => Self::Waypoint,
            (ProxyKind::Router, Some("istio.io-eastwest-controller")) => Self::EastWest,
            (ProxyKind::Router, _) => Self::Router,
        }
    }
}

/// All that an assignment may depend on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct EdsKey {
    /// Its part. Managed gateways differ from others in the ambient mesh only.
    pub role: Role,
    /// The proxy's cluster.
    pub cluster: ClusterId,
    /// The proxy's network.
    pub network: NetworkId,
    /// The families of its own addresses: which gateways it can reach.
    pub families: IpFamilies,
    /// The networks it asked to see.
    pub requested_view: RequestedView,
    /// The namespace of the service that the host name means for the proxy; `None` when it sees none (R4.2).
    pub namespace: Option<Name>,
    /// The DestinationRules that hold for the proxy and this host, in order (R4.3).
    pub rules: Vec<PolicyId>,
    /// Whether it may use HBONE (R4.16).
    pub hbone: bool,
    /// Its node, only for services that are served from the own node (R4.9).
    pub node: Option<Name>,
    /// Where it runs, as far as the locality setting of the service compares it (R4.32, R4.33, R4.35).
    pub locality: Option<Locality>,
    /// Its values of the labels that the locality setting of the service compares (R4.34); the node name is one of
    /// them (Q22).
    pub labels: Option<Vec<(Name, Name)>>,
    /// Whose siblings are asked for, only for [`LOCAL_CLUSTER`](super::LOCAL_CLUSTER) (R4.9.10).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub siblings: Option<Box<Siblings>>,
}

impl EdsKey {
    /// The projection of a sidecar for a service that no rule reads more for.
    pub fn plain(cluster: impl Into<ClusterId>, network: impl Into<NetworkId>, service: &ServiceKey) -> Self {
        Self {
            role: Role::Sidecar,
            cluster: cluster.into(),
            network: network.into(),
            families: IpFamilies::V4,
            requested_view: RequestedView::default(),
            namespace: Some(service.namespace.clone()),
            rules: Vec::new(),
            hbone: false,
            node: None,
            locality: None,
            labels: None,
            siblings: None,
        }
    }

    /// The projection for assignments of `name`. `candidates` are the services of that host name, one per namespace. What
    /// rules may compare is there only where a rule of that service compares it. It changes with the proxy, with the
    /// merged records of the candidates, and with the policies: MeshConfig, the Sidecars of the proxy's namespace and
    /// the root's, the DestinationRules about the host, the VirtualServices that lead there.
    pub fn of(
        view: &ProxyView,
        name: &EdsName,
        candidates: &[Arc<ServiceSnapshot>],
        policies: &PolicySnapshot,
        mesh: &MeshRules,
    ) -> Self {
        let found = visibility::meant(view, name, candidates, policies);
        let service = found.as_deref().and_then(|found| found.service.as_deref());
        Self::meaning(view, name, service, policies, mesh)
    }

    /// The projection for assignments of `name` where that means `service`, or nothing at all.
    pub(super) fn meaning(
        view: &ProxyView,
        name: &EdsName,
        service: Option<&Service>,
        policies: &PolicySnapshot,
        mesh: &MeshRules,
    ) -> Self {
        let key = Self {
            hbone: mesh.features().ambient && view.sends_hbone,
            ..Self::without_rules(view, service, mesh)
        };
        match service {
            Some(service) => key.with_rules(view, name, service, policies, mesh),
            None => key,
        }
    }

    /// The projection for [`LOCAL_CLUSTER`](super::LOCAL_CLUSTER), of the proxy's own `services` (R4.9.10). It changes with the
    /// proxy and with what any cluster tells of these. Proxies of one workload that see the same have the same one.
    pub fn of_siblings(view: &ProxyView, services: &[Arc<ServiceSnapshot>], mesh: &MeshRules) -> Self {
        let Some((service, siblings)) = Siblings::of(view, services) else {
            return Self::without_rules(view, None, mesh);
        };
        Self { siblings: Some(Box::new(siblings)), ..Self::without_rules(view, Some(service), mesh) }
    }

    /// What a name means under this projection; `None` where it means no service.
    pub fn meant(&self, name: &str) -> Option<EdsName> {
        match &self.siblings {
            Some(siblings) => Some(siblings.name()),
            None => EdsName::parse(name),
        }
    }

    fn without_rules(view: &ProxyView, service: Option<&Service>, mesh: &MeshRules) -> Self {
        let role = match Role::of(view) {
            Role::Sidecar => Role::Sidecar,
            role if mesh.features().ambient => role,
            _ => Role::Router,
        };
        Self {
            role,
            cluster: view.cluster().clone(),
            network: view.network.clone(),
            families: view.families,
            requested_view: view.requested_view.clone(),
            namespace: service.map(|service| service.key.namespace.clone()),
            rules: Vec::new(),
            hbone: false,
            node: service.filter(|service| service.node_local).map(|_| view.node_name.clone()),
            locality: None,
            labels: None,
            siblings: None,
        }
    }

    fn with_rules(
        mut self,
        view: &ProxyView,
        name: &EdsName,
        service: &Service,
        policies: &PolicySnapshot,
        mesh: &MeshRules,
    ) -> Self {
        let destination = Destination::of(view, &service.key, policies);
        self.rules = destination.ids();
        let settings = destination.settings(name.port, &name.subset);
        let plan = plan_of(&settings, service, policies.mesh(), mesh.quirks(), self.role);
        self.locality = match &plan {
            Plan::ZoneAware { .. } => {
                Some(Locality { region: view.locality.region.clone(), ..Locality::default() })
            }
            plan => plan.compares_localities().then(|| view.locality.clone()),
        };
        if plan.compares_labels() && view.has_labels() {
            self.labels = Some(plan.labels().map(|key| (key.into(), view.label(key).into())).collect());
        }
        self
    }
}

/// What is to be done about localities, for a proxy that plays this part (R4.29–R4.31, R4.35).
pub(super) fn plan_of<'a>(
    settings: &'a TrafficSettings,
    service: &Service,
    mesh: &'a MeshConfig,
    quirks: Quirks,
    role: Role,
) -> Plan<'a> {
    let setting = lb::setting(settings.load_balancer.as_ref(), service.traffic_distribution, mesh);
    let default = mesh.outlier_detection.is_some() && !quirks.has(Quirk::Q19);
    match setting {
        Some(Setting::ZoneAware(..)) if role == Role::Waypoint => Plan::Unchanged,
        setting => lb::plan(setting, settings.outlier_detection.is_some() || default, quirks),
    }
}

/// All that outbound Envoy clusters, listeners and routes may depend on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct OutboundKey {
    /// Sidecar or router.
    pub kind: ProxyKind,
    /// The proxy's cluster: VIPs differ by cluster (R5.28).
    pub cluster: ClusterId,
    /// The proxy's network, and those it asked to see: which endpoints told with Envoy clusters are near (R3.14).
    pub network: NetworkId,
    /// See [`network`](Self::network).
    pub requested_view: RequestedView,
    /// The proxy's namespace: visibility and short names.
    pub namespace: Name,
    /// The proxy's DNS domain: short names.
    pub dns_domain: Name,
    /// How its traffic is captured: the shape of listeners.
    pub mode: InterceptionMode,
    /// What it understands.
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
    /// The internal listeners that its assignments may name (R4.17, R4.24): without HBONE none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tunnels: Vec<InternalListener>,
    /// Where its pod listens for ports that servers of its Gateways name, by port: where a Service in front of it leads
    /// that port to another one. Never for a sidecar.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<(u16, u16)>,
    /// Those of its labels that a policy about its calls asks for, with the value that is asked for.
    pub labels: Labels,
}

impl OutboundKey {
    /// The projection of a proxy under these policies in a mesh without HBONE ([`Self::tunnelling`]), before it is known
    /// what Services lead to it ([`Self::listening`]).
    pub fn of(view: &ProxyView, policies: &PolicySnapshot) -> Self {
        let uncaptured = view.mode == InterceptionMode::None;
        let bind = match view.kind {
            ProxyKind::Sidecar => Some(view.outbound_address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))),
            ProxyKind::Router => view.addresses.first().copied(),
        };
        Self {
            kind: view.kind,
            cluster: view.cluster().clone(),
            network: view.network.clone(),
            requested_view: view.requested_view.clone(),
            namespace: view.namespace().clone(),
            dns_domain: view.dns_domain.clone(),
            mode: view.mode,
            dialect: view.dialect,
            families: view.families,
            bind: bind.filter(|_| uncaptured),
            east_west: view.kind == ProxyKind::Router && !view.requested_view.is_everything(),
            sidecar: visibility::sidecar(view, policies).map(|sidecar| sidecar.meta.id.clone()),
            gateways: gateways(view, policies),
            tunnels: Vec::new(),
            targets: Vec::new(),
            labels: asked_labels(view, policies),
        }
    }
}

impl OutboundKey {
    /// The same in this mesh, whose assignments may name internal listeners. Routers get them in any case: what leads
    /// to waypoints is always HBONE (R4.16).
    #[must_use]
    pub fn tunnelling(mut self, view: &ProxyView, mesh: &MeshRules) -> Self {
        let (features, role) = (mesh.features(), Role::of(view));
        let single = features.ambient && (view.sends_hbone || role != Role::Sidecar);
        let double = features.multi_network && role != Role::Sidecar;
        let single = single.then(|| InternalListener::to_endpoints(role));
        self.tunnels =
            single.into_iter().chain(double.then_some(InternalListener::InnerConnectOriginate)).collect();
        self
    }

    /// Where listeners bind that name no address.
    pub fn anywhere(&self) -> IpAddr {
        self.bind.unwrap_or_else(|| self.families.wildcard())
    }

    /// The same router where Services lead to these ports of its pod: port of the Service and port of the pod, those
    /// of the oldest Service first. Of a port that several lead elsewhere the first one counts.
    pub fn listening(mut self, policies: &PolicySnapshot, own: impl IntoIterator<Item = (u16, u16)>) -> Self {
        let gateways = policies.of::<Gateway>("").iter();
        let gateways = gateways.filter(|gateway| self.gateways.contains(&gateway.meta.id));
        let named: BTreeSet<u16> =
            gateways.flat_map(|gateway| &gateway.servers).map(|server| server.port).collect();
        let mut targets = BTreeMap::new();
        for (port, target) in own.into_iter().filter(|(port, _)| named.contains(port)) {
            targets.entry(port).or_insert(target);
        }
        self.targets = targets.into_iter().filter(|(port, target)| port != target).collect();
        self
    }

    /// Where a server of a Gateway on `port` listens.
    pub fn target(&self, port: u16) -> u16 {
        let found = self.targets.iter().find(|(of, _)| *of == port);
        found.map_or(port, |(_, target)| *target)
    }
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

/// The labels that policies about its calls ask of a proxy and that it has: those of selectors and conditions that
/// hold as a whole, in DestinationRules of its namespace and in VirtualServices that it may see. Others cannot become
/// true by a part of their labels. Cost ∝ those policies alone.
fn asked_labels(view: &ProxyView, policies: &PolicySnapshot) -> Labels {
    let label = |key: &str| view.own_label(key);
    let rules = policies.of::<DestinationRule>(&DestinationRule::selecting(view.namespace()));
    let rules = rules.iter().filter(|rule| rule.selector.selects(label));
    let of_rules = rules.flat_map(|rule| rule.selector.labels().iter());
    let gateways = gateways(view, policies);
    let behind: Vec<_> = gateways.iter().map(ToString::to_string).chain([MESH_GATEWAY.to_owned()]).collect();
    let default = &policies.mesh().default_virtual_service_export_to;
    let is_seen = |one: &&Arc<VirtualService>| {
        let own = &one.meta.id.namespace;
        (own == view.namespace() || one.export_to.reaches(view.namespace(), own, default))
            && behind.iter().any(|name| one.is_for(name))
    };
    let holds = |sources: &&Sources| {
        let port = sources.port.unwrap_or_default();
        behind.iter().any(|name| sources.include(name, view.namespace(), port, label))
    };
    let routes = policies.of::<VirtualService>(VirtualService::WITH_LABELS).iter().filter(is_seen);
    let of_routes =
        routes.flat_map(|one| one.sources()).filter(holds).flat_map(|sources| sources.labels.iter());
    of_rules.chain(of_routes).map(|(label, value)| (label.clone(), value.clone())).collect()
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
    /// What it understands.
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
