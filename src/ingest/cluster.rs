//! One generation of one cluster: watches in, registry out.
//!
//! A generation first lists everything into private staging. Only then does it take the cluster's writer,
//! from the generation before it if there is one: the cluster appears, or is exchanged, in one step
//! (contract 2), and credentials that do not work never replace ones that do (K-30, K-31). It starts over in
//! the same way, with what it published still served, when another cluster answers in its place (K-20) or
//! when other namespaces are to be read.

mod age;
mod entry_problems;
mod feeds;
mod follow;
mod gather;
mod handover;
mod holds;
mod identity;
mod losses;
mod plan;
mod question;
mod restore;
mod stand_in;
mod status;
mod turn;

#[cfg(test)]
pub(super) mod fake;

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::FutureExt;
use futures::stream::{self, BoxStream, StreamExt};
use tokio::sync::{Mutex, OwnedMutexGuard, watch as signal};
use tokio::time::Instant;
use tokio_stream::wrappers::WatchStream;
use tokio_util::sync::CancellationToken;

pub(super) use age::Age;
use feeds::{Arrival, Feed};
pub(super) use feeds::{Feeds, KubeFeeds};
use follow::Live;
use gather::Gathering;
pub(super) use gather::tell_doubt;
pub(super) use holds::CONFIRM_AFTER;
pub(super) use identity::Identities;
use identity::Verdict;
use plan::Plan;
pub(super) use restore::Restore;
use stand_in::StandIn;
pub(super) use status::Errand;
use status::{Status, is_required};
pub(super) use turn::Turn;

use super::convert::{ClusterContext, GatewayOptions, TrustedNetworks};
use super::counts::Counts;
use super::entries::{EntryBoard, PATIENCE};
use super::networks::MeshFeed;
use super::objects::ObjectKind;
use super::options::ClusterOptions;
use super::problems::Problems;
use super::staging::{Batch, Guard, Scope, StagedEvent, Staging};
use super::watch::{Failure, SourceEvent};
use crate::model::{Moment, Name, Standing};
use crate::registry::{ClusterWriter, Registry};

/// Events taken in before anything is published, and before other clusters have their turn: bounds the time
/// that one flood can hold back a publish (K-44).
const BATCH: usize = 1024;
/// How much later than the events the table of clusters may be.
const STATUS_DELAY: Duration = Duration::from_secs(1);
/// Namespaces come and go in bursts: what is read is settled anew this much later.
const REPLAN_DELAY: Duration = Duration::from_secs(1);
/// How often credentials are looked at (K-18).
const CREDENTIALS_EVERY: Duration = Duration::from_secs(30);

/// The writer of a cluster, held by its serving generation.
pub(super) type Seat = Arc<Mutex<Option<ClusterWriter>>>;

/// The seat, taken.
type Place = OwnedMutexGuard<Option<ClusterWriter>>;

/// What a generation works with.
pub(super) struct Generation {
    pub(super) context: ClusterContext,
    pub(super) feeds: Arc<dyn Feeds>,
    /// The document `meshNetworks`.
    pub(super) mesh: MeshFeed,
    /// The ServiceEntries of the config cluster that select something.
    pub(super) entries: EntryBoard,
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
    /// The generation that serves meanwhile.
    pub(super) predecessor: Option<Predecessor>,
    /// What is served until this generation is ready, if snapshots are kept.
    pub(super) restore: Option<Restore>,
    /// Its turn to serve.
    pub(super) turn: Arc<Turn>,
}

/// A generation that serves while another one gets ready.
pub(super) struct Predecessor {
    /// Stops it.
    pub(super) cancel: CancellationToken,
    /// What it reads by, as long as it does.
    pub(super) feeds: Weak<dyn Feeds>,
}

/// One reading of a cluster: everything listed and watched as a plan says.
struct Reading {
    options: signal::Receiver<Arc<ClusterOptions>>,
    plan: Plan,
    feed: Feed,
    staging: Staging,
    status: Status,
}

/// What a batch of events had in it.
#[derive(Clone, Copy, Debug, Default)]
struct News {
    /// A list was completed.
    listed: bool,
    /// A namespace came, went or changed.
    namespaces: bool,
    /// When the first of it arrived.
    since: Option<std::time::Instant>,
}

impl Generation {
    /// Runs until cancelled. The data stays in the registry; whoever removes the cluster withdraws it.
    pub(super) async fn run(self, cancel: CancellationToken) {
        let _ = cancel.run_until_cancelled(Box::pin(self.serve())).await;
    }

