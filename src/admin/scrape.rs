//! `/metrics`: pulls current values and writes them.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header;

use super::{Shared, Sources};
use crate::ingest::{Counts, EventKind, ObjectKind};
use crate::model::{ClusterHealth, ClusterRole};
use crate::telemetry::{IngestValues, Refresh};

/// The metrics in the Prometheus text format.
pub(super) async fn metrics(State(sources): Shared) -> Response {
    let text = sources.metrics.render(|refresh| pull(&sources, refresh));
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}

pub(super) fn pull(sources: &Sources, refresh: &Refresh<'_>) {
    refresh.process(env!("CARGO_PKG_VERSION"), sources.started.elapsed().as_secs_f64());
    refresh.xds(&sources.xds.sample());
    let streams = sources.xds.streams();
    refresh.proxies(streams.iter().map(|stream| stream.node.version.as_str()));
    pull_registry(sources, refresh);
    pull_clusters(sources, refresh);
    if let Some(counts) = &sources.ingest {
        pull_ingest(counts, refresh);
    }
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn pull_registry(sources: &Sources, refresh: &Refresh<'_>) {
    let registry = &sources.registry;
    let services = registry.services();
    let present = services.iter().filter(|cell| cell.load().service.is_some()).count();
    let counts = registry.counts();
    refresh.registry(present, read(&counts.publishes), read(&counts.unchanged));
}

fn pull_clusters(sources: &Sources, refresh: &Refresh<'_>) {
    let clusters = sources.registry.clusters().all();
    let local = clusters.iter().filter(|cluster| cluster.role == ClusterRole::Config).count();
    let pending = clusters.iter().map(|cluster| cluster.pending_pods).sum();
    refresh.clusters(local, clusters.len() - local, pending);
    for cluster in &clusters {
        let remote = cluster.role == ClusterRole::Remote;
        let live = cluster.health == ClusterHealth::Live;
        refresh.cluster(&cluster.id, remote, cluster.sync_status(), live);
    }
}

fn pull_ingest(counts: &Counts, refresh: &Refresh<'_>) {
    refresh.ingest(IngestValues {
        conversions: read(&counts.conversions),
        pod_conversions: read(&counts.pod_conversions),
        quarantined: read(&counts.quarantined),
        lists: read(&counts.lists),
        failures: read(&counts.failures),
        sync_timeouts: read(&counts.sync_timeouts),
    });
    for object in ObjectKind::ALL {
        for event in EventKind::ALL {
            refresh.event(label(object), event.label(), counts.events(object, event));
        }
    }
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
    }
}
