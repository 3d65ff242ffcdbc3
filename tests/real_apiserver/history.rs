//! Revisions that the API server no longer knows: 410 (K-10, K-11, K-29).

use std::sync::Arc;

use super::assets::assets;
use super::client::client;
use super::cluster::{Cluster, PODS, many_services, many_slices, pod, service, slice};
use super::front::{Gateway, Wire};
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
    east.compact().await;
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
    east.compact().await;
    wire.join();
    relisted(&plane, &east).await;
    plane.stop().await;
    east.server.stop().await;
}

/// Two pages of 500.
const TWO_PAGES: usize = 600;

#[tokio::test(flavor = "multi_thread")]
async fn a_list_whose_pages_expire_begins_again() {
    let Some(assets) = assets() else { return };
    // Without its cache an API server reads every page from etcd.
    let flags = ["--watch-cache=false", "--feature-gates=WatchList=false"];
    let east = Arc::new(Cluster::with_world(&assets, "east", &flags).await);
    east.create_many(&many_services()).await;
    east.create_many(&many_slices(TWO_PAGES)).await;
    let changing = Arc::clone(&east);
    let work = Box::pin(async move {
        // On the page that was read, and gone with the history that page belongs to.
        changing.delete(&slice("helloworld", &[])).await;
        changing.compact().await;
    });
    let gateway = Gateway::with_work_between_pages(client(&east.kubeconfig()).await, work).await;
    let plane = Plane::start("east", &gateway.kubeconfig()).await;
    plane.is("east", "live").await;
    assert!(gateway.gone() >= 1, "the second page is refused");
    assert_eq!(plane.registry.endpoints_of(&"east".into()), TWO_PAGES);
    assert_eq!(plane.endpoints("helloworld"), [""; 0], "nothing of the list that expired");
    assert_eq!(plane.lists("east", "EndpointSlice", "first"), 1);
    plane.agrees_with_a_new_one("east", &east.kubeconfig()).await;
    plane.stop().await;
    drop(gateway);
}
