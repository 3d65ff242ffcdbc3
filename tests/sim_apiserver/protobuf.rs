//! Kubernetes protobuf as typed clients speak it, read with Kubernetes' own schema.

use bytes::Buf as _;
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;

use super::raw::{PROTOBUF, envelope, field, get, message, messages, opened, request, send, text};
use super::*;

const SERVICES: &str = "/api/v1/namespaces/sample/services";
const CONFIG_MAPS: &str = "/api/v1/namespaces/sample/configmaps";
const TYPED: &str = "application/vnd.kubernetes.protobuf, application/json";

#[tokio::test]
async fn typed_clients_get_and_list_in_protobuf() {
    let server = east().await;
    for name in ["a", "b", "c"] {
        server.store().create(service(name)).unwrap();
    }
    let client = client(&server).await;
    let list = get(&client, &format!("{SERVICES}?limit=2"), TYPED).await;
    assert_eq!((list.status, &list.headers["content-type"]), (StatusCode::OK, &PROTOBUF.parse().unwrap()));
    let (kind, raw) = opened(&list.body);
    assert_eq!(kind, "v1 ServiceList");
    let list = message("api.core.v1.ServiceList", &raw);
    assert_eq!(text(&list, "metadata.resourceVersion"), server.store().resource_version().to_string());
    assert!(!text(&list, "metadata.continue").is_empty());
    let items = messages(&list, "items");
    assert_eq!(items.iter().map(|item| text(item, "metadata.name")).collect::<Vec<_>>(), ["a", "b"]);
    let spec = items[0].get_field_by_name("spec").unwrap();
    let ports = messages(spec.as_message().unwrap(), "ports");
    assert_eq!(
        (text(&ports[0], "port"), text(&ports[0], "targetPort.intVal")),
        ("5000".into(), "5000".into())
    );

    let one = get(&client, &format!("{SERVICES}/a"), TYPED).await;
    let (kind, raw) = opened(&one.body);
    assert_eq!(kind, "v1 Service");
    assert_eq!(raw, {
        use prost::Message as _;
        items[0].encode_to_vec()
    });
    let scarce = get(&client, &format!("{SERVICES}?labelSelector=app=none"), PROTOBUF).await;
    let (_, raw) = opened(&scarce.body);
    assert!(messages(&message("api.core.v1.ServiceList", &raw), "items").is_empty());
}

#[tokio::test]
async fn objects_are_written_in_protobuf() {
    let server = east().await;
    let client = client(&server).await;
    let headers = [("accept", PROTOBUF), ("content-type", PROTOBUF)];
    let entry = |key: &str, value: &str| field(2, [field(1, key), field(2, value)].concat());
    let map = |metadata: &[u8], value: &str| {
        envelope("v1", "ConfigMap", &[field(1, metadata), entry("key", value), entry("empty", "")].concat())
    };
    let made = send(&client, Method::POST, CONFIG_MAPS, &headers, map(&field(1, "settings"), "one")).await;
    assert_eq!(made.status, StatusCode::CREATED);
    let (kind, raw) = opened(&made.body);
    assert_eq!(kind, "v1 ConfigMap");
    let uid = text(&message("api.core.v1.ConfigMap", &raw), "metadata.uid");
    let stored = server.store().get(&kinds::CONFIG_MAPS, "sample", "settings").unwrap();
    assert_eq!(stored["data"], json!({"key": "one", "empty": ""}));
    assert_eq!(stored["metadata"]["uid"], uid);

    let path = format!("{CONFIG_MAPS}/settings");
    let versioned = |version: &str| [field(1, "settings"), field(6, version)].concat();
    let stale = send(&client, Method::PUT, &path, &headers, map(&versioned("1"), "two")).await;
    let (kind, raw) = opened(&stale.body);
    let status = message("apimachinery.pkg.apis.meta.v1.Status", &raw);
    assert_eq!((stale.status.as_u16(), kind.as_str()), (409, "v1 Status"));
    assert_eq!((text(&status, "code"), text(&status, "reason")), ("409".into(), "Conflict".into()));
    let version = stored["metadata"]["resourceVersion"].as_str().unwrap();
    let updated = send(&client, Method::PUT, &path, &headers, map(&versioned(version), "two")).await;
    assert_eq!(updated.status, StatusCode::OK);
    let stored = server.store().get(&kinds::CONFIG_MAPS, "sample", "settings").unwrap();
    assert_eq!(stored["data"]["key"], "two");

    let options = |uid: &str| envelope("v1", "DeleteOptions", &field(2, field(1, uid)));
    let other = send(&client, Method::DELETE, &path, &headers, options("another")).await;
    assert_eq!(other.status, StatusCode::CONFLICT);
    let gone = send(&client, Method::DELETE, &path, &headers, options(&uid)).await;
    assert_eq!((gone.status, opened(&gone.body).0.as_str()), (StatusCode::OK, "v1 Status"));
    assert!(server.store().get(&kinds::CONFIG_MAPS, "sample", "settings").is_none());
}

