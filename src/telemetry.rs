//! Logs and metrics: set-up and names. What feeds them lives elsewhere.

mod logging;
mod metrics;

pub use logging::{LogError, LogFormat, init};
pub use metrics::{CacheRow, ClusterValues, IngestValues, Metrics, Refresh, SourceValues, XdsSample};
