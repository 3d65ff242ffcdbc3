//! Revisions that the API server no longer knows: 410 (K-09, K-10, K-29).

use super::assets::assets;
use super::cluster::{Cluster, PODS, pod, service, slice};
use super::front::Wire;
use super::plane::Plane;

/// What happens while nobody watches: adds, changes and deletes, and one name for another object.
async fn change_unseen(cluster: &Cluster) {
    cluster.create(&service("unseen")).await;
    cluster.create(&slice("unseen", &PODS[1..])).await;
    cluster.delete(&service("vanishing")).await;
    cluster.delete(&slice("vanishing", &[])).await;
    cluster.delete(&pod(PODS[0].0, "")).await;
    cluster.create(&pod(PODS[0].0, "10.0.0.9")).await;
    cluster.change(&slice("helloworld", &[(PODS[0].0, "10.0.0.9")])).await;
}

async fn with_something_that_vanishes(cluster: &Cluster) {
    cluster.create(&service("vanishing")).await;
    cluster.create(&slice("vanishing", &PODS)).await;
}

/// Watches were told that their history is gone, and what is held is exact.
async fn relisted(plane: &Plane, cluster: &Cluster) {
    plane.until("the changes are seen", || plane.endpoints("helloworld") == ["east 10.0.0.9"]).await;
    plane.until("the deleted service is gone", || !plane.has_service("vanishing")).await;
    plane.until("the new one is there", || plane.endpoints("unseen") == ["east 10.0.0.2"]).await;
    plane.is("east", "live").await;
    for kind in ["Service", "EndpointSlice", "Pod"] {
        plane.until(&format!("{kind}s are listed again"), || plane.lists("east", kind, "expired") >= 1).await;
        assert_eq!(plane.lists("east", kind, "first"), 1);
    }
    plane.agrees_with_a_new_one("east", &cluster.kubeconfig()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_restarted_server_forgot_is_listed_again() {
    let Some(assets) = assets() else { return };
    let mut east = Cluster::with_world(&assets, "east", &[]).await;
    with_something_that_vanishes(&east).await;
    let mut wire = Wire::to(east.server.address());
    let plane = Plane::start("east", &wire.kubeconfig(&east.kubeconfig())).await;
    plane.is("east", "live").await;
    let held = plane.state("east");

    wire.cut();
    plane.is("east", "stale").await;
    change_unseen(&east).await;
    assert!(plane.state("east") == held, "an outage takes nothing away");
    // It knows no history from before its start, and etcd has none either.
    east.restart_api().await;
    east.server.compact().await.unwrap();
    wire.join();
    relisted(&plane, &east).await;
    plane.stop().await;
    east.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_etcd_forgot_under_a_server_without_a_cache_is_listed_again() {
    let Some(assets) = assets() else { return };
    let east = Cluster::with_world(&assets, "east", &["--watch-cache=false"]).await;
    with_something_that_vanishes(&east).await;
    let mut wire = Wire::to(east.server.address());
    let plane = Plane::start("east", &wire.kubeconfig(&east.kubeconfig())).await;
    plane.is("east", "live").await;
    wire.cut();
    plane.is("east", "stale").await;
    change_unseen(&east).await;
    east.server.compact().await.unwrap();
    wire.join();
    relisted(&plane, &east).await;
    plane.stop().await;
    east.server.stop().await;
}
