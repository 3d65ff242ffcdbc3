//! JSON: events, lists and objects.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::raw::lenient;
use super::status::{RawStatus, short};
use super::{FrameError, ListPage, Object, ObjectKey, Received, Revision, WatchFrame, revision};

/// The annotation of the bookmark that ends a streaming list's first part.
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

#[derive(Deserialize)]
struct Event<'a> {
    r#type: String,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Deserialize)]
struct List<'a> {
    #[serde(default, deserialize_with = "lenient")]
    metadata: ListMeta,
    #[serde(borrow)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListMeta {
    #[serde(default, deserialize_with = "lenient")]
    resource_version: String,
    #[serde(default, deserialize_with = "lenient")]
    r#continue: String,
    #[serde(default)]
    remaining_item_count: Option<u64>,
}

#[derive(Default, Deserialize)]
struct Kind {
    #[serde(default, deserialize_with = "lenient")]
    kind: String,
}

#[derive(Default, Deserialize)]
struct Bookmark {
    metadata: serde_json::Value,
}

pub(super) fn frame<T: Object>(bytes: &[u8]) -> Result<WatchFrame<T>, FrameError> {
    let event: Event<'_> = serde_json::from_slice(bytes).map_err(|error| malformed(&error))?;
    let object = event.object.get();
    Ok(match event.r#type.as_str() {
        "ADDED" => WatchFrame::Added(received(object)?),
        "MODIFIED" => WatchFrame::Modified(received(object)?),
        "DELETED" => WatchFrame::Deleted(received(object)?),
        "BOOKMARK" => bookmark(object)?,
        "ERROR" => {
            let raw: RawStatus = serde_json::from_str(object).map_err(|error| malformed(&error))?;
            WatchFrame::Error(raw.into_status(500))
        }
        other => return Err(FrameError::UnknownEvent(short(other))),
    })
}

