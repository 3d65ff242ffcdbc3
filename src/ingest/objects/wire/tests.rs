//! Events and lists of JSON.

use super::*;
use crate::ingest::objects::{NamespaceObject, ServiceObject};

#[test]
fn events_of_every_type_are_read() {
    let read = |line: &str| decode_frame::<NamespaceObject>(Encoding::Json, line.as_bytes());
    let object =
        r#"{"kind":"Namespace","apiVersion":"v1","metadata":{"name":"a","uid":"u","resourceVersion":"7"}}"#;
    for (name, expected) in [("ADDED", 0), ("MODIFIED", 1), ("DELETED", 2)] {
        let (which, received) = match read(&format!(r#"{{"type":"{name}","object":{object}}}"#)).unwrap() {
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
    let error =
        r#"{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired","message":"too old"}}"#;
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
    assert_eq!((page.revision.number(), page.next.as_deref()), (Some(5), Some("t")));
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
        decode_one::<ServiceObject>(Encoding::Json, br#"{"kind":"Pod","metadata":{"name":"a"}}"#).is_err()
    );
}
