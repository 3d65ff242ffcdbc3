//! What proxies must have, by what the API servers say: endpoints of one's own network directly, those of
//! another network by its gateways, each with its share of the load.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::try_join_all;
use serde_json::Value;
use tokio::time::Instant;

use super::envoy::Hosts;
use super::plan::{AppService, GATEWAY_PORT, NAMESPACE};
use super::wait::until_every;
use super::world::NETWORK_LABEL;
use super::{Cluster, Lab, LabError};

/// Between two looks at EndpointSlices: what is measured counts from them.
const LOOK: Duration = Duration::from_millis(10);

/// Ready endpoints and gateways at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Truth {
    port: u16,
    /// By cluster.
    endpoints: BTreeMap<String, Endpoints>,
    /// Outer addresses by network.
    gateways: BTreeMap<String, BTreeSet<String>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Endpoints {
    network: String,
    ready: BTreeSet<String>,
}

/// What all API servers say about `service` now.
pub(super) async fn truth(lab: &Lab, service: &AppService) -> Result<Truth, LabError> {
    let mut truth = Truth { port: service.port, endpoints: BTreeMap::new(), gateways: BTreeMap::new() };
    let asking = lab.clusters().iter().map(async |cluster| {
        futures::try_join!(ready(cluster, service), cluster.api().list(("Service", "", "")))
    });
    for (cluster, (ready, services)) in lab.clusters().iter().zip(try_join_all(asking).await?) {
        let plan = cluster.plan();
        let endpoints = Endpoints { network: plan.network.clone(), ready };
        truth.endpoints.insert(plan.name.clone(), endpoints);
        for gateway in services {
            if let Some(network) = gateway["metadata"]["labels"][NETWORK_LABEL].as_str() {
                truth.gateways.entry(network.to_owned()).or_default().extend(ingress(&gateway));
            }
        }
    }
    Ok(truth)
}

/// Addresses of the ready endpoints of `service` in `cluster`.
pub(super) async fn ready(cluster: &Cluster, service: &AppService) -> Result<BTreeSet<String>, LabError> {
    let slices = cluster.api().list(("EndpointSlice", NAMESPACE, "")).await?;
    let own = slices
        .iter()
        .filter(|slice| slice["metadata"]["labels"]["kubernetes.io/service-name"] == service.name);
    let endpoints = own.filter_map(|slice| slice["endpoints"].as_array()).flatten();
    let ready = endpoints.filter(|endpoint| endpoint["conditions"]["ready"] != false);
    let addresses = ready.filter_map(|endpoint| endpoint["addresses"].as_array()).flatten();
    Ok(addresses.filter_map(|address| address.as_str().map(str::to_owned)).collect())
}

/// Waits until `service` has `count` ready endpoints in `cluster`, by its EndpointSlices. Returns when it had not yet:
/// what follows is measured from there at the earliest.
///
/// # Errors
/// [`LabError::Deadline`] with what there was instead once `limit` is over.
pub(super) async fn until_ready(
    cluster: &Cluster,
    service: &AppService,
    count: usize,
    limit: Duration,
) -> Result<Instant, LabError> {
    let what = format!("{count} ready endpoints in {}", cluster.plan().name);
    let mut before = Instant::now();
    until_every(&what, limit, LOOK, async || {
        let looked = Instant::now();
        let found = ready(cluster, service).await.map_err(|error| error.to_string())?.len();
        if found == count {
            return Ok(());
        }
        before = looked;
        Err(format!("{found} are"))
    })
    .await?;
    Ok(before)
}

fn ingress(service: &Value) -> Vec<String> {
    let ingress = service["status"]["loadBalancer"]["ingress"].as_array();
    ingress.into_iter().flatten().filter_map(|one| one["ip"].as_str().map(str::to_owned)).collect()
}

/// `address weight, …`.
pub(super) fn written(hosts: &Hosts) -> String {
    let entries: Vec<String> =
        hosts.iter().map(|(address, host)| format!("{address} weight {}", host.weight)).collect();
    if entries.is_empty() { "no host".to_owned() } else { entries.join(", ") }
}

impl Truth {
    /// How many ready endpoints `cluster` has.
    pub(super) fn count(&self, cluster: &str) -> usize {
        self.endpoints.get(cluster).map_or(0, |endpoints| endpoints.ready.len())
    }

    /// The same without the endpoints of `cluster`.
    pub(super) fn without(mut self, cluster: &str) -> Self {
        self.endpoints.remove(cluster);
        self
    }

