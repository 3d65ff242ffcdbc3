//! API servers in, model out.
//!
//! ```text
//! cluster_set ── Secrets or files say which clusters there are (roster settles who speaks for one)
//!      │ one task per cluster and generation
//! cluster ────── client + five watches → staging (private, pure conversion) → ClusterWriter
//! ```
//!
//! Kubernetes types stop here. Nothing that goes wrong with one object, one Secret, one file or one cluster
//! touches another (contract 9); an outage never takes anything away (contract 11).

mod absences;
mod adopted;
pub mod client;
mod cluster;
mod cluster_set;
pub mod convert;
pub mod counts;
mod directory;
mod entries;
mod exports;
pub mod kubeconfig;
pub mod networks;
mod notices;
pub mod objects;
pub mod options;
mod policies;
mod problems;
mod roster;
mod secrets;
pub mod snapshot;
pub mod staging;
pub mod watch;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch as signal;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use adopted::{Adopted, Known};
use client::{AddressPolicy, ApiServer, ClientError, Exchange, ServerList};
use cluster::KubeFeeds;
use cluster_set::{ClusterSet, Start};
use directory::DirectoryWatch;
use networks::{Dns, MeshFile, MeshPublisher, Publisher, Resolver};
use options::Texts;
use policies::{MeshConfigFeed, MeshConfigPublisher, PolicyFollower, follow_policies};
use roster::{Contest, Roster};
use secrets::SecretWatch;
use snapshot::{Keeper, Pin, SnapshotError, SnapshotStore};

pub use convert::{EntryOptions, McsOptions};
pub use counts::{Counts, EventKind};
pub use entries::SelectingEntries;
pub use kubeconfig::{ConfigSource, KubeconfigPolicy, OwnError};
pub use networks::{GatewayNames, NameStatus, NetworkOptions};
use objects::ObjectKey;
pub use objects::ObjectKind;
pub use options::ClusterOptions;
pub use policies::{KindStatus, Policies, PolicyState, PolicyStatus};
pub use problems::{Problem, Problems};
pub use roster::Rehearsal;
pub use snapshot::SnapshotOptions;
use watch::ListPermits;
pub use watch::{Deadlines, RetryPolicy, Sizes};
use watch::{KubeSource, ObjectSource};

use crate::model::{ClusterId, ClusterRole, ClusterStatus, Name, Quirks, SessionLabels};
use crate::registry::{DuplicateWriter, Registry};

/// How long the start waits for the first answers to host names of gateways.
const FIRST_ANSWERS: Duration = Duration::from_secs(10);

/// The control plane's own cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigCluster {
    /// Its id (R1.8).
    pub id: ClusterId,
    /// Where its credentials come from.
    pub source: ConfigSource,
}

/// Where remote clusters come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Remotes {
    /// There are none.
    #[default]
    None,
    /// Secrets labelled `istio/multiCluster=true` in the config cluster's system namespace (R1.1). None
    /// without a config cluster.
    Secrets,
    /// Kubeconfig files in a directory, instead of Secrets (R1.10).
    Directory(PathBuf),
}

