//! `scale`, `drain-cluster`, `flap`: endpoints come and go.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::super::kubelet::now;
use super::super::plan::{HELLOWORLD, NAMESPACE};
use super::super::timeline::Requests;
use super::super::truth::{ready, until_ready};
use super::super::wait::until;
use super::super::world::app_deployment_name;
use super::super::{Lab, LabError};
use super::quiet::{LISTS, Quiet};
use super::stage::{ANSWER_LIMIT, FOLLOW_LIMIT, PATIENCE, Stage, in_time};
use super::{Seen, wrong};

/// Between two flips.
const FLIP_PAUSE: Duration = Duration::from_millis(120);

/// Steps through the replicas asked for.
pub(super) async fn scale(stage: &Stage) -> Result<(), LabError> {
    let name = stage.cluster.name.clone();
    let deployment = app_deployment_name(&stage.cluster);
    let replicas = replicas(&stage.lab, &name, &deployment).await?;
    let (of, called) = (name.clone(), deployment.clone());
    stage.undo_by(format!("{deployment} of {name} has {replicas} replicas"), move |lab| async move {
        lab.cluster(&of)?.api().scale(&called, replicas).await?;
        has_ready(&lab, &of, replicas).await.map(drop)
    });
    let mut seen = Ok(Vec::new());
    for count in &stage.to {
        let step = scale_to(stage, &deployment, *count as usize).await;
        stage.answered(20).await?;
        seen = seen.and_then(|mut seen| {
            seen.push(step?);
            Ok(seen)
        });
    }
    stage.expect("weights-follow", seen.map(|seen| seen.join(", ")));
    if ready(stage.lab.cluster(&name)?, &HELLOWORLD).await?.is_empty() {
        stage.expect("answers-again", Ok("it was scaled to nothing in the end".to_owned()));
        return Ok(());
    }
    stage.expect("answers-again", stage.answers(&stage.clients, ANSWER_LIMIT).await);
    Ok(())
}

pub(super) async fn replicas(lab: &Lab, cluster: &str, deployment: &str) -> Result<usize, LabError> {
    let found = lab.cluster(cluster)?.api().get(("Deployment", NAMESPACE, deployment)).await?;
    let count = found.and_then(|object| object["spec"]["replicas"].as_u64());
    count.and_then(|count| usize::try_from(count).ok()).ok_or_else(|| LabError::Missing {
        what: format!("{cluster} has no Deployment {deployment}"),
        hint: "this scenario needs the lab's own application".to_owned(),
    })
}

/// One step; the promise counts from the EndpointSlices.
async fn scale_to(stage: &Stage, deployment: &str, count: usize) -> Seen {
    let name = &stage.cluster.name;
    stage.lab.cluster(name)?.api().scale(deployment, count).await?;
    stage.done(format!("{deployment} of {name} is scaled to {count}"));
    let start = has_ready(&stage.lab, name, count).await?;
    stage.follow(&stage.clients, FOLLOW_LIMIT * 3).await?;
    let seen = in_time(&format!("to {count}"), start.elapsed(), FOLLOW_LIMIT)?;
    stage.done(format!("every client has {count} of {name}"));
    Ok(seen)
}

pub(super) async fn has_ready(lab: &Lab, cluster: &str, count: usize) -> Result<Instant, LabError> {
    until_ready(lab.cluster(cluster)?, &HELLOWORLD, count, PATIENCE).await
}

/// The nodes are cordoned and the application's pods deleted, as `kubectl drain` does.
pub(super) async fn drain(stage: &Stage) -> Result<(), LabError> {
    stage.other()?;
    let name = stage.cluster.name.clone();
    let before = ready(stage.lab.cluster(&name)?, &HELLOWORLD).await?.len();
    let nodes = stage.lab.cluster(&name)?.api().list(("Node", "", "")).await?;
    let nodes: Vec<String> =
        nodes.iter().filter_map(|node| Some(node["metadata"]["name"].as_str()?.to_owned())).collect();
    let (of, all) = (name.clone(), nodes.clone());
    stage.undo_by(format!("the nodes of {name} take pods again"), move |lab| async move {
        cordon(&lab, &of, &all, false).await
    });
    cordon(&stage.lab, &name, &nodes, true).await?;
    stage.done(format!("{} of {name} cordoned", nodes.join(", ")));
    let api = stage.lab.cluster(&name)?.api();
    for pod in app_pods(&stage.lab, &name).await? {
        api.delete(("Pod", NAMESPACE, pod.as_str())).await?;
    }
    stage.done(format!("the application's pods of {name} are being deleted"));
    stage.expect("nobody-left", nobody_left(stage).await);
    stage.lasting().await;
    stage.expect("others-answer", others_answer(stage).await);
    stage.back().await?;
    has_ready(&stage.lab, &name, before).await?;
    let followed = stage.follow(&stage.clients, PATIENCE).await;
    let answered = match followed {
        Ok(()) => stage.answers(&stage.clients, ANSWER_LIMIT).await,
        Err(error) => Err(error),
    };
    let back = answered.map(|answers| format!("{before} ready in {name}, and {answers} again"));
    stage.expect("comes-back", back);
    Ok(())
}

async fn cordon(lab: &Lab, cluster: &str, nodes: &[String], closed: bool) -> Result<(), LabError> {
    let api = lab.cluster(cluster)?.api();
    for node in nodes {
        api.patch(("Node", "", node.as_str()), &json!({"spec": {"unschedulable": closed}})).await?;
    }
    Ok(())
}

