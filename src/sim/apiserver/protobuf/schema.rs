//! The messages of the built-in kinds, read from the descriptor set into the form the converters walk.

use std::collections::HashMap;
use std::io::Read as _;
use std::sync::LazyLock;

use prost_reflect::{DescriptorPool, FieldDescriptor, Kind as ProtoKind, MessageDescriptor};

/// The built-in messages. Read once per process, when a client first asks for protobuf.
pub(super) static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(DESCRIPTORS)
        .read_to_end(&mut bytes)
        .expect("the embedded descriptor set is whole: tests read it");
    let pool =
        DescriptorPool::decode(&bytes[..]).expect("the embedded descriptor set is valid: tests read it");
    Schema::new(&pool)
});

static DESCRIPTORS: &[u8] =
    include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/proto/kubernetes-descriptors.bin.gz"));

/// Where the messages of an `apiVersion` live.
const PACKAGES: [(&str, &str); 8] = [
    ("v1", "k8s.io.api.core.v1"),
    ("apps/v1", "k8s.io.api.apps.v1"),
    ("discovery.k8s.io/v1", "k8s.io.api.discovery.v1"),
    ("coordination.k8s.io/v1", "k8s.io.api.coordination.v1"),
    ("authentication.k8s.io/v1", "k8s.io.api.authentication.v1"),
    ("authorization.k8s.io/v1", "k8s.io.api.authorization.v1"),
    ("autoscaling/v1", "k8s.io.api.autoscaling.v1"),
    ("meta.k8s.io/v1", META),
];
const META: &str = "k8s.io.apimachinery.pkg.apis.meta.v1";
/// Kinds of [`META`] that clients name in the version of the objects they are about.
const EVERYWHERE: [&str; 10] = [
    "APIGroup",
    "APIGroupList",
    "APIResourceList",
    "APIVersions",
    "CreateOptions",
    "DeleteOptions",
    "PatchOptions",
    "Status",
    "UpdateOptions",
    "WatchEvent",
];

/// All messages, named by their position.
pub(super) struct Schema {
    messages: Vec<Message>,
    by_name: HashMap<String, usize>,
}

/// One message.
pub(super) struct Message {
    pub(super) shape: Shape,
    /// In the order of their numbers.
    pub(super) fields: Vec<Field>,
}

/// How a message looks in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// An object with the message's fields.
    Object,
    /// RFC 3339 in seconds.
    Time,
    /// RFC 3339 in microseconds.
    MicroTime,
    /// `"500m"`.
    Quantity,
    /// A number or text.
    IntOrString,
    /// Any JSON, kept as its text.
    Json,
    /// A list: the values of the only field.
    Items,
}

/// One field.
pub(super) struct Field {
    pub(super) number: u32,
    /// Its name in JSON.
    pub(super) json: String,
    pub(super) count: Count,
    /// Of a map, the type of its values; the keys are text.
    pub(super) kind: Type,
    /// In JSON the fields of this message are fields of its parent.
    pub(super) inline: bool,
    /// Zero is written in JSON.
    pub(super) keep_zero: bool,
}

/// How many values a field has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Count {
    One,
    List,
    Map,
}

/// The type of one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Bool,
    Int32,
    Int64,
    Double,
    Text,
    /// Base64 in JSON.
    Bytes,
    /// The message at this position.
    Message(usize),
}

impl Schema {
    fn new(pool: &DescriptorPool) -> Self {
        let kubernetes = |m: &MessageDescriptor| m.full_name().starts_with("k8s.io.") && !m.is_map_entry();
        let descriptors: Vec<MessageDescriptor> = pool.all_messages().filter(kubernetes).collect();
        let by_name: HashMap<String, usize> =
            descriptors.iter().enumerate().map(|(at, m)| (m.full_name().to_owned(), at)).collect();
        let message = |descriptor: &MessageDescriptor| {
            let mut fields: Vec<Field> = descriptor.fields().map(|f| field(&f, &by_name)).collect();
            fields.sort_by_key(|field| field.number);
            Message { shape: shape(descriptor.full_name()), fields }
        };
        Self { messages: descriptors.iter().map(message).collect(), by_name }
    }

    /// The message of a kind, if it has one.
    pub(super) fn message_of(&self, api_version: &str, kind: &str) -> Option<&Message> {
        let (_, package) = PACKAGES.iter().find(|(version, _)| *version == api_version)?;
        let package = if EVERYWHERE.contains(&kind) { META } else { package };
        self.by_name.get(&format!("{package}.{kind}")).map(|at| &self.messages[*at])
    }

    /// A message of the descriptor set by its full name.
    pub(super) fn named(&self, name: &str) -> &Message {
        &self.messages[self.by_name[name]]
    }

    /// The message at a position that a field names.
    pub(super) fn at(&self, position: usize) -> &Message {
        &self.messages[position]
    }
}

impl Message {
    /// The field of this number.
    pub(super) fn field(&self, number: u32) -> Option<&Field> {
        self.fields.binary_search_by_key(&number, |field| field.number).ok().map(|at| &self.fields[at])
    }
}

fn shape(name: &str) -> Shape {
    match name {
        "k8s.io.apimachinery.pkg.apis.meta.v1.Time" => Shape::Time,
        "k8s.io.apimachinery.pkg.apis.meta.v1.MicroTime" => Shape::MicroTime,
        "k8s.io.apimachinery.pkg.api.resource.Quantity" => Shape::Quantity,
        "k8s.io.apimachinery.pkg.util.intstr.IntOrString" => Shape::IntOrString,
        "k8s.io.apimachinery.pkg.apis.meta.v1.FieldsV1" | "k8s.io.apimachinery.pkg.runtime.RawExtension" => {
            Shape::Json
        }
        "k8s.io.apimachinery.pkg.apis.meta.v1.Verbs"
        | "k8s.io.api.authentication.v1.ExtraValue"
        | "k8s.io.api.authorization.v1.ExtraValue" => Shape::Items,
        _ => Shape::Object,
    }
}

fn field(descriptor: &FieldDescriptor, by_name: &HashMap<String, usize>) -> Field {
    let kind = descriptor.kind();
    let (count, kind) = match &kind {
        ProtoKind::Message(entry) if entry.is_map_entry() => {
            (Count::Map, entry.map_entry_value_field().kind())
        }
        _ if descriptor.is_list() => (Count::List, kind),
        _ => (Count::One, kind),
    };
    Field {
        number: descriptor.number(),
        json: descriptor.json_name().to_owned(),
        count,
        kind: value_type(&kind, by_name),
        inline: option(descriptor, "tombolo.kubernetes.inline"),
        keep_zero: option(descriptor, "tombolo.kubernetes.keep_zero"),
    }
}

fn value_type(kind: &ProtoKind, by_name: &HashMap<String, usize>) -> Type {
    match kind {
        ProtoKind::Bool => Type::Bool,
        ProtoKind::Int32 => Type::Int32,
        ProtoKind::Int64 => Type::Int64,
        ProtoKind::Double => Type::Double,
        ProtoKind::Bytes => Type::Bytes,
        ProtoKind::Message(message) => Type::Message(by_name[message.full_name()]),
        ProtoKind::String => Type::Text,
        other => unreachable!("the Kubernetes API has no field of type {other:?}: tests read all of it"),
    }
}

fn option(field: &FieldDescriptor, name: &str) -> bool {
    let extension = field.parent_message().parent_pool().get_extension_by_name(name);
    extension.is_some_and(|extension| field.options().get_extension(&extension).as_bool() == Some(true))
}
