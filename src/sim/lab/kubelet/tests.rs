use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::sim::apiserver::{ApiServer, RunningApiServer};
use crate::sim::lab::plan::{NAMESPACE, Plan, Range, Shape};
use crate::sim::lab::site::Ground;
use crate::sim::lab::wait::until;

/// A node agent of a cluster whose pods have neither a port nor an Envoy.
struct World {
    server: RunningApiServer,
    api: ApiClient,
    node: String,
    site: Arc<Site>,
    kubelet: Kubelet,
    dir: TempDir,
}

impl World {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = ApiServer::builder().start().await.unwrap();
        let api = ApiClient::from_kubeconfig(&server.kubeconfig()).await.unwrap();
        let plan = Plan::new(Shape::default(), Range::Loopback(70));
        let cluster = plan.clusters[0].clone();
        let site = Arc::new(site(plan, dir.path()));
        let kubelet = Kubelet::start(&site, &cluster, &api, watch::Sender::new(true).subscribe());
        Self { server, api, node: cluster.node_name(), site, kubelet, dir }
    }

    async fn create(&self) {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"namespace": NAMESPACE, "name": "a", "annotations": {"sidecar.istio.io/inject": "false"}},
            "spec": {"nodeName": self.node, "containers": [{"name": "a", "image": "a"}]},
        });
        self.api.ensure_namespace(&pod).await.unwrap();
        self.api.create(&pod).await.unwrap();
    }

    /// The pod, once `look` says so.
    async fn pod(&self, what: &str, look: impl Fn(&Value) -> bool) -> Value {
        until(what, Duration::from_secs(20), async || {
            let pod = self.api.get(("Pod", NAMESPACE, "a")).await.unwrap().unwrap_or_default();
            if look(&pod) { Ok(pod) } else { Err(pod.to_string()) }
        })
        .await
        .unwrap()
    }

    async fn end(self) {
        self.kubelet.stop().await;
        self.server.shutdown().await;
    }
}

fn site(plan: Plan, dir: &Path) -> Site {
    Site::new(Ground {
        plan,
        exe: PathBuf::from("/nowhere"),
        envoy: PathBuf::from("/nowhere"),
        run_dir: dir.to_owned(),
        files: dir.join("files"),
        logs: dir.to_owned(),
        progress: Arc::new(|_| {}),
        first_number: 0,
    })
}

fn runs(pod: &Value) -> bool {
    pod["status"]["podIP"].is_string()
}

#[tokio::test]
async fn a_pod_that_cannot_start_says_why_and_is_tried_again() {
    let world = World::start().await;
    world.create().await;
    let told =
        |pod: &Value| pod["status"]["message"].as_str().is_some_and(|why| why.contains("cannot write"));
    let pod = world.pod("the pod says why it does not run", told).await;
    assert!(!runs(&pod) && pod["status"]["phase"] == "Pending", "{pod}");
    std::fs::create_dir(world.dir.path().join("files")).unwrap();
    let pod = world.pod("the pod runs", runs).await;
    assert_eq!(pod["status"]["message"], Value::Null);
    world.end().await;
}

#[tokio::test]
async fn a_pod_that_leaves_touches_nothing_of_the_next_one_of_its_name() {
    let world = World::start().await;
    std::fs::create_dir(world.dir.path().join("files")).unwrap();
    world.create().await;
    let first = world.pod("the first runs", runs).await["metadata"]["uid"].as_str().unwrap().to_owned();
    world.api.delete_now(("Pod", NAMESPACE, "a"), &first).await.unwrap();
    world.create().await;
    let other = world.api.delete_now(("Pod", NAMESPACE, "a"), &first).await.unwrap_err();
    assert!(other.has_code(409), "{other}");
    let second = world.pod("the second runs", runs).await["metadata"]["uid"].as_str().unwrap().to_owned();
    until("the first is gone", Duration::from_secs(20), async || {
        let pods = world.site.pods();
        if pods.len() == 1 { Ok(()) } else { Err(format!("{} pods", pods.len())) }
    })
    .await
    .unwrap();
    assert_eq!(world.site.pods()[0].uid(), second);
    assert!(crate::sim::lab::pod::hosts_file(&world.site, world.site.pods()[0].workload()).exists());
    world.pod("the second stays", |pod| pod["metadata"]["uid"] == *second).await;
    world.end().await;
}
