//! A reader of protobuf messages that knows no type: what a proxy must know of a resource is its name.

/// The bytes are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are no protobuf message")]
pub(super) struct Malformed;

/// The content of one field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content<'a> {
    /// A varint.
    Number(u64),
    /// A string, bytes or a message.
    Bytes(&'a [u8]),
    /// Of a fixed size: nothing that is read here.
    Fixed,
}

/// The fields of a message in their order, with their numbers. Ends after the first error.
#[derive(Debug, Clone)]
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn of(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0_u64;
        for at in 0..10 {
            let (byte, rest) = self.rest.split_first().ok_or(Malformed)?;
            self.rest = rest;
            value |= u64::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], Malformed> {
        let length = usize::try_from(length).map_err(|_| Malformed)?;
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Malformed)?;
        self.rest = rest;
        Ok(taken)
    }

    fn field(&mut self) -> Result<(u64, Content<'a>), Malformed> {
        let key = self.varint()?;
        let content = match key & 7 {
            0 => Content::Number(self.varint()?),
            1 => self.take(8).map(|_| Content::Fixed)?,
            2 => {
                let length = self.varint()?;
                Content::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Content::Fixed)?,
            _ => return Err(Malformed),
        };
        Ok((key >> 3, content))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Content<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

/// The parts of a message in all of its fields `number`.
pub(super) fn parts(message: &[u8], number: u64) -> impl Iterator<Item = &[u8]> {
    Fields::of(message).filter_map(move |field| match field {
        Ok((found, Content::Bytes(part))) if found == number => Some(part),
        _ => None,
    })
}

/// The last text in field `number`; empty if there is none.
pub(super) fn text(message: &[u8], number: u64) -> &str {
    parts(message, number).last().and_then(|part| std::str::from_utf8(part).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::proto::discovery::Node;

    #[test]
    fn fields_of_every_kind_are_passed() {
        // 1: varint 300, 2: fixed64, 3: "ab", 4: fixed32, 3: "c".
        let mut bytes = vec![0x08, 0xac, 0x02, 0x11];
        bytes.extend([0; 8]);
        bytes.extend([0x1a, 2, b'a', b'b', 0x25, 0, 0, 0, 0, 0x1a, 1, b'c']);
        let all: Vec<_> = Fields::of(&bytes).map(Result::unwrap).collect();
        let expected = [
            (1, Content::Number(300)),
            (2, Content::Fixed),
            (3, Content::Bytes(b"ab")),
            (4, Content::Fixed),
            (3, Content::Bytes(b"c")),
        ];
        assert_eq!(all, expected);
        assert_eq!(parts(&bytes, 3).collect::<Vec<_>>(), [b"ab".as_slice(), b"c"]);
        assert_eq!(text(&bytes, 3), "c");
    }

    #[test]
    fn generated_messages_are_read() {
        let node = Node { id: "a".into(), cluster: "b".into(), ..Node::default() }.encode_to_vec();
        assert_eq!((text(&node, 1), text(&node, 2), text(&node, 9)), ("a", "b", ""));
    }

    #[test]
    fn bytes_that_are_no_message_end_in_one_error() {
        for bytes in [&[0x0a, 5, 1][..], &[0x80], &[0x0b], &[0x09, 1], &[0xff; 11]] {
            let all: Vec<_> = Fields::of(bytes).collect();
            assert_eq!(all, [Err(Malformed)], "{bytes:?}");
        }
    }
}
