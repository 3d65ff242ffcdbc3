//! Pods of one deployment that differ by where they run.

use super::*;
use crate::model::Labels;
use crate::model::policy::{
    MeshConfig, MtlsMode, PeerAuthentication, PolicyId, PolicyMeta, WorkloadSelector,
};
use crate::registry::PolicyObject;

#[test]
fn r4_12_pods_of_one_deployment_differ_where_a_policy_selects_by_place() {
    let at = |address, locality| Pod { locality, ..pod(address) };
    let mut world =
        World::new(&[("c1", "n1")]).pods("c1", &[at("10.0.0.1", "r1/z1"), at("10.0.0.2", "r1/z2")]);
    let zone = Labels::from([("topology.kubernetes.io/zone", "z2")]);
    let policy = PolicyObject::PeerAuthentication(Arc::new(PeerAuthentication {
        meta: PolicyMeta { created: 1, id: PolicyId::new("sample", "zone") },
        selector: WorkloadSelector::new(zone),
        mode: Some(MtlsMode::Disable),
        ports: Vec::new(),
    }));
    world.policies = PolicySnapshot::with(MeshConfig::default(), [policy]);
    let viewer = world.from("n1/c1");
    let (assignment, _) = viewer.assignment(&whole());
    assert_eq!(assignment.endpoints().map(AssignedEndpoint::is_mtls).collect::<Vec<_>>(), [true, false]);
}
