//! Waiting for a moment that may never be set.

use std::time::Instant;

/// Completes at `instant`; never without one.
pub(super) async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant.into()).await,
        None => std::future::pending().await,
    }
}
