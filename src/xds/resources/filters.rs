//! Filters of listeners and filter chains.

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::listener::v3::{Filter, ListenerFilter, filter, listener_filter};
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use envoy_types::pb::envoy::extensions::filters::http::cors::v3::Cors;
use envoy_types::pb::envoy::extensions::filters::http::fault::v3::HttpFault;
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::listener::http_inspector::v3::HttpInspector;
use envoy_types::pb::envoy::extensions::filters::listener::original_dst::v3::OriginalDst;
use envoy_types::pb::envoy::extensions::filters::listener::tls_inspector::v3::TlsInspector;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::{TcpProxy, tcp_proxy};
use envoy_types::pb::envoy::r#type::v3::HashPolicy;
use envoy_types::pb::envoy::r#type::v3::hash_policy::{PolicySpecifier, SourceIp};
use envoy_types::pb::google::protobuf::Any;
use envoy_types::util::pack_any;

use super::destination::Target;
use super::parts::{ads, flag, seconds, time};
use crate::model::policy::{HashKey, PathNormalization};

/// Name of the filter that answers preflights.
pub(super) const CORS: &str = "envoy.filters.http.cors";
/// Name of the filter that makes faults on purpose.
pub(super) const FAULT: &str = "envoy.filters.http.fault";
/// Name of the filter that sends requests on, the last one.
const ROUTER: &str = "envoy.filters.http.router";

/// Forwards connections to one Envoy cluster.
pub(super) fn tcp(cluster: &str) -> Filter {
    tcp_proxy_to(TcpProxy {
        stat_prefix: cluster.to_owned(),
        cluster_specifier: Some(tcp_proxy::ClusterSpecifier::Cluster(cluster.to_owned())),
        ..Default::default()
    })
}

/// Forwards connections to Envoy clusters by their shares; the first one's settings count for all of them.
pub(super) fn tcp_to(stat_prefix: &str, targets: &[Target]) -> Filter {
    let specifier = match targets {
        [only] => tcp_proxy::ClusterSpecifier::Cluster(only.cluster.clone()),
        several => tcp_proxy::ClusterSpecifier::WeightedClusters(tcp_proxy::WeightedCluster {
            clusters: several.iter().map(share).collect(),
        }),
    };
    let by_source = targets.first().and_then(Target::hash_key) == Some(&HashKey::SourceIp);
    let source = HashPolicy { policy_specifier: Some(PolicySpecifier::SourceIp(SourceIp {})) };
    tcp_proxy_to(TcpProxy {
        stat_prefix: stat_prefix.to_owned(),
        cluster_specifier: Some(specifier),
        idle_timeout: targets.first().and_then(Target::idle_timeout).and_then(time),
        hash_policy: by_source.then_some(source).into_iter().collect(),
        ..Default::default()
    })
}

