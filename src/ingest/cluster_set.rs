//! The clusters that run: one owner for every generation, rotation and removal.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use tokio::sync::{Mutex, watch as signal};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use super::IngestOptions;
use super::client::{AddressPolicy, ApiServer, ClientError};
use super::cluster::{
    Errand, Feeds, Generation, Identities, KubeFeeds, Predecessor, Restore, Seat, Turn, tell_doubt,
};
use super::convert::{ClusterContext, GatewayOptions, SpecialAddresses};
use super::counts::Counts;
use super::entries::EntryBoard;
use super::kubeconfig::{KubeconfigRules, RemoteKubeconfig};
use super::networks::MeshFeed;
use super::options::{ClusterOptions, Texts};
use super::problems::Problems;
use super::roster::Action;
use super::snapshot::{Keeper, Pin};
use super::staging::Guard;
use super::watch::{ListPermits, SourceLimits};
use crate::model::policy::NamespaceSelector;
use crate::model::{ClusterHealth, ClusterId, ClusterRole, ClusterStatus};
use crate::registry::{DuplicateWriter, Registry};

/// *Skipped* until the configuration changes: this cluster cannot be started.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    /// The credentials cannot be used.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Somebody else writes for this cluster.
    #[error(transparent)]
    Taken(#[from] DuplicateWriter),
}

/// Everything generations share.
pub(super) struct ClusterSet {
    pub(super) options: Arc<IngestOptions>,
    /// Shared by every source of the process.
    pub(super) limits: Arc<SourceLimits>,
    pub(super) mesh: MeshFeed,
    entries: EntryBoard,
    pub(super) registry: Arc<Registry>,
    pub(super) counts: Arc<Counts>,
    pub(super) problems: Arc<Problems>,
    pub(super) tasks: TaskTracker,
    pub(super) cancel: CancellationToken,
    identities: Arc<Identities>,
    pub(super) snapshots: Option<Arc<Keeper>>,
    running: BTreeMap<ClusterId, Running>,
    /// MeshConfig's `discoverySelectors`.
    discovery: Vec<NamespaceSelector>,
}

/// One cluster: what serves, what is about to, and when it goes.
struct Running {
    seat: Seat,
    /// What holds for it; generations follow.
    options: signal::Sender<Arc<ClusterOptions>>,
    serving: Started,
    candidate: Option<Started>,
    /// Removed by the operator: withdrawn at this time.
    removal: Option<(Instant, ClusterHealth)>,
}

struct Started {
    cancel: CancellationToken,
    turn: Arc<Turn>,
    hash: u128,
    /// What it reads by. The connection goes with the last generation that does.
    feeds: Weak<dyn Feeds>,
}

impl Started {
    /// Stops it, unless it has taken its turn to serve: then nothing happens, and it is the one that serves.
    fn call_off(&self) -> bool {
        let off = self.turn.call_off();
        if off {
            self.cancel.cancel();
        }
        off
    }

    /// Stops it in any case.
    fn end(&self) {
        self.turn.end();
        self.cancel.cancel();
    }
}

/// A cluster to start.
pub(super) struct Start {
    pub(super) id: ClusterId,
    pub(super) role: ClusterRole,
    pub(super) source: String,
    pub(super) feeds: Arc<dyn Feeds>,
    /// What the credentials are told apart by.
    pub(super) hash: u128,
    pub(super) options: Arc<ClusterOptions>,
    /// Which API server its snapshots are of; `None` keeps none.
    pub(super) pin: Option<Pin>,
}

impl ClusterSet {
    pub(super) fn new(
        options: Arc<IngestOptions>,
        mesh: MeshFeed,
        registry: Arc<Registry>,
        counts: Arc<Counts>,
        problems: Arc<Problems>,
        cancel: CancellationToken,
    ) -> Self {
        let identities = Arc::new(Identities::new(Arc::clone(&problems)));
        Self {
            identities,
            limits: Arc::new(limits(&options)),
            entries: EntryBoard::new(options.config.is_some()),
            options,
            mesh,
            registry,
            counts,
            problems,
            tasks: TaskTracker::new(),
            cancel,
            snapshots: None,
            running: BTreeMap::new(),
            discovery: Vec::new(),
        }
    }

