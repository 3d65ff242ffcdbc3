//! Parts of the control side fail; requests do not.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::plan::HELLOWORLD;
use super::super::wait::until_every;
use super::super::{Lab, LabError};
use super::client::{Load, clients};
use super::scaling::{finish, loads};
use super::views::{expected, onlookers, written};
use super::{Seen, wrong};

/// Envoy tries again after a random delay that grows from half a second.
const RECONNECT_LIMIT: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(100);
/// Requests sent by each client while a part is away.
const REQUESTS: u64 = 60;
const REQUESTS_LIMIT: Duration = Duration::from_secs(20);
/// 1 while Envoy has a stream to its control plane.
const CONNECTED: &str = "control_plane.connected_state";
/// What changes whenever a proxy takes a configuration.
const UPDATES: &str = r"(^|\.)(version|update_success|update_rejected|update_failure)$";

/// East's control plane stops and starts: its Envoys keep serving, reconnect, and have what they had.
pub(super) async fn control_plane_restart(lab: &mut Lab) -> Seen {
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

async fn restart(lab: &mut Lab, loads: &mut [Load]) -> Result<(), LabError> {
    lab.cluster_mut("east")?.stop_control_plane().await;
    let outcome = while_away(lab, loads).await;
    let setup = lab.control_plane_setup("east");
    lab.cluster_mut("east")?.start_control_plane(&setup).await?;
    outcome?;
    all_connected(lab, 1).await
}

async fn while_away(lab: &Lab, loads: &mut [Load]) -> Result<(), LabError> {
    all_connected(lab, 0).await?;
    answered(loads).await
}

/// Waits until every onlooker in east says `state`.
async fn all_connected(lab: &Lab, state: u64) -> Result<(), LabError> {
    for pod in onlookers(lab).filter(|pod| pod.plan().cluster == "east") {
        let what = format!("{CONNECTED} of {} is {state}", pod.plan().path());
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

/// West's API server stops and comes back: meanwhile no proxy of either cluster gets anything new and requests
/// go on; afterwards changes arrive again.
pub(super) async fn api_server_outage(lab: &mut Lab) -> Seen {
    let before = settled(lab).await?;
    let mut loads = loads(lab)?;
    lab.cluster_mut("west")?.stop_api().await;
    let sent = answered(&mut loads).await;
    let during = updates(lab).await;
    lab.cluster_mut("west")?.resume_api().await?;
    let total = finish(loads).await?;
    sent?;
    same(&before, &during?)?;
    let healed = heals(lab).await;
    lab.scale("west", 1).await?;
    healed?;
    Ok(format!("{total}; {} counters of {} Envoys unchanged", before.len(), onlookers(lab).count()))
}

/// A further endpoint in west reaches both clients: the control planes watch again.
async fn heals(lab: &mut Lab) -> Result<(), LabError> {
    lab.prepare("west", 2).await?;
    lab.announce("west", 2).await?;
    let counts = BTreeMap::from([("east", 1), ("west", 2)]);
    for client in clients(lab)? {
        let wanted = expected(lab, client.cluster, &counts);
        until_every("a change after the outage", RECONNECT_LIMIT, PAUSE, async || {
            let hosts = client.pod.admin().hosts(&HELLOWORLD.envoy_cluster()).await;
            let hosts = hosts.map_err(|error| error.to_string())?;
            if hosts == wanted { Ok(()) } else { Err(written(&hosts)) }
        })
        .await?;
    }
    Ok(())
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
        let path = pod.plan().path();
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
    for client in clients(lab)? {
        all.push(written(&client.pod.admin().hosts(&HELLOWORLD.envoy_cluster()).await?));
    }
    Ok(all)
}
