//! Parts of the control side fail; requests do not.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::client::Load;
use super::super::plan::HELLOWORLD;
use super::super::truth::{ready, written};
use super::super::wait::{until, until_every};
use super::super::world::app_deployment_name;
use super::super::{Lab, LabError};
use super::scaling::{finish, follow_within, loads, scale_and_wait, scaled};
use super::views::onlookers;
use super::{Seen, wrong};

/// Envoy tries again after a random delay that grows from half a second.
const RECONNECT_LIMIT: Duration = Duration::from_secs(30);
/// Watches come back, and a pod starts.
const HEAL_LIMIT: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(100);
/// Requests sent by each client while a part is away.
const REQUESTS: u64 = 60;
const REQUESTS_LIMIT: Duration = Duration::from_secs(20);
/// 1 while Envoy has a stream to its control plane.
const CONNECTED: &str = "control_plane.connected_state";
/// What changes whenever a proxy takes a configuration.
const UPDATES: &str = r"(^|\.)(version|update_success|update_rejected|update_failure)$";

/// The first control plane stops and starts: its Envoys keep serving, reconnect, and have what they had.
pub(super) async fn control_plane_restart(lab: &Lab) -> Seen {
    let before = client_hosts(lab).await?;
    let mut loads = loads(lab)?;
    let outcome = restart(lab, &mut loads).await;
    let total = finish(loads).await;
    outcome?;
    let after = client_hosts(lab).await?;
    if before != after {
        return Err(wrong(format!("hosts stay {before:?}"), format!("{after:?}")));
    }
    total
}

async fn restart(lab: &Lab, loads: &mut [Load]) -> Result<(), LabError> {
    let control_plane = &lab.control_planes()[0];
    control_plane.stop().await;
    let outcome = while_away(lab, loads).await;
    control_plane.start().await?;
    outcome?;
    all_connected(lab, 1).await
}

async fn while_away(lab: &Lab, loads: &mut [Load]) -> Result<(), LabError> {
    all_connected(lab, 0).await?;
    answered(loads).await
}

/// Waits until every onlooker served by the first control plane says `state`.
async fn all_connected(lab: &Lab, state: u64) -> Result<(), LabError> {
    let name = lab.control_planes()[0].name();
    let served = |cluster: &str| lab.plan().cluster(cluster).is_some_and(|c| c.control_plane == name);
    for pod in onlookers(lab).iter().filter(|pod| served(pod.cluster())) {
        let what = format!("{CONNECTED} of {} is {state}", pod.path());
        until_every(&what, RECONNECT_LIMIT, PAUSE, async || {
            let stats = pod.admin().stats("^control_plane.connected_state$").await;
            match stats.map_err(|error| error.to_string())?.get(CONNECTED) {
                Some(found) if *found == state => Ok(()),
                found => Err(format!("{found:?}")),
            }
        })
        .await?;
    }
    Ok(())
}

/// An API server stops and comes back: meanwhile no proxy of any cluster gets anything new and requests go on;
/// afterwards changes arrive again.
pub(super) async fn api_server_outage(lab: &Lab) -> Seen {
    let before = settled(lab).await?;
    let mut loads = loads(lab)?;
    scaled(lab).kill_api().await;
    let sent = answered(&mut loads).await;
    let during = updates(lab).await;
    scaled(lab).resume_api().await?;
    let total = finish(loads).await?;
    sent?;
    same(&before, &during?)?;
    let healed = heals(lab).await;
    scale_and_wait(lab, scaled(lab), 1).await?;
    healed?;
    Ok(format!("{total}; {} counters of {} Envoys unchanged", before.len(), onlookers(lab).len()))
}

/// A further endpoint reaches all clients: controllers, node agent and control planes watch again.
async fn heals(lab: &Lab) -> Result<(), LabError> {
    let cluster = scaled(lab);
    cluster.api().scale(&app_deployment_name(cluster.plan()), 2).await?;
    until("a second endpoint after the outage", HEAL_LIMIT, async || {
        let found = ready(cluster, &HELLOWORLD).await.map_err(|error| error.to_string())?.len();
        if found == 2 { Ok(()) } else { Err(format!("{found}")) }
    })
    .await?;
    follow_within(lab, RECONNECT_LIMIT).await
}

fn same(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> Result<(), LabError> {
    let changed: Vec<String> = after
        .iter()
        .filter(|(name, value)| before.get(*name) != Some(value))
        .map(|(name, value)| format!("{name}: {:?} → {value}", before.get(name)))
        .collect();
    if changed.is_empty() {
        return Ok(());
    }
    Err(wrong("an API server's outage changes nothing for proxies", changed.join(", ")))
}

/// The update counters once nothing is on its way any more.
async fn settled(lab: &Lab) -> Result<BTreeMap<String, u64>, LabError> {
    let mut last = updates(lab).await?;
    until_every("proxies have everything", RECONNECT_LIMIT, 5 * PAUSE, async || {
        let now = updates(lab).await.map_err(|error| error.to_string())?;
        let outcome = same(&last, &now).map_err(|error| error.to_string());
        last = now;
        outcome.map(|()| last.clone())
    })
    .await
}

async fn updates(lab: &Lab) -> Result<BTreeMap<String, u64>, LabError> {
    let mut all = BTreeMap::new();
    for pod in onlookers(lab) {
        let path = pod.path();
        let stats = pod.admin().stats(UPDATES).await?;
        all.extend(stats.into_iter().map(|(name, value)| (format!("{path} {name}"), value)));
    }
    Ok(all)
}

async fn answered(loads: &mut [Load]) -> Result<(), LabError> {
    for load in loads {
        load.until_answered(REQUESTS, REQUESTS_LIMIT).await?;
    }
    Ok(())
}

async fn client_hosts(lab: &Lab) -> Result<Vec<String>, LabError> {
    let mut all = Vec::new();
    for client in lab.clients() {
        all.push(written(&client.pod.admin().hosts(&HELLOWORLD.envoy_cluster()).await?));
    }
    Ok(all)
}
