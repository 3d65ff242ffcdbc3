//! JSON to protobuf.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use prost::encoding::{WireType, encode_key, encode_varint};
use serde_json::{Map, Value};

use super::schema::{Count, Field, Message, SCHEMA, Shape, Type};
use super::special;

/// Appends the message of `value`. What does not fit is left out: objects at rest may be deliberately broken,
/// and a broken field must not take the list it stands in along.
pub(super) fn message(message: &Message, value: &Value, out: &mut Vec<u8>) {
    match message.shape {
        Shape::Object => {
            if let Value::Object(map) = value {
                fields(message, map, out);
            }
        }
        Shape::Items => {
            if let [only] = &message.fields[..] {
                field(only, value, out);
            }
        }
        shape => special::encode(shape, value, out),
    }
}

fn fields(message: &Message, map: &Map<String, Value>, out: &mut Vec<u8>) {
    for part in &message.fields {
        match (part.inline, part.kind) {
            (true, Type::Message(child)) => {
                let start = out.len();
                fields(SCHEMA.at(child), map, out);
                if out.len() > start {
                    enclose(part.number, start, out);
                }
            }
            _ => {
                if let Some(value) = map.get(&part.json) {
                    field(part, value, out);
                }
            }
        }
    }
}

fn field(field: &Field, value: &Value, out: &mut Vec<u8>) {
    match (field.count, value) {
        (_, Value::Null) => {}
        (Count::One, value) => one(field.number, field.kind, value, out),
        (Count::List, Value::Array(values)) => {
            for value in values {
                one(field.number, field.kind, value, out);
            }
        }
        (Count::Map, Value::Object(entries)) => {
            for (key, value) in entries {
                let start = out.len();
                bytes(1, key.as_bytes(), out);
                one(2, field.kind, value, out);
                enclose(field.number, start, out);
            }
        }
        (Count::List | Count::Map, _) => {}
    }
}

fn one(number: u32, kind: Type, value: &Value, out: &mut Vec<u8>) {
    match (kind, value) {
        (Type::Bool, Value::Bool(value)) => varint(number, u64::from(*value), out),
        (Type::Int32, Value::Number(n)) => {
            if let Some(n) = n.as_i64().and_then(|n| i32::try_from(n).ok()) {
                varint(number, i64::from(n).cast_unsigned(), out);
            }
        }
        (Type::Int64, Value::Number(n)) => {
            if let Some(n) = n.as_i64() {
                varint(number, n.cast_unsigned(), out);
            }
        }
        (Type::Double, Value::Number(n)) => {
            encode_key(number, WireType::SixtyFourBit, out);
            out.extend_from_slice(&n.as_f64().unwrap_or_default().to_le_bytes());
        }
        (Type::Text, Value::String(text)) => bytes(number, text.as_bytes(), out),
        (Type::Bytes, Value::String(text)) => {
            if let Ok(decoded) = BASE64.decode(text) {
                bytes(number, &decoded, out);
            }
        }
        (Type::Message(child), value) => {
            let start = out.len();
            message(SCHEMA.at(child), value, out);
            enclose(number, start, out);
        }
        _ => {}
    }
}

pub(super) fn varint(number: u32, value: u64, out: &mut Vec<u8>) {
    encode_key(number, WireType::Varint, out);
    encode_varint(value, out);
}

pub(super) fn bytes(number: u32, value: &[u8], out: &mut Vec<u8>) {
    encode_key(number, WireType::LengthDelimited, out);
    encode_varint(value.len() as u64, out);
    out.extend_from_slice(value);
}

/// Makes what was written since `start` a field: its key and length go in front.
fn enclose(number: u32, start: usize, out: &mut Vec<u8>) {
    let end = out.len();
    encode_key(number, WireType::LengthDelimited, out);
    encode_varint((end - start) as u64, out);
    let key = out.len() - end;
    out[start..].rotate_right(key);
}
