//! Secrets.

use envoy_types::pb::envoy::config::core::v3::{DataSource, data_source};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as tls;
use prost::Message;

use super::tls::file;
use crate::model::policy::ServerTlsMode;
use crate::view::Client;
use crate::xds::resource::{Encoded, ResourceType};

/// The usual name of a proxy's own certificate.
pub(super) const CERTIFICATE: &str = "default";
/// The usual name of the roots.
pub(super) const VALIDATION: &str = "ROOTCA";

/// What names of certificates in files begin with, as the peer's agent spells them.
const CERTIFICATE_FILE: &str = "file-cert:";
/// What names of roots in files begin with.
const ROOT_FILE: &str = "file-root:";

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
    let context = tls::CertificateValidationContext { trusted_ca: inline(roots_pem), ..Default::default() };
    secret(name, tls::secret::Type::ValidationContext(context))
}

/// The secret of a certificate and its key in files of the proxy.
pub(super) fn certificate_file(certificate: &str, key: &str) -> String {
    format!("{CERTIFICATE_FILE}{certificate}~{key}")
}

/// The secret of roots in a file of the proxy.
pub(super) fn root_file(ca: &str) -> String {
    format!("{ROOT_FILE}{ca}")
}

/// Whether a secret is made of files of the proxy. It may refuse such a one, and with that everything in the message.
pub fn is_of_files(name: &str) -> bool {
    name.starts_with(CERTIFICATE_FILE) || name.starts_with(ROOT_FILE)
}

/// The secret `name` of files that TLS at the clients' Gateways names; `None` for every other name. It has the names of
/// the files: the proxy reads them.
pub fn files(name: &str, client: &Client<'_>) -> Option<Encoded> {
    if !is_of_files(name) {
        return None;
    }
    client.server_tls().find_map(|told| match &told.mode {
        ServerTlsMode::Files { certificate, key, .. } if name == certificate_file(certificate, key) => {
            let chain = tls::TlsCertificate {
                certificate_chain: file(certificate),
                private_key: file(key),
                ..Default::default()
            };
            Some(secret(name, tls::secret::Type::TlsCertificate(chain)))
        }
        ServerTlsMode::Files { ca: Some(ca), .. } if name == root_file(ca) => {
            let context = tls::CertificateValidationContext { trusted_ca: file(ca), ..Default::default() };
            Some(secret(name, tls::secret::Type::ValidationContext(context)))
        }
        _ => None,
    })
}

fn secret(name: &str, content: tls::secret::Type) -> Encoded {
    let secret = tls::Secret { name: name.to_owned(), r#type: Some(content) };
    Encoded::new(ResourceType::Secret, name, &secret.encode_to_vec())
}

fn inline(pem: &str) -> Option<DataSource> {
    Some(DataSource {
        specifier: Some(data_source::Specifier::InlineBytes(pem.as_bytes().to_vec())),
        ..Default::default()
    })
}
