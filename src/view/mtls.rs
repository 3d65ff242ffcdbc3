//! Which mTLS a workload asks for, and whether it is spoken to an endpoint (R4.12).

use super::{Destination, EdsName};
use crate::model::Workload;
use crate::model::policy::{ClientTlsMode, MtlsMode, PeerAuthentication};
use crate::registry::PolicySnapshot;

/// Which mTLS one workload asks for: on ports that a policy names, and on all others.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkloadMtls {
    mode: MtlsMode,
    /// Sorted by target port, each once.
    ports: Vec<(u16, MtlsMode)>,
}

impl WorkloadMtls {
    /// What holds for a workload of `namespace`; `label` looks one of its labels up (R4.12.3): the policy that
    /// selects it, then that of its namespace, then that of the root namespace, of each the oldest; a policy that
    /// leaves the mode open inherits. Policies of the root namespace that select workloads do not apply, not even
    /// to those of the root namespace. Reads the [`PeerAuthentication`]s of both namespaces.
    pub fn of<'a>(
        policies: &PolicySnapshot,
        namespace: &str,
        label: impl Fn(&str) -> Option<&'a str>,
    ) -> Self {
        let root = policies.mesh().root_namespace.as_str();
        let of_root = policies.of::<PeerAuthentication>(root);
        let of_own: &[_] = if namespace == root { &[] } else { policies.of::<PeerAuthentication>(namespace) };
        let wide = |policy: &&std::sync::Arc<PeerAuthentication>| policy.selector.is_everything();
        let own = of_own.iter().find(|policy| !wide(policy) && policy.selector.selects(&label));
        let scopes = [own, of_own.iter().find(wide), of_root.iter().find(wide)];
        let mode = scopes.into_iter().flatten().find_map(|policy| policy.mode).unwrap_or_default();
        let named = own.into_iter().flat_map(|policy| &policy.ports);
        let mut ports: Vec<_> = named.map(|&(port, of_port)| (port, of_port.unwrap_or(mode))).collect();
        // Of a port that is named twice the stricter mode.
        ports.sort_by(|(port, a), (other, b)| (port, b).cmp(&(other, a)));
        ports.dedup_by_key(|(port, _)| *port);
        Self { mode, ports }
    }

    /// On ports that no policy names.
    pub fn mode(&self) -> MtlsMode {
        self.mode
    }

    /// On a target port.
    pub fn on_port(&self, port: u16) -> MtlsMode {
        self.ports.iter().find(|(named, _)| *named == port).map_or(self.mode, |(_, mode)| *mode)
    }

    /// The target ports that are named, sorted, with their modes.
    pub fn ports(&self) -> &[(u16, MtlsMode)] {
        &self.ports
    }
}

/// What PeerAuthentications give a workload of `namespace` for one of its target ports ([`WorkloadMtls`]).
pub fn mode<'a>(
    policies: &PolicySnapshot,
    namespace: &str,
    port: u16,
    label: impl Fn(&str) -> Option<&'a str>,
) -> MtlsMode {
    WorkloadMtls::of(policies, namespace, label).on_port(port)
}

/// Whether a PeerAuthentication of `namespace` selects by a label that pods of one profile do not share.
pub(super) fn asks_for_place(policies: &PolicySnapshot, namespace: &str) -> bool {
    let mut all = policies.of::<PeerAuthentication>(namespace).iter();
    all.any(|policy| policy.selector.labels().iter().any(|(label, _)| Workload::is_of_place(label)))
}

/// The TLS mode that DestinationRules tell for a name, if any (R4.12.1).
pub(super) fn told(destination: &Destination, name: &EdsName) -> Option<ClientTlsMode> {
    destination.rule()?.tls(name.port, &name.subset).map(|tls| tls.mode)
}

