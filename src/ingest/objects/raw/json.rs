//! Values from JSON, borrowed where it has no escapes. `null` counts as missing, as it does for an API server;
//! a value of another type is refused in words that do not repeat it.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::values::{Text, room};
use crate::model::Name;

/// Something JSON can say; each type takes what it understands. The default is what is missing or `null`.
pub(in crate::ingest::objects) trait Json<'de>: Default {
    /// What belongs there, in words.
    const EXPECTED: &'static str;

    fn from_bool<E: Error>(_: bool) -> Result<Self, E> {
        Err(refused::<Self, E>("a boolean"))
    }

    fn from_integer<E: Error>(_: i64) -> Result<Self, E> {
        Err(refused::<Self, E>("a number"))
    }

    fn from_float<E: Error>() -> Result<Self, E> {
        Err(refused::<Self, E>("a fraction"))
    }

    fn from_text<E: Error>(_: Text<'de>) -> Result<Self, E> {
        Err(refused::<Self, E>("a text"))
    }

    fn from_seq<A: SeqAccess<'de>>(_: A) -> Result<Self, A::Error> {
        Err(refused::<Self, A::Error>("a list"))
    }

    fn from_map<A: MapAccess<'de>>(_: A) -> Result<Self, A::Error> {
        Err(refused::<Self, A::Error>("an object"))
    }
}

fn refused<'de, T: Json<'de>, E: Error>(found: &str) -> E {
    E::custom(format_args!("{found} where {} belongs", T::EXPECTED))
}

/// Reads a `T`.
pub(in crate::ingest::objects) fn read<'de, T: Json<'de>, D: Deserializer<'de>>(
    from: D,
) -> Result<T, D::Error> {
    Take::<T>(PhantomData).deserialize(from)
}

/// Reads the value of the field `name`.
pub(in crate::ingest::objects) fn value<'de, T: Json<'de>, A: MapAccess<'de>>(
    map: &mut A,
    name: &str,
) -> Result<T, A::Error> {
    map.next_value_seed(Take(PhantomData)).map_err(|error| A::Error::custom(format_args!("{name}: {error}")))
}

/// The next field's name.
pub(in crate::ingest::objects) fn key<'de, A: MapAccess<'de>>(
    map: &mut A,
) -> Result<Option<Text<'de>>, A::Error> {
    map.next_key_seed(Take(PhantomData))
}

/// The next item of a list.
pub(in crate::ingest::objects) fn element<'de, T: Json<'de>, A: SeqAccess<'de>>(
    seq: &mut A,
) -> Result<Option<T>, A::Error> {
    seq.next_element_seed(Take(PhantomData))
}

/// Passes over a value.
pub(in crate::ingest::objects) fn skip<'de, A: MapAccess<'de>>(map: &mut A) -> Result<(), A::Error> {
    map.next_value::<IgnoredAny>().map(|_| ())
}

/// A message that reads its own fields.
pub(in crate::ingest::objects) trait Fields<'de>: Default {
    /// Reads the value of the field `name`; false if there is no such field, the value is unread then.
    fn field<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<bool, A::Error>;
}

/// Reads a message; unknown fields are skipped, of fields that come twice the last one counts.
pub(in crate::ingest::objects) fn fields<'de, T: Fields<'de>, A: MapAccess<'de>>(
    mut map: A,
) -> Result<T, A::Error> {
    let mut message = T::default();
    while let Some(name) = key(&mut map)? {
        if !message.field(&name, &mut map)? {
            skip(&mut map)?;
        }
    }
    Ok(message)
}

/// A message that people write by hand, and the names of fields that it does not have.
#[derive(Debug, Default)]
pub(in crate::ingest::objects) struct Noting<'a, T> {
    /// What was read.
    pub(in crate::ingest::objects) message: T,
    others: Vec<Text<'a>>,
}

impl<T> Noting<'_, T> {
    /// The paths of fields that the message does not have; they may be of any length.
    pub(in crate::ingest::objects) fn unknown(&self, path: &str) -> impl Iterator<Item = Name> {
        let short = |name: &str| name.chars().take(60).collect::<String>();
        self.others.iter().map(move |name| Name::from(format!("{path}.{}", short(name))))
    }
}

