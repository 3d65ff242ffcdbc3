//! How the controllers are doing, for whoever runs them.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

/// How long a watch counts as broken after its last error. Attempts follow each other more quickly than this;
/// a resumed watch says nothing until something changes.
const GRACE: Duration = Duration::from_secs(4);

/// Errors of watches and of work, as they come in.
#[derive(Debug, Default)]
pub(super) struct Health {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    watches: BTreeMap<&'static str, Instant>,
    last_error: Option<String>,
}

impl Health {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it holds the health")
    }

    /// A watch delivered something.
    pub(super) fn watch_works(&self, kind: &'static str) {
        self.state().watches.remove(kind);
    }

    /// A watch failed; it is tried again.
    pub(super) fn watch_failed(&self, kind: &'static str, error: &dyn std::error::Error) {
        let text = format!("watching {kind}: {}; it is tried again", chain(error));
        tracing::debug!(kind, error = %text, "watch failed");
        let mut state = self.state();
        state.watches.insert(kind, Instant::now());
        state.last_error = Some(text);
    }

    /// Work on an object failed; it is tried again.
    pub(super) fn work_failed(&self, text: String) {
        tracing::debug!(error = %text, "work failed");
        self.state().last_error = Some(text);
    }

    /// Whether no watch is known to be broken.
    pub(super) fn watches_work(&self) -> bool {
        self.state().watches.values().all(|failed| failed.elapsed() > GRACE)
    }

    pub(super) fn last_error(&self) -> Option<String> {
        self.state().last_error.clone()
    }
}

/// An error and its causes in one line, at most 300 characters.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text.chars().take(300).filter(|c| !c.is_control()).collect()
}