/// Names of the pods of the watched application that stay.
pub(super) async fn app_pods(lab: &Lab, cluster: &str) -> Result<Vec<String>, LabError> {
    let pods = lab.cluster(cluster)?.api().list(("Pod", NAMESPACE, "")).await?;
    let of_app = |pod: &&Value| {
        pod["metadata"]["labels"]["app"] == HELLOWORLD.name && pod["metadata"]["deletionTimestamp"].is_null()
    };
    let names = pods.iter().filter(of_app).filter_map(|pod| pod["metadata"]["name"].as_str());
    Ok(names.map(str::to_owned).collect())
}

/// Waits until no client has an endpoint of the cluster; the promise counts from the EndpointSlices.
async fn nobody_left(stage: &Stage) -> Seen {
    let start = has_ready(&stage.lab, &stage.cluster.name, 0).await?;
    stage.follow(&stage.clients, FOLLOW_LIMIT * 3).await?;
    let seen = in_time(
        &format!("no client has an endpoint of {}", stage.cluster.name),
        start.elapsed(),
        FOLLOW_LIMIT,
    );
    stage.done(format!("no client has an endpoint of {}", stage.cluster.name));
    seen
}

/// Requests go on, and none of them to the cluster.
async fn others_answer(stage: &Stage) -> Seen {
    let who = Stage::answer_of(&stage.cluster);
    // What was under way ends first.
    stage.answered(10).await?;
    let count = |totals: &BTreeMap<String, Requests>| -> u64 {
        totals.values().filter_map(|requests| requests.by.get(&who)).sum()
    };
    let before = count(&stage.record.totals());
    stage.answered(40).await?;
    let more = count(&stage.record.totals()) - before;
    if more > 0 {
        return Err(wrong(format!("nobody is answered by {who}"), format!("{more} requests were")));
    }
    Ok(format!("40 more requests of every client answered, none by {who}"))
}

/// The cluster's endpoints stop and start being ready, again and again.
pub(super) async fn flap(stage: &Stage) -> Result<(), LabError> {
    let name = stage.cluster.name.clone();
    stage.other()?;
    let pods = app_pods(&stage.lab, &name).await?;
    let before = ready(stage.lab.cluster(&name)?, &HELLOWORLD).await?.len();
    let quiet = Quiet::settled(&stage.lab, LISTS).await?;
    let updates = updates(stage);
    let (of, all) = (name.clone(), pods.clone());
    stage.undo_by(format!("the pods of {name} are ready"), move |lab| async move {
        set_ready(&lab, &of, &all, true).await
    });
    stage.done(format!("{} of {name} begins to flap, {} times", pods.join(", "), stage.times));
    let start = Instant::now();
    for _ in 0..stage.times {
        set_ready(&stage.lab, &name, &pods, false).await?;
        tokio::time::sleep(FLIP_PAUSE).await;
        set_ready(&stage.lab, &name, &pods, true).await?;
        tokio::time::sleep(FLIP_PAUSE).await;
    }
    stage.done(format!("{name} flapped {} times in {} ms", stage.times, start.elapsed().as_millis()));
    let start = has_ready(&stage.lab, &name, before).await?;
    let followed = stage.follow(&stage.clients, FOLLOW_LIMIT * 3).await;
    let seen = followed.and_then(|()| in_time("what the API servers say", start.elapsed(), FOLLOW_LIMIT));
    stage.expect("truth-in-the-end", seen);
    stage.expect("endpoints-only", quiet.unchanged(&stage.lab).await);
    stage.expect("pushed-as-needed", pushed(stage, &updates, pods.len()).await);
    Ok(())
}

/// The readiness of `pods`, as their node would report it.
pub(super) async fn set_ready(
    lab: &Lab,
    cluster: &str,
    pods: &[String],
    ready: bool,
) -> Result<(), LabError> {
    let api = lab.cluster(cluster)?.api();
    for name in pods {
        let place = ("Pod", NAMESPACE, name.as_str());
        let Some(pod) = api.get(place).await? else {
            continue;
        };
        let mut conditions = pod["status"]["conditions"].clone();
        for condition in conditions.as_array_mut().into_iter().flatten() {
            if condition["type"] == "Ready" {
                condition["status"] = json!(if ready { "True" } else { "False" });
                condition["lastTransitionTime"] = json!(now());
            }
        }
        api.patch_status(place, &json!({"status": {"conditions": conditions}})).await?;
    }
    Ok(())
}

/// Pushes of endpoints each client's Envoy took so far.
fn updates(stage: &Stage) -> BTreeMap<String, u64> {
    let latest = stage.record.latest();
    latest.clients.iter().map(|(name, client)| (name.clone(), client.updates.eds)).collect()
}

/// Endpoints were pushed, at most once per flip of each pod.
async fn pushed(stage: &Stage, before: &BTreeMap<String, u64>, pods: usize) -> Seen {
    // The counters are looked at every second.
    let seen = stage.record.rows().len() + 1;
    until("a later look at the counters", ANSWER_LIMIT, async || match stage.record.rows().len() {
        rows if rows > seen => Ok(()),
        rows => Err(format!("second {rows}")),
    })
    .await?;
    let mut seen = Vec::new();
    for (client, after) in updates(stage) {
        let pushes = after.saturating_sub(before.get(&client).copied().unwrap_or(0));
        // Back and forth, and one that was on its way.
        let most = 2 * u64::from(stage.times) * pods as u64 + 1;
        if pushes == 0 || pushes > most {
            return Err(wrong(format!("{client} gets 1 to {most} pushes of endpoints"), pushes.to_string()));
        }
        seen.push(format!("{client} got {pushes}"));
    }
    Ok(format!("{} flips of {pods} pods, pushes of endpoints: {}", 2 * stage.times, seen.join(", ")))
}
