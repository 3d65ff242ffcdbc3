//! What would be lost if what was listed took the place of what is served, and whether that is believed.

use super::Generation;
use super::gather::Gathering;
use super::holds::CONFIRM_AFTER;
use super::plan::Plan;
use crate::ingest::objects::ObjectKind;
use crate::ingest::staging::{Guard, Staging};
use crate::model::{ClusterStatus, Name, NetworkId};
use crate::registry::NetworkClaim;

/// The namespace of the Service that every API server has: its own.
const DEFAULT: &str = "default";

/// Something that is served hangs on objects that are not shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hidden {
    pub(super) text: String,
    /// Nothing but another list of this kind can show them.
    pub(super) list: Option<ObjectKind>,
}

/// Why objects of a kind are not shown.
enum Unseen {
    Refused,
    /// There are some on every API server, and none was listed.
    NotListed,
}

impl Hidden {
    fn new(kind: ObjectKind, unseen: &Unseen, lost: &str) -> Self {
        let (may, list) = match unseen {
            Unseen::Refused => ("may not read", None),
            Unseen::NotListed => ("does not show", Some(kind)),
        };
        Self { text: format!("what is served stays: it {may} {}: {lost}", kind.plural()), list }
    }
}

impl Generation {
    /// Kinds may be done without (K-45), but not those that something hangs on that is served, or that a snapshot
    /// has: no credentials that show less take their place (K-31), until they show it. Looks at gateways where
    /// something is not shown, and mostly at nothing.
    pub(super) fn hidden(&self, gathering: &Gathering, staging: &mut Staging) -> Option<Hidden> {
        // Of no use is what lists nothing at all: all of it is listed again.
        if !gathering.replaces() || self.is_void_for_something(gathering, staging) {
            return None;
        }
        self.hidden_pods(gathering, staging)
            .or_else(|| self.hidden_namespaces(gathering, staging))
            .or_else(|| self.hidden_gateways(gathering, staging))
            .or_else(|| self.hidden_exports(gathering, staging))
            .or_else(|| self.hidden_entries(gathering))
    }

    /// What ServiceEntries and WorkloadEntries tell is not given up for a view without them.
    fn hidden_entries(&self, gathering: &Gathering) -> Option<Hidden> {
        let forbidden = |kind: &ObjectKind| gathering.is_forbidden(*kind) && self.tells(*kind, gathering);
        let kind = [ObjectKind::ServiceEntry, ObjectKind::WorkloadEntry].into_iter().find(forbidden)?;
        Some(Hidden::new(kind, &Unseen::Refused, "what they tell would be gone"))
    }

    /// Whether what is served was read of objects of this kind, or a snapshot was.
    fn tells(&self, kind: ObjectKind, gathering: &Gathering) -> bool {
        let some = |row: &ClusterStatus| row.objects.get(kind.name()).is_some_and(|objects| *objects > 0);
        let known = self.registry.clusters().look(&self.context.cluster, some).unwrap_or_default();
        let restored =
            || gathering.stand_in().has_entries() || self.registry.has_entries(&self.context.cluster);
        known || (kind == ObjectKind::ServiceEntry && restored())
    }

    /// Gateways are objects of the Gateway API, or addresses of nodes.
    fn hidden_gateways(&self, gathering: &Gathering, staging: &mut Staging) -> Option<Hidden> {
        let refused = |kind: &ObjectKind| match kind {
            ObjectKind::Gateway => gathering.is_forbidden(*kind),
            _ => staging.is_unavailable(*kind) && staging.has_gateways_by_node(),
        };
        let kind = [ObjectKind::Node, ObjectKind::Gateway].into_iter().find(refused)?;
        let network = self.lost_gateways(gathering, staging)?;
        Some(Hidden::new(kind, &Unseen::Refused, &format!("network {network} would have no gateway")))
    }

    fn hidden_exports(&self, gathering: &Gathering, staging: &Staging) -> Option<Hidden> {
        let kind = ObjectKind::ServiceExport;
        let lost = gathering.is_forbidden(kind) && self.loses_exports(gathering, staging);
        lost.then(|| Hidden::new(kind, &Unseen::Refused, "other clusters would see nothing of it"))
    }

    /// With multi-cluster services other clusters see what is exported, and nothing else (R4.38).
    fn loses_exports(&self, gathering: &Gathering, staging: &Staging) -> bool {
        let seen = || self.registry.is_seen_elsewhere(&self.context.cluster);
        self.context.mcs.discovery
            && !staging.has_exports()
            && (gathering.stand_in().is_seen_elsewhere() || seen())
    }

    /// Pods that are served are not given up for a view without them.
    fn hidden_pods(&self, gathering: &Gathering, staging: &Staging) -> Option<Hidden> {
        if self.context.serve_without_pods || gathering.options().serve_without_pods {
            return None;
        }
        let served = |scope: &Option<Name>| {
            self.registry.has_workloads(&self.context.cluster, scope.as_ref())
                || gathering.stand_in().has_workloads(scope.as_ref())
        };
        let lost = "those that are served would be gone";
        let mut unavailable = staging.unavailable_pods();
        unavailable.any(served).then(|| Hidden::new(ObjectKind::Pod, &Unseen::Refused, lost))
    }

