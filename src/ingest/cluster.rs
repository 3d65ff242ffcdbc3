//! One generation of one cluster: watches in, registry out.
//!
//! A generation first lists everything into private staging. Only then does it take the cluster's writer,
//! from the generation before it if there is one: the cluster appears, or is exchanged, in one step
//! (contract 2), and credentials that do not work never replace ones that do (K-30, K-31). It starts over in
//! the same way, with what it published still served, when another cluster answers in its place (K-20) or
//! when other namespaces are to be read.

mod age;
mod feeds;
mod holds;
mod identity;
mod plan;
mod restore;
mod status;

#[cfg(test)]
pub(super) mod fake;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::stream::{self, StreamExt};
use tokio::sync::{Mutex, OwnedMutexGuard, watch as signal};
use tokio::time::Instant;
use tokio_stream::wrappers::WatchStream;
use tokio_util::sync::CancellationToken;

use age::Age;
use feeds::{Arrival, Feed, Unknown};
pub(super) use feeds::{Feeds, KubeFeeds};
pub(super) use holds::CONFIRM_AFTER;
use holds::Holds;
pub(super) use identity::Identities;
use identity::Verdict;
use plan::Plan;
pub(super) use restore::Restore;
use status::Status;
pub(super) use status::rotation_subject;

use super::convert::{ClusterContext, GatewayOptions, TrustedNetworks};
use super::counts::Counts;
use super::networks::MeshFeed;
use super::objects::ObjectKind;
use super::options::ClusterOptions;
use super::problems::Problems;
use super::staging::{Batch, Guard, StagedEvent, Staging};
use super::watch::{Failure, SourceEvent};
use crate::model::{Name, Standing};
use crate::registry::{ClusterWriter, Registry};

/// Events taken in before anything is published, and before other clusters have their turn: bounds the time
/// that one flood can hold back a publish (K-44).
const BATCH: usize = 1024;
/// How much later than the events the table of clusters may be.
const STATUS_DELAY: Duration = Duration::from_secs(1);
/// Namespaces come and go in bursts: what is read is settled anew this much later.
const REPLAN_DELAY: Duration = Duration::from_secs(1);
/// How long one question for the cluster's identity may take, and how often it is asked after a relist.
const UID_TIMEOUT: Duration = Duration::from_secs(5);
const UID_ATTEMPTS: usize = 5;

/// The writer of a cluster, held by its serving generation.
pub(super) type Seat = Arc<Mutex<Option<ClusterWriter>>>;

/// What a generation works with.
pub(super) struct Generation {
    pub(super) context: ClusterContext,
    pub(super) feeds: Arc<dyn Feeds>,
    /// The document `meshNetworks`.
    pub(super) mesh: MeshFeed,
    pub(super) system_namespace: Name,
    pub(super) options: signal::Receiver<Arc<ClusterOptions>>,
    pub(super) guard: Guard,
    /// When to stop waiting for it at the start gate (R1.17).
    pub(super) timeout: Option<Duration>,
    pub(super) registry: Arc<Registry>,
    pub(super) counts: Arc<Counts>,
    pub(super) problems: Arc<Problems>,
    pub(super) identities: Arc<Identities>,
    pub(super) seat: Seat,
    /// The generation that serves meanwhile; stopped once this one is ready.
    pub(super) predecessor: Option<CancellationToken>,
    /// What is served until this generation is ready, if snapshots are kept.
    pub(super) restore: Option<Restore>,
    /// Set once this generation serves.
    pub(super) serving: Arc<AtomicBool>,
}

/// Everything listed, not yet published.
struct Gathered {
    plan: Plan,
    feed: Feed,
    staging: Staging,
}

/// Why a generation lists everything anew while what it published is served.
enum Again {
    /// Another cluster answers (K-20).
    OtherCluster,
    /// Other namespaces are to be read.
    OtherPlan,
}

impl Generation {
    /// Runs until cancelled. The data stays in the registry; whoever removes the cluster withdraws it.
    pub(super) async fn run(self, cancel: CancellationToken) {
        let _ = cancel.run_until_cancelled(Box::pin(self.serve())).await;
    }

