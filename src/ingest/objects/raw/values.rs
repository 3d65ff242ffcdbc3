//! The values messages are made of, in both encodings.

use std::borrow::Cow;
use std::ops::Deref;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use prost::encoding::WireType;
use serde::de::{Error, MapAccess, SeqAccess};

use super::json::{Json, element, key, value};
use super::protobuf::{Fault, Wire, delimited, next, skip, varint};
use crate::model::Name;

/// Elements of one list or map that are read; an object with more is unreadable (K-38). The largest number that
/// Kubernetes permits is that of a slice's ports; of endpoints it permits 1000.
const MAX_ELEMENTS: usize = 20_000;

/// Why an object with more is unreadable.
const TOO_MANY: &str = "there are more than 20000 elements";

/// Whether there is room beside `length` elements.
pub(super) fn room<E>(length: usize, full: impl FnOnce(&'static str) -> E) -> Result<(), E> {
    if length < MAX_ELEMENTS { Ok(()) } else { Err(full(TOO_MANY)) }
}

/// A text, borrowed where it stands in the input as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::ingest::objects) struct Text<'a>(Cow<'a, str>);

impl Text<'_> {
    /// The name of it.
    pub(in crate::ingest::objects) fn name(&self) -> Name {
        Name::from(&*self.0)
    }

    /// The same for what many objects say.
    pub(in crate::ingest::objects) fn common(&self) -> Name {
        Name::interned(&self.0)
    }
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'a> From<&'a str> for Text<'a> {
    fn from(text: &'a str) -> Self {
        Self(Cow::Borrowed(text))
    }
}

impl From<String> for Text<'_> {
    fn from(text: String) -> Self {
        Self(Cow::Owned(text))
    }
}

impl<'de> Json<'de> for Text<'de> {
    const EXPECTED: &'static str = "a text";

    fn from_text<E: Error>(value: Text<'de>) -> Result<Self, E> {
        Ok(value)
    }
}

impl<'a> Wire<'a> for Text<'a> {
    fn merge(&mut self, wire: WireType, input: &mut &'a [u8]) -> Result<(), Fault> {
        // Nobody checks annotations: what is no UTF-8 reads as it does in JSON.
        let bytes = delimited(wire, input)?;
        *self = Self(match std::str::from_utf8(bytes) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) => String::from_utf8_lossy(bytes),
        });
        Ok(())
    }
}

impl Wire<'_> for bool {
    fn merge(&mut self, wire: WireType, input: &mut &[u8]) -> Result<(), Fault> {
        *self = varint(wire, input)? != 0;
        Ok(())
    }
}

impl Wire<'_> for i64 {
    fn merge(&mut self, wire: WireType, input: &mut &[u8]) -> Result<(), Fault> {
        // Numbers of 32 bits are sent sign-extended.
        *self = varint(wire, input)?.cast_signed();
        Ok(())
    }
}

impl<'a, T: Wire<'a>> Wire<'a> for Vec<T> {
    fn merge(&mut self, wire: WireType, input: &mut &'a [u8]) -> Result<(), Fault> {
        room(self.len(), Fault::new)?;
        let mut item = T::default();
        item.merge(wire, input)?;
        self.push(item);
        Ok(())
    }
}

impl<'a, T: Wire<'a>> Wire<'a> for Option<T> {
    fn merge(&mut self, wire: WireType, input: &mut &'a [u8]) -> Result<(), Fault> {
        self.get_or_insert_default().merge(wire, input)
    }
}

/// Texts, of which there mostly is one: that one needs no list.
#[derive(Debug, Default)]
pub(in crate::ingest::objects) struct Texts<'a> {
    first: Option<Text<'a>>,
    rest: Vec<Text<'a>>,
}

