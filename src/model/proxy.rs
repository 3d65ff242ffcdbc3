//! Everything about a proxy that can change an answer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use serde::Serialize;

use super::{
    ClusterId, Dialect, InterceptionMode, Labels, Locality, Name, NetworkId, Node, ProxyKind, Quirk, Quirks,
    WorkloadCell, WorkloadId,
};

/// Which address families a proxy has; restricts the gateways it can reach (R4.21).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum IpFamilies {
    /// IPv4 only (IPv4-mapped IPv6 counts as IPv4).
    V4,
    /// IPv6 only.
    V6,
    /// Both.
    Dual,
}

impl IpFamilies {
    /// The families of a proxy's own addresses; none at all counts as IPv4 (R4.21).
    pub fn of(addresses: &[IpAddr]) -> Self {
        let v6 = |address: &IpAddr| matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_none());
        match (addresses.iter().any(|a| !v6(a)), addresses.iter().any(v6)) {
            (true, true) => Self::Dual,
            (false, true) => Self::V6,
            _ => Self::V4,
        }
    }

    /// The address that stands for every own one.
    pub fn wildcard(self) -> IpAddr {
        match self {
            Self::V6 => Ipv6Addr::UNSPECIFIED.into(),
            Self::V4 | Self::Dual => Ipv4Addr::UNSPECIFIED.into(),
        }
    }

    /// Whether an address of this kind can be reached.
    pub fn reaches(self, address: IpAddr) -> bool {
        self == Self::Dual || Self::of(&[address]) == self
    }
}

/// The networks a proxy asked to see (R2.8); sorted, without duplicates. Empty means all.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct RequestedView(Arc<[NetworkId]>);

impl RequestedView {
    /// A view of the given networks.
    pub fn new(mut networks: Vec<NetworkId>) -> Self {
        networks.sort();
        networks.dedup();
        Self(networks.into())
    }

    /// Whether an endpoint of `network` is visible: everything under an empty view, else the listed networks
    /// and endpoints whose network is not known.
    pub fn sees(&self, network: &NetworkId) -> bool {
        self.0.is_empty() || network.is_empty() || self.0.binary_search(network).is_ok()
    }

    /// Whether everything is visible.
    pub fn is_everything(&self) -> bool {
        self.0.is_empty()
    }
}

/// What the server knows of one proxy: its node, completed by the registry's knowledge of its pod.
///
/// No answer depends on anything else of a proxy; the cache keys are projections of this (D16).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProxyView {
    /// Sidecar or router.
    pub kind: ProxyKind,
    /// The pod.
    pub id: WorkloadId,
    /// Its network: the node's word, else its pod's, else its cluster's (Q13).
    pub network: NetworkId,
    /// Its own addresses.
    pub addresses: Vec<IpAddr>,
    /// The families of those.
    pub families: IpFamilies,
    /// The networks it asked to see.
    pub requested_view: RequestedView,
    /// DNS domain, `<namespace>.svc.cluster.local`.
    pub dns_domain: Name,
    /// How its traffic is captured.
    pub mode: InterceptionMode,
    /// Which filters it knows.
    pub dialect: Dialect,
    /// The node it runs on; empty when not known.
    pub node_name: Name,
    /// Where it runs (R2.9).
    pub locality: Locality,
    /// The name of its workload (R5.10): its pod's, else its own word; empty when neither says one.
    pub workload_name: Name,
    /// Mode NONE: bind address of outbound listeners.
    pub outbound_address: Option<IpAddr>,
    /// Mode NONE: address of the application.
    pub app_address: Option<IpAddr>,
    /// Labels of its pod as it tells them: they count where the registry does not know the pod (R2.9).
    pub labels: Labels,
    /// Whether it can send HBONE (R4.16).
    pub sends_hbone: bool,
    /// Its pod, once the registry knows it.
    pub workload: Option<WorkloadCell>,
}

impl ProxyView {
    /// Completes `node` with its pod and the network of its cluster (empty when not known). Under Q13 only the node
    /// itself says what network it is on.
    pub fn new(
        node: &Node,
        workload: Option<WorkloadCell>,
        cluster_network: &NetworkId,
        quirks: Quirks,
    ) -> Self {
        let pod_network = workload.as_deref().map(|pod| pod.network.clone()).unwrap_or_default();
        let network = [&node.network, &pod_network, cluster_network]
            .into_iter()
            .take(if quirks.has(Quirk::Q13) { 1 } else { 3 })
            .find(|network| !network.is_empty())
            .cloned()
            .unwrap_or_default();
        let pod_locality = workload.as_deref().map(|pod| pod.locality().clone()).unwrap_or_default();
        let pod_node = workload.as_deref().map(|pod| pod.node().clone()).unwrap_or_default();
        let of_pod = workload.as_deref().map(|pod| pod.workload_name()).filter(|name| !name.is_empty());
        Self {
            kind: node.kind,
            id: node.workload.clone(),
            network,
            addresses: node.addresses.clone(),
            families: IpFamilies::of(&node.addresses),
            requested_view: RequestedView::new(node.requested_view.clone()),
            dns_domain: node.dns_domain.clone(),
            mode: node.mode,
            dialect: node.dialect,
            node_name: if node.node_name.is_empty() { pod_node } else { node.node_name.clone() },
            locality: if pod_locality.is_empty() { node.locality.clone() } else { pod_locality },
            workload_name: of_pod.unwrap_or(&node.workload_name).clone(),
            outbound_address: node.outbound_address,
            app_address: node.app_address,
            labels: node.labels.clone(),
            sends_hbone: node.sends_hbone,
            workload,
        }
    }