    async fn serve(mut self) {
        let mut status = Status::new(
            Arc::clone(&self.registry),
            Arc::clone(&self.problems),
            self.context.cluster.clone(),
            self.predecessor.is_some(),
            self.kinds(),
        );
        if let Some(restore) = self.restore.as_mut().filter(|_| self.predecessor.is_none()) {
            restore.load().await;
        }
        let mut gathered = self.gather(&mut status).await;
        let mut seat = self.take_over().await;
        let Some(writer) = seat.as_mut() else {
            return; // The cluster is being removed.
        };
        loop {
            self.identify(&gathered.staging.uid());
            writer.replace(gathered.staging.state());
            self.serving.store(true, Ordering::Release);
            status.synced(&gathered.staging);
            self.restore.iter_mut().for_each(Restore::synced);
            match self.follow(&mut gathered, &mut status, writer).await {
                Again::OtherCluster => {
                    Counts::add(&self.counts.cluster_swaps, 1);
                    tracing::warn!("another cluster answers; what was read is served until it is listed");
                }
                Again::OtherPlan => tracing::info!("other namespaces are to be read"),
            }
            gathered = self.gather(&mut status).await;
        }
    }

    /// Pins which cluster this is, and tells when it took another one's place.
    fn identify(&self, uid: &Name) {
        if self.identities.check(&self.context.cluster, uid) == Verdict::Other {
            self.identities.replace(&self.context.cluster, uid);
        }
        self.registry.clusters().update(&self.context.cluster, |row| row.uid.clone_from(uid));
    }

    /// Lists everything into new staging, until it may be published. A list that would take most of what is
    /// served away is read twice (K-21).
    async fn gather(&mut self, status: &mut Status) -> Gathered {
        let mut plan = self.plan(None);
        let mut confirmed = false;
        loop {
            let mut feed = self.open(&plan);
            status.recount(&feed.counts);
            status.credentials(self.feeds.expires());
            let mut staging = self.staging(&plan);
            self.sync(&mut feed, &mut staging, status).await;
            let wanted = self.plan(Some(&staging));
            if wanted != plan {
                plan = wanted;
                continue;
            }
            let lists: usize = staging.state().shards.values().map(|shard| shard.endpoints.len()).sum();
            let served = self.registry.endpoints_of(&self.context.cluster);
            if confirmed || !self.guard.doubts(served, lists) {
                self.problems.clear(&self.doubt_subject());
                return Gathered { plan, feed, staging };
            }
            Counts::add(&self.counts.mass_delete_holds, 1);
            let text = format!(
                "lists {lists} endpoints where {served} are served: those stay, and it is listed again after {}s",
                CONFIRM_AFTER.as_secs()
            );
            self.problems.set(self.doubt_subject(), text);
            drop(feed);
            tokio::time::sleep(CONFIRM_AFTER).await;
            confirmed = true;
        }
    }

    fn doubt_subject(&self) -> String {
        format!("cluster {}, replacement", self.context.cluster)
    }

    fn plan(&self, staging: Option<&Staging>) -> Plan {
        let options = self.options.borrow();
        let namespaces = staging.into_iter().flat_map(Staging::namespaces);
        Plan::new(&options.selection, &self.system_namespace, namespaces)
    }

    /// What is read of this cluster.
    fn kinds(&self) -> Vec<ObjectKind> {
        let mut kinds = ObjectKind::BUILT_IN.to_vec();
        if self.context.mcs.discovery {
            kinds.extend([ObjectKind::ServiceExport, ObjectKind::ServiceImport]);
        }
        if self.context.gateways.gateway_api {
            kinds.push(ObjectKind::Gateway);
        }
        kinds
    }

    /// The watches and the document `meshNetworks` as one stream, in the order of arrival.
    fn open(&self, plan: &Plan) -> Feed {
        let Feed { events, relist, counts } = self.feeds.open(plan, &self.kinds());
        let mesh = WatchStream::new(self.mesh.clone()).filter_map(std::future::ready);
        let mesh = mesh.map(|mesh| Arrival { scope: None, event: StagedEvent::MeshNetworks(mesh) });
        Feed { events: stream::select(mesh, events).boxed(), relist, counts }
    }

