//! Protobuf written from its end: whoever writes a length has its content behind it already.

use std::net::{IpAddr, Ipv4Addr};

use bytes::Bytes;

/// The room of the first buffer.
const FIRST: usize = 512;
/// As much as this may be left over.
const SPARE: usize = 64;

/// A message that grows towards its beginning. Fields are written last first, and each message's content before its
/// tag; what comes out is what an ordinary encoder writes.
#[derive(Debug, Default)]
pub(in crate::xds) struct Backward {
    buffer: Vec<u8>,
    /// Where the message begins in the buffer.
    start: usize,
}

/// What was written up to here, counted from the message's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::xds) struct Mark(usize);

impl Mark {
    /// The end of the message.
    pub(in crate::xds) const END: Self = Self(0);
}

impl Backward {
    /// A message of about `room` bytes.
    pub(super) fn with_room(room: usize) -> Self {
        Self { buffer: vec![0; room], start: room }
    }

    /// What is written so far.
    pub(in crate::xds) fn written(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// The message. What was too much room is given back where that is worth a copy.
    pub(in crate::xds) fn finish(self) -> Bytes {
        let spare = self.start;
        if spare > SPARE && spare > self.written().len() / 8 {
            return Bytes::copy_from_slice(self.written());
        }
        Bytes::from(self.buffer).slice(spare..)
    }

    /// Where the next content ends.
    pub(in crate::xds) fn mark(&self) -> Mark {
        Mark(self.buffer.len() - self.start)
    }

    /// How much was written since `mark`.
    pub(in crate::xds) fn since(&self, mark: Mark) -> usize {
        self.mark().0 - mark.0
    }

    /// Makes room for `len` bytes and gives it.
    fn take(&mut self, len: usize) -> &mut [u8] {
        if self.start < len {
            self.grow(len);
        }
        let end = self.start;
        self.start -= len;
        &mut self.buffer[self.start..end]
    }

    #[cold]
    fn grow(&mut self, len: usize) {
        let written = self.buffer.len() - self.start;
        let size = (2 * self.buffer.len()).max(FIRST).max(written + len);
        let mut larger = vec![0; size];
        larger[size - written..].copy_from_slice(self.written());
        (self.buffer, self.start) = (larger, size - written);
    }

    /// Bytes as they are.
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.take(bytes.len()).copy_from_slice(bytes);
    }

    /// What was written from `from` on, `len` bytes towards the beginning, once more.
    pub(super) fn again(&mut self, from: Mark, len: usize) {
        self.take(len);
        let source = self.buffer.len() - from.0 - len;
        self.buffer.copy_within(source..source + len, self.start);
    }

    /// A number as a varint.
    pub(super) fn varint(&mut self, mut number: u64) {
        if number < 0x80 {
            self.take(1)[0] = number as u8;
            return;
        }
        let mut digits = [0_u8; 10];
        let mut len = 0;
        loop {
            let more = number >= 0x80;
            digits[len] = (number & 0x7f) as u8 | if more { 0x80 } else { 0 };
            len += 1;
            number >>= 7;
            if !more {
                break;
            }
        }
        self.bytes(&digits[..len]);
    }

    /// The tag of a field whose content, `since` the mark, has a length.
    pub(in crate::xds) fn close(&mut self, tag: u8, since: Mark) {
        self.varint(self.since(since) as u64);
        self.take(1)[0] = tag << 3 | 2;
    }

    /// A text field; absent when empty.
    pub(super) fn text(&mut self, tag: u8, text: &str) {
        if !text.is_empty() {
            self.filled(tag, text);
        }
    }

    /// A text field that is there even when empty, as in oneofs and maps.
    pub(in crate::xds) fn filled(&mut self, tag: u8, text: &str) {
        let mark = self.mark();
        self.bytes(text.as_bytes());
        self.close(tag, mark);
    }

    /// A number field; absent when 0.
    pub(super) fn number(&mut self, tag: u8, number: u64) {
        if number != 0 {
            self.varint(number);
            self.take(1)[0] = tag << 3;
        }
    }

    /// A `google.protobuf.UInt32Value` field, always there.
    pub(super) fn wrapped(&mut self, tag: u8, number: u32) {
        let mark = self.mark();
        self.number(1, number.into());
        self.close(tag, mark);
    }

    /// The text of an address.
    pub(super) fn address(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(address) => self.dotted(address),
            IpAddr::V6(address) => self.bytes(address.to_string().as_bytes()),
        }
    }

    fn dotted(&mut self, address: Ipv4Addr) {
        let mut text = [0_u8; 15];
        let mut at = text.len();
        for (place, octet) in address.octets().into_iter().enumerate().rev() {
            let mut rest = octet;
            loop {
                at -= 1;
                text[at] = b'0' + rest % 10;
                rest /= 10;
                if rest == 0 {
                    break;
                }
            }
            if place > 0 {
                at -= 1;
                text[at] = b'.';
            }
        }
        self.bytes(&text[at..]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn told(write: impl FnOnce(&mut Backward)) -> Vec<u8> {
        let mut message = Backward::default();
        write(&mut message);
        message.written().to_vec()
    }

    proptest! {
        #[test]
        fn numbers_and_addresses_read_as_others_write_them(number: u64, v4: u32, v6: u128) {
            let mut expected = Vec::new();
            prost::encoding::encode_varint(number, &mut expected);
            prop_assert_eq!(told(|message| message.varint(number)), expected);
            for address in [IpAddr::V4(v4.into()), IpAddr::V6(v6.into())] {
                prop_assert_eq!(told(|message| message.address(address)), address.to_string().into_bytes());
            }
        }
    }

    #[test]
    fn what_was_written_can_be_written_again() {
        let text = told(|message| {
            let mark = message.mark();
            message.bytes(b"cd");
            message.bytes(b"ab");
            message.bytes(b"-");
            message.again(mark, 4);
        });
        assert_eq!(text, b"abcd-abcd");
    }

    #[test]
    fn a_message_outgrows_its_room() {
        let text = "x".repeat(2 * FIRST);
        let message = told(|message| {
            message.number(2, 7);
            message.text(1, &text);
        });
        assert_eq!(message.len(), 2 * FIRST + 3 + 2);
        assert!(message.ends_with(&[2 << 3, 7]));
    }
}
