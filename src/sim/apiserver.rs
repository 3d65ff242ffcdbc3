//! A synthetic Kubernetes API server: real HTTPS, bearer tokens, the REST API of the kinds we read.
//!
//! ```no_run
//! # async fn example() -> Result<(), tombolo::sim::apiserver::ApiServerError> {
//! use tombolo::sim::apiserver::{ApiServer, kinds};
//!
//! let server = ApiServer::builder().cluster("east").start().await?;
//! let store = server.store();
//! store.create(serde_json::json!({
//!     "apiVersion": "v1", "kind": "Service",
//!     "metadata": {"namespace": "sample", "name": "helloworld"},
//!     "spec": {"ports": [{"port": 5000}]},
//! })).expect("a valid object");
//! assert_eq!(store.list(&kinds::SERVICES, None).len(), 1);
//! std::fs::write("east.kubeconfig", server.kubeconfig()).expect("a writable directory");
//! server.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! Answers come as JSON, as tables, as metadata alone, or for the built-in kinds in Kubernetes protobuf, as the
//! client accepts; large ones compressed for who takes gzip.
//!
//! A server starts in milliseconds and any number of them run side by side. What it holds is a [`Store`],
//! usable in process with the same checks, versions and watch events as over HTTP. Stopping a server and
//! starting another with its store, [`Authority`], token and address is an outage as clients see it.
//!
//! Who sends the server's token, or one of a ServiceAccount (`kubectl create token`), may do everything: there
//! is no authorisation.

mod access;
mod accounts;
mod age;
mod aggregated;
mod authority;
mod body;
mod builder;
mod collection;
mod columns;
mod compress;
mod defaults;
mod definition;
mod deletion;
mod discovery;
mod effect;
mod error;
mod fault;
mod freeze;
mod handler;
mod identity;
mod json_path;
pub mod kinds;
mod list;
mod media;
mod metadata;
mod object;
mod openapi;
mod patch;
mod payload;
mod protobuf;
mod requests;
mod reviews;
mod route;
mod rules;
mod scale;
mod selector;
mod serve;
mod store;
mod table;
mod tokens;
mod validation;
mod verbs;
mod watch;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::task::JoinHandle;

use self::accounts::Accounts;
pub use self::authority::{Authority, CertificateError};
pub use self::builder::ApiServerBuilder;
pub use self::columns::{Cell, Column};
pub use self::error::ApiError;
pub use self::fault::{Fault, FaultError};
use self::freeze::Motion;
use self::handler::Context;
pub(super) use self::identity::token as fresh_token;
pub use self::json_path::JsonPath;
pub use self::requests::{RequestCounts, RequestRecord};
pub use self::scale::Scale;
pub use self::store::{DEFAULT_HISTORY, Store};
use self::watch::Signal;
use super::kubeconfig;

/// Why an API server did not start. Every variant is *Fatal* for the start; the reason is its source.
#[derive(Debug, Error)]
pub enum ApiServerError {
    /// The address is in use or not ours.
    #[error("cannot listen on {address} for the API server of cluster {cluster}")]
    Listen {
        /// Cluster name.
        cluster: String,
        /// The address asked for.
        address: SocketAddr,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The serving certificate could not be made.
    #[error("cluster {cluster}: no certificate")]
    Certificate {
        /// Cluster name.
        cluster: String,
        /// The reason.
        source: CertificateError,
    },
    /// An object of the initial world was refused.
    #[error("cluster {cluster}: object {index} of the world ({object}) was refused")]
    World {
        /// Cluster name.
        cluster: String,
        /// Position among the objects of one [`ApiServerBuilder::world`], from 1; 0 for those every server has.
        index: usize,
        /// Kind and name as far as known.
        object: String,
        /// The refusal.
        source: Box<ApiError>,
    },
    /// No token could be generated.
    #[error("cluster {cluster}: cannot generate a token")]
    Token {
        /// Cluster name.
        cluster: String,
        /// The reason.
        source: ApiError,
    },
}

/// The way to an API server: [`ApiServer::builder`].
#[derive(Debug)]
pub struct ApiServer;

impl ApiServer {
    /// A builder with the defaults: cluster `Kubernetes`, `127.0.0.1:0`, a generated token, an empty world.
    pub fn builder() -> ApiServerBuilder {
        ApiServerBuilder::new()
    }
}

/// A listening API server. Dropping it closes everything at once; [`Self::shutdown`] does so in order.
#[derive(Debug)]
pub struct RunningApiServer {
    cluster: String,
    url: String,
    address: SocketAddr,
    authority: Authority,
    context: Arc<Context>,
    signals: Arc<tokio::sync::watch::Sender<Signal>>,
    motion: tokio::sync::watch::Sender<Motion>,
    task: Option<JoinHandle<()>>,
}

impl RunningApiServer {
    /// The cluster's name.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// The URL in the kubeconfig.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The address the server listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The certificate clients must trust, as PEM.
    pub fn ca_pem(&self) -> &str {
        self.authority.pem()
    }

