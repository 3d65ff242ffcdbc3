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

/// Requests from each client reach all versions, and none fails.
pub(super) async fn all_versions(lab: &Lab) -> Seen {
    reaches_all(lab, &HELLOWORLD).await
}

/// The HTTP/2 service answers from all clusters, over HTTP/2 up to the application.
pub(super) async fn http2_crosses(lab: &Lab) -> Seen {
    let seen = reaches_all(lab, &GREETER).await?;
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
    let seen = reaches_all(lab, &ECHO).await?;
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

async fn reaches_all(lab: &Lab, service: &AppService) -> Seen {
    let mut seen = Vec::new();
    let truth = truth(lab, service).await?;
    let serving = truth.serving();
    for client in lab.clients() {
        let by = client.answers(service, requests(lab)).await?;
        let from = client.pod.path();
        let clusters = lab.plan().clusters.iter().filter(|cluster| serving.contains(&cluster.name.as_str()));
        if let Some(who) = clusters.map(answer).find(|who| !by.contains_key(who)) {
            return Err(wrong(format!("{who} answers {from} at {}", authority(service)), counts(&by)));
        }
        seen.push(format!("{from}: {}", counts(&by)));
    }
    Ok(seen.join("; "))
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
    match lab.plan().clusters.iter().find(|cluster| !by.contains_key(&cluster.name)) {
        Some(missing) => Err(wrong(format!("{} answers in JSON", missing.name), answers.join(" "))),
        None => Ok(by),
    }
}
