//! Which types a peer sends again after a change of a headless service's endpoints (R6.5).
//!
//! The peer decides by what it is told of a change, before it builds anything; that table is here. The server decides
//! by bytes (D17, D21): such a change has only those listeners built anew that name addresses of pods, and only what
//! differs is sent. So it never sends a type that the table rules out; that is held by the test
//! `r6_5_endpoints_of_a_headless_service_touch_listeners_of_sidecars_alone` of the outbound worlds.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tombolo::model::ProxyKind;

use super::flags::Flags;
use super::lb::table;
use super::shape::{Answer, only, text, texts};

/// R6.5.
pub(crate) fn check(case: &Value, _: &Flags) -> Answer {
    table(case, "lds_cds_rds", |row| {
        only("a row", row, &["proxy", "reasons", "kinds"])?;
        let proxy = match text(row, "proxy")? {
            "sidecar" => ProxyKind::Sidecar,
            "router" | "ingress" | "waypoint" => ProxyKind::Router,
            other => return Err(format!("proxy {other:?}")),
        };
        let kind = |text: &String| match text.as_str() {
            "Endpoints" => ChangedKind::Endpoints,
            "DNSName" => ChangedKind::DnsName,
            "ServiceEntry" => ChangedKind::Service,
            _ => ChangedKind::Other,
        };
        let reason = |text: &String| match text.as_str() {
            "headlessendpoint" => ChangeReason::HeadlessEndpoint,
            _ => ChangeReason::Other,
        };
        let kinds = texts(row, "kinds")?.iter().map(kind).collect();
        let reasons = texts(row, "reasons")?.iter().map(reason).collect();
        let touched = touched(proxy, &reasons, &kinds);
        Ok(json!([touched.listeners, touched.clusters, touched.routes]))
    })
}

/// What changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum ChangedKind {
    /// Endpoints of a service whose record stays.
    Endpoints,
    /// The DNS table.
    DnsName,
    /// A service.
    Service,
    /// Any other kind.
    Other,
}

/// Why a change is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum ChangeReason {
    /// Endpoints of a headless service changed.
    HeadlessEndpoint,
    /// Anything else.
    Other,
}

/// Which types a proxy is to get again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Touched {
    /// Listeners.
    listeners: bool,
    /// Envoy clusters.
    clusters: bool,
    /// Routes.
    routes: bool,
}

/// What a change touches: endpoints and names alone nothing of these; a headless service whose endpoints are all that
/// changed only the listeners of sidecars, which have one for each of its addresses; everything else all of them.
fn touched(proxy: ProxyKind, reasons: &BTreeSet<ChangeReason>, kinds: &BTreeSet<ChangedKind>) -> Touched {
    let all = |touched| Touched { listeners: touched, clusters: touched, routes: touched };
    if !kinds.is_empty()
        && kinds.iter().all(|kind| matches!(kind, ChangedKind::Endpoints | ChangedKind::DnsName))
    {
        return all(false);
    }
    let headless = *reasons == BTreeSet::from([ChangeReason::HeadlessEndpoint])
        && *kinds == BTreeSet::from([ChangedKind::Service]);
    match headless {
        true => Touched { listeners: proxy == ProxyKind::Sidecar, ..all(false) },
        false => all(true),
    }
}
