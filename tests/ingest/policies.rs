//! Policies of the config cluster, from its API server to the registry.

use tombolo::ingest::PolicyState;
use tombolo::model::policy::{
    DestinationRule, MtlsMode, PeerAuthentication, PolicyKind, PolicyPart, Sidecar,
};

use super::*;

const REVIEWS: &str = "reviews.shop.svc.cluster.local";

/// The definitions of `deploy/`.
fn definitions() -> Vec<Value> {
    serde_saphyr::from_multiple(include_str!("../../deploy/istio-crds.yaml")).unwrap()
}

fn policy(api: &str, kind: &str, namespace: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": api, "kind": kind, "metadata": {"namespace": namespace, "name": name}, "spec": spec})
}

fn rule(name: &str, host: &str, connections: Value) -> Value {
    let spec =
        json!({"host": host, "trafficPolicy": {"connectionPool": {"tcp": {"maxConnections": connections}}}});
    policy("networking.istio.io/v1", "DestinationRule", "shop", name, spec)
}

fn with_kinds(mut objects: Vec<Value>) -> Vec<Value> {
    let mut all = definitions();
    all.append(&mut objects);
    all
}

fn mesh(text: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "istio-system", "name": "istio"},
        "data": {"mesh": text}})
}

impl Plane {
    /// The limit of connections to a host.
    fn limit(&self, host: &str) -> Option<u32> {
        let policies = self.registry.policies();
        let rule = policies.about::<DestinationRule>(host).next()?;
        rule.settings(80, "").connection_pool?.tcp.max_connections
    }

    fn version(&self, kind: PolicyKind, scope: &str) -> u64 {
        self.registry.policies().version_of(&PolicyPart { kind, scope: scope.into() })
    }

    fn invalid(&self) -> usize {
        let counts = self.ingest.policies().counts();
        counts.iter().filter(|(_, state, _)| *state == PolicyState::Invalid).map(|(_, _, count)| count).sum()
    }
}

