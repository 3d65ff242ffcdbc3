//! The echo application of the lab: it says which version, instance and cluster answered.
//!
//! HTTP/1.1 and HTTP/2 with prior knowledge on one port, or a line echo over TCP. It knows of no proxy.

mod http_echo;
mod line_echo;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::accept;

/// How long open connections may finish once the shutdown began.
const GRACE: Duration = Duration::from_secs(5);

/// What the application says about itself, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EchoSettings {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Version, e.g. `v1`.
    pub version: String,
    /// Cluster the instance runs in.
    pub cluster: String,
    /// Name of the application, e.g. `helloworld`.
    pub name: String,
    /// Name of this instance, e.g. its pod.
    pub instance: String,
    /// What is spoken on the port.
    pub protocol: EchoProtocol,
}

/// What the application speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum EchoProtocol {
    /// HTTP/1.1 and HTTP/2 with prior knowledge.
    Http,
    /// Each line comes back with version and cluster before it.
    Tcp,
}

/// The application cannot listen. *Fatal* for the start.
#[derive(Debug, Error)]
#[error("the application {name} cannot listen on {address}")]
pub struct EchoError {
    name: String,
    address: SocketAddr,
    source: std::io::Error,
}

/// The way to a running application: [`EchoApp::start`].
#[derive(Debug)]
pub struct EchoApp;

impl EchoApp {
    /// Listens and serves until shut down or dropped.
    ///
    /// # Errors
    /// The address is in use or not ours.
    pub async fn start(settings: EchoSettings) -> Result<RunningEcho, EchoError> {
        let failed = |source| EchoError { name: settings.name.clone(), address: settings.listen, source };
        let listener = TcpListener::bind(settings.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let stop = CancellationToken::new();
        let task = tokio::spawn(run(listener, Arc::new(settings), stop.clone()));
        Ok(RunningEcho { address, stop, task: Some(task) })
    }
}

/// A listening application. Dropping it closes its connections at once.
#[derive(Debug)]
pub struct RunningEcho {
    address: SocketAddr,
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
}

impl RunningEcho {
    /// The address the application listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Frees the port, lets running requests finish for up to five seconds, closes.
    pub async fn shutdown(mut self) {
        self.stop.cancel();
        if let Some(task) = self.task.take() {
            // It ends by itself within its grace period; a panic has been reported by tokio.
            let _ = task.await;
        }
    }
}

impl Drop for RunningEcho {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

async fn run(listener: TcpListener, settings: Arc<EchoSettings>, stop: CancellationToken) {
    accept::serve(listener, stop.cancelled(), GRACE, |stream| {
        serve(stream, Arc::clone(&settings), stop.clone())
    })
    .await;
}

async fn serve(stream: TcpStream, settings: Arc<EchoSettings>, stop: CancellationToken) {
    // Answers are small: do not wait for more.
    let _ = stream.set_nodelay(true);
    match settings.protocol {
        EchoProtocol::Http => http_echo::serve(stream, settings, stop).await,
        EchoProtocol::Tcp => line_echo::serve(stream, &settings, stop).await,
    }
}

/// The name of this host: what an instance is called unless it is told.
pub fn host_name() -> String {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match kernel.trim() {
        "" => std::env::var("HOSTNAME").unwrap_or_else(|_| "unknown".to_owned()),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests;
