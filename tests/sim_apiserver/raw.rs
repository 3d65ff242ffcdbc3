//! Plain requests with their headers, and bytes read with nobody's help.

use std::sync::LazyLock;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::BodyExt as _;
use kube::client::Body;
use prost_reflect::{DescriptorPool, DynamicMessage};

use super::*;

pub(super) const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// A whole answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        assert_eq!(self.headers["content-type"], "application/json");
        serde_json::from_slice(&self.body).unwrap()
    }
}

pub(super) fn request(
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: Vec<u8>,
) -> http::Request<Body> {
    let mut request = http::Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::from(body)).unwrap()
}

pub(super) async fn send(
    client: &Client,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Vec<u8>>,
) -> Answer {
    let response = client.send(request(method, path, headers, body.into())).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = soon(body.collect()).await.unwrap().to_bytes();
    Answer { status: parts.status, headers: parts.headers, body }
}

pub(super) async fn get(client: &Client, path: &str, accept: &str) -> Answer {
    send(client, Method::GET, path, &[("accept", accept)], "").await
}

/// The messages of Kubernetes' own schema.
static SCHEMA: LazyLock<DescriptorPool> = LazyLock::new(|| {
    let packed: &[u8] = include_bytes!("../../proto/kubernetes-descriptors.bin.gz");
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(packed), &mut bytes).unwrap();
    DescriptorPool::decode(&bytes[..]).unwrap()
});

pub(super) fn message(name: &str, bytes: &[u8]) -> DynamicMessage {
    let descriptor = SCHEMA.get_message_by_name(&format!("k8s.io.{name}")).unwrap();
    DynamicMessage::decode(descriptor, bytes).unwrap()
}

/// The value at `path` as text.
pub(super) fn text(message: &DynamicMessage, path: &str) -> String {
    let (first, rest) = path.split_once('.').unwrap_or((path, ""));
    let value = message.get_field_by_name(first).unwrap();
    match &*value {
        prost_reflect::Value::Message(inner) => text(inner, rest),
        prost_reflect::Value::String(text) => text.clone(),
        prost_reflect::Value::I32(number) => number.to_string(),
        prost_reflect::Value::I64(number) => number.to_string(),
        other => panic!("{path} is {other:?}"),
    }
}

pub(super) fn messages(message: &DynamicMessage, field: &str) -> Vec<DynamicMessage> {
    let value = message.get_field_by_name(field).unwrap();
    value.as_list().unwrap().iter().map(|item| item.as_message().unwrap().clone()).collect()
}

/// `apiVersion kind` and the bytes of an envelope's object.
pub(super) fn opened(bytes: &[u8]) -> (String, Bytes) {
    let unknown = message("apimachinery.pkg.runtime.Unknown", bytes.strip_prefix(b"k8s\0").unwrap());
    let kind = format!("{} {}", text(&unknown, "typeMeta.apiVersion"), text(&unknown, "typeMeta.kind"));
    let raw = unknown.get_field_by_name("raw").unwrap().as_bytes().unwrap().clone();
    (kind, raw)
}

/// One length-delimited field.
pub(super) fn field(number: u8, bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    let length = u8::try_from(bytes.len()).ok().filter(|length| *length < 128).expect("short fields only");
    [&[number << 3 | 2, length], bytes].concat()
}

/// An envelope as a typed client sends it.
pub(super) fn envelope(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let type_meta = [field(1, api_version), field(2, kind)].concat();
    [b"k8s\0".to_vec(), field(1, type_meta), field(2, raw), field(3, ""), field(4, "")].concat()
}
