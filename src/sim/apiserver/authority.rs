//! The server's own certificate authority, made at start.

use std::net::IpAddr;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::tokens::TokenKey;

/// What clients of a server trust, and keep trusting when another takes its place: the certificate authority
/// that issues serving certificates, and the key that signs tokens of service accounts. Clones share the keys.
#[derive(Clone)]
pub struct Authority {
    issuer: Arc<Issuer<'static, KeyPair>>,
    pem: String,
    token_key: TokenKey,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

/// The certificate could not be made. *Fatal* for the start: a name is no valid subject alternative name, or
/// there is no randomness.
#[derive(Debug, thiserror::Error)]
#[error("cannot make the serving certificate: {0}")]
pub struct CertificateError(String);

impl Authority {
    /// Makes a fresh authority for the API server of `cluster`.
    ///
    /// # Errors
    /// No randomness.
    pub fn generate(cluster: &str) -> Result<Self, CertificateError> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, format!("{cluster} API server CA"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().map_err(explain)?;
        let certificate = params.self_signed(&key).map_err(explain)?;
        let token_key = TokenKey::generate().map_err(|error| CertificateError(error.to_string()))?;
        Ok(Self { pem: certificate.pem(), issuer: Arc::new(Issuer::new(params, key)), token_key })
    }

    /// The authority's certificate, as clients need it to trust the server.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The key of service accounts' tokens.
    pub(super) fn token_key(&self) -> &TokenKey {
        &self.token_key
    }

    /// A certificate and its key for a server reachable by `ip` and `names`.
    pub(in crate::sim) fn issue(
        &self,
        ip: IpAddr,
        names: &[String],
    ) -> Result<(Certificate, KeyPair), CertificateError> {
        let mut all = vec!["localhost".to_owned(), "kubernetes".to_owned(), "127.0.0.1".into(), "::1".into()];
        all.push(ip.to_string());
        all.extend(names.iter().cloned());
        all.sort();
        all.dedup();
        let mut params = CertificateParams::new(all).map_err(explain)?;
        params.distinguished_name.push(DnType::CommonName, "kube-apiserver");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(explain)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(explain)?;
        Ok((certificate, key))
    }

    /// TLS settings of a server reachable by `ip` and `names`, offering HTTP/2 and HTTP/1.1.
    pub(super) fn server_config(
        &self,
        ip: IpAddr,
        names: &[String],
    ) -> Result<ServerConfig, CertificateError> {
        let (certificate, key) = self.issue(ip, names)?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config =
            ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .and_then(|builder| {
                    builder.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key)
                })
                .map_err(|error| CertificateError(error.to_string()))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

impl From<rcgen::Error> for CertificateError {
    fn from(error: rcgen::Error) -> Self {
        explain(error)
    }
}

fn explain(error: rcgen::Error) -> CertificateError {
    CertificateError(error.to_string())
}
