//! `kill-gateway`, `move-gateway`: the way into a network breaks, or is another one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::super::client::Client;
use super::super::envoy::Connections;
use super::super::kubelet::Role;
use super::super::plan::{HELLOWORLD, SYSTEM_NAMESPACE};
use super::super::pod::RunningPod;
use super::super::wait::until;
use super::super::world::GATEWAY;
use super::super::{Lab, LabError};
use super::quiet::{LISTS, Quiet};
use super::stage::{ANSWER_LIMIT, FOLLOW_LIMIT, PATIENCE, Stage, in_time};
use super::{Seen, wrong};

/// The node agent starts it again after a pause that doubles each time.
const RESTART_LIMIT: Duration = Duration::from_secs(120);
/// Counters of Envoy for the watched service.
const FAILURES: &str = r"(upstream_cx_destroy_remote_with_active_rq|upstream_cx_total|upstream_cx_connect_fail|upstream_rq_retry|upstream_rq_retry_success)$";

/// The cluster's gateways.
fn gateways(lab: &Lab, cluster: &str) -> Vec<Arc<RunningPod>> {
    let is_gateway = |pod: &Arc<RunningPod>| {
        pod.cluster() == cluster && pod.role() == Role::Gateway && pod.is_ready() && !pod.is_leaving()
    };
    lab.pods().into_iter().filter(is_gateway).collect()
}

fn one_gateway(stage: &Stage) -> Result<Arc<RunningPod>, LabError> {
    gateways(&stage.lab, &stage.cluster.name).into_iter().next().ok_or_else(|| LabError::Missing {
        what: format!("{} has no ready gateway", stage.cluster.name),
        hint: "wait for it, or scale its Deployment up".to_owned(),
    })
}

/// The clients of other networks: there is nothing to see without.
pub(super) fn far(stage: &Stage) -> Result<Vec<Client>, LabError> {
    let (_, far) = stage.near_and_far();
    if far.is_empty() {
        return Err(LabError::Missing {
            what: "all clusters are in one network: nobody uses a gateway".to_owned(),
            hint: "start the lab with --networks 2".to_owned(),
        });
    }
    Ok(far)
}

/// SIGKILL of the gateway's Envoy. With default policy nothing tells a client but the refused connection (D42):
/// a request that meets it is tried again elsewhere.
pub(super) async fn kill(stage: &Stage) -> Result<(), LabError> {
    let far = far(stage)?;
    let gateway = one_gateway(stage)?;
    let before = Counts::read(&far).await?;
    // The node agent restores it by itself; its way back is part of what must hold.
    gateway.kill_envoy();
    stage.done(format!("the Envoy of {} is killed", gateway.path()));
    let killed = Instant::now();
    stage.answered(60).await?;
    let after = Counts::read(&far).await?;
    for ((client, before), after) in far.iter().zip(&before).zip(&after) {
        // Envoy's own count of requests on connections that broke under them. Whether they were carried out is
        // not known, so that no policy repeats them.
        stage.excuse(&client.cluster.name, after.grew(before, "upstream_cx_destroy_remote_with_active_rq"));
    }
    stage.expect("retried-elsewhere", retried(&before, &after));
    stage.expect("known-hosts-only", known_hosts(&before, &after));
    until("the gateway's restart", RESTART_LIMIT, async || match gateway.admin().live().await {
        Ok(()) => Ok(()),
        Err(error) => Err(error.to_string()),
    })
    .await?;
    stage.done(format!("the Envoy of {} is live again", gateway.path()));
    let answered = stage.answers(&far, PATIENCE).await;
    let since = killed.elapsed().as_secs();
    stage.expect("comes-back", answered.map(|answers| format!("{answers} again {since} s after the kill")));
    Ok(())
}

/// What one client's Envoy counts for the watched service.
struct Counts {
    client: String,
    /// By name, without the Envoy cluster's.
    counters: BTreeMap<String, u64>,
    /// By host.
    connections: BTreeMap<String, Connections>,
}

impl Counts {
    /// One per client.
    async fn read(clients: &[Client]) -> Result<Vec<Self>, LabError> {
        let cluster = HELLOWORLD.envoy_cluster();
        let prefix = format!("cluster.{cluster}");
        let mut all = Vec::new();
        for client in clients {
            let stats = client.pod.admin().stats(FAILURES).await?;
            let own = stats.into_iter().filter_map(|(name, value)| {
                let rest = name.strip_prefix(&prefix)?.trim_start_matches([';', '.']);
                Some((rest.to_owned(), value))
            });
            let counters = own.collect();
            let connections = client.pod.admin().connections(&cluster).await?;
            all.push(Self { client: client.pod.path(), counters, connections });
        }
        Ok(all)
    }

    /// How much a counter has grown since `before`.
    fn grew(&self, before: &Self, name: &str) -> u64 {
        let count = |of: &Self| of.counters.get(name).copied().unwrap_or(0);
        count(self).saturating_sub(count(before))
    }
}

