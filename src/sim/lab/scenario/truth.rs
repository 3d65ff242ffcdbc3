//! What proxies must have, from what the API servers hold: an oracle of the lab's own.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::super::plan::{ClusterPlan, GATEWAY_PORT, HELLOWORLD, NAMESPACE, Plan, SYSTEM_NAMESPACE};
use super::super::timeline::Weights;
use super::super::world::NETWORK_LABEL;
use super::super::{Lab, LabError};

/// What one cluster says of the watched service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ClusterTruth {
    /// Addresses of ready endpoints.
    pub(super) ready: BTreeSet<String>,
    /// Outer addresses of its gateways.
    pub(super) gateways: BTreeSet<String>,
}

/// Every cluster's.
pub(super) type Truth = BTreeMap<String, ClusterTruth>;

/// Asks every API server.
pub(super) async fn read(lab: &Lab) -> Result<Truth, LabError> {
    let mut truth = Truth::new();
    for cluster in &lab.plan().clusters {
        truth.insert(cluster.name.clone(), read_cluster(lab, &cluster.name).await?);
    }
    Ok(truth)
}

/// Asks one API server.
pub(super) async fn read_cluster(lab: &Lab, cluster: &str) -> Result<ClusterTruth, LabError> {
    let api = lab.cluster(cluster)?.api();
    let slices = api.list(("EndpointSlice", NAMESPACE, "")).await?;
    let services = api.list(("Service", SYSTEM_NAMESPACE, "")).await?;
    Ok(ClusterTruth { ready: ready(&slices), gateways: gateways(&services) })
}

fn texts<'a>(values: &'a Value, key: &'a str) -> impl Iterator<Item = &'a str> {
    values.as_array().into_iter().flatten().filter_map(move |value| match key {
        "" => value.as_str(),
        key => value[key].as_str(),
    })
}

/// The ready endpoints of the watched service. A slice's endpoint without the condition is ready.
fn ready(slices: &[Value]) -> BTreeSet<String> {
    let of_service = |slice: &&Value| {
        slice["metadata"]["labels"]["kubernetes.io/service-name"] == HELLOWORLD.name
    };
    let endpoints = slices.iter().filter(of_service).filter_map(|slice| slice["endpoints"].as_array()).flatten();
    let ready = endpoints.filter(|endpoint| endpoint["conditions"]["ready"] != false);
    ready.flat_map(|endpoint| texts(&endpoint["addresses"], "")).map(str::to_owned).collect()
}

/// The outer addresses of gateway Services.
fn gateways(services: &[Value]) -> BTreeSet<String> {
    let labelled = services.iter().filter(|service| service["metadata"]["labels"][NETWORK_LABEL].is_string());
    labelled
        .flat_map(|service| texts(&service["status"]["loadBalancer"]["ingress"], "ip"))
        .map(str::to_owned)
        .collect()
}

/// What a client in `client`'s place must have: pods of its own network, weight 1 each, and each other network's
/// gateways with their share of what is behind them. Weights are scaled so that shares are whole.
pub(super) fn hosts(plan: &Plan, truth: &Truth, client: &ClusterPlan) -> Weights {
    let networks = by_network(plan, truth);
    let foreign = networks.iter().filter(|(network, behind)| {
        **network != client.network && !behind.gateways.is_empty() && !behind.ready.is_empty()
    });
    let foreign: Vec<_> = foreign.map(|(_, behind)| behind).collect();
    let scale = foreign.iter().fold(1, |scale, behind| least_common_multiple(scale, behind.gateways.len()));
    let mut hosts = Weights::new();
    for address in networks.get(client.network.as_str()).into_iter().flat_map(|own| &own.ready) {
        hosts.insert(format!("{address}:{}", HELLOWORLD.port), weight(scale));
    }
    for behind in foreign {
        let share = behind.ready.len() * scale / behind.gateways.len();
        for gateway in &behind.gateways {
            hosts.insert(format!("{gateway}:{GATEWAY_PORT}"), weight(share));
        }
    }
    hosts
}

/// The clusters of a network together. Their pods' addresses differ.
fn by_network<'a>(plan: &'a Plan, truth: &Truth) -> BTreeMap<&'a str, ClusterTruth> {
    let mut networks: BTreeMap<&str, ClusterTruth> = BTreeMap::new();
    for cluster in &plan.clusters {
        let network = networks.entry(cluster.network.as_str()).or_default();
        if let Some(own) = truth.get(&cluster.name) {
            network.ready.extend(own.ready.iter().cloned());
            network.gateways.extend(own.gateways.iter().cloned());
        }
    }
    networks
}

