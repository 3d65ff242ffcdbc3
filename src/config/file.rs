//! The YAML file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

use super::Settings;

/// *Fatal* at start: the file of settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It is not there or not readable.
    #[error("cannot read {path}: {error}; check --config")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// It is not YAML, or has a key or value that is not known.
    #[error("{path}: {problem}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What, and at which line.
        problem: String,
    },
}

/// Reads a file of settings.
///
/// # Errors
/// [`FileError`], naming the file and the line.
pub fn read(path: &Path) -> Result<Settings, FileError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| FileError::Unreadable { path: path.to_owned(), error })?;
    parse(&text).map_err(|problem| FileError::Malformed { path: path.to_owned(), problem })
}

fn parse(text: &str) -> Result<Settings, String> {
    let blank = |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#');
    if text.lines().all(blank) {
        return Ok(Settings::default());
    }
    serde_saphyr::from_str(text).map_err(|error| {
        let line = error.location().and_then(|at| usize::try_from(at.line()).ok());
        let place = line.map(|line| format!("line {line}: ")).unwrap_or_default();
        let key = line.and_then(|line| key(text.lines().nth(line - 1)?)).map(|key| format!("{key}: "));
        // The first line says what; an excerpt of the file follows.
        let message = error.to_string();
        let what = message.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
        let what = match in_plain_words(without_place(what)) {
            "a list belongs here" if key.as_deref() == Some("reachableNetworks: ") => PAIRS,
            what => what,
        };
        format!(
            "{place}{}{what}",
            key.filter(|key| !what.contains(key.trim_end_matches(": "))).unwrap_or_default()
        )
    })
}

/// Switches: yes, no, or a text.
pub(super) fn switches<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<BTreeMap<String, String>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Said {
        Truth(bool),
        Text(String),
    }
    let said = Option::<BTreeMap<String, Said>>::deserialize(deserializer)?;
    let text = |(name, said)| match said {
        Said::Truth(truth) => (name, truth.to_string()),
        Said::Text(text) => (name, text),
    };
    Ok(said.map(|said| said.into_iter().map(text).collect()))
}

/// `error: line 2 column 1: what` → `what`: the place has been said.
fn without_place(text: &str) -> &str {
    let text = text.strip_prefix("error: ").unwrap_or(text);
    match text.strip_prefix("line ").and_then(|rest| rest.split_once(": ")) {
        Some((place, what)) if place.chars().all(|c| c.is_ascii_digit() || " column".contains(c)) => what,
        _ => text,
    }
}

/// The key that a line begins with.
fn key(line: &str) -> Option<&str> {
    let key = line.split_once(':')?.0.trim();
    key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)).then_some(key)
}

/// What belongs into `reachableNetworks`.
const PAIRS: &str = "pairs of networks belong here, such as [[n1, n2]]";

/// What the reader says in terms of its own.
fn in_plain_words(what: &str) -> &str {
    const WORDS: [(&str, &str); 5] = [
        ("tuple of size 2", PAIRS),
        ("expected sequence start", "a list belongs here"),
        ("invalid boolean", "true or false belongs here"),
        ("expected string scalar", "a text belongs here"),
        ("expected string", "a text belongs here"),
    ];
    WORDS.iter().find(|(theirs, _)| what.contains(theirs)).map_or(what, |(_, ours)| ours)
}

/// Durations as people write them: `30s`, `100ms`.
pub(super) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let parsed = humantime::parse_duration(&text);
    parsed
        .map(Some)
        .map_err(|_| de::Error::custom(format!("{text:?} is not a duration such as 30s or 100ms")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_the_flags() {
        let settings = parse(
            "grpc-addr: 127.0.0.1:0\ndebounce-max: 5s\ninsecure-plaintext-sds: true\n\
             reachableNetworks: [[a, b], [c, d]]\n",
        )
        .expect("valid");
        assert_eq!(settings.debounce_max, Some(Duration::from_secs(5)));
        assert_eq!(settings.insecure_plaintext_sds, Some(true));
        assert_eq!(settings.reachable_networks.map(|pairs| pairs.len()), Some(2));
        assert_eq!(parse("# nothing\n"), Ok(Settings::default()));
    }

    #[test]
    fn a_wrong_key_or_value_is_named_with_its_line() {
        for (text, words) in [
            ("domain: a\ngrpc-adr: 127.0.0.1:1\n", ["line 2", "grpc-adr"]),
            ("domain: a\ndebounce-max: soon\n", ["line 2", "soon"]),
            ("grpc-addr: nowhere\n", ["line 1", "address"]),
            ("domain: [a\n", ["line", ""]),
            ("domain: a\nreachableNetworks: [a, b]\n", ["line 2", "pairs of networks"]),
            ("domain: a\nreachableNetworks: [[a, b, c]]\n", ["line 2", "pairs of networks"]),
            ("insecure-plaintext-sds: maybe\n", ["line 1: insecure-plaintext-sds: ", "true or false"]),
            ("domain: a\ncluster-id: [x]\n", ["line 2: cluster-id: ", "a text belongs here"]),
        ] {
            let error = parse(text).expect_err(text);
            assert!(words.iter().all(|word| error.contains(word)), "{text:?}: {error}");
            assert_eq!(error.matches("line ").count(), 1, "{error}");
        }
    }
}
