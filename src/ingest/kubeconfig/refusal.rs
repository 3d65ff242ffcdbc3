//! Why a remote kubeconfig is not used.

use super::MAX_BYTES;
use crate::ingest::client::ForbiddenAddress;

/// *Skipped* until the content changes: what runs for this cluster keeps running (R1.6).
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Over 1 MiB.
    #[error("the kubeconfig is larger than {MAX_BYTES} bytes")]
    TooLarge,
    /// Not YAML. The parser's message is not repeated: it may quote credentials.
    #[error("the kubeconfig is malformed{0}: it is not a YAML document of kind Config")]
    Malformed(String),
    /// A field that must be there is not.
    #[error("the kubeconfig has no usable `{0}`")]
    Missing(&'static str),
    /// A field that a remote kubeconfig may not have.
    #[error("`{0}` is not allowed in the kubeconfig of a remote cluster; {1}")]
    NotAllowed(String, &'static str),
    /// Something that is permitted by exception but that nothing here can do.
    #[error("`{0}` is permitted but not supported; {1}")]
    Unsupported(&'static str, &'static str),
    /// A field that cannot be understood.
    #[error("`{0}` of the kubeconfig {1}")]
    Invalid(&'static str, &'static str),
    /// The server's address is one it may not have (Z-04).
    #[error("`server` of the kubeconfig: {0}")]
    Address(#[from] ForbiddenAddress),
    /// The id cannot be a cluster's.
    #[error(
        "`{0}` cannot be a cluster id: it must consist of letters, digits, `-`, `_` and `.`, at most 63 between dots and 253 in all"
    )]
    ClusterId(String),
}
