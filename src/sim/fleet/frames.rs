//! gRPC's frames: a byte, a length, a message.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

/// Bytes before a message.
const PREFIX: usize = 5;
/// Largest message that is taken.
const LIMIT: usize = 256 << 20;

/// The server sent what is no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadFrame {
    /// Nobody asked for compression.
    #[error("a compressed frame")]
    Compressed,
    /// Longer than is taken.
    #[error("a frame of {0} bytes")]
    TooLong(usize),
}

/// Collects chunks until a message is whole.
#[derive(Debug, Default)]
pub(super) struct Frames {
    buffer: BytesMut,
}

impl Frames {
    /// Adds what came.
    pub(super) fn push(&mut self, chunk: &Bytes) {
        self.buffer.extend_from_slice(chunk);
    }

    /// The next whole message.
    ///
    /// # Errors
    /// [`BadFrame`]: the stream cannot go on.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, BadFrame> {
        let Some((prefix, _)) = self.buffer.split_at_checked(PREFIX) else { return Ok(None) };
        if prefix[0] != 0 {
            return Err(BadFrame::Compressed);
        }
        let length = (&prefix[1..]).get_u32() as usize;
        if length > LIMIT {
            return Err(BadFrame::TooLong(length));
        }
        if self.buffer.len() < PREFIX + length {
            return Ok(None);
        }
        let mut frame = self.buffer.split_to(PREFIX + length);
        if self.buffer.is_empty() {
            // An idle proxy holds no buffer.
            self.buffer = BytesMut::new();
        }
        frame.advance(PREFIX);
        Ok(Some(frame.freeze()))
    }
}

/// A frame whose message `write` appends.
pub(super) fn frame(write: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut buffer = BytesMut::new();
    buffer.put_bytes(0, PREFIX);
    write(&mut buffer);
    let length = u32::try_from(buffer.len() - PREFIX).expect("a request is far below 4 GiB");
    buffer[1..PREFIX].copy_from_slice(&length.to_be_bytes());
    buffer.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_out_whole_however_they_were_cut() {
        let all = [frame(|out| out.put_slice(b"one")), frame(|_| {}), frame(|out| out.put_slice(&[7; 1000]))]
            .concat();
        for size in [1, 4, 7, 5000] {
            let mut frames = Frames::default();
            let mut found = Vec::new();
            for chunk in all.chunks(size) {
                frames.push(&Bytes::copy_from_slice(chunk));
                while let Some(message) = frames.next().unwrap() {
                    found.push(message);
                }
            }
            assert_eq!(found, [&b"one"[..], b"", &[7; 1000]], "chunks of {size}");
            assert_eq!(frames.buffer.capacity(), 0);
        }
    }

    #[test]
    fn what_is_no_frame_is_said() {
        let next = |bytes: &'static [u8]| {
            let mut frames = Frames::default();
            frames.push(&Bytes::from_static(bytes));
            frames.next()
        };
        assert_eq!(next(&[1, 0, 0, 0, 0]), Err(BadFrame::Compressed));
        assert_eq!(next(&[0, 0xff, 0, 0, 0]), Err(BadFrame::TooLong(0xff00_0000)));
    }
}
