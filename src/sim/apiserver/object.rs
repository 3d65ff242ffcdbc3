//! Objects at rest: their bytes, their key and labels, and the rules for their metadata.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::kinds::Kind;
use super::protobuf;

/// Where an object is found within its kind. The order is the order of lists. Clones share the text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ObjectKey {
    /// Namespace; empty for cluster-scoped kinds.
    pub(super) namespace: Arc<str>,
    /// Object name.
    pub(super) name: Arc<str>,
}

impl ObjectKey {
    pub(super) fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// The key of `object`; missing parts are empty.
    pub(super) fn of(object: &Value) -> Self {
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
        Self::new(text("namespace"), text("name"))
    }
}

/// The three changes a watch reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Added,
    Modified,
    Deleted,
}

impl Change {
    /// The type of the watch event.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }

    fn prefix(self) -> &'static [u8] {
        match self {
            Self::Added => br#"{"type":"ADDED","object":"#,
            Self::Modified => br#"{"type":"MODIFIED","object":"#,
            Self::Deleted => br#"{"type":"DELETED","object":"#,
        }
    }
}

const SUFFIX: &[u8] = b"}\n";

/// One version of one object, serialised once: lists use [`Stored::json`], watches [`Stored::line`].
///
/// Nothing parsed is kept but what selection needs most, key and labels: an object costs its text and about
/// 200 bytes. [`Stored::value`] parses anew.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) key: ObjectKey,
    pub(super) version: u64,
    change: Change,
    labels: Labels,
    line: Bytes,
    /// Made when a client first asks for it.
    protobuf: OnceLock<Bytes>,
}

impl Stored {
    /// Serialises `value` as the outcome of `change`.
    pub(super) fn new(value: &Value, version: u64, change: Change) -> Arc<Self> {
        let mut line = Vec::with_capacity(1024);
        line.extend_from_slice(change.prefix());
        serde_json::to_writer(&mut line, value).expect("a JSON value is serialisable into memory");
        line.extend_from_slice(SUFFIX);
        let labels = Labels::of(value);
        // Boxed first, so that nothing but the text stays.
        let line = Bytes::from(line.into_boxed_slice());
        Arc::new(Self { key: ObjectKey::of(value), version, change, labels, line, protobuf: OnceLock::new() })
    }

    /// The object, parsed. Cost: its length.
    pub(super) fn value(&self) -> Value {
        serde_json::from_slice(self.json_slice()).expect("it was serialised from a JSON value")
    }

    /// Whether this is the last state of an object that is gone.
    pub(super) fn is_deleted(&self) -> bool {
        self.change == Change::Deleted
    }

    /// The labels.
    pub(super) fn labels(&self) -> &Labels {
        &self.labels
    }

    fn json_slice(&self) -> &[u8] {
        &self.line[self.change.prefix().len()..self.line.len() - SUFFIX.len()]
    }

    /// The object as JSON; shared bytes.
    pub(super) fn json(&self) -> Bytes {
        self.line.slice_ref(self.json_slice())
    }

    /// The bare protobuf message of the object; shared bytes, empty for kinds without messages. The first call
    /// costs a few times the length of the object.
    pub(super) fn protobuf(&self) -> Bytes {
        self.protobuf.get_or_init(|| protobuf::message(&self.value()).unwrap_or_default()).clone()
    }

    /// The watch event `change` with this object, newline included. Shared when `change` is the one that
    /// made this version, copied otherwise.
    pub(super) fn line(&self, change: Change) -> Bytes {
        if change == self.change {
            return self.line.clone();
        }
        [change.prefix(), self.json_slice(), SUFFIX].concat().into()
    }

    /// This object as `kind` shows it: itself in the stored version, else a copy with its `apiVersion`.
    pub(super) fn seen_as(self: &Arc<Self>, kind: &Kind) -> Arc<Self> {
        if kind.stored_version.is_none() {
            return Arc::clone(self);
        }
        let mut value = self.value();
        value["apiVersion"] = json!(kind.api_version());
        Self::new(&value, self.version, self.change)
    }
}

/// A watch event made of parts.
pub(super) fn event_line(event_type: &str, object: &Value) -> Bytes {
    let mut line = json!({"type": event_type, "object": object}).to_string();
    line.push('\n');
    line.into()
}

/// The labels of an object in one text: key, unit separator, value, record separator, and so on. Validated
/// labels hold neither separator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Labels(Box<str>);

const UNIT: char = '\u{1f}';
const RECORD: char = '\u{1e}';

impl Labels {
    /// The labels of `object`.
    pub(super) fn of(object: &Value) -> Self {
        let mut text = String::new();
        for (key, value) in object["metadata"]["labels"].as_object().into_iter().flatten() {
            text.push_str(key);
            text.push(UNIT);
            text.push_str(value.as_str().unwrap_or_default());
            text.push(RECORD);
        }
        Self(text.into())
    }

    /// The value of `key`, if the label is there.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.0.split_terminator(RECORD).find_map(|label| label.strip_prefix(key)?.strip_prefix(UNIT))
    }
}

/// Makes `metadata` an object and returns it.
pub(super) fn metadata(object: &mut Value) -> &mut Map<String, Value> {
    let map = match object {
        Value::Object(map) => map,
        other => {
            *other = json!({});
            other.as_object_mut().expect("just made an object")
        }
    };
    let metadata = map.entry("metadata").or_insert_with(|| json!({}));
    if !metadata.is_object() {
        *metadata = json!({});
    }
    metadata.as_object_mut().expect("just made an object")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_found_by_their_whole_key() {
        let labels = Labels::of(&json!({"metadata": {"labels": {"app": "web", "app2": "", "tier": "a"}}}));
        assert_eq!(labels.get("app"), Some("web"));
        assert_eq!((labels.get("app2"), labels.get("ap"), labels.get("web")), (Some(""), None, None));
    }

    #[test]
    fn an_event_line_shares_the_bytes_of_the_list_item() {
        let stored = Stored::new(&json!({"a": 1}), 7, Change::Added);
        assert_eq!(&stored.json()[..], br#"{"a":1}"#);
        assert_eq!(&stored.line(Change::Added)[..], b"{\"type\":\"ADDED\",\"object\":{\"a\":1}}\n");
        assert_eq!(&stored.line(Change::Deleted)[..], b"{\"type\":\"DELETED\",\"object\":{\"a\":1}}\n");
        assert_eq!(stored.line(Change::Added).as_ptr(), stored.line.as_ptr());
    }
}
