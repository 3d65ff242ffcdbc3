//! The standstill of a server whose process was stopped.

use std::future::Future;
use std::pin::pin;

use tokio::sync::watch;

/// Whether the server stands still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Motion {
    /// It works.
    Runs,
    /// It does nothing: accepts, reads and writes nothing and closes nothing. Its kernel goes on.
    Frozen,
}

/// Runs `future` while the server runs. While it is frozen `future` is not polled at all: neither its sockets
/// nor its timers have any effect until it goes on where it was.
pub(super) async fn while_running<F: Future>(mut motion: watch::Receiver<Motion>, future: F) -> F::Output {
    let mut future = pin!(future);
    while reached(&mut motion, Motion::Runs).await {
        // Biased: nothing more happens once the server is frozen.
        tokio::select! {
            biased;
            true = reached(&mut motion, Motion::Frozen) => {}
            output = future.as_mut() => return output,
        }
    }
    // Nobody is left who could freeze or thaw.
    future.await
}

/// Waits for a state; false when nobody is left who could bring it about.
async fn reached(motion: &mut watch::Receiver<Motion>, wanted: Motion) -> bool {
    motion.wait_for(|motion| *motion == wanted).await.is_ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::{Instant, advance, sleep};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn timers_have_no_effect_while_frozen() {
        let motion = watch::Sender::new(Motion::Runs);
        let task = tokio::spawn(while_running(motion.subscribe(), sleep(Duration::from_secs(1))));
        tokio::task::yield_now().await;
        motion.send_replace(Motion::Frozen);
        advance(Duration::from_secs(60)).await;
        tokio::task::yield_now().await;
        assert!(!task.is_finished());
        let thawed = Instant::now();
        motion.send_replace(Motion::Runs);
        task.await.unwrap();
        assert_eq!(thawed.elapsed(), Duration::ZERO);
    }

    #[tokio::test]
    async fn what_nobody_can_thaw_runs_on() {
        let motion = watch::Sender::new(Motion::Frozen);
        let receiver = motion.subscribe();
        drop(motion);
        assert_eq!(while_running(receiver, async { 7 }).await, 7);
    }
}
