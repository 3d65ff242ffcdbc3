//! One generation of one cluster: watches in, registry out.
//!
//! A generation first lists everything into private staging. Only then does it take the cluster's writer,
//! from the generation before it if there is one: the cluster appears, or is exchanged, in one step
//! (contract 2), and credentials that do not work never replace ones that do (K-30, K-31).

mod status;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::stream::{BoxStream, SelectAll, StreamExt};
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::Instant;
use tokio_stream::wrappers::WatchStream;
use tokio_util::sync::CancellationToken;

use status::Status;
pub(super) use status::rotation_subject;

use super::client::{ApiServer, Exchange};
use super::convert::ClusterContext;
use super::counts::Counts;
use super::networks::MeshFeed;
use super::objects::{Object, ObjectKind};
use super::problems::Problems;
use super::staging::{Batch, StagedEvent, Staging};
use super::watch::{Failure, KubeSource, ObjectSource, Source, SourceEvent, SourceLimits};
use crate::model::Name;
use crate::registry::{ClusterWriter, Registry};

/// Events taken in before anything is published: bounds the time that one flood can hold back a publish.
const BATCH: usize = 2048;
/// Kinds that are watched.
const SOURCES: usize = 5;
/// How much later than the events the table of clusters may be.
const STATUS_DELAY: Duration = Duration::from_secs(1);

/// The writer of a cluster, held by its serving generation.
pub(super) type Seat = Arc<Mutex<Option<ClusterWriter>>>;

/// What a generation works with.
pub(super) struct Generation {
    pub(super) context: ClusterContext,
    pub(super) server: Arc<ApiServer>,
    pub(super) mesh: MeshFeed,
    pub(super) system_namespace: Name,
    pub(super) limits: Arc<SourceLimits>,
    /// When to stop waiting for it at the start gate (R1.17).
    pub(super) timeout: Option<Duration>,
    pub(super) registry: Arc<Registry>,
    pub(super) counts: Arc<Counts>,
    pub(super) problems: Arc<Problems>,
    pub(super) seat: Seat,
    /// The generation that serves meanwhile; stopped once this one is ready.
    pub(super) predecessor: Option<CancellationToken>,
    /// Set once this generation serves.
    pub(super) serving: Arc<AtomicBool>,
}

impl Generation {
    /// Runs until cancelled. The data stays in the registry; whoever removes the cluster withdraws it.
    pub(super) async fn run(self, cancel: CancellationToken) {
        let _ = cancel.run_until_cancelled(self.serve()).await;
    }

    async fn serve(self) {
        let mut status = Status::new(
            Arc::clone(&self.registry),
            Arc::clone(&self.problems),
            self.context.cluster.clone(),
            self.predecessor.is_some(),
        );
        let mut events = self.events();
        let mut staging =
            Staging::new(self.context.clone(), self.system_namespace.clone(), Arc::clone(&self.counts));
        staging.await_mesh_networks();
        self.sync(&mut events, &mut staging, &mut status).await;
        let mut seat = self.take_over().await;
        let Some(writer) = seat.as_mut() else {
            return; // The cluster is being removed.
        };
        writer.replace(staging.state());
        self.serving.store(true, Ordering::Release);
        status.synced(&staging);
        self.follow(&mut events, &mut staging, &mut status, writer).await;
    }

