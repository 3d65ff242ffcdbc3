//! The xDS server as the façade and the admin pages use it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::admin::XdsStatus;
use crate::telemetry::{CacheRow, XdsSample};
use crate::xds::resource::ResourceType;
use crate::xds::status::{ChainCollision, StreamStatus};
use crate::xds::{CacheValues, Listener, XdsServer};

/// What is kept one by one, as long as there is room.
const CELLS: [ResourceType; 2] = [ResourceType::Endpoint, ResourceType::Route];
/// What is kept in lists.
const LISTS: [ResourceType; 2] = [ResourceType::Cluster, ResourceType::Listener];

/// Serves on `listeners`, or without one only waits, until `stop`.
pub(super) async fn until(
    server: Arc<XdsServer>,
    listeners: Vec<Listener>,
    ready: watch::Receiver<bool>,
    stop: CancellationToken,
) {
    if listeners.is_empty() {
        stop.cancelled().await;
    } else {
        server.serve(listeners, ready, stop).await;
    }
}

/// What the admin pages read of the server.
pub(super) struct Status(pub(super) Arc<XdsServer>);

impl Status {
    fn cache_row(&self, kind: ResourceType) -> CacheRow {
        let CacheValues { hits, misses, evictions, bytes, entries } = self.0.cached(kind);
        CacheRow { kind: kind.short(), hits, misses, evictions, bytes, entries }
    }
}

impl XdsStatus for Status {
    fn streams(&self) -> Vec<StreamStatus> {
        self.0.streams()
    }

    fn chain_collisions(&self) -> Vec<ChainCollision> {
        self.0.chain_collisions()
    }

    fn sample(&self) -> XdsSample {
        let counts = self.0.counts();
        let by_type = |get: &dyn Fn(ResourceType) -> u64| {
            let rows = ResourceType::ALL.into_iter();
            rows.map(|kind| (kind.short(), get(kind))).collect()
        };
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        XdsSample {
            pushes: by_type(&|kind| counts.responses.get(kind)),
            rejects: by_type(&|kind| counts.rejects.get(kind)),
            expired_nonces: by_type(&|kind| counts.expired_nonces.get(kind)),
            bytes: by_type(&|kind| counts.bytes.get(kind)),
            largest: by_type(&|kind| counts.largest.get(kind)),
            builds: vec![
                ("assignment", read(&counts.assignment_builds)),
                ("service", read(&counts.service_builds)),
                ("list", read(&counts.list_builds)),
                ("route", read(&counts.route_builds)),
            ],
            unchanged_builds: read(&counts.unchanged_builds),
            decided: counts.decided.all().map(|(decision, count)| (decision.code(), count)).collect(),
            triggers: counts.triggers.all().to_vec(),
            rounds: read(&counts.rounds),
            memory_limit: self.0.settings().limits.memory.unwrap_or(0),
            wakeups: read(&counts.wakeups),
            unknown_destinations: read(&counts.unknown_destinations),
            gateway_conflicts: read(&counts.gateway_conflicts),
            chain_conflicts: read(&counts.chain_conflicts),
            secrets_withheld: read(&counts.secrets_withheld),
            refused_streams: read(&counts.refused_streams),
            connections: counts.connections.all().to_vec(),
            write_timeouts: read(&counts.connections.stuck),
            largest_request: read(&counts.largest_request),
            internal_errors: read(&counts.internal_errors),
            without_endpoints: counts.decided.empty(),
            cache: CELLS.map(|kind| self.cache_row(kind)).to_vec(),
            lists: LISTS.map(|kind| self.cache_row(kind)).to_vec(),
        }
    }
}
