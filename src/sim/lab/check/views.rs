//! What the proxies were told, and what the networks let through.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use super::super::cluster::Cluster;
use super::super::kubelet::Role;
use super::super::place::{self, Place};
use super::super::plan::{ClusterPlan, HELLOWORLD, NAMESPACE};
use super::super::pod::RunningPod;
use super::super::truth::{Truth, truth, written};
use super::super::world::app_deployment_name;
use super::super::{Lab, LabError};
use super::scaling::{pods_of, scale_and_wait};

use super::{Seen, wrong};

/// The most pods a cluster is scaled to in search of an address of its own.
const MOST: usize = 4;

/// Each client's Envoy has other networks only by their gateways, with the weight of what is behind them; each
/// gateway has all of its own network and nothing else.
pub(super) async fn remote_by_gateway(lab: &Lab) -> Seen {
    let truth = truth(lab, &HELLOWORLD).await?;
    let mut seen = Vec::new();
    for client in lab.clients() {
        let hosts = client.pod.admin().hosts(&HELLOWORLD.envoy_cluster()).await?;
        let from = client.pod.path();
        if let Err(problem) = truth.holds(&client.cluster.network, &hosts) {
            return Err(wrong(format!("{from} has what the API servers say"), problem));
        }
        seen.push(format!("{from}: {}", written(&hosts)));
    }
    let gateways = lab.pods().into_iter().filter(|pod| pod.role() == Role::Gateway && pod.is_ready());
    for gateway in gateways {
        let hosts =
            gateway.admin().hosts(&format!("outbound_.{}_._.{}", HELLOWORLD.port, HELLOWORLD.host())).await?;
        let network = network_of(lab, &gateway).map_or("", String::as_str);
        if let Err(problem) = truth.within(network, &hosts) {
            return Err(wrong(format!("{} has what is in {network}", gateway.path()), problem));
        }
    }
    Ok(seen.join("; "))
}

/// No Envoy has a host that is not of its own network, a gateway, or the pod itself.
pub(super) async fn no_foreign_address(lab: &Lab) -> Seen {
    let truth = truth(lab, &HELLOWORLD).await?;
    let (mut looked, mut envoys) = (0, 0);
    for pod in lab.pods().into_iter().filter(|pod| pod.has_envoy() && pod.is_ready()) {
        let Some(cluster) = lab.plan().cluster(pod.cluster()) else { continue };
        let near = near_addresses(lab, &truth, cluster);
        envoys += 1;
        for (name, hosts) in pod.admin().clusters().await? {
            for host in hosts.keys() {
                looked += 1;
                let address = host.rsplit_once(':').map_or(host.as_str(), |(address, _)| address);
                if !near.contains(address) {
                    let claim = format!("{} knows no address of another network", pod.path());
                    return Err(wrong(claim, format!("{host} in {name}")));
                }
            }
        }
    }
    Ok(format!("{looked} hosts of {envoys} Envoys"))
}

fn near_addresses(lab: &Lab, truth: &Truth, cluster: &ClusterPlan) -> BTreeSet<String> {
    let pods = lab.pods();
    let pods = pods.iter().filter(|pod| network_of(lab, pod) == Some(&cluster.network));
    let own = pods.flat_map(|pod| [pod.address(), pod.addresses().app]);
    let own = own.chain([cluster.xds, Ipv4Addr::LOCALHOST]).map(|address| address.to_string());
    // A real API server announces itself as an endpoint of the Service `kubernetes`.
    let servers = lab.plan().clusters.iter().filter(|other| other.network == cluster.network);
    own.chain(servers.map(|other| other.api.to_string())).chain(truth.gateways().cloned()).collect()
}

fn network_of<'a>(lab: &'a Lab, pod: &RunningPod) -> Option<&'a String> {
    lab.plan().cluster(pod.cluster()).map(|cluster| &cluster.network)
}

