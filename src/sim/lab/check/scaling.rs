//! Endpoints come and go through the API server, under load.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::super::api::{Collection, delete_service};
use super::super::plan::{HELLOWORLD, MAX_HELLOWORLD};
use super::super::wait::until;
use super::super::world::Readiness;
use super::super::{Lab, LabError, world};
use super::client::{Load, clients};
use super::paths::{answer, both_versions};
use super::views::{expected, written};
use super::{Seen, wrong};

/// From a change at an API server to the clients' weights (a promise of ours, not a guess).
const FOLLOW_LIMIT: Duration = Duration::from_secs(1);
/// Until a load shows a version again; far longer than the promise, the load reports four times a second.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// Requests each client sends between two steps.
const BETWEEN_STEPS: u64 = 20;

/// West goes 1→3→0→1: both clients' weights follow within a second each time, and no request fails.
pub(super) async fn scale_follows(lab: &mut Lab) -> Seen {
    let mut loads = loads(lab)?;
    let outcome = scale_steps(lab, &mut loads).await;
    let restored = lab.scale("west", 1).await;
    let totals = finish(loads).await;
    let steps = outcome?;
    restored?;
    Ok(format!("{steps}; {}", totals?))
}

async fn scale_steps(lab: &mut Lab, loads: &mut [Load]) -> Seen {
    let mut seen = Vec::new();
    let mut before = 1;
    for count in [usize::from(MAX_HELLOWORLD), 0, 1] {
        lab.prepare("west", count).await?;
        let start = Instant::now();
        lab.announce("west", count).await?;
        follow(lab, &BTreeMap::from([("east", 1), ("west", count)])).await?;
        let took = start.elapsed();
        if took > FOLLOW_LIMIT {
            return Err(wrong(format!("weights follow within {FOLLOW_LIMIT:?}"), format!("{took:?}")));
        }
        lab.retire("west", count).await?;
        for load in loads.iter_mut() {
            load.until_answered(BETWEEN_STEPS, ANSWER_LIMIT).await?;
        }
        seen.push(format!("{before}→{count} in {} ms", took.as_millis()));
        before = count;
    }
    let west = answer(&lab.plan.clusters[1]);
    for load in loads {
        load.until_answered_by(&west, ANSWER_LIMIT).await?;
    }
    Ok(seen.join(", "))
}

/// Waits until both clients see each cluster with as many endpoints as `counts` says.
pub(super) async fn follow(lab: &Lab, counts: &BTreeMap<&str, usize>) -> Result<(), LabError> {
    for client in clients(lab)? {
        let wanted = expected(lab, client.cluster, counts);
        let what = format!("{} has {}", client.pod.plan().path(), written(&wanted));
        until(&what, FOLLOW_LIMIT * 3, async || {
            let hosts = client.pod.admin().hosts(&HELLOWORLD.envoy_cluster()).await;
            let hosts = hosts.map_err(|error| error.to_string())?;
            if hosts == wanted { Ok(()) } else { Err(written(&hosts)) }
        })
        .await?;
    }
    Ok(())
}

/// `helloworld` is deleted in both clusters and created again, first at once, then after the proxies have
/// forgotten it: each time the next requests are right.
pub(super) async fn service_recreated(lab: &Lab) -> Seen {
    let mut seen = Vec::new();
    for noticed in [Noticed::Perhaps, Noticed::Surely] {
        delete_everywhere(lab, noticed).await?;
        let took = create_everywhere(lab).await?;
        seen.push(format!("{} ms", took.as_millis()));
    }
    let answers = both_versions(lab).await?;
    Ok(format!("right again after {}; {answers}", seen.join(" and ")))
}

/// Whether the proxies must have noticed a deletion before it is undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Noticed {
    Perhaps,
    Surely,
}

async fn delete_everywhere(lab: &Lab, noticed: Noticed) -> Result<(), LabError> {
    for cluster in &lab.plan.clusters {
        delete_service(lab.cluster(cluster.name)?.api(), &HELLOWORLD).await?;
    }
    if noticed == Noticed::Surely { follow(lab, &BTreeMap::new()).await } else { Ok(()) }
}

/// Creates `helloworld` in both clusters; returns how long it took until each client had its hosts and an
/// answer.
async fn create_everywhere(lab: &Lab) -> Result<Duration, LabError> {
    let start = Instant::now();
    for cluster in &lab.plan.clusters {
        let api = lab.cluster(cluster.name)?.api();
        api.create(Collection::Services, &world::app_service(cluster, &HELLOWORLD)).await?;
        let slice = world::app_slice(cluster, &HELLOWORLD, &[(&cluster.helloworld[0], Readiness::Ready)]);
        api.create(Collection::EndpointSlices, &slice).await?;
    }
    follow(lab, &BTreeMap::from([("east", 1), ("west", 1)])).await?;
    for client in clients(lab)? {
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
    clients(lab)?.iter().map(|client| client.load(&HELLOWORLD)).collect()
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
