//! Which mTLS a workload asks for (R4.12).

use std::sync::Arc;

use super::*;
use crate::model::policy::{
    ClientTlsMode, MeshConfig, MtlsMode, PeerAuthentication, PolicyId, PolicyMeta, WorkloadSelector,
};
use crate::model::{Labels, Workload};
use crate::registry::PolicyObject;
use crate::view::mtls;

fn policy(place: &str, app: Option<&str>, mode: Option<MtlsMode>, port: Option<MtlsMode>) -> PolicyObject {
    let (namespace, name) = place.split_once('/').expect("namespace/name");
    let labels = app.map_or_else(Labels::default, |app| Labels::from([("app", app)]));
    PolicyObject::PeerAuthentication(Arc::new(PeerAuthentication {
        meta: PolicyMeta { created: name.len() as i64, id: PolicyId::new(namespace, name) },
        selector: WorkloadSelector::new(labels),
        mode,
        ports: port.map(|mode| (8080, Some(mode))).into_iter().collect(),
    }))
}

fn workload(mtls: bool) -> Arc<Workload> {
    WorkloadParts {
        namespace: "ns".into(),
        labels: Labels::from([("app", "a")]),
        tls_mode: if mtls { TlsMode::Istio } else { TlsMode::Disabled },
        ..WorkloadParts::default()
    }
    .into()
}

fn mode(policies: Vec<PolicyObject>, port: u16) -> MtlsMode {
    let policies = PolicySnapshot::with(MeshConfig::default(), policies);
    let pod = workload(true);
    mtls::mode(&policies, "ns", port, |key| pod.label(key))
}

#[test]
fn r4_12_port_workload_namespace_and_mesh_in_this_order() {
    use MtlsMode::{Disable, Permissive, Strict};
    let mesh = || policy("istio-system/m", None, Some(Strict), None);
    let namespace = || policy("ns/nn", None, Some(Disable), None);
    let own = |port| policy("ns/www", Some("a"), Some(Strict), port);
    assert_eq!(mode(vec![], 8080), Permissive);
    assert_eq!(mode(vec![mesh()], 8080), Strict);
    assert_eq!(mode(vec![mesh(), namespace()], 8080), Disable);
    assert_eq!(mode(vec![namespace(), own(None)], 8080), Strict);
    assert_eq!(mode(vec![own(Some(Disable))], 8080), Disable);
    assert_eq!(mode(vec![own(Some(Disable))], 8081), Strict);
    let unset = policy("ns/nn", None, None, None);
    assert_eq!(mode(vec![mesh(), unset], 8080), Strict, "what is not set inherits");
    let selecting = policy("istio-system/m", Some("a"), Some(Disable), None);
    assert_eq!(mode(vec![selecting], 8080), Permissive, "no workload is selected from the root namespace");
    let younger = policy("ns/nnn", None, Some(Strict), None);
    assert_eq!(mode(vec![younger, namespace()], 8080), Disable, "the oldest counts");
}

#[test]
fn r4_12_a_rule_decides_alone() {
    let off = [policy("ns/n", None, Some(MtlsMode::Disable), None)];
    let off = PolicySnapshot::with(MeshConfig::default(), off);
    let none = PolicySnapshot::default();
    let meant = |rule, policies, mtls| mtls::is_meant(rule, policies, &workload(mtls), 8080);
    assert!(meant(Some(ClientTlsMode::IstioMutual), &off, true));
    assert!(!meant(Some(ClientTlsMode::Simple), &none, true));
    assert!(meant(None, &none, true) && !meant(None, &off, true) && !meant(None, &none, false));
}

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
