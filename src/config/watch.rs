//! How API servers are watched; in files only.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde::Deserialize;

use super::file;

/// Deadlines and limits of lists and watches. What is not said has its default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct WatchSettings {
    /// For the headers of an answer (K-04).
    #[serde(deserialize_with = "file::duration")]
    pub answer_timeout: Option<Duration>,
    /// For one page of a list, from the request to its last byte (K-03, K-07).
    #[serde(deserialize_with = "file::duration")]
    pub page_timeout: Option<Duration>,
    /// How long a watch may show nothing before the server is probed (K-05).
    #[serde(deserialize_with = "file::duration")]
    pub probe_after: Option<Duration>,
    /// Between two looks at a cluster's latest change (K-19).
    #[serde(deserialize_with = "file::duration")]
    pub look_every: Option<Duration>,
    /// Bytes that a list has to bring in 10 seconds (K-08).
    pub list_minimum_bytes: Option<u64>,
    /// Lists that are read at once, of all clusters (K-42).
    pub parallel_lists: Option<usize>,
    /// The longest pause between two attempts (K-01).
    #[serde(deserialize_with = "file::duration")]
    pub longest_pause: Option<Duration>,
}

impl WatchSettings {
    /// What is out of bounds, in words.
    pub(super) fn problems(&self) -> Vec<String> {
        let seconds = |from, to| Duration::from_secs(from)..=Duration::from_secs(to);
        let durations = [
            ("answer-timeout", self.answer_timeout, seconds(1, 300)),
            ("page-timeout", self.page_timeout, seconds(5, 600)),
            ("probe-after", self.probe_after, seconds(5, 600)),
            ("look-every", self.look_every, seconds(5, 3600)),
            ("longest-pause", self.longest_pause, seconds(1, 600)),
        ];
        let durations = durations.into_iter().filter_map(|(key, value, bounds)| out(key, value?, &bounds));
        let rate = self.list_minimum_bytes.filter(|bytes| *bytes > 10 << 20);
        let rate = rate.map(|bytes| {
            format!(
                "watch.list-minimum-bytes: {bytes} is not from 0 to {}: few servers are as fast",
                10 << 20
            )
        });
        let parallel = self.parallel_lists.filter(|lists| !(1..=10_000).contains(lists));
        let parallel = parallel.map(|lists| {
            format!("watch.parallel-lists: {lists} is not from 1 to 10000: leave it out for 32")
        });
        durations.chain(rate).chain(parallel).collect()
    }
}

fn out(key: &str, value: Duration, bounds: &RangeInclusive<Duration>) -> Option<String> {
    let shown = humantime::format_duration;
    let (from, to) = (shown(*bounds.start()), shown(*bounds.end()));
    (!bounds.contains(&value)).then(|| format!("watch.{key}: {} is not from {from} to {to}", shown(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> WatchSettings {
        serde_saphyr::from_str(text).expect("valid YAML")
    }

    #[test]
    fn what_is_said_is_read_and_what_is_not_stays_open() {
        let settings = parse("answer-timeout: 20s\nlist-minimum-bytes: 0\nparallel-lists: 8\n");
        assert_eq!(settings.answer_timeout, Some(Duration::from_secs(20)));
        assert_eq!((settings.list_minimum_bytes, settings.parallel_lists), (Some(0), Some(8)));
        assert_eq!((settings.probe_after, settings.problems()), (None, Vec::new()));
    }

    #[test]
    fn what_is_out_of_bounds_is_named_with_its_bounds() {
        let settings = parse(
            "answer-timeout: 10ms\npage-timeout: 1h\nprobe-after: 0s\nlook-every: 1s\nlongest-pause: 1d\n\
             list-minimum-bytes: 99999999999\nparallel-lists: 0\n",
        );
        let problems = settings.problems();
        assert_eq!(problems.len(), 7, "{problems:?}");
        assert_eq!(problems[0], "watch.answer-timeout: 10ms is not from 1s to 5m");
        assert!(problems[6].starts_with("watch.parallel-lists: 0 is not from 1 to 10000"), "{problems:?}");
        assert!(serde_saphyr::from_str::<WatchSettings>("answer-time: 1s\n").is_err());
    }
}
