//! The rights that `deploy/` gives are enough, and no more is asked for (K-45).

use serde_json::{Value, json};

use super::assets::assets;
use super::audit::{Audit, Request};
use super::cluster::{Cluster, PODS, READER, remotes, shipped, slice};
use super::plane::{Plane, impatient};

/// A cluster that takes notes, with the accounts of `deploy/`.
async fn cluster(assets: &tombolo::sim::kube_apiserver::KubeAssets, name: &str, audit: &Audit) -> Cluster {
    let flags = audit.flags();
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    let cluster = Cluster::with_world(assets, name, &flags).await;
    cluster.install_add_ons().await;
    cluster.deploy("reader-rbac.yaml").await;
    cluster
}

/// Everything that was asked was permitted, and asked by the reader.
fn permitted(requests: &[Request], resources: &[&str]) {
    assert!(!requests.is_empty());
    for request in requests {
        assert_eq!(request.user, READER, "{request:?}");
        assert!(request.code < 400, "{request:?}");
        assert!(["get", "list", "watch"].contains(&&*request.verb), "{request:?}");
        assert!(resources.contains(&&*request.resource), "{request:?}");
    }
}

/// What is read of every cluster.
const REMOTE: [&str; 9] = [
    "services",
    "pods",
    "nodes",
    "namespaces",
    "endpointslices",
    "gateways",
    "serviceexports",
    "serviceimports",
    "workloadentries",
];
/// What is read of the config cluster besides; the first two of its system namespace only.
const HOME: [&str; 3] = ["secrets", "configmaps", "serviceentries"];
/// And of all its namespaces.
const POLICIES: [&str; 5] =
    ["authorizationpolicies", "destinationrules", "peerauthentications", "sidecars", "virtualservices"];

#[tokio::test(flavor = "multi_thread")]
async fn z12_the_shipped_rights_are_enough_and_nothing_else_is_asked_for() {
    let Some(assets) = assets() else { return };
    let (home, away) = (Audit::new(), Audit::new());
    let (east, west) = tokio::join!(cluster(&assets, "east", &home), cluster(&assets, "west", &away));
    east.deploy("home-rbac.yaml").await;
    east.install_policies().await;
    let networks = "networks: {net-other: {endpoints: [], gateways: [{address: 192.0.2.9, port: 15443}]}}";
    east.create(&json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "istio", "namespace": "istio-system"}, "data": {"meshNetworks": networks}}))
        .await;
    let token = west.reader_token("west-reader").await;
    east.create(&remotes(&[("west", &west.kubeconfig_of(&token))])).await;
    let token = east.reader_token("east-reader").await;
    let plane = Plane::start_with("east", &east.kubeconfig_of(&token), |options, _| {
        // Probes and looks by name are among what is asked.
        options.deadlines = impatient();
    })
    .await;
    plane.ready().await;
    plane.is("east", "live").await;
    plane.is("west", "live").await;
    let endpoints = ["east 10.0.0.1", "east 10.0.0.2", "west 10.0.0.1", "west 10.0.0.2"];
    assert_eq!(plane.endpoints("helloworld"), endpoints);
    let addresses = || {
        let networks = plane.registry.networks();
        networks.gateways().map(|gateway| gateway.address.to_string()).collect::<Vec<_>>()
    };
    plane
        .until("gateways of objects and of the ConfigMap", || addresses().contains(&"192.0.2.9".to_owned()))
        .await;
    assert_eq!(plane.problems(), [""; 0]);
    for cluster in ["east", "west"] {
        assert!(!plane.status(cluster).uid.is_empty(), "it is known which cluster this is");
    }

    west.change(&slice("helloworld", &PODS[1..])).await;
    plane.until("a change", || plane.endpoints("helloworld").len() == 3).await;
    let probed = |requests: &[Request]| {
        let mut probes = requests.iter().filter(|request| request.uri.contains("limit=1"));
        let by_name = |request: &Request| request.verb == "get" && request.resource == "endpointslices";
        probes.next().is_some() && requests.iter().any(by_name)
    };
    plane.until("probes and looks by name", || probed(&away.requests()) && probed(&home.requests())).await;
    permitted(&away.requests(), &REMOTE);
    permitted(&home.requests(), &[REMOTE.as_slice(), &HOME, &POLICIES].concat());
    let outside = |request: &&Request| {
        HOME[..2].contains(&&*request.resource) && !request.uri.contains("/namespaces/istio-system/")
    };
    assert!(home.requests().iter().find(outside).is_none(), "Secrets of the system namespace only");
    plane.stop().await;
    east.server.stop().await;
    west.server.stop().await;
}

/// The reader's ClusterRole, without nodes.
fn without_nodes() -> Value {
    let mut role = with_nodes();
    let resources = role["rules"][0]["resources"].as_array_mut().unwrap();
    resources.retain(|resource| resource != "nodes");
    assert_eq!(resources.len(), 3);
    role
}

fn with_nodes() -> Value {
    shipped("reader-rbac.yaml").into_iter().find(|object| object["kind"] == "ClusterRole").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_without_nodes_is_served_degraded_until_they_may_be_read() {
    let Some(assets) = assets() else { return };
    let mut east = Cluster::with_world(&assets, "east", &[]).await;
    east.deploy("reader-rbac.yaml").await;
    east.deploy("home-rbac.yaml").await;
    east.change(&without_nodes()).await;
    let token = east.reader_token("reader").await;
    let kubeconfig = east.kubeconfig_of(&token);
    let plane = Plane::start_with("east", &kubeconfig, |options, _| {
        options.deadlines = impatient();
        options.remotes = tombolo::ingest::Remotes::None;
    })
    .await;
    plane.ready().await;
    plane.is("east", "degraded").await;
    let detail = plane.detail("east");
    assert!(detail.starts_with("Node: ") && detail.contains("403"), "{detail}");
    assert_eq!(plane.endpoints("helloworld"), ["east 10.0.0.1", "east 10.0.0.2"]);
    let region = || {
        let id = tombolo::model::WorkloadId {
            cluster: "east".into(),
            namespace: "sample".into(),
            name: "hello-1".into(),
        };
        plane.registry.workload(&id).unwrap().locality().to_string()
    };
    assert_eq!(region(), "");

    east.change(&with_nodes()).await;
    plane.is("east", "live").await;
    plane.until("localities are known", || region() == "r1").await;
    // Taken away again, and noticed when watches begin anew: what is known stays.
    east.change(&without_nodes()).await;
    east.restart_api().await;
    plane.is("east", "degraded").await;
    assert_eq!(plane.endpoints("helloworld"), ["east 10.0.0.1", "east 10.0.0.2"]);
    plane.stop().await;
    east.server.stop().await;
}