/// Sends each connection through a CONNECT of its own to one Envoy cluster, for the authority that `hostname` formats.
pub(super) fn tunnel(cluster: &str, hostname: &str) -> Filter {
    tcp_proxy_to(TcpProxy {
        stat_prefix: cluster.to_owned(),
        cluster_specifier: Some(tcp_proxy::ClusterSpecifier::Cluster(cluster.to_owned())),
        tunneling_config: Some(tcp_proxy::TunnelingConfig {
            hostname: hostname.to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    })
}

fn share(target: &Target) -> tcp_proxy::weighted_cluster::ClusterWeight {
    tcp_proxy::weighted_cluster::ClusterWeight {
        name: target.cluster.clone(),
        weight: target.weight,
        ..Default::default()
    }
}

fn tcp_proxy_to(proxy: TcpProxy) -> Filter {
    network("envoy.filters.network.tcp_proxy", pack_any(proxy))
}

/// Routes requests by the route configuration `route`, asked over the stream.
pub(super) fn http_outbound(listener: &str, route: &str, paths: PathNormalization) -> Filter {
    let rds = hcm::Rds { config_source: ads(), route_config_name: route.to_owned() };
    outbound(listener, hcm::http_connection_manager::RouteSpecifier::Rds(rds), paths)
}

/// Has a client of gRPC route by the route configuration `route`, asked over the stream, with the filters it knows.
pub(super) fn http_api(route: &str) -> Any {
    let rds = hcm::Rds { config_source: ads(), route_config_name: route.to_owned() };
    let filters = [(FAULT, pack_any(HttpFault::default())), (ROUTER, pack_any(Router::default()))];
    pack_any(hcm::HttpConnectionManager {
        http_filters: filters.map(http_filter).into(),
        route_specifier: Some(hcm::http_connection_manager::RouteSpecifier::Rds(rds)),
        ..Default::default()
    })
}

/// Routes requests by a route configuration given here.
#[cfg(test)]
pub(super) fn http_outbound_inline(routes: RouteConfiguration) -> Filter {
    let specifier = hcm::http_connection_manager::RouteSpecifier::RouteConfig(routes);
    outbound("", specifier, PathNormalization::default())
}

fn outbound(
    listener: &str,
    specifier: hcm::http_connection_manager::RouteSpecifier,
    paths: PathNormalization,
) -> Filter {
    manager(with_routes(http(format!("outbound_{listener};"), specifier, paths)))
}

/// Routes requests from outside by the route configuration `route`, asked over the stream, after what `guards` them.
/// What clients say of themselves and of those before them counts for nothing.
pub(super) fn http_gateway(
    listener: &str,
    route: &str,
    guards: &[hcm::HttpFilter],
    paths: PathNormalization,
) -> Filter {
    let rds = hcm::Rds { config_source: ads(), route_config_name: route.to_owned() };
    let specifier = hcm::http_connection_manager::RouteSpecifier::Rds(rds);
    let mut http = with_routes(http(format!("outbound_{listener};"), specifier, paths));
    http.http_filters.splice(0..0, guards.iter().cloned());
    let details = hcm::http_connection_manager::SetCurrentClientCertDetails {
        subject: flag(true),
        cert: true,
        dns: true,
        uri: true,
        ..Default::default()
    };
    manager(hcm::HttpConnectionManager {
        use_remote_address: flag(true),
        forward_client_cert_details: hcm::http_connection_manager::ForwardClientCertDetails::SanitizeSet
            .into(),
        set_current_client_cert_details: Some(details),
        ..http
    })
}

/// The same with the filters that routes may have settings for.
fn with_routes(mut manager: hcm::HttpConnectionManager) -> hcm::HttpConnectionManager {
    // Without settings of a route these two let everything pass.
    let of_routes = [(CORS, pack_any(Cors {})), (FAULT, pack_any(HttpFault::default()))];
    manager.http_filters.splice(0..0, of_routes.map(http_filter));
    manager
}

fn http_filter((name, config): (&str, Any)) -> hcm::HttpFilter {
    hcm::HttpFilter {
        name: name.to_owned(),
        config_type: Some(hcm::http_filter::ConfigType::TypedConfig(config)),
        ..Default::default()
    }
}

/// Routes requests by a route configuration given here after what `guards` them, and tells the application who
/// called (XFCC).
pub(super) fn http_inbound(
    listener: &str,
    routes: RouteConfiguration,
    guards: &[hcm::HttpFilter],
    paths: PathNormalization,
) -> Filter {
    let specifier = hcm::http_connection_manager::RouteSpecifier::RouteConfig(routes);
    let details = hcm::http_connection_manager::SetCurrentClientCertDetails {
        subject: flag(true),
        dns: true,
        uri: true,
        ..Default::default()
    };
    let mut http = http(format!("inbound_{listener};"), specifier, paths);
    http.http_filters.splice(0..0, guards.iter().cloned());
    manager(hcm::HttpConnectionManager {
        forward_client_cert_details: hcm::http_connection_manager::ForwardClientCertDetails::AppendForward
            .into(),
        set_current_client_cert_details: Some(details),
        ..http
    })
}

fn http(
    stat_prefix: String,
    route_specifier: hcm::http_connection_manager::RouteSpecifier,
    paths: PathNormalization,
) -> hcm::HttpConnectionManager {
    use hcm::http_connection_manager::PathWithEscapedSlashesAction as Escaped;
    let escaped = match paths {
        PathNormalization::DecodeAndMergeSlashes => Escaped::UnescapeAndForward,
        _ => Escaped::ImplementationSpecificDefault,
    };
    hcm::HttpConnectionManager {
        codec_type: hcm::http_connection_manager::CodecType::Auto.into(),
        stat_prefix,
        http_filters: vec![http_filter((ROUTER, pack_any(Router::default())))],
        // gRPC streams may be silent for as long as they like.
        stream_idle_timeout: seconds(0),
        use_remote_address: flag(false),
        normalize_path: flag(paths >= PathNormalization::Base),
        merge_slashes: paths >= PathNormalization::MergeSlashes,
        path_with_escaped_slashes_action: escaped.into(),
        upgrade_configs: vec![hcm::http_connection_manager::UpgradeConfig {
            upgrade_type: "websocket".to_owned(),
            ..Default::default()
        }],
        http_protocol_options: Some(core::Http1ProtocolOptions {
            accept_http_10: true,
            ..Default::default()
        }),
        route_specifier: Some(route_specifier),
        ..Default::default()
    }
}

fn manager(manager: hcm::HttpConnectionManager) -> Filter {
    network("envoy.filters.network.http_connection_manager", pack_any(manager))
}

pub(super) fn network(name: &str, config: Any) -> Filter {
    Filter { name: name.to_owned(), config_type: Some(filter::ConfigType::TypedConfig(config)) }
}

/// Asks where a captured connection was going: the kernel, or whoever called an internal listener.
pub(super) fn original_dst() -> ListenerFilter {
    listening("envoy.filters.listener.original_dst", pack_any(OriginalDst {}))
}

/// Looks whether a connection starts with TLS.
pub(super) fn tls_inspector() -> ListenerFilter {
    listening("envoy.filters.listener.tls_inspector", pack_any(TlsInspector::default()))
}

/// Looks whether a connection starts with HTTP.
pub(super) fn http_inspector() -> ListenerFilter {
    listening("envoy.filters.listener.http_inspector", pack_any(HttpInspector {}))
}

fn listening(name: &str, config: Any) -> ListenerFilter {
    ListenerFilter {
        name: name.to_owned(),
        filter_disabled: None,
        config_type: Some(listener_filter::ConfigType::TypedConfig(config)),
    }
}
