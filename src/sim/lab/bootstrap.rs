//! The bootstrap of an Envoy: plain ADS, nothing of Istio's.

use serde_json::{Value, json};

use super::Mode;
use super::kubelet::{Addresses, Proxy, Role, Workload};
use super::plan::{ADMIN_PORT, ClusterPlan, Protocol, XDS_PORT};

const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
/// Without it an Envoy knows no internal listeners: HBONE starts at one.
const INTERNAL_LISTENER: &str = "envoy.extensions.bootstrap.internal_listener.v3.InternalListener";

/// The bootstrap of the Envoy of `pod` at `addresses`. Its admin pages listen on the pod's own loopback; in
/// loopback mode, where that is shared, on the pod's address.
pub fn bootstrap(cluster: &ClusterPlan, pod: &Workload, addresses: &Addresses, mode: Mode) -> Value {
    let admin = match mode {
        Mode::Namespaces => "127.0.0.1".to_owned(),
        Mode::Loopback => addresses.pod.to_string(),
    };
    json!({
        "node": {
            "id": node_id(pod, addresses),
            "cluster": format!("{}.{}", pod.app(), pod.namespace),
            "locality": {"region": cluster.region, "zone": cluster.zone},
            "metadata": metadata(cluster, pod, addresses, mode),
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
        "bootstrap_extensions": [{
            "name": "envoy.bootstrap.internal_listener",
            "typed_config": {"@type": format!("type.googleapis.com/{INTERNAL_LISTENER}")},
        }],
        "static_resources": {"clusters": [xds_cluster(&cluster.xds.to_string())]},
    })
}

/// `type~address~pod.namespace~domain`.
pub(super) fn node_id(pod: &Workload, addresses: &Addresses) -> String {
    let kind = if pod.proxy == Proxy::Router { "router" } else { "sidecar" };
    let Workload { namespace, name, .. } = pod;
    format!("{kind}~{}~{name}.{namespace}~{namespace}.svc.cluster.local", addresses.pod)
}

fn metadata(cluster: &ClusterPlan, pod: &Workload, addresses: &Addresses, mode: Mode) -> Value {
    let mut metadata = json!({
        "CLUSTER_ID": cluster.name,
        "NETWORK": cluster.network,
        "NAMESPACE": pod.namespace,
        "NAME": pod.name,
        "INSTANCE_IPS": addresses.pod.to_string(),
        "LABELS": pod.labels,
        "SERVICE_ACCOUNT": pod.service_account,
        "WORKLOAD_NAME": pod.deployment.as_deref().unwrap_or(&pod.name),
    });
    if pod.role() == Role::Gateway {
        metadata["REQUESTED_NETWORK_VIEW"] = json!(cluster.network);
    } else if pod.proxy == Proxy::Captured && mode == Mode::Namespaces {
        metadata["INTERCEPTION_MODE"] = json!("REDIRECT");
    }
    if pod.proxy == Proxy::Explicit || mode == Mode::Loopback {
        // Gateways too: each must bind its own address, where all of them share one host.
        metadata["INTERCEPTION_MODE"] = json!("NONE");
        metadata["TOMBOLO_OUTBOUND_ADDRESS"] = json!(addresses.outbound.to_string());
        metadata["TOMBOLO_APP_ADDRESS"] = json!(addresses.app.to_string());
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

    use k8s_openapi::api::core::v1::Pod;

    use super::super::kubelet::workload_for_tests;
    use super::super::plan::{Plan, Range, Shape};
    use super::*;

    const LINK: Range = Range::HostLink(Ipv4Addr::new(172, 31, 240, 0));

    fn made(range: Range, cluster: usize, pod: Value) -> (Value, Addresses) {
        let plan = Plan::new(Shape::default(), range);
        let pod: Pod = serde_json::from_value(pod).unwrap();
        let (workload, addresses) = workload_for_tests(&plan.clusters[cluster], &pod);
        (bootstrap(&plan.clusters[cluster], &workload, &addresses, range.mode()), addresses)
    }

    fn client() -> Value {
        json!({
            "metadata": {"namespace": "sample", "name": "sleep-1", "uid": "u", "labels": {"app": "sleep"}},
            "spec": {"containers": [{"name": "sleep"}]},
        })
    }

    #[test]
    fn a_sidecar_in_a_namespace_is_captured_and_says_who_it_is() {
        let (made, _) = made(LINK, 0, client());
        assert_eq!(made["node"]["id"], "sidecar~10.10.16.1~sleep-1.sample~sample.svc.cluster.local");
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
    fn an_explicit_sidecar_in_a_namespace_keeps_its_listeners_and_its_application_apart() {
        let mut pod = client();
        pod["metadata"]["annotations"] = json!({"sidecar.istio.io/interceptionMode": "NONE"});
        let (made, _) = made(LINK, 0, pod);
        let metadata = &made["node"]["metadata"];
        assert_eq!(metadata["INTERCEPTION_MODE"], "NONE");
        assert_eq!(metadata["TOMBOLO_OUTBOUND_ADDRESS"], "127.0.0.1");
        assert_eq!(metadata["TOMBOLO_APP_ADDRESS"], "127.0.0.2");
    }

    #[test]
    fn a_gateway_asks_for_its_own_network_only() {
        let mut pod = client();
        pod["metadata"]["labels"]["istio"] = json!("eastwestgateway");
        let (made, _) = made(LINK, 1, pod);
        assert!(made["node"]["id"].as_str().unwrap().starts_with("router~10.10.16.1~"));
        assert_eq!(made["node"]["metadata"]["REQUESTED_NETWORK_VIEW"], "net-west");
        assert_eq!(made["node"]["metadata"]["INTERCEPTION_MODE"], Value::Null);
        assert_eq!(made["dynamic_resources"]["ads_config"]["api_type"], "GRPC");
    }

    #[test]
    fn a_sidecar_on_loopback_binds_addresses_of_its_own() {
        let (made, addresses) = made(Range::Loopback(80), 0, client());
        let metadata = &made["node"]["metadata"];
        assert_eq!(metadata["INTERCEPTION_MODE"], "NONE");
        assert_eq!(metadata["TOMBOLO_OUTBOUND_ADDRESS"], addresses.outbound.to_string());
        assert_eq!(metadata["TOMBOLO_APP_ADDRESS"], addresses.app.to_string());
        assert_eq!(made["admin"]["address"]["socket_address"]["address"], addresses.pod.to_string());
    }
}
