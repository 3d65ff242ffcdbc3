//! Which HTTP is spoken upstream, and with which limits.

use std::collections::HashMap;

use envoy_types::pb::envoy::config::cluster::v3 as cds;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::extensions::upstreams::http::v3 as upstream;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::http_protocol_options as options;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::explicit_http_config::ProtocolConfig;
use envoy_types::util::pack_any;

use super::Port;
use crate::model::PortProtocol;
use crate::model::policy::{ClientTlsMode, HttpPool, HttpUpgrade, TrafficSettings};
use crate::xds::resources::parts::{number, seconds, time};

/// Which HTTP version is spoken upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::xds::resources) enum Version {
    /// HTTP/1.1.
    One,
    /// HTTP/2 with prior knowledge.
    Two,
    /// The version the request came with.
    AsReceived,
}

/// What clients offer for a port, so that filter chains of servers and gateways tell mesh traffic apart (§3.8).
pub(super) fn alpn(protocol: PortProtocol, version: Version) -> &'static [&'static str] {
    match (protocol, version) {
        (_, Version::Two) => &["istio-h2", "istio", "h2"],
        (PortProtocol::Http | PortProtocol::GrpcWeb, Version::One) => &["istio-http/1.1", "istio"],
        _ => &["istio"],
    }
}

/// The version for a port under these settings.
pub(super) fn version(port: &Port<'_>, settings: &TrafficSettings) -> Version {
    let pool = settings.connection_pool.as_ref().map(|pool| &pool.http);
    let protocol = port.port.protocol;
    if pool.is_some_and(|http| http.use_client_protocol)
        && (protocol.is_http() || protocol == PortProtocol::Auto)
    {
        return Version::AsReceived;
    }
    let upgrade = match pool.map_or(HttpUpgrade::Default, |http| http.upgrade) {
        HttpUpgrade::Default => port.client.mesh().h2_upgrade,
        HttpUpgrade::DoNotUpgrade => false,
        HttpUpgrade::Upgrade => true,
    };
    if protocol.is_http2() || (upgrade && protocol == PortProtocol::Http) {
        Version::Two
    } else {
        Version::One
    }
}

/// Sets version, limits, and the server name where the request names it.
pub(super) fn apply(cluster: &mut cds::Cluster, port: &Port<'_>, settings: &TrafficSettings) {
    let default = HttpPool::default();
    let pool = settings.connection_pool.as_ref();
    let http = pool.map_or(&default, |pool| &pool.http);
    let max_duration = pool.and_then(|pool| pool.tcp.max_connection_duration);
    let common = core::HttpProtocolOptions {
        idle_timeout: http.idle_timeout.and_then(time),
        max_connection_duration: max_duration.and_then(time),
        max_requests_per_connection: http.max_requests_per_connection.filter(|max| *max > 0).and_then(number),
        ..Default::default()
    };
    let limits = (common != Default::default()).then_some(common);
    set(
        cluster,
        version(port, settings),
        limits,
        http.max_concurrent_streams,
        names_by_request(port, settings),
    );
}

/// Whether the server name is that of the request: TLS to HTTP servers without a name of their own.
fn names_by_request(
    port: &Port<'_>,
    settings: &TrafficSettings,
) -> Option<core::UpstreamHttpProtocolOptions> {
    let tls = settings.tls.as_ref()?;
    let outside = matches!(tls.mode, ClientTlsMode::Simple | ClientTlsMode::Mutual);
    let unnamed = outside && tls.sni.is_empty() && port.port.protocol.is_http();
    unnamed.then(|| core::UpstreamHttpProtocolOptions {
        auto_sni: true,
        auto_san_validation: tls.subject_alt_names.is_empty() && !tls.insecure_skip_verify,
        ..Default::default()
    })
}

/// Sets the version, and how long connections without requests stay.
pub(in crate::xds::resources) fn speak(
    cluster: &mut cds::Cluster,
    version: Version,
    idle_seconds: Option<i64>,
) {
    let limits = idle_seconds
        .map(|idle| core::HttpProtocolOptions { idle_timeout: seconds(idle), ..Default::default() });
    set(cluster, version, limits, None, None);
}

/// Sets HTTP/2 with CONNECT. With `once` each connection carries one request.
pub(in crate::xds::resources) fn speak_connect(cluster: &mut cds::Cluster, once: bool) {
    let limits = once
        .then(|| core::HttpProtocolOptions { max_requests_per_connection: number(1), ..Default::default() });
    let two = core::Http2ProtocolOptions { allow_connect: true, ..Default::default() };
    put(cluster, limits, None, explicit(ProtocolConfig::Http2ProtocolOptions(two)));
}

fn set(
    cluster: &mut cds::Cluster,
    version: Version,
    limits: Option<core::HttpProtocolOptions>,
    max_streams: Option<u32>,
    naming: Option<core::UpstreamHttpProtocolOptions>,
) {
    if version == Version::One && limits.is_none() && naming.is_none() {
        return;
    }
    put(cluster, limits, naming, spoken(version, max_streams));
}

fn put(
    cluster: &mut cds::Cluster,
    limits: Option<core::HttpProtocolOptions>,
    naming: Option<core::UpstreamHttpProtocolOptions>,
    spoken: options::UpstreamProtocolOptions,
) {
    let options = upstream::HttpProtocolOptions {
        common_http_protocol_options: limits,
        upstream_http_protocol_options: naming,
        upstream_protocol_options: Some(spoken),
        ..Default::default()
    };
    // One entry: a map of more would have no stable order.
    cluster.typed_extension_protocol_options = HashMap::from([(
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions".to_owned(),
        pack_any(options),
    )]);
}

fn spoken(version: Version, max_streams: Option<u32>) -> options::UpstreamProtocolOptions {
    let two = core::Http2ProtocolOptions {
        max_concurrent_streams: max_streams.filter(|max| *max > 0).and_then(number),
        ..Default::default()
    };
    match version {
        Version::One => explicit(ProtocolConfig::HttpProtocolOptions(core::Http1ProtocolOptions::default())),
        Version::Two => explicit(ProtocolConfig::Http2ProtocolOptions(two)),
        Version::AsReceived => {
            options::UpstreamProtocolOptions::UseDownstreamProtocolConfig(options::UseDownstreamHttpConfig {
                http_protocol_options: Some(core::Http1ProtocolOptions::default()),
                http2_protocol_options: Some(two),
                ..Default::default()
            })
        }
    }
}

fn explicit(config: ProtocolConfig) -> options::UpstreamProtocolOptions {
    let config = options::ExplicitHttpConfig { protocol_config: Some(config) };
    options::UpstreamProtocolOptions::ExplicitHttpConfig(config)
}
