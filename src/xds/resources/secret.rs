//! Secrets.

use envoy_types::pb::envoy::config::core::v3::{DataSource, data_source};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as tls;
use prost::Message;

use crate::xds::resource::{Encoded, ResourceType};

/// The usual name of a proxy's own certificate.
pub(super) const CERTIFICATE: &str = "default";
/// The usual name of the roots.
pub(super) const VALIDATION: &str = "ROOTCA";

/// A certificate chain and its key, both PEM, as the secret `name`.
pub fn certificate(name: &str, chain_pem: &str, key_pem: &str) -> Encoded {
    let certificate = tls::TlsCertificate {
        certificate_chain: inline(chain_pem),
        private_key: inline(key_pem),
        ..Default::default()
    };
    secret(name, tls::secret::Type::TlsCertificate(certificate))
}

/// Root certificates, PEM, as the secret `name`.
pub fn validation(name: &str, roots_pem: &str) -> Encoded {
    let context = tls::CertificateValidationContext {
        trusted_ca: inline(roots_pem),
        ..Default::default()
    };
    secret(name, tls::secret::Type::ValidationContext(context))
}

fn secret(name: &str, content: tls::secret::Type) -> Encoded {
    let secret = tls::Secret {
        name: name.to_owned(),
        r#type: Some(content),
    };
    Encoded::new(ResourceType::Secret, name, &secret.encode_to_vec())
}

fn inline(pem: &str) -> Option<DataSource> {
    Some(DataSource {
        specifier: Some(data_source::Specifier::InlineBytes(pem.as_bytes().to_vec())),
        ..Default::default()
    })
}
