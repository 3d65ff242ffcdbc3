//! The published Kubernetes messages: JSON objects to their protobuf form, by descriptors alone.
#![allow(dead_code, reason = "shared by several test programs")]

use std::io::Read as _;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint};
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value as Field,
};
use serde_json::Value;

/// Every published message we know.
pub(crate) static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    let packed: &[u8] =
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/proto/kubernetes-descriptors.bin.gz"));
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(packed).read_to_end(&mut bytes).expect("the set is whole");
    DescriptorPool::decode(&bytes[..]).expect("the set is valid")
});

/// The kinds that have both encodings: kind, `apiVersion`, package.
pub(crate) const KINDS: [(&str, &str, &str); 7] = [
    ("Namespace", "v1", "k8s.io.api.core.v1"),
    ("Node", "v1", "k8s.io.api.core.v1"),
    ("Pod", "v1", "k8s.io.api.core.v1"),
    ("Service", "v1", "k8s.io.api.core.v1"),
    ("Secret", "v1", "k8s.io.api.core.v1"),
    ("ConfigMap", "v1", "k8s.io.api.core.v1"),
    ("EndpointSlice", "discovery.k8s.io/v1", "k8s.io.api.discovery.v1"),
];

/// The message of a kind of [`KINDS`].
pub(crate) fn descriptor(kind: &str) -> MessageDescriptor {
    let (_, _, package) = KINDS.iter().find(|(name, ..)| *name == kind).expect("a kind of the table");
    POOL.get_message_by_name(&format!("{package}.{kind}")).expect("a published message")
}

/// The bare message of `object`.
pub(crate) fn message(kind: &str, object: &Value) -> Vec<u8> {
    dynamic(&descriptor(kind), object).encode_to_vec()
}

/// An envelope around a bare message.
pub(crate) fn envelope(api_version: &str, kind: &str, message: &[u8]) -> Vec<u8> {
    let mut named = Vec::new();
    field(1, api_version.as_bytes(), &mut named);
    field(2, kind.as_bytes(), &mut named);
    let mut out = b"k8s\0".to_vec();
    field(1, &named, &mut out);
    field(2, message, &mut out);
    field(3, b"", &mut out);
    field(4, b"", &mut out);
    out
}

/// A list of bare messages in its envelope.
pub(crate) fn list(kind: &str, revision: &str, items: &[Vec<u8>]) -> Vec<u8> {
    let (_, api_version, _) = KINDS.iter().find(|(name, ..)| *name == kind).expect("a kind of the table");
    let (mut meta, mut out) = (Vec::new(), Vec::new());
    field(2, revision.as_bytes(), &mut meta);
    field(1, &meta, &mut out);
    for item in items {
        field(2, item, &mut out);
    }
    envelope(api_version, &format!("{kind}List"), &out)
}

/// A frame of a watch, without its length: an event with an enveloped object.
pub(crate) fn event(event_type: &str, enveloped: &[u8]) -> Vec<u8> {
    let (mut raw, mut out) = (Vec::new(), Vec::new());
    field(1, enveloped, &mut raw);
    field(1, event_type.as_bytes(), &mut out);
    field(2, &raw, &mut out);
    out
}

/// Appends a field that has bytes.
pub(crate) fn field(number: u32, value: &[u8], out: &mut Vec<u8>) {
    encode_key(number, WireType::LengthDelimited, out);
    encode_varint(value.len() as u64, out);
    out.extend_from_slice(value);
}

/// Whether the fields of this field's message stand among those of its parent in JSON.
pub(crate) fn is_inline(field: &FieldDescriptor) -> bool {
    let inline = POOL.get_extension_by_name("tombolo.kubernetes.inline").expect("an option of ours");
    field.options().get_extension(&inline).as_bool() == Some(true)
}

/// `object` as a message; what has no place in it is left out.
pub(crate) fn dynamic(descriptor: &MessageDescriptor, object: &Value) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor.clone());
    match descriptor.name() {
        "Time" => {
            if let Some(time) = object.as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok()) {
                message.set_field_by_name("seconds", Field::I64(time.as_second()));
                message.set_field_by_name("nanos", Field::I32(0));
            }
        }
        "IntOrString" => int_or_string(&mut message, object),
        _ => {
            for field in descriptor.fields() {
                let value = if is_inline(&field) { Some(object) } else { object.get(field.json_name()) };
                if let Some(value) = value.filter(|value| !value.is_null()).and_then(|v| whole(&field, v)) {
                    message.set_field(&field, value);
                }
            }
        }
    }
    message
}

fn int_or_string(message: &mut DynamicMessage, value: &Value) {
    let text = value.as_str();
    message.set_field_by_name("type", Field::I64(i64::from(text.is_some())));
    message
        .set_field_by_name("intVal", Field::I32(value.as_i64().and_then(|n| n.try_into().ok()).unwrap_or(0)));
    message.set_field_by_name("strVal", Field::String(text.unwrap_or_default().to_owned()));
}

fn whole(field: &FieldDescriptor, value: &Value) -> Option<Field> {
    if field.is_map() {
        let Kind::Message(entry) = field.kind() else { return None };
        let kind = entry.map_entry_value_field().kind();
        let entries = value.as_object()?.iter();
        let entries =
            entries.filter_map(|(key, value)| Some((MapKey::String(key.clone()), one(&kind, value)?)));
        Some(Field::Map(entries.collect()))
    } else if field.is_list() {
        Some(Field::List(value.as_array()?.iter().filter_map(|item| one(&field.kind(), item)).collect()))
    } else {
        one(&field.kind(), value)
    }
}

fn one(kind: &Kind, value: &Value) -> Option<Field> {
    Some(match kind {
        Kind::Bool => Field::Bool(value.as_bool()?),
        Kind::Int32 => Field::I32(value.as_i64()?.try_into().ok()?),
        Kind::Int64 => Field::I64(value.as_i64()?),
        Kind::Double => Field::F64(value.as_f64()?),
        Kind::String => Field::String(value.as_str()?.to_owned()),
        Kind::Bytes => Field::Bytes(STANDARD.decode(value.as_str()?).ok()?.into()),
        Kind::Message(child) => Field::Message(dynamic(child, value)),
        _ => return None,
    })
}
