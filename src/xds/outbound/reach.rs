//! What changed parts of the policies mean for one projection.

use std::collections::BTreeSet;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};

use crate::model::policy::{DestinationRule, Gateway, PolicyKind, PolicyPart, VirtualService};
use crate::model::{Name, ProxyKind};
use crate::registry::PolicySnapshot;
use crate::view::{Client, OutboundKey};

/// How far a change goes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Reach {
    /// Proxies may have another projection.
    pub(super) proxies: bool,
    /// Everything may differ.
    pub(super) everything: bool,
    /// Its Gateways or their routes may differ.
    pub(super) gateways: bool,
    /// Hosts or `*.suffix` whose policies may differ.
    pub(super) hosts: BTreeSet<Name>,
}

impl Reach {
    /// The reach of these parts for the clients of `key`, whose policies were `before` and are `after`.
    pub(super) fn of(
        parts: &HashSet<PolicyPart>,
        key: &OutboundKey,
        before: &PolicySnapshot,
        after: &PolicySnapshot,
    ) -> Self {
        let root = &after.mesh().root_namespace;
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
                    reach.gateways(key, before, after);
                }
                PolicyKind::DestinationRule | PolicyKind::VirtualService => {
                    reach.hosts.insert(scope.clone());
                }
                _ => {}
            }
        }
        reach
    }

    /// What Gateways mean that changed: for routers that none of them selects, nothing but a look at themselves where
    /// one may select them now. Services are led on only by those that lead mesh traffic on.
    fn gateways(&mut self, key: &OutboundKey, before: &PolicySnapshot, after: &PolicySnapshot) {
        let (old, new) = (Client::new(key, before), Client::new(key, after));
        self.proxies |= selects_others(key, before, after);
        self.gateways |= !old.gateways().eq(new.gateways());
        self.everything |= old.passthroughs() != new.passthroughs();
    }
}

/// Whether a Gateway may select other routers than before, or one of those of `key` is gone. Cost ∝ Gateways.
fn selects_others(key: &OutboundKey, before: &PolicySnapshot, after: &PolicySnapshot) -> bool {
    let known: HashMap<_, _> = before.of::<Gateway>("").iter().map(|one| (&one.meta.id, one)).collect();
    let (mut theirs, mut others) = (0, false);
    for gateway in after.of::<Gateway>("") {
        let same = |old: &&Arc<Gateway>| old.meta == gateway.meta && old.selector == gateway.selector;
        others |= !known.get(&gateway.meta.id).is_some_and(same);
        theirs += usize::from(key.gateways.contains(&gateway.meta.id));
    }
    others || theirs != key.gateways.len()
}
