//! ServiceEntries of the config cluster, in every cluster (R5.37).

use serde_json::{Value, json};

use super::*;
use crate::ingest::{ConfigCluster, ConfigSource};

/// An entry of `x.example` that selects the pods of `web`.
fn selecting() -> Value {
    json!({"kind": "ServiceEntry", "metadata": {"name": "e", "namespace": "a"},
        "spec": {"hosts": ["x.example"], "resolution": "STATIC", "ports": [{"number": 80, "name": "http"}],
            "workloadSelector": {"labels": {"app": "web"}}}})
}

fn with_entry() -> FakeServer {
    FakeServer::with(world("n0", "u0", 0, 1).into_iter().chain([selecting()]))
}

/// A control plane that knows that there is a config cluster.
fn plane() -> Plane {
    Plane::with(|options| {
        options.config = Some(ConfigCluster { id: "c0".into(), source: ConfigSource::InCluster });
    })
}

/// How many endpoints each cluster adds to the entry.
fn added(plane: &Plane) -> Vec<(String, usize)> {
    let cell = plane.set.registry.service(&ServiceKey::new("a", "x.example"));
    let snapshot = cell.map(|cell| cell.load()).filter(|snapshot| snapshot.service.is_some());
    let shards = snapshot.iter().flat_map(|snapshot| snapshot.shards.iter());
    shards.map(|shard| (shard.cluster.to_string(), shard.endpoints.len())).collect()
}

#[tokio::test(start_paused = true)]
async fn r5_37_a_cluster_appears_with_what_the_entries_of_the_config_cluster_select() {
    let (config, remote) = (with_entry(), FakeServer::with(world("n1", "u1", 1, 2)));
    let mut plane = plane();
    plane.run("c1", &remote);
    plane.pass(Duration::from_secs(1)).await;
    assert_eq!(plane.web(), [], "it waits for the entries");
    plane.run_as(ClusterRole::Config, "c0", &config, &[]);
    plane.settle().await;
    assert_eq!(added(&plane), web(&[("c0", 1), ("c1", 2)]));
    config.delete(&selecting());
    plane.settle().await;
    assert_eq!(added(&plane), []);
    assert_eq!(plane.web(), web(&[("c0", 1), ("c1", 2)]));
}

#[tokio::test(start_paused = true)]
async fn r5_37_a_config_cluster_that_does_not_answer_holds_nobody_up_for_long() {
    let (config, remote) = (with_entry(), FakeServer::with(world("n1", "u1", 1, 2)));
    config.go_down();
    let mut plane = plane();
    plane.run_as(ClusterRole::Config, "c0", &config, &[]);
    plane.run("c1", &remote);
    plane.pass(Duration::from_secs(6)).await;
    assert_eq!((plane.web(), added(&plane)), (web(&[("c1", 2)]), Vec::new()));
    config.come_up();
    config.relist_kind(ObjectKind::ServiceEntry);
    config.relist_kind(ObjectKind::WorkloadEntry);
    plane.settle().await;
    assert_eq!(added(&plane), web(&[("c0", 1), ("c1", 2)]));
}

#[tokio::test(start_paused = true)]
async fn k45_without_the_right_to_read_entries_everything_else_is_served() {
    let (config, remote) = (with_entry(), FakeServer::with(world("n1", "u1", 1, 2)));
    for kind in [ObjectKind::ServiceEntry, ObjectKind::WorkloadEntry] {
        config.forbid(kind);
        remote.forbid(kind);
    }
    let mut plane = plane();
    plane.run_as(ClusterRole::Config, "c0", &config, &[]);
    plane.run("c1", &remote);
    plane.settle().await;
    assert_eq!((plane.web(), added(&plane)), (web(&[("c0", 1), ("c1", 2)]), Vec::new()));
    config.permit(ObjectKind::ServiceEntry);
    plane.settle().await;
    assert_eq!(added(&plane), web(&[("c0", 1), ("c1", 2)]));
}

#[tokio::test(start_paused = true)]
async fn k31_new_credentials_that_do_not_show_the_entries_that_are_served_do_not_take_over() {
    let (old, new) = (with_entry(), with_entry());
    new.forbid(ObjectKind::ServiceEntry);
    let mut plane = plane();
    plane.run_as(ClusterRole::Config, "c0", &old, &[]);
    plane.pass(Duration::from_secs(5)).await;
    assert_eq!(added(&plane), web(&[("c0", 1)]));
    plane.run_as(ClusterRole::Config, "c0", &new, &[]);
    plane.pass(HOUR).await;
    assert_eq!((added(&plane), old.open_now()), (web(&[("c0", 1)]), 1));
    let told = "may not read ServiceEntries: what they tell would be gone";
    assert!(plane.problems().iter().any(|text| text.contains(told)), "{:?}", plane.problems());
    new.permit(ObjectKind::ServiceEntry);
    plane.pass(CONFIRM_AFTER + Duration::from_secs(3)).await;
    assert_eq!((added(&plane), old.open_now(), plane.problems()), (web(&[("c0", 1)]), 0, Vec::new()));
}