    /// The watches and the document `meshNetworks` as one stream, in the order of arrival.
    fn events(&self) -> SelectAll<BoxStream<'static, StagedEvent>> {
        let exchange = Arc::clone(&self.server) as Arc<dyn Exchange>;
        let source = KubeSource::new(exchange, Arc::clone(&self.limits));
        let pods = source.clone().with_fields("status.phase!=Failed");
        let mut all = SelectAll::new();
        all.push(events(source.clone(), StagedEvent::Namespace));
        all.push(events(source.clone(), StagedEvent::Node));
        all.push(events(pods, StagedEvent::Pod));
        all.push(events(source.clone(), StagedEvent::Service));
        if self.context.mcs.discovery {
            all.push(events(source.clone(), StagedEvent::Export));
            all.push(events(source.clone(), StagedEvent::Import));
        }
        if self.context.gateways.gateway_api {
            all.push(events(source.clone(), StagedEvent::Gateway));
        }
        all.push(events(source, StagedEvent::Slice));
        let mesh = WatchStream::new(self.mesh.clone()).filter_map(std::future::ready);
        all.push(mesh.map(StagedEvent::MeshNetworks).boxed());
        all
    }

    /// Until every initial list is complete. Nothing is published.
    async fn sync(
        &self,
        events: &mut SelectAll<BoxStream<'static, StagedEvent>>,
        staging: &mut Staging,
        status: &mut Status,
    ) {
        let deadline = self.timeout.map(|timeout| Instant::now() + timeout);
        let mut waiting = deadline.is_some();
        while !staging.is_complete() {
            tokio::select! {
                // Unbiased: neither a flood of events nor the deadline may starve the other.
                event = events.next() => {
                    let Some(event) = event else { return std::future::pending().await };
                    self.take_in(event, staging, status);
                    status.flush(staging);
                }
                () = tokio::time::sleep_until(deadline.unwrap_or_else(Instant::now)), if waiting => {
                    waiting = false;
                    Counts::add(&self.counts.sync_timeouts, 1);
                    status.timed_out();
                }
            }
        }
    }

    /// Waits for the writer: the generation before this one gives it up when it is stopped.
    async fn take_over(&self) -> OwnedMutexGuard<Option<ClusterWriter>> {
        if let Some(predecessor) = &self.predecessor {
            predecessor.cancel();
        }
        Arc::clone(&self.seat).lock_owned().await
    }

    /// Publishes what happens, batch by batch.
    async fn follow(
        &self,
        events: &mut SelectAll<BoxStream<'static, StagedEvent>>,
        staging: &mut Staging,
        status: &mut Status,
        writer: &mut ClusterWriter,
    ) {
        let mut status_due: Option<Instant> = None;
        loop {
            let deadline = staging.next_deadline().map(Instant::from_std);
            tokio::select! {
                // Unbiased: a flood of events must not hold back the table for ever.
                event = events.next() => {
                    let Some(event) = event else { return std::future::pending().await };
                    self.take_in(event, staging, status);
                    for _ in 1..BATCH {
                        let Some(Some(event)) = events.next().now_or_never() else { break };
                        self.take_in(event, staging, status);
                    }
                    publish(staging.take(), writer);
                    status.flush_health();
                    status_due.get_or_insert_with(|| Instant::now() + STATUS_DELAY);
                }
                () = tokio::time::sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                    staging.advance(Instant::now().into_std());
                    publish(staging.take(), writer);
                }
                () = tokio::time::sleep_until(status_due.unwrap_or_else(Instant::now)),
                    if status_due.is_some() =>
                {
                    status_due = None;
                    status.flush(staging);
                }
            }
        }
    }

    fn take_in(&self, event: StagedEvent, staging: &mut Staging, status: &mut Status) {
        match &event {
            StagedEvent::Namespace(event) => self.observe(ObjectKind::Namespace, event, status),
            StagedEvent::Node(event) => self.observe(ObjectKind::Node, event, status),
            StagedEvent::Pod(event) => self.observe(ObjectKind::Pod, event, status),
            StagedEvent::Service(event) => self.observe(ObjectKind::Service, event, status),
            StagedEvent::Slice(event) => self.observe(ObjectKind::EndpointSlice, event, status),
            StagedEvent::Export(event) => self.observe(ObjectKind::ServiceExport, event, status),
            StagedEvent::Import(event) => self.observe(ObjectKind::ServiceImport, event, status),
            StagedEvent::Gateway(event) => self.observe(ObjectKind::Gateway, event, status),
            StagedEvent::MeshNetworks(_) => {}
        }
        staging.advance(Instant::now().into_std());
        staging.apply(event);
    }

    fn observe<T>(&self, kind: ObjectKind, event: &SourceEvent<T>, status: &mut Status) {
        match event {
            SourceEvent::Init => {}
            // The kind is optional.
            SourceEvent::Failed(Failure::NotServed(_)) if kind == ObjectKind::Gateway => status.up(kind),
            SourceEvent::Failed(failure) => {
                Counts::add(&self.counts.failures, 1);
                tracing::debug!(kind = kind.name(), failure = failure.text(), "watch failed");
                status.down(kind, failure);
            }
            // A complete list is not yet a watch.
            SourceEvent::InitApply(_) | SourceEvent::InitDone { .. } => status.contact(),
            SourceEvent::Connected
            | SourceEvent::Idle
            | SourceEvent::Apply(_)
            | SourceEvent::Delete { .. } => status.up(kind),
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

/// The events of one kind.
fn events<T: Object>(
    source: KubeSource,
    staged: fn(SourceEvent<T>) -> StagedEvent,
) -> BoxStream<'static, StagedEvent> {
    let Source { events, .. } = source.start();
    events.map(staged).boxed()
}

impl Failure {
    fn is_unauthorized(&self) -> bool {
        matches!(self, Self::Unauthorized(_) | Self::Forbidden(_))
    }
}