    async fn serve(mut self) {
        if self.hand_over().await {
            return;
        }
        let errand = self.predecessor.as_ref().map(|_| Errand::Credentials);
        let status = Status::new(&self, errand, self.kinds());
        let restore = self.restore.take();
        let stand_in = match errand {
            Some(_) => StandIn::keeping(restore),
            None => StandIn::look(restore, &self, &status).await,
        };
        let (mut reading, stand_in) = self.gather(Gathering::first(&self, status, stand_in)).await;
        let (seat, restore) = stand_in.retire();
        let Some(mut seat) = self.take_over(&mut reading.status, seat).await else {
            return; // It was called off.
        };
        let Some(writer) = seat.as_mut() else {
            return; // The cluster is being removed.
        };
        restore.iter().for_each(Restore::synced);
        loop {
            writer.replace(reading.staging.state());
            // Afterwards: whoever writes both down reads who it is first.
            self.identify(&reading.staging.uid());
            self.export(&mut reading.staging);
            self.tell_entries(&mut reading.staging);
            reading.status.synced(&reading.staging);
            reading.status.credentials(self.feeds.credentials());
            let mut live = Live::new(&self, reading);
            reading = self.serve_on(&mut live, writer).await;
        }
    }

    /// Pins which cluster this is, and tells when it took another one's place.
    fn identify(&self, uid: &Name) {
        if self.identities.check(&self.context.cluster, uid) == Verdict::Other {
            self.identities.replace(&self.context.cluster, uid);
        }
        // One that does not say who it is, is whom it was.
        let uid = self.identities.pin(&self.context.cluster);
        self.registry.clusters().update(&self.context.cluster, |row| row.uid = uid);
    }

    fn plan(&self, options: &signal::Receiver<Arc<ClusterOptions>>, staging: Option<&Staging>) -> Plan {
        Counts::add(&self.counts.plans, 1);
        let namespaces = staging.into_iter().flat_map(Staging::namespaces);
        Plan::new(&options.borrow().selection, &self.system_namespace, namespaces)
    }

    /// What is read of this cluster.
    fn kinds(&self) -> Vec<ObjectKind> {
        let mut kinds = ObjectKind::BUILT_IN.to_vec();
        if self.context.mcs.reads_exports() {
            kinds.push(ObjectKind::ServiceExport);
        }
        if self.context.mcs.discovery {
            kinds.push(ObjectKind::ServiceImport);
        }
        if self.context.gateways.gateway_api {
            kinds.push(ObjectKind::Gateway);
        }
        let home = self.context.gateways.config_cluster;
        if home {
            kinds.push(ObjectKind::ServiceEntry);
        }
        if home || self.context.entries.cross_cluster {
            kinds.push(ObjectKind::WorkloadEntry);
        }
        kinds
    }

    /// Tells the other clusters which ServiceEntries select something (R5.37).
    fn tell_entries(&self, staging: &mut Staging) {
        if let Some(entries) = staging.selecting_entries().filter(|_| self.context.gateways.config_cluster) {
            self.entries.publish(entries);
        }
    }

