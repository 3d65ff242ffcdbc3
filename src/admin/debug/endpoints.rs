//! `/debug/endpointz`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;

use crate::admin::query::Query;
use crate::admin::{Shared, reply};
use crate::model::{Endpoint, EndpointShard, Health, Name, TlsMode};

#[derive(Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Shards {
    /// By `<provider>/<cluster>`.
    shards: BTreeMap<String, Vec<Row>>,
    /// A set, as istiod writes sets.
    service_accounts: BTreeMap<String, Empty>,
}

#[derive(Serialize)]
struct Empty {}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    labels: BTreeMap<Name, Name>,
    addresses: Vec<IpAddr>,
    service_port_name: Name,
    service_account: String,
    network: String,
    locality: Place,
    endpoint_port: u16,
    lb_weight: u32,
    #[serde(rename = "TLSMode")]
    tls_mode: TlsMode,
    namespace: Name,
    workload_name: Name,
    host_name: Name,
    sub_domain: Name,
    health_status: u8,
    node_name: Name,
}

#[derive(Serialize)]
struct Place {
    #[serde(rename = "Label")]
    label: String,
    #[serde(rename = "ClusterID")]
    cluster: String,
}

impl From<&Endpoint> for Row {
    fn from(endpoint: &Endpoint) -> Self {
        let pod = &endpoint.workload;
        let (host_name, sub_domain) = pod.pod_dns().unwrap_or_default();
        Self {
            labels: pod.labels(),
            addresses: endpoint.addresses.to_vec(),
            service_port_name: endpoint.port_name.clone(),
            service_account: pod.account.as_ref().map(ToString::to_string).unwrap_or_default(),
            network: pod.network.to_string(),
            locality: Place { label: pod.locality().to_string(), cluster: pod.cluster.to_string() },
            endpoint_port: endpoint.port,
            // The peer writes what was given, not the default.
            lb_weight: endpoint.weight.map_or(0, std::num::NonZeroU32::get),
            tls_mode: pod.tls_mode,
            namespace: pod.namespace.clone(),
            workload_name: pod.workload_name().clone(),
            host_name,
            sub_domain,
            health_status: health_number(endpoint.health),
            node_name: pod.node().clone(),
        }
    }
}

/// The peer's numbers.
fn health_number(health: Health) -> u8 {
    match health {
        Health::Healthy => 1,
        Health::Unhealthy => 2,
        Health::Draining => 3,
        Health::Terminating => 4,
    }
}

fn add(shards: &mut Shards, shard: &EndpointShard) {
    let rows = shard.endpoints.iter().map(Row::from).collect();
    shards.shards.insert(format!("Kubernetes/{}", shard.cluster), rows);
    let accounts = shard.accounts.iter().map(|account| (account.to_string(), Empty {}));
    shards.service_accounts.extend(accounts);
}

/// Every service's endpoints: host, namespace, then by cluster. Cost ∝ all endpoints.
pub(in crate::admin) async fn endpointz(State(sources): Shared, query: Query) -> Response {
    let mut hosts: BTreeMap<String, BTreeMap<String, Shards>> = BTreeMap::new();
    for cell in sources.registry.services() {
        let snapshot = cell.load();
        if snapshot.shards.is_empty() {
            continue;
        }
        let namespaces = hosts.entry(cell.key().hostname.to_string()).or_default();
        let shards = namespaces.entry(cell.key().namespace.to_string()).or_default();
        snapshot.shards.iter().for_each(|shard| add(shards, shard));
    }
    reply::json(&query, &hosts)
}
