//! What the xDS server takes on; in files only.

use std::time::Duration;

use serde::Deserialize;

use super::file;

/// Bounds of connections and streams, and of what is kept for them. What is not said has its default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct LimitSettings {
    /// Connections at once (Z-33).
    pub connections: Option<usize>,
    /// How old a connection may become, up to a fifth more or less; 0s: as old as it likes (X-L03).
    #[serde(deserialize_with = "file::duration")]
    pub connection_age: Option<Duration>,
    /// New streams per second (X-L06).
    pub new_streams_per_second: Option<u32>,
    /// Requests per second of one stream (Z-38).
    pub requests_per_second: Option<u32>,
    /// How long a proxy may leave a response unread (X-F03).
    #[serde(deserialize_with = "file::duration")]
    pub unread_timeout: Option<Duration>,
    /// Over which time streams are ended at shutdown (X-L04).
    #[serde(deserialize_with = "file::duration")]
    pub drain: Option<Duration>,
    /// Mebibytes of assignments and routes that are kept to be sent again (D18).
    pub cache_mebibytes: Option<u64>,
}

impl LimitSettings {
    /// What is out of bounds, in words.
    pub(super) fn problems(&self) -> Vec<String> {
        let number = |key: &str, value: Option<u64>, most: u64| {
            value
                .filter(|value| !(1..=most).contains(value))
                .map(|value| format!("limits.{key}: {value} is not from 1 to {most}"))
        };
        let time = |key: &str, value: Option<Duration>, least: u64, most: u64| {
            value
                .filter(|value| !(Duration::from_secs(least)..=Duration::from_secs(most)).contains(value))
                .map(|_| format!("limits.{key} is not from {least}s to {most}s"))
        };
        let age = self.connection_age.filter(|age| !age.is_zero());
        [
            number("connections", self.connections.map(|count| count as u64), 1_000_000),
            number("new-streams-per-second", self.new_streams_per_second.map(u64::from), 1_000_000),
            number("requests-per-second", self.requests_per_second.map(u64::from), 1_000_000),
            time("connection-age", age, 1, 30 * 24 * 3600),
            time("unread-timeout", self.unread_timeout, 1, 24 * 3600),
            time("drain", self.drain, 0, 600),
            number("cache-mebibytes", self.cache_mebibytes, 1 << 20),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_out_of_bounds_are_named_all_at_once() {
        let wrong = LimitSettings {
            connections: Some(0),
            connection_age: Some(Duration::from_millis(1)),
            new_streams_per_second: Some(0),
            requests_per_second: Some(0),
            unread_timeout: Some(Duration::ZERO),
            drain: Some(Duration::from_secs(601)),
            cache_mebibytes: Some(0),
        };
        let problems = wrong.problems();
        assert_eq!(problems.len(), 7, "{problems:?}");
        assert!(problems[0].contains("limits.connections: 0 is not from 1"));
        let right = LimitSettings { connection_age: Some(Duration::ZERO), ..LimitSettings::default() };
        assert!(right.problems().is_empty());
    }
}
