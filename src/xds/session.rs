//! The two protocols as pure state machines: requests and changes in, responses out. No clock, no channel.

mod delta;
mod held;
mod pacing;
mod sotw;
#[cfg(test)]
mod tests;
mod watch;
mod watches;

use std::sync::Arc;

pub use delta::DeltaSession;
pub use pacing::Pace;
pub use sotw::SotwSession;

use super::resource::{Encoded, ResourceList, ResourceType};
use crate::model::Name;

/// Where a session gets current content from. Answers are for the one proxy of the stream.
pub trait Source {
    /// The current bytes of a named resource; `None` when it does not exist (D23 decides what is said then).
    /// For the wildcard types this looks into [`lists`](Self::lists).
    fn get(&self, kind: ResourceType, name: &str) -> Option<Arc<Encoded>>;

    /// The empty resource that stands for an unknown name of the types EDS and RDS (D23).
    fn empty(&self, kind: ResourceType, name: &str) -> Arc<Encoded>;

    /// All resources of a wildcard type: what is shared with the proxies of one place, with all proxies of a projection,
    /// then the proxy's own. Of two of one name the first counts.
    fn lists(&self, kind: ResourceType) -> [Arc<ResourceList>; 3];

    /// Whether every known cluster has synced at least once since the start (D27).
    fn all_synced(&self) -> bool;
}

/// What one request did, for the I/O loop and its metrics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// Named resources now watched that were not.
    pub subscribed: Vec<(ResourceType, Name)>,
    /// Named resources no longer watched.
    pub unsubscribed: Vec<(ResourceType, Name)>,
    /// The type, on its first request of this stream.
    pub opened: Option<ResourceType>,
    /// What the request was.
    pub outcome: Outcome,
    /// Its type, when it is one of ours.
    pub kind: Option<ResourceType>,
}

impl Effects {
    /// Whether it was nothing but the answer to a response that was outstanding: these are free (D30). Each response
    /// can be answered once, so nobody can send more of them than were written.
    pub fn is_answer(&self) -> bool {
        match self.outcome {
            Outcome::Ack => self.subscribed.is_empty() && self.unsubscribed.is_empty(),
            Outcome::Nack { answers, .. } => answers,
            _ => false,
        }
    }
}

/// What a request was. Names in it count whatever it was, except in a stale state-of-the-world one (X-S08).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Outcome {
    /// Neither accepts nor rejects a response.
    #[default]
    Subscribe,
    /// Accepts a response.
    Ack,
    /// Rejects a response, or carries an error although nothing was sent yet (D26).
    Nack {
        /// The client's text, cut to 1 KiB and freed of control characters.
        message: String,
        /// Whether it answers a response.
        answers: bool,
    },
    /// Speaks of a response that is not, or no longer, outstanding.
    Stale,
    /// Of a type that is not served (X-C06).
    Unknown {
        /// Its type URL.
        url: String,
        /// Whether it is the first of its URL; false as well once [`SessionLimits::unknown_types`] are known.
        new: bool,
    },
}

/// Bounds of what one stream may make us remember.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLimits {
    /// Names subscribed per type (Z-37).
    pub names_per_type: usize,
    /// Bytes of all of them together (X-F08).
    pub bytes_per_type: usize,
    /// Length of one name or type URL, in bytes.
    pub name_bytes: usize,
    /// Type URLs remembered of types that are not served.
    pub unknown_types: usize,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self { names_per_type: 50_000, bytes_per_type: 8 << 20, name_bytes: 2048, unknown_types: 8 }
    }
}

/// Why a stream must end. The texts never repeat what the client sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// *Fatal*, INVALID_ARGUMENT: the request names no type (X-C04).
    #[error("the request has no type_url; an aggregated stream needs one in every request")]
    MissingType,
    /// *Fatal*, INVALID_ARGUMENT.
    #[error("a {0} request contains an empty resource name; leave it out, or use \"*\" for everything")]
    EmptyName(ResourceType),
    /// *Fatal*, INVALID_ARGUMENT (X-S16).
    #[error("a resource name or type_url has {bytes} bytes; at most {limit} are accepted")]
    NameTooLong {
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// *Fatal*, RESOURCE_EXHAUSTED (X-F08).
    #[error("more than {limit} {kind} names subscribed on one stream; subscribe to fewer or to \"*\"")]
    TooManyNames {
        /// The type.
        kind: ResourceType,
        /// The limit.
        limit: usize,
    },
    /// *Fatal*, RESOURCE_EXHAUSTED (X-F08).
    #[error(
        "{kind} names of more than {limit} bytes in all subscribed on one stream; subscribe to fewer or to \"*\""
    )]
    TooManyBytes {
        /// The type.
        kind: ResourceType,
        /// The limit.
        limit: usize,
    },
}

impl SessionLimits {
    /// Checks a type URL.
    fn check_url(&self, url: &str) -> Result<(), SessionError> {
        if url.is_empty() {
            return Err(SessionError::MissingType);
        }
        self.check_length(url)
    }

    /// Checks the names of one request.
    fn check_names(&self, kind: ResourceType, names: &[String]) -> Result<(), SessionError> {
        for name in names {
            if name.is_empty() {
                return Err(SessionError::EmptyName(kind));
            }
            self.check_length(name)?;
        }
        Ok(())
    }

    fn check_length(&self, text: &str) -> Result<(), SessionError> {
        if text.len() > self.name_bytes {
            return Err(SessionError::NameTooLong { bytes: text.len(), limit: self.name_bytes });
        }
        Ok(())
    }
}
