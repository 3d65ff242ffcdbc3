//! `/debug/clusterz` and `/debug/clusters`: which clusters are read, how fresh each is, and why not more.

use std::collections::BTreeMap;
use std::time::SystemTime;

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use serde_json::{Value, json};

use super::{ago, seconds, time};
use crate::admin::query::Query;
use crate::admin::{Shared, reply};
use crate::model::{ClusterRole, ClusterStatus, Moment, SourceStatus};

/// The peer's fields first, then what it does not tell.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PeerRow {
    id: String,
    secret_name: String,
    sync_status: &'static str,
    health: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    detail: String,
    since: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_event: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_contact: Option<String>,
    objects: BTreeMap<&'static str, usize>,
    lists: BTreeMap<&'static str, u64>,
    quarantined_objects: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_bytes: Option<usize>,
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
pub(in crate::admin) async fn clusterz(State(sources): Shared, query: Query) -> Response {
    let clusters = sources.registry.clusters().all();
    let row = |cluster: &ClusterStatus| PeerRow {
        id: cluster.id.to_string(),
        secret_name: secret_name(cluster),
        sync_status: cluster.sync_status(),
        health: cluster.health.word(),
        detail: cluster.health.detail(),
        since: time(cluster.since),
        last_event: cluster.last_event().map(time),
        last_contact: cluster.last_contact().map(time),
        objects: cluster.objects.clone(),
        lists: lists(cluster),
        quarantined_objects: cluster.quarantined_objects,
        memory_bytes: cluster.memory,
    };
    reply::json(&query, &clusters.iter().map(row).collect::<Vec<_>>())
}

/// The clusters in full, and problems.
pub(in crate::admin) async fn clusters(State(sources): Shared, query: Query) -> Response {
    let now = Moment::now();
    let clusters = sources.registry.clusters().all();
    let rows: Vec<_> = clusters.iter().map(|cluster| full(cluster, now)).collect();
    let problems = sources.problems.as_ref().map(|list| list.all()).unwrap_or_default();
    reply::json(&query, &json!({"clusters": rows, "problems": problems}))
}

/// Complete lists of all kinds, by reason.
fn lists(cluster: &ClusterStatus) -> BTreeMap<&'static str, u64> {
    let mut lists = BTreeMap::new();
    for (reason, count) in cluster.sources.values().flat_map(|source| &source.counters.lists) {
        *lists.entry(*reason).or_default() += count;
    }
    lists
}

fn full(cluster: &ClusterStatus, now: Moment) -> Value {
    let relists = lists(cluster);
    let counters = || cluster.sources.values().map(|source| &source.counters);
    let retry_after = counters().filter_map(|counters| counters.retry_after).max();
    let snapshot = cluster.restored.as_ref().map(|restored| {
        json!({"file": restored.path, "confirmed": time(restored.confirmed),
            "ageSeconds": ago(restored.confirmed, now)})
    });
    let sources: Vec<_> = cluster.sources.iter().map(|(kind, status)| source(kind, status, now)).collect();
    json!({
        "id": cluster.id, "role": cluster.role, "source": cluster.source,
        "syncStatus": cluster.sync_status(), "health": cluster.health.word(),
        "detail": cluster.health.detail(), "since": time(cluster.since), "sinceSeconds": ago(cluster.since, now),
        "staleSeconds": cluster.stale_since().map(|since| ago(since, now)), "snapshot": snapshot,
        "lastEvent": cluster.last_event().map(time),
        "lastEventSeconds": cluster.last_event().map(|at| ago(at, now)),
        "lastContact": cluster.last_contact().map(time),
        "lastContactSeconds": cluster.last_contact().map(|at| ago(at, now)),
        "network": cluster.network, "objects": cluster.objects,
        "start": cluster.start, "standing": cluster.standing, "stalePolicy": cluster.stale_policy, "uid": cluster.uid,
        "credentials": cluster.credentials.expiry(SystemTime::now()).name(),
        "credentialsExpire": cluster.credentials.until().map(seconds),
        "credentialsProblem": cluster.credentials.problem, "tokensExchanged": cluster.tokens_exchanged,
        "api": cluster.api,
        "lists": relists, "rvRegressions": counters().map(|counters| counters.regressions).sum::<u64>(),
        "bytesIn": counters().map(|counters| counters.bytes).sum::<u64>(),
        "failures": counters().map(|counters| counters.failures).sum::<u64>(),
        "retryAfterSeconds": retry_after.map(|pause| pause.as_secs_f64()),
        "massDeleteHolds": cluster.holds(),
        "quarantinedObjects": cluster.quarantined_objects, "quarantined": cluster.quarantined,
        "pendingPods": cluster.pending_pods, "memoryBytes": cluster.memory, "sources": sources,
    })
}

fn source(kind: &str, status: &SourceStatus, now: Moment) -> Value {
    let counters = &status.counters;
    json!({
        "kind": kind, "state": status.state.word(), "detail": status.state.detail(),
        "since": time(status.since), "sinceSeconds": ago(status.since, now), "required": status.is_required(),
        "lastEventSeconds": status.last_event.map(|at| ago(at, now)),
        "lastContactSeconds": status.last_contact.map(|at| ago(at, now)),
        "objects": status.objects, "lists": counters.lists, "rvRegressions": counters.regressions,
        "bytesIn": counters.bytes, "failures": counters.failures,
        "retryAfterSeconds": counters.retry_after.map(|pause| pause.as_secs_f64()),
    })
}
