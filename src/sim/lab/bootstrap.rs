//! The bootstrap of an Envoy: plain ADS, nothing of Istio's.

use serde_json::{Value, json};

use super::Mode;
use super::kubelet::{Addresses, Proxy, Workload};
use super::plan::{ADMIN_PORT, ClusterPlan, Protocol, XDS_PORT};

const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

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
    if pod.proxy == Proxy::Router {
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
