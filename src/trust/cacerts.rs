//! The `cacerts` layout: four PEM files in one directory.

use std::fs;
use std::path::{Path, PathBuf};

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::{Secret, TrustError};

/// The certificate that signs workloads.
pub(super) const CA_CERT: &str = "ca-cert.pem";
/// Its private key.
pub(super) const CA_KEY: &str = "ca-key.pem";
/// From the signing certificate towards the root; the root itself may be the last.
pub(super) const CERT_CHAIN: &str = "cert-chain.pem";
/// What proxies trust; one or more roots.
pub(super) const ROOT_CERT: &str = "root-cert.pem";

/// The text of the four files of one CA directory.
#[derive(Debug, Clone)]
pub struct CaFiles {
    /// Where they were read; errors name it.
    pub dir: PathBuf,
    /// `ca-cert.pem`.
    pub ca_cert: String,
    /// `ca-key.pem`.
    pub ca_key: Secret,
    /// `cert-chain.pem`.
    pub cert_chain: String,
    /// `root-cert.pem`.
    pub root_cert: String,
}

impl CaFiles {
    /// Reads the four files of `dir`.
    ///
    /// # Errors
    /// [`TrustError::Incomplete`] naming every file that is missing, [`TrustError::File`] for one that cannot
    /// be read.
    pub fn read(dir: &Path) -> Result<Self, TrustError> {
        let mut missing = Vec::new();
        for name in [CA_CERT, CA_KEY, CERT_CHAIN, ROOT_CERT] {
            let path = dir.join(name);
            // A directory that may not be looked into is another problem than one that lacks a file.
            match path.try_exists() {
                Ok(true) => {}
                Ok(false) => missing.push(name),
                Err(source) => return Err(TrustError::File { action: "read", path, source }),
            }
        }
        if !missing.is_empty() {
            return Err(TrustError::Incomplete { dir: dir.to_owned(), missing: missing.join(", ") });
        }
        Ok(Self {
            dir: dir.to_owned(),
            ca_cert: read(&dir.join(CA_CERT))?,
            ca_key: Secret::new(read(&dir.join(CA_KEY))?),
            cert_chain: read(&dir.join(CERT_CHAIN))?,
            root_cert: read(&dir.join(ROOT_CERT))?,
        })
    }

    /// Writes the four files into `dir`, which is created if needed; the key is readable by its owner only.
    ///
    /// # Errors
    /// [`TrustError::File`].
    pub fn write(&self) -> Result<(), TrustError> {
        let failed = |action, path: PathBuf| move |source| TrustError::File { action, path, source };
        fs::create_dir_all(&self.dir).map_err(failed("create", self.dir.clone()))?;
        let texts = [(CA_CERT, &self.ca_cert), (CERT_CHAIN, &self.cert_chain), (ROOT_CERT, &self.root_cert)];
        for (name, text) in texts {
            let path = self.dir.join(name);
            fs::write(&path, text).map_err(failed("write", path))?;
        }
        let path = self.dir.join(CA_KEY);
        write_private(&path, self.ca_key.reveal()).map_err(failed("write", path))
    }

    /// The error "this file cannot serve because …".
    pub(super) fn unusable(&self, name: &str, problem: impl ToString) -> TrustError {
        TrustError::Unusable { path: self.dir.join(name), problem: problem.to_string() }
    }

    /// The certificates in the text of file `name`, at least one.
    pub(super) fn certificates(
        &self,
        name: &str,
        text: &str,
    ) -> Result<Vec<CertificateDer<'static>>, TrustError> {
        let found: Vec<_> = CertificateDer::pem_slice_iter(text.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|error| self.unusable(name, format!("not PEM: {error}")))?;
        if found.is_empty() {
            return Err(self.unusable(name, "it holds no CERTIFICATE block"));
        }
        Ok(found)
    }
}

fn read(path: &Path) -> Result<String, TrustError> {
    fs::read_to_string(path).map_err(|source| TrustError::File {
        action: "read",
        path: path.to_owned(),
        source,
    })
}

/// Writes `text` to a file that only its owner may read, from its first byte on.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}
