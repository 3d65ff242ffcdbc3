//! What can go wrong in a lab.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Errors of the lab. All are *Fatal* to it: it cleans up and ends.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LabError {
    /// The machine lacks something the chosen mode needs.
    #[error("{what}; {hint}")]
    Missing {
        /// What is missing.
        what: String,
        /// How to get it or do without.
        hint: String,
    },
    /// A file could not be read or written.
    #[error("cannot {action} {path}", path = path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A program could not be started.
    #[error("cannot start {program} for {name}")]
    Spawn {
        /// Which part of the lab.
        name: String,
        /// Which program.
        program: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A child process could not be waited for.
    #[error("cannot wait for {name}")]
    Wait {
        /// Which part of the lab.
        name: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A part of the lab ended although it should run on.
    #[error("{name} ended ({status}); {}", said(tail))]
    Ended {
        /// Which part.
        name: String,
        /// Its exit status.
        status: String,
        /// The last lines of its log.
        tail: String,
    },
    /// A set-up command failed.
    #[error("{what} failed: {output}")]
    Command {
        /// What was to be done.
        what: String,
        /// What the command wrote.
        output: String,
    },
    /// An HTTP request to a part of the lab failed.
    #[error("{method} {url}: {problem}")]
    Http {
        /// The method.
        method: String,
        /// The address.
        url: String,
        /// What went wrong.
        problem: String,
    },
    /// An API server answered, and the answer was no.
    #[error("{method} {url}: {code} {problem}")]
    Refused {
        /// The method.
        method: String,
        /// The path.
        url: String,
        /// The HTTP status.
        code: u16,
        /// What the server said.
        problem: String,
    },
    /// An object of the user's own world was refused.
    #[error("{at}, in {cluster}: {source}")]
    World {
        /// File, line, document and object.
        at: String,
        /// The cluster that was to have it.
        cluster: String,
        /// What the API server said.
        #[source]
        source: Box<LabError>,
    },
    /// A real API server could not be started or brought back.
    #[error(transparent)]
    KubeApiServer(#[from] crate::sim::kube_apiserver::KubeApiServerError),
    /// Something did not become true in time.
    #[error("{what} did not happen within {limit:?}; last seen: {seen}")]
    Deadline {
        /// What was waited for.
        what: String,
        /// How long.
        limit: Duration,
        /// The last observation.
        seen: String,
    },
    /// A claim of the check does not hold.
    #[error("expected: {what}; seen: {seen}")]
    Claim {
        /// What should hold.
        what: String,
        /// What was seen instead.
        seen: String,
    },
    /// The CA could not be made.
    #[error(transparent)]
    Trust(#[from] crate::trust::TrustError),
}

impl LabError {
    /// Whether an API server refused with this HTTP status.
    pub fn has_code(&self, wanted: u16) -> bool {
        matches!(self, Self::Refused { code, .. } if *code == wanted)
    }

    /// "cannot `action` `path`".
    pub(super) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }
}

/// What a part's log says last.
fn said(tail: &str) -> String {
    if tail.trim().is_empty() {
        "it logged nothing: is it the right program?".to_owned()
    } else {
        format!("the end of its log:\n{tail}")
    }
}
