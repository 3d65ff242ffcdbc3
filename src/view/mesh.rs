//! Mesh-wide rules of the configuration.

use std::collections::BTreeSet;

use crate::model::policy::MeshConfig;
use crate::model::{
    ClusterId, ClusterLocalHosts, Features, InterceptionMode, Labels, NetworkId, ProxyKind, Quirk, Quirks,
    Resolution, Service, SessionLabels,
};

/// What the configuration says about the whole mesh. Fixed for the life of the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeshRules {
    reachable: BTreeSet<(NetworkId, NetworkId)>,
    local: ClusterLocalHosts,
    quirks: Quirks,
    session_labels: SessionLabels,
    features: Features,
    config_cluster: Option<ClusterId>,
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
            features: Features::default(),
            config_cluster: None,
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

    /// The same rules, with these switches.
    pub fn with_features(self, features: Features) -> Self {
        Self { features, ..self }
    }

    /// The same rules, with this config cluster.
    pub fn with_config_cluster(self, cluster: Option<ClusterId>) -> Self {
        Self { config_cluster: cluster, ..self }
    }

    /// The switches.
    pub fn features(&self) -> &Features {
        &self.features
    }

    /// The config cluster, if there is one.
    pub fn config_cluster(&self) -> Option<&ClusterId> {
        self.config_cluster.as_ref()
    }

    /// The labels that mark sticky sessions.
    pub fn session_labels(&self) -> &SessionLabels {
        &self.session_labels
    }

    /// Whether a service with these labels keeps its draining endpoints for sticky sessions (R4.9; Q10: only the
    /// cookie label does).
    pub fn is_sticky(&self, labels: &Labels) -> bool {
        if self.quirks.has(Quirk::Q10) {
            return labels.get(&self.session_labels.cookie).is_some_and(|value| !value.is_empty());
        }
        self.session_labels.mark(labels)
    }

    /// Where proxies are answered as the peer does.
    pub fn quirks(&self) -> Quirks {
        self.quirks
    }

    /// Whether proxies leave connections to a service at the address that the client chose: sidecars that capture them,
    /// for headless services (R5.21).
    pub fn leaves_address(&self, service: &Service, kind: ProxyKind, mode: InterceptionMode) -> bool {
        service.resolution == Resolution::Passthrough
            && !self.features.eds_for_headless
            && kind == ProxyKind::Sidecar
            && mode != InterceptionMode::None
    }

    /// Whether workloads of `a` reach those of `b` directly although the networks differ (D2).
    pub fn reachable(&self, a: &NetworkId, b: &NetworkId) -> bool {
        self.reachable.contains(&(a.clone(), b.clone()))
    }

    /// Whether a host is served from the proxy's own cluster only (R4.5).
    pub fn cluster_local(&self, config: &MeshConfig, host: &str) -> bool {
        self.local.says(&config.service_settings, host)
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
        assert!(rules.cluster_local(&MeshConfig::default(), "kube-dns.kube-system.svc.cluster.local"));
        assert!(rules.cluster_local(&MeshConfig::default(), "kubernetes.default.svc.cluster.local"));
        assert!(rules.cluster_local(&MeshConfig::default(), "istiod.istio-system.svc.cluster.local"));
        assert!(!rules.cluster_local(&MeshConfig::default(), "kubernetes.other.svc.cluster.local"));
        assert!(!rules.cluster_local(&MeshConfig::default(), "a.default.svc.cluster.local"));
    }

    #[test]
    fn d02_reachable_pairs_hold_both_ways() {
        let rules = MeshRules::new("cluster.local", "istio-system", [("a".into(), "b".into())]);
        assert!(rules.reachable(&"b".into(), &"a".into()));
        assert!(!rules.reachable(&"a".into(), &"c".into()));
    }
}