/// Whether mesh mTLS is meant for an endpoint: the DestinationRule decides alone if it says anything; else the endpoint
/// must offer it and its PeerAuthentication must not forbid it.
pub fn is_meant(
    rule: Option<ClientTlsMode>,
    policies: &PolicySnapshot,
    workload: &Workload,
    port: u16,
) -> bool {
    match rule {
        Some(mode) => mode == ClientTlsMode::IstioMutual,
        None => {
            workload.tls_mode_text() == "istio"
                && mode(policies, &workload.namespace, port, |key| workload.label(key)) != MtlsMode::Disable
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::policy::{MeshConfig, PolicyId, PolicyMeta, WorkloadSelector};
    use crate::model::{TlsMode, WorkloadParts};
    use crate::registry::PolicyObject;

    use MtlsMode::{Disable, Permissive, Strict};

    /// `(namespace, created, app, mode, ports)`; an empty app selects everything.
    type Row<'a> = (&'a str, i64, &'a str, Option<MtlsMode>, &'a [(u16, Option<MtlsMode>)]);

    fn policies(rows: &[Row<'_>]) -> PolicySnapshot {
        let objects = rows.iter().map(|&(namespace, created, app, mode, ports)| {
            let labels = (!app.is_empty()).then(|| ("app".into(), app.into()));
            PolicyObject::PeerAuthentication(Arc::new(PeerAuthentication {
                meta: PolicyMeta { created, id: PolicyId::new(namespace, format!("p{created}")) },
                selector: WorkloadSelector::new(labels.into_iter().collect()),
                mode,
                ports: ports.to_vec(),
            }))
        });
        PolicySnapshot::with(MeshConfig::default(), objects)
    }

    /// On port 80, and on one that no policy names, of a workload `app: a`.
    fn modes(rows: &[Row<'_>], namespace: &str) -> [MtlsMode; 2] {
        let policies = policies(rows);
        let mtls = WorkloadMtls::of(&policies, namespace, |key| (key == "app").then_some("a"));
        [mtls.on_port(80), mtls.on_port(9000)]
    }

    #[test]
    fn r4_12_the_nearest_scope_wins_and_open_modes_inherit() {
        let mesh: Row<'_> = ("istio-system", 1, "", Some(Strict), &[]);
        let space: Row<'_> = ("ns", 2, "", Some(Disable), &[]);
        assert_eq!(modes(&[], "ns"), [Permissive; 2]);
        assert_eq!(modes(&[mesh], "ns"), [Strict; 2]);
        assert_eq!(modes(&[mesh, space], "ns"), [Disable; 2]);
        assert_eq!(modes(&[mesh, space], "other"), [Strict; 2]);
        assert_eq!(modes(&[mesh, ("ns", 2, "", None, &[])], "ns"), [Strict; 2]);
        let own: Row<'_> = ("ns", 3, "a", Some(Permissive), &[(80, Some(Strict)), (81, None)]);
        assert_eq!(modes(&[mesh, space, own], "ns"), [Strict, Permissive]);
        let of_port: Row<'_> = ("ns", 3, "a", Some(Strict), &[(80, Some(Disable))]);
        assert_eq!(modes(&[of_port], "ns"), [Disable, Strict]);
        assert_eq!(modes(&[space, ("ns", 3, "a", Some(Strict), &[])], "ns"), [Strict; 2]);
        let open: Row<'_> = ("ns", 3, "a", None, &[(80, None)]);
        assert_eq!(modes(&[mesh, space, open], "ns"), [Disable; 2]);
        assert_eq!(modes(&[mesh, ("ns", 3, "b", Some(Disable), &[])], "ns"), [Strict; 2]);
    }

    #[test]
    fn r4_12_the_oldest_counts_and_selectors_of_the_root_namespace_do_not() {
        let old: Row<'_> = ("ns", 1, "a", Some(Strict), &[]);
        let young: Row<'_> = ("ns", 2, "a", Some(Disable), &[(80, Some(Permissive))]);
        assert_eq!(modes(&[young, old], "ns"), [Strict; 2]);
        let wide = |created, mode| -> Row<'_> { ("ns", created, "", Some(mode), &[]) };
        assert_eq!(modes(&[wide(3, Strict), wide(2, Disable)], "ns"), [Disable; 2]);
        let selecting: Row<'_> = ("istio-system", 1, "a", Some(Strict), &[]);
        assert_eq!(modes(&[selecting], "ns"), [Permissive; 2]);
        assert_eq!(modes(&[selecting], "istio-system"), [Permissive; 2]);
        let ports_of_all: Row<'_> = ("ns", 1, "", Some(Permissive), &[(80, Some(Strict))]);
        assert_eq!(modes(&[ports_of_all], "ns"), [Permissive; 2], "ports are read only with a selector");
    }

    #[test]
    fn r4_12_a_rule_decides_alone() {
        let (off, none) = (policies(&[("ns", 1, "", Some(Disable), &[])]), policies(&[]));
        let meant = |rule, policies, tls_mode| {
            let parts = WorkloadParts { namespace: "ns".into(), tls_mode, ..WorkloadParts::default() };
            is_meant(rule, policies, &parts.into(), 8080)
        };
        let (istio, plain) = (TlsMode::Istio, TlsMode::Disabled);
        assert!(meant(Some(ClientTlsMode::IstioMutual), &off, istio));
        assert!(!meant(Some(ClientTlsMode::Simple), &none, istio));
        assert!(meant(None, &none, istio) && !meant(None, &off, istio) && !meant(None, &none, plain));
    }
}
