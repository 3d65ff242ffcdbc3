//! Mesh-wide rules of the configuration.

use std::collections::BTreeSet;

use crate::model::{ClusterLocalHosts, NetworkId, Quirks, SessionLabels};

/// What the configuration says about the whole mesh. Fixed for the life of the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeshRules {
    reachable: BTreeSet<(NetworkId, NetworkId)>,
    local: ClusterLocalHosts,
    quirks: Quirks,
    session_labels: SessionLabels,
}

impl MeshRules {
    /// The rules of a mesh with this DNS domain. `reachable` lists pairs of networks that reach each other
    /// directly (D2); the order inside a pair does not matter.
    pub fn new(
        domain: &str,
        system_namespace: &str,
        reachable: impl IntoIterator<Item = (NetworkId, NetworkId)>,
    ) -> Self {
        let both = |(a, b): (NetworkId, NetworkId)| [(a.clone(), b.clone()), (b, a)];
        Self {
            reachable: reachable.into_iter().flat_map(both).collect(),
            local: ClusterLocalHosts::new(domain, system_namespace),
            quirks: Quirks::OURS,
            session_labels: SessionLabels::default(),
        }
    }

    /// The same rules, with the peer's answers in these rows (D1).
    pub fn with_quirks(self, quirks: Quirks) -> Self {
        Self { quirks, ..self }
    }

    /// The same rules, with sticky sessions marked by these labels.
    pub fn with_session_labels(self, session_labels: SessionLabels) -> Self {
        Self { session_labels, ..self }
    }

    /// Which Services have sticky sessions (R4.9).
    pub fn session_labels(&self) -> &SessionLabels {
        &self.session_labels
    }

    /// Where proxies are answered as the peer does.
    pub fn quirks(&self) -> Quirks {
        self.quirks
    }

    /// Whether workloads of `a` reach those of `b` directly although the networks differ (D2).
    pub fn reachable(&self, a: &NetworkId, b: &NetworkId) -> bool {
        self.reachable.contains(&(a.clone(), b.clone()))
    }

    /// Whether a host is served from the proxy's own cluster only (R4.5).
    pub fn cluster_local(&self, host: &str) -> bool {
        self.local.contains(host)
    }
}

impl Default for MeshRules {
    fn default() -> Self {
        Self::new("cluster.local", "istio-system", [])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r4_5_default_cluster_local_hosts() {
        let rules = MeshRules::default();
        assert!(rules.cluster_local("kube-dns.kube-system.svc.cluster.local"));
        assert!(rules.cluster_local("kubernetes.default.svc.cluster.local"));
        assert!(rules.cluster_local("istiod.istio-system.svc.cluster.local"));
        assert!(!rules.cluster_local("kubernetes.other.svc.cluster.local"));
        assert!(!rules.cluster_local("a.default.svc.cluster.local"));
    }

    #[test]
    fn d02_reachable_pairs_hold_both_ways() {
        let rules = MeshRules::new("cluster.local", "istio-system", [("a".into(), "b".into())]);
        assert!(rules.reachable(&"b".into(), &"a".into()));
        assert!(!rules.reachable(&"a".into(), &"c".into()));
    }
}
