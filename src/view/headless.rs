//! Which resources a change of a headless service's endpoints touches (R6.5).

use std::collections::BTreeSet;

use crate::model::ProxyKind;

/// What changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangedKind {
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
pub enum ChangeReason {
    /// Endpoints of a headless service changed.
    HeadlessEndpoint,
    /// Anything else.
    Other,
}

/// Which types a proxy is to get again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Touched {
    /// Listeners.
    pub listeners: bool,
    /// Envoy clusters.
    pub clusters: bool,
    /// Routes.
    pub routes: bool,
}

/// What a change touches: endpoints and names alone nothing of these; a headless service whose endpoints are all that
/// changed only the listeners of sidecars, which have one for each of its addresses; everything else all of them.
pub fn touched(proxy: ProxyKind, reasons: &BTreeSet<ChangeReason>, kinds: &BTreeSet<ChangedKind>) -> Touched {
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
