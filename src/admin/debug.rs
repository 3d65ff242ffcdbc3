//! The debug pages that istiod has too, in its shapes and spellings (control-plane-surface §8.1), and ours in full.

mod clusters;
mod endpoints;
mod gateways;
mod lint;
mod policies;
mod proxies;
mod services;

use crate::model::Moment;

pub(super) use clusters::{clusters, clusterz};
pub(super) use endpoints::endpointz;
pub(super) use gateways::{gateways, networkz};
pub(super) use policies::policies;
pub(super) use proxies::{proxies, syncz};
pub(super) use services::services;

/// A moment as RFC 3339, by the present wall clock.
pub(super) fn time(moment: Moment) -> String {
    seconds(moment.time_of_day())
}

/// A time as RFC 3339.
fn seconds(time: std::time::SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}

/// An age in seconds, to the millisecond.
pub(super) fn ago(moment: Moment, now: Moment) -> f64 {
    (moment.age(now).as_secs_f64() * 1000.0).round() / 1000.0
}
