//! How ingest begins: what is opened first, and the tasks that run from then on.

use std::sync::Arc;

use tokio::sync::watch as signal;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span};

use super::client::{AddressPolicy, ApiServer, Exchange};
use super::cluster::KubeFeeds;
use super::cluster_set::{ClusterSet, Start, StartError};
use super::counts::Counts;
use super::directory::DirectoryWatch;
use super::documents::{ConfigMapSource, follow_document, open_mesh, open_mesh_config};
use super::gate::{Awaited, hold_gate};
use super::kubeconfig::{self, ConfigSource};
use super::networks::{Dns, GatewayNames, MeshFeed, MeshFile, MeshPublisher, Resolver};
use super::options::Texts;
use super::policies::{MeshConfigFeed, MeshConfigPublisher, Policies, PolicyFollower, follow_policies};
use super::problems::Problems;
use super::remotes::{RemoteSource, follow_remotes};
use super::roster::Roster;
use super::secrets::SecretWatch;
use super::snapshot::{Keeper, Memory, Pin, SnapshotStore};
use super::watch::KubeSource;
use super::{ConfigCluster, Ingest, IngestError, IngestOptions, Remotes};
use crate::model::ClusterRole;
use crate::registry::Registry;

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
    let problems = Arc::<Problems>::default();
    let servers = Servers::open(&options).await?;
    let directory = open_directory(&options, &problems)?;
    let documents = Documents::open(&options, &registry, &problems)?;
    let start = Starting { options, registry, counts: Arc::default(), problems, cancel };
    let set = start.cluster_set(&servers, &documents)?;
    let source = start.remotes(directory, servers.secrets, &set);
    Ok(start.run(servers.config.map(|(_, server, _)| server), documents, set, source))
}

/// The API servers that are our own.
struct Servers {
    /// That of the config cluster.
    config: Option<(ConfigCluster, Arc<ApiServer>, Pin)>,
    /// The one whose Secrets name remote clusters (R1.9).
    secrets: Option<Arc<ApiServer>>,
}

impl Servers {
    async fn open(options: &IngestOptions) -> Result<Self, IngestError> {
        let config = match &options.config {
            Some(config) => {
                kubeconfig::check_cluster_id(&config.id).map_err(IngestError::ClusterId)?;
                let (server, pin) = own_server(&config.source).await?;
                Some((config.clone(), server, pin))
            }
            None => None,
        };
        let secrets = match (&options.remotes, &options.secrets_by) {
            (Remotes::Secrets, Some(source)) => Some(own_server(source).await?.0),
            _ => config.as_ref().map(|(_, server, _)| Arc::clone(server)),
        };
        Ok(Self { config, secrets })
    }
}

async fn own_server(source: &ConfigSource) -> Result<(Arc<ApiServer>, Pin), IngestError> {
    let credentials = kubeconfig::load(source).await?;
    let server = ApiServer::new(&credentials, AddressPolicy::Any);
    let server = server.map_err(|error| IngestError::Credentials { origin: source.to_string(), error })?;
    let pin = Pin::of(&server);
    Ok((Arc::new(server), pin))
}

fn open_directory(
    options: &IngestOptions,
    problems: &Arc<Problems>,
) -> Result<Option<DirectoryWatch>, IngestError> {
    let Remotes::Directory(path) = &options.remotes else {
        return Ok(None);
    };
    let opened = DirectoryWatch::open(path, options.kubeconfig_rules(), options.guard(), problems);
    opened.map(Some).map_err(|error| IngestError::Directory { path: path.clone(), error })
}

/// The documents of the mesh: who tells of them, and their files.
struct Documents {
    networks: MeshPublisher,
    networks_file: Option<MeshFile>,
    config: MeshConfigPublisher,
    config_file: Option<MeshFile>,
}

impl Documents {
    fn open(
        options: &IngestOptions,
        registry: &Arc<Registry>,
        problems: &Arc<Problems>,
    ) -> Result<Self, IngestError> {
        let (hosts, special) = (options.networks.host_names(), options.special_addresses());
        let networks = MeshPublisher::new(Arc::clone(registry), Arc::clone(problems), hosts, special);
        let config =
            MeshConfigPublisher::new(Arc::clone(registry), Arc::clone(problems), &options.system_namespace);
        let networks_file = open_mesh(options, &networks)?;
        let config_file = open_mesh_config(options, &config)?;
        Ok(Self { networks, networks_file, config, config_file })
    }

    fn networks_feed(&self) -> MeshFeed {
        self.networks.feed()
    }

    fn config_feed(&self) -> MeshConfigFeed {
        self.config.feed()
    }
}

/// What everything that is started has.
struct Starting {
    options: Arc<IngestOptions>,
    registry: Arc<Registry>,
    counts: Arc<Counts>,
    problems: Arc<Problems>,
    cancel: CancellationToken,
}

impl Starting {
    /// The set of clusters, with the config cluster in it.
    fn cluster_set(&self, servers: &Servers, documents: &Documents) -> Result<ClusterSet, IngestError> {
        let mut set = ClusterSet::new(
            Arc::clone(&self.options),
            documents.networks_feed(),
            Arc::clone(&self.registry),
            Arc::clone(&self.counts),
            Arc::clone(&self.problems),
            self.cancel.clone(),
        );
        if let Some(mesh) = &*documents.config_feed().borrow() {
            set.discover(&mesh.discovery_selectors);
        }
        if let Some(snapshots) = &self.options.snapshots {
            let store = SnapshotStore::open(snapshots)?;
            let keeper = Keeper::new(store, Arc::clone(&self.registry), Arc::clone(&self.problems));
            set.snapshots = Some(Arc::new(keeper));
        }
        if let Some((config, server, pin)) = &servers.config {
            // Before anybody looks for its snapshot.
            set.snapshots.iter().for_each(|keeper| keeper.memory().await_documents(&config.id));
            start_config(&mut set, config, Arc::clone(server), pin.clone())?;
        }
        Ok(set)
    }