    fn staging(&self, plan: &Plan) -> Staging {
        let (context, counts) = (self.context.clone(), Arc::clone(&self.counts));
        let staging = Staging::new(context, self.system_namespace.clone(), counts);
        let mut staging = staging.guarded(self.guard);
        staging.await_mesh_networks();
        for kind in self.kinds() {
            staging.await_lists(kind, plan.scopes(kind).len());
        }
        self.configure(&mut staging);
        staging
    }

    /// Options that staging follows.
    fn configure(&self, staging: &mut Staging) {
        let options = self.options.borrow();
        let gateways = GatewayOptions {
            trusted: TrustedNetworks::Only(options.trusted_networks.clone()),
            advertised: options.gateway_address.clone(),
            ..self.context.gateways.clone()
        };
        staging.reconfigure(gateways, self.context.serve_without_pods || options.serve_without_pods);
    }

    /// Until every initial list is complete. Nothing is published.
    async fn sync(&mut self, feed: &mut Feed, staging: &mut Staging, status: &mut Status) {
        let deadline = self.timeout.map(|timeout| Instant::now() + timeout);
        let mut waiting = deadline.is_some();
        let mut events = 0_usize;
        while !staging.is_complete() || self.is_nothing_for_something(staging) {
            let old = self.restore.as_ref().and_then(Restore::due);
            tokio::select! {
                // Unbiased: neither a flood of events nor the deadline may starve the other.
                event = feed.events.next() => {
                    let Some(event) = event else { return std::future::pending().await };
                    self.take_in(event, staging, status);
                    status.flush(staging);
                    if let Some(restore) = self.restore.as_mut().filter(|_| status.is_failing()) {
                        restore.hurry();
                    }
                    events += 1;
                    if events.is_multiple_of(BATCH) {
                        tokio::task::yield_now().await;
                    }
                }
                () = tokio::time::sleep_until(old.unwrap_or_else(Instant::now)), if old.is_some() => {
                    if let Some(restore) = &mut self.restore
                        && let Some(uid) = restore.serve(&self.seat, status).await
                    {
                        // D35: another cluster that answers later is told of.
                        let _ = self.identities.check(&self.context.cluster, &uid);
                    }
                }
                () = tokio::time::sleep_until(deadline.unwrap_or_else(Instant::now)), if waiting => {
                    waiting = false;
                    Counts::add(&self.counts.sync_timeouts, 1);
                    status.timed_out();
                }
            }
        }
        // From here on a wait at the gate is over, whatever happens to this generation.
        self.timeout = None;
    }

    /// K-31: new credentials that show an API server without a single Service do not replace ones that serve.
    /// Every real one has at least its own.
    fn is_nothing_for_something(&self, staging: &Staging) -> bool {
        let nothing = self.guard == Guard::On && self.predecessor.is_some() && staging.is_void();
        let refused = nothing && self.registry.endpoints_of(&self.context.cluster) > 0;
        if refused && !self.serving.load(Ordering::Acquire) {
            let text = "they show a cluster without Services; not in use, the old ones stay";
            self.problems.set(rotation_subject(&self.context.cluster), text);
        }
        refused && !self.serving.load(Ordering::Acquire)
    }

    /// Waits for the writer: the generation before this one gives it up when it is stopped.
    async fn take_over(&self) -> OwnedMutexGuard<Option<ClusterWriter>> {
        if let Some(predecessor) = &self.predecessor {
            predecessor.cancel();
        }
        Arc::clone(&self.seat).lock_owned().await
    }

