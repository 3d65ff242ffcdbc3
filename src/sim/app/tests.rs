use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

use super::*;

fn settings(protocol: EchoProtocol) -> EchoSettings {
    EchoSettings {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        version: "v1".into(),
        cluster: "east".into(),
        name: "helloworld".into(),
        instance: "pod-1".into(),
        protocol,
    }
}

fn client(http2: bool) -> Client<HttpConnector, Empty<Bytes>> {
    Client::builder(TokioExecutor::new()).http2_only(http2).build_http()
}

async fn get(http2: bool, url: &str, headers: &[(&str, &str)]) -> (Response<()>, String) {
    let mut request = Request::get(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = client(http2).request(request.body(Empty::new()).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (Response::from_parts(parts, ()), String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn both_http_versions_say_who_answered() {
    let app = EchoApp::start(settings(EchoProtocol::Http)).await.unwrap();
    let url = format!("http://{}/hello", app.address());
    for http2 in [false, true] {
        let (response, text) = get(http2, &url, &[]).await;
        assert_eq!(text, "Hello version: v1, instance: pod-1, cluster: east\n");
        assert_eq!(response.headers()["x-app-version"], "v1");
        assert_eq!(response.headers()["x-app-cluster"], "east");
    }
    assert_eq!(get(false, &format!("http://{}/healthz", app.address()), &[]).await.1, "ok\n");
    app.shutdown().await;
}

#[tokio::test]
async fn json_shows_the_request_as_it_arrived() {
    let app = EchoApp::start(settings(EchoProtocol::Http)).await.unwrap();
    let url = format!("http://{}/any/path?format=json", app.address());
    let xfcc = "URI=spiffe://cluster.local/ns/sample/sa/sleep";
    let (_, text) = get(true, &url, &[("x-forwarded-client-cert", xfcc), ("x-a", "1"), ("x-a", "2")]).await;
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["xfcc"], xfcc);
    assert_eq!(value["path"], "/any/path?format=json");
    assert_eq!(value["httpVersion"], "HTTP/2.0");
    assert_eq!(value["headers"]["x-a"], "1,2");
    let (_, text) =
        get(false, &format!("http://{}/", app.address()), &[("accept", "application/json")]).await;
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["cluster"], "east");
}

#[tokio::test]
async fn lines_come_back_with_version_and_cluster() {
    let app = EchoApp::start(settings(EchoProtocol::Tcp)).await.unwrap();
    let stream = TcpStream::connect(app.address()).await.unwrap();
    let mut stream = BufReader::new(stream);
    stream.get_mut().write_all(b"one\ntwo\n").await.unwrap();
    let mut answer = String::new();
    stream.read_line(&mut answer).await.unwrap();
    stream.read_line(&mut answer).await.unwrap();
    assert_eq!(answer, "v1 east one\nv1 east two\n");
    app.shutdown().await;
    answer.clear();
    assert_eq!(stream.read_line(&mut answer).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn a_taken_port_is_named_and_freed_by_shutdown() {
    let app = EchoApp::start(settings(EchoProtocol::Http)).await.unwrap();
    let mut again = settings(EchoProtocol::Http);
    again.listen = app.address();
    let error = EchoApp::start(again.clone()).await.unwrap_err().to_string();
    assert!(error.contains(&app.address().to_string()), "{error}");
    app.shutdown().await;
    EchoApp::start(again).await.unwrap().shutdown().await;
}