    /// Does what the roster settled. One cluster that cannot be started stops no other.
    pub(super) fn perform(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Run(id, source, kubeconfig, texts) => {
                    self.run_remote(id, source, &kubeconfig, &texts);
                }
                Action::Tell(id, source, texts) => self.tell(&id, source, &texts),
                Action::Remove(id) => self.schedule_removal(&id),
            }
        }
    }

    fn run_remote(&mut self, id: ClusterId, source: String, kubeconfig: &RemoteKubeconfig, texts: &Texts) {
        let subject = format!("cluster {id}, start");
        let options = self.read_options(&id, texts);
        let server = ApiServer::new(&kubeconfig.config, self.options.remote_addresses());
        let started = server.map_err(StartError::from).and_then(|server| {
            let (role, hash, pin) = (ClusterRole::Remote, kubeconfig.hash, Some(Pin::of(&server)));
            let feeds = KubeFeeds::new(Arc::new(server), Arc::clone(&self.limits));
            let feeds = Arc::new(feeds.with_mcs(&self.options.mcs));
            self.start(Start { id, role, source, feeds, hash, options, pin })
        });
        self.problems.tell(subject, started.err().map(|error| error.to_string()));
    }

    /// Options of a cluster: its Secret's annotations, and the file's entry, which wins (D35).
    pub(super) fn read_options(&self, id: &ClusterId, texts: &Texts) -> Arc<ClusterOptions> {
        let last = self.running.get(id).map(|running| Arc::clone(&running.options.borrow()));
        let sources = [texts].into_iter().chain(self.options.clusters.get(id));
        let (mut options, problems) = ClusterOptions::read(sources, last.as_deref());
        options.trust_domain.get_or_insert_with(|| self.options.trust_domain.clone());
        options.selection = options.selection.discovering(&self.discovery);
        let told = (!problems.is_empty()).then(|| problems.join("; "));
        self.problems.tell(format!("cluster {id}, options"), told);
        Arc::new(options)
    }

    /// MeshConfig's `discoverySelectors` are these now (R1.15): clusters that do not say themselves which namespaces
    /// are read settle anew which are.
    pub(super) fn discover(&mut self, selectors: &[NamespaceSelector]) {
        if self.discovery == selectors {
            return;
        }
        self.discovery = selectors.to_vec();
        for (id, running) in &self.running {
            let discover = |now: &mut Arc<ClusterOptions>| {
                let selection = now.selection.clone().discovering(selectors);
                let differs = selection != now.selection;
                if differs {
                    *now = Arc::new(ClusterOptions { selection, ..(**now).clone() });
                }
                differs
            };
            if running.options.send_if_modified(discover) {
                tracing::info!(cluster = %id, "other namespaces are selected");
            }
        }
    }

    /// Other options, or another source of the same credentials: nothing is restarted.
    fn tell(&mut self, id: &ClusterId, source: String, texts: &Texts) {
        let options = self.read_options(id, texts);
        let Some(running) = self.running.get(id) else {
            return;
        };
        self.registry.clusters().update(id, |row| {
            row.source = source;
            show(row, &options);
        });
        running.options.send_if_modified(|now| {
            let differs = *now != options;
            *now = options;
            differs
        });
    }

    /// Starts a cluster, or exchanges the credentials of one that runs.
    pub(super) fn start(&mut self, start: Start) -> Result<(), StartError> {
        match self.running.remove(&start.id) {
            None => self.add(&start),
            Some(running) => {
                let id = start.id.clone();
                let running = self.exchange(running, &start);
                self.running.insert(id, running);
                Ok(())
            }
        }
    }

    fn add(&mut self, start: &Start) -> Result<(), StartError> {
        let writer = self.registry.writer(start.id.clone(), start.role)?;
        let mut status = ClusterStatus::new(start.id.clone(), start.role, start.source.clone());
        show(&mut status, &start.options);
        if let Some(row) = self.registry.clusters().get(&start.id).filter(|row| row.restored.is_some()) {
            // Its snapshot is served already, and stays until it was read.
            status = ClusterStatus { source: status.source, start: status.start, ..row };
            show(&mut status, &start.options);
        }
        self.registry.clusters().put(status);
        Counts::add(&self.counts.clusters_added, usize::from(start.role == ClusterRole::Remote));
        tracing::info!(cluster = %start.id, source = start.source, "cluster added");
        let seat: Seat = Arc::new(Mutex::new(Some(writer)));
        let options = signal::Sender::new(Arc::clone(&start.options));
        let serving = self.spawn(start, &seat, &options, None);
        let running = Running { seat, options, serving, candidate: None, removal: None };
        self.running.insert(start.id.clone(), running);
        Ok(())
    }

    /// R1.21: the new generation lists everything before the old one stops, or hands it what it has if that is only
    /// another token. One that never served has nothing to keep and stops at once.
    fn exchange(&mut self, mut running: Running, start: &Start) -> Running {
        let back = running.removal.take();
        self.registry.clusters().update(&start.id, |row| {
            if let Some((_, health)) = &back {
                row.set_health(health.clone(), Instant::now().into_std().into());
            }
            row.source.clone_from(&start.source);
            show(row, &start.options);
        });
        self.problems.clear(&format!("cluster {}, identity", start.id));
        running.options.send_if_modified(|now| {
            let differs = *now != start.options;
            *now = Arc::clone(&start.options);
            // One that comes back says anew how it is.
            differs || back.is_some()
        });
        if let Some(candidate) = running.candidate.take() {
            if candidate.call_off() {
                self.problems.clear(&Errand::Credentials.subject(&start.id));
                tell_doubt(&self.problems, self.registry.clusters(), &start.id, None);
            } else if candidate.turn.is_handed() {
                running.serving.hash = candidate.hash;
            } else {
                running.serving = candidate;
            }
        }
        if running.serving.hash == start.hash {
            return running;
        }
        tracing::info!(cluster = %start.id, source = start.source, "cluster has new credentials");
        Counts::add(&self.counts.clusters_changed, usize::from(start.role == ClusterRole::Remote));
        if running.serving.call_off() {
            tell_doubt(&self.problems, self.registry.clusters(), &start.id, None);
            running.serving = self.spawn(start, &running.seat, &running.options, None);
        } else {
            let Started { cancel, feeds, .. } = &running.serving;
            let predecessor = Some(Predecessor { cancel: cancel.clone(), feeds: Weak::clone(feeds) });
            running.candidate = Some(self.spawn(start, &running.seat, &running.options, predecessor));
        }
        running
    }

    fn spawn(
        &self,
        start: &Start,
        seat: &Seat,
        options: &signal::Sender<Arc<ClusterOptions>>,
        predecessor: Option<Predecessor>,
    ) -> Started {
        let cancel = self.cancel.child_token();
        let turn = Arc::<Turn>::default();
        let remote = start.role == ClusterRole::Remote;
        let timeout = self.options.remote_cluster_timeout;
        let generation = Generation {
            context: ClusterContext {
                cluster: start.id.clone(),
                domain: self.options.domain.clone(),
                trust_domain: self.options.trust_domain.clone(),
                special_addresses: self.options.special_addresses(),
                quirks: self.options.quirks,
                dual_stack: self.options.dual_stack,
                mcs: self.options.mcs.clone(),
                entries: self.options.entries,
                gateways: GatewayOptions {
                    gateway_api: self.options.networks.gateway_api,
                    config_cluster: start.role == ClusterRole::Config,
                    ..GatewayOptions::default()
                },
                serve_without_pods: self.options.serve_without_pods,
                session_labels: self.options.session_labels.clone(),
                service_scopes: self.options.service_scopes,
            },
            feeds: Arc::clone(&start.feeds),
            mesh: self.mesh.clone(),
            entries: self.entries.clone(),
            system_namespace: self.options.system_namespace.clone(),
            options: options.subscribe(),
            guard: self.options.guard(),
            timeout: (remote && !timeout.is_zero()).then_some(timeout),
            registry: Arc::clone(&self.registry),
            counts: Arc::clone(&self.counts),
            problems: Arc::clone(&self.problems),
            identities: Arc::clone(&self.identities),
            seat: Arc::clone(seat),
            predecessor,
            restore: self.snapshots.as_ref().zip(start.pin.clone()).map(|(keeper, pin)| {
                let (id, options, mesh) = (start.id.clone(), options.subscribe(), self.mesh.clone());
                let special = self.options.special_addresses();
                let system = self.options.system_namespace.clone();
                Restore::new(Arc::clone(keeper), id, pin, options, mesh, special, system)
            }),
            turn: Arc::clone(&turn),
        };
        let span = tracing::info_span!("cluster", id = %start.id);
        self.tasks.spawn(generation.run(cancel.clone()).instrument(span));
        Started { cancel, turn, hash: start.hash, feeds: Arc::downgrade(&start.feeds) }
    }

    /// R1.20 after the grace (K-33): until then it serves on, and coming back costs nothing.
    fn schedule_removal(&mut self, id: &ClusterId) {
        let Some(running) = self.running.get_mut(id).filter(|running| running.removal.is_none()) else {
            return;
        };
        let before = self.registry.clusters().get(id).map(|row| row.health);
        running.removal =
            Some((Instant::now() + self.options.removal_grace, before.unwrap_or(ClusterHealth::Connecting)));
        tracing::info!(cluster = %id, grace = ?self.options.removal_grace, "cluster is being removed");
        Counts::add(&self.counts.clusters_removed, 1);
        let now = Instant::now().into_std().into();
        self.registry.clusters().update(id, |row| {
            row.set_health(ClusterHealth::Removing, now);
        });
    }

    /// Every cluster that there is has been told of: gets rid of what is left of others.
    pub(super) fn sweep(&self) {
        if let Some(keeper) = &self.snapshots {
            self.tasks.spawn(Arc::clone(keeper).sweep());
        }
    }

    /// The clusters that run.
    pub(super) fn ids(&self) -> impl Iterator<Item = &ClusterId> {
        self.running.keys()
    }

    /// When the next cluster is to be withdrawn.
    pub(super) fn next_removal(&self) -> Option<Instant> {
        self.running.values().filter_map(|running| running.removal.as_ref().map(|(at, _)| *at)).min()
    }

    /// Withdraws the clusters whose grace is over, each in one pass (Q24: every generation is stopped first).
    pub(super) async fn withdraw_due(&mut self) {
        let now = Instant::now();
        let due = self.running.iter().filter(|(_, r)| r.removal.as_ref().is_some_and(|(at, _)| *at <= now));
        for id in due.map(|(id, _)| id.clone()).collect::<Vec<_>>() {
            let Some(running) = self.running.remove(&id) else {
                continue;
            };
            running.serving.end();
            running.candidate.iter().for_each(Started::end);
            if let Some(writer) = running.seat.lock().await.take() {
                writer.withdraw();
            }
            if let Some(keeper) = &self.snapshots {
                keeper.forget(&id).await;
            }
            self.registry.clusters().remove(&id);
            self.identities.forget(&id);
            let prefixes = [format!("cluster {id},"), format!("cluster {id}")];
            self.problems
                .clear_unless(|subject| !(subject == prefixes[1] || subject.starts_with(&*prefixes[0])));
            tracing::info!(cluster = %id, "cluster removed");
        }
    }
}

