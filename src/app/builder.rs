//! What a server is made of.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::admin::{AdminThread, Pages};
use super::serve::Status;
use super::{Addresses, AppError, Bound};
use crate::admin::Sources;
use crate::ingest::{self, IngestOptions};
use crate::lifecycle::Lifecycle;
use crate::model::{ClusterId, Features, Name, NetworkId};
use crate::registry::Registry;
use crate::telemetry::Metrics;
use crate::trust::{Authority, SecretSource, WorkloadCertificates};
use crate::view::MeshRules;
use crate::xds::{self, Certificates, Limits, Listener, Settings, TlsFiles, XdsServer};

/// An address with the flag it is named by in errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ListenAddress {
    flag: &'static str,
    address: SocketAddr,
}

/// Collects the parts of a server. Every part may be left out: without ingest the embedder feeds the registry
/// by [`Registry::writer`], without an address that listener does not exist.
#[derive(Debug)]
pub struct Builder {
    registry: Option<Arc<Registry>>,
    ingest: Option<IngestOptions>,
    ready: Option<watch::Receiver<bool>>,
    grpc: Option<ListenAddress>,
    secure_grpc: Option<(ListenAddress, TlsFiles)>,
    http: Option<ListenAddress>,
    monitoring: Option<ListenAddress>,
    ca_dir: Option<PathBuf>,
    insecure_plaintext_sds: bool,
    debounce_after: Duration,
    debounce_max: Duration,
    domain: Name,
    system_namespace: Name,
    trust_domain: Name,
    reachable: Vec<(NetworkId, NetworkId)>,
    features: Features,
    aliases: BTreeMap<ClusterId, ClusterId>,
    limits: Limits,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            registry: None,
            ingest: None,
            ready: None,
            grpc: None,
            secure_grpc: None,
            http: None,
            monitoring: None,
            ca_dir: None,
            insecure_plaintext_sds: false,
            debounce_after: Duration::ZERO,
            debounce_max: Duration::from_secs(10),
            domain: "cluster.local".into(),
            system_namespace: "istio-system".into(),
            trust_domain: "cluster.local".into(),
            reachable: Vec::new(),
            features: Features::default(),
            aliases: BTreeMap::new(),
            limits: Limits::default(),
        }
    }
}

impl Builder {
    /// The registry to serve from; a new one otherwise.
    pub fn registry(mut self, registry: Arc<Registry>) -> Self {
        self.registry = Some(registry);
        self
    }

    /// Reads clusters into the registry. Its domain, trust domain and system namespace hold for the server.
    pub fn ingest(mut self, options: IngestOptions) -> Self {
        self.domain = options.domain.clone();
        self.trust_domain = options.trust_domain.clone();
        self.system_namespace = options.system_namespace.clone();
        self.ingest = Some(options);
        self
    }

    /// Without ingest: streams are refused until this is true. Without it they are served at once.
    pub fn ready(mut self, ready: watch::Receiver<bool>) -> Self {
        self.ready = Some(ready);
        self
    }

    /// Serves xDS in plaintext here.
    pub fn grpc_addr(mut self, address: SocketAddr) -> Self {
        let flag = "--grpc-addr";
        self.grpc = Some(ListenAddress { flag, address });
        self
    }

    /// Serves xDS over TLS here, too. Changed files are taken over while it serves.
    pub fn secure_grpc_addr(mut self, address: SocketAddr, files: TlsFiles) -> Self {
        let flag = "--secure-grpc-addr";
        self.secure_grpc = Some((ListenAddress { flag, address }, files));
        self
    }

    /// Bounds of connections and streams; their defaults otherwise.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Serves readiness and debug pages here.
    pub fn http_addr(mut self, address: SocketAddr) -> Self {
        let flag = "--http-addr";
        self.http = Some(ListenAddress { flag, address });
        self
    }

    /// Serves metrics and debug pages here.
    pub fn monitoring_addr(mut self, address: SocketAddr) -> Self {
        let flag = "--monitoring-addr";
        self.monitoring = Some(ListenAddress { flag, address });
        self
    }

    /// Answers SDS with certificates of the CA in this directory (`cacerts` layout).
    pub fn ca_dir(mut self, path: impl Into<PathBuf>) -> Self {
        self.ca_dir = Some(path.into());
        self
    }

    /// Labs and tests: private keys may go over the plaintext listener (D29).
    pub fn insecure_plaintext_sds(mut self, allowed: bool) -> Self {
        self.insecure_plaintext_sds = allowed;
        self
    }

    /// How long changes are collected: `after` the last one, at most `max`. Zero means at once (D28).
    pub fn debounce(mut self, after: Duration, max: Duration) -> Self {
        (self.debounce_after, self.debounce_max) = (after, max);
        self
    }

    /// The DNS domain of services; `cluster.local` otherwise.
    pub fn domain(mut self, domain: impl Into<Name>) -> Self {
        self.domain = domain.into();
        self
    }

    /// The trust domain of workloads; `cluster.local` otherwise.
    pub fn trust_domain(mut self, domain: impl Into<Name>) -> Self {
        self.trust_domain = domain.into();
        self
    }

    /// Pairs of networks that reach each other without gateways (D2).
    pub fn reachable_networks(mut self, pairs: impl IntoIterator<Item = (NetworkId, NetworkId)>) -> Self {
        self.reachable = pairs.into_iter().collect();
        self
    }

