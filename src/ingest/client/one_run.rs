//! Something slow that several wait for.

use std::sync::{Mutex, PoisonError};

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use tokio::task::AbortHandle;
use tokio_util::task::AbortOnDropHandle;

/// At most one run at a time, for all who wait for it. It goes on when nobody waits any more, so that what takes
/// longer than anybody's patience still comes to its end once; it ends with this.
pub(super) struct OneRun<T: Clone>(Mutex<Option<(Run<T>, AbortHandle)>>);

/// A run; `None`: it ended abnormally.
type Run<T> = Shared<BoxFuture<'static, Option<T>>>;

impl<T: Clone> Default for OneRun<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone + Send + Sync + 'static> OneRun<T> {
    /// The run that is under way, else the one that `begin` makes. Needs a Tokio runtime.
    pub(super) fn join<F>(&self, begin: impl FnOnce() -> F) -> Run<T>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Perhaps nobody waited for its end.
        if let Some((run, _)) = last.as_ref().filter(|(_, task)| !task.is_finished()) {
            return run.clone();
        }
        let task = AbortOnDropHandle::new(tokio::spawn(begin()));
        let handle = task.abort_handle();
        let run = task.map(Result::ok).boxed().shared();
        *last = Some((run.clone(), handle));
        run
    }
}
