//! Values from protobuf, borrowed from the bytes. Unknown fields are skipped; of fields that come twice the last
//! one counts, messages merge, lists grow.

use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

/// Why bytes are not the message they should be; never says what the bytes are.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::ingest::objects) struct Fault(String);

impl Fault {
    pub(in crate::ingest::objects) fn new(what: &str) -> Self {
        Self(what.to_owned())
    }

    /// The same, of the field `name`.
    pub(in crate::ingest::objects) fn within(self, name: &str) -> Self {
        Self(format!("{name}: {}", self.0))
    }

    pub(in crate::ingest::objects) fn into_text(self) -> String {
        self.0
    }
}

/// Something a field can hold.
pub(in crate::ingest::objects) trait Wire<'a>: Default {
    /// Takes one value off `input`.
    fn merge(&mut self, wire: WireType, input: &mut &'a [u8]) -> Result<(), Fault>;
}

/// A message that reads its own fields.
pub(in crate::ingest::objects) trait Message<'a>: Default {
    /// Reads the value of the field `number`; false if there is no such field, the value is unread then.
    fn merge_field(&mut self, number: u32, wire: WireType, input: &mut &'a [u8]) -> Result<bool, Fault>;

    /// Reads fields until the bytes end.
    fn merge_bytes(&mut self, mut bytes: &'a [u8]) -> Result<(), Fault> {
        while let Some((number, wire)) = next(&mut bytes)? {
            if !self.merge_field(number, wire, &mut bytes)? {
                skip(number, wire, &mut bytes)?;
            }
        }
        Ok(())
    }

    /// Reads a whole message.
    fn parse(bytes: &'a [u8]) -> Result<Self, Fault> {
        let mut message = Self::default();
        message.merge_bytes(bytes)?;
        Ok(message)
    }
}

/// The next field's number and wire type; `None` at the end.
#[inline]
pub(in crate::ingest::objects) fn next(input: &mut &[u8]) -> Result<Option<(u32, WireType)>, Fault> {
    match input.first() {
        None => Ok(None),
        // Fields up to 15 that have bytes or a number: nearly all of them.
        Some(&byte @ 0x08..0x80) if matches!(byte & 7, 0 | 2) => {
            *input = &input[1..];
            let wire = if byte & 7 == 0 { WireType::Varint } else { WireType::LengthDelimited };
            Ok(Some((u32::from(byte >> 3), wire)))
        }
        Some(_) => decode_key(input).map(Some).map_err(|_| Fault::new("no field begins where one should")),
    }
}

/// Passes over a value.
pub(in crate::ingest::objects) fn skip(number: u32, wire: WireType, input: &mut &[u8]) -> Result<(), Fault> {
    if wire == WireType::LengthDelimited {
        return delimited(wire, input).map(|_| ());
    }
    skip_field(wire, number, input, DecodeContext::default()).map_err(|_| cut_short())
}

/// Takes bytes after their length.
#[inline]
pub(in crate::ingest::objects) fn delimited<'a>(
    wire: WireType,
    input: &mut &'a [u8],
) -> Result<&'a [u8], Fault> {
    expect(WireType::LengthDelimited, wire)?;
    let length = number(input)?;
    let length = usize::try_from(length).map_err(|_| cut_short())?;
    let (value, rest) = input.split_at_checked(length).ok_or_else(cut_short)?;
    *input = rest;
    Ok(value)
}

pub(super) fn varint(wire: WireType, input: &mut &[u8]) -> Result<u64, Fault> {
    expect(WireType::Varint, wire)?;
    number(input)
}

#[inline]
fn number(input: &mut &[u8]) -> Result<u64, Fault> {
    match input.first() {
        Some(&byte) if byte < 0x80 => {
            *input = &input[1..];
            Ok(byte.into())
        }
        _ => decode_varint(input).map_err(|_| cut_short()),
    }
}

#[inline]
fn expect(wanted: WireType, got: WireType) -> Result<(), Fault> {
    if wanted == got { Ok(()) } else { Err(Fault(format!("wire type {got:?} where {wanted:?} belongs"))) }
}

fn cut_short() -> Fault {
    Fault::new("it is cut short")
}

impl<'a, M: Message<'a>> Wire<'a> for M {
    fn merge(&mut self, wire: WireType, input: &mut &'a [u8]) -> Result<(), Fault> {
        self.merge_bytes(delimited(wire, input)?)
    }
}
