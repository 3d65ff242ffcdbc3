//! `/debug/explain`: every endpoint of a host, and why a proxy has it or not.

use std::net::IpAddr;

use axum::extract::State;
use axum::response::Response;
use serde_json::{Value, json};

use super::asked::Asked;
use super::query::Query;
use super::reply::Refusal;
use super::{Shared, Sources, reply};
use crate::view::EdsName;
use crate::view::explain::explain;

/// The page.
pub(super) async fn page(State(sources): Shared, query: Query) -> Result<Response, Refusal> {
    let asked = Asked::read(&sources, &query, &["subset", "endpoint"])?;
    let endpoint = query.get("endpoint").map(str::parse::<IpAddr>).transpose();
    let endpoint = endpoint.map_err(|error| Refusal::query(format!("endpoint= is no address: {error}")))?;
    let subset = query.get("subset").unwrap_or_default();
    let ports = asked.ports.iter().map(|port| port_answer(&sources, &asked, *port, subset, endpoint));
    let ports: Vec<_> = ports.collect();
    if let Some(address) = endpoint
        && ports.iter().all(|port| port["endpoints"].as_array().is_none_or(Vec::is_empty))
    {
        return Err(Refusal::unknown(format!(
            "no cluster tells of an endpoint {address} of {}; leave endpoint= out to see those there are",
            asked.host
        )));
    }
    Ok(reply::json(&query, &asked.about(&ports)))
}

fn port_answer(sources: &Sources, asked: &Asked, port: u16, subset: &str, endpoint: Option<IpAddr>) -> Value {
    let name = EdsName { subset: subset.to_owned(), ..EdsName::outbound(port, &asked.host) };
    let mut explanation = asked.of(sources, &name, |inputs, key| explain(inputs, &name, key));
    if endpoint.is_some() {
        explanation.endpoints.retain(|one| one.address == endpoint);
    }
    let rules: Vec<String> = explanation.rules.iter().map(ToString::to_string).collect();
    let endpoints: Vec<_> = explanation
        .endpoints
        .iter()
        .map(|one| {
            let mut row = json!(one);
            row["locality"] = json!(one.locality.to_string());
            row
        })
        .collect();
    json!({
        "port": port, "name": explanation.name, "nothing": explanation.nothing, "rules": rules,
        "localitySetting": explanation.locality_setting, "endpoints": endpoints,
        "priorities": explanation.priorities, "gateways": explanation.gateways, "waypoint": explanation.waypoint,
    })
}
