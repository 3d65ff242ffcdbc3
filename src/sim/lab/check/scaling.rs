//! Endpoints come and go as they do for users: by `/scale`, under load.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::super::client::Load;
use super::super::cluster::Cluster;
use super::super::plan::{ClusterPlan, HELLOWORLD, NAMESPACE};
use super::super::pod::RunningPod;
use super::super::truth::{ready, truth, until_ready};
use super::super::wait::until;
use super::super::world::app_deployment_name;
use super::super::{Lab, LabError};
use super::paths::{all_versions, answer};
use super::{Seen, wrong};

/// From what the EndpointSlices say to the clients' weights. The promise is one second; a verdict has to hold on a busy
/// machine too.
const FOLLOW_LIMIT: Duration = Duration::from_secs(5);
/// A pod starts within this, or goes.
const POD_LIMIT: Duration = Duration::from_secs(60);
/// Until a load shows a version again; far longer than the promise, the load reports four times a second.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// Requests each client sends between two steps.
const BETWEEN_STEPS: u64 = 20;

/// The cluster whose application comes and goes: the second, if there is one.
pub(super) fn scaled(lab: &Lab) -> &Cluster {
    let clusters = lab.clusters();
    clusters.get(1).unwrap_or(&clusters[0])
}

/// One cluster goes 1→3→0→1 by `/scale`: all clients' weights follow the EndpointSlices in time each
/// time, and no request fails. A lab's only cluster keeps one pod.
pub(super) async fn scale_follows(lab: &Lab) -> Seen {
    let mut loads = loads(lab)?;
    let outcome = scale_steps(lab, &mut loads).await;
    let restored = scale_and_wait(lab, scaled(lab), 1).await;
    let totals = finish(loads).await;
    let steps = outcome?;
    restored?;
    Ok(format!("{steps}; {}", totals?))
}

async fn scale_steps(lab: &Lab, loads: &mut [Load]) -> Seen {
    let cluster = scaled(lab);
    let least = usize::from(lab.clusters().len() == 1);
    let mut seen = Vec::new();
    let mut before = 1;
    for count in [3, least, 1] {
        let took = scale(lab, cluster, count).await?;
        if took > FOLLOW_LIMIT {
            return Err(wrong(
                format!("weights follow within {FOLLOW_LIMIT:?}"),
                format!("{} ms", took.as_millis()),
            ));
        }
        settled(lab, cluster, count).await?;
        for load in loads.iter_mut() {
            load.until_answered(BETWEEN_STEPS, ANSWER_LIMIT).await?;
        }
        seen.push(format!("{before}→{count} in {} ms", took.as_millis()));
        before = count;
    }
    let (who, network) = (answer(cluster.plan()), &cluster.plan().network);
    // Behind a gateway that stands for several clusters, connections may stay with the others.
    let alone = lab.plan().clusters.iter().filter(|other| other.network == *network).count() == 1;
    for (client, load) in lab.clients().iter().zip(loads) {
        if alone || client.cluster.network == *network {
            load.until_answered_by(&who, ANSWER_LIMIT).await?;
        }
    }
    Ok(seen.join(", "))
}

/// Scales the application of `cluster`; returns how long after the EndpointSlices the last client had its weights.
async fn scale(lab: &Lab, cluster: &Cluster, count: usize) -> Result<Duration, LabError> {
    cluster.api().scale(&app_deployment_name(cluster.plan()), count).await?;
    let start = until_ready(cluster, &HELLOWORLD, count, POD_LIMIT).await?;
    follow(lab).await?;
    Ok(start.elapsed())
}

/// Scales, and waits until everybody has it and no pod is on its way.
pub(super) async fn scale_and_wait(lab: &Lab, cluster: &Cluster, count: usize) -> Result<(), LabError> {
    scale(lab, cluster, count).await?;
    settled(lab, cluster, count).await
}

async fn settled(lab: &Lab, cluster: &Cluster, count: usize) -> Result<(), LabError> {
    let deployment = app_deployment_name(cluster.plan());
    until(&format!("{count} pods of {deployment}"), POD_LIMIT, async || {
        let pods = pods_of(lab, cluster.plan(), &deployment).len();
        if pods == count { Ok(()) } else { Err(format!("{pods}")) }
    })
    .await
}

/// The running pods of a Deployment.
pub(super) fn pods_of(lab: &Lab, cluster: &ClusterPlan, deployment: &str) -> Vec<Arc<RunningPod>> {
    let own = |pod: &Arc<RunningPod>| pod.cluster() == cluster.name && pod.deployment() == Some(deployment);
    lab.pods().into_iter().filter(own).collect()
}

/// Waits until all clients have what the API servers say.
pub(super) async fn follow(lab: &Lab) -> Result<(), LabError> {
    follow_within(lab, FOLLOW_LIMIT * 2).await
}

