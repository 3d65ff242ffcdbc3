//! Events and lists of JSON.

use super::*;
use crate::ingest::objects::{NamespaceObject, ServiceExportObject, ServiceObject, SliceObject};

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

/// A length-delimited protobuf field.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    prost::encode_length_delimiter(bytes.len(), &mut out).unwrap();
    out.extend_from_slice(bytes);
    out
}

fn enveloped(api_version: &str, kind: &str, message: &[u8]) -> Vec<u8> {
    let named = [field(1, api_version.as_bytes()), field(2, kind.as_bytes())].concat();
    [b"k8s\0".to_vec(), field(1, &named), field(2, message)].concat()
}

/// A slice with this metadata and so many times this endpoint.
fn slice(metadata: &[u8], endpoint: &[u8], times: usize) -> Vec<u8> {
    [field(1, metadata), field(2, endpoint).repeat(times)].concat()
}

fn named(namespace: &str, name: &[u8]) -> Vec<u8> {
    [field(1, name), field(3, namespace.as_bytes())].concat()
}

fn one_slice(message: &[u8]) -> Received<SliceObject> {
    let body = enveloped("discovery.k8s.io/v1", "EndpointSlice", message);
    decode_one(Encoding::Protobuf, &body).unwrap()
}

#[test]
fn k36_an_object_with_more_elements_than_kubernetes_permits_is_unreadable_and_nothing_else_is() {
    let address = field(1, b"10.0.0.1");
    let largest = one_slice(&slice(&named("n", b"s"), &address, 20_000));
    assert_eq!(largest.object.unwrap().endpoints.len(), 20_000);
    let larger = one_slice(&slice(&named("n", b"s"), &address, 20_001));
    assert_eq!(larger.key.to_string(), "n/s");
    assert!(larger.object.map(drop).unwrap_err().contains("more than 20000"));

    let many = |object: &str, times: usize| vec![object; times].join(",");
    let slice = |endpoints: &str, ports: &str, name: &str| {
        format!(
            r#"{{"metadata":{{"name":"{name}","namespace":"n"}},"endpoints":[{endpoints}],"ports":[{ports}]}}"#
        )
    };
    let port = r#"{"port":1}"#;
    let items = [slice("", &many(port, 20_001), "large"), slice("", &many(port, 20_000), "good")];
    let body = format!(
        r#"{{"kind":"EndpointSliceList","metadata":{{"resourceVersion":"5"}},"items":[{}]}}"#,
        items.join(",")
    );
    let page = decode_list::<SliceObject>(Encoding::Json, body.as_bytes()).unwrap();
    assert!(page.items[0].object.is_err() && page.items[1].object.is_ok());
    let read = |map: String, list: String| {
        let text = format!(
            r#"{{"kind":"Service","metadata":{{"name":"s","namespace":"n","labels":{{{map}}}}},
                "spec":{{"externalIPs":[{list}]}}}}"#
        );
        decode_one::<ServiceObject>(Encoding::Json, text.as_bytes()).unwrap().object
    };
    assert!(read(many(r#""a":"b""#, 20_000), many(r#""1.1.1.1""#, 20_000)).is_ok());
    assert!(read(many(r#""a":"b""#, 20_001), String::new()).is_err());
    assert!(read(String::new(), many(r#""1.1.1.1""#, 20_002)).is_err());
}

#[test]
fn k36_elements_that_say_nothing_are_not_kept() {
    let text = r#"{"kind":"EndpointSlice","metadata":{"name":"s","namespace":"n"},
        "endpoints":[{},{"conditions":{"ready":true}},{"addresses":["10.0.0.1"]}]}"#;
    let read = decode_one::<SliceObject>(Encoding::Json, text.as_bytes()).unwrap().object.unwrap();
    assert_eq!(read.endpoints.len(), 1);
    let text =
        r#"{"kind":"Service","metadata":{"name":"s","namespace":"n"},"spec":{"ports":[{},{"port":80}]}}"#;
    let read = decode_one::<ServiceObject>(Encoding::Json, text.as_bytes()).unwrap().object.unwrap();
    assert_eq!(read.ports.len(), 1);
}

#[test]
fn k37_a_list_with_more_objects_than_its_bytes_can_be_is_none() {
    let list = |items: &[u8]| {
        let body = [field(1, &field(2, b"5")), items.to_vec()].concat();
        let body = enveloped("discovery.k8s.io/v1", "EndpointSliceList", &body);
        decode_list::<SliceObject>(Encoding::Protobuf, &body)
    };
    let item = |message: &[u8]| field(2, message);
    let real = [named("n", b"s"), field(5, &[b'u'; 36]), field(6, b"1")].concat();
    assert_eq!(list(&item(&slice(&real, b"", 0)).repeat(5000)).unwrap().items.len(), 5000);
    let endpoint = [field(1, b"1::"), field(2, b"")].concat();
    assert!(list(&item(&slice(&real, &endpoint, 1000)).repeat(20)).is_ok(), "the smallest there can be");
    for dense in [
        item(&field(1, &named("n", b"s"))).repeat(5000),
        item(&slice(&named("n", b"s"), &field(1, b""), 10_000)).repeat(20),
    ] {
        assert!(matches!(list(&dense), Err(FrameError::Malformed { .. })));
    }
}

#[test]
fn k38_texts_that_are_not_utf8_read_alike_in_both_encodings_unless_they_are_names() {
    let annotation = [field(1, b"a"), field(2, b"x\xffy")].concat();
    let label = [field(1, b"kubernetes.io/service-name"), field(2, b"s\xff")].concat();
    let metadata = [named("n", b"s"), field(11, &label), field(12, &annotation)].concat();
    let protobuf = one_slice(&field(1, &metadata));
    let json = b"{\"kind\":\"EndpointSlice\",\"metadata\":{\"name\":\"s\",\"namespace\":\"n\",\
        \"labels\":{\"kubernetes.io/service-name\":\"s\xff\"},\"annotations\":{\"a\":\"x\xffy\"}}}";
    let json = decode_one::<SliceObject>(Encoding::Json, json).unwrap();
    assert_eq!(json, protobuf);
    assert_eq!(json.object.unwrap().service.as_deref(), Some("s\u{fffd}"));

    let unnamed = one_slice(&field(1, &named("n", b"s\xff")));
    assert!(unnamed.key.name.is_empty() && unnamed.object.is_err(), "two such names may look the same");
    let json = b"{\"kind\":\"EndpointSlice\",\"metadata\":{\"name\":\"s\xff\",\"namespace\":\"n\"}}";
    assert_eq!(decode_one::<SliceObject>(Encoding::Json, json).unwrap(), unnamed);
    let page = b"{\"kind\":\"EndpointSliceList\",\"metadata\":{\"resourceVersion\":\"5\"},\"items\":[\
        {\"metadata\":{\"name\":\"a\",\"namespace\":\"n\"}},{\"metadata\":{\"name\":\"\xff\",\"namespace\":\"n\"}}]}";
    let page = decode_list::<SliceObject>(Encoding::Json, page).unwrap();
    assert!(page.items[0].object.is_ok() && page.items[1].object.is_err(), "one bad byte costs one object");
}

#[test]
fn z11_objects_are_in_a_namespace_if_and_only_if_their_kind_is() {
    let bare = decode_one::<ServiceObject>(Encoding::Json, br#"{"kind":"Service","metadata":{"name":"a"}}"#);
    assert!(bare.unwrap().object.unwrap_err().contains("no metadata.namespace"));
    let text = br#"{"kind":"Namespace","metadata":{"name":"a","namespace":"n"}}"#;
    let inside = decode_one::<NamespaceObject>(Encoding::Json, text);
    assert!(inside.unwrap().object.unwrap_err().contains("in a namespace"));
    assert!(one_slice(&field(1, &field(1, b"s"))).object.is_err());
}

#[test]
fn r4_39_exports_are_read_in_whatever_version_they_were_asked_for() {
    let list = |version: &str| {
        format!(
            r#"{{"kind":"ServiceExportList","apiVersion":"{version}","metadata":{{"resourceVersion":"5"}},
                "items":[{{"kind":"ServiceExport","apiVersion":"{version}","metadata":{{"name":"a","namespace":"n"}}}}]}}"#
        )
    };
    for version in ["multicluster.x-k8s.io/v1alpha1", "multicluster.x-k8s.io/v1beta1", "example.com/v1"] {
        let page = decode_list::<ServiceExportObject>(Encoding::Json, list(version).as_bytes()).unwrap();
        assert!(page.items[0].object.is_ok(), "{version}");
        let event = format!(
            r#"{{"type":"ADDED","object":{{"kind":"ServiceExport","apiVersion":"{version}","metadata":{{"name":"a","namespace":"n"}}}}}}"#
        );
        assert!(decode_frame::<ServiceExportObject>(Encoding::Json, event.as_bytes()).is_ok());
    }
}

#[test]
fn k22_events_bookmarks_and_errors_of_another_kind_are_errors() {
    let read = |line: &str| decode_frame::<ServiceObject>(Encoding::Json, line.as_bytes());
    let object = |kind: &str, api_version: &str| {
        format!(
            r#"{{"kind":"{kind}","apiVersion":"{api_version}","metadata":{{"name":"a","namespace":"n","resourceVersion":"5"}}}}"#
        )
    };
    for event in ["ADDED", "MODIFIED", "DELETED", "BOOKMARK"] {
        let of =
            |kind, api_version| format!(r#"{{"type":"{event}","object":{}}}"#, object(kind, api_version));
        assert!(read(&of("Service", "v1")).is_ok(), "{event}");
        for (kind, api_version) in [("Pod", "v1"), ("Service", "serving.knative.dev/v1")] {
            let answer = read(&of(kind, api_version));
            assert!(matches!(answer, Err(FrameError::WrongKind { .. })), "{event} {kind} {answer:?}");
        }
    }
    let gone = read(r#"{"type":"ERROR","object":{"kind":"Gone","code":410,"reason":"Expired"}}"#);
    assert!(matches!(gone, Err(FrameError::WrongKind { .. })), "{gone:?}");
    let mark = enveloped("v1", "Pod", &field(1, &field(6, b"9")));
    let mark = [field(1, b"BOOKMARK"), field(2, &field(1, &mark))].concat();
    let mark = decode_frame::<ServiceObject>(Encoding::Protobuf, &mark);
    assert!(matches!(mark, Err(FrameError::WrongKind { .. })), "{mark:?}");
}
