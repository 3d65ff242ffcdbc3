//! The debug pages that istiod has too, in its shapes and spellings (control-plane-surface §8.1), and ours in full.

mod clusters;
mod endpoints;
mod proxies;

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;

use super::query::Query;
use super::{Shared, reply};
use crate::model::Moment;

pub(super) use clusters::{clusters, clusterz};
pub(super) use endpoints::endpointz;
pub(super) use proxies::{proxies, syncz};

/// A moment as RFC 3339, by the present wall clock.
fn time(moment: Moment) -> String {
    seconds(moment.time_of_day())
}

/// A time as RFC 3339.
fn seconds(time: std::time::SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

/// An age in seconds, to the millisecond.
fn ago(moment: Moment, now: Moment) -> f64 {
    (moment.age(now).as_secs_f64() * 1000.0).round() / 1000.0
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct GatewayRow {
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

/// The gateways of every network.
pub(super) async fn networkz(State(sources): Shared, query: Query) -> Response {
    let networks = sources.registry.networks();
    let rows: Vec<_> = networks
        .gateways()
        .map(|gateway| GatewayRow {
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