/// Each client met refused connections, and retries that succeeded.
fn retried(before: &[Counts], after: &[Counts]) -> Seen {
    let mut seen = Vec::new();
    for (before, after) in before.iter().zip(after) {
        let refused = after.grew(before, "upstream_cx_connect_fail");
        let (retries, saved) =
            (after.grew(before, "upstream_rq_retry"), after.grew(before, "upstream_rq_retry_success"));
        let text = format!(
            "{}: {refused} connections refused, {saved} of {retries} retries succeeded",
            after.client
        );
        if refused == 0 || saved == 0 {
            return Err(wrong("connections are refused and retries succeed", text));
        }
        seen.push(text);
    }
    Ok(seen.join("; "))
}

/// Envoy counts connections by host and in all: what was added is the same, so that it tried nobody else.
fn known_hosts(before: &[Counts], after: &[Counts]) -> Seen {
    let mut seen = Vec::new();
    for (before, after) in before.iter().zip(after) {
        let all = after.grew(before, "upstream_cx_total");
        let (mut known, mut texts) = (0, Vec::new());
        for (host, now) in &after.connections {
            let then = before.connections.get(host).copied().unwrap_or_default();
            let added = now.total.saturating_sub(then.total);
            known += added;
            texts.push(format!("{host} {added} ({} refused)", now.failed.saturating_sub(then.failed)));
        }
        let text = format!("{}: {all} connections, to {}", after.client, texts.join(", "));
        // Hosts are read after the sum both times: one that was made in between may be missing or too many.
        if all == 0 || known.abs_diff(all) > 1 {
            return Err(wrong("every connection went to a host of Envoy's list", text));
        }
        seen.push(text);
    }
    Ok(seen.join("; "))
}

/// A second gateway at another outer address; the Service's load balancer moves there, and back.
pub(super) async fn relocate(stage: &Stage) -> Result<(), LabError> {
    let far = far(stage)?;
    let name = stage.cluster.name.clone();
    let first = one_gateway(stage)?;
    let of = name.clone();
    stage.undo_by(format!("{GATEWAY} of {name} has one pod"), move |lab| async move {
        lab.cluster(&of)?.api().scale(&format!("{SYSTEM_NAMESPACE}/{GATEWAY}"), 1).await?;
        until("one gateway pod", PATIENCE, async || match gateways(&lab, &of).len() {
            1 => Ok(()),
            count => Err(format!("{count} of them")),
        })
        .await
    });
    stage.lab.cluster(&name)?.api().scale(&format!("{SYSTEM_NAMESPACE}/{GATEWAY}"), 2).await?;
    stage.done(format!("{GATEWAY} of {name} is scaled to 2"));
    let second = until("a second gateway", PATIENCE, async || {
        let ready = gateways(&stage.lab, &name);
        ready.into_iter().find(|pod| pod.path() != first.path()).ok_or_else(|| "there is one".to_owned())
    })
    .await?;
    let quiet = Quiet::settled(&stage.lab, LISTS).await?;
    let (old, new) = (outer(&first)?, outer(&second)?);
    let (of, to) = (name.clone(), old.clone());
    stage.undo_by(format!("the load balancer of {name} is at {old}"), move |lab| async move {
        set_ingress(&lab, &of, &to).await
    });
    let there = moving(stage, &far, &new, &old).await;
    stage.answered(40).await?;
    let answered = stage.answers(&far, ANSWER_LIMIT).await;
    stage.expect("answers-by-the-new-one", answered.map(|answers| format!("{answers} through {new}")));
    let back = moving(stage, &far, &old, &new).await;
    let both = there.and_then(|there| Ok(format!("{there}; {}", back?)));
    stage.expect("clients-follow", both);
    stage.expect("endpoints-only", quiet.unchanged(&stage.lab).await);
    Ok(())
}

fn outer(pod: &RunningPod) -> Result<String, LabError> {
    pod.outer_address().map(|address| address.to_string()).ok_or_else(|| LabError::Missing {
        what: format!("{} has no outer address", pod.path()),
        hint: "only gateways have one".to_owned(),
    })
}

async fn set_ingress(lab: &Lab, cluster: &str, address: &str) -> Result<(), LabError> {
    let status = json!({"status": {"loadBalancer": {"ingress": [{"ip": address}]}}});
    lab.cluster(cluster)?.api().patch_status(("Service", SYSTEM_NAMESPACE, GATEWAY), &status).await
}

/// Moves the load balancer; `far` must follow.
async fn moving(stage: &Stage, far: &[Client], to: &str, from: &str) -> Seen {
    let start = Instant::now();
    set_ingress(&stage.lab, &stage.cluster.name, to).await?;
    stage.done(format!("the load balancer of {} moves to {to}", stage.cluster.name));
    stage.follow(far, FOLLOW_LIMIT * 3).await?;
    in_time(&format!("{to} instead of {from}"), start.elapsed(), FOLLOW_LIMIT)
}
