//! Small controllers for API servers without any: Deployments get pods, Services get EndpointSlices.
//!
//! They talk to any Kubernetes API, real or synthetic, through a client given to them, and do what
//! kube-controller-manager and the scheduler would do, as far as a lab needs it (D37). They start no process and
//! give no pod an address: that is a kubelet's work, done by whoever runs the pods.
//!
//! ```no_run
//! # async fn example(client: kube::Client) {
//! use tombolo::sim::controllers::{Controllers, Settings};
//!
//! let controllers = Controllers::start(client, Settings::default());
//! controllers.synced().await;
//! // … kubectl scale deployment helloworld --replicas 3 …
//! assert!(controllers.healthy(), "{:?}", controllers.last_error());
//! controllers.stop().await;
//! # }
//! ```
//!
//! Decisions are functions of values; around them are watches that survive outages, and queues that retry with
//! growing pauses. An outage removes nothing: what is deleted because its owner is gone is deleted only after
//! the server itself has said so.

mod accounts;
mod cache;
mod deployment;
mod feed;
mod health;
mod names;
mod pods;
mod queue;
mod slices;
mod work;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::accounts::AccountController;
use self::cache::{Cache, Change, Key};
use self::deployment::DeploymentController;
use self::health::Health;
use self::names::NameMaker;
use self::queue::WorkQueue;
use self::slices::SliceController;
use self::work::Reconcile;

/// How long [`RunningControllers::stop`] lets workers finish what they have at hand.
const STOP_LIMIT: Duration = Duration::from_secs(5);

/// How the controllers run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Objects of one kind worked on at once; at least 1.
    pub workers: usize,
    /// Where the suffixes of names begin. Two runs with different seeds rarely choose the same names; if they
    /// do, the second choice is taken.
    pub seed: u64,
}

impl Default for Settings {
    /// Four workers; a seed taken from the clock.
    fn default() -> Self {
        Self { workers: 4, seed: u64::try_from(jiff::Timestamp::now().as_microsecond()).unwrap_or(0) }
    }
}

/// The way to running controllers: [`Controllers::start`].
#[derive(Debug)]
pub struct Controllers;

/// What the watches have shown, by kind.
struct Caches {
    deployments: Arc<Cache<Deployment>>,
    pods: Arc<Cache<Pod>>,
    nodes: Arc<Cache<Node>>,
    services: Arc<Cache<Service>>,
    slices: Arc<Cache<EndpointSlice>>,
    namespaces: Arc<Cache<Namespace>>,
}

#[derive(Debug, Default, Clone)]
struct Queues {
    deployments: Arc<WorkQueue>,
    services: Arc<WorkQueue>,
    namespaces: Arc<WorkQueue>,
}

impl Caches {
    fn new() -> Self {
        Self {
            deployments: Arc::new(Cache::new()),
            pods: Arc::new(Cache::new()),
            nodes: Arc::new(Cache::new()),
            services: Arc::new(Cache::new()),
            slices: Arc::new(Cache::new()),
            namespaces: Arc::new(Cache::new()),
        }
    }

    async fn synced(&self) {
        self.deployments.synced().await;
        self.pods.synced().await;
        self.nodes.synced().await;
        self.services.synced().await;
        self.slices.synced().await;
        self.namespaces.synced().await;
    }

    fn are_synced(&self) -> bool {
        self.deployments.is_synced()
            && self.pods.is_synced()
            && self.nodes.is_synced()
            && self.services.is_synced()
            && self.slices.is_synced()
            && self.namespaces.is_synced()
    }
}

impl Controllers {
    /// Starts the controllers over the API that `client` talks to. Returns at once; an API server that is not
    /// there yet is waited for. Needs a tokio runtime.
    ///
    /// The client should not retry by itself, and should give up on connections that do not come about.
    pub fn start(client: Client, settings: Settings) -> RunningControllers {
        let mut running = RunningControllers {
            caches: Arc::new(Caches::new()),
            queues: Queues::default(),
            health: Arc::new(Health::default()),
            stop: CancellationToken::new(),
            watches: JoinSet::new(),
            workers: JoinSet::new(),
        };
        let names = Arc::new(NameMaker::new(settings.seed));
        running.watch(&client);
        let caches = || Arc::clone(&running.caches);
        let deployments = DeploymentController::new(client.clone(), caches(), Arc::clone(&names));
        let slices = SliceController::new(client.clone(), caches(), names);
        let accounts = AccountController::new(client, caches());
        let count = settings.workers.max(1);
        running.employ(deployments, &Arc::clone(&running.queues.deployments), count);
        running.employ(slices, &Arc::clone(&running.queues.services), count);
        running.employ(accounts, &Arc::clone(&running.queues.namespaces), 1);
        running
    }
}

