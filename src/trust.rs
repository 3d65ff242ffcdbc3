//! The CA, identities and the secrets proxies ask for.
//!
//! An [`Authority`] is loaded from a directory in the `cacerts` layout and signs workload certificates for
//! [`SpiffeId`]s. [`WorkloadCertificates`] keeps one certificate per identity and renews it at half of its
//! life; the xDS server sees it only as a [`SecretSource`]. [`plant`] makes a root and one intermediate per
//! cluster for labs and tests.

mod authority;
mod cacerts;
mod error;
mod plant;
mod secret;
mod source;

pub use crate::model::SpiffeId;
pub use authority::{Authority, Issued};
pub use cacerts::CaFiles;
pub use error::TrustError;
pub use plant::plant;
pub use secret::Secret;
pub use source::{Clock, DEFAULT_TTL, SecretSource, WorkloadCertificates};

#[cfg(test)]
mod tests;
