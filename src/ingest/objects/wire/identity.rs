//! Whose object it is, when nothing else of it can be read.

use super::{ObjectKey, Received, revision};
use crate::ingest::objects::raw::protobuf::{delimited, next, skip};
use crate::model::Name;

/// Which object it is; without a name if its name or namespace was no UTF-8: two such names may look the same.
pub(in crate::ingest::objects) fn key(namespace: &str, name: &str) -> ObjectKey {
    if [namespace, name].iter().any(|text| text.contains(char::REPLACEMENT_CHARACTER)) {
        return ObjectKey::default();
    }
    ObjectKey { namespace: Name::interned(namespace), name: name.into() }
}

/// What stands in the metadata of an unreadable object; each part empty where not even that can be read (K-38).
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) kind: String,
    pub(super) api_version: String,
    key: ObjectKey,
    uid: Name,
    revision: Option<u64>,
}

impl Identity {
    /// From namespace, name, uid and revision.
    pub(super) fn new([api_version, kind]: [&str; 2], [namespace, name, uid, revision]: [&str; 4]) -> Self {
        Self {
            kind: kind.to_owned(),
            api_version: api_version.to_owned(),
            key: key(namespace, name),
            uid: uid.into(),
            revision: revision::number(revision),
        }
    }

    /// Of the bare message of an object: what its metadata says until the bytes make no sense.
    pub(super) fn of_message(message: &[u8]) -> Self {
        let metadata = field(message, 1);
        let text = |number| std::str::from_utf8(field(metadata, number)).unwrap_or_default();
        Self::new([""; 2], [text(3), text(1), text(5), text(6)])
    }

    pub(super) fn unreadable<T>(self, reason: String) -> Received<T> {
        Received { key: self.key, uid: self.uid, revision: self.revision, object: Err(reason) }
    }
}

/// The first value of a field that has bytes; empty if none comes before the message makes no sense.
fn field(mut message: &[u8], wanted: u32) -> &[u8] {
    while let Ok(Some((number, wire))) = next(&mut message) {
        if number == wanted
            && let Ok(value) = delimited(wire, &mut message)
        {
            return value;
        }
        if number == wanted || skip(number, wire, &mut message).is_err() {
            break;
        }
    }
    &[]
}
