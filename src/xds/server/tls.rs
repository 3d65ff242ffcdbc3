//! The TLS of a listener, from files that may be replaced while it serves (X-L10).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_util::sync::CancellationToken;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(5);
/// The largest file that is read.
const MAX_BYTES: u64 = 1 << 20;

/// Files of a TLS listener, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The server's certificate, then those that lead to its root.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Roots of clients' certificates. With it every client needs one; whose it is is not looked at.
    pub client_ca: Option<PathBuf>,
}

/// Why files make no listener. The texts never repeat what is in them.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// *Fatal at the start*, else the files before stay in use.
    #[error("cannot read {path}: {error}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// *Fatal at the start*, else the files before stay in use.
    #[error("{path} has no {wanted} in PEM")]
    Nothing {
        /// The file.
        path: PathBuf,
        /// `certificate` or `private key`.
        wanted: &'static str,
    },
    /// *Fatal at the start*, else the files before stay in use.
    #[error("{files} cannot be used together: {reason}")]
    Unusable {
        /// Which.
        files: String,
        /// What is wrong with them.
        reason: String,
    },
}

/// The TLS of a listener as of now.
#[derive(Debug)]
pub struct Certificates {
    files: TlsFiles,
    current: ArcSwap<ServerConfig>,
}

/// What was in the files when they were last looked at.
type Contents = [Vec<u8>; 3];

