//! `/debug/explain`: every endpoint of a host, and why a proxy has it or not.

use std::collections::BTreeMap;
use std::net::IpAddr;

use axum::extract::State;
use axum::response::Response;
use serde_json::{Value, json};

use super::asked::Asked;
use super::debug::{ago, time};
use super::query::Query;
use super::reply::Refusal;
use super::{Shared, Sources, reply};
use crate::model::{ClusterId, ClusterStatus, EndpointShard, Moment, NetworkId};
use crate::view::explain::{EndpointExplanation, explain, original_dst, unseen};
use crate::view::{Decision, EdsName};

/// The page.
pub(super) async fn page(State(sources): Shared, query: Query) -> Result<Response, Refusal> {
    let asked = Asked::read(&sources, &query, &["endpoint"])?;
    let endpoint = query.get("endpoint").map(str::parse::<IpAddr>).transpose();
    let endpoint = endpoint.map_err(|_| Refusal::query("the endpoint is no address"))?;
    let heard = Heard::of(&sources, &asked);
    let ports = asked.names.iter().map(|name| port_answer(&sources, &asked, name, endpoint, &heard));
    let ports: Vec<_> = ports.collect();
    if let Some(address) = endpoint
        && ports.iter().all(|port| port["endpoints"].as_array().is_none_or(Vec::is_empty))
    {
        return Err(Refusal::unknown(format!(
            "no cluster tells of an endpoint {address} of {}; ask without it to see those there are",
            asked.host
        )));
    }
    let mut answer = asked.about(&ports);
    answer["clusters"] = heard.rows(&asked);
    Ok(reply::json(&query, &answer))
}

fn port_answer(
    sources: &Sources,
    asked: &Asked,
    name: &EdsName,
    endpoint: Option<IpAddr>,
    heard: &Heard,
) -> Value {
    let mut explanation = asked.of(sources, name, |inputs, key| {
        // What is the proxy's own nobody hides from it.
        let hidden = || {
            unseen(&asked.view, name, &asked.candidates, inputs)
                .or_else(|| original_dst(&asked.view, inputs, name, key))
        };
        explain(inputs, name, key, if key.siblings.is_some() { None } else { hidden() })
    });
    if endpoint.is_some() {
        explanation.endpoints.retain(|one| one.address == endpoint);
        let (endpoints, gateways) = (&explanation.endpoints, &mut explanation.gateways);
        let leads = |network: &NetworkId| {
            endpoints.iter().any(|one| one.decision == Decision::ViaGateway && one.network == *network)
        };
        gateways.retain(|gateway| leads(&gateway.network));
    }
    let rules: Vec<String> = explanation.rules.iter().map(ToString::to_string).collect();
    let endpoints: Vec<_> = explanation.endpoints.iter().map(|one| row(one, heard)).collect();
    let nothing = explanation.nothing.as_ref();
    json!({
        "port": name.port, "name": explanation.name, "nothing": nothing.map(|nothing| nothing.code),
        "detail": nothing.map(|nothing| &nothing.detail), "would": nothing.map(|nothing| &nothing.would),
        "rules": rules, "localitySetting": explanation.locality_setting, "endpoints": endpoints,
        "priorities": explanation.priorities, "gateways": explanation.gateways, "waypoint": explanation.waypoint,
    })
}

/// One endpoint; the first of its checks is how its cluster is heard.
fn row(one: &EndpointExplanation, heard: &Heard) -> Value {
    let mut row = json!(one);
    row["locality"] = json!(one.locality.to_string());
    if let Some(chain) = row["chain"].as_array_mut() {
        chain.insert(0, json!({"check": "heard", "ok": true, "detail": heard.in_words(&one.cluster)}));
    }
    row
}

/// How the clusters are heard that tell of a service. Of single objects neither versions nor ages are kept: what is
/// said of a cluster holds for everything it tells.
struct Heard {
    clusters: BTreeMap<ClusterId, ClusterStatus>,
    now: Moment,
}

impl Heard {
    fn of(sources: &Sources, asked: &Asked) -> Self {
        let shards = asked.candidates.iter().flat_map(|candidate| candidate.shards.iter());
        let status = |id: &ClusterId| Some((id.clone(), sources.registry.clusters().get(id)?));
        Self { clusters: shards.filter_map(|shard| status(&shard.cluster)).collect(), now: Moment::now() }
    }

    fn in_words(&self, cluster: &ClusterId) -> String {
        let Some(status) = self.clusters.get(cluster) else {
            return format!("told by {cluster}");
        };
        let state = match status.stale_since() {
            Some(since) => format!("{}: as it was {} ago", status.health.word(), self.age(since)),
            None => format!("{} for {}", status.health.word(), self.age(status.since)),
        };
        format!("told by {cluster} ({}), {state}", status.source)
    }

    /// In whole seconds.
    fn age(&self, at: Moment) -> String {
        let seconds = std::time::Duration::from_secs(at.age(self.now).as_secs());
        let text = humantime::format_duration(seconds).to_string();
        text.split(' ').take(2).collect()
    }

    fn rows(&self, asked: &Asked) -> Value {
        let endpoints = |id: &ClusterId| -> usize {
            let shards = asked.candidates.iter().filter_map(|candidate| candidate.shard(id));
            let told =
                |shard: &EndpointShard| shard.service.as_ref().map_or(0, |service| service.inline().len());
            shards.map(|shard| shard.endpoints.len() + told(shard)).sum()
        };
        let row = |(id, status): (&ClusterId, &ClusterStatus)| {
            json!({
                "id": id, "endpoints": endpoints(id), "health": status.health.word(),
                "detail": status.health.detail(), "standing": status.standing, "source": status.source,
                "since": time(status.since), "sinceSeconds": ago(status.since, self.now),
                "lastEventSeconds": status.last_event().map(|at| ago(at, self.now)),
                "lastContactSeconds": status.last_contact().map(|at| ago(at, self.now)),
                "staleSeconds": status.stale_since().map(|at| ago(at, self.now)),
                "snapshot": status.restored.is_some(),
            })
        };
        self.clusters.iter().map(row).collect()
    }
}
