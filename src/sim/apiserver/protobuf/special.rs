//! The messages that are one value in JSON: times, quantities, numbers-or-text, and JSON itself.

use jiff::Timestamp;
use prost::encoding::{DecodeContext, decode_key, decode_varint, skip_field};
use serde_json::{Value, json};

use super::ProtobufError;
use super::decode::delimited;
use super::encode::{bytes, varint};
use super::schema::Shape;

/// Appends `value` in the message of `shape`; nothing for a value that does not fit.
pub(super) fn encode(shape: Shape, value: &Value, out: &mut Vec<u8>) {
    match (shape, value) {
        (Shape::Time | Shape::MicroTime, Value::String(text)) => {
            let Ok(time) = text.parse::<Timestamp>() else { return };
            // Floored, so that the nanoseconds count up from the second also before 1970.
            let nanos = time.as_nanosecond().rem_euclid(1_000_000_000);
            let second = (time.as_nanosecond() - nanos) / 1_000_000_000;
            let micros = if shape == Shape::MicroTime { nanos / 1000 } else { 0 };
            let (Ok(second), Ok(nanos)) = (i64::try_from(second), u64::try_from(micros * 1000)) else {
                return;
            };
            varint(1, second.cast_unsigned(), out);
            varint(2, nanos, out);
        }
        (Shape::Quantity, Value::String(text)) => bytes(1, text.as_bytes(), out),
        (Shape::Quantity, Value::Number(number)) => bytes(1, number.to_string().as_bytes(), out),
        (Shape::IntOrString, Value::Number(number)) => {
            let Some(number) = number.as_i64().and_then(|n| i32::try_from(n).ok()) else { return };
            varint(1, 0, out);
            varint(2, i64::from(number).cast_unsigned(), out);
            bytes(3, b"", out);
        }
        (Shape::IntOrString, Value::String(text)) => {
            varint(1, 1, out);
            varint(2, 0, out);
            bytes(3, text.as_bytes(), out);
        }
        (Shape::Json, value) if !value.is_null() => bytes(1, value.to_string().as_bytes(), out),
        _ => {}
    }
}

/// The first numbers and the last bytes of a message with at most three fields.
#[derive(Default)]
struct Parts<'a> {
    numbers: [u64; 4],
    bytes: &'a [u8],
}

fn parts(mut message: &[u8]) -> Result<Parts<'_>, ProtobufError> {
    let mut parts = Parts::default();
    while !message.is_empty() {
        let (number, wire) = decode_key(&mut message)?;
        match (number, wire) {
            (1..=2, prost::encoding::WireType::Varint) => {
                parts.numbers[number as usize] = decode_varint(&mut message)?;
            }
            (1..=3, prost::encoding::WireType::LengthDelimited) => {
                parts.bytes = delimited(wire, &mut message)?;
            }
            _ => skip_field(wire, number, &mut message, DecodeContext::default())?,
        }
    }
    Ok(parts)
}

/// The JSON value of a message of `shape`; `null` for a time that is not set.
pub(super) fn decode(shape: Shape, message: &[u8]) -> Result<Value, ProtobufError> {
    let Parts { numbers: [_, first, second, _], bytes } = parts(message)?;
    let text = || String::from_utf8_lossy(bytes).into_owned();
    Ok(match shape {
        Shape::Time | Shape::MicroTime if (first, second) == (0, 0) => Value::Null,
        Shape::Time => json!(time(first, 0)?.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
        Shape::MicroTime => json!(time(first, second)?.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()),
        Shape::Quantity if bytes.is_empty() => json!("0"),
        Shape::IntOrString if first == 0 => {
            #[expect(clippy::cast_possible_truncation, reason = "the protobuf rule for int32")]
            let number = second as i32;
            json!(number)
        }
        Shape::Quantity | Shape::IntOrString => json!(text()),
        Shape::Json | Shape::Object | Shape::Items => serde_json::from_slice(bytes).unwrap_or_default(),
    })
}

fn time(seconds: u64, nanos: u64) -> Result<Timestamp, ProtobufError> {
    let nanos = i32::try_from(nanos).ok();
    let time = nanos.and_then(|nanos| Timestamp::new(seconds.cast_signed(), nanos).ok());
    time.ok_or_else(|| ProtobufError::Malformed("a time is out of range".into()))
}
