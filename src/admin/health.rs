//! `/ready`, `/healthz`, `/version`.

use std::fmt::Write as _;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::json;

use super::query::Query;
use super::{Shared, Sources, reply};
use crate::lifecycle::Phase;
use crate::model::{ClusterStatus, Moment};

/// 200 once every known cluster is synced or timed out (R1.18), else 503. `?verbose` says why.
pub(super) async fn ready(State(sources): Shared, query: Query) -> Response {
    let phase = sources.lifecycle.phase();
    let status = if phase == Phase::Ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let text = if query.is_on("verbose") { explain(phase, &sources) } else { phase.word().to_owned() + "\n" };
    (status, text).into_response()
}

fn explain(phase: Phase, sources: &Sources) -> String {
    let mut text = format!("{}\n", phase.word());
    let clusters = sources.registry.clusters().all();
    if clusters.is_empty() {
        text.push_str("no cluster is configured: nothing is served; give --kubeconfig or --kubeconfig-dir\n");
    }
    for cluster in &clusters {
        let holds = if cluster.gate_open() { "ok " } else { "not" };
        let _ = writeln!(text, "{holds} {}: {}", cluster.id, why(cluster));
    }
    for problem in sources.problems.iter().flat_map(|problems| problems.all()) {
        let _ = writeln!(text, "!   {}: {}", problem.subject, problem.text);
    }
    text
}

fn why(cluster: &ClusterStatus) -> String {
    let now = Moment::now();
    let age = |moment: Moment| humantime::format_duration(Duration::from_secs(moment.age(now).as_secs()));
    let mut state = cluster.health.word().to_owned();
    if let Some(since) = cluster.stale_since() {
        state += &format!(" for {}", age(since));
    }
    let detail = cluster.health.detail();
    if !detail.is_empty() {
        state += &format!(", {detail}");
    }
    let gate = match (cluster.synced, cluster.gate_open(), cluster.timed_out, &cluster.restored) {
        (true, ..) => "synced".to_owned(),
        (_, true, _, Some(restored)) => {
            format!("not synced: served from {} of {} ago", restored.path, age(restored.confirmed))
        }
        (_, false, _, Some(_)) => "not synced yet, and required".to_owned(),
        (_, _, true, None) => "not synced in time: the server starts without it".to_owned(),
        (_, _, false, None) => "not synced yet".to_owned(),
    };
    format!("{gate}; {state}; from {}", cluster.source)
}

/// 200 as long as the process answers.
pub(super) async fn alive() -> &'static str {
    "ok\n"
}

/// The version.
pub(super) async fn version(query: Query) -> Response {
    reply::json(&query, &json!({"component": "tombolo", "version": env!("CARGO_PKG_VERSION")}))
}
