//! A frozen server, as a stopped process looks to its clients.

use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _};
use hyper_util::rt::{TokioExecutor, TokioIo};
use kube::api::WatchParams;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

use super::*;

/// Nothing comes this long: what would come takes a millisecond.
const SILENCE: Duration = Duration::from_millis(300);

/// Asserts that `future` does not complete for a while.
async fn silent<T: std::fmt::Debug>(future: impl Future<Output = T>) {
    if let Ok(output) = tokio::time::timeout(SILENCE, future).await {
        panic!("a frozen server is silent, got {output:?}");
    }
}

#[tokio::test]
async fn a_request_to_a_frozen_server_is_answered_after_the_thaw() {
    let server = east().await;
    let services = in_sample(&client(&server).await, &kinds::SERVICES);
    let params = kube::api::ListParams::default();
    soon(services.list(&params)).await.unwrap();
    server.freeze();
    let mut known = Box::pin(services.list(&params));
    silent(&mut known).await;
    // On a connection of its own too.
    let other = in_sample(&client(&server).await, &kinds::SERVICES);
    let mut fresh = Box::pin(other.list(&params));
    silent(&mut fresh).await;
    assert_eq!(server.requests().len(), 1, "nothing was read");
    server.thaw();
    soon(known).await.unwrap();
    soon(fresh).await.unwrap();
}

#[tokio::test]
async fn a_watch_of_a_frozen_server_catches_up_after_the_thaw() {
    let server = east().await;
    let services = in_sample(&client(&server).await, &kinds::SERVICES);
    let mut events = services.watch(&WatchParams::default(), "0").await.unwrap().boxed();
    server.store().create(service("a")).unwrap();
    assert_eq!(told(&soon(events.try_next()).await.unwrap().unwrap()), "ADDED a");
    server.freeze();
    server.store().create(service("b")).unwrap();
    server.store().delete(&kinds::SERVICES, "sample", "a").unwrap();
    silent(events.try_next()).await;
    server.thaw();
    assert_eq!(told(&soon(events.try_next()).await.unwrap().unwrap()), "ADDED b");
    assert_eq!(told(&soon(events.try_next()).await.unwrap().unwrap()), "DELETED a");
}

#[tokio::test]
async fn the_kernel_accepts_for_a_frozen_server_and_nothing_is_closed() {
    let server = east().await;
    server.freeze();
    let mut stream = soon(TcpStream::connect(server.address())).await.unwrap();
    let mut byte = [0];
    silent(stream.read(&mut byte)).await;
    // Shutting down is an end like any other.
    soon(server.shutdown()).await;
    assert_eq!(soon(stream.read(&mut byte)).await.unwrap_or(0), 0);
}

/// A connection that speaks HTTP/2, as Go's clients do and kube's does not.
async fn http2(server: &RunningApiServer) -> hyper::client::conn::http2::SendRequest<String> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(server.ca_pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(server.address()).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    let io = TokioIo::new(stream);
    let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    sender
}

#[tokio::test]
async fn a_request_at_hand_stands_still_too() {
    let server = start(ApiServer::builder().future_wait(Duration::from_secs(60))).await;
    let mut sender = http2(&server).await;
    let future = server.store().resource_version() + 1;
    let request = http::Request::get(format!("https://localhost/api/v1/pods?resourceVersion={future}"));
    let request = request.header("authorization", format!("Bearer {}", server.token()));
    let mut answer = Box::pin(sender.send_request(request.body(String::new()).unwrap()));
    silent(&mut answer).await;
    server.freeze();
    // What the request waits for comes.
    server.store().create(service("a")).unwrap();
    silent(&mut answer).await;
    assert!(server.requests().is_empty(), "nothing was answered meanwhile");
    server.thaw();
    assert_eq!(soon(answer).await.unwrap().status(), 200);
}
