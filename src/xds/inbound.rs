//! What is a proxy's own: inbound listeners and Envoy clusters. Never shared (D16).

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::counts::Counts;
use super::outbound::Reader;
use super::resource::ResourceList;
use super::resources::{self, Application, InboundPolicy, InboundPort};
use crate::model::policy::{AuthorizationPolicy, IngressListener, Sidecar, SidecarPort};
use crate::model::{Dialect, Endpoint, Name, ProxyKind, ProxyView, ServiceKey};
use crate::registry::{PolicySnapshot, Registry, ServiceSnapshot};
use crate::view::{Client, OutboundKey, WorkloadKey, WorkloadMtls, visibility};

/// The lists that belong to one proxy alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Own {
    /// Inbound Envoy clusters.
    pub(super) clusters: Arc<ResourceList>,
    /// Inbound listeners.
    pub(super) listeners: Arc<ResourceList>,
}

impl Own {
    /// Builds them for a proxy of a mesh with this trust domain, unless MeshConfig names another; clients of the
    /// trust domain of its own cluster, where that is another (D34), and of its aliases are let in too. Reads the
    /// policies of its namespace and of the root namespace. Cost ∝ those and the endpoints of its own services in
    /// its own cluster.
    pub(super) fn build(registry: &Registry, view: &ProxyView, trust_domain: &str, counts: &Counts) -> Self {
        if view.dialect == Dialect::Grpc {
            // Its server has listeners of its own.
            return Self::default();
        }
        let policies = registry.policies();
        if view.kind == ProxyKind::Router {
            let key = outbound_key(registry, view, &policies);
            let reader = Reader {
                registry,
                client: Client::new(&key, &policies),
                counts,
                places: &[],
                passthroughs: OnceCell::new(),
            };
            let policy = policy(&policies, view, trust_domain, None);
            let made = reader.surrounded(|around| resources::gateway_listeners(around, &policy));
            counts.gateway_conflicts.fetch_add(made.conflicts as u64, Ordering::Relaxed);
            return Self {
                clusters: ResourceList::nothing(),
                listeners: Arc::new(ResourceList::new(made.entries)),
            };
        }
        let sidecar = visibility::sidecar(view, &policies);
        let ports = match sidecar.filter(|sidecar| !sidecar.ingress.is_empty()) {
            Some(sidecar) => sidecar.ingress.iter().map(|listener| ingress(listener, view)).collect(),
            None => ports(registry, view),
        };
        let policy = policy(&policies, view, trust_domain, sidecar);
        let inbound = resources::inbound(&ports, &WorkloadKey::of(view), &policy);
        Self {
            clusters: Arc::new(ResourceList::new(inbound.clusters)),
            listeners: Arc::new(ResourceList::new(inbound.listeners)),
        }
    }
}

/// The projection of a proxy. A router listens where the Services in front of its pod lead: cost ∝ endpoints of those
/// in its own cluster.
pub(super) fn outbound_key(registry: &Registry, view: &ProxyView, policies: &PolicySnapshot) -> OutboundKey {
    let key = OutboundKey::of(view, policies);
    if key.gateways.is_empty() {
        return key;
    }
    key.listening(policies, ports(registry, view).iter().map(|port| (port.service_port, port.target_port)))
}

/// What policies say about the inbound side of a proxy.
fn policy(
    policies: &PolicySnapshot,
    view: &ProxyView,
    trust_domain: &str,
    sidecar: Option<&Sidecar>,
) -> InboundPolicy {
    let mesh = policies.mesh();
    let (namespace, root) = (view.namespace().as_str(), mesh.root_namespace.as_str());
    let label = |key: &str| view.own_label(key);
    let gateway = label(AuthorizationPolicy::GATEWAY_LABEL).filter(|_| view.kind == ProxyKind::Router);
    let mut trust_domains = vec![mesh.trust_domain.clone().unwrap_or_else(|| trust_domain.into())];
    for alias in &mesh.trust_domain_aliases {
        if !trust_domains.contains(alias) {
            trust_domains.push(alias.clone());
        }
    }
    let account = view.workload.as_ref().and_then(|pod| pod.account.as_ref());
    let own = account.map(|account| account.trust_domain.clone());
    let elsewhere = (namespace != root).then(|| policies.of::<AuthorizationPolicy>(namespace));
    let authorization =
        policies.of::<AuthorizationPolicy>(root).iter().chain(elsewhere.into_iter().flatten());
    InboundPolicy {
        own_trust_domain: own.filter(|own| !trust_domains.contains(own)),
        trust_domains,
        mtls: WorkloadMtls::of(policies, namespace, label),
        authorization: authorization
            .filter(|one| one.is_about(namespace, root, gateway, label))
            .cloned()
            .collect(),
        pool: sidecar.and_then(|sidecar| sidecar.inbound_pool.clone()),
        paths: mesh.path_normalization,
        detection_timeout: Some(mesh.protocol_detection_timeout).filter(|timeout| !timeout.is_zero()),
    }
}

