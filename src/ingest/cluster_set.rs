//! The clusters that run: one owner for every generation, rotation and removal.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use super::IngestOptions;
use super::client::{AddressPolicy, ApiServer, ClientError};
use super::cluster::{Generation, Seat, rotation_subject};
use super::convert::{ClusterContext, GatewayOptions, SpecialAddresses};
use super::counts::Counts;
use super::kubeconfig::{KubeconfigRules, RemoteKubeconfig};
use super::networks::MeshFeed;
use super::problems::Problems;
use super::roster::Action;
use super::watch::SourceLimits;
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
    mesh: MeshFeed,
    pub(super) registry: Arc<Registry>,
    pub(super) counts: Arc<Counts>,
    pub(super) problems: Arc<Problems>,
    pub(super) tasks: TaskTracker,
    pub(super) cancel: CancellationToken,
    running: BTreeMap<ClusterId, Running>,
}

/// One cluster: what serves, what is about to, and when it goes.
struct Running {
    seat: Seat,
    serving: Started,
    candidate: Option<Started>,
    /// Removed by the operator: withdrawn at this time.
    removal: Option<(Instant, ClusterHealth)>,
}

struct Started {
    cancel: CancellationToken,
    serving: Arc<AtomicBool>,
    hash: u128,
}

/// A cluster to start.
pub(super) struct Start {
    pub(super) id: ClusterId,
    pub(super) role: ClusterRole,
    pub(super) source: String,
    pub(super) server: Arc<ApiServer>,
    /// What the credentials are told apart by.
    pub(super) hash: u128,
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
        Self {
            limits: Arc::new(SourceLimits::new(options.retry)),
            options,
            mesh,
            registry,
            counts,
            problems,
            tasks: TaskTracker::new(),
            cancel,
            running: BTreeMap::new(),
        }
    }

    /// Does what the roster settled. One cluster that cannot be started stops no other.
    pub(super) fn perform(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Run(id, source, kubeconfig) => self.run_remote(id, source, &kubeconfig),
                Action::Remove(id) => self.schedule_removal(&id),
            }
        }
    }

    fn run_remote(&mut self, id: ClusterId, source: String, kubeconfig: &RemoteKubeconfig) {
        let subject = format!("cluster {id}, start");
        let server = ApiServer::new(&kubeconfig.config, self.options.remote_addresses());
        let started = server.map_err(StartError::from).and_then(|server| {
            self.start(Start {
                id,
                role: ClusterRole::Remote,
                source,
                server: Arc::new(server),
                hash: kubeconfig.hash,
            })
        });
        match started {
            Ok(()) => self.problems.clear(&subject),
            Err(error) => self.problems.set(subject, error.to_string()),
        }
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
        let status = ClusterStatus::new(start.id.clone(), start.role, start.source.clone());
        self.registry.clusters().put(status);
        tracing::info!(cluster = %start.id, source = start.source, "cluster added");
        let seat: Seat = Arc::new(Mutex::new(Some(writer)));
        let serving = self.spawn(start, &seat, None);
        self.running.insert(start.id.clone(), Running { seat, serving, candidate: None, removal: None });
        Ok(())
    }

    /// R1.21: the new generation lists everything before the old one stops. One that never served has nothing
    /// to keep and stops at once.
    fn exchange(&mut self, mut running: Running, start: &Start) -> Running {
        if let Some((_, health)) = running.removal.take() {
            self.registry.clusters().update(&start.id, |row| row.health = health);
        }
        self.registry.clusters().update(&start.id, |row| row.source.clone_from(&start.source));
        if let Some(candidate) = running.candidate.take() {
            if candidate.serving.load(Ordering::Acquire) {
                running.serving = candidate;
            } else {
                candidate.cancel.cancel();
            }
        }
        if running.serving.hash == start.hash {
            self.problems.clear(&rotation_subject(&start.id));
            return running;
        }
        tracing::info!(cluster = %start.id, source = start.source, "cluster has new credentials");
        if running.serving.serving.load(Ordering::Acquire) {
            let predecessor = Some(running.serving.cancel.clone());
            running.candidate = Some(self.spawn(start, &running.seat, predecessor));
        } else {
            running.serving.cancel.cancel();
            running.serving = self.spawn(start, &running.seat, None);
        }
        running
    }

    fn spawn(&self, start: &Start, seat: &Seat, predecessor: Option<CancellationToken>) -> Started {
        let cancel = self.cancel.child_token();
        let serving = Arc::new(AtomicBool::new(false));
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
                gateways: GatewayOptions {
                    gateway_api: self.options.networks.gateway_api,
                    config_cluster: start.role == ClusterRole::Config,
                    ..GatewayOptions::default()
                },
                serve_without_pods: self.options.serve_without_pods,
            },
            server: Arc::clone(&start.server),
            mesh: self.mesh.clone(),
            system_namespace: self.options.system_namespace.clone(),
            limits: Arc::clone(&self.limits),
            timeout: (remote && !timeout.is_zero()).then_some(timeout),
            registry: Arc::clone(&self.registry),
            counts: Arc::clone(&self.counts),
            problems: Arc::clone(&self.problems),
            seat: Arc::clone(seat),
            predecessor,
            serving: Arc::clone(&serving),
        };
        let span = tracing::info_span!("cluster", id = %start.id);
        self.tasks.spawn(generation.run(cancel.clone()).instrument(span));
        Started { cancel, serving, hash: start.hash }
    }

    /// R1.20 after the grace (K-33): until then it serves on, and coming back costs nothing.
    fn schedule_removal(&mut self, id: &ClusterId) {
        let Some(running) = self.running.get_mut(id) else {
            return;
        };
        let before = self.registry.clusters().get(id).map(|row| row.health);
        running.removal =
            Some((Instant::now() + self.options.removal_grace, before.unwrap_or(ClusterHealth::Connecting)));
        tracing::info!(cluster = %id, grace = ?self.options.removal_grace, "cluster is being removed");
        self.registry.clusters().update(id, |row| {
            row.health = ClusterHealth::Removing;
            row.since = SystemTime::now();
        });
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
            running.serving.cancel.cancel();
            if let Some(candidate) = &running.candidate {
                candidate.cancel.cancel();
            }
            if let Some(writer) = running.seat.lock().await.take() {
                writer.withdraw();
            }
            self.registry.clusters().remove(&id);
            let prefixes = [format!("cluster {id},"), format!("cluster {id}")];
            self.problems
                .clear_unless(|subject| !(subject == prefixes[1] || subject.starts_with(&*prefixes[0])));
            tracing::info!(cluster = %id, "cluster removed");
        }
    }
}

impl IngestOptions {
    fn remote_addresses(&self) -> AddressPolicy {
        if self.allow_loopback_clusters { AddressPolicy::Any } else { AddressPolicy::Remote }
    }

    pub(super) fn special_addresses(&self) -> SpecialAddresses {
        if self.allow_loopback_clusters { SpecialAddresses::Keep } else { SpecialAddresses::Drop }
    }

    /// What remote kubeconfigs may say.
    pub(super) fn kubeconfig_rules(&self) -> KubeconfigRules {
        KubeconfigRules { addresses: self.remote_addresses(), policy: self.kubeconfig_policy }
    }
}
