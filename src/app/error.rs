//! Why a server does not start, or ends.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::ingest::IngestError;
use crate::trust::TrustError;
use crate::xds::TlsError;

/// All are *Fatal*: before [`Bound::run`](super::Bound::run) nothing keeps running after one.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// A port cannot be opened.
    #[error("{flag} {address}: {error}; {hint}")]
    Listen {
        /// The flag that names the address.
        flag: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why.
        error: std::io::Error,
        /// What to do.
        hint: &'static str,
    },
    /// Clusters cannot be read.
    #[error(transparent)]
    Ingest(#[from] IngestError),
    /// The CA cannot be used.
    #[error("--ca-dir: {error}{}", cause(error))]
    Ca {
        /// The directory.
        path: PathBuf,
        /// Why.
        error: TrustError,
    },
    /// The admin pages have no thread.
    #[error("cannot start the thread of the admin pages: {0}")]
    Thread(std::io::Error),
    /// The TLS listener's files cannot be used.
    #[error("--tls-cert, --tls-key, --client-ca: {0}")]
    Tls(#[from] TlsError),
}

/// What the system said, which the error of the CA leaves to its source.
fn cause(error: &TrustError) -> String {
    std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default()
}

impl AppError {
    /// A port that cannot be opened, with advice.
    pub(super) fn listen(flag: &'static str, address: SocketAddr, error: std::io::Error) -> Self {
        use std::io::ErrorKind::{AddrInUse, AddrNotAvailable, PermissionDenied};
        let hint = match error.kind() {
            AddrInUse => {
                "another process listens there: stop it, or give another address (port 0 takes a free one)"
            }
            AddrNotAvailable => "this machine has no such address: give one it has, or 0.0.0.0 for all",
            PermissionDenied => "ports below 1024 need privileges: give a higher port",
            _ => "give another address",
        };
        Self::Listen { flag, address, error, hint }
    }

    /// Whether the configuration is at fault, not the machine.
    pub fn is_configuration(&self) -> bool {
        matches!(self, Self::Ingest(_) | Self::Ca { .. } | Self::Tls(_))
    }
}
