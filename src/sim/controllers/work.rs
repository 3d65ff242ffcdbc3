//! The loop of a controller's workers, and what can go wrong in it.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio_util::sync::CancellationToken;

use super::cache::Key;
use super::health::{Health, chain};
use super::queue::{Outcome, WorkQueue};

/// How long the work on one key may take before it counts as failed: an API server that hangs must not hold a
/// worker for ever.
const WORK_LIMIT: Duration = Duration::from_secs(30);

/// Why the work on a key failed. Every variant is *Retried*.
#[derive(Debug, Error)]
pub(super) enum WorkError {
    /// A request was refused or not answered.
    #[error("cannot {verb} {kind} {key}")]
    Request { verb: &'static str, kind: &'static str, key: Key, source: Box<kube::Error> },
    /// The answers did not come in time.
    #[error("the API server did not answer within {} s", WORK_LIMIT.as_secs())]
    Late,
}

impl WorkError {
    pub(super) fn request(verb: &'static str, kind: &'static str, key: &Key, source: kube::Error) -> Self {
        Self::Request { verb, kind, key: key.clone(), source: Box::new(source) }
    }

    /// Whether somebody else was quicker: ordinary, and mended by the next attempt.
    fn is_race(&self) -> bool {
        matches!(self, Self::Request { source, .. } if code(source) == 409)
    }
}

/// The HTTP code of a refusal; 0 if there was no answer.
pub(super) fn code(error: &kube::Error) -> u16 {
    match error {
        kube::Error::Api(status) => status.code,
        _ => 0,
    }
}

/// Brings the cluster closer to what an object asks for.
pub(super) trait Reconcile: Send + Sync + 'static {
    /// What this controller works on, for messages.
    const KIND: &'static str;

    /// Waits until everything that decisions depend on is known.
    fn ready(&self) -> impl Future<Output = ()> + Send;

    /// Works on one object. Called for one key at a time; safe to repeat.
    fn reconcile(&self, key: &Key) -> impl Future<Output = Result<Outcome, WorkError>> + Send;
}

/// Works on keys of `queue` until `stop`; the key at hand is finished.
pub(super) async fn work<R: Reconcile>(
    reconciler: Arc<R>,
    queue: Arc<WorkQueue>,
    health: Arc<Health>,
    stop: CancellationToken,
) {
    if stop.run_until_cancelled(reconciler.ready()).await.is_none() {
        return;
    }
    while let Some(key) = stop.run_until_cancelled(queue.next()).await {
        let outcome = tokio::time::timeout(WORK_LIMIT, reconciler.reconcile(&key)).await;
        let outcome = outcome.unwrap_or(Err(WorkError::Late)).unwrap_or_else(|error| {
            if !error.is_race() {
                health.work_failed(format!("{} {key}: {}; it is tried again", R::KIND, chain(&error)));
            }
            Outcome::Failed
        });
        queue.done(key, outcome);
    }
}
