//! Cuts the body of a watch into frames.

use bytes::{Buf, Bytes, BytesMut};
use thiserror::Error;

use super::Encoding;
use super::status::short;

/// Why bytes of an API server are not what was asked for. *Retried*: the exchange is given up, state stays.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// *Retried.* A frame is longer than may be (K-37).
    #[error("a watch event has more than {limit} bytes")]
    TooLong {
        /// What may be.
        limit: usize,
    },
    /// *Retried.* The bytes are not in this encoding (K-12).
    #[error("not {encoding}: {reason}")]
    Malformed {
        /// `JSON`, or `Kubernetes protobuf`.
        encoding: &'static str,
        /// What is wrong, without what the bytes say.
        reason: String,
    },
    /// *Retried.* Something of another kind (K-22).
    #[error("kind {found:?} where {wanted} belongs")]
    WrongKind {
        /// What was asked for.
        wanted: &'static str,
        /// What came, cut short.
        found: String,
    },
    /// *Retried.* A list or bookmark without a revision (K-22).
    #[error("{0} without metadata.resourceVersion")]
    NoRevision(&'static str),
    /// *Retried* in JSON. Custom resources have no messages.
    #[error("protobuf of a kind that has none")]
    NotServed,
    /// *Retried.* An event of a type that does not exist.
    #[error("a watch event of the unknown type {0:?}")]
    UnknownEvent(String),
}

impl FrameError {
    pub(super) fn json(reason: &str) -> Self {
        Self::Malformed { encoding: "JSON", reason: short(reason) }
    }

    pub(super) fn protobuf(reason: &str) -> Self {
        Self::Malformed { encoding: "Kubernetes protobuf", reason: short(reason) }
    }

    pub(super) fn wrong_kind(wanted: &'static str, api_version: &str, kind: &str) -> Self {
        Self::WrongKind { wanted, found: short(format!("{api_version} {kind}").trim()) }
    }
}

/// Where an API server's frames begin and end: lines of JSON, or messages after their lengths. Never holds more
/// than one frame and the last chunk pushed.
#[derive(Debug)]
pub struct Framer {
    encoding: Encoding,
    limit: usize,
    buffer: BytesMut,
    /// How much of `buffer` is known to have no line end.
    searched: usize,
}

/// What precedes a protobuf frame: its length, big-endian.
const PREFIX: usize = 4;

impl Framer {
    /// For frames of at most `max` bytes.
    pub fn new(encoding: Encoding, max: usize) -> Self {
        Self { encoding, limit: max, buffer: BytesMut::new(), searched: 0 }
    }

    /// Takes in bytes of the body. Frames are to be taken out before more is pushed.
    pub fn push(&mut self, chunk: &[u8]) {
        self.buffer.extend_from_slice(chunk);
    }

    /// The next complete frame, without its line end or length; shares the buffer's memory.
    ///
    /// # Errors
    /// [`FrameError::TooLong`], told before such a frame is complete.
    #[expect(clippy::should_implement_trait, reason = "an iterator would end where only the input does")]
    pub fn next(&mut self) -> Result<Option<Bytes>, FrameError> {
        match self.encoding {
            Encoding::Json => self.next_line(),
            Encoding::Protobuf => self.next_message(),
        }
    }

    /// Whether no frame has begun that is not complete.
    pub fn is_between_frames(&self) -> bool {
        let blank = self.encoding == Encoding::Json && self.buffer.trim_ascii().is_empty();
        blank || self.buffer.is_empty()
    }

    fn next_line(&mut self) -> Result<Option<Bytes>, FrameError> {
        loop {
            let end = memchr::memchr(b'\n', &self.buffer[self.searched..]).map(|at| self.searched + at);
            let length = end.unwrap_or(self.buffer.len());
            if length > self.limit {
                return Err(FrameError::TooLong { limit: self.limit });
            }
            let Some(end) = end else {
                self.searched = self.buffer.len();
                return Ok(None);
            };
            self.searched = 0;
            let line = self.buffer.split_to(end).freeze();
            self.buffer.advance(1);
            if !line.trim_ascii().is_empty() {
                return Ok(Some(line));
            }
        }
    }

    fn next_message(&mut self) -> Result<Option<Bytes>, FrameError> {
        let Some(prefix) = self.buffer.first_chunk::<PREFIX>() else { return Ok(None) };
        let length = usize::try_from(u32::from_be_bytes(*prefix)).unwrap_or(usize::MAX);
        if length > self.limit {
            return Err(FrameError::TooLong { limit: self.limit });
        }
        if self.buffer.len() - PREFIX < length {
            // Room for the whole frame at once: a large one arrives in many chunks.
            self.buffer.reserve((PREFIX + length - self.buffer.len()).min(RESERVE));
            return Ok(None);
        }
        self.buffer.advance(PREFIX);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }
}

/// A length is believed this far before its bytes are there.
const RESERVE: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(encoding: Encoding, body: &[u8], chunk: usize) -> Vec<Vec<u8>> {
        let mut framer = Framer::new(encoding, 100);
        let mut found = Vec::new();
        for chunk in body.chunks(chunk) {
            framer.push(chunk);
            while let Some(frame) = framer.next().unwrap() {
                found.push(frame.to_vec());
            }
        }
        assert!(framer.is_between_frames());
        found
    }

    #[test]
    fn frames_do_not_depend_on_how_the_body_is_cut() {
        for chunk in 1..20 {
            let lines = frames(Encoding::Json, b"{\"a\":1}\n\n{}\r\n{\"b\":2}\n \n", chunk);
            assert_eq!(lines, [&b"{\"a\":1}"[..], b"{}\r", b"{\"b\":2}"], "{chunk}");
            let messages = frames(Encoding::Protobuf, b"\0\0\0\x03abc\0\0\0\0\0\0\0\x01d", chunk);
            assert_eq!(messages, [&b"abc"[..], b"", b"d"], "{chunk}");
        }
    }

    #[test]
    fn k37_a_frame_that_is_too_long_is_told_before_it_is_complete() {
        let mut lines = Framer::new(Encoding::Json, 4);
        lines.push(b"1234\n");
        assert_eq!(lines.next().unwrap().as_deref(), Some(&b"1234"[..]));
        lines.push(b"12345");
        assert_eq!(lines.next(), Err(FrameError::TooLong { limit: 4 }));
        let mut messages = Framer::new(Encoding::Protobuf, 4);
        messages.push(b"\0\0\0\x05");
        assert_eq!(messages.next(), Err(FrameError::TooLong { limit: 4 }));
    }

    #[test]
    fn what_is_left_of_a_body_may_be_a_part_of_a_frame() {
        for (encoding, body) in [(Encoding::Json, &b"{}\n{"[..]), (Encoding::Protobuf, b"\0\0\0\0\0\0")] {
            let mut framer = Framer::new(encoding, 10);
            framer.push(body);
            assert!(framer.next().unwrap().is_some());
            assert_eq!(framer.next(), Ok(None));
            assert!(!framer.is_between_frames());
        }
    }
}
