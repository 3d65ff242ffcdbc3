//! Envoy clusters (control-plane-surface §3.2, R4.18).

use std::collections::HashMap;

use envoy_types::pb::envoy::config::cluster::v3 as cds;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::extensions::upstreams::http::v3 as upstream;
use envoy_types::pb::envoy::r#type::v3::Percent;
use envoy_types::pb::google::protobuf::{Struct, Value, value};
use envoy_types::util::pack_any;

use super::parts::{ads, entry, number, seconds};
use super::{BLACK_HOLE, PASSTHROUGH, is_original_dst, tls};
use crate::model::{Service, ServicePort};
use crate::view::EdsName;
use crate::view::OutboundKey;
use crate::xds::resource::{Entry, ResourceType};

const CONNECT_TIMEOUT_SECONDS: i64 = 10;
/// Idle connections to unknown destinations are closed after this.
const PASSTHROUGH_IDLE_SECONDS: i64 = 300;

/// Which HTTP version is spoken upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// HTTP/1.1.
    One,
    /// HTTP/2 with prior knowledge.
    Two,
    /// The version the request came with.
    AsReceived,
}

/// The Envoy cluster of a service port.
pub(super) fn outbound(service: &Service, port: &ServicePort, key: &OutboundKey) -> Entry {
    let name = EdsName::outbound(port.number, &service.key.hostname).to_string();
    let mut cluster = if is_original_dst(service, key) {
        original_dst(&name)
    } else {
        let sni = EdsName::sni_dnat(port.number, &service.key.hostname).to_string();
        let mtls = tls::client(sni, port.protocol, &service.accounts);
        cds::Cluster {
            transport_socket_matches: vec![
                socket_match("tlsMode-istio", Some("istio"), mtls),
                socket_match("tlsMode-disabled", None, tls::raw_buffer()),
            ],
            ..discovered(&name)
        }
    };
    if port.protocol.is_http2() {
        speak(&mut cluster, Version::Two, None);
    }
    finish(&cluster)
}

/// The Envoy cluster behind one SNI of an east-west gateway: TLS passes through, so it has no TLS of its own.
pub(super) fn sni_dnat(service: &Service, port: &ServicePort) -> Entry {
    finish(&discovered(&EdsName::sni_dnat(port.number, &service.key.hostname).to_string()))
}

/// `PassthroughCluster`.
pub(super) fn passthrough() -> Entry {
    let mut cluster = original_dst(PASSTHROUGH);
    speak(&mut cluster, Version::AsReceived, Some(PASSTHROUGH_IDLE_SECONDS));
    finish(&cluster)
}

/// `BlackHoleCluster`.
pub(super) fn black_hole() -> Entry {
    finish(&typed(BLACK_HOLE, cds::cluster::DiscoveryType::Static))
}

pub(super) fn typed(name: &str, kind: cds::cluster::DiscoveryType) -> cds::Cluster {
    cds::Cluster {
        name: name.to_owned(),
        connect_timeout: seconds(CONNECT_TIMEOUT_SECONDS),
        circuit_breakers: Some(unlimited()),
        cluster_discovery_type: Some(cds::cluster::ClusterDiscoveryType::Type(kind.into())),
        ..Default::default()
    }
}

pub(super) fn original_dst(name: &str) -> cds::Cluster {
    cds::Cluster {
        lb_policy: cds::cluster::LbPolicy::ClusterProvided.into(),
        ..typed(name, cds::cluster::DiscoveryType::OriginalDst)
    }
}

/// A cluster whose assignment is asked over the stream. Unhealthy endpoints are sent, hence no panic mode.
fn discovered(name: &str) -> cds::Cluster {
    cds::Cluster {
        alt_stat_name: format!("{name};"),
        eds_cluster_config: Some(cds::cluster::EdsClusterConfig {
            eds_config: ads(),
            service_name: name.to_owned(),
        }),
        lb_policy: cds::cluster::LbPolicy::LeastRequest.into(),
        common_lb_config: Some(cds::cluster::CommonLbConfig {
            healthy_panic_threshold: Some(Percent { value: 0.0 }),
            ..Default::default()
        }),
        ..typed(name, cds::cluster::DiscoveryType::Eds)
    }
}

fn unlimited() -> cds::CircuitBreakers {
    cds::CircuitBreakers {
        thresholds: vec![cds::circuit_breakers::Thresholds {
            max_connections: number(u32::MAX),
            max_pending_requests: number(u32::MAX),
            max_requests: number(u32::MAX),
            max_retries: number(u32::MAX),
            track_remaining: true,
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn socket_match(
    name: &str,
    tls_mode: Option<&str>,
    socket: core::TransportSocket,
) -> cds::cluster::TransportSocketMatch {
    let field = |mode: &str| {
        let kind = Some(value::Kind::StringValue(mode.to_owned()));
        ("tlsMode".to_owned(), Value { kind })
    };
    cds::cluster::TransportSocketMatch {
        name: name.to_owned(),
        r#match: Some(Struct { fields: tls_mode.map(field).into_iter().collect() }),
        transport_socket: Some(socket),
    }
}

pub(super) fn speak(cluster: &mut cds::Cluster, version: Version, idle_seconds: Option<i64>) {
    use upstream::http_protocol_options as options;
    let protocol = match version {
        Version::One => return,
        Version::Two => options::UpstreamProtocolOptions::ExplicitHttpConfig(options::ExplicitHttpConfig {
            protocol_config: Some(options::explicit_http_config::ProtocolConfig::Http2ProtocolOptions(
                core::Http2ProtocolOptions::default(),
            )),
        }),
        Version::AsReceived => {
            options::UpstreamProtocolOptions::UseDownstreamProtocolConfig(options::UseDownstreamHttpConfig {
                http_protocol_options: Some(core::Http1ProtocolOptions::default()),
                http2_protocol_options: Some(core::Http2ProtocolOptions::default()),
                ..Default::default()
            })
        }
    };
    let options = upstream::HttpProtocolOptions {
        common_http_protocol_options: idle_seconds
            .map(|idle| core::HttpProtocolOptions { idle_timeout: seconds(idle), ..Default::default() }),
        upstream_protocol_options: Some(protocol),
        ..Default::default()
    };
    // One entry: a map of more would have no stable order.
    cluster.typed_extension_protocol_options = HashMap::from([(
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions".to_owned(),
        pack_any(options),
    )]);
}

pub(super) fn finish(cluster: &cds::Cluster) -> Entry {
    entry(ResourceType::Cluster, &cluster.name, cluster)
}
