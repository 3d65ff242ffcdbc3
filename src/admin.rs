//! HTTP for operators: health, metrics and the debug pages. Reads only; no secret ever passes here.

mod asked;
mod debug;
mod explain;
mod health;
mod index;
mod near;
mod query;
mod reply;
mod scrape;
mod view;

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::routing::get;

use crate::ingest;
use crate::lifecycle::Lifecycle;
use crate::model::Name;
use crate::registry::Registry;
use crate::telemetry::{Metrics, XdsSample};
use crate::view::MeshRules;
use crate::xds::status::{ChainCollision, StreamStatus};

/// The xDS server as these pages see it.
pub trait XdsStatus: Send + Sync {
    /// Every connected proxy.
    fn streams(&self) -> Vec<StreamStatus>;
    /// What is left out of the listeners of connected proxies because two services claim it.
    fn chain_collisions(&self) -> Vec<ChainCollision> {
        Vec::new()
    }
    /// Work done so far.
    fn sample(&self) -> XdsSample;
}

/// What the pages read.
pub struct Sources {
    /// Services, networks, clusters.
    pub registry: Arc<Registry>,
    /// Mesh-wide rules, for views.
    pub mesh: MeshRules,
    /// The DNS domain, to complete short host names.
    pub domain: Name,
    /// Counters of ingest, if this server reads clusters itself.
    pub ingest: Option<Arc<ingest::Counts>>,
    /// What operators have to look at besides the clusters.
    pub problems: Option<Arc<ingest::Problems>>,
    /// What DNS says of the host names of gateways.
    pub gateway_names: Option<Arc<ingest::GatewayNames>>,
    /// Policy objects and what is wrong with them.
    pub policies: Option<Arc<ingest::Policies>>,
    /// Connected proxies and work done for them.
    pub xds: Arc<dyn XdsStatus>,
    /// Whether the server starts, serves or ends.
    pub lifecycle: Lifecycle,
    /// Where values are shown.
    pub metrics: Arc<Metrics>,
    /// When the server started.
    pub started: Instant,
}

#[cfg(test)]
impl Sources {
    /// Of a server that is just starting and reads no clusters itself.
    pub(crate) fn just_begun(registry: Arc<Registry>, xds: Arc<dyn XdsStatus>) -> Self {
        let ready = tokio::sync::watch::Sender::new(false).subscribe();
        Self {
            registry,
            mesh: MeshRules::default(),
            domain: "cluster.local".into(),
            ingest: None,
            problems: None,
            gateway_names: None,
            policies: None,
            xds,
            lifecycle: Lifecycle::new(ready, tokio_util::sync::CancellationToken::new()),
            metrics: Arc::new(Metrics::new([])),
            started: Instant::now(),
        }
    }
}

impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sources").field("domain", &self.domain).finish_non_exhaustive()
    }
}

/// What handlers share.
type Shared = axum::extract::State<Arc<Sources>>;

/// The pages of `--http-addr`: readiness and debug.
pub fn http_pages(sources: Arc<Sources>) -> Router {
    debug_pages()
        .route("/ready", get(health::ready))
        .route("/healthz", get(health::alive))
        .with_state(sources)
}

/// The pages of `--monitoring-addr`: metrics and debug.
pub fn monitoring_pages(sources: Arc<Sources>) -> Router {
    debug_pages().route("/metrics", get(scrape::metrics)).with_state(sources)
}

fn debug_pages() -> Router<Arc<Sources>> {
    Router::new()
        .route("/", get(index::root))
        .route("/debug", get(index::page))
        .route("/debug/", get(index::page))
        .route("/debug/list", get(index::list))
        .route("/debug/clusterz", get(debug::clusterz))
        .route("/debug/endpointz", get(debug::endpointz))
        .route("/debug/endpointShardz", get(debug::endpointz))
        .route("/debug/networkz", get(debug::networkz))
        .route("/debug/syncz", get(debug::syncz))
        .route("/debug/clusters", get(debug::clusters))
        .route("/debug/services", get(debug::services))
        .route("/debug/gateways", get(debug::gateways))
        .route("/debug/policies", get(debug::policies))
        .route("/debug/proxies", get(debug::proxies))
        .route("/debug/view", get(view::page))
        .route("/debug/explain", get(explain::page))
        .route("/version", get(health::version))
        .fallback(index::not_found)
}

#[cfg(test)]
mod tests;