    /// Publishes what happens, batch by batch, until everything is to be listed anew.
    async fn follow(
        &mut self,
        gathered: &mut Gathered,
        status: &mut Status,
        writer: &mut ClusterWriter,
    ) -> Again {
        let Gathered { plan, feed, staging } = gathered;
        let mut status_due: Option<Instant> = None;
        let mut replan_due: Option<Instant> = None;
        let mut holds = Holds::default();
        let mut age = Age::new(self.options.borrow().stale);
        loop {
            let now = Instant::now();
            age.observe(status.stale_since(), now);
            self.stand(age.standing(now), writer);
            let waits = staging.next_deadline().map(Instant::from_std);
            let due = [status_due, replan_due, waits, holds.due(), age.due().filter(|due| *due > now)];
            let due = due.into_iter().flatten().min();
            tokio::select! {
                // Unbiased: a flood of events must not hold back the rest for ever.
                event = feed.events.next() => {
                    let Some(event) = event else { return std::future::pending().await };
                    if self.take_in_batch(event, feed, staging, status) && !self.is_still_itself().await {
                        return Again::OtherCluster;
                    }
                    if self.identities.check(&self.context.cluster, &staging.uid()) == Verdict::Other {
                        return Again::OtherCluster;
                    }
                    publish(staging.take(), writer);
                    holds.update(&staging.held_back(), &self.context.cluster, &self.problems, Instant::now());
                    status.holds(staging.held_back().len());
                    status.flush_health();
                    status_due.get_or_insert_with(|| Instant::now() + STATUS_DELAY);
                    if replan_due.is_none() && self.plan(Some(staging)) != *plan {
                        replan_due = Some(Instant::now() + REPLAN_DELAY);
                    }
                    tokio::task::yield_now().await;
                }
                changed = self.options.changed() => {
                    if changed.is_err() {
                        return std::future::pending().await; // The set is gone: so are we, at once.
                    }
                    age.set_policy(self.options.borrow_and_update().stale);
                    self.configure(staging);
                    publish(staging.take(), writer);
                    replan_due = Some(Instant::now());
                }
                () = tokio::time::sleep_until(due.unwrap_or(now)), if due.is_some() => {
                    let now = Instant::now();
                    if status_due.is_some_and(|due| due <= now) {
                        status_due = None;
                        status.credentials(self.feeds.expires());
                        status.flush(staging);
                    }
                    staging.advance(now.into_std());
                    publish(staging.take(), writer);
                    for kind in holds.ripe(now) {
                        staging.confirm(kind);
                        (feed.relist)(kind);
                    }
                    if replan_due.is_some_and(|due| due <= now) {
                        replan_due = None;
                        if self.plan(Some(staging)) != *plan {
                            return Again::OtherPlan;
                        }
                    }
                }
            }
        }
    }

    /// Takes in what has arrived, up to one turn's worth. Says whether a list was completed.
    fn take_in_batch(
        &self,
        first: Arrival,
        feed: &mut Feed,
        staging: &mut Staging,
        status: &mut Status,
    ) -> bool {
        let mut listed = ends_list(&first.event);
        self.take_in(first, staging, status);
        for _ in 1..BATCH {
            // Without the runtime's own budget, which would cut a turn short: the turn is ours to bound.
            let next = tokio::task::unconstrained(feed.events.next()).now_or_never();
            let Some(Some(event)) = next else { break };
            listed |= ends_list(&event.event);
            self.take_in(event, staging, status);
        }
        listed
    }

    /// K-20: a list that came after a break may be another cluster's. Asked before anything of it is published;
    /// where the answer cannot be had, the list counts.
    async fn is_still_itself(&self) -> bool {
        if self.identities.pin(&self.context.cluster).is_empty() {
            return true;
        }
        for _ in 0..UID_ATTEMPTS {
            match tokio::time::timeout(UID_TIMEOUT, self.feeds.uid()).await {
                Ok(Ok(uid)) => return self.identities.check(&self.context.cluster, &uid) != Verdict::Other,
                Ok(Err(Unknown::Untold)) => return true,
                Ok(Err(Unknown::Unreachable)) | Err(_) => tokio::time::sleep(UID_TIMEOUT / 5).await,
            }
        }
        true
    }

    /// D35: what the endpoints are worth, by the age of the data.
    fn stand(&self, standing: Standing, writer: &mut ClusterWriter) {
        if !writer.set_standing(standing) {
            return;
        }
        if standing != Standing::Regular {
            Counts::add(&self.counts.stale_actions, 1);
        }
        tracing::warn!(cluster = %self.context.cluster, ?standing, "what its endpoints are worth has changed");
        self.registry.clusters().update(&self.context.cluster, |row| row.standing = standing);
    }