    /// Its cluster.
    pub fn cluster(&self) -> &ClusterId {
        &self.id.cluster
    }

    /// Its namespace.
    pub fn namespace(&self) -> &Name {
        &self.id.namespace
    }

    /// One of the labels that selectors look at: its pod's, or what it says of itself while the pod is not known.
    pub fn own_label(&self, label: &str) -> Option<&str> {
        match &self.workload {
            Some(pod) => pod.own_labels.get(label).map(Name::as_str),
            None => self.labels.get(label).map(Name::as_str),
        }
    }

    /// One of the labels that failover compares (R2.9): where it runs, its cluster, node and network, and its own;
    /// absent is empty.
    pub fn label(&self, label: &str) -> &str {
        let own = || self.own_label(label).unwrap_or_default();
        let topology = match label {
            "topology.kubernetes.io/region" => &self.locality.region,
            "topology.kubernetes.io/zone" => &self.locality.zone,
            "topology.istio.io/subzone" => &self.locality.subzone,
            "kubernetes.io/hostname" => &self.node_name,
            "topology.istio.io/cluster" => {
                return if self.id.cluster.is_empty() { own() } else { &self.id.cluster };
            }
            // The label wins over what the node says.
            "topology.istio.io/network" => return if own().is_empty() { &self.network } else { own() },
            _ => return own(),
        };
        if topology.is_empty() { own() } else { topology }
    }

    /// Whether it has any label that failover could compare (R4.34).
    pub fn has_labels(&self) -> bool {
        let own = self.workload.as_ref().map_or(&self.labels, |pod| &pod.own_labels);
        let told = [self.id.cluster.as_str(), &self.network, &self.node_name];
        !own.is_empty() || !self.locality.is_empty() || told.iter().any(|text| !text.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{NodeMetadata, WorkloadParts};

    #[test]
    fn families_follow_the_addresses() {
        let of = |list: &[&str]| {
            IpFamilies::of(&list.iter().map(|text| text.parse().expect("address")).collect::<Vec<_>>())
        };
        assert_eq!(of(&["10.0.0.1"]), IpFamilies::V4);
        assert_eq!(of(&["::ffff:10.0.0.1"]), IpFamilies::V4);
        assert_eq!(of(&["fd00::1"]), IpFamilies::V6);
        assert_eq!(of(&["10.0.0.1", "fd00::1"]), IpFamilies::Dual);
        assert_eq!(of(&[]), IpFamilies::V4);
    }

    #[test]
    fn r2_9_a_proxys_word_its_pods_its_clusters_and_its_nodes_count_in_this_order() {
        let node = |network: &str, node_name: &str| {
            let metadata = NodeMetadata {
                network: network.to_owned(),
                node_name: node_name.to_owned(),
                ..NodeMetadata::default()
            };
            let id = "sidecar~10.0.0.1~p.a~a.svc.cluster.local";
            Node::parse(id, metadata, Locality::parse("r-xds/z-xds"), std::iter::empty()).expect("a node")
        };
        let pod = |network: &str, locality: &str| {
            WorkloadCell::from(WorkloadParts {
                network: network.into(),
                locality: Locality::parse(locality),
                node: "of-pod".into(),
                ..WorkloadParts::default()
            })
        };
        for (said, known, cluster, expected) in [
            (("n", "own"), Some(("p", "r-pod")), "c", ("n", "r-pod", "own")),
            (("", ""), Some(("p", "r-pod")), "c", ("p", "r-pod", "of-pod")),
            (("", ""), Some(("", "")), "c", ("c", "r-xds/z-xds", "of-pod")),
            (("", "own"), None, "c", ("c", "r-xds/z-xds", "own")),
            (("", ""), None, "", ("", "r-xds/z-xds", "")),
        ] {
            let known = known.map(|(network, locality)| pod(network, locality));
            let node = node(said.0, said.1);
            let peer = ProxyView::new(&node, known.clone(), &cluster.into(), Quirks::of([Quirk::Q13]));
            assert_eq!(&*peer.network, said.0, "Q13");
            let view = ProxyView::new(&node, known, &cluster.into(), Quirks::OURS);
            let locality = view.locality.to_string();
            assert_eq!((&*view.network, &*locality, &*view.node_name), expected, "{said:?} {cluster}");
        }
    }

    #[test]
    fn r5_10_the_name_of_a_proxys_workload_is_its_pods_or_its_own_word() {
        let metadata =
            serde_json::from_value(serde_json::json!({"WORKLOAD_NAME": "told"})).expect("metadata");
        let id = "sidecar~10.0.0.1~p.a~a.svc.cluster.local";
        let node = Node::parse(id, metadata, Locality::default(), std::iter::empty()).expect("a node");
        let name = |of_pod: Option<&str>| {
            let parts =
                of_pod.map(|name| WorkloadParts { workload_name: name.into(), ..WorkloadParts::default() });
            ProxyView::new(&node, parts.map(Into::into), &"".into(), Quirks::OURS).workload_name.to_string()
        };
        assert_eq!([Some("web"), Some(""), None].map(name), ["web", "told", "told"]);
    }

    #[test]
    fn r2_8_a_view_shows_its_networks_and_unknown_ones() {
        let view = RequestedView::new(vec!["n2".into(), "n1".into()]);
        assert!(view.sees(&"n1".into()) && view.sees(&"".into()) && !view.sees(&"n3".into()));
        assert!(RequestedView::default().sees(&"n3".into()));
    }
}