/// A port that a Sidecar tells.
fn ingress(listener: &IngressListener, view: &ProxyView) -> InboundPort {
    let SidecarPort { number, protocol, .. } = listener.port;
    InboundPort {
        service: None,
        service_port: number,
        target_port: number,
        protocol,
        bind: listener.bind.filter(|bind| !bind.is_unspecified()),
        application: application(&listener.default_endpoint, view),
        pool: listener.pool.clone(),
    }
}

/// Where the application of a Sidecar's port is: `0.0.0.0` and `::` stand for the pod's own address; `None` for
/// the usual place.
fn application(endpoint: &str, view: &ProxyView) -> Option<Application> {
    if let Some(path) = endpoint.strip_prefix("unix://") {
        return Some(Application::Socket(path.into()));
    }
    let endpoint: SocketAddr = endpoint.parse().ok()?;
    let own = view.addresses.iter().find(|address| address.is_ipv4() == endpoint.is_ipv4());
    let ip =
        if endpoint.ip().is_unspecified() { own.or(view.addresses.first()).copied()? } else { endpoint.ip() };
    Some(Application::At(ip, endpoint.port()))
}

/// The services a proxy's own ports come from.
pub(super) fn services(view: &ProxyView) -> BTreeSet<ServiceKey> {
    // A client of gRPC is told nothing of its own pod.
    if view.dialect == Dialect::Grpc {
        return BTreeSet::new();
    }
    view.workload.iter().flat_map(|pod| pod.services.iter().cloned()).collect()
}

/// The proxy's own ports, those of the oldest service first.
fn ports(registry: &Registry, view: &ProxyView) -> Vec<InboundPort> {
    let Some(pod) = view.workload.as_ref() else {
        return Vec::new();
    };
    let mut ports = Vec::new();
    for key in pod.services.iter() {
        let Some(snapshot) = registry.service(key).map(|cell| cell.load()) else {
            continue;
        };
        let Some(shard) = snapshot.shard(view.cluster()) else {
            continue;
        };
        let Some(record) = shard.service.as_deref() else {
            continue;
        };
        let is_own =
            |endpoint: &&Endpoint| endpoint.addresses.first().is_some_and(|ip| pod.addresses.contains(ip));
        let own = shard.endpoints.iter().filter(is_own);
        let targets: BTreeSet<(&Name, u16)> =
            own.map(|endpoint| (&endpoint.port_name, endpoint.port)).collect();
        for (name, target_port) in targets {
            let Some(port) = record.ports.iter().find(|port| port.name == *name) else {
                continue;
            };
            let inbound = InboundPort {
                service: Some(key.clone()),
                service_port: port.number,
                target_port,
                protocol: port.protocol,
                bind: None,
                application: None,
                pool: None,
            };
            ports.push((record.created, inbound));
        }
    }
    ports.sort_by(|(created, a), (other, b)| {
        (created, &a.service, a.service_port).cmp(&(other, &b.service, b.service_port))
    });
    ports.into_iter().map(|(_, port)| port).collect()
}

