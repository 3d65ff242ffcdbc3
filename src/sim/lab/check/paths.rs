//! Requests reach all clusters, as themselves, in every protocol.

use std::collections::BTreeMap;

use serde_json::Value;

use super::super::client::{Client, authority};
use super::super::plan::{AppService, ClusterPlan, ECHO, GREETER, HELLOWORLD, NAMESPACE};
use super::super::truth::truth;
use super::super::world::CLIENT;
use super::super::{Lab, LabError};
use super::{Seen, wrong};

/// Per cluster; so many that missing one of them by chance is not a matter of this universe's test runs.
const REQUESTS: usize = 12;

/// How far requests of one protocol must get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// Every cluster of one's own network, and every other network. A gateway forwards connections, not requests,
    /// and sidecars keep theirs: which of the clusters behind it answers may stay the same for long.
    EveryNetwork,
    /// Every cluster: each stream is a connection of its own.
    EveryCluster,
}

/// Requests from each client reach all versions, and none fails.
pub(super) async fn all_versions(lab: &Lab) -> Seen {
    reaches_all(lab, &HELLOWORLD, Reach::EveryNetwork).await
}

/// The HTTP/2 service answers from all clusters, over HTTP/2 up to the application.
pub(super) async fn http2_crosses(lab: &Lab) -> Seen {
    let seen = reaches_all(lab, &GREETER, Reach::EveryNetwork).await?;
    for client in lab.clients() {
        for (cluster, request) in told(lab, &client, &GREETER).await? {
            let protocol = request["httpVersion"].as_str().unwrap_or("?");
            if !protocol.contains('2') {
                return Err(wrong(format!("the application in {cluster} is spoken to in HTTP/2"), protocol));
            }
        }
    }
    Ok(seen)
}

/// The TCP service answers from all clusters; its bytes are nobody's business, so no header was added.
pub(super) async fn tcp_crosses(lab: &Lab) -> Seen {
    let seen = reaches_all(lab, &ECHO, Reach::EveryCluster).await?;
    for client in lab.clients() {
        for request in told(lab, &client, &ECHO).await?.values() {
            if let Some(header) = request["headers"]["x-forwarded-client-cert"].as_str() {
                return Err(wrong("an opaque stream stays as it is", header));
            }
        }
    }
    Ok(seen)
}

/// Every application sees the client's SPIFFE id, as its own sidecar verified it.
pub(super) async fn identity_crosses(lab: &Lab) -> Seen {
    let wanted = format!("URI=spiffe://cluster.local/ns/{NAMESPACE}/sa/{CLIENT}");
    let server = format!("By=spiffe://cluster.local/ns/{NAMESPACE}/sa/helloworld");
    for client in lab.clients() {
        for (cluster, request) in told(lab, &client, &HELLOWORLD).await? {
            let header = request["headers"]["x-forwarded-client-cert"].as_str().unwrap_or("no XFCC header");
            if !(header.contains(&wanted) && header.contains(&server)) {
                return Err(wrong(format!("XFCC in {cluster} has {wanted} and {server}"), header));
            }
        }
    }
    Ok(format!("XFCC at every side has {wanted}"))
}

async fn reaches_all(lab: &Lab, service: &AppService, reach: Reach) -> Seen {
    let mut seen = Vec::new();
    let truth = truth(lab, service).await?;
    let serving = truth.serving();
    for client in lab.clients() {
        let by = client.answers(service, requests(lab)).await?;
        let from = client.pod.path();
        let answers = |cluster: &ClusterPlan| by.contains_key(&answer(cluster));
        if let Some(who) = unheard(lab, &client.cluster, &serving, reach, answers) {
            return Err(wrong(format!("{who} answers {from} at {}", authority(service)), counts(&by)));
        }
        seen.push(format!("{from}: {}", counts(&by)));
    }
    Ok(seen.join("; "))
}

/// A cluster that has endpoints and, by `reach`, should have been heard by a client of `own`.
fn unheard(
    lab: &Lab,
    own: &ClusterPlan,
    serving: &[&str],
    reach: Reach,
    heard: impl Fn(&ClusterPlan) -> bool,
) -> Option<String> {
    let clusters: Vec<&ClusterPlan> =
        lab.plan().clusters.iter().filter(|one| serving.contains(&one.name.as_str())).collect();
    let network_heard = |network: &str| clusters.iter().any(|other| other.network == network && heard(other));
    let missing = clusters.iter().find(|one| {
        let alone = reach == Reach::EveryCluster || one.network == own.network;
        if alone { !heard(one) } else { !network_heard(&one.network) }
    });
    missing.map(|cluster| answer(cluster))
}

/// How often to ask to hear from everybody.
fn requests(lab: &Lab) -> usize {
    REQUESTS * lab.clusters().len()
}

/// How the application of `cluster` answers: `version/cluster`.
pub(super) fn answer(cluster: &ClusterPlan) -> String {
    format!("{}/{}", cluster.version, cluster.name)
}

fn counts(by: &BTreeMap<String, usize>) -> String {
    by.iter().map(|(who, count)| format!("{who} {count}")).collect::<Vec<_>>().join(", ")
}

/// What the application says about a request that reached it, by cluster.
async fn told(lab: &Lab, client: &Client, service: &AppService) -> Result<BTreeMap<String, Value>, LabError> {
    let answers = client.curl(service, "/hello?format=json", requests(lab)).await?;
    let parsed = answers.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let by: BTreeMap<String, Value> =
        parsed.filter_map(|answer| Some((answer["cluster"].as_str()?.to_owned(), answer))).collect();
    let serving = lab.plan().cluster_names();
    let serving: Vec<&str> = serving.iter().map(String::as_str).collect();
    let heard = |cluster: &ClusterPlan| by.contains_key(&cluster.name);
    match unheard(lab, &client.cluster, &serving, Reach::EveryNetwork, heard) {
        Some(missing) => Err(wrong(format!("{missing} answers in JSON"), answers.join(" "))),
        None => Ok(by),
    }
}
