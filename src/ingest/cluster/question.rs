//! Which cluster answers: asked after a list that came after a break (K-20).

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::time::Instant;

use super::feeds::{Feeds, Unknown};
use crate::model::Name;

/// How long one attempt may take, and how many there are.
const TIMEOUT: Duration = Duration::from_secs(5);
const ATTEMPTS: usize = 5;
const PAUSE: Duration = Duration::from_secs(1);
/// How long what was listed waits for the answer. An API server that lists and does not say who it is must not
/// hold everything back for longer; an answer that comes later counts all the same.
const PATIENCE: Duration = Duration::from_secs(5);

/// A question that may be under way. Nothing waits for it but what is to be published.
#[derive(Default)]
pub(super) struct Question {
    asked: Option<BoxFuture<'static, Option<Name>>>,
    /// Until then nothing is published without an answer.
    until: Option<Instant>,
    /// Another list was completed since it was asked.
    stale: bool,
}

impl Question {
    /// Asks, after another list was completed. One that is under way is asked once more when it is answered: its
    /// answer may be older than the list.
    pub(super) fn ask(&mut self, feeds: &Arc<dyn Feeds>, now: Instant) {
        if self.asked.is_some() {
            self.stale = true;
            return;
        }
        self.asked = Some(Box::pin(ask(Arc::clone(feeds))));
        self.until = Some(now + PATIENCE);
    }

    /// The answer; empty when there is none to be had. Pends while nothing is asked.
    pub(super) async fn answer(&mut self, feeds: &Arc<dyn Feeds>) -> Name {
        loop {
            let Some(asked) = &mut self.asked else {
                return std::future::pending().await;
            };
            let answer = asked.await;
            self.asked = None;
            if !std::mem::take(&mut self.stale) || answer.is_none() {
                self.until = None;
                return answer.unwrap_or_default();
            }
            self.asked = Some(Box::pin(ask(Arc::clone(feeds))));
        }
    }

    /// Until when what was listed waits.
    pub(super) fn holds_until(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|until| *until > now)
    }
}

/// `None`: the cluster does not say, or cannot be reached.
async fn ask(feeds: Arc<dyn Feeds>) -> Option<Name> {
    for _ in 0..ATTEMPTS {
        match tokio::time::timeout(TIMEOUT, feeds.uid()).await {
            Ok(Ok(uid)) => return Some(uid),
            Ok(Err(Unknown::Untold)) => return None,
            Ok(Err(Unknown::Unreachable)) | Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
    None
}
