//! Mesh mTLS: the contexts of both sides, with secrets asked over the stream itself.

use envoy_types::pb::envoy::config::core::v3::{TransportSocket, transport_socket};
use envoy_types::pb::envoy::extensions::transport_sockets::raw_buffer::v3::RawBuffer;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as tls;
use envoy_types::pb::envoy::r#type::matcher::v3::StringMatcher;
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::google::protobuf::Any;
use envoy_types::util::pack_any;

use super::parts::{ads, flag};
use super::secret::{CERTIFICATE, VALIDATION};
use crate::model::{Name, PortProtocol, SpiffeId};

/// The cipher suites of TLS 1.2.
const CIPHERS: [&str; 6] = [
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-GCM-SHA256",
];

/// What clients offer for a port, so that filter chains of servers and gateways tell mesh traffic apart (§3.8).
fn client_alpn(protocol: PortProtocol) -> &'static [&'static str] {
    match protocol {
        PortProtocol::Http2 | PortProtocol::Grpc => &["istio-h2", "istio", "h2"],
        PortProtocol::Http | PortProtocol::GrpcWeb => &["istio-http/1.1", "istio"],
        _ => &["istio"],
    }
}

/// The client's side of mesh mTLS towards `accounts`; without accounts any identity under the roots is accepted.
pub(super) fn client(sni: String, protocol: PortProtocol, accounts: &[SpiffeId]) -> TransportSocket {
    let names = accounts.iter().map(|id| MatchPattern::Exact(id.to_string()));
    let context = tls::UpstreamTlsContext {
        common_tls_context: Some(common(names.collect(), client_alpn(protocol))),
        sni,
        ..Default::default()
    };
    named("envoy.transport_sockets.tls", pack_any(context))
}

/// The server's side of mesh mTLS: clients of `trust_domains` only.
pub(super) fn server<'a>(trust_domains: impl IntoIterator<Item = &'a Name>) -> TransportSocket {
    let prefix = |domain: &Name| MatchPattern::Prefix(format!("spiffe://{domain}/"));
    let names = trust_domains.into_iter().map(prefix).collect();
    let context = tls::DownstreamTlsContext {
        common_tls_context: Some(common(names, &["h2", "http/1.1"])),
        require_client_certificate: flag(true),
        ..Default::default()
    };
    named("envoy.transport_sockets.tls", pack_any(context))
}

/// No encryption.
pub(super) fn raw_buffer() -> TransportSocket {
    named("envoy.transport_sockets.raw_buffer", pack_any(RawBuffer {}))
}

fn named(name: &str, config: Any) -> TransportSocket {
    TransportSocket {
        name: name.to_owned(),
        config_type: Some(transport_socket::ConfigType::TypedConfig(config)),
    }
}

fn secret(name: &str) -> tls::SdsSecretConfig {
    tls::SdsSecretConfig { name: name.to_owned(), sds_config: ads() }
}

fn common(uris: Vec<MatchPattern>, alpn: &[&str]) -> tls::CommonTlsContext {
    let combined = tls::common_tls_context::CombinedCertificateValidationContext {
        default_validation_context: Some(tls::CertificateValidationContext {
            match_typed_subject_alt_names: uris.into_iter().map(uri).collect(),
            ..Default::default()
        }),
        validation_context_sds_secret_config: Some(secret(VALIDATION)),
        ..Default::default()
    };
    tls::CommonTlsContext {
        tls_params: Some(tls::TlsParameters {
            tls_minimum_protocol_version: tls::tls_parameters::TlsProtocol::TlSv12.into(),
            tls_maximum_protocol_version: tls::tls_parameters::TlsProtocol::TlSv13.into(),
            cipher_suites: CIPHERS.map(str::to_owned).into(),
            ..Default::default()
        }),
        tls_certificate_sds_secret_configs: vec![secret(CERTIFICATE)],
        alpn_protocols: alpn.iter().map(|&protocol| protocol.to_owned()).collect(),
        validation_context_type: Some(
            tls::common_tls_context::ValidationContextType::CombinedValidationContext(combined),
        ),
        ..Default::default()
    }
}

fn uri(pattern: MatchPattern) -> tls::SubjectAltNameMatcher {
    tls::SubjectAltNameMatcher {
        san_type: tls::subject_alt_name_matcher::SanType::Uri.into(),
        matcher: Some(StringMatcher { match_pattern: Some(pattern), ..Default::default() }),
        ..Default::default()
    }
}
