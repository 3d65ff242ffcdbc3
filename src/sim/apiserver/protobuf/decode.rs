//! Protobuf to JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use serde_json::{Map, Value, json};

use super::ProtobufError;
use super::schema::{Count, Field, Message, SCHEMA, Shape, Type};
use super::special;

/// Messages nest at most this deep.
const DEPTH: usize = 64;

/// Reads a message. Fields it does not know are skipped, as are zero values that JSON leaves out.
pub(super) fn message(message: &Message, bytes: &[u8]) -> Result<Value, ProtobufError> {
    read(message, bytes, DEPTH)
}

fn read(message: &Message, mut bytes: &[u8], depth: usize) -> Result<Value, ProtobufError> {
    if depth == 0 {
        return Err(ProtobufError::Malformed(format!("messages nest deeper than {DEPTH}")));
    }
    match message.shape {
        Shape::Object => {}
        Shape::Items => return items(message, bytes, depth),
        shape => return special::decode(shape, bytes),
    }
    let mut map = Map::new();
    while let Some((number, wire)) = next(&mut bytes)? {
        let Some(field) = message.field(number) else {
            skip_field(wire, number, &mut bytes, DecodeContext::default())?;
            continue;
        };
        match field.count {
            Count::One => {
                let value = one(field.kind, wire, &mut bytes, depth)?;
                put(&mut map, field, value);
            }
            Count::List => {
                let list = map.entry(field.json.as_str()).or_insert_with(|| json!([]));
                many(field.kind, wire, &mut bytes, depth, list)?;
            }
            Count::Map => {
                let (key, value) = entry(field.kind, delimited(wire, &mut bytes)?, depth)?;
                map.entry(field.json.as_str()).or_insert_with(|| json!({}))[key] = value;
            }
        }
    }
    Ok(Value::Object(map))
}

fn next(bytes: &mut &[u8]) -> Result<Option<(u32, WireType)>, ProtobufError> {
    if bytes.is_empty() { Ok(None) } else { Ok(Some(decode_key(bytes)?)) }
}

/// Stores one value, or leaves it out as JSON does.
fn put(map: &mut Map<String, Value>, field: &Field, value: Value) {
    let zero = match &value {
        Value::Null => true,
        Value::Bool(value) => !value && !field.keep_zero,
        Value::Number(number) => number.as_f64() == Some(0.0) && !field.keep_zero,
        Value::String(text) => text.is_empty() && !field.keep_zero,
        Value::Array(_) | Value::Object(_) => false,
    };
    match value {
        Value::Object(inner) if field.inline => map.extend(inner),
        value if !zero => {
            map.insert(field.json.clone(), value);
        }
        _ => {}
    }
}

/// One value of a list, or several packed numbers.
fn many(
    kind: Type,
    wire: WireType,
    bytes: &mut &[u8],
    depth: usize,
    list: &mut Value,
) -> Result<(), ProtobufError> {
    let Some(list) = list.as_array_mut() else { return Ok(()) };
    if matches!(kind, Type::Bool | Type::Int32 | Type::Int64) && wire == WireType::LengthDelimited {
        let mut packed = delimited(wire, bytes)?;
        while !packed.is_empty() {
            list.push(one(kind, WireType::Varint, &mut packed, depth)?);
        }
    } else {
        list.push(one(kind, wire, bytes, depth)?);
    }
    Ok(())
}

fn entry(kind: Type, mut bytes: &[u8], depth: usize) -> Result<(String, Value), ProtobufError> {
    let (mut key, mut value) = (String::new(), None);
    while let Some((number, wire)) = next(&mut bytes)? {
        match number {
            1 => key = utf8(delimited(wire, &mut bytes)?)?,
            2 => value = Some(one(kind, wire, &mut bytes, depth)?),
            _ => skip_field(wire, number, &mut bytes, DecodeContext::default())?,
        }
    }
    let value = match value {
        Some(value) => value,
        None => zero(kind, depth)?,
    };
    Ok((key, value))
}

/// What an entry without a value has.
fn zero(kind: Type, depth: usize) -> Result<Value, ProtobufError> {
    Ok(match kind {
        Type::Bool => json!(false),
        Type::Int32 | Type::Int64 => json!(0),
        Type::Double => json!(0.0),
        Type::Text | Type::Bytes => json!(""),
        Type::Message(child) => read(SCHEMA.at(child), &[], depth - 1)?,
    })
}

fn items(message: &Message, mut bytes: &[u8], depth: usize) -> Result<Value, ProtobufError> {
    let mut list = json!([]);
    while let Some((number, wire)) = next(&mut bytes)? {
        match message.field(number) {
            Some(field) => many(field.kind, wire, &mut bytes, depth, &mut list)?,
            None => skip_field(wire, number, &mut bytes, DecodeContext::default())?,
        }
    }
    Ok(list)
}

fn one(kind: Type, wire: WireType, bytes: &mut &[u8], depth: usize) -> Result<Value, ProtobufError> {
    Ok(match kind {
        Type::Bool => json!(number(wire, bytes)? != 0),
        // Numbers of 32 bits are sent sign-extended: the low half is the value.
        #[expect(clippy::cast_possible_truncation, reason = "the protobuf rule for int32")]
        Type::Int32 => json!(number(wire, bytes)? as i32),
        Type::Int64 => json!(number(wire, bytes)?.cast_signed()),
        Type::Double => {
            expect(WireType::SixtyFourBit, wire)?;
            let Some((raw, rest)) = bytes.split_first_chunk::<8>() else { return Err(truncated()) };
            *bytes = rest;
            json!(f64::from_le_bytes(*raw))
        }
        Type::Text => json!(utf8(delimited(wire, bytes)?)?),
        Type::Bytes => json!(BASE64.encode(delimited(wire, bytes)?)),
        Type::Message(child) => read(SCHEMA.at(child), delimited(wire, bytes)?, depth - 1)?,
    })
}

fn number(wire: WireType, bytes: &mut &[u8]) -> Result<u64, ProtobufError> {
    expect(WireType::Varint, wire)?;
    Ok(decode_varint(bytes)?)
}

pub(super) fn delimited<'a>(wire: WireType, bytes: &mut &'a [u8]) -> Result<&'a [u8], ProtobufError> {
    expect(WireType::LengthDelimited, wire)?;
    let length = usize::try_from(decode_varint(bytes)?).map_err(|_| truncated())?;
    let (value, rest) = bytes.split_at_checked(length).ok_or_else(truncated)?;
    *bytes = rest;
    Ok(value)
}

fn expect(wanted: WireType, got: WireType) -> Result<(), ProtobufError> {
    Ok(prost::encoding::check_wire_type(wanted, got)?)
}

fn utf8(bytes: &[u8]) -> Result<String, ProtobufError> {
    let text = std::str::from_utf8(bytes);
    text.map(str::to_owned).map_err(|_| ProtobufError::Malformed("a text is not UTF-8".into()))
}

fn truncated() -> ProtobufError {
    ProtobufError::Malformed("it ends in the middle of a field".into())
}