    /// Switches of what proxies see; their defaults otherwise.
    pub fn features(mut self, features: Features) -> Self {
        self.features = features;
        self
    }

    /// Cluster ids that proxies report, and the clusters they mean (R1.8).
    pub fn cluster_aliases(mut self, aliases: BTreeMap<ClusterId, ClusterId>) -> Self {
        self.aliases = aliases;
        self
    }

    /// Opens every port, loads the CA and starts reading clusters. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`AppError`], naming the flag or file at fault; nothing is left running then.
    pub async fn bind(self) -> Result<Bound, AppError> {
        let secrets = self.secrets()?;
        let listeners = self.listeners()?;
        let of = |secure: bool| listeners.iter().find(|listener| listener.certificates.is_some() == secure);
        let xds_at = |secure: bool| of(secure).and_then(|listener| listener.tcp.local_addr().ok());
        let (http, monitoring) = (listen(self.http)?, listen(self.monitoring)?);
        let addresses = Addresses {
            grpc: xds_at(false),
            secure_grpc: xds_at(true),
            http: local(&http),
            monitoring: local(&monitoring),
        };
        let stop = CancellationToken::new();
        let stop_on_drop = stop.clone().drop_guard();
        let quirks = self.ingest.as_ref().map(|options| options.quirks).unwrap_or_default();
        let registry = self.registry.clone().unwrap_or_else(|| Registry::with_quirks(quirks));
        let ingest = match self.ingest.clone() {
            Some(options) => {
                let service_scopes = options.service_scopes || self.features.multi_network;
                let options = IngestOptions { service_scopes, ..options };
                Some(ingest::start(options, Arc::clone(&registry), stop.clone()).await?)
            }
            None => None,
        };
        let ready = match (&ingest, &self.ready) {
            (Some(ingest), _) => ingest.ready(),
            (None, Some(ready)) => ready.clone(),
            (None, None) => watch::Sender::new(true).subscribe(),
        };
        let mesh = MeshRules::new(&self.domain, &self.system_namespace, self.reachable.clone());
        let sticky = self.ingest.as_ref().map(|options| options.session_labels.clone()).unwrap_or_default();
        let config =
            self.ingest.as_ref().and_then(|options| options.config.as_ref()).map(|config| config.id.clone());
        let mesh = mesh.with_quirks(registry.quirks()).with_session_labels(sticky);
        let mesh = mesh.with_features(self.features.clone()).with_config_cluster(config);
        let settings = Settings {
            mesh: mesh.clone(),
            trust_domain: self.trust_domain.clone(),
            debounce_after: self.debounce_after,
            debounce_max: self.debounce_max,
            insecure_plaintext_sds: self.insecure_plaintext_sds,
            cluster_aliases: self.aliases.clone(),
            limits: self.limits,
        };
        let xds = XdsServer::new(Arc::clone(&registry), settings, secrets);
        let metrics = Arc::new(Metrics::new(xds.counts().times.collectors()));
        let sources = Sources {
            registry,
            mesh,
            domain: self.domain.clone(),
            ingest: ingest.as_ref().map(|ingest| Arc::clone(ingest.counts())),
            problems: ingest.as_ref().map(|ingest| Arc::clone(ingest.problem_list())),
            gateway_names: ingest.as_ref().map(|ingest| Arc::clone(ingest.gateway_names())),
            policies: ingest.as_ref().map(|ingest| Arc::clone(ingest.policies())),
            xds: Arc::new(Status(Arc::clone(&xds))),
            lifecycle: Lifecycle::new(ready.clone(), stop.clone()),
            metrics,
            started: Instant::now(),
        };
        let pages = Pages { http, monitoring };
        let admin = AdminThread::start(pages, Arc::new(sources), stop.clone()).map_err(AppError::Thread)?;
        Ok(Bound { addresses, xds, listeners, ingest, ready, stop, admin, _stop_on_drop: stop_on_drop })
    }

    /// Opens the listeners of xDS.
    fn listeners(&self) -> Result<Vec<Listener>, AppError> {
        let certificates = match &self.secure_grpc {
            Some((_, files)) => Some(Certificates::load(files.clone())?),
            None => None,
        };
        let plain = listen(self.grpc)?;
        let secure = listen(self.secure_grpc.as_ref().map(|(address, _)| *address))?;
        let plain = plain.map(|tcp| Listener { tcp, certificates: None });
        let secure = secure.map(|tcp| Listener { tcp, certificates });
        Ok(plain.into_iter().chain(secure).collect())
    }

    fn secrets(&self) -> Result<Option<Arc<dyn SecretSource>>, AppError> {
        let Some(path) = &self.ca_dir else {
            return Ok(None);
        };
        let authority = Authority::load(path, SystemTime::now())
            .map_err(|error| AppError::Ca { path: path.clone(), error })?;
        Ok(Some(Arc::new(WorkloadCertificates::new(authority))))
    }
}

fn listen(wanted: Option<ListenAddress>) -> Result<Option<TcpListener>, AppError> {
    let Some(ListenAddress { flag, address }) = wanted else {
        return Ok(None);
    };
    let bound = xds::listen(address);
    bound.map(Some).map_err(|error| AppError::listen(flag, address, error))
}

fn local(listener: &Option<TcpListener>) -> Option<SocketAddr> {
    listener.as_ref().and_then(|listener| listener.local_addr().ok())
}
