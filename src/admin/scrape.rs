//! `/metrics`: pulls current values and writes them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header;

use super::{Shared, Sources};
use crate::ingest::{Counts, EventKind, ObjectKind, Policies};
use crate::lifecycle;
use crate::model::{ClusterHealth, ClusterRole, ClusterStatus, Moment, SourceStatus};
use crate::telemetry::{ClusterValues, IngestValues, Refresh, SourceValues};

/// The metrics in the Prometheus text format.
pub(super) async fn metrics(State(sources): Shared) -> Response {
    let text = sources.metrics.render(|refresh| pull(&sources, refresh));
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}

pub(super) fn pull(sources: &Sources, refresh: &Refresh<'_>) {
    // 0 where the system does not tell.
    let resident = lifecycle::memory::resident().unwrap_or(0);
    refresh.process(env!("CARGO_PKG_VERSION"), sources.started.elapsed().as_secs_f64(), resident);
    refresh.xds(&sources.xds.sample());
    let streams = sources.xds.streams();
    refresh.proxies(streams.iter().map(|stream| stream.node.version.as_str()));
    pull_registry(sources, refresh);
    pull_clusters(sources, refresh);
    if let Some(names) = &sources.gateway_names {
        let names = names.all();
        let failing = names.iter().filter(|name| name.last_error.is_some()).count();
        let ages = names.iter().filter_map(|name| Some((&*name.host, name.age?)));
        refresh.gateway_dns(ages, failing);
    }
    if let Some(counts) = &sources.ingest {
        pull_ingest(counts, refresh);
    }
    if let Some(policies) = &sources.policies {
        pull_policies(policies, refresh);
    }
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn pull_registry(sources: &Sources, refresh: &Refresh<'_>) {
    let counts = sources.registry.counts();
    refresh.registry(read(&counts.services), read(&counts.publishes), read(&counts.unchanged));
    refresh.conflicts(read(&counts.conflicts));
}

fn pull_clusters(sources: &Sources, refresh: &Refresh<'_>) {
    let now = Moment::now();
    let clusters = sources.registry.clusters().all();
    let local = clusters.iter().filter(|cluster| cluster.role == ClusterRole::Config).count();
    let pending = clusters.iter().map(|cluster| cluster.pending_pods).sum();
    refresh.clusters(local, clusters.len() - local, pending);
    for cluster in &clusters {
        refresh.cluster(&cluster.id, &cluster_values(cluster, now));
        for (kind, source) in &cluster.sources {
            refresh.source(&cluster.id, kind, &source_values(source, now));
        }
    }
}

fn cluster_values(cluster: &ClusterStatus, now: Moment) -> ClusterValues {
    let pauses = cluster.sources.values().filter_map(|source| source.counters.retry_after);
    ClusterValues {
        remote: cluster.role == ClusterRole::Remote,
        sync_status: cluster.sync_status(),
        sync_timeouts: cluster.sync_timeouts,
        live: matches!(cluster.health, ClusterHealth::Live | ClusterHealth::Degraded(_)),
        stale: cluster.stale_since().map(|since| since.age(now)).unwrap_or_default(),
        quarantined: cluster.quarantined_objects,
        mass_delete_holds: cluster.holds(),
        retry_after: pauses.max().unwrap_or_default(),
        credentials: cluster.credentials.expiry(SystemTime::now()).name(),
        credentials_expire: cluster.credentials.until().map(seconds_until),
        credentials_problem: cluster.credentials.problem.is_some(),
        memory: cluster.memory,
        objects: cluster.objects.iter().map(|(kind, count)| (*kind, *count)).collect(),
    }
}

/// Negative when it is over.
fn seconds_until(time: SystemTime) -> f64 {
    match time.duration_since(SystemTime::now()) {
        Ok(left) => left.as_secs_f64(),
        Err(over) => -over.duration().as_secs_f64(),
    }
}

fn source_values(source: &SourceStatus, now: Moment) -> SourceValues<'_> {
    SourceValues {
        state: source.state.word(),
        last_event: source.last_event.map(|at| at.age(now)),
        last_contact: source.last_contact.map(|at| at.age(now)),
        lists: &source.counters.lists,
        regressions: source.counters.regressions,
        bytes: source.counters.bytes,
        failures: source.counters.failures,
    }
}

fn pull_ingest(counts: &Counts, refresh: &Refresh<'_>) {
    refresh.ingest(&IngestValues {
        conversions: read(&counts.conversions),
        pod_conversions: read(&counts.pod_conversions),
        unreadable: read(&counts.quarantined),
        lists: read(&counts.lists),
        failures: read(&counts.failures),
        endpoints_without_pods: read(&counts.endpoints_without_pods),
        secret_events: vec![
            ("add", read(&counts.clusters_added)),
            ("update", read(&counts.clusters_changed)),
            ("delete", read(&counts.clusters_removed)),
        ],
    });
    let events = |kind, events: &[EventKind]| events.iter().map(|event| counts.events(kind, *event)).sum();
    refresh.inbound_updates(&[
        ("eds", events(ObjectKind::EndpointSlice, &EventKind::ALL)),
        ("svc", events(ObjectKind::Service, &[EventKind::Add, EventKind::Update])),
        ("svcdelete", events(ObjectKind::Service, &[EventKind::Delete])),
    ]);
    for object in ObjectKind::ALL {
        for event in EventKind::ALL {
            refresh.event(label(object), event.label(), counts.events(object, event));
        }
    }
}

fn pull_policies(policies: &Policies, refresh: &Refresh<'_>) {
    for (kind, state, count) in policies.counts() {
        refresh.policies(kind.name(), state.label(), count);
    }
    let mut all = 0;
    for (kind, event, count) in policies.events() {
        refresh.policy_event(kind.name(), event.label(), count);
        all += count;
    }
    refresh.inbound_updates(&[("config", all)]);
    refresh.duplicate_subsets(policies.duplicate_subsets());
}

/// The peer's word for a kind of object.
fn label(object: ObjectKind) -> &'static str {
    match object {
        ObjectKind::Namespace => "Namespaces",
        ObjectKind::Node => "Nodes",
        ObjectKind::Pod => "Pods",
        ObjectKind::Service => "Services",
        ObjectKind::EndpointSlice => "EndpointSlice",
        ObjectKind::Gateway => "Gateways",
        ObjectKind::ConfigMap => "ConfigMaps",
        ObjectKind::ServiceExport => "ServiceExports",
        ObjectKind::ServiceImport => "ServiceImports",
        ObjectKind::ServiceEntry => "ServiceEntries",
        ObjectKind::WorkloadEntry => "WorkloadEntries",
    }
}