    fn remotes(
        &self,
        directory: Option<DirectoryWatch>,
        secrets: Option<Arc<ApiServer>>,
        set: &ClusterSet,
    ) -> RemoteSource {
        let options = &self.options;
        match (&options.remotes, secrets, directory) {
            (Remotes::Directory(_), _, Some(directory)) => RemoteSource::Directory(directory),
            (Remotes::Secrets, Some(server), _) => RemoteSource::Secrets(Box::new(SecretWatch::new(
                server,
                &options.system_namespace,
                Arc::clone(&set.limits),
                options.kubeconfig_rules(),
                options.guard(),
            ))),
            _ => RemoteSource::None,
        }
    }

    /// Every task. `server` is the config cluster's.
    fn run(
        self,
        server: Option<Arc<ApiServer>>,
        documents: Documents,
        set: ClusterSet,
        source: RemoteSource,
    ) -> Ingest {
        let tasks = set.tasks.clone();
        let spawn = |span: Span, task: BoxTask| {
            let cancel = self.cancel.clone();
            tasks.spawn(async move { cancel.run_until_cancelled(task).await }.instrument(span));
        };
        if let Some(keeper) = &set.snapshots {
            let keeping = Arc::clone(keeper).run(self.cancel.clone());
            tasks.spawn(keeping.instrument(tracing::info_span!("snapshots")));
        }
        let kept = set.snapshots.as_ref().map(|keeper| Arc::clone(keeper.memory()));
        let memory = kept.clone().unwrap_or_default();
        let mesh = documents.config_feed();

        let policies = Arc::new(Policies::new(self.options.guard()));
        let (policies_ready, policies_known) = signal::channel(server.is_none());
        let limits = Arc::clone(&set.limits);
        if let Some(server) = &server {
            let follower = self.follower(&policies, mesh.clone(), kept, policies_ready);
            let source = KubeSource::new(Arc::clone(server) as Arc<dyn Exchange>, Arc::clone(&limits));
            spawn(tracing::info_span!("policies"), Box::pin(follow_policies(follower, source)));
        }

        let config_map =
            server.map(|server| ConfigMapSource { server, limits, options: Arc::clone(&self.options) });
        let Documents { networks, networks_file, config, config_file } = documents;
        let config = config.remembering(Arc::clone(&memory));
        let networks = networks.remembering(Arc::clone(&memory));
        let following = follow_document(config_file, config_map.clone(), config);
        spawn(tracing::info_span!("mesh_config"), Box::pin(following));
        let following = follow_document(networks_file, config_map, networks);
        spawn(tracing::info_span!("networks"), Box::pin(following));

        let gateway_names = Arc::<GatewayNames>::default();
        let resolves = self.options.networks.resolve_hosts;
        if resolves {
            let resolver = self.resolver(&gateway_names).remembering(memory);
            spawn(tracing::info_span!("dns"), Box::pin(resolver.run()));
        }

        let (known_sender, known_set) = signal::channel(false);
        let (ready_sender, ready) = signal::channel(false);
        let reserved = self.options.config.iter().map(|config| config.id.clone());
        let roster = Roster::new(source.contest(), reserved).with_quirks(self.options.quirks);
        let following = follow_remotes(set, source, roster, known_sender, mesh.clone());
        spawn(tracing::info_span!("remotes"), Box::pin(following));

        let names = resolves.then(|| Arc::clone(&gateway_names));
        let awaited = Awaited { known_set: known_set.clone(), names, policies: policies_known, mesh };
        let gate = hold_gate(Arc::clone(&self.registry), awaited, ready_sender);
        spawn(tracing::info_span!("gate"), Box::pin(gate));
        let Self { counts, problems, .. } = self;
        Ingest { counts, problems, ready, known_set, gateway_names, policies, tasks }
    }

    fn follower(
        &self,
        policies: &Arc<Policies>,
        mesh: MeshConfigFeed,
        memory: Option<Arc<Memory>>,
        ready: signal::Sender<bool>,
    ) -> PolicyFollower {
        PolicyFollower {
            registry: Arc::clone(&self.registry),
            policies: Arc::clone(policies),
            problems: Arc::clone(&self.problems),
            mesh,
            domain: self.options.domain.clone(),
            memory,
            ready,
        }
    }

    fn resolver(&self, names: &Arc<GatewayNames>) -> Resolver<Dns> {
        Resolver::new(
            Dns::new(self.options.networks.dns_servers.clone()),
            Arc::clone(&self.registry),
            Arc::clone(names),
            self.options.special_addresses(),
            self.options.quirks,
        )
    }
}

/// What runs until ingest ends.
type BoxTask = futures::future::BoxFuture<'static, ()>;

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
        StartError::Client(error) => IngestError::Credentials { origin: config.source.to_string(), error },
        StartError::Taken(error) => IngestError::Taken(error),
    })
}
