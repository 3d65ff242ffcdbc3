use super::super::kubelet::workload_for_tests;
use super::super::plan::{Range, Shape, Sidecars, Topology};
use super::*;

fn plan(clusters: u8, networks: u8, topology: Topology) -> Plan {
    let shape = Shape::new(clusters, networks, topology, Sidecars::Captured).unwrap();
    Plan::new(shape, Range::HostLink(Ipv4Addr::new(172, 31, 240, 0)))
}

fn pod(labels: serde_json::Value, annotations: serde_json::Value) -> String {
    let plan = plan(2, 2, Topology::MultiPrimary);
    let object = serde_json::from_value(serde_json::json!({
        "metadata": {
            "namespace": "sample", "name": "a", "uid": "u", "labels": labels, "annotations": annotations,
        },
        "spec": {"containers": [{"name": "a"}]},
    }));
    let (workload, addresses) = workload_for_tests(&plan.clusters[1], &object.unwrap());
    BoxPlan::pod(&plan.networks[1], &workload, &addresses, PathBuf::from("/run/x/hosts")).script()
}

#[test]
fn a_client_is_captured_and_has_a_way_out() {
    let script = pod(serde_json::json!({"app": "sleep"}), serde_json::json!({}));
    assert!(script.contains("meta skuid 1337 return") && script.contains("redirect to :15001"));
    assert!(script.contains("route add default via 10.10.0.1"));
    assert!(script.contains("mount --bind '/run/x/hosts' /etc/hosts"));
    assert!(script.contains("mount --bind /dev/null /etc/resolv.conf"));
}

#[test]
fn an_explicit_sidecar_is_not_captured() {
    let mode = serde_json::json!({"sidecar.istio.io/interceptionMode": "NONE"});
    let script = pod(serde_json::json!({}), mode);
    assert!(!script.contains("redirect") && script.contains("route add default via 10.10.0.1"));
}

#[test]
fn a_gateway_stands_in_both_worlds_and_forwards_no_packet() {
    let script = pod(serde_json::json!({"istio": "eastwestgateway"}), serde_json::json!({}));
    assert!(script.contains("addr add 10.10.16.1/16 dev eth0"));
    assert!(script.contains("addr add 172.30.0.48/24 dev wan0"));
    assert!(script.contains("echo 0 > /proc/sys/net/ipv4/ip_forward"));
    assert!(!script.contains("redirect") && !script.contains("default"));
}

#[test]
fn a_router_lets_pods_reach_gateways_only() {
    let plan = plan(2, 2, Topology::MultiPrimary);
    let script = BoxPlan::router(&plan.networks[0]).script();
    assert!(script.contains("policy drop"));
    assert!(script.contains("ip daddr 172.30.0.32-172.30.0.254 tcp dport 15443 accept"));
    assert!(script.contains("echo 1 > /proc/sys/net/ipv4/ip_forward"));
}

#[test]
fn a_control_plane_of_two_networks_answers_each_by_its_own_interface() {
    let plan = plan(2, 2, Topology::External);
    let script = BoxPlan::control_plane(&plan, &plan.control_planes[0]).script();
    assert!(script.contains("rule add from 10.10.1.13 lookup 101"), "{script}");
    assert!(script.contains("route add 10.10.0.0/16 dev eth1 table 102"));
    assert!(script.contains("echo 0 > /proc/sys/net/ipv4/ip_forward"));
}

#[test]
fn a_control_plane_of_one_network_needs_no_rule() {
    let plan = plan(2, 2, Topology::MultiPrimary);
    let script = BoxPlan::control_plane(&plan, &plan.control_planes[0]).script();
    assert!(!script.contains("rule add"));
}