impl<T> std::ops::Deref for Noting<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.message
    }
}

impl<'de, T: Fields<'de>> Json<'de> for Noting<'de, T> {
    const EXPECTED: &'static str = "an object";

    fn from_map<A: MapAccess<'de>>(mut map: A) -> Result<Self, A::Error> {
        let mut noting = Self::default();
        while let Some(name) = key(&mut map)? {
            if !noting.message.field(&name, &mut map)? {
                skip(&mut map)?;
                room(noting.others.len(), A::Error::custom)?;
                noting.others.push(name);
            }
        }
        Ok(noting)
    }
}

struct Take<T>(PhantomData<T>);

impl<'de, T: Json<'de>> DeserializeSeed<'de> for Take<T> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<T, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de, T: Json<'de>> Visitor<'de> for Take<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTED)
    }

    fn visit_unit<E: Error>(self) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_none<E: Error>(self) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<T, D::Error> {
        from.deserialize_any(self)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<T, E> {
        T::from_bool(value)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<T, E> {
        T::from_integer(value)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<T, E> {
        T::from_integer(i64::try_from(value).unwrap_or(i64::MAX))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<T, E> {
        T::from_float()
    }

    fn visit_borrowed_str<E: Error>(self, value: &'de str) -> Result<T, E> {
        T::from_text(Text::from(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<T, E> {
        T::from_text(Text::from(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<T, A::Error> {
        T::from_seq(seq)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::from_map(map)
    }
}

impl<'de> Json<'de> for bool {
    const EXPECTED: &'static str = "a boolean";

    fn from_bool<E: Error>(value: bool) -> Result<Self, E> {
        Ok(value)
    }
}

impl<'de> Json<'de> for i64 {
    const EXPECTED: &'static str = "a number";

    fn from_integer<E: Error>(value: i64) -> Result<Self, E> {
        Ok(value)
    }
}

impl<'de, T: Json<'de>> Json<'de> for Vec<T> {
    const EXPECTED: &'static str = "a list";

    fn from_seq<A: SeqAccess<'de>>(mut seq: A) -> Result<Self, A::Error> {
        let mut list = Self::new();
        while let Some(item) = element(&mut seq)? {
            room(list.len(), A::Error::custom)?;
            list.push(item);
        }
        Ok(list)
    }
}

impl<'de, T: Json<'de>> Json<'de> for Option<T> {
    const EXPECTED: &'static str = T::EXPECTED;

    fn from_bool<E: Error>(value: bool) -> Result<Self, E> {
        T::from_bool(value).map(Some)
    }

    fn from_integer<E: Error>(value: i64) -> Result<Self, E> {
        T::from_integer(value).map(Some)
    }

    fn from_float<E: Error>() -> Result<Self, E> {
        T::from_float().map(Some)
    }

    fn from_text<E: Error>(value: Text<'de>) -> Result<Self, E> {
        T::from_text(value).map(Some)
    }

    fn from_seq<A: SeqAccess<'de>>(seq: A) -> Result<Self, A::Error> {
        T::from_seq(seq).map(Some)
    }

    fn from_map<A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        T::from_map(map).map(Some)
    }
}

/// Anything at all; only a text is kept.
#[derive(Debug, Default)]
pub(in crate::ingest::objects) struct Loose<'a>(pub(in crate::ingest::objects) Text<'a>);

impl<'de> Json<'de> for Loose<'de> {
    const EXPECTED: &'static str = "anything";

    fn from_bool<E: Error>(_: bool) -> Result<Self, E> {
        Ok(Self::default())
    }

    fn from_integer<E: Error>(_: i64) -> Result<Self, E> {
        Ok(Self::default())
    }

    fn from_float<E: Error>() -> Result<Self, E> {
        Ok(Self::default())
    }

    fn from_text<E: Error>(value: Text<'de>) -> Result<Self, E> {
        Ok(Self(value))
    }

    fn from_seq<A: SeqAccess<'de>>(mut seq: A) -> Result<Self, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Self::default())
    }

    fn from_map<A: MapAccess<'de>>(mut map: A) -> Result<Self, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Self::default())
    }
}
