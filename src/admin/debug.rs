//! The debug pages that istiod has too, in its shapes and spellings (control-plane-surface §8.1), and ours in full.

mod endpoints;
mod proxies;

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use serde_json::json;

use super::query::Query;
use super::{Shared, reply};
use crate::model::{ClusterRole, ClusterStatus};

pub(super) use endpoints::endpointz;
pub(super) use proxies::{proxies, syncz};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ClusterRow {
    id: String,
    secret_name: String,
    sync_status: &'static str,
}

/// Where a cluster's credentials come from, as istiod names it: `namespace/name` of the Secret or the path of
/// the file; empty for the local cluster.
fn secret_name(cluster: &ClusterStatus) -> String {
    if cluster.role == ClusterRole::Config {
        return String::new();
    }
    let source = cluster.source.as_str();
    let plain = ["secret ", "file "].iter().find_map(|word| source.strip_prefix(word));
    plain.unwrap_or(source).to_owned()
}

/// The clusters; the local one first.
pub(super) async fn clusterz(State(sources): Shared, query: Query) -> Response {
    let clusters = sources.registry.clusters().all();
    let rows: Vec<_> = clusters
        .iter()
        .map(|cluster| ClusterRow {
            id: cluster.id.to_string(),
            secret_name: secret_name(cluster),
            sync_status: cluster.sync_status(),
        })
        .collect();
    reply::json(&query, &rows)
}

/// The clusters in full, and problems.
pub(super) async fn clusters(State(sources): Shared, query: Query) -> Response {
    let rows: Vec<_> = sources
        .registry
        .clusters()
        .all()
        .iter()
        .map(|cluster| {
            json!({
                "id": cluster.id, "role": cluster.role, "source": cluster.source,
                "health": cluster.health.word(), "detail": detail(cluster), "since": seconds(cluster.since),
                "syncStatus": cluster.sync_status(), "network": cluster.network,
                "lastEvent": cluster.last_event.map(seconds), "objects": cluster.objects,
                "quarantined": cluster.quarantined, "pendingPods": cluster.pending_pods,
            })
        })
        .collect();
    let problems = sources.problems.as_ref().map(|list| list.all()).unwrap_or_default();
    reply::json(&query, &json!({"clusters": rows, "problems": problems}))
}

fn detail(cluster: &ClusterStatus) -> String {
    use crate::model::ClusterHealth::Stale;
    match &cluster.health {
        Stale { cause, .. } => cause.to_string(),
        _ => String::new(),
    }
}

/// A time as RFC 3339.
fn seconds(time: std::time::SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct GatewayRow {
    network: String,
    cluster: String,
    addr: String,
    port: u16,
    #[serde(rename = "HBONEPort")]
    hbone_port: u16,
    service_account: Account,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Account {
    namespace: &'static str,
    name: &'static str,
}

/// The gateways of every network.
pub(super) async fn networkz(State(sources): Shared, query: Query) -> Response {
    let networks = sources.registry.networks();
    let rows: Vec<_> = networks
        .gateways()
        .map(|gateway| GatewayRow {
            network: gateway.network.to_string(),
            cluster: gateway.cluster.to_string(),
            addr: gateway.address.to_string(),
            port: gateway.port,
            hbone_port: gateway.hbone_port,
            service_account: Account::default(),
        })
        .collect();
    reply::json(&query, &rows)
}