pub(super) fn list<T: Object>(body: &[u8]) -> Result<ListPage<T>, FrameError> {
    let kind: Kind = serde_json::from_slice(body).map_err(|error| malformed(&error))?;
    if kind.kind != T::LIST_KIND {
        return Err(FrameError::WrongKind { wanted: T::LIST_KIND, found: short(&kind.kind) });
    }
    let list: List<'_> = serde_json::from_slice(body).map_err(|error| malformed(&error))?;
    if list.metadata.resource_version.is_empty() {
        return Err(FrameError::NoRevision("a list"));
    }
    let items = list.items.unwrap_or_default().into_iter().map(|item| received(item.get()));
    Ok(ListPage {
        revision: Revision::new(&list.metadata.resource_version),
        next: Some(list.metadata.r#continue).filter(|token| !token.is_empty()),
        items: items.collect::<Result<_, _>>()?,
        remaining: list.metadata.remaining_item_count,
    })
}

pub(super) fn one<T: Object>(body: &[u8]) -> Result<Received<T>, FrameError> {
    let object: &RawValue = serde_json::from_slice(body).map_err(|error| malformed(&error))?;
    let kind: Kind = serde_json::from_str(object.get()).map_err(|error| malformed(&error))?;
    if kind.kind != T::KIND {
        return Err(FrameError::WrongKind { wanted: T::KIND, found: short(&kind.kind) });
    }
    received(object.get())
}

fn bookmark<T>(object: &str) -> Result<WatchFrame<T>, FrameError> {
    let object: Bookmark = serde_json::from_str(object).map_err(|error| malformed(&error))?;
    let text = object.metadata["resourceVersion"].as_str().unwrap_or_default();
    if text.is_empty() {
        return Err(FrameError::NoRevision("a bookmark"));
    }
    let end = object.metadata["annotations"][INITIAL_EVENTS_END].as_str() == Some("true");
    Ok(WatchFrame::Bookmark { revision: Revision::new(text), initial_events_end: end })
}

fn received<T: Object>(object: &str) -> Result<Received<T>, FrameError> {
    let value: serde_json::Value = serde_json::from_str(object).map_err(|error| malformed(&error))?;
    let text = |field: &str| value["metadata"][field].as_str().unwrap_or_default();
    if let Some(found) = value["kind"].as_str()
        && found != T::KIND
    {
        return Err(FrameError::WrongKind { wanted: T::KIND, found: short(found) });
    }
    let key = ObjectKey::new(text("namespace"), text("name"));
    let (uid, revision) = (text("uid").into(), revision::number(text("resourceVersion")));
    let object = if key.name.is_empty() {
        Err("it has no metadata.name".to_owned())
    } else {
        T::deserialize(value).map_err(|error| error.to_string())
    };
    Ok(Received { key, uid, revision, object })
}

fn malformed(error: &serde_json::Error) -> FrameError {
    let reason = format!("{:?} error at byte {}", error.classify(), error.column());
    FrameError::Malformed { encoding: "JSON", reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::objects::wire::{Encoding, decode_frame, decode_list, decode_one};
    use crate::ingest::objects::{NamespaceObject, ServiceObject};

    #[test]
    fn events_of_every_type_are_read() {
        let read = |line: &str| decode_frame::<NamespaceObject>(Encoding::Json, line.as_bytes());
        let object = r#"{"kind":"Namespace","apiVersion":"v1","metadata":{"name":"a","uid":"u","resourceVersion":"7"}}"#;
        for (name, expected) in [("ADDED", 0), ("MODIFIED", 1), ("DELETED", 2)] {
            let (which, received) = match read(&format!(r#"{{"type":"{name}","object":{object}}}"#)).unwrap()
            {
                WatchFrame::Added(received) => (0, received),
                WatchFrame::Modified(received) => (1, received),
                WatchFrame::Deleted(received) => (2, received),
                other => panic!("{other:?}"),
            };
            assert_eq!((which, received.revision, &*received.uid), (expected, Some(7), "u"));
            assert!(received.object.is_ok());
        }
        let end = r#"{"type":"BOOKMARK","object":{"kind":"Namespace","metadata":{"resourceVersion":"9","annotations":{"k8s.io/initial-events-end":"true"}}}}"#;
        assert_eq!(
            read(end).unwrap(),
            WatchFrame::Bookmark { revision: Revision::new("9"), initial_events_end: true }
        );
        let error = r#"{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired","message":"too old"}}"#;
        let WatchFrame::Error(status) = read(error).unwrap() else { panic!("an error") };
        assert_eq!((status.code, status.reason.as_str()), (410, "Expired"));
        assert!(matches!(read(r#"{"type":"NEWS","object":{}}"#), Err(FrameError::UnknownEvent(_))));
        assert!(matches!(read("<html>"), Err(FrameError::Malformed { .. })));
    }

    #[test]
    fn k22_lists_of_another_kind_or_without_a_revision_are_errors() {
        let read = |body: &str| decode_list::<ServiceObject>(Encoding::Json, body.as_bytes());
        let page = read(r#"{"kind":"ServiceList","apiVersion":"v1","metadata":{"resourceVersion":"5","continue":"t","remainingItemCount":3},
            "items":[{"metadata":{"name":"a","namespace":"n"}}]}"#).unwrap();
        assert_eq!(
            (page.revision.number(), page.next.as_deref(), page.remaining),
            (Some(5), Some("t"), Some(3))
        );
        assert_eq!(page.items[0].key.to_string(), "n/a");
        assert!(
            read(r#"{"kind":"ServiceList","metadata":{"resourceVersion":"5"},"items":null}"#)
                .unwrap()
                .items
                .is_empty()
        );
        for wrong in ["{}", r#"{"kind":"PodList","metadata":{"resourceVersion":"5"},"items":[]}"#] {
            assert!(matches!(read(wrong), Err(FrameError::WrongKind { .. })), "{wrong}");
        }
        let unversioned = r#"{"kind":"ServiceList","metadata":{},"items":[]}"#;
        assert_eq!(read(unversioned), Err(FrameError::NoRevision("a list")));
        assert!(
            decode_one::<ServiceObject>(Encoding::Json, br#"{"kind":"Pod","metadata":{"name":"a"}}"#)
                .is_err()
        );
    }
}
