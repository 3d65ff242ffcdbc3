//! What a client asks of a watch; pure.

use std::sync::Arc;
use std::time::Duration;

use super::super::error::ApiError;
use super::super::kinds::Kind;
use super::super::media::Media;
use super::super::object::Stored;
use super::super::route::Query;
use super::super::selector::Selector;

/// How long a watch lasts when the client names no time.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30 * 60);
/// A watch lasts no longer, whatever the client names: a year, which clocks can count.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// What a client asks of a watch.
#[derive(Debug)]
pub(in crate::sim::apiserver) struct WatchRequest {
    pub(super) kind: Arc<Kind>,
    pub(super) namespace: String,
    pub(super) selector: Selector,
    pub(super) start: Start,
    /// The version named, unless it is 0.
    pub(super) version: Option<u64>,
    pub(super) bookmarks: bool,
    pub(super) timeout: Duration,
    pub(super) media: Media,
}

/// Where a watch begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// The present state as ADDED events, then changes.
    State,
    /// As `State`, and then a bookmark that says the initial events are complete.
    StateThenBookmark,
    /// Changes after this version.
    After(u64),
}

impl WatchRequest {
    /// Reads the query of a watch.
    ///
    /// # Errors
    /// What cannot be read, or does not go together.
    pub(in crate::sim::apiserver) fn parse(
        kind: &Arc<Kind>,
        namespace: &str,
        query: &Query,
        media: Media,
    ) -> Result<Self, ApiError> {
        let selector = Selector::parse(kind, query.get("labelSelector"), query.get("fieldSelector"))?;
        let version = query.number("resourceVersion")?.filter(|version| *version > 0);
        let bookmarks = query.is_set("allowWatchBookmarks");
        let start = match (query.get("sendInitialEvents"), query.get("resourceVersionMatch")) {
            ("", "") => version.map_or(Start::State, Start::After),
            ("", _) => {
                return Err(forbidden(
                    "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
                ));
            }
            (_, matching) if matching != "NotOlderThan" => {
                return Err(forbidden(
                    "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
                ));
            }
            _ if query.is_set("sendInitialEvents") && bookmarks => Start::StateThenBookmark,
            _ if query.is_set("sendInitialEvents") => Start::State,
            _ => Start::After(version.unwrap_or(0)),
        };
        let timeout = query.number("timeoutSeconds")?.filter(|seconds| *seconds > 0);
        Ok(Self {
            kind: Arc::clone(kind),
            namespace: namespace.to_owned(),
            selector,
            start,
            version,
            bookmarks,
            timeout: timeout.map_or(DEFAULT_TIMEOUT, Duration::from_secs).min(LONGEST),
            media,
        })
    }

    /// Whether this watch sees an object in this state.
    pub(super) fn selects(&self, object: &Stored) -> bool {
        let here = self.namespace.is_empty() || *object.key.namespace == *self.namespace;
        here && self.selector.matches(object)
    }
}

fn forbidden(why: &str) -> ApiError {
    ApiError::forbidden_option("resourceVersionMatch", why)
}
