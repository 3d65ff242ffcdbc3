//! What can go wrong with keys and certificates.

use std::io;
use std::path::PathBuf;

/// Errors of the CA. None carries key material.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// *Fatal*: a directory in the `cacerts` layout lacks some of its files.
    #[error("CA directory {dir} lacks {missing}; it needs ca-cert.pem, ca-key.pem, cert-chain.pem and root-cert.pem", dir = dir.display())]
    Incomplete {
        /// The directory.
        dir: PathBuf,
        /// The missing file names, comma separated.
        missing: String,
    },
    /// *Fatal*: a file of the CA cannot be read or written.
    #[error("cannot {action} {path}", path = path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// *Fatal*: a file of the CA was read but cannot serve.
    #[error("CA file {path} is unusable: {problem}", path = path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it and what would be right.
        problem: String,
    },
    /// *Retried* at the next request for this identity.
    #[error("cannot issue a certificate for {identity}: {problem}")]
    Issue {
        /// For whom.
        identity: String,
        /// Why.
        problem: String,
    },
}
