//! What a text or a time may be where it ends up in a proxy. Envoy refuses a whole route configuration, listener or
//! cluster for one text that it does not take, and objects of everybody share those: such a text stays out here.

use std::time::Duration;

/// The longest host name.
const MAX_HOST: usize = 253;
/// The longest name or value of a header that Envoy takes.
const MAX_HEADER: usize = 16_384;
/// The longest name of a parameter that Envoy takes.
const MAX_PARAMETER: usize = 1024;
/// The longest server name that Envoy takes.
const MAX_SNI: usize = 255;
/// The longest path of a Unix socket.
const MAX_SOCKET: usize = 107;
/// The longest duration in seconds, more than nine years. Envoy counts nanoseconds in 63 bits and some of its timers
/// milliseconds in 32 more.
const MAX_SECONDS: f64 = 3e8;

/// What texts of one sort may be.
#[derive(Clone, Copy, Debug)]
pub(in crate::ingest) struct Spelling {
    /// In words: "it is not …".
    pub(in crate::ingest) allowed: &'static str,
    takes: fn(&str) -> bool,
}

impl Spelling {
    /// Whether a text is one of these.
    pub(in crate::ingest) fn takes(&self, text: &str) -> bool {
        (self.takes)(text)
    }
}

/// The name of a header.
pub(in crate::ingest) const HEADER_NAME: Spelling =
    Spelling { allowed: "the name of a header: letters, digits and !#$%&'*+-.^_`|~", takes: is_header_name };
/// The value of a header, and what becomes a part of one: paths, authorities.
pub(in crate::ingest) const HEADER_VALUE: Spelling = Spelling {
    allowed: "a text without line breaks and other control characters, of at most 16384 bytes",
    takes: |text| text.len() <= MAX_HEADER && is_plain(text),
};
/// The name of a parameter of a query.
pub(in crate::ingest) const PARAMETER: Spelling = Spelling {
    allowed: "a name of 1 to 1024 bytes without control characters",
    takes: |text| (1..=MAX_PARAMETER).contains(&text.len()) && is_plain(text),
};
/// A host, or all under one.
pub(in crate::ingest) const HOST: Spelling =
    Spelling { allowed: "a DNS name, *.suffix, or *", takes: is_host };
/// A server name that clients ask for, an empty one for none.
pub(in crate::ingest) const SERVER_NAME: Spelling = Spelling {
    allowed: "a server name of at most 255 bytes without control characters",
    takes: |text| text.len() <= MAX_SNI && is_plain(text),
};
/// The path of a Unix socket.
pub(in crate::ingest) const SOCKET_PATH: Spelling = Spelling {
    allowed: "a path of 1 to 107 bytes without control characters",
    takes: |text| (1..=MAX_SOCKET).contains(&text.len()) && is_plain(text),
};
/// A path of a file, a name: whatever is one line.
pub(in crate::ingest) const LINE: Spelling =
    Spelling { allowed: "a text without line breaks and other control characters", takes: is_plain };

fn is_plain(text: &str) -> bool {
    !text.contains(|c: char| c.is_control() && c != '\t')
}

fn is_header_name(text: &str) -> bool {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    (1..=MAX_HEADER).contains(&text.len()) && text.bytes().all(token)
}

fn is_host(text: &str) -> bool {
    let name = text.strip_prefix("*.").unwrap_or(text);
    text == "*" || (text.len() <= MAX_HOST && name.split('.').all(is_label))
}

/// Whether a text is one label of a DNS name; capitals and underscores pass, as they do elsewhere.
pub(in crate::ingest) fn is_label(text: &str) -> bool {
    let inner = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
    (1..=63).contains(&text.len())
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// A duration that Envoy takes: numbers with units, one after another.
pub(in crate::ingest) fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        let unit_end = rest[end..].find(|c: char| c.is_ascii_digit() || c == '.');
        let (unit, next) = rest[end..].split_at(unit_end.unwrap_or(rest.len() - end));
        seconds += number
            * match unit {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "µs" => 1e-6,
                "ns" => 1e-9,
                _ => return None,
            };
        rest = next;
    }
    (!text.is_empty() && seconds <= MAX_SECONDS)
        .then(|| Duration::from_nanos_u128((seconds * 1e9).round() as u128))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_in_units() {
        for (text, millis) in [
            ("10s", 10_000),
            ("1m30s", 90_000),
            ("0.5s", 500),
            ("1.5s", 1500),
            ("100ms", 100),
            ("1h", 3_600_000),
            ("0s", 0),
        ] {
            assert_eq!(duration(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in
            ["", "0", "10", "-1s", "1d", "s", "1s-", "1..5s", "9999999999999h", "300000001s", "1 s", "1e99s"]
        {
            assert_eq!(duration(text), None, "{text}");
        }
    }

    #[test]
    fn texts_that_proxies_refuse_are_not_spelled_so() {
        let long = "x".repeat(16_385);
        for (spelling, good, bad) in [
            (HEADER_NAME, &["x", "X-a_b.c~"][..], &["", "a b", ":path", "x\r", "ä", &long][..]),
            (HEADER_VALUE, &["", "a b", "ä\t%X%"], &["a\nb", "a\rb", "a\0", "\u{7f}", &long]),
            (PARAMETER, &["q", "a b", "ä"], &["", "\0", &long[..1025]]),
            (HOST, &["a", "*", "*.a", "A_b.c-d"], &["", "*.", "*a", "a.*", "a..b", "a b", "-a", "a:1"]),
            (SERVER_NAME, &["", "a"], &[&long[..256], "\n"]),
            (SOCKET_PATH, &["/a", "@a"], &["", &long[..108], "/a\0"]),
            (LINE, &["", "/etc/x"], &["\0"]),
        ] {
            assert!(good.iter().all(|text| spelling.takes(text)), "{}", spelling.allowed);
            let taken: Vec<_> = bad.iter().filter(|text| spelling.takes(text)).collect();
            assert!(taken.is_empty(), "{}: {taken:?}", spelling.allowed);
        }
    }
}
