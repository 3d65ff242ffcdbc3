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
mod collection;
mod columns;
mod compress;
mod defaults;
mod definition;
mod deletion;
mod discovery;
mod effect;
mod error;
mod freeze;
mod handler;
mod identity;
mod json_path;
pub mod kinds;
mod list;
mod media;
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
mod watch;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use self::accounts::Accounts;
pub use self::authority::{Authority, CertificateError};
pub use self::columns::{Cell, Column};
pub use self::error::ApiError;
use self::freeze::Motion;
use self::handler::{Context, Secret};
pub(super) use self::identity::token as fresh_token;
pub use self::json_path::JsonPath;
pub use self::requests::{RequestCounts, RequestRecord};
pub use self::scale::Scale;
pub use self::store::{DEFAULT_HISTORY, Store};
use self::watch::Signal;
use super::kubeconfig;

/// How often watches that want bookmarks get one.
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(10);

/// How long a list waits for a version that is still to come, as a real server does.
const FUTURE_WAIT: Duration = Duration::from_secs(3);

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
        /// Position in the world, from 1.
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
        ApiServerBuilder {
            cluster: "Kubernetes".into(),
            token: None,
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            names: Vec::new(),
            server_url: None,
            world: Vec::new(),
            history: DEFAULT_HISTORY,
            bookmark_every: BOOKMARK_INTERVAL,
            future_wait: FUTURE_WAIT,
            store: None,
            authority: None,
        }
    }
}

/// Objects to start with, made one at a time: a large world never exists twice.
type World = Box<dyn Iterator<Item = Value> + Send>;

/// Settings of an API server to start.
#[must_use = "a builder does nothing until start is awaited"]
pub struct ApiServerBuilder {
    cluster: String,
    token: Option<String>,
    listen: SocketAddr,
    names: Vec<String>,
    server_url: Option<String>,
    world: Vec<World>,
    history: usize,
    bookmark_every: Duration,
    future_wait: Duration,
    store: Option<Store>,
    authority: Option<Authority>,
}

impl std::fmt::Debug for ApiServerBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiServerBuilder")
            .field("cluster", &self.cluster)
            .field("listen", &self.listen)
            .finish_non_exhaustive()
    }
}

impl ApiServerBuilder {
    /// Names the cluster, its context and its user in the kubeconfig.
    pub fn cluster(mut self, name: impl Into<String>) -> Self {
        self.cluster = name.into();
        self
    }

    /// The bearer token clients must send; generated if not given.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Where to listen; port 0 takes a free one.
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen = address;
        self
    }

    /// A further DNS name or IP address in the certificate.
    pub fn tls_san(mut self, name: impl Into<String>) -> Self {
        self.names.push(name.into());
        self
    }

    /// The URL the kubeconfig names instead of the listening address.
    pub fn server_url(mut self, url: impl Into<String>) -> Self {
        self.server_url = Some(url.into());
        self
    }

    /// Objects applied in order before the server listens, after those of earlier calls.
    pub fn world<I>(mut self, objects: I) -> Self
    where
        I: IntoIterator<Item = Value>,
        I::IntoIter: Send + 'static,
    {
        self.world.push(Box::new(objects.into_iter()));
        self
    }

    /// How many events of each kind can be watched and paged from; older ones are answered with 410. A
    /// store given by [`Self::store`] brings its own.
    pub fn history(mut self, events: usize) -> Self {
        self.history = events;
        self
    }

    /// How often watches that want bookmarks get one.
    pub fn bookmark_interval(mut self, interval: Duration) -> Self {
        self.bookmark_every = interval;
        self
    }

    /// How long a list of a version that is still to come waits for it before it is refused.
    pub fn future_wait(mut self, wait: Duration) -> Self {
        self.future_wait = wait;
        self
    }

    /// Serves an existing store: the server comes back with what it had.
    pub fn store(mut self, store: Store) -> Self {
        self.store = Some(store);
        self
    }

    /// Issues the certificate from an existing authority: clients that trusted it still do.
    pub fn authority(mut self, authority: Authority) -> Self {
        self.authority = Some(authority);
        self
    }

    /// Applies the world, makes the certificate, listens.
    ///
    /// # Errors
    /// See [`ApiServerError`]. Nothing is left listening.
    pub async fn start(self) -> Result<RunningApiServer, ApiServerError> {
        let cluster = self.cluster;
        let store = self.store.unwrap_or_else(|| Store::new(self.history));
        apply_world(&cluster, &store, self.world)?;
        let token = match self.token {
            Some(token) => token,
            None => identity::token()
                .map_err(|source| ApiServerError::Token { cluster: cluster.clone(), source })?,
        };
        let certificate = |source| ApiServerError::Certificate { cluster: cluster.clone(), source };
        let authority = match self.authority {
            Some(authority) => authority,
            None => Authority::generate(&cluster).map_err(certificate)?,
        };
        let tls = authority.server_config(self.listen.ip(), &self.names).map_err(certificate)?;
        let listen =
            |source| ApiServerError::Listen { cluster: cluster.clone(), address: self.listen, source };
        let listener = TcpListener::bind(self.listen).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let signals = tokio::sync::watch::Sender::new(Signal::Open(0));
        let context = Arc::new(Context {
            store,
            token: Secret(token),
            token_key: authority.token_key().clone(),
            address: address.to_string(),
            signals: signals.subscribe(),
            bookmark_every: self.bookmark_every,
            future_wait: self.future_wait,
            requests: requests::RequestLog::default(),
        });
        let motion = tokio::sync::watch::Sender::new(Motion::Runs);
        let run = serve::run(listener, Arc::new(tls), Arc::clone(&context), motion.subscribe());
        let task = tokio::spawn(run);
        let url = self.server_url.unwrap_or_else(|| format!("https://{}", reachable(address)));
        Ok(RunningApiServer { cluster, url, address, authority, context, signals, motion, task: Some(task) })
    }
}

/// The address a client on this machine connects to.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => SocketAddr::from(([127, 0, 0, 1], address.port())),
        IpAddr::V6(ip) if ip.is_unspecified() => {
            SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, address.port()))
        }
        _ => address,
    }
}

fn apply_world(cluster: &str, store: &Store, world: Vec<World>) -> Result<(), ApiServerError> {
    for name in ["default", "kube-system"] {
        if store.get(&kinds::NAMESPACES, "", name).is_none() {
            let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
            store.apply(namespace).map_err(|source| ApiServerError::World {
                cluster: cluster.to_owned(),
                index: 0,
                object: format!("Namespace {name}"),
                source: Box::new(source),
            })?;
        }
    }
    for (at, object) in world.into_iter().flatten().enumerate() {
        let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
        let label = format!("{} {}", text(&object["kind"]), text(&object["metadata"]["name"]));
        store.load(object).map_err(|source| ApiServerError::World {
            cluster: cluster.to_owned(),
            index: at + 1,
            object: label,
            source: Box::new(source),
        })?;
    }
    Ok(())
}

/// A listening API server. Dropping it closes everything at once; [`Self::shutdown`] does so in order.
#[derive(Debug)]
pub struct RunningApiServer {
    cluster: String,
    url: String,
    address: SocketAddr,
    authority: Authority,
    context: Arc<Context>,
    signals: tokio::sync::watch::Sender<Signal>,
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
        &self.context.token.0
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
        self.signals.send_modify(|signal| {
            if let Signal::Open(count) = signal {
                *count += 1;
            }
        });
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
