//! Mesh mTLS: the contexts of both sides, with secrets asked over the stream itself.

use envoy_types::pb::envoy::config::core::v3::{
    ConfigSource, DataSource, TransportSocket, data_source, transport_socket,
};
use envoy_types::pb::envoy::extensions::transport_sockets::raw_buffer::v3::RawBuffer;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as tls;
use envoy_types::pb::envoy::r#type::matcher::v3::StringMatcher;
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::google::protobuf::Any;
use envoy_types::util::pack_any;

use super::parts::{ads, flag, seconds};
use super::secret::{CERTIFICATE, VALIDATION, certificate_file, root_file};
use crate::model::Name;
use crate::model::policy::{ClientTls, ClientTlsMode, ServerTls, ServerTlsMode, TlsVersion};

/// The cipher suites of TLS 1.2.
const CIPHERS: [&str; 6] = [
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-GCM-SHA256",
];

/// The client's side of mesh mTLS towards servers with one of these names; without any, every identity under the
/// roots is accepted.
pub(super) fn client(sni: String, alpn: &[&str], names: Vec<tls::SubjectAltNameMatcher>) -> TransportSocket {
    let mut common = common(Vec::new(), alpn);
    use tls::common_tls_context::ValidationContextType::CombinedValidationContext;
    if let Some(CombinedValidationContext(combined)) = &mut common.validation_context_type
        && let Some(context) = &mut combined.default_validation_context
    {
        context.match_typed_subject_alt_names = names;
    }
    let context = tls::UpstreamTlsContext { common_tls_context: Some(common), sni, ..Default::default() };
    named("envoy.transport_sockets.tls", pack_any(context))
}

/// The same for a client of gRPC, which has certificates and roots by itself: it calls where they come from `default`.
pub(super) fn provided(sni: String, names: Vec<tls::SubjectAltNameMatcher>) -> TransportSocket {
    use tls::common_tls_context::{
        CombinedCertificateValidationContext as Combined, ValidationContextType as Kind,
    };
    let provider = |certificate: &str| {
        let (instance_name, certificate_name) = (PROVIDER.to_owned(), certificate.to_owned());
        Some(tls::CertificateProviderPluginInstance { instance_name, certificate_name })
    };
    #[expect(deprecated, reason = "the only names that these clients compare")]
    let context = tls::CertificateValidationContext {
        ca_certificate_provider_instance: provider(VALIDATION),
        match_subject_alt_names: names.into_iter().filter_map(|name| name.matcher).collect(),
        ..Default::default()
    };
    let combined = Combined { default_validation_context: Some(context), ..Default::default() };
    let common = tls::CommonTlsContext {
        tls_certificate_provider_instance: provider(CERTIFICATE),
        validation_context_type: Some(Kind::CombinedValidationContext(combined)),
        ..Default::default()
    };
    let context = tls::UpstreamTlsContext { common_tls_context: Some(common), sni, ..Default::default() };
    named("envoy.transport_sockets.tls", pack_any(context))
}

/// What clients of gRPC call the provider of mesh certificates in their bootstrap.
const PROVIDER: &str = "default";
/// Where systems have their roots. Envoy finds them itself, but compares no names with them then.
const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The client's side of TLS outside the mesh: the server is verified by the system's roots, a file's, or those
/// of a secret.
pub(super) fn custom(
    settings: &ClientTls,
    alpn: &[&str],
    names: Vec<tls::SubjectAltNameMatcher>,
) -> TransportSocket {
    let secret = |name: String| tls::SdsSecretConfig { name, sds_config: impatient_ads() };
    let credential = settings.credential_name.as_str();
    let mutual = settings.mode == ClientTlsMode::Mutual;
    let mut common = tls::CommonTlsContext {
        alpn_protocols: alpn.iter().map(|&protocol| protocol.to_owned()).collect(),
        ..Default::default()
    };
    if mutual && credential.is_empty() {
        common.tls_certificates = vec![tls::TlsCertificate {
            certificate_chain: file(&settings.client_certificate),
            private_key: file(&settings.private_key),
            ..Default::default()
        }];
    } else if mutual {
        common.tls_certificate_sds_secret_configs = vec![secret(format!("kubernetes://{credential}"))];
    }
    let mut context =
        tls::CertificateValidationContext { match_typed_subject_alt_names: names, ..Default::default() };
    use tls::common_tls_context::ValidationContextType as Kind;
    common.validation_context_type = if settings.insecure_skip_verify {
        None
    } else if !credential.is_empty() {
        Some(Kind::CombinedValidationContext(tls::common_tls_context::CombinedCertificateValidationContext {
            default_validation_context: Some(context),
            validation_context_sds_secret_config: Some(secret(format!("kubernetes://{credential}-cacert"))),
            ..Default::default()
        }))
    } else {
        match settings.ca_certificates.as_str() {
            "" | "system"
                if context.match_typed_subject_alt_names.is_empty() && settings.ca_crl.is_empty() =>
            {
                context.system_root_certs = Some(Default::default());
            }
            "" | "system" => context.trusted_ca = file(SYSTEM_ROOTS),
            path => context.trusted_ca = file(path),
        }
        if !settings.ca_crl.is_empty() {
            context.crl = file(&settings.ca_crl);
        }
        Some(Kind::ValidationContext(context))
    };
    let context = tls::UpstreamTlsContext {
        common_tls_context: Some(common),
        sni: settings.sni.to_string(),
        ..Default::default()
    };
    named("envoy.transport_sockets.tls", pack_any(context))
}

