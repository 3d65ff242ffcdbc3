//! How fresh a cluster's data is.

mod credentials;
mod source;
mod status;

use std::fmt;

use serde::Serialize;

pub use credentials::{CredentialFacts, Expiry};
pub use source::{Need, SourceCounters, SourceState, SourceStatus};
pub use status::{ApiFacts, ClusterStatus, Restored};

use super::Moment;

/// Why data is not fresh.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum StaleCause {
    /// The API server cannot be reached or broke the connection.
    Unreachable(String),
    /// The API server answers with an error.
    Refused(String),
    /// It was read from a snapshot on disk; the API server has not been heard since the start.
    Snapshot,
}

impl fmt::Display for StaleCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) => write!(f, "unreachable: {why}"),
            Self::Refused(why) => write!(f, "refused: {why}"),
            Self::Snapshot => f.write_str("from snapshot"),
        }
    }
}

/// State of one cluster, derived from the states of its sources (kubernetes-watch §2.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClusterHealth {
    /// Connecting for the first time.
    Connecting,
    /// The initial lists are being read; nothing is served yet (contract 2).
    Syncing,
    /// All watches are up.
    Live,
    /// All watches are up but those of kinds that may not or cannot be read (K-45, K-46, D9): which, and why.
    Degraded(String),
    /// A watch is lost: the last known data is served.
    Stale {
        /// Since when the data may be out of date. Of a snapshot: when it was last known to be true.
        since: Moment,
        /// Why.
        cause: StaleCause,
    },
    /// The credentials are refused, or may not read what is needed; in words. What was read before is served.
    Unauthorized(String),
    /// Being withdrawn.
    Removing,
}

impl ClusterHealth {
    /// The word in tables.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Syncing => "syncing",
            Self::Live => "live",
            Self::Degraded(_) => "degraded",
            Self::Stale { .. } => "stale",
            Self::Unauthorized(_) => "unauthorized",
            Self::Removing => "removing",
        }
    }

    /// What there is to say besides the word; mostly nothing.
    pub fn detail(&self) -> String {
        match self {
            Self::Degraded(why) | Self::Unauthorized(why) => why.clone(),
            Self::Stale { cause, .. } => cause.to_string(),
            Self::Connecting | Self::Syncing | Self::Live | Self::Removing => String::new(),
        }
    }

    /// Since when what these sources told may be out of date, whatever keeps them from telling more (D35).
    pub fn lost_since<'a>(sources: impl Iterator<Item = &'a SourceStatus>) -> Option<Moment> {
        sources.filter_map(SourceStatus::lost_since).min()
    }

    /// The health of a cluster with these sources, of which `served` says what is served of it.
    ///
    /// Refused credentials say most, then lost watches: one source that may be behind makes the whole cluster
    /// stale, because endpoints are made of several kinds.
    pub fn of<'a>(
        sources: impl Iterator<Item = (&'a str, &'a SourceStatus)> + Clone,
        served: Served,
    ) -> Self {
        let failed =
            |wanted: fn(&SourceStatus) -> bool| sources.clone().find(move |(_, source)| wanted(source));
        if let Some((kind, source)) = failed(SourceStatus::is_refused) {
            return Self::Unauthorized(format!("{kind}: {}", source.state.detail()));
        }
        let served_since = match served {
            Served::Live => None,
            Served::Snapshot(since) => Some(since),
            Served::Nothing => {
                let trying = sources.clone().any(|(_, source)| source.is_failing());
                let heard = sources.clone().any(|(_, source)| source.last_contact.is_some());
                return if heard && !trying { Self::Syncing } else { Self::Connecting };
            }
        };
        if let Some(since) = served_since {
            return Self::Stale { since, cause: StaleCause::Snapshot };
        }
        let lost =
            sources.clone().filter_map(|(kind, source)| Some((source.lost_since()?, kind, source.lost()?)));
        if let Some((since, kind, cause)) = lost.min_by_key(|(since, ..)| *since) {
            // Another kind may be lost for longer, and for a reason that says less.
            let since = Self::lost_since(sources.map(|(_, source)| source)).unwrap_or(since);
            return Self::Stale { since, cause: cause.about(kind) };
        }
        // Nothing is out of date of a kind that was never listed.
        let missing: Vec<_> = sources
            .clone()
            .filter(|(_, source)| source.is_missed() || source.lost().is_some())
            .map(|(kind, source)| {
                let old = if source.lost_since().is_some() { "; what it told before grows old" } else { "" };
                format!("{kind}: {}{old}", source.state.detail())
            })
            .collect();
        if !missing.is_empty() {
            Self::Degraded(missing.join("; "))
        } else if sources.clone().all(|(_, source)| source.is_settled()) {
            Self::Live
        } else {
            Self::Syncing
        }
    }
}

/// What is served of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// Nothing yet.
    Nothing,
    /// What a snapshot says that was last known to be true then.
    Snapshot(Moment),
    /// What its own sources say.
    Live,
}

impl StaleCause {
    /// The same with the kind of object named in front.
    fn about(&self, kind: &str) -> Self {
        match self {
            Self::Unreachable(why) => Self::Unreachable(format!("{kind}: {why}")),
            Self::Refused(why) => Self::Refused(format!("{kind}: {why}")),
            Self::Snapshot => Self::Snapshot,
        }
    }
}

/// Whose cluster it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ClusterRole {
    /// The control plane's own cluster: policies and remote Secrets come from here, and its records come
    /// first in merges (R5.25).
    Config,
    /// Any other cluster.
    Remote,
}

#[cfg(test)]
mod tests;
