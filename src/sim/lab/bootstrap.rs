//! The bootstrap of an Envoy: plain ADS, nothing of Istio's.

use serde_json::{Value, json};

use super::Mode;
use super::plan::{ADMIN_PORT, ClusterPlan, PodPlan, Protocol, Role, XDS_PORT};
use super::world::pod_labels;

const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// The bootstrap of `pod`'s Envoy. Its admin pages listen on the pod's own loopback; in loopback mode, where
/// that is shared, on the pod's address.
pub fn bootstrap(cluster: &ClusterPlan, pod: &PodPlan, mode: Mode) -> Value {
    let admin = match mode {
        Mode::Namespaces => "127.0.0.1".to_owned(),
        Mode::Loopback => pod.address.to_string(),
    };
    json!({
        "node": {
            "id": node_id(pod),
            "cluster": format!("{}.{}", pod.app_label(), pod.namespace()),
            "locality": {"region": cluster.region, "zone": cluster.zone},
            "metadata": metadata(cluster, pod, mode),
        },
        "admin": {"address": socket_address(&admin, ADMIN_PORT)},
        "dynamic_resources": {
            "ads_config": {
                "api_type": match cluster.protocol { Protocol::Delta => "DELTA_GRPC", Protocol::Sotw => "GRPC" },
                "transport_api_version": "V3",
                "set_node_on_first_message_only": true,
                "grpc_services": [{"envoy_grpc": {"cluster_name": "xds-grpc"}}],
            },
            "cds_config": {"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"},
            "lds_config": {"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"},
        },
        "static_resources": {"clusters": [xds_cluster(&cluster.xds.to_string())]},
    })
}

/// `type~address~pod.namespace~domain`.
pub(super) fn node_id(pod: &PodPlan) -> String {
    let kind = if pod.role == Role::Gateway { "router" } else { "sidecar" };
    let namespace = pod.namespace();
    format!("{kind}~{}~{}.{namespace}~{namespace}.svc.cluster.local", pod.address, pod.name)
}

fn metadata(cluster: &ClusterPlan, pod: &PodPlan, mode: Mode) -> Value {
    let mut metadata = json!({
        "CLUSTER_ID": cluster.name,
        "NETWORK": cluster.network,
        "NAMESPACE": pod.namespace(),
        "NAME": pod.name,
        "INSTANCE_IPS": pod.address.to_string(),
        "LABELS": pod_labels(cluster, pod),
        "SERVICE_ACCOUNT": pod.service_account(),
        "WORKLOAD_NAME": pod.app_label(),
    });
    if pod.role == Role::Gateway {
        metadata["REQUESTED_NETWORK_VIEW"] = json!(cluster.network);
    } else if mode == Mode::Namespaces {
        metadata["INTERCEPTION_MODE"] = json!("REDIRECT");
    }
    if mode == Mode::Loopback {
        // Gateways too: each must bind its own address, where all of them share one host.
        metadata["INTERCEPTION_MODE"] = json!("NONE");
        metadata["TOMBOLO_OUTBOUND_ADDRESS"] = json!(pod.outbound.to_string());
        metadata["TOMBOLO_APP_ADDRESS"] = json!(pod.app.to_string());
    }
    metadata
}

/// The one static cluster: the control plane, over HTTP/2 and with keepalive so that a lost one is noticed.
fn xds_cluster(address: &str) -> Value {
    json!({
        "name": "xds-grpc",
        "type": "STATIC",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {HTTP_OPTIONS: {
            "@type": format!("type.googleapis.com/{HTTP_OPTIONS}"),
            "explicit_http_config": {"http2_protocol_options": {
                "connection_keepalive": {"interval": "30s", "timeout": "10s"},
            }},
        }},
        "load_assignment": {
            "cluster_name": "xds-grpc",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": socket_address(address, XDS_PORT)}}]}],
        },
    })
}

fn socket_address(address: &str, port: u16) -> Value {
    json!({"socket_address": {"address": address, "port_value": port}})
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::super::plan::{Plan, Range};
    use super::*;

    #[test]
    fn a_sidecar_in_a_namespace_is_captured_and_says_who_it_is() {
        let plan = Plan::new(Range::HostLink(Ipv4Addr::new(172, 31, 240, 0)));
        let east = &plan.clusters[0];
        let made = bootstrap(east, &east.client, Mode::Namespaces);
        assert_eq!(made["node"]["id"], "sidecar~10.10.1.1~sleep.sample~sample.svc.cluster.local");
        let metadata = &made["node"]["metadata"];
        assert_eq!(metadata["CLUSTER_ID"], "east");
        assert_eq!(metadata["NETWORK"], "net-east");
        assert_eq!(metadata["INTERCEPTION_MODE"], "REDIRECT");
        assert_eq!(metadata["LABELS"]["app"], "sleep");
        assert_eq!(metadata["TOMBOLO_OUTBOUND_ADDRESS"], Value::Null);
        assert_eq!(made["admin"]["address"]["socket_address"]["address"], "127.0.0.1");
        assert_eq!(made["dynamic_resources"]["ads_config"]["api_type"], "DELTA_GRPC");
    }

    #[test]
    fn a_gateway_asks_for_its_own_network_only() {
        let plan = Plan::new(Range::HostLink(Ipv4Addr::new(172, 31, 240, 0)));
        let west = &plan.clusters[1];
        let made = bootstrap(west, &west.gateway, Mode::Namespaces);
        assert!(made["node"]["id"].as_str().unwrap().starts_with("router~10.10.0.3~"));
        assert_eq!(made["node"]["metadata"]["REQUESTED_NETWORK_VIEW"], "net-west");
        assert_eq!(made["node"]["metadata"]["INTERCEPTION_MODE"], Value::Null);
        assert_eq!(made["dynamic_resources"]["ads_config"]["api_type"], "GRPC");
    }

    #[test]
    fn a_sidecar_on_loopback_binds_addresses_of_its_own() {
        let plan = Plan::new(Range::Loopback(80));
        let east = &plan.clusters[0];
        let made = bootstrap(east, &east.client, Mode::Loopback);
        let metadata = &made["node"]["metadata"];
        assert_eq!(metadata["INTERCEPTION_MODE"], "NONE");
        assert_eq!(metadata["TOMBOLO_OUTBOUND_ADDRESS"], east.client.outbound.to_string());
        assert_eq!(metadata["TOMBOLO_APP_ADDRESS"], east.client.app.to_string());
        assert_eq!(made["admin"]["address"]["socket_address"]["address"], east.client.address.to_string());
    }
}