    /// The ServiceEntries of the config cluster; after a while without any word of them, that nobody waits for them.
    fn entries(&self) -> BoxStream<'static, Arrival> {
        if self.context.gateways.config_cluster {
            return stream::empty().boxed();
        }
        let feed = self.entries.feed();
        let overdue = match *feed.borrow() {
            Some(_) => stream::empty().boxed(),
            None => stream::once(tokio::time::sleep(PATIENCE)).map(|()| None).boxed(),
        };
        let known = WatchStream::new(feed).filter_map(std::future::ready).map(Some);
        let all = stream::select(known, overdue);
        all.map(|entries| Arrival::now(None, StagedEvent::SelectingEntries(entries))).boxed()
    }

    /// The watches and the document `meshNetworks` as one stream, in the order of arrival.
    fn open(&self, plan: &Plan) -> Feed {
        let Feed { events, relist, counts } = self.feeds.open(plan, &self.kinds());
        let mesh = WatchStream::new(self.mesh.clone()).filter_map(std::future::ready);
        let mesh = mesh.map(|mesh| Arrival::now(None, StagedEvent::MeshNetworks(mesh)));
        let beside = stream::select(mesh, self.entries());
        Feed { events: stream::select(beside, events).boxed(), relist, counts }
    }

    fn staging(&self, plan: &Plan) -> Staging {
        let (context, counts) = (self.context.clone(), Arc::clone(&self.counts));
        let staging = Staging::new(context, self.system_namespace.clone(), counts);
        let mut staging = staging.guarded(self.guard);
        staging.await_mesh_networks();
        if !self.context.gateways.config_cluster {
            staging.await_entries();
        }
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
        let trust_domain = options.trust_domain.as_ref().unwrap_or(&self.context.trust_domain);
        let without_pods = self.context.serve_without_pods || options.serve_without_pods;
        staging.reconfigure(gateways, trust_domain, without_pods);
    }

    /// Takes the turn to serve, unless it was called off, and waits for the writer: the generation before this one
    /// gives it up when it is stopped.
    async fn take_over(&self, status: &mut Status, held: Option<Place>) -> Option<Place> {
        if !status.take_turn() {
            return None;
        }
        if let Some(predecessor) = &self.predecessor {
            predecessor.cancel.cancel();
        }
        Some(match held {
            Some(seat) => seat,
            None => Arc::clone(&self.seat).lock_owned().await,
        })
    }

    /// Takes in what has arrived, up to one turn's worth.
    fn take_in_batch(
        &self,
        first: Arrival,
        feed: &mut Feed,
        staging: &mut Staging,
        status: &mut Status,
    ) -> News {
        let mut news = News::default();
        news.note(&first);
        self.take_in(first, staging, status);
        for _ in 1..BATCH {
            // Without the runtime's own budget, which would cut a turn short: the turn is ours to bound.
            let next = tokio::task::unconstrained(feed.events.next()).now_or_never();
            let Some(Some(event)) = next else { break };
            news.note(&event);
            self.take_in(event, staging, status);
        }
        news
    }

    /// R4.40.
    fn export(&self, staging: &mut Staging) {
        let missing = staging.missing_exports();
        if !missing.is_empty() {
            self.feeds.export(missing);
        }
    }

    /// D35: what the endpoints are worth, by the age of the data.
    fn weigh(&self, age: &mut Age, stale_since: Option<Moment>, writer: &mut ClusterWriter, now: Instant) {
        age.observe(stale_since, now);
        let standing = age.standing(now);
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
        let Arrival { scope, event, .. } = arrival;
        let refused = match &event {
            StagedEvent::Namespace(event) => self.observe(ObjectKind::Namespace, &scope, event, status),
            StagedEvent::Node(event) => self.observe(ObjectKind::Node, &scope, event, status),
            StagedEvent::Pod(event) => self.observe(ObjectKind::Pod, &scope, event, status),
            StagedEvent::Service(event) => self.observe(ObjectKind::Service, &scope, event, status),
            StagedEvent::Slice(event) => self.observe(ObjectKind::EndpointSlice, &scope, event, status),
            StagedEvent::Export(event) => self.observe(ObjectKind::ServiceExport, &scope, event, status),
            StagedEvent::Import(event) => self.observe(ObjectKind::ServiceImport, &scope, event, status),
            StagedEvent::Gateway(event) => self.observe(ObjectKind::Gateway, &scope, event, status),
            StagedEvent::ServiceEntry(event) => self.observe(ObjectKind::ServiceEntry, &scope, event, status),
            StagedEvent::WorkloadEntry(event) => {
                self.observe(ObjectKind::WorkloadEntry, &scope, event, status)
            }
            StagedEvent::MeshNetworks(_) | StagedEvent::SelectingEntries(_) => None,
        };
        staging.advance(Instant::now().into_std());
        staging.apply_in(scope.clone(), event);
        if let Some(kind) = refused {
            staging.set_unavailable(kind, &scope);
        }
    }

    /// Says whether this part of the kind is done without from now on (K-45).
    fn observe<T>(
        &self,
        kind: ObjectKind,
        scope: &Scope,
        event: &SourceEvent<T>,
        status: &mut Status,
    ) -> Option<ObjectKind> {
        match event {
            SourceEvent::Init => {}
            SourceEvent::Failed(failure) => {
                Counts::add(&self.counts.failures, 1);
                tracing::debug!(kind = kind.name(), failure = failure.text(), "watch failed");
                status.down(kind, scope, failure);
                return (is_refusal(failure) && !is_required(kind)).then_some(kind);
            }
            SourceEvent::InitApply(_) | SourceEvent::InitDelete(_) => status.heard(kind, scope),
            SourceEvent::InitDone { .. } => status.listed(kind, scope),
            SourceEvent::Connected | SourceEvent::Idle => status.up(kind, scope),
            SourceEvent::Apply(_) | SourceEvent::Delete { .. } => status.event(kind, scope),
        }
        None
    }
}

/// Publishes what differs, in one note (K-47): what events tell that arrived from `since` on.
fn publish(batch: Batch, since: Option<std::time::Instant>, writer: &mut ClusterWriter) {
    if !batch.is_empty() {
        writer.publish_since(since, batch.networks, batch.workloads, batch.shards);
    }
}

impl News {
    fn note(&mut self, arrival: &Arrival) {
        let event = &arrival.event;
        self.since = Some(self.since.map_or(arrival.at, |since| since.min(arrival.at)));
        self.listed |= ends_list(event);
        self.namespaces |= match event {
            StagedEvent::Namespace(event) => matches!(
                event,
                SourceEvent::InitDone { .. } | SourceEvent::Apply(_) | SourceEvent::Delete { .. }
            ),
            _ => false,
        };
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
        StagedEvent::ServiceEntry(event) => matches!(event, SourceEvent::InitDone { .. }),
        StagedEvent::WorkloadEntry(event) => matches!(event, SourceEvent::InitDone { .. }),
        StagedEvent::MeshNetworks(_) | StagedEvent::SelectingEntries(_) => false,
    }
}

fn is_refusal(failure: &Failure) -> bool {
    matches!(failure, Failure::Forbidden(_) | Failure::NotServed(_))
}
