//! The accept loop of the synthetic servers.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Pause after the system refused a connection, e.g. for want of file descriptors.
const RETRY: Duration = Duration::from_millis(50);

/// Serves every client of `listener` by `connection` until `closing` completes; what is open then has `grace` to
/// finish. Owns every connection: dropping this future closes them.
pub(super) async fn serve<C>(
    listener: TcpListener,
    closing: impl Future<Output = ()>,
    grace: Duration,
    connection: impl Fn(TcpStream) -> C,
) where
    C: Future<Output = ()> + Send + 'static,
{
    let mut closing = pin!(closing);
    let mut connections = JoinSet::new();
    loop {
        // Biased: a shutdown is not delayed by further clients.
        tokio::select! {
            biased;
            () = &mut closing => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream));
                }
                Err(error) => {
                    tracing::warn!(%error, "accepting a connection failed");
                    tokio::time::sleep(RETRY).await;
                }
            },
        }
    }
    drop(listener);
    let finish = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(grace, finish).await.is_err() {
        connections.shutdown().await;
    }
}
