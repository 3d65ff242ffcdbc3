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
    /// How much memory may be in use before new streams are refused (Z-40).
    pub memory: Option<MemoryLimit>,
    /// Over which time streams are ended at shutdown (X-L04).
    #[serde(deserialize_with = "file::duration")]
    pub drain: Option<Duration>,
    /// Mebibytes of assignments and routes that are kept to be sent again (D18).
    pub cache_mebibytes: Option<u64>,
}

/// An amount of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Said")]
pub enum MemoryLimit {
    /// As much as there is.
    Off,
    /// Per cent of what there is for this process: its control groups' limit, or the machine's memory.
    Share(u8),
    /// Bytes.
    Bytes(u64),
}

/// A number of bytes, or a text.
#[derive(Deserialize)]
#[serde(untagged, expecting = "memory is bytes such as 600Mi or 2Gi, 1% to 100% of what there is, or 'off'")]
enum Said {
    Bytes(u64),
    Text(String),
}

impl TryFrom<Said> for MemoryLimit {
    type Error = String;

    fn try_from(said: Said) -> Result<Self, String> {
        let text = match said {
            Said::Bytes(bytes) => return Ok(Self::Bytes(bytes)),
            Said::Text(text) => text,
        };
        let text = text.trim();
        let units = [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40)];
        let in_unit = |(unit, shift): (&str, u32)| {
            let number = text.strip_suffix(unit)?.trim_end().parse::<u64>().ok()?;
            number.checked_mul(1 << shift).map(Self::Bytes)
        };
        let share =
            || text.strip_suffix('%')?.trim_end().parse().ok().filter(|share| (1..=100).contains(share));
        match text {
            "off" => Ok(Self::Off),
            _ => share().map(Self::Share).or_else(|| units.into_iter().find_map(in_unit)).ok_or_else(|| {
                "memory is bytes such as 600Mi or 2Gi, 1% to 100% of what there is, or 'off'".to_owned()
            }),
        }
    }
}

impl MemoryLimit {
    /// What is in force unless a file says something else: what comes at once fits into the rest.
    pub const USUAL: Self = Self::Share(80);

    /// In bytes, of so much that there is; `None` is no limit.
    pub fn bytes(self, room: Option<u64>) -> Option<u64> {
        match self {
            Self::Off => None,
            Self::Share(share) => room.map(|room| room / 100 * u64::from(share)),
            Self::Bytes(bytes) => Some(bytes),
        }
    }
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
            number("memory", self.memory.and_then(|memory| memory.bytes(None)), 1 << 50),
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
            memory: Some(MemoryLimit::Bytes(0)),
            drain: Some(Duration::from_secs(601)),
            cache_mebibytes: Some(0),
        };
        let problems = wrong.problems();
        assert_eq!(problems.len(), 8, "{problems:?}");
        assert!(problems[0].contains("limits.connections: 0 is not from 1"));
        let right = LimitSettings { connection_age: Some(Duration::ZERO), ..LimitSettings::default() };
        assert!(right.problems().is_empty());
    }

    #[test]
    fn z40_amounts_of_memory_are_bytes_units_or_shares() {
        let read = |text: &str| {
            serde_saphyr::from_str::<LimitSettings>(&format!("memory: {text}")).map(|limits| limits.memory)
        };
        for (text, expected) in [
            ("'off'", MemoryLimit::Off),
            ("75%", MemoryLimit::Share(75)),
            ("600Mi", MemoryLimit::Bytes(600 << 20)),
            ("2Gi", MemoryLimit::Bytes(2 << 30)),
            ("1048576", MemoryLimit::Bytes(1 << 20)),
        ] {
            assert_eq!(read(text).expect(text), Some(expected));
        }
        for text in ["0%", "101%", "600M", "-1", "much", "99999999Ti"] {
            let error = read(text).expect_err(text).to_string();
            assert!(error.contains("600Mi or 2Gi, 1% to 100%"), "{error}");
        }
        let room = Some(1000 << 20);
        assert_eq!(MemoryLimit::USUAL.bytes(room), Some(800 << 20));
        assert_eq!((MemoryLimit::USUAL.bytes(None), MemoryLimit::Off.bytes(room)), (None, None));
    }
}
