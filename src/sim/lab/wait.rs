//! Waiting for a condition with a deadline.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::LabError;

/// Between two looks at a condition.
const PAUSE: Duration = Duration::from_millis(15);

/// Calls `look` until it succeeds; its error is what was seen instead.
///
/// # Errors
/// [`LabError::Deadline`] with the last observation once `limit` is over.
pub(super) async fn until<T>(
    what: &str,
    limit: Duration,
    look: impl AsyncFnMut() -> Result<T, String>,
) -> Result<T, LabError> {
    until_every(what, limit, PAUSE, look).await
}

/// Like [`until`], with `pause` between two looks.
///
/// # Errors
/// [`LabError::Deadline`] with the last observation once `limit` is over.
pub(super) async fn until_every<T>(
    what: &str,
    limit: Duration,
    pause: Duration,
    mut look: impl AsyncFnMut() -> Result<T, String>,
) -> Result<T, LabError> {
    let patience = Patience::new(what, limit, pause);
    loop {
        match look().await {
            Ok(found) => return Ok(found),
            Err(seen) => patience.after(seen).await?,
        }
    }
}

/// For loops that run in tasks of their own, where an asynchronous closure is not known to be `Send`.
#[derive(Debug)]
pub(super) struct Patience<'a> {
    what: &'a str,
    start: Instant,
    limit: Duration,
    pause: Duration,
}

impl<'a> Patience<'a> {
    pub(super) fn new(what: &'a str, limit: Duration, pause: Duration) -> Self {
        Self { what, start: Instant::now(), limit, pause }
    }

    /// Waits for the next look, having `seen` something else than was hoped for.
    ///
    /// # Errors
    /// [`LabError::Deadline`] once the limit is over.
    pub(super) async fn after(&self, seen: String) -> Result<(), LabError> {
        if self.start.elapsed() >= self.limit {
            return Err(LabError::Deadline { what: self.what.to_owned(), limit: self.limit, seen });
        }
        sleep(self.pause).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn gives_up_with_what_it_saw_last() {
        let mut looks = 0;
        let error = until("the impossible", Duration::from_millis(100), async || {
            looks += 1;
            Err::<(), _>(format!("look {looks}"))
        })
        .await
        .unwrap_err();
        assert!(
            error.to_string().contains("the impossible did not happen within 100ms; last seen: look "),
            "{error}"
        );
        assert!(looks > 2);
    }

    #[tokio::test(start_paused = true)]
    async fn returns_what_was_found() {
        let mut looks = 0;
        let found = until("it", Duration::from_secs(1), async || {
            looks += 1;
            if looks == 3 { Ok(looks) } else { Err("not yet".to_owned()) }
        });
        assert_eq!(found.await.unwrap(), 3);
    }
}