impl<'a> Texts<'a> {
    pub(in crate::ingest::objects) fn iter(&self) -> impl Iterator<Item = &Text<'a>> {
        self.first.iter().chain(&self.rest)
    }

    pub(in crate::ingest::objects) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// The text, if there is exactly one.
    pub(in crate::ingest::objects) fn only(&self) -> Option<&Text<'a>> {
        self.first.as_ref().filter(|_| self.rest.is_empty())
    }

    /// The names of all.
    pub(in crate::ingest::objects) fn names(&self) -> Vec<Name> {
        let mut names = Vec::with_capacity(usize::from(self.first.is_some()) + self.rest.len());
        names.extend(self.iter().map(Text::name));
        names
    }

    /// The names of those that are not empty.
    pub(in crate::ingest::objects) fn filled(&self) -> Vec<Name> {
        self.iter().filter(|text| !text.is_empty()).map(Text::name).collect()
    }

    fn push(&mut self, text: Text<'a>) {
        match self.first {
            None => self.first = Some(text),
            Some(_) => self.rest.push(text),
        }
    }
}

impl<'de> Json<'de> for Texts<'de> {
    const EXPECTED: &'static str = "a list";

    fn from_seq<A: SeqAccess<'de>>(mut seq: A) -> Result<Self, A::Error> {
        let mut texts = Self::default();
        while let Some(text) = element(&mut seq)? {
            room(texts.rest.len(), A::Error::custom)?;
            texts.push(text);
        }
        Ok(texts)
    }
}

impl<'a> Wire<'a> for Texts<'a> {
    fn merge(&mut self, wire: WireType, input: &mut &'a [u8]) -> Result<(), Fault> {
        room(self.rest.len(), Fault::new)?;
        let mut text = Text::default();
        text.merge(wire, input)?;
        self.push(text);
        Ok(())
    }
}

/// Entries in their order; of equal keys the last one counts.
#[derive(Debug)]
pub(in crate::ingest::objects) struct Map<'a, V>(Vec<(Text<'a>, V)>);

impl<V> Default for Map<'_, V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'a, V> Map<'a, V> {
    pub(in crate::ingest::objects) fn get(&self, name: &str) -> Option<&V> {
        self.0.iter().rev().find(|(key, _)| &**key == name).map(|(_, value)| value)
    }

    pub(in crate::ingest::objects) fn into_entries(self) -> impl Iterator<Item = (Text<'a>, V)> {
        self.0.into_iter()
    }
}

impl<'de, V: Json<'de>> Json<'de> for Map<'de, V> {
    const EXPECTED: &'static str = "an object";

    fn from_map<A: MapAccess<'de>>(mut map: A) -> Result<Self, A::Error> {
        let mut entries = Vec::new();
        while let Some(name) = key(&mut map)? {
            room(entries.len(), A::Error::custom)?;
            let value = value(&mut map, &name)?;
            entries.push((name, value));
        }
        Ok(Self(entries))
    }
}

impl<'a, V: Wire<'a>> Wire<'a> for Map<'a, V> {
    fn merge(&mut self, wire: WireType, input: &mut &'a [u8]) -> Result<(), Fault> {
        room(self.0.len(), Fault::new)?;
        let (mut key, mut value) = (Text::default(), V::default());
        let mut entry = delimited(wire, input)?;
        while let Some((number, wire)) = next(&mut entry)? {
            match number {
                1 => key.merge(wire, &mut entry)?,
                2 => value.merge(wire, &mut entry)?,
                _ => skip(number, wire, &mut entry)?,
            }
        }
        self.0.push((key, value));
        Ok(())
    }
}

/// Bytes, which JSON has as base64.
#[derive(Default)]
pub(in crate::ingest::objects) enum Blob<'a> {
    #[default]
    Empty,
    Bytes(&'a [u8]),
    Base64(Text<'a>),
}

impl std::fmt::Debug for Blob<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Blob")
    }
}

impl<'a> Blob<'a> {
    /// The bytes; `None` if they are not base64.
    pub(in crate::ingest::objects) fn decoded(&self) -> Option<Vec<u8>> {
        match self {
            Self::Empty => Some(Vec::new()),
            Self::Bytes(bytes) => Some(bytes.to_vec()),
            Self::Base64(text) => STANDARD.decode(text.trim()).ok(),
        }
    }