/// What ingest works by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngestOptions {
    /// The control plane's own cluster, if it has one.
    pub config: Option<ConfigCluster>,
    /// Where remote clusters come from.
    pub remotes: Remotes,
    /// The namespace whose label names a cluster's network, and which holds the Secrets.
    pub system_namespace: Name,
    /// The DNS domain of services.
    pub domain: Name,
    /// The trust domain of workloads, in every cluster (D34).
    pub trust_domain: Name,
    /// How long the start gate waits for a remote cluster; zero waits for ever (R1.17).
    pub remote_cluster_timeout: Duration,
    /// How long a removed cluster still serves (K-33).
    pub removal_grace: Duration,
    /// Labs and tests: permits API servers, endpoints and gateways on loopback and link-local addresses (D34).
    pub allow_loopback_clusters: bool,
    /// What remote kubeconfigs may do on this machine (R1.14).
    pub kubeconfig_policy: KubeconfigPolicy,
    /// The only API servers that remote kubeconfigs may name (Z-04); `None`: any outside this machine and link.
    pub remote_api_servers: Option<Arc<ServerList>>,
    /// Pauses between attempts.
    pub retry: RetryPolicy,
    /// How long API servers may take.
    pub deadlines: Deadlines,
    /// How large their answers may be.
    pub sizes: Sizes,
    /// Lists that are read at once, of all clusters (K-42).
    pub parallel_lists: usize,
    /// What the file of settings says of single clusters (D35).
    pub clusters: BTreeMap<ClusterId, Texts>,
    /// Whether a list that takes most of a cluster away is confirmed before it counts (K-21).
    pub mass_delete_guard: bool,
    /// Who reads the Secrets, if not the config cluster (R1.9).
    pub secrets_by: Option<ConfigSource>,
    /// Keeps what clusters amounted to on disk, for a restart while one cannot be reached.
    pub snapshots: Option<SnapshotOptions>,
    /// Where to answer as the peer does (D1).
    pub quirks: Quirks,
    /// One endpoint with every address of its pod, `ISTIO_DUAL_STACK` (R5.15).
    pub dual_stack: bool,
    /// Multi-cluster services (R4.38–R4.40).
    pub mcs: McsOptions,
    /// Who selects whom of WorkloadEntries and Pods (R1.16, R5.24, R5.37).
    pub entries: EntryOptions,
    /// Which Services have sticky sessions (R5.13).
    pub session_labels: SessionLabels,
    /// Whether endpoints are served from slices alone where Pods may not be read (D9).
    pub serve_without_pods: bool,
    /// How networks and their gateways are read.
    pub networks: NetworkOptions,
    /// The file of MeshConfig; without it the mesh ConfigMap of the config cluster's system namespace is read.
    pub mesh_config: Option<PathBuf>,
}

impl Default for IngestOptions {
    fn default() -> Self {
        Self {
            config: None,
            remotes: Remotes::None,
            system_namespace: "istio-system".into(),
            domain: "cluster.local".into(),
            trust_domain: "cluster.local".into(),
            remote_cluster_timeout: Duration::from_secs(30),
            removal_grace: Duration::from_secs(5),
            allow_loopback_clusters: false,
            kubeconfig_policy: KubeconfigPolicy::default(),
            remote_api_servers: None,
            retry: RetryPolicy::default(),
            deadlines: Deadlines::default(),
            sizes: Sizes::default(),
            parallel_lists: ListPermits::SOUND,
            clusters: BTreeMap::new(),
            mass_delete_guard: true,
            secrets_by: None,
            snapshots: None,
            quirks: Quirks::OURS,
            dual_stack: false,
            mcs: McsOptions::default(),
            entries: EntryOptions::default(),
            session_labels: SessionLabels::default(),
            serve_without_pods: false,
            networks: NetworkOptions::default(),
            mesh_config: None,
        }
    }
}

