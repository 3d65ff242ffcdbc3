//! `/debug/view`: what one proxy gets for a host, and why not more.

use axum::extract::State;
use axum::response::Response;
use serde_json::{Value, json};

use super::asked::Asked;
use super::query::Query;
use super::reply::Refusal;
use super::{Shared, Sources, reply};
use crate::model::{Endpoint, Locality};
use crate::view::explain::{Absence, explain, original_dst, unseen};
use crate::view::{AssignedEndpoint, Decision, EdsName, Origin, Target, told};

/// The page.
pub(super) async fn page(State(sources): Shared, query: Query) -> Result<Response, Refusal> {
    let asked = Asked::read(&sources, &query, &[])?;
    let answers: Vec<_> = asked.names.iter().map(|name| answer(&sources, &asked, name)).collect();
    Ok(reply::json(&query, &asked.about(&answers)))
}

fn answer(sources: &Sources, asked: &Asked, name: &EdsName) -> Value {
    let mut decisions: Vec<(Endpoint, Decision)> = Vec::new();
    let mut nothing = None;
    let sent: Vec<_> = asked.of(sources, name, |inputs, key| {
        nothing = original_dst(&asked.view, inputs, name, key);
        if nothing.is_some() {
            return Vec::new();
        }
        let assignment = told(inputs, name, key, &mut decisions);
        let groups = assignment.groups.iter();
        groups.flat_map(|group| group.endpoints.iter().map(|one| sent(one, &group.locality))).collect()
    });
    let rows = |wanted: fn(Decision) -> bool| -> Vec<Value> {
        let chosen = decisions.iter().filter(|(_, decision)| wanted(*decision));
        chosen.map(|(endpoint, decision)| unsent(endpoint, *decision)).collect()
    };
    let absent = || sent.is_empty().then(|| absence(sources, asked, name)).flatten();
    let nothing = nothing.or_else(absent);
    json!({
        "nothing": nothing.as_ref().map(|nothing| nothing.code), "detail": nothing.as_ref().map(|nothing| &nothing.detail),
        "port": name.port, "name": asked.called(name), "endpoints": sent,
        "behindGateways": rows(|decision| decision == Decision::ViaGateway),
        "behindWaypoint": rows(|decision| decision == Decision::ViaWaypoint),
        "hidden": rows(Decision::hides),
    })
}

/// Why there is nothing to decide, if that is so.
fn absence(sources: &Sources, asked: &Asked, name: &EdsName) -> Option<Absence> {
    asked.of(sources, name, |inputs, key| {
        let hidden = || unseen(&asked.view, name, &asked.candidates, inputs);
        explain(inputs, name, key, if key.siblings.is_some() { None } else { hidden() }).nothing
    })
}

/// An endpoint the proxy gets.
fn sent(endpoint: &AssignedEndpoint<'_>, locality: &Locality) -> Value {
    let (cluster, network, pod, via) = match endpoint.origin {
        Origin::Direct(pod) => (&pod.cluster, &pod.network, pod.name.as_str(), "direct"),
        Origin::Gateway { network, cluster } => (cluster, network, "", "gateway"),
    };
    let mut row = json!({
        "address": endpoint.address(), "port": endpoint.port(), "weight": endpoint.weight,
        "health": endpoint.health, "locality": locality.to_string(), "mtls": endpoint.is_mtls(),
        "via": via, "network": network, "cluster": cluster, "pod": pod,
    });
    if let Target::Named { host, .. } = endpoint.target {
        row["host"] = json!(host);
    }
    row
}

/// An endpoint that the proxy does not get by its own address.
fn unsent(endpoint: &Endpoint, decision: Decision) -> Value {
    let pod = &endpoint.workload;
    json!({
        "address": endpoint.addresses.first(), "port": endpoint.port, "portName": endpoint.port_name,
        "weight": endpoint.weight(), "health": endpoint.health, "locality": pod.locality().to_string(),
        "network": pod.network, "cluster": pod.cluster, "pod": pod.name, "reason": decision.code(),
    })
}
