//! Gateways and networks where the peer answers otherwise, both ways (D1), and what decides who belongs where.

use super::*;
use crate::ingest::convert::ClusterContext;

fn with(rows: &[Quirk]) -> Staging {
    let context = ClusterContext {
        quirks: crate::model::Quirks::of(rows.iter().copied()),
        gateways: GatewayOptions { gateway_api: true, ..GatewayOptions::default() },
        ..test_context()
    };
    let mut staging = Staging::new(context, "istio-system".into(), Arc::default());
    staging.apply(apply(&system_namespace("n1")));
    staging
}

/// Takes in events one by one, as they come.
fn one_by_one(staging: &mut Staging, events: Vec<StagedEvent>) -> Vec<String> {
    for event in events {
        staging.apply(event);
        staging.take();
    }
    gateways(staging)
}

#[test]
fn q06_what_loses_its_addresses_loses_its_gateways_but_under_its_flag() {
    let lost = |rows: &[Quirk]| {
        let mut staging = with(rows);
        one_by_one(&mut staging, vec![apply(&balancer("n1", Some("2.3.4.5"))), apply(&balancer("n1", None))])
    };
    assert_eq!(lost(&[]), [""; 0]);
    assert_eq!(lost(&[Quirk::Q6]), ["n1 2.3.4.5:15443"]);
    let mut peer = with(&[Quirk::Q6]);
    let gone = [apply(&balancer("n1", Some("2.3.4.5"))), apply(&balancer("n1", None))];
    one_by_one(&mut peer, gone.to_vec());
    assert_eq!(one_by_one(&mut peer, vec![apply(&balancer("n2", None))]), ["n1 2.3.4.5:15443"]);
    let other = apply(&balancer("n1", Some("2.3.4.6")));
    assert_eq!(one_by_one(&mut peer, vec![other]), ["n1 2.3.4.6:15443"], "with addresses it is looked at");
    one_by_one(&mut peer, vec![apply(&balancer("n1", None))]);
    let rules = json!({"networks": {"n1": {"endpoints": [{"fromRegistry": "c1"}]}, "n2": {"endpoints": [{"fromRegistry": "c1"}]}}});
    assert_eq!(one_by_one(&mut peer, vec![mesh(&rules)]), [""; 0], "other rules");
    one_by_one(&mut peer, gone.to_vec());
    assert_eq!(one_by_one(&mut peer, vec![delete(&balancer("n1", None))]), [""; 0], "the Service is deleted");
}

#[test]
fn q06_a_node_that_loses_its_external_ip_is_no_gateway_but_under_its_flag() {
    let objects = || {
        vec![
            apply(&node_port("Cluster")),
            apply(&node("a", Some("5.5.5.1"), "gw")),
            apply(&node("a", None, "gw")),
        ]
    };
    assert_eq!(one_by_one(&mut with(&[]), objects()), [""; 0]);
    let mut peer = with(&[Quirk::Q6]);
    assert_eq!(one_by_one(&mut peer, objects()), ["n1 5.5.5.1:31443"]);
    let other = apply(&node("b", Some("5.5.5.2"), "gw"));
    assert_eq!(one_by_one(&mut peer, vec![other]), ["n1 5.5.5.1:31443", "n1 5.5.5.2:31443"]);
    assert_eq!(one_by_one(&mut peer, vec![delete(&node("a", None, "gw"))]), ["n1 5.5.5.2:31443"]);
}

fn labelled_api(network: Option<&str>) -> Value {
    let labels: serde_json::Map<_, _> =
        network.map(|network| ("topology.istio.io/network".to_owned(), json!(network))).into_iter().collect();
    json!({"kind": "Gateway", "metadata": {"name": "api", "namespace": "istio-system", "labels": labels},
        "spec": {"gatewayClassName": "istio", "addresses": [{"type": "IPAddress", "value": "2.3.4.5"}],
        "listeners": [{"name": "t", "port": 15443, "protocol": "TLS", "tls": {"mode": "Passthrough"}}]}})
}

#[test]
fn q07_the_same_gateway_told_both_ways_counts_once_but_under_its_flag() {
    let both = || vec![apply(&balancer("n1", Some("2.3.4.5"))), apply(&labelled_api(Some("n1")))];
    assert_eq!(one_by_one(&mut with(&[]), both()), ["n1 2.3.4.5:15443"]);
    assert_eq!(one_by_one(&mut with(&[Quirk::Q7]), both()).len(), 2);
    let mut second = balancer("n1", Some("2.3.4.5"));
    second["metadata"]["name"] = json!("gw2");
    let services = vec![apply(&balancer("n1", Some("2.3.4.5"))), apply(&second)];
    assert_eq!(
        one_by_one(&mut with(&[Quirk::Q7]), services).len(),
        1,
        "two Services have no account to differ in"
    );
}

