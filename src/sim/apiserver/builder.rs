//! How a server starts: its settings, its world, its socket.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::authority::{Authority, CertificateError};
use super::fault::{Board, Fault};
use super::freeze::Motion;
use super::handler::Context;
use super::requests::RequestLog;
use super::store::{DEFAULT_HISTORY, Store};
use super::watch::Signal;
use super::{ApiServerError, RunningApiServer, identity, kinds, serve};
use crate::trust::Secret;

/// How often watches that want bookmarks get one.
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(10);

/// How long a list waits for a version that is still to come, as a real server does.
const FUTURE_WAIT: Duration = Duration::from_secs(3);

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
    protobuf: bool,
    future_wait: Duration,
    store: Option<Store>,
    authority: Option<Authority>,
    faults: Vec<Fault>,
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
    pub(super) fn new() -> Self {
        Self {
            cluster: "Kubernetes".into(),
            token: None,
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            names: Vec::new(),
            server_url: None,
            world: Vec::new(),
            history: DEFAULT_HISTORY,
            bookmark_every: BOOKMARK_INTERVAL,
            protobuf: true,
            future_wait: FUTURE_WAIT,
            store: None,
            authority: None,
            faults: Vec::new(),
        }
    }

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

    /// Answers in JSON only, as servers of other makes do. JSON can say what a message cannot: fields of a
    /// wrong type.
    pub fn json_only(mut self) -> Self {
        self.protobuf = false;
        self
    }

    /// How long a list of a version that is still to come waits for it before it is refused.
    pub fn future_wait(mut self, wait: Duration) -> Self {
        self.future_wait = wait;
        self
    }

    /// Faults from the start.
    pub fn faults(mut self, faults: impl IntoIterator<Item = Fault>) -> Self {
        self.faults.extend(faults);
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
        let renewal = Renewal { authority: authority.clone(), ip: self.listen.ip(), names: self.names };
        let tls = renewal.config().map_err(certificate)?;
        let listen =
            |source| ApiServerError::Listen { cluster: cluster.clone(), address: self.listen, source };
        let listener = TcpListener::bind(self.listen).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let signals = Arc::new(tokio::sync::watch::Sender::new(Signal::Open(0)));
        let faults = Board::default();
        faults.add(self.faults);
        let context = Arc::new(Context {
            store,
            token: Secret::new(token),
            token_key: authority.token_key().clone(),
            address: address.to_string(),
            signals: signals.subscribe(),
            bookmark_every: self.bookmark_every,
            protobuf: self.protobuf,
            future_wait: self.future_wait,
            requests: RequestLog::default(),
            faults,
            tls: ArcSwap::from_pointee(tls),
        });
        let motion = tokio::sync::watch::Sender::new(Motion::Runs);
        let run = serve::run(listener, Arc::clone(&context), motion.subscribe());
        let once = serve::faults(Arc::clone(&context), Arc::clone(&signals), renewal);
        let task = tokio::spawn(async move {
            tokio::select! {
                // Biased: faults never end by themselves.
                biased;
                () = run => {}
                () = once => {}
            }
        });
        let url = self.server_url.unwrap_or_else(|| format!("https://{}", reachable(address)));
        Ok(RunningApiServer { cluster, url, address, authority, context, signals, motion, task: Some(task) })
    }
}

/// What a new serving certificate is made from.
pub(super) struct Renewal {
    authority: Authority,
    ip: IpAddr,
    names: Vec<String>,
}

impl Renewal {
    /// TLS settings with a fresh certificate.
    pub(super) fn config(&self) -> Result<rustls::ServerConfig, CertificateError> {
        self.authority.server_config(self.ip, &self.names)
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
    for (at, object) in world.into_iter().flat_map(Iterator::enumerate) {
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
