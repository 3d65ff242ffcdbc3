//! What the proxies were told, and what the networks let through.

use std::collections::{BTreeMap, BTreeSet};

use super::super::envoy::{Host, Hosts};
use super::super::place::{self, Place};
use super::super::plan::{ClusterPlan, GATEWAY_PORT, HELLOWORLD, Role};
use super::super::pod::RunningPod;
use super::super::{Lab, LabError};
use super::client::clients;
use super::{Seen, wrong};

/// The hosts the client of `cluster` must have for `helloworld`: its own pods, weight 1 each, and the other
/// network's gateway with the sum of what is behind it.
pub(super) fn expected(lab: &Lab, cluster: &ClusterPlan, counts: &BTreeMap<&str, usize>) -> Hosts {
    let mut hosts = Hosts::new();
    let count = |name: &str| counts.get(name).copied().unwrap_or(0);
    for pod in cluster.helloworld.iter().take(count(cluster.name)) {
        hosts.insert(format!("{}:{}", pod.address, HELLOWORLD.port), Host { weight: 1 });
    }
    if let Some(peer) = lab.plan.cluster(cluster.peer) {
        let weight = u32::try_from(count(peer.name)).unwrap_or(u32::MAX);
        if weight > 0 {
            hosts.insert(format!("{}:{GATEWAY_PORT}", peer.gateway_wan), Host { weight });
        }
    }
    hosts
}

/// `address weight, …`.
pub(super) fn written(hosts: &Hosts) -> String {
    let entries: Vec<String> =
        hosts.iter().map(|(address, host)| format!("{address} weight {}", host.weight)).collect();
    if entries.is_empty() { "no host".to_owned() } else { entries.join(", ") }
}

/// Each client's Envoy has the other network only by its gateway, with the weight of what is behind it.
pub(super) async fn remote_by_gateway(lab: &Lab) -> Seen {
    let counts = BTreeMap::from([("east", 1), ("west", 1)]);
    let mut seen = Vec::new();
    for client in clients(lab)? {
        let hosts = client.pod.admin().hosts(&HELLOWORLD.envoy_cluster()).await?;
        let wanted = expected(lab, client.cluster, &counts);
        let from = client.pod.plan().path();
        if hosts != wanted {
            return Err(wrong(format!("{from} has {}", written(&wanted)), written(&hosts)));
        }
        seen.push(format!("{from}: {}", written(&hosts)));
    }
    Ok(seen.join("; "))
}

/// No Envoy has a host that is not of its own network, a gateway, or the pod itself.
pub(super) async fn no_foreign_address(lab: &Lab) -> Seen {
    let mut looked = 0;
    for pod in lab.pods.values() {
        let Some(cluster) = lab.plan.cluster(pod.plan().cluster) else {
            continue;
        };
        let near = near_addresses(lab, cluster);
        for (name, hosts) in pod.admin().clusters().await? {
            for host in hosts.keys() {
                looked += 1;
                let address = host.rsplit_once(':').map_or(host.as_str(), |(address, _)| address);
                if !near.contains(address) {
                    let claim = format!("{} knows no address of the other network", pod.plan().path());
                    return Err(wrong(claim, format!("{host} in {name}")));
                }
            }
        }
    }
    Ok(format!("{looked} hosts of {} Envoys", lab.pods.len()))
}

fn near_addresses(lab: &Lab, cluster: &ClusterPlan) -> BTreeSet<String> {
    let pods = cluster.pods().flat_map(|pod| [pod.address, pod.app]);
    let gateways = lab.plan.clusters.iter().map(|cluster| cluster.gateway_wan);
    pods.chain(gateways)
        .chain([cluster.xds, std::net::Ipv4Addr::LOCALHOST])
        .map(|address| address.to_string())
        .collect()
}

/// Namespaces: a pod of the other network cannot be reached, not even by whom capture leaves alone. An
/// address that both networks use is a pod of one's own.
pub(super) async fn networks_apart(lab: &mut Lab) -> Seen {
    lab.prepare("west", 2).await?;
    let outcome = try_to_cross(lab).await;
    lab.scale("west", 1).await?;
    outcome
}

async fn try_to_cross(lab: &Lab) -> Seen {
    let [east, west] = &lab.plan.clusters;
    let only_west = &west.helloworld[1];
    let shared = &west.helloworld[0];
    let [client, other] = clients(lab)?;
    let port = HELLOWORLD.port;
    let near = bypass(other.pod.place(), &format!("http://{}:{port}/hello", only_west.address)).await;
    if near.is_err() {
        return Err(wrong(format!("{} is up for its own network", only_west.path()), format!("{near:?}")));
    }
    if let Ok(answer) =
        bypass(client.pod.place(), &format!("http://{}:{port}/hello", only_west.address)).await
    {
        return Err(wrong(format!("no pod of {} is reachable from {}", west.network, east.network), answer));
    }
    let answer = bypass(client.pod.place(), &format!("http://{}:{port}/hello", shared.address)).await?;
    if !answer.contains(&format!("cluster: {}", east.name)) {
        return Err(wrong(
            format!("{} is a pod of {} for a client there", shared.address, east.network),
            answer,
        ));
    }
    Ok(format!(
        "from {}, {} of {} is unreachable and {} is {}'s own pod",
        east.network, only_west.address, west.network, shared.address, east.name
    ))
}

/// One request past the sidecar: as the proxy's own user, whom capture leaves alone.
async fn bypass(place: Place, url: &str) -> Result<String, LabError> {
    let mut command = place.proxy_command("curl");
    command.args(["--silent", "--show-error", "--fail", "--connect-timeout", "1", "--max-time", "3", url]);
    place::run(command, &format!("curl {url} past the sidecar"), None).await
}

/// The Envoys of both clients and both gateways.
pub(super) fn onlookers(lab: &Lab) -> impl Iterator<Item = &RunningPod> {
    lab.pods.values().filter(|pod| !matches!(pod.plan().role, Role::Helloworld(_)))
}