/// Like [`follow`], with a limit for each client.
pub(super) async fn follow_within(lab: &Lab, limit: Duration) -> Result<(), LabError> {
    let truth = truth(lab, &HELLOWORLD).await?;
    let clients = lab.clients();
    let following = clients.iter().map(async |client| {
        let what = format!("{} has what the API servers say", client.pod.path());
        until(&what, limit, async || {
            let hosts = client.pod.admin().hosts(&HELLOWORLD.envoy_cluster()).await;
            truth.holds(&client.cluster.network, &hosts.map_err(|error| error.to_string())?)
        })
        .await
    });
    try_join_all(following).await.map(|_| ())
}

/// `helloworld` is deleted in all clusters and created again, first at once, then after the proxies have
/// forgotten it: each time the next requests are right.
pub(super) async fn service_recreated(lab: &Lab) -> Seen {
    let mut seen = Vec::new();
    for noticed in [Noticed::Perhaps, Noticed::Surely] {
        let services = delete_everywhere(lab, noticed).await?;
        let took = create_everywhere(lab, &services).await?;
        seen.push(format!("{} ms", took.as_millis()));
    }
    let answers = all_versions(lab).await?;
    Ok(format!("right again after {}; {answers}", seen.join(" and ")))
}

/// Whether the proxies must have noticed a deletion before it is undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Noticed {
    Perhaps,
    Surely,
}

/// Returns what is to be created again, one per cluster.
async fn delete_everywhere(lab: &Lab, noticed: Noticed) -> Result<Vec<Value>, LabError> {
    let mut services = Vec::new();
    for cluster in lab.clusters() {
        let place = ("Service", NAMESPACE, HELLOWORLD.name);
        let present = cluster.api().get(place).await?;
        services.push(fresh(&present.ok_or_else(|| wrong("helloworld is there", "it is not"))?));
        cluster.api().delete(place).await?;
    }
    if noticed == Noticed::Surely {
        for cluster in lab.clusters() {
            until("the slices are gone", POD_LIMIT, async || {
                let found = ready(cluster, &HELLOWORLD).await.map_err(|error| error.to_string())?;
                if found.is_empty() { Ok(()) } else { Err(format!("{found:?}")) }
            })
            .await?;
        }
        follow(lab).await?;
    }
    Ok(services)
}

/// What a user would have written: nothing of what the server filled in but the address.
fn fresh(service: &Value) -> Value {
    let metadata = &service["metadata"];
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": metadata["name"], "namespace": metadata["namespace"], "labels": metadata["labels"],
        },
        "spec": service["spec"],
    })
}

/// Creates the Services; returns how long it took until each client had its hosts and an answer, from the
/// moment that all EndpointSlices were there again.
async fn create_everywhere(lab: &Lab, services: &[Value]) -> Result<Duration, LabError> {
    for (cluster, service) in lab.clusters().iter().zip(services) {
        cluster.api().create(service).await?;
    }
    let mut start = Instant::now();
    for cluster in lab.clusters() {
        let deployment = app_deployment_name(cluster.plan());
        until("the slices are there", POD_LIMIT, async || {
            let looked = Instant::now();
            let wanted = pods_of(lab, cluster.plan(), &deployment).len();
            let found = ready(cluster, &HELLOWORLD).await.map_err(|error| error.to_string())?.len();
            if found == wanted {
                return Ok(());
            }
            start = looked;
            Err(format!("{found} of {wanted}"))
        })
        .await?;
    }
    follow(lab).await?;
    for client in lab.clients() {
        until("an answer", FOLLOW_LIMIT, async || {
            client.curl(&HELLOWORLD, "/hello", 1).await.map_err(|error| error.to_string())
        })
        .await?;
    }
    let took = start.elapsed();
    if took > FOLLOW_LIMIT {
        return Err(wrong(format!("a service is right again within {FOLLOW_LIMIT:?}"), format!("{took:?}")));
    }
    Ok(took)
}

/// A load from each client.
pub(super) fn loads(lab: &Lab) -> Result<Vec<Load>, LabError> {
    lab.clients().iter().map(|client| client.load(&HELLOWORLD)).collect()
}

/// Ends the loads; every request must have been answered.
pub(super) async fn finish(loads: Vec<Load>) -> Seen {
    let mut requests = 0;
    let mut by: BTreeMap<String, u64> = BTreeMap::new();
    for load in loads {
        let total = load.finish().await?;
        requests += total.ok;
        for (who, count) in total.by {
            *by.entry(who).or_default() += count;
        }
    }
    let by: Vec<String> = by.iter().map(|(who, count)| format!("{who} {count}")).collect();
    Ok(format!("{requests} requests, none failed ({})", by.join(", ")))
}
