//! What certificates are checked against.

use envoy_types::pb::envoy::config::core::v3::{TransportSocket, data_source, transport_socket};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as tls;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::common_tls_context::ValidationContextType;

use super::clusters::secured;
use super::fixtures::unpack;
use crate::model::policy::{ClientTls, ClientTlsMode, ServerTls, ServerTlsMode, TlsVersion};
use crate::xds::resources::tls::{custom, gateway};

fn of<M: prost::Message + Default + prost::Name>(socket: &TransportSocket) -> M {
    let Some(transport_socket::ConfigType::TypedConfig(any)) = &socket.config_type else {
        panic!("no config: {socket:?}");
    };
    unpack(any)
}

#[test]
fn revoked_certificates_are_refused_beside_any_roots() {
    for (roots, expected) in [("/roots.pem", "/roots.pem"), ("", "/etc/ssl/certs/ca-certificates.crt")] {
        let told = ClientTls {
            ca_certificates: roots.into(),
            ca_crl: "/crl.pem".into(),
            ..secured(ClientTlsMode::Simple)
        };
        let context: tls::UpstreamTlsContext = of(&custom(&told, &[], Vec::new()));
        let common = context.common_tls_context.expect("common");
        let Some(ValidationContextType::ValidationContext(validation)) = common.validation_context_type
        else {
            panic!("no validation");
        };
        let file = |source: Option<envoy_types::pb::envoy::config::core::v3::DataSource>| {
            source.and_then(|source| source.specifier)
        };
        let named = |path: &str| Some(data_source::Specifier::Filename(path.to_owned()));
        assert_eq!(file(validation.crl), named("/crl.pem"));
        assert_eq!(file(validation.trusted_ca), named(expected));
        assert_eq!(validation.system_root_certs, None);
    }
}

#[test]
fn clients_may_do_without_a_certificate_where_that_is_said() {
    for (ca, client_optional, required) in
        [(Some("/r"), false, true), (Some("/r"), true, false), (None, false, false)]
    {
        let told = ServerTls {
            mode: ServerTlsMode::Files { certificate: "/c".into(), key: "/k".into(), ca: ca.map(Into::into) },
            min_version: TlsVersion::V1_2,
            max_version: TlsVersion::V1_3,
            cipher_suites: Vec::new(),
            subject_alt_names: Vec::new(),
            client_optional,
        };
        let context: tls::DownstreamTlsContext = of(&gateway(&told, &[], &[]).expect("a socket"));
        assert_eq!(context.require_client_certificate.map(|flag| flag.value), Some(required));
        let common = context.common_tls_context.expect("common");
        assert_eq!(common.validation_context_type.is_some(), ca.is_some(), "what is shown is verified");
    }
}