    fn take_in(&self, arrival: Arrival, staging: &mut Staging, status: &mut Status) {
        let Arrival { scope, event } = arrival;
        let refused = match &event {
            StagedEvent::Namespace(event) => self.observe(ObjectKind::Namespace, event, status),
            StagedEvent::Node(event) => self.observe(ObjectKind::Node, event, status),
            StagedEvent::Pod(event) => self.observe(ObjectKind::Pod, event, status),
            StagedEvent::Service(event) => self.observe(ObjectKind::Service, event, status),
            StagedEvent::Slice(event) => self.observe(ObjectKind::EndpointSlice, event, status),
            StagedEvent::Export(event) => self.observe(ObjectKind::ServiceExport, event, status),
            StagedEvent::Import(event) => self.observe(ObjectKind::ServiceImport, event, status),
            StagedEvent::Gateway(event) => self.observe(ObjectKind::Gateway, event, status),
            StagedEvent::MeshNetworks(_) => None,
        };
        staging.advance(Instant::now().into_std());
        staging.apply_in(scope, event);
        if let Some(kind) = refused {
            staging.set_unavailable(kind);
        }
    }

    /// Says whether the kind is done without from now on (K-45).
    fn observe<T>(
        &self,
        kind: ObjectKind,
        event: &SourceEvent<T>,
        status: &mut Status,
    ) -> Option<ObjectKind> {
        match event {
            SourceEvent::Init => {}
            SourceEvent::Failed(failure) => {
                Counts::add(&self.counts.failures, 1);
                tracing::debug!(kind = kind.name(), failure = failure.text(), "watch failed");
                status.down(kind, failure);
                return (is_refusal(failure) && self.is_optional(kind)).then_some(kind);
            }
            SourceEvent::InitApply(_) | SourceEvent::InitDelete(_) => status.heard(kind),
            SourceEvent::InitDone { .. } => status.listed(kind),
            SourceEvent::Connected | SourceEvent::Idle => status.up(kind),
            SourceEvent::Apply(_) | SourceEvent::Delete { .. } => status.event(kind),
        }
        None
    }

    /// K-45: what a cluster is served without, if its API server will not show it.
    fn is_optional(&self, kind: ObjectKind) -> bool {
        match kind {
            ObjectKind::Service | ObjectKind::EndpointSlice => false,
            // Endpoints that are served are not given up for a view without pods.
            ObjectKind::Pod => {
                self.context.serve_without_pods
                    || self.options.borrow().serve_without_pods
                    || self.registry.endpoints_of(&self.context.cluster) == 0
            }
            _ => true,
        }
    }
}

/// Publishes what differs: where the cluster belongs before what runs in it (D15).
fn publish(batch: Batch, writer: &mut ClusterWriter) {
    if let Some(claim) = batch.networks {
        writer.claim_networks(claim);
    }
    if !batch.workloads.is_empty() || !batch.shards.is_empty() {
        writer.apply(batch.workloads, batch.shards);
    }
}

/// Whether a list of something that endpoints and gateways are made of is complete.
fn ends_list(event: &StagedEvent) -> bool {
    match event {
        StagedEvent::Namespace(event) => matches!(event, SourceEvent::InitDone { .. }),
        StagedEvent::Node(event) => matches!(event, SourceEvent::InitDone { .. }),
        StagedEvent::Pod(event) => matches!(event, SourceEvent::InitDone { .. }),
        StagedEvent::Service(event) => matches!(event, SourceEvent::InitDone { .. }),
        StagedEvent::Slice(event) => matches!(event, SourceEvent::InitDone { .. }),
        StagedEvent::Export(event) => matches!(event, SourceEvent::InitDone { .. }),
        StagedEvent::Import(event) => matches!(event, SourceEvent::InitDone { .. }),
        StagedEvent::Gateway(event) => matches!(event, SourceEvent::InitDone { .. }),
        StagedEvent::MeshNetworks(_) => false,
    }
}

fn is_refusal(failure: &Failure) -> bool {
    matches!(failure, Failure::Forbidden(_) | Failure::NotServed(_))
}
