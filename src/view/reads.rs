//! Which parts of the policies an assignment depends on (D14).

use crate::model::Name;
use crate::model::policy::{PolicyKind, PolicyPart, wildcards};
use crate::registry::PolicySnapshot;

/// The parts, with their versions, ordered: MeshConfig, the DestinationRules about the host and those wildcards that
/// mean it, the PeerAuthentications of the namespaces of its endpoints and of the root. Parts that nobody told are among
/// them: they may come.
pub(super) fn policies(policies: &PolicySnapshot, host: &str, namespaces: &[Name]) -> Vec<(PolicyPart, u64)> {
    let part = |kind, scope: Name| PolicyPart { kind, scope };
    // Interned: many assignments keep these, for one host and for hosts of one domain.
    let rules = [Name::interned(host)].into_iter().chain(wildcards(host).map(|text| Name::interned(&text)));
    let mut parts: Vec<_> = rules.map(|scope| part(PolicyKind::DestinationRule, scope)).collect();
    parts.push(part(PolicyKind::MeshConfig, Name::default()));
    if !namespaces.is_empty() {
        let root = [&policies.mesh().root_namespace];
        let all = namespaces.iter().chain(root);
        parts.extend(all.map(|scope| part(PolicyKind::PeerAuthentication, scope.clone())));
    }
    parts.sort();
    parts.dedup();
    parts.into_iter().map(|part| versioned(policies, part)).collect()
}

/// MeshConfig alone.
pub(super) fn mesh(policies: &PolicySnapshot) -> Vec<(PolicyPart, u64)> {
    let part = PolicyPart { kind: PolicyKind::MeshConfig, scope: Name::default() };
    vec![versioned(policies, part)]
}

fn versioned(policies: &PolicySnapshot, part: PolicyPart) -> (PolicyPart, u64) {
    let version = policies.version_of(&part);
    (part, version)
}
