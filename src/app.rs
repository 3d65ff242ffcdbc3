//! Wiring: builds the parts and runs them; the embedding façade.
//!
//! ```no_run
//! # async fn example() -> Result<(), tombolo::app::AppError> {
//! let registry = tombolo::registry::Registry::new();
//! let server = tombolo::app::Server::builder()
//!     .registry(registry)
//!     .grpc_addr("127.0.0.1:15010".parse().expect("an address"));
//! let bound = server.bind().await?;
//! bound.run(std::future::pending()).await;
//! # Ok(())
//! # }
//! ```

mod admin;
mod builder;
mod error;
mod serve;
#[cfg(test)]
mod tenants;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

pub use builder::Builder;
pub use error::AppError;

use admin::AdminThread;

use crate::ingest::Ingest;
use crate::xds::{Listener, XdsServer};

/// A discovery server in this process.
#[derive(Debug)]
pub struct Server;

impl Server {
    /// A server with no part yet; see [`Builder`].
    pub fn builder() -> Builder {
        Builder::default()
    }
}

/// Where a server listens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// Plaintext xDS.
    pub grpc: Option<SocketAddr>,
    /// xDS over TLS.
    pub secure_grpc: Option<SocketAddr>,
    /// Readiness and debug.
    pub http: Option<SocketAddr>,
    /// Metrics and debug.
    pub monitoring: Option<SocketAddr>,
}

/// A server whose ports are open; clients may connect and wait. Dropping it stops everything.
#[derive(Debug)]
pub struct Bound {
    addresses: Addresses,
    xds: Arc<XdsServer>,
    listeners: Vec<Listener>,
    ingest: Option<Ingest>,
    ready: watch::Receiver<bool>,
    stop: CancellationToken,
    admin: AdminThread,
    /// Ends every task when this is dropped, whether it ran or not.
    _stop_on_drop: DropGuard,
}

impl Bound {
    /// Where it listens, with the ports that were chosen for port 0.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// The start gate: true once every known cluster is synced or timed out.
    pub fn ready(&self) -> watch::Receiver<bool> {
        self.ready.clone()
    }

    /// Serves until `shutdown` completes, then drains: `/ready` says so, streams are closed, watches end.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) {
        let (stop, listeners) = (self.stop.clone(), std::mem::take(&mut self.listeners));
        let serving = serve::until(Arc::clone(&self.xds), listeners, self.ready.clone(), stop);
        let mut serving = Box::pin(serving);
        // Serving ends by itself only when the embedder stops it otherwise.
        tokio::select! {
            () = &mut serving => {}
            () = shutdown => {
                tracing::info!("draining");
                self.stop.cancel();
                serving.await;
            }
        }
        self.stop.cancel();
        if let Some(ingest) = &self.ingest {
            ingest.stopped().await;
        }
        self.admin.stopped().await;
        tracing::info!("stopped");
    }
}