#[test]
fn q08_a_gateway_object_without_its_label_is_none_but_under_its_flag() {
    let unlabelled = || vec![apply(&labelled_api(Some("n1"))), apply(&labelled_api(None))];
    assert_eq!(one_by_one(&mut with(&[]), unlabelled()), [""; 0]);
    let mut peer = with(&[Quirk::Q8]);
    assert_eq!(one_by_one(&mut peer, unlabelled()), ["n1 2.3.4.5:15443"]);
    assert_eq!(one_by_one(&mut peer, vec![delete(&labelled_api(None))]), [""; 0]);
}

#[test]
fn q33_only_nodes_that_run_a_pod_are_gateways_under_a_local_policy_but_under_its_flag() {
    let objects = || {
        vec![
            apply(&node("a", Some("5.5.5.1"), "gw")),
            apply(&node("b", Some("5.5.5.2"), "gw")),
            apply(&pod("p", "istio-system", "10.1.0.1", "a")),
            apply(&slice("gw", "istio-system", &[(Some("p"), "10.1.0.1", true)])),
            apply(&node_port("Local")),
        ]
    };
    assert_eq!(one_by_one(&mut with(&[]), objects()), ["n1 5.5.5.1:31443"]);
    assert_eq!(one_by_one(&mut with(&[Quirk::Q33]), objects()), ["n1 5.5.5.1:31443", "n1 5.5.5.2:31443"]);
}

#[test]
fn q34_a_port_label_out_of_range_is_told_and_the_default_counts_but_under_its_flag() {
    for (label, ours, peer) in [
        ("70000", vec!["n1 2.3.4.5:15443"], vec![]),
        ("0", vec!["n1 2.3.4.5:15443"], vec![]),
        ("-1", vec!["n1 2.3.4.5:15443"], vec![]),
        ("99999999999999999999", vec!["n1 2.3.4.5:15443"], vec!["n1 2.3.4.5:15443"]),
        ("tls", vec!["n1 2.3.4.5:15443"], vec!["n1 2.3.4.5:15443"]),
        ("015443", vec!["n1 2.3.4.5:15443"], vec!["n1 2.3.4.5:15443"]),
    ] {
        let mut service = balancer("n1", Some("2.3.4.5"));
        service["metadata"]["labels"]["networking.istio.io/gatewayPort"] = json!(label);
        let mut told = with(&[]);
        assert_eq!(one_by_one(&mut told, vec![apply(&service)]), ours, "{label}");
        assert_eq!(told.quarantined().is_empty(), label == "015443", "{label}: {:?}", told.quarantined());
        assert_eq!(one_by_one(&mut with(&[Quirk::Q34]), vec![apply(&service)]), peer, "{label}");
    }
}

#[test]
fn d10_a_cluster_that_only_a_block_of_addresses_places_belongs_to_no_network() {
    let mut staging = empty();
    staging.apply(mesh(&json!({"networks": {"n1": {"endpoints": [{"fromCidr": "10.0.0.0/8"}]}}})));
    staging.apply(apply(&balancer("n1", Some("2.3.4.5"))));
    assert!(gateways(&mut staging).is_empty());
    assert!(staging.quarantined()[0].contains("tombolo.dev/trusted-networks"), "{:?}", staging.quarantined());
}

#[test]
fn r2_1_an_endpoint_belongs_where_its_own_address_does() {
    let mut staging = empty();
    staging.apply(mesh(&json!({"networks": {
        "four": {"endpoints": [{"fromCidr": "10.1.0.0/16"}]}, "six": {"endpoints": [{"fromCidr": "fd00::/16"}]}}})));
    let mut both = pod("p", "a", "10.1.0.1", "");
    both["status"]["podIPs"] = json!([{"ip": "10.1.0.1"}, {"ip": "fd00::1"}]);
    let mut six = slice("s", "a", &[(Some("p"), "fd00::1", true)]);
    six["metadata"]["name"] = json!("s-6");
    six["addressType"] = json!("IPv6");
    for object in [both, slice("s", "a", &[(Some("p"), "10.1.0.1", true)]), six] {
        staging.apply(apply(&object));
    }
    let key = crate::model::ServiceKey::new("a", "s.a.svc.cluster.local");
    let shard = Arc::clone(&staging.state().shards[&key]);
    let places: Vec<_> =
        shard.endpoints.iter().map(|e| format!("{} {}", e.addresses[0], e.workload.network)).collect();
    assert_eq!(places, ["10.1.0.1 four", "fd00::1 six"]);
}
