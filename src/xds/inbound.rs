//! What is a proxy's own: inbound listeners and Envoy clusters. Never shared (D16).

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use super::resource::ResourceList;
use super::resources::{self, InboundPort};
use crate::model::{Endpoint, Name, ProxyView, ServiceKey};
use crate::registry::{Registry, ServiceSnapshot};
use crate::view::WorkloadKey;

/// The lists that belong to one proxy alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Own {
    /// Inbound Envoy clusters.
    pub(super) clusters: Arc<ResourceList>,
    /// Inbound listeners.
    pub(super) listeners: Arc<ResourceList>,
}

impl Own {
    /// Builds them for a proxy of a mesh with this trust domain; clients of its own one, where that is another
    /// (D34), are let in too. Cost ∝ the endpoints of its own services in its own cluster.
    pub(super) fn build(registry: &Registry, view: &ProxyView, trust_domain: &str) -> Self {
        let ports = ports(registry, view);
        let account = view.workload.as_ref().and_then(|pod| pod.account.as_ref());
        let own = account.map(|account| &*account.trust_domain).filter(|own| *own != trust_domain);
        let trust_domains: Vec<&str> = [trust_domain].into_iter().chain(own).collect();
        let inbound = resources::inbound(&ports, &WorkloadKey::of(view), &trust_domains);
        Self {
            clusters: Arc::new(ResourceList::new(inbound.clusters)),
            listeners: Arc::new(ResourceList::new(inbound.listeners)),
        }
    }
}

/// The services a proxy's own ports come from.
pub(super) fn services(view: &ProxyView) -> BTreeSet<ServiceKey> {
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
                service: key.clone(),
                service_port: port.number,
                target_port,
                protocol: port.protocol,
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
    use crate::model::{Locality, Node, NodeMetadata, SpiffeId, WorkloadCell, WorkloadParts};

    /// Whether clients of these trust domains are let in by a pod of `own`.
    fn lets_in(own: &str, clients: [&str; 3]) -> [bool; 3] {
        let account =
            SpiffeId { trust_domain: own.into(), namespace: "a".into(), service_account: "sa".into() };
        let pod = WorkloadCell::from(WorkloadParts { account: Some(account), ..WorkloadParts::default() });
        let id = "sidecar~10.0.0.1~p.a~a.svc.cluster.local";
        let node = Node::parse(id, NodeMetadata::default(), Locality::default(), std::iter::empty());
        let view = ProxyView::new(&node.expect("a node"), Some(pod), &"".into(), Default::default());
        let own = Own::build(&Registry::new(), &view, "mesh.org");
        let bytes: Vec<u8> =
            own.listeners.entries().iter().flat_map(|entry| entry.encoded.any.to_vec()).collect();
        let text = String::from_utf8_lossy(&bytes);
        clients.map(|domain| text.contains(&format!("spiffe://{domain}/")))
    }

    #[test]
    fn d34_clients_of_the_mesh_and_of_the_clusters_own_trust_domain_are_let_in() {
        let domains = ["mesh.org", "west.org", "north.org"];
        assert_eq!(lets_in("mesh.org", domains), [true, false, false]);
        assert_eq!(lets_in("west.org", domains), [true, true, false]);
    }
}
