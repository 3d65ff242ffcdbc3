//! Hosts that never leave their cluster.

/// Which hosts are served from a proxy's own cluster only, and never exported (R4.5): those of the cluster itself
/// and of the control plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterLocalHosts {
    /// With the leading dot.
    suffixes: Vec<String>,
    hosts: Vec<String>,
}

impl ClusterLocalHosts {
    /// The defaults of a mesh with this DNS domain and system namespace.
    pub fn new(domain: &str, system_namespace: &str) -> Self {
        Self {
            suffixes: vec![format!(".kube-system.svc.{domain}")],
            hosts: vec![
                format!("kubernetes.default.svc.{domain}"),
                format!("istiod.{system_namespace}.svc.{domain}"),
            ],
        }
    }

    /// Whether `host` is one of them. Cost ∝ the rules.
    pub fn contains(&self, host: &str) -> bool {
        self.hosts.iter().any(|local| local == host)
            || self.suffixes.iter().any(|suffix| host.ends_with(suffix.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r4_5_the_cluster_itself_and_the_control_plane_never_leave() {
        let local = ClusterLocalHosts::new("example.com", "system");
        assert!(local.contains("kube-dns.kube-system.svc.example.com"));
        assert!(local.contains("kubernetes.default.svc.example.com"));
        assert!(local.contains("istiod.system.svc.example.com"));
        assert!(!local.contains("istiod.istio-system.svc.example.com"));
        assert!(!local.contains("kubernetes.other.svc.example.com"));
        assert!(!local.contains("kube-system.svc.example.com"));
    }
}
