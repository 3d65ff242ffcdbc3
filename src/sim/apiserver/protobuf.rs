//! Kubernetes protobuf: the binary form in which typed clients read and write the built-in kinds.
//!
//! Objects are JSON values everywhere in this server; here they are turned into the messages of
//! `proto/kubernetes-descriptors.bin.gz` and back, field by field, without generated types. On the wire a
//! message stands in an envelope: the four bytes of [`MAGIC`] and a `runtime.Unknown` that names its
//! `apiVersion` and `kind`. Watches send frames: a length and a `WatchEvent` with such an envelope inside.

mod decode;
mod encode;
mod schema;
mod special;

use bytes::Bytes;
use prost::encoding::{DecodeContext, WireType, decode_key, encode_key, encode_varint, skip_field};
use serde_json::{Value, json};
use thiserror::Error;

use self::schema::{Message, SCHEMA};

/// The media type of a single object, a list or a `Status`.
pub(super) const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";
/// The media type of the frames of a watch.
pub(super) const WATCH_MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf;stream=watch";

/// The message that says what an envelope holds.
const TYPE_META: &str = "k8s.io.apimachinery.pkg.runtime.TypeMeta";
/// What every envelope begins with: `k8s` and a zero byte.
const MAGIC: &[u8; 4] = b"k8s\0";
/// The empty `contentEncoding` and `contentType` that end an envelope.
const TAIL: [u8; 4] = [0x1a, 0, 0x22, 0];

/// A body that claims to be Kubernetes protobuf and is not. *Fatal* for the request.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum ProtobufError {
    /// *Fatal*: no envelope.
    #[error("it does not begin with the bytes 6b 38 73 00")]
    NoMagic,
    /// *Fatal*: not the wire format, or a field of another type than its message says.
    #[error("{0}")]
    Malformed(String),
    /// *Fatal*: the kind has no messages here; JSON is understood.
    #[error("kind {kind:?} of {api_version:?} is served as application/json only")]
    NoMessage {
        /// The `apiVersion` of the envelope.
        api_version: String,
        /// The `kind` of the envelope.
        kind: String,
    },
}

impl From<prost::DecodeError> for ProtobufError {
    fn from(error: prost::DecodeError) -> Self {
        Self::Malformed(error.to_string())
    }
}

/// Whether objects of this kind have a protobuf form.
pub(super) fn speaks(api_version: &str, kind: &str) -> bool {
    SCHEMA.message_of(api_version, kind).is_some()
}

/// The bare message of `object`, without an envelope; `None` for kinds without one. A field that has no place
/// in the message, or whose value does not fit its type, is left out.
pub(super) fn message(object: &Value) -> Option<Bytes> {
    let message = message_for(object)?;
    let mut out = Vec::with_capacity(512);
    encode::message(message, object, &mut out);
    Some(out.into())
}

fn message_for(object: &Value) -> Option<&'static Message> {
    let text = |field: &str| object[field].as_str().unwrap_or_default();
    SCHEMA.message_of(text("apiVersion"), text("kind"))
}

/// `message` in the envelope of its kind.
pub(super) fn envelope(api_version: &str, kind: &str, message: &[u8]) -> Bytes {
    let mut out = opening(api_version, kind, message.len());
    out.extend_from_slice(message);
    out.extend_from_slice(&TAIL);
    out.into()
}

/// `object` as it goes over the wire; `None` for kinds without a message.
pub(super) fn document(object: &Value) -> Option<Bytes> {
    let text = |field: &str| object[field].as_str().unwrap_or_default();
    Some(envelope(text("apiVersion"), text("kind"), &message(object)?))
}

/// A list of kind `kind` in its envelope, in pieces that share the bytes of `items`, which are bare messages.
pub(super) fn list(
    api_version: &str,
    kind: &str,
    metadata: &Value,
    items: Vec<Bytes>,
) -> impl Iterator<Item = Bytes> + use<> {
    // Every list has its metadata as field 1 and its items as field 2.
    let mut head = Vec::new();
    if let Some(message) = SCHEMA.message_of(api_version, kind) {
        encode::message(message, &json!({ "metadata": metadata }), &mut head);
    }
    let keys: Vec<Bytes> = items.iter().map(|item| length_delimited(2, item.len())).collect();
    let length = head.len() + keys.iter().chain(&items).map(Bytes::len).sum::<usize>();
    let mut first = opening(api_version, kind, length);
    first.extend_from_slice(&head);
    let items = keys.into_iter().zip(items).flat_map(|(key, item)| [key, item]);
    std::iter::once(Bytes::from(first)).chain(items).chain([Bytes::from_static(&TAIL)])
}

/// One frame of a watch: `event_type` with the enveloped `object`.
pub(super) fn frame(event_type: &str, object: &[u8]) -> Bytes {
    let mut raw = length_delimited(1, object.len()).to_vec();
    raw.extend_from_slice(object);
    let mut out = vec![0; 4];
    text(1, event_type, &mut out);
    out.extend_from_slice(&length_delimited(2, raw.len()));
    out.extend_from_slice(&raw);
    let length = u32::try_from(out.len() - 4).expect("an event is far below 4 GiB");
    out[..4].copy_from_slice(&length.to_be_bytes());
    out.into()
}

/// Reads an enveloped object: its fields with their JSON names, `apiVersion` and `kind` from the envelope.
///
/// # Errors
/// See [`ProtobufError`].
pub(super) fn parse(body: &[u8]) -> Result<Value, ProtobufError> {
    let mut unknown = body.strip_prefix(MAGIC).ok_or(ProtobufError::NoMagic)?;
    let (mut named, mut raw): (_, &[u8]) = (json!({}), &[]);
    while !unknown.is_empty() {
        let (number, wire) = decode_key(&mut unknown)?;
        match number {
            1 => named = decode::message(SCHEMA.named(TYPE_META), decode::delimited(wire, &mut unknown)?)?,
            2 => raw = decode::delimited(wire, &mut unknown)?,
            _ => skip_field(wire, number, &mut unknown, DecodeContext::default())?,
        }
    }
    let text = |field: &str| named[field].as_str().unwrap_or_default().to_owned();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let Some(message) = SCHEMA.message_of(&api_version, &kind) else {
        return Err(ProtobufError::NoMessage { api_version, kind });
    };
    let mut object = decode::message(message, raw)?;
    object["apiVersion"] = json!(api_version);
    object["kind"] = json!(kind);
    Ok(object)
}

/// Magic, type and the key of a message of `length` bytes.
fn opening(api_version: &str, kind: &str, length: usize) -> Vec<u8> {
    let mut type_meta = Vec::new();
    text(1, api_version, &mut type_meta);
    text(2, kind, &mut type_meta);
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&length_delimited(1, type_meta.len()));
    out.extend_from_slice(&type_meta);
    out.extend_from_slice(&length_delimited(2, length));
    out
}

fn length_delimited(number: u32, length: usize) -> Bytes {
    let mut out = Vec::with_capacity(8);
    encode_key(number, WireType::LengthDelimited, &mut out);
    encode_varint(length as u64, &mut out);
    out.into()
}

fn text(number: u32, value: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(&length_delimited(number, value.len()));
    out.extend_from_slice(value.as_bytes());
}

#[cfg(test)]
mod tests;
