//! A frozen server, as a stopped process looks to its clients.

use futures::{StreamExt as _, TryStreamExt as _};
use kube::api::WatchParams;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

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
