//! `/debug/services`: every service over all clusters, and where the clusters disagree about it.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::response::Response;
use serde_json::{Value, json};

use crate::admin::query::Query;
use crate::admin::reply::{self, Refusal};
use crate::admin::{Shared, Sources};
use crate::model::{EndpointShard, Health, Resolution, Service, ServiceKey};
use crate::registry::{ServiceSnapshot, conflicts};

const KNOWN: [&str; 3] = ["namespace", "cluster", "conflicts"];

/// The services, by namespace and name. `?namespace=` and `?cluster=` restrict, `?conflicts` shows those that
/// clusters disagree about only. Cost ∝ all services.
pub(in crate::admin) async fn services(State(sources): Shared, query: Query) -> Result<Response, Refusal> {
    query.only(&KNOWN)?;
    let mut rows = Vec::new();
    for cell in sources.registry.services() {
        let snapshot = cell.load();
        if let Some(row) = row(cell.key(), &snapshot).filter(|row| wanted(row, cell.key(), &snapshot, &query))
        {
            rows.push(row);
        }
    }
    unknown_cluster(&sources, &query)?;
    Ok(reply::json(&query, &json!({"services": rows})))
}

fn unknown_cluster(sources: &Sources, query: &Query) -> Result<(), Refusal> {
    let Some(wanted) = query.get("cluster") else {
        return Ok(());
    };
    let known: Vec<_> = sources.registry.clusters().all().into_iter().map(|row| row.id.to_string()).collect();
    if known.iter().any(|id| id == wanted) {
        return Ok(());
    }
    Err(Refusal::unknown(format!("no cluster {wanted:?}; there are {}", known.join(", "))))
}

fn wanted(row: &Value, key: &ServiceKey, snapshot: &ServiceSnapshot, query: &Query) -> bool {
    let in_namespace = query.get("namespace").is_none_or(|wanted| *key.namespace == *wanted);
    let in_cluster = query
        .get("cluster")
        .is_none_or(|wanted| snapshot.shards.iter().any(|shard| *shard.cluster == *wanted));
    let conflicting =
        !query.is_on("conflicts") || row["conflicts"].as_array().is_some_and(|all| !all.is_empty());
    in_namespace && in_cluster && conflicting
}

/// `None` for what no cluster has any more.
fn row(key: &ServiceKey, snapshot: &ServiceSnapshot) -> Option<Value> {
    if snapshot.shards.is_empty() {
        return None;
    }
    let clusters: BTreeMap<_, _> =
        snapshot.shards.iter().map(|shard| (shard.cluster.to_string(), cluster(shard))).collect();
    let conflicts: Vec<_> = conflicts(snapshot).iter().map(ToString::to_string).collect();
    Some(json!({
        "namespace": key.namespace, "name": name(key), "hostname": key.hostname,
        "ports": snapshot.service.as_deref().map(ports).unwrap_or_default(),
        "resolution": snapshot.service.as_deref().map(resolution).unwrap_or("no-service"),
        "clusters": clusters, "conflicts": conflicts, "version": snapshot.version,
    }))
}

/// The first label of the host name: the name of the Kubernetes Service.
fn name(key: &ServiceKey) -> &str {
    key.hostname.split('.').next().unwrap_or(&key.hostname)
}

fn ports(service: &Service) -> Vec<Value> {
    let port = |port: &crate::model::ServicePort| json!({"number": port.number, "name": port.name, "transport": port.transport, "protocol": port.protocol});
    service.ports.iter().map(port).collect()
}

fn resolution(service: &Service) -> &'static str {
    match service.resolution {
        Resolution::ClientSide => "vip",
        Resolution::Passthrough => "headless",
        Resolution::Alias(_) => "alias",
        Resolution::Dns => "dns",
        Resolution::DnsRoundRobin => "dns-round-robin",
    }
}

fn cluster(shard: &EndpointShard) -> Value {
    let ready = shard.endpoints.iter().filter(|endpoint| endpoint.health == Health::Healthy).count();
    json!({
        "endpoints": shard.endpoints.len(), "ready": ready,
        "ports": shard.service.as_deref().map(ports),
    })
}