    /// Namespaces say in which network the cluster is, and which of them are selected.
    fn hidden_namespaces(&self, gathering: &Gathering, staging: &mut Staging) -> Option<Hidden> {
        let unseen = self.unseen_namespaces(staging)?;
        let network = self.claimed(gathering).network;
        let lost = match network {
            Some(network) if staging.network_claim().network.as_ref() != Some(&network) => {
                format!("the cluster would not be in network {network}")
            }
            _ if !gathering.options().selection.is_by_labels() => return None,
            _ if self.known(gathering) <= staging.endpoints() => return None,
            _ => "they are selected by label".to_owned(),
        };
        Some(Hidden::new(ObjectKind::Namespace, &unseen, &lost))
    }

    fn unseen_namespaces(&self, staging: &Staging) -> Option<Unseen> {
        if staging.is_unavailable(ObjectKind::Namespace) {
            return Some(Unseen::Refused);
        }
        let had_home = !self.identities.pin(&self.context.cluster).is_empty();
        let absurd = staging.namespaces().next().is_none() || (had_home && staging.uid().is_empty());
        (self.guard == Guard::On && absurd).then_some(Unseen::NotListed)
    }

    /// A network that would lose the last gateway that this cluster tells of.
    fn lost_gateways(&self, gathering: &Gathering, staging: &mut Staging) -> Option<NetworkId> {
        let listed = staging.network_claim().networks();
        self.claimed(gathering).networks().into_iter().find(|network| !listed.contains(network))
    }

    /// Whether too much would go, in words. What is confirmed was listed twice (K-21); lists without any Service
    /// are never believed.
    pub(super) fn doubt(
        &self,
        gathering: &Gathering,
        staging: &mut Staging,
        confirmed: bool,
    ) -> Option<String> {
        let after = CONFIRM_AFTER.as_secs();
        if self.is_void_for_something(gathering, staging) {
            return Some(format!(
                "it lists no Service, and every API server has one of its own: what is served stays, and it is \
                 listed again every {after}s; --mass-delete-guard off believes it"
            ));
        }
        if confirmed || self.guard == Guard::Off {
            return None;
        }
        let (served, lists) = (self.known(gathering), staging.endpoints());
        if self.guard.doubts(served, lists) {
            return Some(format!(
                "it lists {lists} endpoints where {served} were known: those stay, and it is listed again after \
                 {after}s; --mass-delete-guard off believes it at once"
            ));
        }
        let (kind, lost) = self.without_add_on(gathering, staging)?;
        Some(format!(
            "it has no {} any more, and {lost}: what is served stays, and it is listed again after {after}s",
            kind.plural()
        ))
    }

    /// An add-on that was taken out of the cluster, or does not answer.
    fn without_add_on(&self, gathering: &Gathering, staging: &mut Staging) -> Option<(ObjectKind, String)> {
        if !gathering.replaces() {
            return None;
        }
        let (gateways, exports) = (ObjectKind::Gateway, ObjectKind::ServiceExport);
        let gone = staging.is_unavailable(gateways) && self.had(gateways);
        let network = gone.then(|| self.lost_gateways(gathering, staging)).flatten();
        if let Some(network) = network {
            return Some((gateways, format!("network {network} would have no gateway")));
        }
        let unseen = staging.is_unavailable(exports) && self.loses_exports(gathering, staging);
        unseen.then(|| (exports, "other clusters would see nothing of it".to_owned()))
    }

    /// Whether what is served was read of objects of this kind too, as far as that is known.
    fn had(&self, kind: ObjectKind) -> bool {
        let some = |row: &ClusterStatus| row.objects.get(kind.name()).is_none_or(|objects| *objects > 0);
        self.registry.clusters().look(&self.context.cluster, some).unwrap_or(true)
    }

    /// What this cluster tells of networks, or a snapshot of it that is not served yet.
    fn claimed(&self, gathering: &Gathering) -> NetworkClaim {
        let told = || self.registry.networks().told_by(&self.context.cluster);
        gathering.stand_in().claim().unwrap_or_else(told)
    }

    /// Endpoints that are served, or that a snapshot has.
    fn known(&self, gathering: &Gathering) -> usize {
        self.registry.endpoints_of(&self.context.cluster).max(gathering.stand_in().endpoints())
    }

    /// Whether nothing was listed where something must be, as every real API server has at least its own Service,
    /// and would take the place of what is known.
    fn is_void_for_something(&self, gathering: &Gathering, staging: &Staging) -> bool {
        let is_void =
            |plan: &Plan| self.guard == Guard::On && staging.is_void() && plan.reads(&Name::from(DEFAULT));
        gathering.replaces() && is_void(gathering.plan()) && self.known(gathering) > 0
    }
}