/// What operators see of the options of a cluster.
fn show(row: &mut ClusterStatus, options: &ClusterOptions) {
    row.start = options.start;
    row.stale_policy = options.stale.to_string();
}

fn limits(options: &IngestOptions) -> SourceLimits {
    SourceLimits::new(options.retry)
        .within(options.deadlines)
        .sized(options.sizes, ListPermits::of(options.parallel_lists))
}

impl IngestOptions {
    fn remote_addresses(&self) -> AddressPolicy {
        match &self.remote_api_servers {
            Some(servers) => {
                AddressPolicy::Listed { servers: Arc::clone(servers), special: self.allow_loopback_clusters }
            }
            None if self.allow_loopback_clusters => AddressPolicy::Any,
            None => AddressPolicy::Remote,
        }
    }

    pub(super) fn special_addresses(&self) -> SpecialAddresses {
        if self.allow_loopback_clusters { SpecialAddresses::Keep } else { SpecialAddresses::Drop }
    }

    /// Whether lists that take most away are doubted (K-21).
    pub(super) fn guard(&self) -> Guard {
        if self.mass_delete_guard { Guard::On } else { Guard::Off }
    }

    /// What remote kubeconfigs may say.
    pub(super) fn kubeconfig_rules(&self) -> KubeconfigRules {
        KubeconfigRules { addresses: self.remote_addresses(), policy: self.kubeconfig_policy }
    }
}

#[cfg(test)]
mod tests;
