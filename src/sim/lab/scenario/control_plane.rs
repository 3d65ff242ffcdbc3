//! `kill-control-plane`: the proxies of a cluster go on with what they have.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::client::Client;
use super::super::envoy::Hosts;
use super::super::truth::written;
use super::super::wait::until_every;
use super::super::{Lab, LabError};
use super::stage::{PATIENCE, Stage, hosts_of};
use super::{Seen, news, wrong};

/// 1 while Envoy has a stream to its control plane.
const CONNECTED: &str = "control_plane.connected_state";
const PAUSE: Duration = Duration::from_millis(150);

/// SIGKILL, a change nobody hears of, a start.
pub(super) async fn kill(stage: &Stage) -> Result<(), LabError> {
    let name = stage.cluster.control_plane.clone();
    let control_plane = stage.lab.control_plane(&name)?;
    let served = served(stage, &name);
    let before = all_hosts(&served).await?;
    let of = name.clone();
    stage.undo_by(format!("the control plane of {name} serves"), move |lab| async move {
        lab.control_plane(&of)?.start().await
    });
    control_plane.kill().await;
    stage.done(format!("the control plane of {name} is killed"));
    connected(&stage.lab, &name, 0).await?;
    let meanwhile = news::create(stage, &stage.cluster, "news-meanwhile").await?;
    stage.answered(20).await?;
    stage.lasting().await;
    let during = all_hosts(&served).await?;
    stage.done(format!("the control plane of {name} is started"));
    control_plane.start().await?;
    stage.expect("reconnects", connected(&stage.lab, &name, 1).await);
    stage.expect("catches-up", meanwhile.arrived(stage, PATIENCE).await);
    let after = all_hosts(&served).await?;
    stage.expect("no-endpoint-lost", same(&before, &during).and_then(|_| same(&before, &after)));
    Ok(())
}

/// The clients that control plane `name` serves.
fn served(stage: &Stage, name: &str) -> Vec<Client> {
    stage.clients.iter().filter(|client| client.cluster.control_plane == name).cloned().collect()
}

async fn all_hosts(clients: &[Client]) -> Result<BTreeMap<String, Hosts>, LabError> {
    let mut all = BTreeMap::new();
    for client in clients {
        all.insert(client.pod.path(), hosts_of(client).await?);
    }
    Ok(all)
}

fn same(before: &BTreeMap<String, Hosts>, after: &BTreeMap<String, Hosts>) -> Seen {
    for (client, hosts) in before {
        let now = after.get(client).cloned().unwrap_or_default();
        if now != *hosts {
            return Err(wrong(format!("{client} keeps {}", written(hosts)), written(&now)));
        }
    }
    let kept = before.iter().map(|(client, hosts)| format!("{client} kept {}", written(hosts)));
    Ok(kept.collect::<Vec<_>>().join("; "))
}

/// Waits until every Envoy that control plane `name` serves says `state`.
async fn connected(lab: &Lab, name: &str, state: u64) -> Seen {
    let clusters: Vec<&str> = lab
        .plan()
        .clusters
        .iter()
        .filter(|cluster| cluster.control_plane == name)
        .map(|cluster| cluster.name.as_str())
        .collect();
    let pods: Vec<_> = lab.pods().into_iter().filter(|pod| clusters.contains(&pod.cluster())).collect();
    let start = tokio::time::Instant::now();
    for pod in pods.iter().filter(|pod| pod.has_envoy()) {
        let what = format!("{CONNECTED} of {} is {state}", pod.path());
        until_every(&what, PATIENCE, PAUSE, async || {
            let stats = pod.admin().stats("^control_plane.connected_state$").await;
            match stats.map_err(|error| error.to_string())?.get(CONNECTED) {
                Some(found) if *found == state => Ok(()),
                found => Err(format!("{found:?}")),
            }
        })
        .await?;
    }
    Ok(format!("{} Envoys within {} ms", pods.len(), start.elapsed().as_millis()))
}
