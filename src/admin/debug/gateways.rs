//! `/debug/networkz` and `/debug/gateways`: how each network is entered.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use serde_json::{Value, json};

use crate::admin::query::Query;
use crate::admin::reply::{self, Refusal};
use crate::admin::{Shared, Sources};
use crate::ingest::NameStatus;
use crate::model::{GatewayHost, Hostname, NetworkGateway, NetworkId};
use crate::registry::NetworkSnapshot;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct PeerRow {
    network: String,
    cluster: String,
    addr: String,
    port: u16,
    #[serde(rename = "HBONEPort")]
    hbone_port: u16,
    service_account: Account,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Account {
    namespace: &'static str,
    name: &'static str,
}

/// The gateways of every network, as istiod prints them.
pub(in crate::admin) async fn networkz(State(sources): Shared, query: Query) -> Response {
    let networks = sources.registry.networks();
    let rows: Vec<_> = networks
        .gateways()
        .map(|gateway| PeerRow {
            network: gateway.network.to_string(),
            cluster: gateway.cluster.to_string(),
            addr: gateway.address.to_string(),
            port: gateway.port,
            hbone_port: gateway.hbone_port,
            service_account: Account::default(),
        })
        .collect();
    reply::json(&query, &rows)
}

/// The gateways in full: host names with what DNS says of them, and whether the cluster that told of a gateway
/// is fresh. `?network=` restricts.
pub(in crate::admin) async fn gateways(State(sources): Shared, query: Query) -> Result<Response, Refusal> {
    query.only(&["network"])?;
    let networks = sources.registry.networks();
    let names = sources.gateway_names.as_ref().map(|names| names.all()).unwrap_or_default();
    let names: BTreeMap<&Hostname, &NameStatus> = names.iter().map(|name| (&name.host, name)).collect();
    let mut rows: Vec<Value> = addressed(&networks).map(|gateway| plain(&sources, gateway)).collect();
    for gateway in networks.gateway_hosts() {
        let addresses = networks.host_addresses(&gateway.host).unwrap_or_default();
        rows.extend(named(&sources, gateway, addresses, names.get(&gateway.host).copied()));
    }
    unknown_network(&query, &rows)?;
    let wanted = |row: &Value| query.get("network").is_none_or(|network| row["network"] == network);
    rows.retain(wanted);
    rows.sort_by_cached_key(|row| {
        ["network", "cluster", "address", "hostname"].map(|key| row[key].to_string())
    });
    Ok(reply::json(&query, &json!({"gateways": rows})))
}

/// As for services of a cluster that is not there: an empty answer would look like one about it.
fn unknown_network(query: &Query, rows: &[Value]) -> Result<(), Refusal> {
    let Some(wanted) = query.get("network") else {
        return Ok(());
    };
    let known: BTreeSet<&str> = rows.iter().filter_map(|row| row["network"].as_str()).collect();
    if known.contains(wanted) {
        return Ok(());
    }
    let known: Vec<&str> = known.into_iter().collect();
    let known = if known.is_empty() {
        "no network has one".to_owned()
    } else {
        format!("there are those of {}", known.join(", "))
    };
    Err(Refusal::unknown(format!("network {wanted:?} has no gateways; {known}")))
}

/// Gateways that are told by address.
fn addressed(networks: &NetworkSnapshot) -> impl Iterator<Item = NetworkGateway> {
    let ids: BTreeSet<NetworkId> = networks.gateways().map(|gateway| gateway.network.clone()).collect();
    let parts = ids.into_iter().map(|id| networks.part(&id));
    parts.flat_map(|part| part.addressed.to_vec()).collect::<Vec<_>>().into_iter()
}

fn plain(sources: &Sources, gateway: NetworkGateway) -> Value {
    json!({
        "network": gateway.network, "cluster": gateway.cluster, "address": gateway.address,
        "port": gateway.port, "hbonePort": gateway.hbone_port, "hostname": null,
        "clusterHealth": health(sources, &gateway.cluster),
    })
}

/// One row for each address of a host name; one without address while there is none.
fn named(
    sources: &Sources,
    gateway: &GatewayHost,
    addresses: &[IpAddr],
    name: Option<&NameStatus>,
) -> Vec<Value> {
    let seconds = |age: Option<Duration>| age.map(|age| age.as_secs_f64());
    let row = |address: Option<&IpAddr>| {
        json!({
            "network": gateway.network, "cluster": gateway.cluster, "address": address,
            "port": gateway.port, "hbonePort": gateway.hbone_port, "hostname": gateway.host,
            "clusterHealth": health(sources, &gateway.cluster),
            "resolvedSeconds": seconds(name.and_then(|name| name.age)),
            "lastGood": name.zip(address).is_some_and(|(name, address)| name.last_good.contains(address)),
            "ttlSeconds": seconds(name.and_then(|name| name.ttl_left)),
            "refreshSeconds": seconds(name.map(|name| name.next)),
            "goneSeconds": seconds(name.and_then(|name| name.gone_for)),
            "lastError": name.and_then(|name| name.last_error.clone()),
        })
    };
    if addresses.is_empty() {
        vec![row(None)]
    } else {
        addresses.iter().map(|address| row(Some(address))).collect()
    }
}

/// The word of the cluster that told of a gateway; `null` for static ones.
fn health(sources: &Sources, cluster: &str) -> Option<&'static str> {
    Some(sources.registry.clusters().get(&cluster.into())?.health.word())
}
