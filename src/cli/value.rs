//! How the values of flags are read, and what is said of those that cannot be.

use std::str::FromStr;
use std::time::Duration;

/// A time such as `30s`.
pub(super) fn time(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| "a time such as 30s, 500ms or 1h30m belongs there".to_owned())
}

/// A time that goes by.
pub(super) fn some_time(text: &str) -> Result<Duration, String> {
    match time(text)? {
        Duration::ZERO => Err("it must be longer than 0s".to_owned()),
        some => Ok(some),
    }
}

/// A whole number.
pub(super) fn number<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| match text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty() {
        true => "the number is too large".to_owned(),
        false => "a whole number belongs there".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_told_in_plain_words() {
        assert_eq!(time("1m30s"), Ok(Duration::from_secs(90)));
        assert!(time("5").is_err() && time("soon").is_err() && time("0s").is_ok());
        assert!(some_time("0s").is_err() && some_time("1ms").is_ok());
        assert_eq!(number::<u8>("7"), Ok(7));
        assert_eq!(number::<u8>("x"), Err("a whole number belongs there".to_owned()));
        assert_eq!(number::<u8>("300"), Err("the number is too large".to_owned()));
    }
}
