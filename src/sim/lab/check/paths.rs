//! Requests reach both clusters, as themselves, in every protocol.

use std::collections::BTreeMap;

use serde_json::Value;

use super::super::plan::{AppService, ClusterPlan, ECHO, GREETER, HELLOWORLD, NAMESPACE};
use super::super::{Lab, LabError};
use super::client::{Client, authority, clients};
use super::{Seen, wrong};

/// So many that missing one of two equal halves by chance is not a matter of this universe's test runs.
const REQUESTS: usize = 24;

/// Requests from each client reach both versions, and none fails.
pub(super) async fn both_versions(lab: &Lab) -> Seen {
    reaches_both(lab, &HELLOWORLD).await
}

/// The HTTP/2 service answers from both clusters, over HTTP/2 up to the application.
pub(super) async fn http2_crosses(lab: &Lab) -> Seen {
    let seen = reaches_both(lab, &GREETER).await?;
    for client in clients(lab)? {
        let request = told(&client, &GREETER, client.cluster.peer).await?;
        let protocol = request["httpVersion"].as_str().unwrap_or("?");
        if !protocol.contains('2') {
            return Err(wrong("the application is spoken to in HTTP/2", protocol));
        }
    }
    Ok(seen)
}

/// The TCP service answers from both clusters; its bytes are nobody's business, so no header was added.
pub(super) async fn tcp_crosses(lab: &Lab) -> Seen {
    let seen = reaches_both(lab, &ECHO).await?;
    for client in clients(lab)? {
        let request = told(&client, &ECHO, client.cluster.peer).await?;
        if let Some(header) = request["headers"]["x-forwarded-client-cert"].as_str() {
            return Err(wrong("an opaque stream stays as it is", header));
        }
    }
    Ok(seen)
}

/// The far application sees the client's SPIFFE id, as its own sidecar verified it.
pub(super) async fn identity_crosses(lab: &Lab) -> Seen {
    let wanted = format!("URI=spiffe://cluster.local/ns/{NAMESPACE}/sa/sleep");
    let server = format!("By=spiffe://cluster.local/ns/{NAMESPACE}/sa/helloworld");
    for client in clients(lab)? {
        let request = told(&client, &HELLOWORLD, client.cluster.peer).await?;
        let header = request["headers"]["x-forwarded-client-cert"].as_str().unwrap_or("no XFCC header");
        if !(header.contains(&wanted) && header.contains(&server)) {
            return Err(wrong(format!("XFCC in {} has {wanted} and {server}", client.cluster.peer), header));
        }
    }
    Ok(format!("XFCC at the far side has {wanted}"))
}

async fn reaches_both(lab: &Lab, service: &AppService) -> Seen {
    let mut seen = Vec::new();
    for client in clients(lab)? {
        let by = client.answers(service, REQUESTS).await?;
        let from = client.pod.plan().path();
        let missing = lab.plan.clusters.iter().map(answer).find(|who| !by.contains_key(who));
        if let Some(who) = missing {
            return Err(wrong(format!("{who} answers {from} at {}", authority(service)), counts(&by)));
        }
        seen.push(format!("{from}: {}", counts(&by)));
    }
    Ok(seen.join("; "))
}

/// How the application of `cluster` answers: `version/cluster`.
pub(super) fn answer(cluster: &ClusterPlan) -> String {
    format!("{}/{}", cluster.version, cluster.name)
}

fn counts(by: &BTreeMap<String, usize>) -> String {
    by.iter().map(|(who, count)| format!("{who} {count}")).collect::<Vec<_>>().join(", ")
}

/// What the application in `cluster` says about a request that reached it.
async fn told(client: &Client<'_>, service: &AppService, cluster: &str) -> Result<Value, LabError> {
    let answers = client.curl(service, "/hello?format=json", REQUESTS).await?;
    answers
        .iter()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find(|answer| answer["cluster"] == cluster)
        .ok_or_else(|| wrong(format!("{cluster} answers in JSON"), answers.join(" ")))
}