/// Namespaces: a pod of another network cannot be reached, not even by whom capture leaves alone. An address
/// that both networks use is a pod of one's own.
pub(super) async fn networks_apart(lab: &Lab) -> Seen {
    let near = &lab.clusters()[0];
    let far = lab.clusters().iter().find(|cluster| cluster.plan().network != near.plan().network);
    let far = far.ok_or_else(|| wrong("there is another network", "there is none"))?;
    let deployment = app_deployment_name(far.plan());
    let mut outcome = Err(wrong(format!("{} has an address of its own", far.plan().name), "it has none"));
    for count in 2..=MOST {
        scale_and_wait(lab, far, count).await?;
        let own =
            pods_of(lab, far.plan(), &deployment).into_iter().find(|pod| !is_used(lab, near, pod.address()));
        if let Some(pod) = own {
            outcome = try_to_cross(lab, near, &pod).await;
            break;
        }
    }
    scale_and_wait(lab, far, 1).await?;
    outcome
}

/// Whether a pod of the network of `cluster` has this address.
fn is_used(lab: &Lab, cluster: &Cluster, address: Ipv4Addr) -> bool {
    lab.pods()
        .iter()
        .any(|pod| pod.address() == address && network_of(lab, pod) == Some(&cluster.plan().network))
}

async fn try_to_cross(lab: &Lab, near: &Cluster, target: &Arc<RunningPod>) -> Seen {
    let clients = lab.clients();
    let client = |name: &str| {
        let found = clients.iter().find(|client| client.cluster.name == name);
        found.ok_or_else(|| wrong(format!("{name} has a client"), "it has none"))
    };
    let (here, there) = (client(&near.plan().name)?, client(target.cluster())?);
    let url = |address: Ipv4Addr| format!("http://{address}:{}/hello", HELLOWORLD.port);
    // Past both sidecars, or the target's would refuse: the probe is the pod's own network, not its policy.
    let reached = bypass(there.pod.place(), &url(target.address())).await;
    if reached.is_err() {
        return Err(wrong(format!("{} is up for its own network", target.path()), format!("{reached:?}")));
    }
    let (from, network) = (&here.cluster.network, &there.cluster.network);
    if let Ok(answer) = bypass(here.pod.place(), &url(target.address())).await {
        return Err(wrong(format!("no pod of {network} is reachable from {from}"), answer));
    }
    let shared = shared_address(lab, &here.cluster.name, &there.cluster.network);
    let Some(shared) = shared else {
        return Ok(format!("from {from}, {} of {network} is unreachable", target.address()));
    };
    let answer = bypass(here.pod.place(), &url(shared)).await?;
    if !answer.contains(&format!("cluster: {}", near.plan().name)) {
        return Err(wrong(format!("{shared} is a pod of {from} for a client there"), answer));
    }
    Ok(format!(
        "from {from}, {} of {network} is unreachable and {shared} is {}'s own pod",
        target.address(),
        near.plan().name
    ))
}

/// An address of an application in `cluster` that a pod of `network` has too.
fn shared_address(lab: &Lab, cluster: &str, network: &str) -> Option<Ipv4Addr> {
    let pods = lab.pods();
    let own = pods.iter().filter(|pod| pod.cluster() == cluster && pod.namespace() == NAMESPACE);
    let mut own = own.filter(|pod| pod.workload().app() == "helloworld").map(|pod| pod.address());
    own.find(|address| {
        let far = |pod: &&Arc<RunningPod>| network_of(lab, pod).is_some_and(|name| name == network);
        pods.iter().filter(far).any(|pod| pod.address() == *address)
    })
}

/// One request past the sidecar: as the proxy's own user, whom capture leaves alone.
async fn bypass(place: Place, url: &str) -> Result<String, LabError> {
    let mut command = place.proxy_command("curl");
    command.args(["--silent", "--show-error", "--fail", "--connect-timeout", "1", "--max-time", "3", url]);
    place::run(command, &format!("curl {url} past the sidecar"), None).await
}

/// The Envoys of clients and gateways.
pub(super) fn onlookers(lab: &Lab) -> Vec<Arc<RunningPod>> {
    let looks = |pod: &Arc<RunningPod>| pod.role() != Role::App && pod.has_envoy() && pod.is_ready();
    lab.pods().into_iter().filter(looks).collect()
}
