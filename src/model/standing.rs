//! How a cluster stands: at the start, and while its API server is not heard.

use serde::Serialize;

/// Whether the start gate waits for a cluster (D35).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StartRule {
    /// For a limited time (R1.17).
    #[default]
    Optional,
    /// Without limit.
    Required,
}

/// What the endpoints of a cluster are worth to proxies, by the freshness of its data. Ordered: the first is
/// preferred.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// As much as any other's.
    #[default]
    Regular,
    /// Served behind all regular ones (`stale: demote`).
    Demoted,
    /// Served only where nothing else is (`stale: drop`).
    Dropped,
}