fn remove(server: &RunningApiServer, resource: &str, namespace: &str, name: &str) {
    let kinds = server.store().kinds();
    let kind = kinds.iter().find(|kind| kind.resource() == resource).unwrap();
    server.store().delete(kind, namespace, name).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn d36_a_destination_rule_comes_changes_breaks_is_repaired_and_goes() {
    let mut objects = world("net-east", "10.0.0.1");
    objects.extend([rule("reviews", "reviews", json!(1)), rule("other", "other", json!(9))]);
    objects.push(policy(
        "security.istio.io/v1",
        "PeerAuthentication",
        "shop",
        "default",
        json!({"mtls": {"mode": "STRICT"}}),
    ));
    objects.push(policy(
        "networking.istio.io/v1",
        "Sidecar",
        "shop",
        "default",
        json!({"egress": [{"hosts": ["./*"]}]}),
    ));
    let east = server("east", with_kinds(objects)).await;
    let plane = Plane::start(&east).await;
    plane.ready().await;
    assert_eq!(plane.limit(REVIEWS), Some(1), "policies belong to the first lists");
    let policies = plane.registry.policies();
    assert_eq!(policies.of::<PeerAuthentication>("shop")[0].mode, Some(MtlsMode::Strict));
    assert_eq!(policies.of::<Sidecar>("shop")[0].egress.len(), 1);
    let dr = PolicyKind::DestinationRule;
    let (own, other) = (plane.version(dr, REVIEWS), plane.version(dr, "other.shop.svc.cluster.local"));
    plane.registry.changes().take();

    east.store().apply(rule("reviews", "reviews", json!(2))).unwrap();
    eventually("the rule changes", || plane.limit(REVIEWS) == Some(2)).await;
    assert!(plane.version(dr, REVIEWS) > own);
    assert_eq!(plane.version(dr, "other.shop.svc.cluster.local"), other, "one changed policy is one part");
    let changes = plane.registry.changes().take();
    let parts: Vec<_> = changes.policies.iter().map(|part| part.scope.to_string()).collect();
    assert_eq!((parts, changes.services.len()), (vec![REVIEWS.to_owned()], 0));

    let own = plane.version(dr, REVIEWS);
    east.store().apply(rule("reviews", "reviews", json!("many"))).unwrap();
    eventually("the broken rule is told of", || plane.invalid() == 1).await;
    let problems = plane.problems();
    let told = "DestinationRule shop/reviews: spec.trafficPolicy.connectionPool.tcp.maxConnections: \"many\"";
    assert!(problems.iter().any(|problem| problem.starts_with(told)), "{problems:?}");
    assert_eq!((plane.limit(REVIEWS), plane.version(dr, REVIEWS)), (Some(2), own), "the last good one stays");

    east.store().apply(rule("reviews", "reviews", json!(3))).unwrap();
    eventually("the rule is repaired", || plane.limit(REVIEWS) == Some(3)).await;
    eventually("and nothing is wrong", || plane.problems().is_empty() && plane.invalid() == 0).await;
    remove(&east, "destinationrules.networking.istio.io", "shop", "reviews");
    eventually("the rule is gone", || plane.limit(REVIEWS).is_none()).await;
    assert_eq!(plane.version(dr, "other.shop.svc.cluster.local"), other);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_entries_is_told_until_it_is_repaired() {
    let entry = |name: &str, location: &str, endpoints: &str| {
        let spec = json!({"hosts": [format!("{name}.example")], "location": location, "resolution": "STATIC",
            "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}], (endpoints): [{"address": "192.0.2.9"}]});
        policy("networking.istio.io/v1", "ServiceEntry", "shop", name, spec)
    };
    let entries = [entry("one", "MESH_EXTERN", "endpoints"), entry("two", "MESH_EXTERNAL", "endpoint")];
    let east = server("east", with_kinds(entries.into())).await;
    let plane = Plane::start(&east).await;
    plane.ready().await;
    let told = |words: &[&str]| {
        let problems = plane.problems();
        problems.len() == words.len()
            && words.iter().all(|word| problems.iter().any(|one| one.starts_with(word)))
    };
    let (one, two) = (
        "cluster east, ServiceEntry shop/one: not used",
        "cluster east, ServiceEntry shop/two: spec.endpoint: ",
    );
    eventually("both are told of", || told(&[one, two])).await;
    east.store().apply(entry("one", "MESH_EXTERNAL", "endpoints")).unwrap();
    eventually("one is repaired", || told(&[two])).await;
    remove(&east, "serviceentries.networking.istio.io", "shop", "two");
    eventually("and nothing is wrong", || plane.problems().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn d36_without_the_kinds_nothing_waits_and_nothing_is_wrong() {
    let east = server("east", world("net-east", "10.0.0.1")).await;
    let plane = Plane::start(&east).await;
    plane.ready().await;
    plane.is("east", "live").await;
    assert_eq!(plane.problems(), [] as [String; 0]);
    let counts = east.request_counts();
    let asked = counts.iter().filter(|((_, what), _)| what.contains("destinationrules")).map(|(_, n)| *n);
    assert!(asked.sum::<u64>() <= 6, "each version is asked for once: {counts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn d36_an_older_version_is_read_where_the_server_has_no_newer_one() {
    let mut kinds = definitions();
    for kind in &mut kinds {
        let versions = kind["spec"]["versions"].as_array_mut().unwrap();
        if versions.iter().any(|version| version["name"] == "v1beta1") {
            versions.retain(|version| version["name"] == "v1beta1");
            versions.iter_mut().for_each(|version| version["storage"] = json!(true));
        }
    }
    let mut old = rule("reviews", "reviews", json!(4));
    old["apiVersion"] = json!("networking.istio.io/v1beta1");
    kinds.extend(world("net-east", "10.0.0.1"));
    kinds.push(old);
    let east = server("east", kinds).await;
    let plane = Plane::start(&east).await;
    plane.ready().await;
    assert_eq!(plane.limit(REVIEWS), Some(4));
    let read = plane.ingest.policies().all();
    let of = |kind| read.iter().find(|row| row.kind == kind).map(|row| row.api_version.as_str());
    assert_eq!(of(PolicyKind::DestinationRule), Some("networking.istio.io/v1beta1"));
    assert_eq!(plane.problems(), [] as [String; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn d36_policies_outlive_an_outage_and_a_list_drops_what_vanished() {
    let mut objects = world("net-east", "10.0.0.1");
    objects.extend([rule("reviews", "reviews", json!(1)), rule("other", "other", json!(9))]);
    objects.push(rule("third", "third", json!(3)));
    let east = server("east", with_kinds(objects)).await;
    let plane = Plane::start(&east).await;
    plane.ready().await;
    let identity = Identity::of(&east);
    east.shutdown().await;
    plane.is("east", "stale").await;
    assert_eq!(plane.limit(REVIEWS), Some(1));
    let kinds = identity.store.kinds();
    let kind = kinds.iter().find(|kind| kind.resource().starts_with("destinationrules")).unwrap();
    identity.store.delete(kind, "shop", "reviews").unwrap();
    identity.store.compact();
    let _east = identity.start("east").await;
    eventually("the rule is gone", || plane.limit(REVIEWS).is_none()).await;
    assert_eq!(plane.limit("third.shop.svc.cluster.local"), Some(3));
    eventually("the problem is solved", || plane.problems().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mesh_config_comes_from_the_config_map_and_a_bad_one_changes_nothing() {
    let mut objects = world("net-east", "10.0.0.1");
    objects.push(mesh("trustDomain: td1\ndefaultDestinationRuleExportTo: ['.']\n"));
    objects.push(rule("reviews", "reviews", json!(1)));
    let east = server("east", with_kinds(objects)).await;
    let plane = Plane::start(&east).await;
    plane.ready().await;
    let mesh_of = || Arc::clone(plane.registry.policies().mesh());
    assert_eq!(mesh_of().trust_domain.as_deref(), Some("td1"));
    let exported = |namespace: &str| {
        let policies = plane.registry.policies();
        policies.about::<DestinationRule>(REVIEWS).next().unwrap().export_to.includes(namespace)
    };
    eventually("the default holds for the rule", || exported("shop") && !exported("web")).await;

    east.store().apply(mesh("enableAutoMtls: perhaps\n")).unwrap();
    eventually("the bad document is told of", || {
        plane.problems().iter().any(|problem| problem.contains("enableAutoMtls: \"perhaps\" is not allowed"))
    })
    .await;
    assert_eq!(mesh_of().trust_domain.as_deref(), Some("td1"));
    east.store().apply(mesh("enableAutoMtls: false\n")).unwrap();
    eventually("the good one counts", || !mesh_of().auto_mtls && mesh_of().trust_domain.is_none()).await;
    eventually("also for what the rule does not say", || exported("web")).await;
    eventually("nothing is wrong", || plane.problems().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mesh_config_comes_from_a_file_that_is_followed() {
    let east = server("east", world("net-east", "10.0.0.1")).await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mesh.yaml");
    std::fs::write(&path, "outboundTrafficPolicy: {mode: REGISTRY_ONLY}\n").unwrap();
    let plane = Plane::start_with(&east, |options| options.mesh_config = Some(path.clone())).await;
    let restricts = || {
        use tombolo::model::policy::OutboundPolicy;
        plane.registry.policies().mesh().outbound_policy == OutboundPolicy::RegistryOnly
    };
    assert!(restricts(), "from the start");
    plane.ready().await;
    std::fs::write(&path, "outboundTrafficPolicy: {mode: NOTHING}\n").unwrap();
    eventually("the bad document is told of", || {
        plane.problems().iter().any(|problem| problem.contains("outboundTrafficPolicy.mode: \"NOTHING\""))
    })
    .await;
    assert!(restricts());
    std::fs::write(&path, "outboundTrafficPolicy: {mode: ALLOW_ANY}\n").unwrap();
    eventually("the good one counts", || !restricts() && plane.problems().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn r1_15_discovery_selectors_choose_the_namespaces_of_clusters_without_their_own() {
    let objects = |network: &str| {
        let mut objects = world(network, "10.0.0.1");
        objects.push(json!({"apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": "sample", "labels": {"mesh": "yes"}}}));
        objects
    };
    let east = server("east", world("net-east", "10.0.0.1")).await;
    let (west, north) =
        (server("west", objects("net-west")).await, server("north", objects("net-north")).await);
    let mut secrets = secret("remotes", &[("west", &west.kubeconfig())]);
    east.store().create(secrets.take()).unwrap();
    let mut own = secret("own", &[("north", &north.kubeconfig())]);
    own["metadata"]["annotations"] = json!({"tombolo.dev/namespace-selector": "mesh=yes"});
    east.store().create(own).unwrap();
    let plane = Plane::start(&east).await;
    plane.ready().await;
    assert_eq!(plane.endpoints("helloworld").len(), 3);

    east.store().apply(mesh("discoverySelectors: [{matchLabels: {mesh: 'no'}}]\n")).unwrap();
    let left = |expected: &[&str]| plane.endpoints("helloworld") == expected;
    eventually("one with a selector of its own keeps that", || left(&["north 10.0.0.1"])).await;
    east.store()
        .apply(mesh("discoverySelectors: [{matchLabels: {mesh: 'no'}}, {matchLabels: {mesh: 'yes'}}]\n"))
        .unwrap();
    eventually("any of them counts", || left(&["north 10.0.0.1", "west 10.0.0.1"])).await;
    east.store().apply(mesh("{}\n")).unwrap();
    eventually("without any all are read", || plane.endpoints("helloworld").len() == 3).await;
}