#[tokio::test]
async fn bodies_that_are_no_protobuf_are_refused() {
    let server = east().await;
    let client = client(&server).await;
    let headers = [("content-type", PROTOBUF)];
    for (body, code) in [
        (b"{}".to_vec(), 400),
        (b"k8s\0\xff\xff".to_vec(), 400),
        (envelope("v1", "Widget", b""), 400),
        (envelope("v1", "Secret", &field(1, field(1, "a"))), 400),
        (envelope("v1", "ConfigMap", &field(1, field(1, "Bad_Name"))), 422),
    ] {
        let refused = send(&client, Method::POST, CONFIG_MAPS, &headers, body.clone()).await;
        assert_eq!(refused.status.as_u16(), code, "{}", body.escape_ascii());
        assert_eq!(refused.json()["kind"], "Status");
    }
    let cbor = send(&client, Method::POST, CONFIG_MAPS, &[("content-type", "application/cbor")], "x").await;
    assert_eq!(cbor.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert!(cbor.json()["message"].as_str().unwrap().contains(PROTOBUF));
}

/// The frames of a watch, read one by one.
struct Frames {
    body: kube::client::Body,
    buffer: bytes::BytesMut,
}

impl Frames {
    async fn open(client: &Client, path: &str, accept: &str) -> Self {
        let response =
            client.send(request(Method::GET, path, &[("accept", accept)], Vec::new())).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], format!("{PROTOBUF};stream=watch"));
        Self { body: response.into_body(), buffer: bytes::BytesMut::new() }
    }

    /// The next event's type, its object's kind, and the object.
    async fn next(&mut self) -> Option<(String, String, bytes::Bytes)> {
        loop {
            let length = self.buffer.first_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes) as usize);
            if let Some(length) = length.filter(|length| self.buffer.len() >= length + 4) {
                self.buffer.advance(4);
                let event =
                    message("apimachinery.pkg.apis.meta.v1.WatchEvent", &self.buffer.split_to(length));
                let object = event.get_field_by_name("object").unwrap();
                let raw = object.as_message().unwrap().get_field_by_name("raw").unwrap();
                let (kind, raw) = opened(raw.as_bytes().unwrap());
                return Some((text(&event, "type"), kind, raw));
            }
            match soon(self.body.frame()).await {
                Some(frame) => self.buffer.extend_from_slice(&frame.unwrap().into_data().unwrap()),
                None => return None,
            }
        }
    }

    /// The next event in a line: `ADDED a`.
    async fn told(&mut self) -> String {
        let (event, kind, raw) = self.next().await.unwrap();
        assert_eq!(kind, "v1 Service");
        format!("{event} {}", text(&message("api.core.v1.Service", &raw), "metadata.name"))
    }
}

