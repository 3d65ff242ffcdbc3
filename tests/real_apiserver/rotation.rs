//! Tokens, certificates and authorities that change (K-15, K-16, K-17, K-30, K-31).

use std::time::Duration;

use tombolo::sim::apiserver::{ApiServer, Authority, RunningApiServer};

use super::assets::assets;
use super::cluster::{Cluster, PODS, namespace, remotes, slice};
use super::plane::{Plane, impatient};

/// A config cluster that holds nothing but Secrets.
async fn home(west: &str) -> RunningApiServer {
    let objects = vec![namespace("istio-system", serde_json::json!({})), remotes(&[("west", west)])];
    ApiServer::builder().cluster("home").world(objects).start().await.unwrap()
}

async fn plane(home: &RunningApiServer) -> Plane {
    Plane::start_with("home", &home.kubeconfig(), |options, _| {
        options.deadlines = impatient();
        options.remote_cluster_timeout = Duration::ZERO;
    })
    .await
}

/// Waits until a further generation of `west` has listed everything and serves.
async fn exchanged(plane: &Plane, generation: u64) {
    plane
        .until("the new credentials serve", || {
            plane.lists("west", "Service", "first") == generation && plane.health("west") == "live"
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_exchanged_in_secrets_and_files_without_a_trace() {
    let Some(assets) = assets() else { return };
    let mut west = Cluster::with_world(&assets, "west", &[]).await;
    west.deploy("reader-rbac.yaml").await;
    west.deploy("home-rbac.yaml").await;
    let bound = |name: &str| {
        serde_json::json!({"apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": name, "namespace": "istio-system"}})
    };
    let home = home(&west.kubeconfig_of(&west.reader_token("secret-1").await)).await;
    let by_secret = plane(&home).await;
    let first = west.reader_token("file-1").await;
    let from_file = west.kubeconfig_of("@").replace("token: \"@\"", "tokenFile: token");
    assert!(from_file.contains("tokenFile: token"));
    let mut file = std::path::PathBuf::new();
    let by_file = Plane::start_with("west", &from_file, |options, dir| {
        options.deadlines = impatient();
        file = dir.join("token");
        std::fs::write(&file, &first).unwrap();
    })
    .await;
    for plane in [&by_secret, &by_file] {
        plane.is("west", "live").await;
        assert_eq!(plane.endpoints("helloworld"), ["west 10.0.0.1", "west 10.0.0.2"]);
    }
    let publishes = [by_secret.publishes(), by_file.publishes()];

    // The new token is there before the old one is revoked: nobody is refused for longer than one request.
    let second = west.reader_token("secret-2").await;
    home.store().apply(remotes(&[("west", &west.kubeconfig_of(&second))])).unwrap();
    by_secret.until("the new token is in use", || by_secret.status("west").tokens_exchanged == 1).await;
    assert_eq!(by_secret.lists("west", "Service", "first"), 1, "nothing was listed for it");
    std::fs::write(&file, west.reader_token("file-2").await).unwrap();
    west.delete(&bound("secret-1")).await;
    west.delete(&bound("file-1")).await;
    // Running watches outlive their token: only a new one is looked at.
    west.restart_api().await;
    for plane in [&by_secret, &by_file] {
        let lost = || assert_ne!(plane.health("west"), "unauthorized", "{}", plane.detail("west"));
        plane
            .until("watches are open again", || {
                lost();
                plane.health("west") == "live"
            })
            .await;
    }

    // The other way round: refused, served on, and live again once there is a token.
    west.delete(&bound("secret-2")).await;
    west.delete(&bound("file-2")).await;
    west.restart_api().await;
    for plane in [&by_secret, &by_file] {
        plane.is("west", "unauthorized").await;
        assert!(plane.detail("west").contains("401"), "{}", plane.detail("west"));
        assert!(!plane.problems().join(" ").contains(&second), "no secrets in what operators are told");
        assert_eq!(plane.endpoints("helloworld"), ["west 10.0.0.1", "west 10.0.0.2"]);
    }
    std::fs::write(&file, west.reader_token("file-3").await).unwrap();
    let third = west.reader_token("secret-3").await;
    home.store().apply(remotes(&[("west", &west.kubeconfig_of(&third))])).unwrap();
    for plane in [&by_secret, &by_file] {
        plane.is("west", "live").await;
        plane.until("nothing is left to tell", || plane.problems().is_empty()).await;
    }
    assert_eq!([by_secret.publishes(), by_file.publishes()], publishes, "equal content publishes nothing");
    west.change(&slice("helloworld", &PODS[1..])).await;
    for plane in [&by_secret, &by_file] {
        plane.until("changes arrive", || plane.endpoints("helloworld") == ["west 10.0.0.2"]).await;
        plane.stop().await;
    }
    home.shutdown().await;
    west.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_and_authorities_change_and_endpoints_stay() {
    let Some(assets) = assets() else { return };
    let mut west = Cluster::with_world(&assets, "west", &[]).await;
    let home = home(&west.kubeconfig()).await;
    let plane = plane(&home).await;
    plane.is("west", "live").await;
    let (held, publishes) = (plane.state("west"), plane.publishes());

    // By the same authority: nobody has to do anything.
    let authority = west.server.authority().clone();
    west.server.certify(authority).await.unwrap();
    west.restart_api().await;
    plane.is("west", "live").await;
    assert!(plane.state("west") == held && plane.publishes() == publishes);

    // By another: it is not trusted before a Secret says so.
    west.server.kill_api().await;
    west.server.certify(Authority::generate("west").unwrap()).await.unwrap();
    west.restart_api().await;
    plane.until("the certificate is refused", || plane.detail("west").contains("certificate")).await;
    assert_eq!(plane.health("west"), "stale");
    assert!(plane.state("west") == held && plane.publishes() == publishes);
    home.store().apply(remotes(&[("west", &west.kubeconfig())])).unwrap();
    exchanged(&plane, 2).await;
    plane.until("nothing is left to tell", || plane.problems().is_empty()).await;
    assert!(plane.state("west") == held && plane.publishes() == publishes);
    west.change(&slice("helloworld", &PODS[1..])).await;
    plane.until("changes arrive", || plane.endpoints("helloworld") == ["west 10.0.0.2"]).await;
    plane.agrees_with_a_new_one("west", &west.kubeconfig()).await;
    plane.stop().await;
    home.shutdown().await;
    west.server.stop().await;
}
