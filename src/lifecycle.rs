//! Start and end of a server: when it is ready, what makes it stop, and what memory it has until then.

pub mod memory;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Where a server is between its start and its end. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Lifecycle {
    ready: watch::Receiver<bool>,
    draining: CancellationToken,
}

/// What `/ready` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Clusters are still being read: streams are refused.
    Starting,
    /// Serving.
    Ready,
    /// Ending: streams are being closed.
    Draining,
}

impl Phase {
    /// The word operators see.
    pub fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Draining => "draining",
        }
    }
}

impl Lifecycle {
    /// A server that serves once `ready` is true and ends when `draining` is cancelled.
    pub fn new(ready: watch::Receiver<bool>, draining: CancellationToken) -> Self {
        Self { ready, draining }
    }

    /// Where the server is now.
    pub fn phase(&self) -> Phase {
        if self.draining.is_cancelled() {
            Phase::Draining
        } else if *self.ready.borrow() {
            Phase::Ready
        } else {
            Phase::Starting
        }
    }
}

/// Completes on SIGTERM or SIGINT. The signals are caught from this call on, not from the first poll.
///
/// # Errors
/// The system refuses to register a handler.
pub fn interrupted() -> std::io::Result<impl Future<Output = ()> + Send> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        // Unbiased: both mean the same.
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draining_server_is_not_ready() {
        let (ready, receiver) = watch::channel(false);
        let token = CancellationToken::new();
        let lifecycle = Lifecycle::new(receiver, token.clone());
        assert_eq!(lifecycle.phase(), Phase::Starting);
        ready.send_replace(true);
        assert_eq!(lifecycle.phase(), Phase::Ready);
        token.cancel();
        assert_eq!(lifecycle.phase(), Phase::Draining);
    }
}
