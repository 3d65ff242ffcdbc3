//! What changed parts of the policies mean for one projection.

use std::collections::BTreeSet;

use hashbrown::HashSet;

use crate::model::policy::{DestinationRule, PolicyKind, PolicyPart, VirtualService};
use crate::model::{Name, ProxyKind};
use crate::view::OutboundKey;

/// How far a change goes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Reach {
    /// Proxies may have another projection.
    pub(super) proxies: bool,
    /// Everything may differ.
    pub(super) everything: bool,
    /// The routes of its Gateways may differ.
    pub(super) gateways: bool,
    /// Hosts or `*.suffix` whose policies may differ.
    pub(super) hosts: BTreeSet<Name>,
}

impl Reach {
    /// The reach of these parts for the clients of `key`.
    pub(super) fn of(parts: &HashSet<PolicyPart>, key: &OutboundKey, root: &Name) -> Self {
        let mut reach = Self::default();
        for PolicyPart { kind, scope } in parts {
            match kind {
                PolicyKind::MeshConfig => (reach.proxies, reach.everything) = (true, true),
                PolicyKind::Sidecar if key.kind == ProxyKind::Sidecar => {
                    reach.proxies |= scope == &key.namespace || scope == root;
                    reach.everything |=
                        key.sidecar.as_ref().is_some_and(|sidecar| sidecar.namespace == *scope);
                }
                PolicyKind::DestinationRule if *scope == DestinationRule::selecting(&key.namespace) => {
                    reach.proxies = true;
                }
                PolicyKind::VirtualService if scope.as_str() == VirtualService::WITH_LABELS => {
                    reach.proxies = true;
                }
                PolicyKind::VirtualService if VirtualService::led_to(scope).is_some() => {
                    // What a Sidecar hides is there for them as long as one that they heed leads there.
                    let led = VirtualService::led_to(scope).filter(|_| key.sidecar.is_some());
                    reach.hosts.extend(led.map(Name::from));
                }
                PolicyKind::VirtualService if scope.contains('/') => {
                    let mut own = key.gateways.iter();
                    if own.any(|id| *scope == VirtualService::bound_to(&id.to_string())) {
                        (reach.proxies, reach.gateways) = (true, true);
                    }
                }
                PolicyKind::Gateway if key.kind == ProxyKind::Router => {
                    (reach.proxies, reach.everything) = (true, true);
                }
                PolicyKind::DestinationRule | PolicyKind::VirtualService => {
                    reach.hosts.insert(scope.clone());
                }
                _ => {}
            }
        }
        reach
    }
}