/// *Fatal* at start: nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The config cluster's kubeconfig.
    #[error(transparent)]
    Config(#[from] OwnError),
    /// The config cluster's credentials.
    #[error("{origin}: {error}")]
    Credentials {
        /// Where they come from.
        origin: String,
        /// What is wrong.
        error: ClientError,
    },
    /// The config cluster's id.
    #[error("--cluster-id: {0}")]
    ClusterId(kubeconfig::Refusal),
    /// Somebody else writes for the config cluster.
    #[error(transparent)]
    Taken(#[from] DuplicateWriter),
    /// The directory of snapshots.
    #[error(transparent)]
    Snapshots(#[from] SnapshotError),
    /// The directory of kubeconfigs.
    #[error("cannot read directory {path}: {error}; check --kubeconfig-dir")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The file of the document `meshNetworks`.
    #[error("{path}: {problem}; check --networks-config")]
    MeshNetworks {
        /// The file.
        path: PathBuf,
        /// Everything that is wrong.
        problem: String,
    },
    /// The file of MeshConfig.
    #[error("{path}: {problem}; check --mesh-config")]
    MeshConfig {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

/// Running ingest. Dropping it changes nothing; it stops when the token given at start is cancelled.
#[derive(Debug)]
pub struct Ingest {
    counts: Arc<Counts>,
    problems: Arc<Problems>,
    ready: signal::Receiver<bool>,
    known_set: signal::Receiver<bool>,
    gateway_names: Arc<GatewayNames>,
    policies: Arc<Policies>,
    tasks: TaskTracker,
}

impl Ingest {
    /// Work done so far.
    pub fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }

    /// What operators have to look at besides the table of clusters, by subject.
    pub fn problems(&self) -> Vec<Problem> {
        self.problems.all()
    }

    /// The same list for whoever outlives this handle.
    pub fn problem_list(&self) -> &Arc<Problems> {
        &self.problems
    }

    /// The start gate (R1.18): true once the set of clusters is known and each has synced or timed out. It
    /// never turns false again: a cluster that is added later does not stop a server that serves.
    pub fn ready(&self) -> signal::Receiver<bool> {
        self.ready.clone()
    }

    /// Waits for the start gate. Returns false when ingest was stopped before.
    pub async fn wait_ready(&self) -> bool {
        let mut ready = self.ready();
        ready.wait_for(|ready| *ready).await.is_ok()
    }

    /// Whether the Secrets or files that were there at the start have been looked at (R1.18).
    pub fn known_set_complete(&self) -> bool {
        *self.known_set.borrow()
    }

    /// The host names of gateways and what they resolve to.
    pub fn gateway_names(&self) -> &Arc<GatewayNames> {
        &self.gateway_names
    }

    /// The policies of the config cluster and what is wrong with them.
    pub fn policies(&self) -> &Arc<Policies> {
        &self.policies
    }

    /// Waits until every task has ended after the token was cancelled.
    pub async fn stopped(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Starts reading clusters into `registry`, until `cancel`. What was read stays in the registry.
///
/// # Errors
/// The config cluster's configuration or the directory cannot be used; nothing was started then. Problems of
/// remote clusters are no errors: see [`Ingest::problems`].
pub async fn start(
    options: IngestOptions,
    registry: Arc<Registry>,
    cancel: CancellationToken,
) -> Result<Ingest, IngestError> {
    let options = Arc::new(options);
    let counts = Arc::<Counts>::default();
    let problems = Arc::<Problems>::default();
    let config = match &options.config {
        Some(config) => Some((config, config_server(config).await?)),
        None => None,
    };
    let secrets = match (&options.remotes, &options.secrets_by) {
        (Remotes::Secrets, Some(source)) => Some(own_server(source).await?.0),
        _ => config.as_ref().map(|(_, (server, _))| Arc::clone(server)),
    };
    let directory = match &options.remotes {
        Remotes::Directory(path) => {
            let opened = DirectoryWatch::open(path, options.kubeconfig_rules(), options.guard(), &problems);
            let path = path.clone();
            Some(opened.map_err(|error| IngestError::Directory { path, error })?)
        }
        _ => None,
    };
    let publisher = MeshPublisher::new(
        Arc::clone(&registry),
        Arc::clone(&problems),
        options.networks.host_names(),
        options.special_addresses(),
    );
    let mesh = publisher.feed();
    let mesh_file = open_mesh(&options, &publisher)?;
    let mesh_config =
        MeshConfigPublisher::new(Arc::clone(&registry), Arc::clone(&problems), &options.system_namespace);
    let mesh_config_feed = mesh_config.feed();
    let mesh_config_file = open_mesh_config(&options, &mesh_config)?;
    let mut set = ClusterSet::new(
        Arc::clone(&options),
        mesh.clone(),
        Arc::clone(&registry),
        Arc::clone(&counts),
        Arc::clone(&problems),
        cancel.clone(),
    );
    if let Some(mesh) = &*mesh_config_feed.borrow() {
        set.discover(&mesh.discovery_selectors);
    }
    set.snapshots = match &options.snapshots {
        Some(snapshots) => {
            let store = SnapshotStore::open(snapshots)?;
            Some(Arc::new(Keeper::new(store, Arc::clone(&registry), Arc::clone(&problems))))
        }
        None => None,
    };
    let mesh_server = config.as_ref().map(|(_, (server, _))| Arc::clone(server));
    if let Some((config, (server, pin))) = config {
        // Before anybody looks for its snapshot.
        set.snapshots.iter().for_each(|keeper| keeper.memory().await_documents(&config.id));
        start_config(&mut set, config, server, pin)?;
    }
    if let Some(keeper) = &set.snapshots {
        let keeping = Arc::clone(keeper).run(cancel.clone());
        set.tasks.spawn(keeping.instrument(tracing::info_span!("snapshots")));
    }
    let source = match (&options.remotes, secrets, directory) {
        (Remotes::Directory(_), _, Some(directory)) => RemoteSource::Directory(directory),
        (Remotes::Secrets, Some(server), _) => RemoteSource::Secrets(Box::new(SecretWatch::new(
            server,
            &options.system_namespace,
            Arc::clone(&set.limits),
            options.kubeconfig_rules(),
            options.guard(),
        ))),
        _ => RemoteSource::None,
    };
    let tasks = set.tasks.clone();
    let memory = set.snapshots.as_ref().map(|keeper| Arc::clone(keeper.memory())).unwrap_or_default();
    let publisher = publisher.remembering(Arc::clone(&memory));
    let mesh_config = mesh_config.remembering(Arc::clone(&memory));
    let (policies_ready, policies_known) = signal::channel(mesh_server.is_none());
    let policies = Arc::new(Policies::new(options.guard()));
    if let Some(server) = &mesh_server {
        let follower = PolicyFollower {
            registry: Arc::clone(&registry),
            policies: Arc::clone(&policies),
            problems: Arc::clone(&problems),
            mesh: mesh_config_feed.clone(),
            domain: options.domain.clone(),
            memory: set.snapshots.as_ref().map(|keeper| Arc::clone(keeper.memory())),
            ready: policies_ready,
        };
        let source = KubeSource::new(Arc::clone(server) as Arc<dyn Exchange>, Arc::clone(&set.limits));
        let (token, following) = (cancel.clone(), follow_policies(follower, source));
        tasks.spawn(
            async move { token.run_until_cancelled(following).await }
                .instrument(tracing::info_span!("policies")),
        );
    }
    let following = follow_document(
        mesh_config_file,
        mesh_server.clone(),
        Arc::clone(&set.limits),
        mesh_config,
        Arc::clone(&options),
    );
    let token = cancel.clone();
    tasks.spawn(
        async move { token.run_until_cancelled(following).await }
            .instrument(tracing::info_span!("mesh_config")),
    );
    let mesh_source =
        follow_document(mesh_file, mesh_server, Arc::clone(&set.limits), publisher, Arc::clone(&options));
    let gateway_names = Arc::<GatewayNames>::default();
    if options.networks.resolve_hosts {
        let resolver = Resolver::new(
            Dns::new(options.networks.dns_servers.clone()),
            Arc::clone(&registry),
            Arc::clone(&gateway_names),
            options.special_addresses(),
            options.quirks,
        );
        let resolver = resolver.remembering(memory);
        let token = cancel.clone();
        tasks.spawn(
            async move { token.run_until_cancelled(resolver.run()).await }
                .instrument(tracing::info_span!("dns")),
        );
    }
    let token = cancel.clone();
    tasks.spawn(
        async move { token.run_until_cancelled(mesh_source).await }
            .instrument(tracing::info_span!("networks")),
    );
    let (known_sender, known_set) = signal::channel(false);
    let (ready_sender, ready) = signal::channel(false);
    let reserved = options.config.iter().map(|config| config.id.clone());
    let roster = Roster::new(source.contest(), reserved).with_quirks(options.quirks);
    let remotes = follow_remotes(set, source, roster, known_sender, mesh_config_feed.clone());
    let token = cancel.clone();
    tasks.spawn(
        async move { token.run_until_cancelled(remotes).await }.instrument(tracing::info_span!("remotes")),
    );
    let names = options.networks.resolve_hosts.then(|| Arc::clone(&gateway_names));
    let awaited =
        Awaited { known_set: known_set.clone(), names, policies: policies_known, mesh: mesh_config_feed };
    let gate = hold_gate(registry, awaited, ready_sender);
    tasks
        .spawn(async move { cancel.run_until_cancelled(gate).await }.instrument(tracing::info_span!("gate")));
    Ok(Ingest { counts, problems, ready, known_set, gateway_names, policies, tasks })
}

/// The file of the document, read for the first time: one that cannot be used stops the start.
fn open_mesh(options: &IngestOptions, publisher: &MeshPublisher) -> Result<Option<MeshFile>, IngestError> {
    let Some(path) = &options.networks.config else {
        return Ok(None);
    };
    let wrong = |problem: String| IngestError::MeshNetworks { path: path.clone(), problem };
    let file = MeshFile::open(path).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    publisher.take(file.text(), "--networks-config").map_err(wrong)?;
    Ok(Some(file))
}

/// The file of MeshConfig, likewise.
fn open_mesh_config(
    options: &IngestOptions,
    publisher: &MeshConfigPublisher,
) -> Result<Option<MeshFile>, IngestError> {
    let Some(path) = &options.mesh_config else {
        return Ok(None);
    };
    let wrong = |problem: String| IngestError::MeshConfig { path: path.clone(), problem };
    let file = MeshFile::open(path).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    publisher.begin(file.text(), path).map_err(wrong)?;
    Ok(Some(file))
}

/// Follows a document: the file if there is one, else the ConfigMap of the config cluster, else nothing.
async fn follow_document(
    file: Option<MeshFile>,
    server: Option<Arc<ApiServer>>,
    limits: Arc<watch::SourceLimits>,
    publisher: impl Publisher,
    options: Arc<IngestOptions>,
) {
    match (file, server) {
        (Some(file), _) => file.follow(publisher).await,
        (None, Some(server)) => {
            let name = &options.networks.config_map;
            let source = KubeSource::new(server, limits)
                .in_namespace(&options.system_namespace)
                .with_fields(&format!("metadata.name={name}"));
            let patience = Some(options.remote_cluster_timeout).filter(|timeout| !timeout.is_zero());
            let key = ObjectKey::new(&options.system_namespace, name);
            let watch::Source { events, control } = ObjectSource::start(source);
            let relist = move |reason| control.relist(reason);
            networks::follow_config_map(events, relist, publisher, key, patience).await;
        }
        (None, None) => publisher.nothing(),
    }
}

async fn config_server(config: &ConfigCluster) -> Result<(Arc<ApiServer>, Pin), IngestError> {
    kubeconfig::check_cluster_id(&config.id).map_err(IngestError::ClusterId)?;
    own_server(&config.source).await
}

async fn own_server(source: &ConfigSource) -> Result<(Arc<ApiServer>, Pin), IngestError> {
    let credentials = kubeconfig::load(source).await?;
    let server = ApiServer::new(&credentials, AddressPolicy::Any);
    let server = server.map_err(|error| IngestError::Credentials { origin: source.to_string(), error })?;
    let pin = Pin::of(&server);
    Ok((Arc::new(server), pin))
}

fn start_config(
    set: &mut ClusterSet,
    config: &ConfigCluster,
    server: Arc<ApiServer>,
    pin: Pin,
) -> Result<(), IngestError> {
    let options = set.read_options(&config.id, &Texts::new());
    let started = set.start(Start {
        id: config.id.clone(),
        role: ClusterRole::Config,
        source: config.source.to_string(),
        feeds: Arc::new(KubeFeeds::new(server, Arc::clone(&set.limits)).with_mcs(&set.options.mcs)),
        hash: 0,
        options,
        pin: Some(pin),
    });
    started.map_err(|error| match error {
        cluster_set::StartError::Client(error) => {
            IngestError::Credentials { origin: config.source.to_string(), error }
        }
        cluster_set::StartError::Taken(error) => IngestError::Taken(error),
    })
}

/// Who says which remote clusters there are.
enum RemoteSource {
    None,
    Secrets(Box<SecretWatch>),
    Directory(DirectoryWatch),
}

impl RemoteSource {
    fn contest(&self) -> Contest {
        match self {
            Self::Directory(_) => Contest::Nobody,
            Self::None | Self::Secrets(_) => Contest::First,
        }
    }

    /// Becomes true when it cannot be looked at.
    fn failing(&self) -> signal::Receiver<bool> {
        match self {
            Self::Secrets(watch) => watch.failing(),
            Self::None | Self::Directory(_) => signal::channel(false).1,
        }
    }

    /// Asks for a complete look, where there are no looks by the clock.
    fn look_again(&self) {
        if let Self::Secrets(watch) = self {
            watch.list_again();
        }
    }

    /// The next news. The first look at a directory does not wait.
    async fn next(&mut self, first: bool, problems: &Problems) -> secrets::News {
        match self {
            Self::None => std::future::pending().await,
            Self::Secrets(watch) => watch.next(problems).await,
            Self::Directory(watch) => {
                if !first {
                    watch.changed().await;
                }
                let began = tokio::time::Instant::now();
                secrets::News { claims: watch.scan(problems).await, complete: Some(began) }
            }
        }
    }
}

/// Starts, exchanges and removes remote clusters as their source says.
async fn follow_remotes(
    mut set: ClusterSet,
    mut source: RemoteSource,
    mut roster: Roster,
    known_set: signal::Sender<bool>,
    mut mesh: MeshConfigFeed,
) {
    let problems = Arc::clone(&set.problems);
    let mut complete = matches!(source, RemoteSource::None);
    known_set.send_replace(complete);
    // Directories are known at once, and Secrets only when the config cluster is.
    let adopts = matches!(source, RemoteSource::Secrets(_));
    let keeper = set.snapshots.clone().filter(|_| adopts);
    let mut adopted = keeper.map(|keeper| {
        let (options, mesh) = (Arc::clone(&set.options), set.mesh.clone());
        let counts = Arc::clone(&set.counts);
        Adopted::new(Arc::clone(&set.registry), keeper, Arc::clone(&problems), counts, options, mesh)
    });
    let mut failing = source.failing();
    let mut adopting = adopted.is_some();
    let mut swept = false;
    loop {
        if complete && !std::mem::replace(&mut swept, true) {
            set.sweep();
        }
        let removal = set.next_removal();
        let doubt = adopted.as_ref().and_then(Adopted::due);
        let now = tokio::time::Instant::now();
        adopted.iter_mut().for_each(|adopted| adopted.grow_old(now));
        let age = adopted.as_ref().and_then(|adopted| adopted.next_age(now));
        tokio::select! {
            known = async {
                match &mut adopted {
                    Some(adopted) => adopted.adopt(&mut failing).await,
                    None => std::future::pending().await,
                }
            }, if adopting && !complete => {
                if known == Known::All {
                    adopting = false;
                    known_set.send_replace(true);
                }
            }
            // Unbiased: all are rare.
            news = source.next(!complete, &problems) => {
                set.perform(roster.update(news.claims, &problems));
                complete |= news.complete.is_some();
                if let Some(adopted) = adopted.as_mut().filter(|_| complete) {
                    adopted.settle(set.ids(), &roster, news.complete).await;
                }
                known_set.send_if_modified(|known| complete && !std::mem::replace(known, true));
            }
            () = tokio::time::sleep_until(doubt.unwrap_or_else(tokio::time::Instant::now)), if doubt.is_some() => {
                adopted.iter_mut().for_each(Adopted::asked);
                source.look_again();
            }
            Ok(()) = mesh.changed() => {
                let selectors = mesh.borrow_and_update().as_ref().map(|mesh| mesh.discovery_selectors.clone());
                set.discover(&selectors.unwrap_or_default());
            }
            // They grow old above.
            () = tokio::time::sleep_until(age.unwrap_or(now)), if age.is_some() => {}
            () = tokio::time::sleep_until(removal.unwrap_or_else(tokio::time::Instant::now)),
                if removal.is_some() =>
            {
                set.withdraw_due().await;
            }
        }
    }
}

/// What the start gate waits for besides the clusters.
struct Awaited {
    known_set: signal::Receiver<bool>,
    names: Option<Arc<GatewayNames>>,
    /// Whether every kind of policy is listed, or cannot be.
    policies: signal::Receiver<bool>,
    mesh: MeshConfigFeed,
}

/// Opens the start gate once (R1.18).
async fn hold_gate(registry: Arc<Registry>, awaited: Awaited, ready: signal::Sender<bool>) {
    let Awaited { mut known_set, names, mut policies, mut mesh } = awaited;
    let mut table = registry.clusters().watch();
    if known_set.wait_for(|known| *known).await.is_err() {
        return;
    }
    while !registry.clusters().gate_open() {
        if table.changed().await.is_err() {
            return;
        }
    }
    // Policies belong to the first lists of the config cluster.
    let config_is_restored = || {
        let restored = |row: &ClusterStatus| row.role == ClusterRole::Config && row.restored.is_some();
        registry.clusters().all().iter().any(restored)
    };
    let mut restored_at = None;
    while !(*policies.borrow() && mesh.borrow().is_some()) {
        // One that is served from its snapshot may have been kept without them.
        if config_is_restored() && restored_at.is_none() {
            restored_at = Some(tokio::time::Instant::now() + FIRST_ANSWERS);
        }
        let late = restored_at.unwrap_or_else(tokio::time::Instant::now);
        tokio::select! {
            // Unbiased: all are looked at again. What ended says nothing more.
            Ok(()) = policies.changed() => {}
            Ok(()) = mesh.changed() => {}
            Ok(()) = table.changed() => {}
            () = tokio::time::sleep_until(late), if restored_at.is_some() => break,
            else => return,
        }
    }
    if let Some(names) = names {
        // Endpoints behind a gateway that is not resolved yet are hidden: not a state to begin with.
        let wanted = || registry.networks().host_names().cloned().collect();
        let _ = tokio::time::timeout(FIRST_ANSWERS, names.asked(wanted)).await;
    }
    ready.send_replace(true);
}
