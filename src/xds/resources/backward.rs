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

    /// So many more bytes are to come, or about as many.
    pub(super) fn expect(&mut self, len: usize) {
        if self.start < len {
            self.resize(self.mark().0 + len);
        }
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
        self.resize((2 * self.buffer.len()).max(FIRST).max(self.mark().0 + len));
    }

    fn resize(&mut self, size: usize) {
        let written = self.mark().0;
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
        if number < 0x4000 {
            self.take(2).copy_from_slice(&[number as u8 | 0x80, (number >> 7) as u8]);
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
        let mut window = Window::default();
        window.dotted(address);
        self.place(&window);
    }

    /// `envoy.config.endpoint.v3.Endpoint` with a socket address, as a first field.
    pub(super) fn endpoint(&mut self, address: Ipv4Addr, port: u16) {
        let mut window = Window::default();
        if port != 0 {
            window.port(port);
            window.put(3 << 3);
        }
        let end = window.at;
        window.dotted(address);
        window.close(2, end);
        // The socket address, the address that is one, the endpoint.
        (0..3).for_each(|_| window.close(1, WINDOW));
        self.place(&window);
    }

    /// What a window has. Its whole width is copied, which is quicker than so many bytes: what is before them comes later.
    fn place(&mut self, window: &Window) {
        if self.start < WINDOW {
            self.grow(WINDOW);
        }
        self.buffer[self.start - WINDOW..self.start].copy_from_slice(&window.bytes);
        self.start -= WINDOW - window.at;
    }
}

/// Width of a window: more than an endpoint's address needs, 27 bytes.
const WINDOW: usize = 32;

/// A few bytes, written from their end as well.
struct Window {
    bytes: [u8; WINDOW],
    at: usize,
}

impl Default for Window {
    fn default() -> Self {
        Self { bytes: [0; WINDOW], at: WINDOW }
    }
}

impl Window {
    fn put(&mut self, byte: u8) {
        self.at -= 1;
        self.bytes[self.at] = byte;
    }

    /// A port as a varint.
    fn port(&mut self, port: u16) {
        if port >= 1 << 14 {
            self.put((port >> 14) as u8);
        }
        if port >= 1 << 7 {
            self.put((port >> 7) as u8 & 0x7f | if port >= 1 << 14 { 0x80 } else { 0 });
        }
        self.put(port as u8 & 0x7f | if port >= 1 << 7 { 0x80 } else { 0 });
    }

    fn dotted(&mut self, address: Ipv4Addr) {
        for octet in address.octets().into_iter().rev() {
            let (text, len) = &OCTETS[usize::from(octet)];
            self.bytes[self.at - text.len()..self.at].copy_from_slice(text);
            self.at -= len;
        }
        // There is no dot before the first.
        self.at += 1;
    }

    /// The tag of a field with the content up to `end`, which is short.
    fn close(&mut self, tag: u8, end: usize) {
        self.put((end - self.at) as u8);
        self.put(tag << 3 | 2);
    }
}

/// Every octet as text with a dot before it, at the end of its four bytes, and the length of that.
const OCTETS: [([u8; 4], usize); 256] = {
    let mut octets = [([0; 4], 0); 256];
    let mut octet = 0;
    while octet < octets.len() {
        let digits = [b'0' + (octet / 100) as u8, b'0' + (octet / 10 % 10) as u8, b'0' + (octet % 10) as u8];
        octets[octet] = match octet {
            0..10 => ([0, 0, b'.', digits[2]], 2),
            10..100 => ([0, b'.', digits[1], digits[2]], 3),
            _ => ([b'.', digits[0], digits[1], digits[2]], 4),
        };
        octet += 1;
    }
    octets
};

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