    /// The hosts in `hosts` that stand for endpoints; a proxy of `network` has them as long as those are there.
    pub(super) fn standing<'a>(&self, network: &str, hosts: &'a Hosts) -> BTreeSet<&'a String> {
        let groups = self.groups(network);
        let stands = |host: &&String| {
            groups.iter().any(|group| group.endpoints > 0 && group.hosts.contains(host.as_str()))
        };
        hosts.keys().filter(stands).collect()
    }

    /// Clusters with at least one ready endpoint.
    pub(super) fn serving(&self) -> Vec<&str> {
        self.endpoints.iter().filter(|(_, e)| !e.ready.is_empty()).map(|(name, _)| name.as_str()).collect()
    }

    /// All outer addresses of gateways.
    pub(super) fn gateways(&self) -> impl Iterator<Item = &String> {
        self.gateways.values().flatten()
    }

    /// Whether a gateway of `network` that has `hosts` has every ready endpoint there, and nothing else.
    pub(super) fn within(&self, network: &str, hosts: &Hosts) -> Result<(), String> {
        let near = self.endpoints.values().filter(|endpoints| endpoints.network == network);
        let wanted: BTreeSet<String> =
            near.flat_map(|near| &near.ready).map(|address| format!("{address}:{}", self.port)).collect();
        if hosts.keys().eq(wanted.iter()) {
            Ok(())
        } else {
            Err(format!("{}, not {wanted:?}", written(hosts)))
        }
    }

    /// Whether a proxy of `network` that has `hosts` has what it must; else what is wrong.
    ///
    /// Weights are compared as shares: where several gateways stand for one network, all weights are scaled.
    pub(super) fn holds(&self, network: &str, hosts: &Hosts) -> Result<(), String> {
        let groups = self.groups(network);
        let everything: u64 = groups.iter().map(|group| group.endpoints).sum();
        let weight: u64 = hosts.values().map(|host| u64::from(host.weight)).sum();
        let wrong = |what: String| Err(format!("{what}: {}", written(hosts)));
        if let Some(stray) = hosts.keys().find(|host| !groups.iter().any(|group| group.hosts.contains(*host)))
        {
            return wrong(format!("{stray} should not be there"));
        }
        let lacking =
            |group: &&Group| group.endpoints > 0 && !group.hosts.iter().any(|host| hosts.contains_key(host));
        if let Some(group) = groups.iter().find(lacking) {
            return wrong(format!("{:?} is missing", group.hosts));
        }
        for group in &groups {
            let present = hosts.iter().filter(|(host, _)| group.hosts.contains(*host));
            let share: u64 = present.map(|(_, host)| u64::from(host.weight)).sum();
            if share * everything != group.endpoints * weight {
                let part = format!("{} of {everything}", group.endpoints);
                return wrong(format!("{:?} should have {part}, has {share} of {weight}", group.hosts));
            }
        }
        Ok(())
    }

    /// Hosts that stand for the same endpoints: each direct endpoint alone, a network's gateways together.
    fn groups(&self, network: &str) -> Vec<Group> {
        let near = self.endpoints.values().filter(|endpoints| endpoints.network == network);
        let near = near.flat_map(|endpoints| &endpoints.ready);
        let direct = near.map(|address| Group {
            hosts: BTreeSet::from([format!("{address}:{}", self.port)]),
            endpoints: 1,
        });
        let far = self.gateways.iter().filter(|(name, _)| *name != network).map(|(name, gateways)| {
            let behind = self.endpoints.values().filter(|endpoints| endpoints.network == *name);
            Group {
                hosts: gateways.iter().map(|address| format!("{address}:{GATEWAY_PORT}")).collect(),
                endpoints: behind.map(|endpoints| endpoints.ready.len() as u64).sum(),
            }
        });
        direct.chain(far).collect()
    }
}

struct Group {
    hosts: BTreeSet<String>,
    endpoints: u64,
}

#[cfg(test)]
mod tests {
    use super::super::envoy::Host;
    use super::*;

    fn truth() -> Truth {
        let set = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect::<BTreeSet<_>>();
        let endpoints =
            |network: &str, ready: &[&str]| Endpoints { network: network.to_owned(), ready: set(ready) };
        Truth {
            port: 5000,
            endpoints: BTreeMap::from([
                ("east".to_owned(), endpoints("net-east", &["10.10.16.1", "10.10.16.2"])),
                ("west".to_owned(), endpoints("net-west", &["10.10.16.1"])),
                ("south".to_owned(), endpoints("net-west", &["10.10.32.1", "10.10.32.2"])),
            ]),
            gateways: BTreeMap::from([
                ("net-east".to_owned(), set(&["172.30.0.32"])),
                ("net-west".to_owned(), set(&["172.30.0.48", "172.30.0.64"])),
            ]),
        }
    }

    fn hosts(all: &[(&str, u32)]) -> Hosts {
        all.iter().map(|(host, weight)| ((*host).to_owned(), Host { weight: *weight })).collect()
    }

    #[test]
    fn shares_are_what_counts() {
        let (truth, near) = (truth(), ["10.10.16.1:5000", "10.10.16.2:5000"]);
        assert_eq!(truth.count("south"), 2);
        let gateways = [("172.30.0.48:15443", 2), ("172.30.0.64:15443", 4)];
        let mut scaled = hosts(&gateways);
        scaled.extend(hosts(&near.map(|host| (host, 2))));
        assert_eq!(truth.holds("net-east", &scaled), Ok(()));
        let mut skewed = hosts(&gateways);
        skewed.extend(hosts(&near.map(|host| (host, 1))));
        assert!(truth.holds("net-east", &skewed).is_err());
    }

    #[test]
    fn a_pod_of_another_network_should_not_be_there() {
        let seen = hosts(&[("10.10.32.1:5000", 1)]);
        assert!(truth().holds("net-east", &seen).unwrap_err().contains("should not be there"));
    }

    #[test]
    fn what_is_missing_is_noticed() {
        let seen = hosts(&[("10.10.16.1:5000", 1), ("172.30.0.48:15443", 3)]);
        assert!(truth().holds("net-east", &seen).unwrap_err().contains("10.10.16.2:5000"));
        assert!(truth().holds("net-west", &Hosts::new()).is_err());
    }
}