/// Controllers at work. Dropping them ends them at once; [`Self::stop`] does so in order.
#[derive(Debug)]
pub struct RunningControllers {
    caches: Arc<Caches>,
    queues: Queues,
    health: Arc<Health>,
    stop: CancellationToken,
    watches: JoinSet<()>,
    workers: JoinSet<()>,
}

impl std::fmt::Debug for Caches {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Caches").field("synced", &self.are_synced()).finish_non_exhaustive()
    }
}

impl RunningControllers {
    /// Waits until everything there is has been seen once.
    pub async fn synced(&self) {
        self.caches.synced().await;
    }

    /// Whether everything there is has been seen, no watch is known to be broken, and nothing is being retried.
    /// After an outage this takes up to four seconds to become true again.
    pub fn healthy(&self) -> bool {
        self.caches.are_synced() && self.health.watches_work() && self.failing() == 0
    }

    /// How many objects are being retried.
    pub fn failing(&self) -> usize {
        self.queues.deployments.failing() + self.queues.services.failing() + self.queues.namespaces.failing()
    }

    /// What went wrong last, whether it has been mended since or not.
    pub fn last_error(&self) -> Option<String> {
        self.health.last_error()
    }

    /// Ends the watches, lets workers finish what they have at hand for a moment, and ends them too.
    pub async fn stop(mut self) {
        self.stop.cancel();
        self.watches.shutdown().await;
        let finished = async { while self.workers.join_next().await.is_some() {} };
        // Past the limit the workers are aborted when `self` goes.
        let _ = tokio::time::timeout(STOP_LIMIT, finished).await;
    }

    fn employ<R: Reconcile>(&mut self, reconciler: R, queue: &Arc<WorkQueue>, count: usize) {
        let reconciler = Arc::new(reconciler);
        for _ in 0..count {
            let (reconciler, queue) = (Arc::clone(&reconciler), Arc::clone(queue));
            self.workers.spawn(work::work(reconciler, queue, Arc::clone(&self.health), self.stop.clone()));
        }
    }

    /// One watch per kind; each change goes to the queues of those whom it concerns.
    fn watch(&mut self, client: &Client) {
        let Queues { deployments, services, namespaces } = self.queues.clone();
        let caches = Arc::clone(&self.caches);
        let queue = Arc::clone(&deployments);
        self.follow(client, "Deployment", &caches.deployments, move |change| add(&queue, change));
        let queue = Arc::clone(&services);
        self.follow(client, "Service", &caches.services, move |change| add(&queue, change));
        let queue = Arc::clone(&services);
        self.follow(client, "EndpointSlice", &caches.slices, move |change| slices::on_slice(&queue, change));
        let queue = namespaces;
        self.follow(client, "Namespace", &caches.namespaces, move |change| {
            accounts::on_namespace(&queue, change);
        });
        let (of_services, of_deployments) = (Arc::clone(&services), Arc::clone(&deployments));
        let known = Arc::clone(&caches);
        self.follow(client, "Pod", &caches.pods, move |change| {
            slices::on_pod(&known.services, &of_services, change);
            deployment::on_pod(&of_deployments, change);
        });
        let known = Arc::clone(&caches);
        self.follow(client, "Node", &caches.nodes, move |change| {
            slices::on_node(&known.services, &services, change);
            deployment::on_node(&known.deployments, &deployments, change);
        });
    }

    fn follow<K>(
        &mut self,
        client: &Client,
        kind: &'static str,
        cache: &Arc<Cache<K>>,
        on_change: impl Fn(&Change<K>) + Send + 'static,
    ) where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    {
        let (api, cache, health) = (Api::all(client.clone()), Arc::clone(cache), Arc::clone(&self.health));
        self.watches.spawn(feed::follow(api, kind, cache, health, on_change));
    }
}

fn add<K: Resource>(queue: &WorkQueue, change: &Change<K>) {
    if let Some(object) = change.new.as_ref().or(change.old.as_ref()) {
        queue.add(Key::of(object.as_ref()));
    }
}
