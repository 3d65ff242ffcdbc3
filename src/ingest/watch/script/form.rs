//! Namespaces, lists and events in both encodings, written by hand.

use serde_json::{Value, json};

use crate::ingest::objects::wire::Encoding;

/// A Namespace with a network label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::ingest) struct Space {
    pub(in crate::ingest) name: String,
    pub(in crate::ingest) network: String,
    pub(in crate::ingest) uid: String,
    pub(in crate::ingest) revision: u64,
}

impl Space {
    pub(in crate::ingest) fn new(name: &str, network: &str, revision: u64) -> Self {
        let uid = format!("uid-{name}");
        Self { name: name.to_owned(), network: network.to_owned(), uid, revision }
    }

    fn json(&self) -> Value {
        json!({"kind": "Namespace", "apiVersion": "v1", "metadata": {
            "name": self.name, "uid": self.uid, "resourceVersion": self.revision.to_string(),
            "labels": {"topology.istio.io/network": self.network}}})
    }

    fn message(&self) -> Vec<u8> {
        let label = [field(1, b"topology.istio.io/network"), field(2, self.network.as_bytes())].concat();
        let revision = self.revision.to_string();
        let metadata = [
            field(1, self.name.as_bytes()),
            field(5, self.uid.as_bytes()),
            field(6, revision.as_bytes()),
            field(11, &label),
        ];
        field(1, &metadata.concat())
    }
}

/// A length-delimited protobuf field.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    prost::encode_length_delimiter(bytes.len(), &mut out).unwrap();
    out.extend_from_slice(bytes);
    out
}

fn envelope(kind: &str, message: &[u8]) -> Vec<u8> {
    let named = [field(1, b"v1"), field(2, kind.as_bytes())].concat();
    [b"k8s\0".to_vec(), field(1, &named), field(2, message)].concat()
}

fn line(value: &Value) -> Vec<u8> {
    format!("{value}\n").into_bytes()
}

fn frame(kind: &str, object: &[u8]) -> Vec<u8> {
    let event = [field(1, kind.as_bytes()), field(2, &field(1, object))].concat();
    let length = u32::try_from(event.len()).unwrap().to_be_bytes();
    [length.to_vec(), event].concat()
}

pub(in crate::ingest) fn list(encoding: Encoding, revision: &str, next: &str, items: &[Space]) -> Vec<u8> {
    match encoding {
        Encoding::Json => json!({"kind": "NamespaceList", "apiVersion": "v1",
            "metadata": {"resourceVersion": revision, "continue": next},
            "items": items.iter().map(Space::json).collect::<Vec<_>>()})
        .to_string()
        .into_bytes(),
        Encoding::Protobuf => {
            let meta = [field(2, revision.as_bytes()), field(3, next.as_bytes())].concat();
            let items = items.iter().map(|item| field(2, &item.message())).collect::<Vec<_>>();
            envelope("NamespaceList", &[field(1, &meta), items.concat()].concat())
        }
    }
}

pub(in crate::ingest) fn one(encoding: Encoding, space: &Space) -> Vec<u8> {
    match encoding {
        Encoding::Json => space.json().to_string().into_bytes(),
        Encoding::Protobuf => envelope("Namespace", &space.message()),
    }
}

/// An ADDED, MODIFIED or DELETED event.
pub(in crate::ingest) fn event(encoding: Encoding, kind: &str, space: &Space) -> Vec<u8> {
    match encoding {
        Encoding::Json => line(&json!({"type": kind, "object": space.json()})),
        Encoding::Protobuf => frame(kind, &envelope("Namespace", &space.message())),
    }
}

pub(in crate::ingest) fn bookmark(encoding: Encoding, revision: &str, end: bool) -> Vec<u8> {
    const END: &str = "k8s.io/initial-events-end";
    match encoding {
        Encoding::Json => {
            let mut metadata = json!({"resourceVersion": revision});
            if end {
                metadata["annotations"] = json!({END: "true"});
            }
            let object = json!({"kind": "Namespace", "apiVersion": "v1", "metadata": metadata});
            line(&json!({"type": "BOOKMARK", "object": object}))
        }
        Encoding::Protobuf => {
            let note = [field(1, END.as_bytes()), field(2, b"true")].concat();
            let note = if end { field(12, &note) } else { Vec::new() };
            let metadata = [field(6, revision.as_bytes()), note].concat();
            frame("BOOKMARK", &envelope("Namespace", &field(1, &metadata)))
        }
    }
}

pub(in crate::ingest) fn status(code: u16, reason: &str, message: &str) -> Vec<u8> {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason,
        "message": message})
    .to_string()
    .into_bytes()
}

/// An ERROR event, in JSON.
pub(in crate::ingest) fn error(code: u16, reason: &str, message: &str) -> Vec<u8> {
    let status: Value = serde_json::from_slice(&status(code, reason, message)).unwrap();
    line(&json!({"type": "ERROR", "object": status}))
}

pub(in crate::ingest) fn list_type(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Json => "application/json",
        Encoding::Protobuf => "application/vnd.kubernetes.protobuf",
    }
}

pub(in crate::ingest) fn watch_type(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Json => "application/json",
        Encoding::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
    }
}
