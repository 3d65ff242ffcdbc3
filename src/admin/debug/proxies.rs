//! `/debug/syncz` and `/debug/proxies`.

use std::time::SystemTime;

use axum::extract::State;
use axum::response::Response;
use serde_json::{Map, Value, json};

use super::seconds;
use crate::admin::query::Query;
use crate::admin::{Shared, Sources, reply};
use crate::model::ProxyKind;
use crate::xds::resource::ResourceType;
use crate::xds::status::{StreamStatus, TypeStatus};

/// The peer's prefix for a type in `syncz`.
fn word(kind: ResourceType) -> Option<&'static str> {
    match kind {
        ResourceType::Cluster => Some("cluster"),
        ResourceType::Endpoint => Some("endpoint"),
        ResourceType::Listener => Some("listener"),
        ResourceType::Route => Some("route"),
        ResourceType::Secret => None,
    }
}

fn kind_word(kind: ProxyKind) -> &'static str {
    match kind {
        ProxyKind::Sidecar => "sidecar",
        ProxyKind::Router => "router",
    }
}

/// Every stream, by cluster, namespace, then id.
fn sorted(sources: &Sources, namespace: Option<&str>) -> Vec<StreamStatus> {
    let mut streams = sources.xds.streams();
    streams.retain(|stream| namespace.is_none_or(|wanted| **stream.view.namespace() == *wanted));
    streams.sort_by(|a, b| {
        (&a.view.id.cluster, &a.view.id.namespace, &a.connection_id).cmp(&(
            &b.view.id.cluster,
            &b.view.id.namespace,
            &b.connection_id,
        ))
    });
    streams
}

/// `<pod>.<namespace>`: the third part of the node id.
fn proxy_name(stream: &StreamStatus) -> String {
    format!("{}.{}", stream.view.id.name, stream.view.id.namespace)
}

fn put(row: &mut Map<String, Value>, key: impl Into<String>, text: &str) {
    if !text.is_empty() {
        row.insert(key.into(), text.into());
    }
}

fn sync_row(stream: &StreamStatus) -> Value {
    let mut row = Map::new();
    put(&mut row, "cluster_id", stream.view.cluster());
    put(&mut row, "proxy", &proxy_name(stream));
    put(&mut row, "proxy_type", kind_word(stream.node.kind));
    put(&mut row, "istio_version", &stream.node.version);
    let mut resources = Map::new();
    for (kind, status) in &stream.types {
        if let Some(word) = word(*kind) {
            put(&mut row, format!("{word}_sent"), &status.sent_nonce);
            put(&mut row, format!("{word}_acked"), &status.acked_nonce);
        }
        resources.insert(kind.url().to_owned(), sync_resource(status));
    }
    row.insert("resources".to_owned(), resources.into());
    row.into()
}

fn sync_resource(status: &TypeStatus) -> Value {
    let mut row = Map::new();
    put(&mut row, "sent", &status.sent_nonce);
    put(&mut row, "acked", &status.acked_nonce);
    put(&mut row, "sentTime", &status.sent_at.map(seconds).unwrap_or_default());
    put(&mut row, "lastError", status.last_error.as_deref().unwrap_or_default());
    row.into()
}

/// What was sent to and accepted by every proxy, in istiod's words. `?namespace=` restricts.
pub(in crate::admin) async fn syncz(State(sources): Shared, query: Query) -> Response {
    let streams = sorted(&sources, query.get("namespace"));
    reply::json(&query, &streams.iter().map(sync_row).collect::<Vec<_>>())
}

/// The word of `proxies` for one type, as istioctl has it.
fn state(status: &TypeStatus) -> &'static str {
    if status.last_error.is_some() {
        "ERROR"
    } else if status.is_synced() {
        "SYNCED"
    } else if status.sent_nonce.is_empty() {
        "NOT_SENT"
    } else {
        "STALE"
    }
}

fn full_row(stream: &StreamStatus, now: SystemTime) -> Value {
    let age = |time: SystemTime| now.duration_since(time).unwrap_or_default().as_millis() as u64;
    let types: Map<String, Value> = stream
        .types
        .iter()
        .map(|(kind, status)| {
            let row = json!({
                "status": state(status), "subscribed": status.subscribed, "wildcard": status.wildcard,
                "version": status.sent_version, "sentNonce": status.sent_nonce,
                "ackedNonce": status.acked_nonce, "sentAt": status.sent_at.map(seconds),
                "ackedAt": status.acked_at.map(seconds), "sentAgeMs": status.sent_at.map(age),
                "lagMs": status.unanswered_since.map(age),
                "lastError": status.last_error, "nacks": status.nacks, "responses": status.responses,
            });
            (kind.short().to_owned(), row)
        })
        .collect();
    json!({
        "id": stream.node.id, "proxy": proxy_name(stream), "connectionId": stream.connection_id,
        "cluster": stream.view.cluster(), "network": stream.view.network,
        "type": kind_word(stream.node.kind), "version": stream.node.version,
        "locality": stream.view.locality.to_string(), "addresses": stream.view.addresses,
        "podKnown": stream.view.workload.is_some(), "peer": stream.peer.map(|peer| peer.to_string()),
        "connectedAt": seconds(stream.connected_at), "connectedMs": age(stream.connected_at),
        "unreadMs": stream.unread_since.map(age),
        "protocol": stream.protocol, "types": types,
    })
}

/// Every proxy in full.
pub(in crate::admin) async fn proxies(State(sources): Shared, query: Query) -> Response {
    let now = SystemTime::now();
    let streams = sorted(&sources, query.get("namespace"));
    let rows: Vec<_> = streams.iter().map(|stream| full_row(stream, now)).collect();
    reply::json(&query, &rows)
}
