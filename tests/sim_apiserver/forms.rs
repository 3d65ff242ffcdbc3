//! The forms of an answer: nothing but metadata, compressed, or refused.

use std::io::Read as _;

use futures::StreamExt as _;
use http::{Method, StatusCode};
use http_body_util::BodyExt as _;
use kube::api::{ListParams, WatchParams};

use super::raw::{PROTOBUF, get, message, messages, opened, request, send, text};
use super::*;

#[tokio::test]
async fn metadata_alone_is_read_listed_and_watched() {
    let server = east().await;
    server.store().create(service("a")).unwrap();
    let client = client(&server).await;
    let api = in_sample(&client, &kinds::SERVICES);
    let one = api.get_metadata("a").await.unwrap();
    assert_eq!(one.types.unwrap().kind, "PartialObjectMetadata");
    assert_eq!(one.metadata.labels.unwrap()["app"], "a");
    let list = api.list_metadata(&ListParams::default()).await.unwrap();
    assert_eq!((list.types.kind.as_str(), list.items.len()), ("PartialObjectMetadataList", 1));
    assert!(list.items[0].metadata.uid.is_some());
    let version = list.metadata.resource_version.unwrap();
    server.store().delete(&kinds::SERVICES, "sample", "a").unwrap();
    let events = api.watch_metadata(&WatchParams::default(), &version).await.unwrap();
    let mut events = std::pin::pin!(events);
    match soon(events.next()).await.unwrap().unwrap() {
        WatchEvent::Deleted(object) => assert_eq!(object.metadata.name.as_deref(), Some("a")),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn metadata_of_custom_kinds_comes_in_protobuf() {
    let server = east().await;
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "gadgets.example.org"},
        "spec": {"group": "example.org", "scope": "Cluster", "names": {"plural": "gadgets", "kind": "Gadget"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object"}}}]}});
    server.store().create(definition).unwrap();
    let gadget = json!({"apiVersion": "example.org/v1", "kind": "Gadget", "metadata": {"name": "g"}});
    server.store().create(gadget).unwrap();
    let client = client(&server).await;
    let accept = format!("{PROTOBUF};as=PartialObjectMetadataList;g=meta.k8s.io;v=v1");
    let list = get(&client, "/apis/example.org/v1/gadgets", &accept).await;
    let (kind, raw) = opened(&list.body);
    assert_eq!(kind, "meta.k8s.io/v1 PartialObjectMetadataList");
    let items = messages(&message("apimachinery.pkg.apis.meta.v1.PartialObjectMetadataList", &raw), "items");
    assert_eq!(text(&items[0], "metadata.name"), "g");
}

#[tokio::test]
async fn what_is_not_offered_is_refused_with_what_is() {
    let server = east().await;
    let client = client(&server).await;
    let refused = get(&client, "/api/v1/pods", "text/html").await;
    assert_eq!(refused.status, StatusCode::NOT_ACCEPTABLE);
    let status = refused.json();
    assert_eq!(
        (&status["kind"], &status["reason"], &status["code"]),
        (&json!("Status"), &json!("NotAcceptable"), &json!(406))
    );
    let message = status["message"].as_str().unwrap();
    assert!(message.contains("application/json") && message.contains(PROTOBUF), "{message}");
    let browser = get(&client, "/api/v1/pods", "text/html,application/xhtml+xml,*/*;q=0.8").await;
    assert_eq!(browser.json()["kind"], "PodList");
}

#[tokio::test]
async fn large_answers_are_compressed_for_who_takes_gzip() {
    let server = east().await;
    for at in 0..400 {
        let mut service = service(&format!("s{at}"));
        service["metadata"]["annotations"] = json!({"note": "x".repeat(400)});
        server.store().create(service).unwrap();
    }
    let client = client(&server).await;
    for accept in ["application/json", PROTOBUF] {
        let fetch = |headers: Vec<(&'static str, &'static str)>, path: &'static str| {
            let client = client.clone();
            async move { send(&client, Method::GET, path, &headers, "").await }
        };
        let plain = fetch(vec![("accept", accept)], "/api/v1/services").await;
        assert!(plain.body.len() > 128 * 1024 && !plain.headers.contains_key("content-encoding"));
        let gzip = vec![("accept", accept), ("accept-encoding", "gzip")];
        let packed = fetch(gzip.clone(), "/api/v1/services").await;
        assert_eq!(packed.headers["content-encoding"], "gzip");
        assert_eq!(packed.headers["content-type"], accept);
        assert!(packed.body.len() < plain.body.len() / 4);
        let mut read = Vec::new();
        flate2::read::GzDecoder::new(&packed.body[..]).read_to_end(&mut read).unwrap();
        assert!(read == plain.body, "the same bytes");
        let small = fetch(gzip, "/api/v1/services?limit=1").await;
        assert!(!small.headers.contains_key("content-encoding"));
    }
}

#[tokio::test]
async fn watches_are_never_compressed() {
    let server = east().await;
    server.store().create(service("a")).unwrap();
    let client = client(&server).await;
    let watch = request(Method::GET, "/api/v1/services?watch=1", &[("accept-encoding", "gzip")], Vec::new());
    let response = client.send(watch).await.unwrap();
    assert!(!response.headers().contains_key("content-encoding"));
    let first = soon(response.into_body().frame()).await.unwrap().unwrap().into_data().unwrap();
    assert!(first.starts_with(br#"{"type":"ADDED""#));
}
