//! Multi-cluster services (R4.38, R4.39).

use super::*;
use crate::ingest::convert::McsOptions;
use crate::model::{ClusterRole, Discoverability};
use crate::registry::{ClusterWriter, Registry};

fn staging(cluster: &str, mcs: McsOptions) -> Staging {
    let context = ClusterContext { cluster: cluster.into(), mcs, ..convert::test_context() };
    Staging::new(context, "istio-system".into(), Arc::default())
}

fn options(host: bool, cluster_local: bool) -> McsOptions {
    McsOptions { discovery: true, host, cluster_local, ..McsOptions::default() }
}

fn of_kind(kind: &str, spec: Value) -> Value {
    json!({"kind": kind, "metadata": {"name": "s", "namespace": "a"}, "spec": spec})
}

fn imported() -> ServiceKey {
    ServiceKey::new("a", "s.a.svc.clusterset.local")
}

fn discoverability(staging: &mut Staging, key: &ServiceKey) -> Discoverability {
    staging.state().shards[key].endpoints[0].exposure.discoverability()
}

#[test]
fn r4_38_endpoints_are_discoverable_while_their_cluster_exports_the_service() {
    let mut one = staging("c1", options(false, false));
    one.apply(apply(&service("s")));
    one.apply(apply(&slice("s", &["10.1.0.1"])));
    assert_eq!(discoverability(&mut one, &key("s")), Discoverability::SameCluster);
    one.apply(apply(&of_kind("ServiceExport", json!({}))));
    assert_eq!(one.take().shards.len(), 1);
    assert_eq!(discoverability(&mut one, &key("s")), Discoverability::Always);
    one.apply(delete(&of_kind("ServiceExport", json!({}))));
    assert_eq!(discoverability(&mut one, &key("s")), Discoverability::SameCluster);
    assert!(!one.state().shards.contains_key(&imported()), "R4.39 is off");

    let mut local = staging("c1", options(true, true));
    local.apply(apply(&of_kind("ServiceExport", json!({}))));
    local.apply(apply(&service("s")));
    local.apply(apply(&slice("s", &["10.1.0.1"])));
    assert_eq!(discoverability(&mut local, &key("s")), Discoverability::SameCluster);
    assert_eq!(discoverability(&mut local, &imported()), Discoverability::Always);
}

fn publish(staging: &mut Staging, writer: &mut ClusterWriter) {
    writer.replace(staging.state());
}

#[test]
fn r4_39_an_imported_host_is_there_while_somebody_imports_and_somebody_has_the_service() {
    let registry = Registry::new();
    let mut writers =
        ["c1", "c2"].map(|cluster| registry.writer(cluster.into(), ClusterRole::Remote).unwrap());
    let mut clusters = ["c1", "c2"].map(|cluster| staging(cluster, options(true, false)));
    let host = || registry.service(&imported()).and_then(|cell| cell.load().service.clone());
    clusters[0].apply(apply(&of_kind("ServiceImport", json!({"ips": ["241.0.0.2", "241.0.0.1"]}))));
    publish(&mut clusters[0], &mut writers[0]);
    assert_eq!(host(), None, "nobody has it");
    clusters[1].apply(apply(&service("s")));
    clusters[1].apply(apply(&slice("s", &["10.1.0.1"])));
    publish(&mut clusters[1], &mut writers[1]);
    let record = host().expect("a record");
    assert_eq!(record.ports.len(), 1);
    let vips = record.own_vips(&"c1".into());
    assert_eq!(vips.iter().map(ToString::to_string).collect::<Vec<_>>(), ["241.0.0.1", "241.0.0.2"]);
    let snapshot = registry.service(&imported()).unwrap().load();
    assert_eq!(snapshot.shard(&"c2".into()).unwrap().endpoints.len(), 1);
    clusters[0].apply(apply(&of_kind("ServiceImport", json!({"ips": []}))));
    publish(&mut clusters[0], &mut writers[0]);
    assert_eq!(host(), None, "headless imports make nothing");
    clusters[0].apply(apply(&of_kind("ServiceImport", json!({"ips": ["241.0.0.1"]}))));
    publish(&mut clusters[0], &mut writers[0]);
    assert!(host().is_some());
    clusters[1].apply(delete(&service("s")));
    publish(&mut clusters[1], &mut writers[1]);
    assert_eq!(host(), None, "the last Service has gone");
}

#[test]
fn r4_40_nothing_is_exported_where_exports_cannot_be_read_until_they_can() {
    let mut staging = staging("c1", McsOptions { auto_export: true, ..McsOptions::default() });
    let mut elsewhere = service("s");
    elsewhere["metadata"]["namespace"] = "b".into();
    let (a, b) = (ObjectKey::new("a", "s"), ObjectKey::new("b", "s"));
    let scope = Some(Name::from("b"));
    staging.set_unavailable(ObjectKind::ServiceExport, &scope);
    staging.apply(apply(&service("s")));
    staging.apply(apply(&elsewhere));
    assert_eq!(staging.missing_exports(), [a]);
    assert_eq!(staging.missing_exports(), []);
    let done = SourceEvent::InitDone { reason: ListReason::First };
    for event in [SourceEvent::Init, done] {
        staging.apply_in(scope.clone(), StagedEvent::Export(event));
    }
    assert_eq!(staging.missing_exports(), [b]);
}
