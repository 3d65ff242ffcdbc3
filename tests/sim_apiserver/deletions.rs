//! Deleting pods gracefully, and what delete options may say.

use futures::StreamExt as _;
use kube::api::{DeleteParams, Patch, PatchParams, PropagationPolicy, WatchParams};

use super::*;

fn pod(name: &str, node: Option<&str>) -> Value {
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "sample", "name": name},
                         "spec": {"containers": [{"name": "app", "image": "app:v1"}]},
                         "status": {"phase": "Running"}});
    if let Some(node) = node {
        pod["spec"]["nodeName"] = json!(node);
    }
    pod
}

#[tokio::test]
async fn a_running_pod_terminates_first_and_goes_when_its_node_says_so() {
    let server = east().await;
    server.store().create(pod("a", Some("node-1"))).unwrap();
    let api = in_sample(&client(&server).await, &kinds::PODS);
    let now = server.store().resource_version().to_string();
    let mut watch = api.watch(&WatchParams::default(), &now).await.unwrap().boxed();
    let answer = api.delete("a", &DeleteParams::default()).await.unwrap();
    let marked = answer.left().expect("the pod itself, still there");
    assert_eq!(marked.metadata.deletion_grace_period_seconds, Some(30));
    assert!(marked.metadata.deletion_timestamp.is_some());
    // The kubelet reports, and the pod stays: an update does not finish a deletion.
    let report = Patch::Merge(json!({"status": {"phase": "Running", "podIP": "10.0.0.9"}}));
    api.patch_status("a", &PatchParams::default(), &report).await.unwrap();
    // A second delete changes nothing; no grace removes it.
    assert!(api.delete("a", &DeleteParams::default()).await.unwrap().is_left());
    api.delete("a", &DeleteParams::default().grace_period(0)).await.unwrap();
    assert_eq!(code(api.get("a").await), 404);
    let mut seen = Vec::new();
    while seen.len() < 3 {
        seen.push(told(&soon(watch.next()).await.unwrap().unwrap()));
    }
    assert_eq!(seen, ["MODIFIED a", "MODIFIED a", "DELETED a"]);
}

#[tokio::test]
async fn pods_that_run_nowhere_or_have_ended_go_at_once() {
    let server = east().await;
    let store = server.store();
    store.create(pod("unplaced", None)).unwrap();
    let mut ended = pod("ended", Some("node-1"));
    ended["status"]["phase"] = json!("Succeeded");
    store.create(ended).unwrap();
    store.create(pod("in-process", Some("node-1"))).unwrap();
    let api = in_sample(&client(&server).await, &kinds::PODS);
    for name in ["unplaced", "ended"] {
        api.delete(name, &DeleteParams::default()).await.unwrap();
        assert_eq!(code(api.get(name).await), 404, "{name}");
    }
    store.delete(&kinds::PODS, "sample", "in-process").unwrap();
    assert_eq!(code(api.get("in-process").await), 404);
}

#[tokio::test]
async fn options_are_read_from_the_query_too() {
    let server = east().await;
    server.store().create(pod("a", Some("node-1"))).unwrap();
    let client = client(&server).await;
    let path = "/api/v1/namespaces/sample/pods/a";
    let delete = async |query: &str| {
        let request = http::Request::delete(format!("{path}?{query}")).body(Vec::new()).unwrap();
        client.request::<Value>(request).await
    };
    assert_eq!(code(delete("propagationPolicy=Sideways").await), 422);
    let marked = delete("gracePeriodSeconds=5&propagationPolicy=Foreground").await.unwrap();
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 5);
    let gone = delete("gracePeriodSeconds=0").await.unwrap();
    assert_eq!(gone["kind"], "Pod");
    assert_eq!(code(delete("").await), 404);
}

#[tokio::test]
async fn every_propagation_policy_ends_and_preconditions_hold() {
    let server = east().await;
    let api = in_sample(&client(&server).await, &kinds::DEPLOYMENTS);
    let deployment = |name: &str| {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"namespace": "sample", "name": name},
               "spec": {"template": {"spec": {"containers": []}}}})
    };
    for policy in [PropagationPolicy::Foreground, PropagationPolicy::Background, PropagationPolicy::Orphan] {
        server.store().create(deployment("d")).unwrap();
        let params = DeleteParams { propagation_policy: Some(policy), ..DeleteParams::default() };
        api.delete("d", &params).await.unwrap();
        assert_eq!(code(api.get("d").await), 404);
    }
    server.store().create(deployment("d")).unwrap();
    let other = kube::api::Preconditions { uid: Some("other".into()), resource_version: None };
    let params = DeleteParams { preconditions: Some(other), ..DeleteParams::default() };
    assert_eq!(code(api.delete("d", &params).await), 409);
}

#[tokio::test]
async fn namespaces_go_one_at_a_time_and_some_never() {
    let server = east().await;
    let namespaces = everywhere(&client(&server).await, &kinds::NAMESPACES);
    let params = DeleteParams::default();
    assert_eq!(code(namespaces.delete_collection(&params, &Default::default()).await), 405);
    assert_eq!(code(namespaces.delete("default", &params).await), 403);
    namespaces.delete("sample", &params).await.unwrap();
    assert_eq!(server.store().list(&kinds::NAMESPACES, None).len(), 2);
}