impl Certificates {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`], naming the file at fault.
    pub fn load(files: TlsFiles) -> Result<Arc<Self>, TlsError> {
        let config = files.config(&files.read()?)?;
        Ok(Arc::new(Self { files, current: ArcSwap::from(config) }))
    }

    /// For the next handshake.
    pub(super) fn current(&self) -> Arc<ServerConfig> {
        self.current.load_full()
    }

    /// Takes over every usable change of the files until `shutdown`. Connections that are open stay as they are.
    pub(super) async fn follow(self: Arc<Self>, shutdown: CancellationToken) {
        let mut seen: Option<Contents> = None;
        let looking = async {
            loop {
                let (this, before) = (Arc::clone(&self), seen.take());
                let looked = tokio::task::spawn_blocking(move || this.look(before)).await;
                seen = looked.unwrap_or_default();
                tokio::time::sleep(LOOK).await;
            }
        };
        shutdown.run_until_cancelled(looking).await;
    }

    /// Looks once; returns what is to be compared with the next time.
    fn look(&self, before: Option<Contents>) -> Option<Contents> {
        let contents = match self.files.read() {
            Ok(contents) => contents,
            // Told once for every time that they were readable before.
            Err(error) if before.is_some() => {
                tracing::warn!(%error, "the TLS listener goes on with the certificate it has");
                return None;
            }
            Err(_) => return None,
        };
        if before.as_ref() == Some(&contents) {
            return before;
        }
        match self.files.config(&contents) {
            Ok(config) => {
                if before.is_some() {
                    tracing::info!(certificate = %self.files.certificate.display(), "TLS files were read again");
                }
                self.current.store(config);
            }
            Err(error) => tracing::warn!(%error, "the TLS listener goes on with the certificate it has"),
        }
        Some(contents)
    }
}

impl TlsFiles {
    fn read(&self) -> Result<Contents, TlsError> {
        let roots = self.client_ca.as_deref().map(read).transpose()?;
        Ok([read(&self.certificate)?, read(&self.key)?, roots.unwrap_or_default()])
    }

    fn config(&self, [certificate, key, roots]: &Contents) -> Result<Arc<ServerConfig>, TlsError> {
        let chain = certificates(&self.certificate, certificate)?;
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|_| TlsError::Nothing { path: self.key.clone(), wanted: "private key" })?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let versions = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| self.unusable(&error))?;
        let clients = match &self.client_ca {
            None => versions.with_no_client_auth(),
            Some(path) => {
                let mut store = RootCertStore::empty();
                for root in certificates(path, roots)? {
                    store.add(root).map_err(|error| self.unusable(&error))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider).build();
                versions.with_client_cert_verifier(verifier.map_err(|error| self.unusable(&error))?)
            }
        };
        let mut config = clients.with_single_cert(chain, key).map_err(|error| self.unusable(&error))?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Arc::new(config))
    }

    fn unusable(&self, reason: &dyn std::fmt::Display) -> TlsError {
        let mut files = format!("{} and {}", self.certificate.display(), self.key.display());
        if let Some(path) = &self.client_ca {
            files = format!("{files} with the clients' roots {}", path.display());
        }
        TlsError::Unusable { files, reason: reason.to_string() }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |error| TlsError::Read { path: path.to_owned(), error };
    let length = std::fs::metadata(path).map_err(failed)?.len();
    if length > MAX_BYTES {
        return Err(failed(std::io::Error::other(format!("{length} bytes are more than {MAX_BYTES}"))));
    }
    std::fs::read(path).map_err(failed)
}

fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let nothing = || TlsError::Nothing { path: path.to_owned(), wanted: "certificate" };
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    found.ok().filter(|found| !found.is_empty()).ok_or_else(nothing)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn write(dir: &Path, name: &str, text: &str) -> PathBuf {
        let path = dir.join(name);
        std::fs::write(&path, text).expect("written");
        path
    }

    fn pair() -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("parameters");
        (params.self_signed(&key).expect("a certificate").pem(), key.serialize_pem())
    }

    fn files(dir: &Path) -> TlsFiles {
        let (certificate, key) = pair();
        TlsFiles {
            certificate: write(dir, "cert.pem", &certificate),
            key: write(dir, "key.pem", &key),
            client_ca: Some(write(dir, "ca.pem", &certificate)),
        }
    }

    #[test]
    fn l10_replaced_files_are_taken_over_and_bad_ones_are_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let files = files(dir.path());
        let certificates = Certificates::load(files.clone()).expect("usable");
        let first = certificates.current();
        let seen = certificates.look(certificates.look(None));
        let same = certificates.current();
        write(dir.path(), "cert.pem", "-----BEGIN");
        let seen = certificates.look(seen);
        assert!(Arc::ptr_eq(&same, &certificates.current()), "kept");
        let (certificate, key) = pair();
        write(dir.path(), "cert.pem", &certificate);
        let seen = certificates.look(seen);
        assert!(Arc::ptr_eq(&same, &certificates.current()), "not the key of that certificate");
        write(dir.path(), "key.pem", &key);
        let seen = certificates.look(seen);
        assert!(
            !Arc::ptr_eq(&same, &certificates.current()) && !Arc::ptr_eq(&first, &certificates.current())
        );
        let taken = certificates.current();
        assert!(certificates.look(seen).is_some() && Arc::ptr_eq(&taken, &certificates.current()));
        std::fs::remove_file(&files.key).expect("removed");
        assert!(certificates.look(None).is_none() && Arc::ptr_eq(&taken, &certificates.current()));
    }

    #[test]
    fn bad_files_are_named_and_never_repeated() {
        let dir = tempfile::tempdir().expect("a directory");
        let good = files(dir.path());
        let error = |files: TlsFiles| Certificates::load(files).expect_err("refused").to_string();
        let missing = dir.path().join("missing.pem");
        assert!(error(TlsFiles { key: missing.clone(), ..good.clone() }).contains("missing.pem"));
        let canary = write(dir.path(), "bad.pem", "canary");
        let text = error(TlsFiles { key: canary.clone(), ..good.clone() });
        assert!(text.contains("bad.pem has no private key") && !text.contains("canary"), "{text}");
        let text = error(TlsFiles { client_ca: Some(canary.clone()), ..good.clone() });
        assert!(text.contains("bad.pem has no certificate"), "{text}");
        let (_, other) = pair();
        let text = error(TlsFiles { key: write(dir.path(), "other.pem", &other), ..good });
        assert!(text.contains("cannot be used together"), "{text}");
    }
}
