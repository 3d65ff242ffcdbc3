//! A proxy's node off the wire.

use prost_types::value::Kind;
use serde_json::Value;

use crate::model::{Locality, Node, NodeError, NodeMetadata};
use crate::proto::discovery::Node as WireNode;

/// Deepest nesting of node metadata that is read; deeper values count as absent (Z-36).
const METADATA_DEPTH: usize = 32;

/// Largest node metadata, in bytes on the wire (Z-36).
const METADATA_BYTES: usize = 64 << 10;

/// Reads and checks the node of the first request of a stream.
///
/// # Errors
/// [`NodeError`]: the stream ends with `INVALID_ARGUMENT` (X-C02).
pub(super) fn node(wire: Option<WireNode>) -> Result<Node, NodeError> {
    let wire = wire.ok_or(NodeError::Missing)?;
    let bytes = wire.metadata.as_ref().map_or(0, prost::Message::encoded_len);
    if bytes > METADATA_BYTES {
        return Err(NodeError::TooLarge { bytes, limit: METADATA_BYTES });
    }
    let metadata = wire.metadata.map(|metadata| object(metadata, METADATA_DEPTH)).unwrap_or_default();
    let metadata: NodeMetadata = serde_json::from_value(metadata)
        .map_err(|error| NodeError::Metadata { key: "metadata", reason: error.to_string() })?;
    let locality = wire.locality.map(|locality| Locality {
        region: locality.region.into(),
        zone: locality.zone.into(),
        subzone: locality.sub_zone.into(),
    });
    let extensions = wire.extensions.iter().map(|extension| extension.name.as_str());
    Node::parse(&wire.id, metadata, locality.unwrap_or_default(), extensions)
}

fn object(fields: prost_types::Struct, depth: usize) -> Value {
    if depth == 0 {
        return Value::Null;
    }
    Value::Object(fields.fields.into_iter().map(|(key, field)| (key, value(field, depth - 1))).collect())
}

fn value(value: prost_types::Value, depth: usize) -> Value {
    match value.kind {
        Some(Kind::StringValue(text)) => Value::String(text),
        Some(Kind::BoolValue(flag)) => Value::Bool(flag),
        Some(Kind::NumberValue(number)) => number.into(),
        Some(Kind::StructValue(fields)) => object(fields, depth),
        // No key that is read is a list.
        Some(Kind::ListValue(_) | Kind::NullValue(_)) | None => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(levels: usize, text: &str) -> prost_types::Value {
        let leaf = prost_types::Value { kind: Some(Kind::StringValue(text.to_owned())) };
        (0..levels).fold(leaf, |inner, _| prost_types::Value {
            kind: Some(Kind::StructValue(prost_types::Struct { fields: [("a".to_owned(), inner)].into() })),
        })
    }

    #[test]
    fn z36_metadata_nested_too_deep_counts_as_absent_and_the_rest_is_read() {
        let text = |text: &str| prost_types::Value { kind: Some(Kind::StringValue(text.to_owned())) };
        let fields = [
            ("CLUSTER_ID".to_owned(), text("c1")),
            ("NODE_NAME".to_owned(), nested(METADATA_DEPTH * 2, "too deep")),
            ("ISTIO_VERSION".to_owned(), nested(2, "seen")),
        ];
        let wire = WireNode {
            id: "sidecar~10.0.0.1~p.q~d".to_owned(),
            metadata: Some(prost_types::Struct { fields: fields.into() }),
            ..WireNode::default()
        };
        let node = node(Some(wire)).expect("valid");
        assert_eq!(&*node.workload.cluster, "c1");
        assert!(node.version.contains("seen"), "{}", node.version);
        assert!(!node.node_name.contains("too deep") && node.node_name.len() < METADATA_DEPTH * 8);
    }
}
