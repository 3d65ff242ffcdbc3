//! Where log lines go and how they look.

use std::io::{self, IsTerminal as _, Write};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// *Fatal* at start: logging cannot be set up as asked.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter cannot be read.
    #[error("log filter {filter:?}: {problem}; examples: info, debug, tombolo=debug,warn")]
    Filter {
        /// What was given.
        filter: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Another subscriber is in place.
    #[error("logging is already set up in this process")]
    Twice,
}

/// Logs to stderr from now on: colours only on a terminal, control characters escaped, so that nothing a peer
/// sends can forge a line.
///
/// # Errors
/// [`LogError`]; nothing was set up then.
pub fn init(format: LogFormat, filter: &str) -> Result<(), LogError> {
    let wrong = |problem: String| LogError::Filter { filter: filter.to_owned(), problem };
    if let Some(word) = no_level(filter) {
        return Err(wrong(format!(
            "{word:?} is no level; those are off, error, warn, info, debug and trace"
        )));
    }
    let filter = EnvFilter::builder().parse(filter).map_err(|error| wrong(error.to_string()))?;
    let ansi =
        io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(ansi)
        // A line that cannot be written has nowhere to be complained about.
        .log_internal_errors(false)
        .with_writer(EscapingStderr { ansi });
    let done = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    done.map_err(|_| LogError::Twice)
}

/// A word of its own that is no level: it would name a target, and so silence everything else.
fn no_level(filter: &str) -> Option<&str> {
    // Fields of spans, in brackets, may have commas.
    let mut words = filter.split(',').map(str::trim).filter(|word| !word.is_empty() && !filter.contains('['));
    words.find(|word| !word.contains('=') && word.parse::<LevelFilter>().is_err())
}

/// Makes writers that escape control characters inside a line.
struct EscapingStderr {
    ansi: bool,
}

impl<'a> MakeWriter<'a> for EscapingStderr {
    type Writer = Escaping<io::Stderr>;

    fn make_writer(&'a self) -> Self::Writer {
        Escaping { ansi: self.ansi, inner: io::stderr() }
    }
}

/// Escapes control characters; one call of `write` is one line, as the subscriber writes.
struct Escaping<W> {
    ansi: bool,
    inner: W,
}

impl<W: Write> Write for Escaping<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.inner.write_all(escape(line, self.ansi).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// `line` with control characters escaped but for its last newline and, with `ansi`, the colours.
fn escape(line: &[u8], ansi: bool) -> String {
    let text = String::from_utf8_lossy(line);
    let (body, end) = match text.strip_suffix('\n') {
        Some(body) => (body, "\n"),
        None => (text.as_ref(), ""),
    };
    let mut out = String::with_capacity(body.len() + 1);
    let mut rest = body;
    while let Some(c) = rest.chars().next() {
        let colour = if ansi { colour_len(rest) } else { 0 };
        if colour > 0 {
            out.push_str(&rest[..colour]);
            rest = &rest[colour..];
            continue;
        }
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
        rest = &rest[c.len_utf8()..];
    }
    out + end
}

/// Length of the colour sequence at the start of `text`; 0 when there is none.
fn colour_len(text: &str) -> usize {
    let Some(rest) = text.strip_prefix("\u{1b}[") else {
        return 0;
    };
    let digits = rest.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b';').count();
    if rest.as_bytes().get(digits) == Some(&b'm') { digits + 3 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_cannot_forge_a_line_or_move_the_cursor() {
        assert_eq!(escape(b"a\nINFO forged\x1b[2J\r\n", false), "a\\nINFO forged\\u{1b}[2J\\r\n");
        assert_eq!(escape(b"a\nb\x1b[2J\n", true), "a\\nb\\u{1b}[2J\n");
    }

    #[test]
    fn colours_stay_on_a_terminal_only() {
        assert_eq!(escape(b"\x1b[32mINFO\x1b[0m x\n", true), "\u{1b}[32mINFO\u{1b}[0m x\n");
        assert_eq!(escape(b"\x1b[32mINFO\n", false), "\\u{1b}[32mINFO\n");
    }

    #[test]
    fn a_wrong_filter_is_named() {
        let error = init(LogFormat::Text, "tombolo=loud").expect_err("no such level").to_string();
        assert!(error.contains("tombolo=loud"), "{error}");
        let error = init(LogFormat::Text, "tombolo=debug,nonsense").expect_err("no level").to_string();
        assert!(error.contains("nonsense") && error.contains("trace"), "{error}");
        for fine in ["", "INFO", "tombolo=debug,warn", "off", "tombolo[span{a,b}]=debug"] {
            assert_eq!(no_level(fine), None, "{fine}");
        }
    }
}