/// "Ask this stream", for secrets that may not exist: an Envoy cluster must not wait for them for ever.
fn impatient_ads() -> Option<ConfigSource> {
    ads().map(|source| ConfigSource { initial_fetch_timeout: seconds(5), ..source })
}

/// A file of the proxy.
pub(super) fn file(path: &str) -> Option<DataSource> {
    let specifier = Some(data_source::Specifier::Filename(path.to_owned()));
    Some(DataSource { specifier, ..Default::default() })
}

/// A server's name, by what it looks like: a URI, an address, else a DNS name.
pub(super) fn server_name(name: &str) -> tls::SubjectAltNameMatcher {
    use tls::subject_alt_name_matcher::SanType;
    let kind = match name {
        name if name.contains("://") => SanType::Uri,
        name if name.parse::<std::net::IpAddr>().is_ok() => SanType::IpAddress,
        _ => SanType::Dns,
    };
    tls::SubjectAltNameMatcher { san_type: kind.into(), ..uri(MatchPattern::Exact(name.to_owned())) }
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

/// The side of a gateway: with files of its own, or as a part of the mesh; `None` where it terminates nothing.
pub(super) fn gateway(told: &ServerTls, alpn: &[&str], trust_domains: &[Name]) -> Option<TransportSocket> {
    use tls::common_tls_context::ValidationContextType as Kind;
    let prefix = |domain: &Name| MatchPattern::Prefix(format!("spiffe://{domain}/"));
    let (mut common, required) = match &told.mode {
        ServerTlsMode::Passthrough | ServerTlsMode::AutoPassthrough => return None,
        ServerTlsMode::IstioMutual => {
            let named = told.subject_alt_names.iter().map(|name| MatchPattern::Exact(name.to_string()));
            let named: Vec<_> = named.collect();
            let names = if named.is_empty() { trust_domains.iter().map(prefix).collect() } else { named };
            (common(names, alpn), true)
        }
        ServerTlsMode::Files { certificate, key, ca } => {
            // By secrets: a file that cannot be read in the listener itself would cost all of its chains.
            let secret = |name: String| tls::SdsSecretConfig { name, sds_config: impatient_ads() };
            let mut common = common(Vec::new(), alpn);
            common.tls_certificate_sds_secret_configs = vec![secret(certificate_file(certificate, key))];
            let names = told.subject_alt_names.iter().map(|name| server_name(name));
            let names = tls::CertificateValidationContext {
                match_typed_subject_alt_names: names.collect(),
                ..Default::default()
            };
            common.validation_context_type = ca.as_ref().map(|ca| {
                Kind::CombinedValidationContext(
                    tls::common_tls_context::CombinedCertificateValidationContext {
                        default_validation_context: Some(names),
                        validation_context_sds_secret_config: Some(secret(root_file(ca))),
                        ..Default::default()
                    },
                )
            });
            (common, ca.is_some() && !told.client_optional)
        }
    };
    let version = |version| match version {
        TlsVersion::V1_2 => tls::tls_parameters::TlsProtocol::TlSv12,
        TlsVersion::V1_3 => tls::tls_parameters::TlsProtocol::TlSv13,
    };
    if let Some(params) = &mut common.tls_params {
        params.tls_minimum_protocol_version = version(told.min_version).into();
        params.tls_maximum_protocol_version = version(told.max_version).into();
        if !told.cipher_suites.is_empty() {
            params.cipher_suites = told.cipher_suites.iter().map(ToString::to_string).collect();
        }
    }
    let context = tls::DownstreamTlsContext {
        common_tls_context: Some(common),
        require_client_certificate: flag(required),
        ..Default::default()
    };
    Some(named("envoy.transport_sockets.tls", pack_any(context)))
}

/// No encryption.
pub(super) fn raw_buffer() -> TransportSocket {
    named("envoy.transport_sockets.raw_buffer", pack_any(RawBuffer {}))
}

pub(super) fn named(name: &str, config: Any) -> TransportSocket {
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
