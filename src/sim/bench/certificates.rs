//! Certificates of one run: a server's, and one that all proxies share.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType,
};
use rustls::ClientConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};

use super::BenchError;

const SERVER_NAME: &str = "localhost";
const CLIENT_IDENTITY: &str = "spiffe://cluster.local/ns/bench/sa/svc-0";

/// Files for the server, and what the proxies need.
pub(super) struct Certificates {
    server: PathBuf,
    server_key: PathBuf,
    authority: PathBuf,
    root: CertificateDer<'static>,
    client: CertificateDer<'static>,
    client_key: PrivateKeyDer<'static>,
}

impl Certificates {
    /// Makes them; files go to `dir`, which only its owner reads.
    ///
    /// # Errors
    /// [`BenchError::Certificates`], [`BenchError::File`].
    pub(super) fn make(dir: &Path) -> Result<Self, BenchError> {
        let made = issue().map_err(BenchError::Certificates)?;
        let write = |name: &str, text: &str| {
            let path = dir.join(name);
            std::fs::write(&path, text).map_err(BenchError::file("write", &path))?;
            Ok::<_, BenchError>(path)
        };
        Ok(Self {
            server: write("server.pem", &made.server)?,
            server_key: write("server-key.pem", &made.server_key)?,
            authority: write("ca.pem", &made.authority)?,
            root: made.root,
            client: made.client,
            client_key: made.client_key,
        })
    }

    /// The flags that give them to the server.
    pub(super) fn flags(&self) -> Vec<String> {
        let pairs =
            [("--tls-cert", &self.server), ("--tls-key", &self.server_key), ("--client-ca", &self.authority)];
        pairs.into_iter().flat_map(|(flag, path)| [flag.to_owned(), path.display().to_string()]).collect()
    }

    /// What proxies connect with.
    ///
    /// # Errors
    /// [`BenchError::Tls`].
    pub(super) fn client(&self) -> Result<(Arc<ClientConfig>, ServerName<'static>), BenchError> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.root.clone()).map_err(BenchError::Tls)?;
        let mut config =
            ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .map_err(BenchError::Tls)?
                .with_root_certificates(roots)
                .with_client_auth_cert(vec![self.client.clone()], self.client_key.clone_key())
                .map_err(BenchError::Tls)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        // Each proxy is another one: none resumes another's session.
        config.resumption = rustls::client::Resumption::disabled();
        let name = ServerName::try_from(SERVER_NAME).expect("a DNS name");
        Ok((Arc::new(config), name))
    }
}

struct Made {
    server: String,
    server_key: String,
    authority: String,
    root: CertificateDer<'static>,
    client: CertificateDer<'static>,
    client_key: PrivateKeyDer<'static>,
}

fn issue() -> Result<Made, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let (server_key, client_key) = (KeyPair::generate()?, KeyPair::generate()?);
    let mut params = CertificateParams::new(vec![SERVER_NAME.to_owned()])?;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let server = params.signed_by(&server_key, &authority)?;
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(CLIENT_IDENTITY.try_into()?)];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let client = params.signed_by(&client_key, &authority)?;
    Ok(Made {
        server: server.pem(),
        server_key: server_key.serialize_pem(),
        authority: authority.pem(),
        root: authority.der().clone(),
        client: client.der().clone(),
        client_key: PrivateKeyDer::try_from(client_key.serialize_der()).expect("PKCS #8, as it was made"),
    })
}
