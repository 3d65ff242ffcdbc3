//! Hosts that never leave their cluster.

use super::policy::ServiceSettings;

/// Which hosts are served from a proxy's own cluster only, and never exported (R4.5): those of the cluster itself
/// and of the control plane, and what the mesh says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterLocalHosts {
    defaults: [String; 3],
}

impl ClusterLocalHosts {
    /// The defaults of a mesh with this DNS domain and system namespace.
    pub fn new(domain: &str, system_namespace: &str) -> Self {
        Self {
            defaults: [
                format!("*.kube-system.svc.{domain}"),
                format!("kubernetes.default.svc.{domain}"),
                format!("istiod.{system_namespace}.svc.{domain}"),
            ],
        }
    }

    /// Whether `host` is one of the defaults.
    pub fn contains(&self, host: &str) -> bool {
        self.says(&[], host)
    }

    /// Whether `host` is one of them as the mesh says: the host itself counts most, then the longest wildcard, and
    /// among equal ones the last. Cost ∝ the rules.
    pub fn says(&self, settings: &[ServiceSettings], host: &str) -> bool {
        let kept = self.defaults.iter().filter(|default| !removed(default, settings));
        let kept = kept.map(|default| (default.as_str(), true));
        let told = settings
            .iter()
            .flat_map(|setting| setting.hosts.iter().map(move |host| (host.as_str(), setting.cluster_local)));
        let meant = |(pattern, _): &(&str, bool)| match pattern.strip_prefix('*') {
            Some(suffix) => host.len() > suffix.len() && host.ends_with(suffix),
            None => *pattern == host,
        };
        let exact = |pattern: &str| (!pattern.starts_with('*'), pattern.len());
        let found = kept.chain(told).filter(meant).max_by_key(|(pattern, _)| exact(pattern));
        found.is_some_and(|(_, local)| local)
    }
}

/// Whether the mesh takes a default away: by its name, or by a host below it.
fn removed(default: &str, settings: &[ServiceSettings]) -> bool {
    let off = settings.iter().filter(|setting| !setting.cluster_local);
    off.flat_map(|setting| &setting.hosts).any(|host| {
        let below = default.strip_prefix('*').is_some_and(|suffix| host.ends_with(suffix));
        host.as_str() == default || below
    })
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

    #[test]
    fn r4_5_the_mesh_adds_hosts_and_takes_defaults_away() {
        let local = ClusterLocalHosts::new("x", "s");
        let say = |cluster_local, host: &str| ServiceSettings { cluster_local, hosts: vec![host.into()] };
        let says = |settings: &[ServiceSettings], host| local.says(settings, host);
        assert!(!says(&[say(false, "a.kube-system.svc.x")], "b.kube-system.svc.x"), "the whole default goes");
        let both = [say(true, "*"), say(false, "*.ns.svc.x")];
        assert!(says(&both, "a.other.svc.x") && !says(&both, "a.ns.svc.x"), "the longest counts");
        assert!(!says(&[say(true, "*.ns.svc.x"), say(false, "a.ns.svc.x")], "a.ns.svc.x"), "the host itself");
    }
}