#[tokio::test]
async fn a_streaming_list_and_its_changes_come_in_frames() {
    let server = east().await;
    let store = server.store();
    store.create(service("a")).unwrap();
    let client = client(&server).await;
    let path = format!(
        "{SERVICES}?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    );
    let accept = format!("{PROTOBUF};stream=watch, {PROTOBUF}, application/json");
    let mut frames = Frames::open(&client, &path, &accept).await;
    assert_eq!(frames.told().await, "ADDED a");
    let (event, kind, raw) = frames.next().await.unwrap();
    assert_eq!((event.as_str(), kind.as_str()), ("BOOKMARK", "v1 Service"));
    let bookmark = message("api.core.v1.Service", &raw);
    assert_eq!(text(&bookmark, "metadata.resourceVersion"), store.resource_version().to_string());
    let metadata = bookmark.get_field_by_name("metadata").unwrap();
    let annotations = metadata.as_message().unwrap().get_field_by_name("annotations").unwrap();
    let end = prost_reflect::MapKey::String("k8s.io/initial-events-end".into());
    assert_eq!(annotations.as_map().unwrap()[&end].as_str(), Some("true"));
    store.create(service("b")).unwrap();
    store.patch(&kinds::SERVICES, "sample", "b", &json!({"spec": {"type": "NodePort"}})).unwrap();
    store.delete(&kinds::SERVICES, "sample", "a").unwrap();
    for want in ["ADDED b", "MODIFIED b", "DELETED a"] {
        assert_eq!(frames.told().await, want);
    }
}

#[tokio::test]
async fn a_large_initial_state_comes_whole_and_in_order_before_its_bookmark() {
    for count in [512, 600] {
        let server = east().await;
        let names: Vec<String> = (0..count).map(|at| format!("s{at:03}")).collect();
        for name in &names {
            server.store().create(service(name)).unwrap();
        }
        let client = client(&server).await;
        let path = format!(
            "{SERVICES}?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
        );
        let mut frames = Frames::open(&client, &path, PROTOBUF).await;
        for name in &names {
            assert_eq!(frames.told().await, format!("ADDED {name}"));
        }
        assert!(frames.told().await.starts_with("BOOKMARK"));
    }
}

#[tokio::test]
async fn a_watch_from_a_forgotten_version_ends_with_a_status() {
    let server = east().await;
    server.store().create(service("a")).unwrap();
    server.compact();
    let client = client(&server).await;
    let path = format!("{SERVICES}?watch=1&resourceVersion=1");
    let mut frames = Frames::open(&client, &path, &format!("{PROTOBUF};stream=watch")).await;
    let (event, kind, raw) = frames.next().await.unwrap();
    let status = message("apimachinery.pkg.apis.meta.v1.Status", &raw);
    assert_eq!((event.as_str(), kind.as_str()), ("ERROR", "v1 Status"));
    assert_eq!((text(&status, "code"), text(&status, "reason")), ("410".into(), "Expired".into()));
    assert_eq!(frames.next().await, None);
}

#[tokio::test]
async fn refusals_come_in_protobuf_but_not_to_strangers() {
    let server = east().await;
    let known = client(&server).await;
    let missing = get(&known, &format!("{SERVICES}/none"), TYPED).await;
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
    let (kind, raw) = opened(&missing.body);
    let status = message("apimachinery.pkg.apis.meta.v1.Status", &raw);
    assert_eq!((kind.as_str(), text(&status, "details.name")), ("v1 Status", "none".into()));
    let stranger = client_from(&server.kubeconfig().replace(server.token(), "wrong")).await;
    assert_eq!(get(&stranger, SERVICES, PROTOBUF).await.json()["code"], 401);
}

#[tokio::test]
async fn kinds_without_a_schema_answer_json_where_it_is_accepted() {
    let server = east().await;
    let client = client(&server).await;
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    assert_eq!(get(&client, path, TYPED).await.json()["kind"], "CustomResourceDefinitionList");
    let refused = get(&client, path, PROTOBUF).await;
    assert_eq!(refused.status, StatusCode::NOT_ACCEPTABLE);
    let message = refused.json()["message"].as_str().unwrap().to_owned();
    assert_eq!(message, "only the following media types are accepted: application/json");
}

#[tokio::test]
async fn every_built_in_kind_with_a_schema_lists_in_protobuf() {
    let server = east().await;
    let client = client(&server).await;
    let mut spoken = Vec::new();
    for kind in kinds::KINDS.iter() {
        let root = if kind.group.is_empty() { "/api" } else { "/apis" };
        let list = get(&client, &format!("{root}/{}/{}", kind.api_version(), kind.plural), TYPED).await;
        if list.headers["content-type"] == PROTOBUF {
            assert_eq!(opened(&list.body).0, format!("{} {}List", kind.api_version(), kind.kind));
            spoken.push(kind.plural.as_str());
        }
    }
    let silent: Vec<&str> =
        kinds::KINDS.iter().map(|k| k.plural.as_str()).filter(|p| !spoken.contains(p)).collect();
    assert_eq!(silent, ["customresourcedefinitions"]);
}

#[tokio::test]
async fn discovery_and_scale_come_in_protobuf_too() {
    let server = east().await;
    let client = client(&server).await;
    let resources = get(&client, "/apis/apps/v1", TYPED).await;
    let (kind, raw) = opened(&resources.body);
    let list = message("apimachinery.pkg.apis.meta.v1.APIResourceList", &raw);
    assert_eq!((kind.as_str(), text(&list, "groupVersion")), ("v1 APIResourceList", "apps/v1".into()));
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"namespace": "sample", "name": "web"}, "spec": {"replicas": 3}});
    server.store().create(deployment).unwrap();
    let scale = get(&client, "/apis/apps/v1/namespaces/sample/deployments/web/scale", TYPED).await;
    let (kind, raw) = opened(&scale.body);
    assert_eq!(kind, "autoscaling/v1 Scale");
    assert_eq!(text(&message("api.autoscaling.v1.Scale", &raw), "spec.replicas"), "3");
}
