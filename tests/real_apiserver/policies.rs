//! Policies as operators write them: kubectl, the definitions of `deploy/`, and what becomes of the objects.

use std::path::Path;
use std::process::Command;

use tombolo::model::policy::{DestinationRule, MtlsMode, PeerAuthentication, Sidecar};
use tombolo::sim::apiserver::ApiServer;

use super::assets::assets;
use super::cluster::Cluster;
use super::plane::Plane;

/// One object of each kind.
const SAMPLES: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews, namespace: shop}
spec:
  host: reviews
  trafficPolicy: {connectionPool: {tcp: {maxConnections: 7}}}
  subsets: [{name: v1, labels: {version: v1}}]
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: shop}
spec: {mtls: {mode: STRICT}}
---
apiVersion: networking.istio.io/v1beta1
kind: Sidecar
metadata: {name: default, namespace: shop}
spec: {egress: [{hosts: ["./*"]}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews, namespace: shop}
spec: {hosts: [reviews], http: [{route: [{destination: {host: reviews, subset: v1}}]}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: ingress, namespace: shop}
spec: {selector: {istio: ingress}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: nobody, namespace: shop}
spec: {action: ALLOW, rules: []}
"#;

/// Runs a command of kubectl, which has to succeed.
fn kubectl(program: &Path, dir: &Path, arguments: &[&str]) {
    let mut command = Command::new(program);
    let output =
        command.env("HOME", dir).env("KUBECONFIG", dir.join("config")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Applies definitions and samples, and looks at what is read of them.
async fn written_by_kubectl(program: &Path, kubeconfig: &str) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("config"), kubeconfig).unwrap();
    let samples = dir.path().join("samples.yaml");
    std::fs::write(&samples, SAMPLES).unwrap();
    let definitions = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/istio-crds.yaml");
    let run = |arguments: &[&str]| kubectl(program, dir.path(), arguments);
    tokio::task::block_in_place(|| {
        run(&["apply", "-f", definitions]);
        run(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"]);
        run(&["apply", "-f", samples.to_str().unwrap()]);
    });
    let plane = Plane::start("east", kubeconfig).await;
    plane.ready().await;
    let policies = plane.registry.policies();
    let host = "reviews.shop.svc.cluster.local";
    let limit = |plane: &Plane| {
        let policies = plane.registry.policies();
        let rule = policies.about::<DestinationRule>(host).next()?;
        rule.settings(80, "v1").connection_pool?.tcp.max_connections
    };
    assert_eq!(limit(&plane), Some(7));
    assert_eq!(policies.of::<PeerAuthentication>("shop")[0].mode, Some(MtlsMode::Strict));
    assert_eq!(policies.of::<Sidecar>("shop").len(), 1);
    let rule = policies.about::<DestinationRule>(host).next().unwrap();
    assert!(rule.meta.created > 1_600_000_000, "when it was made is known");

    let patch = |value: &str| {
        let patch = format!(
            r#"{{"spec":{{"trafficPolicy":{{"connectionPool":{{"tcp":{{"maxConnections":{value}}}}}}}}}}}"#
        );
        let arguments = ["patch", "dr", "reviews", "-n", "shop", "--type", "merge", "-p", &patch];
        tokio::task::block_in_place(|| kubectl(program, dir.path(), &arguments));
    };
    patch("\"many\"");
    let told =
        || plane.problems().iter().any(|problem| problem.starts_with("DestinationRule shop/reviews: "));
    plane.until("the broken rule is told of", told).await;
    assert_eq!(limit(&plane), Some(7), "its last good version stays");
    patch("8");
    plane.until("it is repaired", || limit(&plane) == Some(8) && plane.problems().is_empty()).await;
    let arguments = ["delete", "dr", "reviews", "-n", "shop"];
    tokio::task::block_in_place(|| kubectl(program, dir.path(), &arguments));
    plane.until("it is gone", || limit(&plane).is_none()).await;
    plane.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn d36_policies_that_kubectl_writes_are_read_of_a_real_api_server() {
    let Some(assets) = assets() else { return };
    let east = Cluster::with_world(&assets, "east", &[]).await;
    written_by_kubectl(&assets.kubectl(), &east.kubeconfig()).await;
    east.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn d36_and_of_a_synthetic_one() {
    let Some(assets) = assets() else { return };
    let east = ApiServer::builder().cluster("east").start().await.unwrap();
    written_by_kubectl(&assets.kubectl(), &east.kubeconfig()).await;
    east.shutdown().await;
}
