//! What telemetry of the mesh's own proxies reads of an Envoy cluster, as maps in order (D20).

use std::collections::BTreeMap;

use prost::Message;

use crate::model::Service;
use crate::model::policy::DestinationRule;
use crate::xds::resources::parts::put_field;

/// Tag of `Cluster.metadata`.
const METADATA: u32 = 25;

#[derive(Clone, PartialEq, Message)]
struct Metadata {
    #[prost(btree_map = "string, message", tag = "1")]
    filter_metadata: BTreeMap<String, Fields>,
}

/// `google.protobuf.Struct`.
#[derive(Clone, PartialEq, Message)]
struct Fields {
    #[prost(btree_map = "string, message", tag = "1")]
    fields: BTreeMap<String, Value>,
}

/// `google.protobuf.Value`.
#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(oneof = "Kind", tags = "3, 5, 6")]
    kind: Option<Kind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Kind {
    #[prost(string, tag = "3")]
    Text(String),
    #[prost(message, tag = "5")]
    Struct(Fields),
    #[prost(message, tag = "6")]
    List(List),
}

/// `google.protobuf.ListValue`.
#[derive(Clone, PartialEq, Message)]
struct List {
    #[prost(message, repeated, tag = "1")]
    values: Vec<Value>,
}

fn value(kind: Kind) -> Value {
    Value { kind: Some(kind) }
}

fn text(text: &str) -> Value {
    value(Kind::Text(text.to_owned()))
}

/// Appends which service, rule and subset an Envoy cluster is of.
pub(super) fn put(message: &mut Vec<u8>, service: &Service, rule: Option<&DestinationRule>, subset: &str) {
    let host = service.key.hostname.as_str();
    let name = host.split('.').next().unwrap_or(host);
    let name = if service.entry.is_some() { host } else { name };
    let one = [("host", host), ("name", name), ("namespace", service.key.namespace.as_str())];
    let one = Fields { fields: one.map(|(key, of)| (key.to_owned(), text(of))).into() };
    let services = value(Kind::List(List { values: vec![value(Kind::Struct(one))] }));
    let mut fields = BTreeMap::from([("services".to_owned(), services)]);
    if let Some(rule) = rule {
        let id = &rule.meta.id;
        let path =
            format!("/apis/networking.istio.io/v1/namespaces/{}/destination-rule/{}", id.namespace, id.name);
        fields.insert("config".to_owned(), text(&path));
    }
    if !subset.is_empty() {
        fields.insert("subset".to_owned(), text(subset));
    }
    let metadata = Metadata { filter_metadata: BTreeMap::from([("istio".to_owned(), Fields { fields })]) };
    put_field(METADATA, &metadata, message);
}