    /// The bytes of a protobuf message.
    pub(in crate::ingest::objects) fn bytes(&self) -> &'a [u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Empty | Self::Base64(_) => &[],
        }
    }
}

impl<'de> Json<'de> for Blob<'de> {
    const EXPECTED: &'static str = "a text";

    fn from_text<E: Error>(value: Text<'de>) -> Result<Self, E> {
        Ok(Self::Base64(value))
    }
}

impl<'a> Wire<'a> for Blob<'a> {
    fn merge(&mut self, wire: WireType, input: &mut &'a [u8]) -> Result<(), Fault> {
        *self = Self::Bytes(delimited(wire, input)?);
        Ok(())
    }
}

/// A time, which JSON has as text.
#[derive(Debug, Default)]
pub(in crate::ingest::objects) enum Time<'a> {
    #[default]
    Missing,
    Text(Text<'a>),
    Seconds(i64),
}

impl Time<'_> {
    /// Seconds since the epoch; `None` when missing or no time.
    pub(in crate::ingest::objects) fn seconds(&self) -> Option<i64> {
        match self {
            Self::Missing => None,
            Self::Text(text) => text.parse().ok().map(jiff::Timestamp::as_second),
            Self::Seconds(seconds) => Some(*seconds),
        }
    }

    pub(in crate::ingest::objects) fn is_there(&self) -> bool {
        !matches!(self, Self::Missing)
    }
}

impl<'de> Json<'de> for Time<'de> {
    const EXPECTED: &'static str = "a time";

    fn from_text<E: Error>(value: Text<'de>) -> Result<Self, E> {
        Ok(if value.is_empty() { Self::Missing } else { Self::Text(value) })
    }
}

impl<'a> Wire<'a> for Time<'a> {
    /// The empty message is no time.
    fn merge(&mut self, wire: WireType, input: &mut &'a [u8]) -> Result<(), Fault> {
        let mut message = delimited(wire, input)?;
        let mut seconds = self.seconds().unwrap_or_default();
        if !message.is_empty() {
            while let Some((number, wire)) = next(&mut message)? {
                match number {
                    1 => seconds.merge(wire, &mut message)?,
                    _ => skip(number, wire, &mut message)?,
                }
            }
            *self = Self::Seconds(seconds);
        }
        Ok(())
    }
}

/// A number or a name, which JSON has without a type.
#[derive(Debug, Default)]
pub(in crate::ingest::objects) struct IntOrString<'a> {
    is_text: bool,
    number: i64,
    text: Text<'a>,
}

impl IntOrString<'_> {
    /// The number in digits, or the name; empty for zero, which means nothing was said.
    pub(in crate::ingest::objects) fn common(&self) -> Name {
        match (self.is_text, self.number) {
            (true, _) => self.text.common(),
            (false, 0) => Name::default(),
            (false, number) => Name::interned(&number.to_string()),
        }
    }
}

impl<'de> Json<'de> for IntOrString<'de> {
    const EXPECTED: &'static str = "a number or a text";

    fn from_integer<E: Error>(number: i64) -> Result<Self, E> {
        Ok(Self { number, ..Self::default() })
    }

    fn from_text<E: Error>(text: Text<'de>) -> Result<Self, E> {
        Ok(Self { is_text: true, text, ..Self::default() })
    }
}

impl<'a> Wire<'a> for IntOrString<'a> {
    fn merge(&mut self, wire: WireType, input: &mut &'a [u8]) -> Result<(), Fault> {
        let mut message = delimited(wire, input)?;
        while let Some((number, wire)) = next(&mut message)? {
            match number {
                1 => self.is_text.merge(wire, &mut message)?,
                2 => self.number.merge(wire, &mut message)?,
                3 => self.text.merge(wire, &mut message)?,
                _ => skip(number, wire, &mut message)?,
            }
        }
        Ok(())
    }
}