    /// The bearer token clients must send. Keep it out of logs.
    pub fn token(&self) -> &str {
        self.context.token.reveal()
    }

    /// The authority behind the certificate, for a later server at the same place.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// A kubeconfig with everything inline: cluster, context and user are named after the cluster.
    pub fn kubeconfig(&self) -> String {
        kubeconfig::inline(&self.cluster, &self.url, self.ca_pem(), self.token())
    }

    /// A bearer token of a service account, valid at this server for `lifetime` from now, which may be shorter
    /// than a TokenRequest allows: of no length it has expired at once. Keep it out of logs.
    ///
    /// # Errors
    /// No such service account.
    pub fn service_account_token(
        &self,
        namespace: &str,
        name: &str,
        lifetime: Duration,
    ) -> Result<String, ApiError> {
        let accounts = Accounts { store: &self.context.store, key: &self.context.token_key };
        accounts.token(namespace, name, lifetime, access::now())
    }

    /// The objects, for direct use in process.
    pub fn store(&self) -> Store {
        self.context.store.clone()
    }

    /// Fault: forgets the history. Continued lists and watches from before now are answered with 410.
    pub fn compact(&self) {
        self.context.store.compact();
    }

    /// Fault: breaks every running watch in the middle of its response. Clients may reconnect at once.
    pub fn disconnect_watches(&self) {
        watch::disconnect(&self.signals);
    }

    /// Fault: stands still as a stopped process does. The kernel accepts connections and takes what clients send,
    /// but nothing is read, written or closed, and watches are silent. The store stays writable in process.
    pub fn freeze(&self) {
        self.motion.send_replace(Motion::Frozen);
    }

    /// Goes on where [`Self::freeze`] stopped: requests sent meanwhile are answered, watches catch up.
    pub fn thaw(&self) {
        self.motion.send_replace(Motion::Runs);
    }

    /// Adds faults to those in force; their times count from now. Anything that is done once is done soon after.
    pub fn add_faults(&self, faults: impl IntoIterator<Item = Fault>) {
        self.context.faults.add(faults);
    }

    /// Takes every fault away. Requests that stall stay unanswered: their clients have to give up.
    pub fn clear_faults(&self) {
        self.context.faults.clear();
    }

    /// The faults in force or still to come, as they were written.
    pub fn faults(&self) -> Vec<String> {
        self.context.faults.texts()
    }

    /// The last requests answered, oldest first; at most 1000.
    pub fn requests(&self) -> Vec<RequestRecord> {
        self.context.requests.records()
    }

    /// How many requests were answered, by verb and resource. A watch counts when it opens.
    pub fn request_counts(&self) -> RequestCounts {
        self.context.requests.counts()
    }

    /// Frees the port, ends watches in order, lets running requests finish for a moment, then closes. A frozen
    /// server is thawed for that.
    pub async fn shutdown(mut self) {
        self.thaw();
        self.signals.send_replace(Signal::Closing);
        if let Some(task) = self.task.take() {
            // The task ends by itself within its grace period; a panic in it has been reported by tokio.
            let _ = task.await;
        }
    }
}

impl Drop for RunningApiServer {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}