fn weight(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn least_common_multiple(a: usize, b: usize) -> usize {
    let (mut x, mut y) = (a, b);
    while y != 0 {
        (x, y) = (y, x % y);
    }
    if x == 0 { 1 } else { a / x * b }
}

/// `address wN, …`.
pub(super) fn written(hosts: &Weights) -> String {
    let entries: Vec<String> = hosts.iter().map(|(host, weight)| format!("{host} w{weight}")).collect();
    if entries.is_empty() { "no host".to_owned() } else { entries.join(", ") }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use serde_json::json;

    use super::super::super::plan::{Range, Shape};
    use super::*;

    fn plan() -> Plan {
        Plan::new(Shape::default(), Range::HostLink(Ipv4Addr::new(172, 31, 240, 0)))
    }

    fn cluster(ready: &[&str], gateways: &[&str]) -> ClusterTruth {
        let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        ClusterTruth { ready: owned(ready), gateways: owned(gateways) }
    }

    fn from(plan: &Plan, client: usize, east: ClusterTruth, west: ClusterTruth) -> String {
        let truth = Truth::from([("east".to_owned(), east), ("west".to_owned(), west)]);
        written(&hosts(plan, &truth, &plan.clusters[client]))
    }

    #[test]
    fn the_other_network_is_its_gateway_with_the_weight_of_what_is_behind() {
        let plan = plan();
        let east = || cluster(&["10.10.16.1"], &["172.30.0.32"]);
        let west = || cluster(&["10.10.16.1", "10.10.16.2"], &["172.30.0.48"]);
        assert_eq!(from(&plan, 0, east(), west()), "10.10.16.1:5000 w1, 172.30.0.48:15443 w2");
        assert_eq!(from(&plan, 1, east(), west()), "10.10.16.1:5000 w1, 10.10.16.2:5000 w1, 172.30.0.32:15443 w1");
    }

    #[test]
    fn two_gateways_share_and_all_weights_are_scaled() {
        let west = cluster(&["10.10.16.1"], &["172.30.0.48", "172.30.0.49"]);
        let seen = from(&plan(), 0, cluster(&["10.10.16.1"], &["172.30.0.32"]), west);
        assert_eq!(seen, "10.10.16.1:5000 w2, 172.30.0.48:15443 w1, 172.30.0.49:15443 w1");
    }

    #[test]
    fn a_network_without_gateway_or_endpoints_is_not_there() {
        let east = || cluster(&["10.10.16.1"], &["172.30.0.32"]);
        assert_eq!(from(&plan(), 0, east(), cluster(&["10.10.16.9"], &[])), "10.10.16.1:5000 w1");
        assert_eq!(from(&plan(), 0, east(), cluster(&[], &["172.30.0.48"])), "10.10.16.1:5000 w1");
        assert_eq!(from(&plan(), 0, cluster(&[], &[]), cluster(&[], &[])), "no host");
    }

    #[test]
    fn only_ready_endpoints_of_the_service_count() {
        let slice = |service: &str, address: &str, conditions: Value| {
            json!({
                "metadata": {"labels": {"kubernetes.io/service-name": service}},
                "endpoints": [{"addresses": [address], "conditions": conditions}],
            })
        };
        let slices = [
            slice("helloworld", "10.10.16.1", json!({"ready": true})),
            slice("helloworld", "10.10.16.2", json!({"ready": false})),
            slice("helloworld", "10.10.16.3", json!({})),
            slice("echo", "10.10.16.4", json!({"ready": true})),
        ];
        assert_eq!(ready(&slices).into_iter().collect::<Vec<_>>(), ["10.10.16.1", "10.10.16.3"]);
    }

    #[test]
    fn gateways_are_services_that_name_a_network() {
        let service = |labels: Value| {
            json!({"metadata": {"labels": labels}, "status": {"loadBalancer": {"ingress": [{"ip": "172.30.0.48"}]}}})
        };
        assert!(gateways(&[service(json!({"app": "x"}))]).is_empty());
        assert_eq!(gateways(&[service(json!({NETWORK_LABEL: "net-west"}))]).len(), 1);
    }
}
