//! The only place where commands write: data to stdout, talk to stderr. A reader that went away is no failure.

use std::fmt::Display;
use std::io::{self, Write};
use std::time::Instant;

/// Who reads what is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reader {
    /// Somebody may.
    There,
    /// Nobody does: the pipe is closed, or the disk is full.
    Gone,
}

/// Writes data to stdout.
pub(super) fn data(text: &str) -> Reader {
    write(&mut io::stdout().lock(), text)
}

/// Writes one line of data to stdout, so that a reading process sees it at once.
pub(super) fn line(line: &impl Display) -> Reader {
    data(&format!("{line}\n"))
}

/// Tells the user something on stderr.
pub(super) fn note(text: &impl Display) {
    write(&mut io::stderr().lock(), &format!("tombolo: {text}\n"));
}

/// Tells the user something on stderr, with the time `since` a beginning.
pub(super) fn talk(since: Instant, text: &str) {
    write(&mut io::stderr().lock(), &format!("{:>6.1}s  {text}\n", since.elapsed().as_secs_f64()));
}

fn write(to: &mut impl Write, text: &str) -> Reader {
    match to.write_all(text.as_bytes()).and_then(|()| to.flush()) {
        Ok(()) => Reader::There,
        Err(_) => Reader::Gone,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_pipe_is_a_reader_that_is_gone() {
        let (reader, mut writer) = io::pipe().expect("a pipe");
        assert_eq!(write(&mut writer, "x"), Reader::There);
        drop(reader);
        assert_eq!(write(&mut writer, "x"), Reader::Gone);
    }
}