/// A digest of which target ports a service has in each cluster: endpoints come and go without changing it, so
/// the pods behind the service need not look again. Cost ∝ endpoints.
pub(super) fn target_ports(snapshot: &ServiceSnapshot) -> u64 {
    let mut hasher = DefaultHasher::new();
    for shard in &snapshot.shards {
        let targets: BTreeSet<(&Name, u16)> =
            shard.endpoints.iter().map(|endpoint| (&endpoint.port_name, endpoint.port)).collect();
        (&shard.cluster, targets).hash(&mut hasher);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::policy::{AuthorizationAction, MeshConfig, PolicyId, PolicyMeta, WorkloadSelector};
    use crate::model::{Locality, Node, NodeMetadata, SpiffeId, WorkloadCell, WorkloadParts};
    use crate::registry::PolicyObject;

    /// Whether clients of these trust domains are let in by a pod of `own`.
    fn lets_in(own: &str, clients: [&str; 3]) -> [bool; 3] {
        let account =
            SpiffeId { trust_domain: own.into(), namespace: "a".into(), service_account: "sa".into() };
        let pod = WorkloadCell::from(WorkloadParts { account: Some(account), ..WorkloadParts::default() });
        let id = "sidecar~10.0.0.1~p.a~a.svc.cluster.local";
        let node = Node::parse(id, NodeMetadata::default(), Locality::default(), std::iter::empty());
        let view = ProxyView::new(&node.expect("a node"), Some(pod), &"".into(), Default::default());
        let own = Own::build(&Registry::new(), &view, "mesh.org", &Counts::default());
        let bytes: Vec<u8> =
            own.listeners.entries().iter().flat_map(|entry| entry.encoded.any.to_vec()).collect();
        let text = String::from_utf8_lossy(&bytes);
        clients.map(|domain| text.contains(&format!("spiffe://{domain}/")))
    }

    #[test]
    fn policies_with_targets_are_about_the_gateways_they_name_and_no_sidecar() {
        let policy_of = |namespace: &str, targets: &[&str], selected: Option<&str>| {
            let labels = selected.map(|app| ("app".into(), app.into()));
            let object = AuthorizationPolicy {
                meta: PolicyMeta { created: 1, id: PolicyId::new(namespace, "p") },
                selector: WorkloadSelector::new(labels.into_iter().collect()),
                targets: Some(targets.iter().map(|&name| name.into()).collect()),
                dry_run: false,
                action: AuthorizationAction::Deny,
                rules: Vec::new(),
                problems: Vec::new(),
            };
            PolicySnapshot::with(MeshConfig::default(), [PolicyObject::AuthorizationPolicy(Arc::new(object))])
        };
        let found = |kind: &str, gateway: &str, policies: &PolicySnapshot| {
            let mut labels = vec![("app", "web")];
            labels.extend((!gateway.is_empty()).then_some((AuthorizationPolicy::GATEWAY_LABEL, gateway)));
            let metadata = NodeMetadata {
                namespace: "a".to_owned(),
                labels: labels
                    .into_iter()
                    .collect::<Vec<_>>()
                    .into_iter()
                    .map(|(k, v)| (k.into(), v.into()))
                    .collect(),
                ..NodeMetadata::default()
            };
            let id = format!("{kind}~10.0.0.1~p.a~a.svc.cluster.local");
            let node = Node::parse(&id, metadata, Locality::default(), std::iter::empty());
            let view = ProxyView::new(&node.expect("a node"), None, &"".into(), Default::default());
            policy(policies, &view, "mesh.org", None).authorization.len()
        };
        let edge = policy_of("a", &["edge"], None);
        assert_eq!(["edge", "other", ""].map(|name| found("router", name, &edge)), [1, 0, 0]);
        assert_eq!(["edge", ""].map(|name| found("sidecar", name, &edge)), [0, 0], "it is no gateway");
        assert_eq!(
            found("router", "edge", &policy_of("istio-system", &["edge"], None)),
            0,
            "another's gateway"
        );
        let any = policy_of("a", &[AuthorizationPolicy::ANY_GATEWAY], None);
        assert_eq!(["edge", ""].map(|name| found("router", name, &any)), [1, 0]);
        assert_eq!(found("router", "edge", &policy_of("a", &[], None)), 0, "a target that is no proxy");
        assert_eq!(
            found("sidecar", "", &policy_of("a", &["edge"], Some("web"))),
            1,
            "the selector beside it"
        );
    }

    #[test]
    fn d34_clients_of_the_mesh_and_of_the_clusters_own_trust_domain_are_let_in() {
        let domains = ["mesh.org", "west.org", "north.org"];
        assert_eq!(lets_in("mesh.org", domains), [true, false, false]);
        assert_eq!(lets_in("west.org", domains), [true, true, false]);
    }
}
