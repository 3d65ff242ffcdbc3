//! Objects of the same scope, of which one counts: the oldest; of one age the first by namespace and name.

use std::collections::{BTreeMap, BTreeSet};

use super::finding::{Code, Finding, Severity};
use super::ground::Ground;
use super::reach::Reach;
use super::subsets::rule_reach;
use crate::model::Name;
use crate::model::policy::{
    DestinationRule, MESH_GATEWAY, PeerAuthentication, Policy, PolicyKind, PolicyMeta, Sidecar,
    TrafficPolicy, VirtualService, WorkloadSelector,
};
use crate::registry::Stored;

/// Who comes first.
const FIRST: &str = "the oldest; of one age by namespace and name";
/// With how many older objects of one host one is compared.
const COMPARED: usize = 16;

/// Looks at all kinds of which one object of a scope counts.
pub(super) fn check(ground: &Ground<'_>, found: &mut Vec<Finding>) {
    destination_rules(ground, found);
    virtual_services(ground, found);
    let sidecar = |one: &Sidecar| one.selector.clone();
    workload_policies(ground, sidecar, "spec.workloadSelector", found);
    let peer_authentication = |one: &PeerAuthentication| one.selector.clone();
    workload_policies(ground, peer_authentication, "spec.selector", found);
}

/// Rules of one namespace for one host are united: of traffic policies, and of subsets of one name, the oldest count.
fn destination_rules(ground: &Ground<'_>, found: &mut Vec<Finding>) {
    let policies = ground.known.policies;
    for scope in policies.scopes::<DestinationRule>().into_iter().filter(|scope| !scope.contains('/')) {
        let mut groups: BTreeMap<(&Name, &WorkloadSelector), Vec<&DestinationRule>> = BTreeMap::new();
        for rule in policies.of::<DestinationRule>(scope) {
            let older = groups.entry((&rule.meta.id.namespace, &rule.selector)).or_default();
            let lost = older.iter().take(COMPARED).flat_map(|other| lost_parts(ground, rule, other));
            let mut fields = BTreeSet::new();
            // Of several that say something else the first one counts.
            found.extend(lost.filter(|one| fields.insert(one.field.clone())));
            older.push(rule);
        }
    }
}

/// What of a rule does not count because an older one says something else.
fn lost_parts(ground: &Ground<'_>, rule: &DestinationRule, older: &DestinationRule) -> Vec<Finding> {
    let none = TrafficPolicy::default();
    let whole = older.policy != none && rule.policy != none && older.policy != rule.policy;
    let whole = whole.then(|| ("spec.trafficPolicy".to_owned(), "trafficPolicy".to_owned()));
    let subsets = rule.subsets.iter().enumerate().filter(|(_, subset)| {
        let other = older.subset(&subset.name);
        other.is_some_and(|other| other != *subset)
    });
    let subsets =
        subsets.map(|(index, subset)| (format!("spec.subsets[{index}]"), format!("subset {}", subset.name)));
    let (ours, theirs) = (rule_reach(ground, rule), rule_reach(ground, older));
    let severity = if theirs.covers(&ours) { Severity::Warning } else { Severity::Info };
    let whom = whom(&theirs, severity);
    let told = whole.into_iter().chain(subsets).map(|(field, what)| {
        let message = format!(
            "DestinationRule {} is about {} too, and comes first ({FIRST}): its {what} counts{whom}; rules of one \
             namespace for one host are united, and of what several say the first counts. Merge them",
            older.meta.id,
            rule.host.as_str()
        );
        Finding::new(Code::Shadowed, PolicyKind::DestinationRule, &rule.meta, field, message).mattering(severity)
    });
    told.collect()
}

fn whom(theirs: &Reach, severity: Severity) -> String {
    match severity {
        Severity::Warning => String::new(),
        Severity::Info => format!(" for clients of {theirs}"),
    }
}

/// Of VirtualServices for one host sidecars heed the oldest that they see.
fn virtual_services(ground: &Ground<'_>, found: &mut Vec<Finding>) {
    let policies = ground.known.policies;
    for scope in policies.scopes::<VirtualService>().into_iter().filter(|scope| !scope.contains('/')) {
        let mut older: Vec<(&VirtualService, Reach)> = Vec::new();
        for one in policies.of::<VirtualService>(scope).iter().filter(|one| one.is_for(MESH_GATEWAY)) {
            let reach = ground.routes_reach(one);
            let compared = || older.iter().take(COMPARED);
            let covering = compared().find(|(_, theirs)| theirs.covers(&reach));
            let meeting = || compared().find(|(_, theirs)| theirs.meets(&reach));
            let (other, severity) = match covering {
                Some(other) => (Some(other), Severity::Warning),
                None => (meeting(), Severity::Info),
            };
            found.extend(other.map(|(other, theirs)| {
                let gateways = if one.gateways.len() > 1 { "; on Gateways routes of both count" } else { "" };
                let message = format!(
                    "VirtualService {} has the host {scope} too, and comes first ({FIRST}): sidecars heed that one \
                     alone{}{gateways}. Merge them, or let one lead on to the other (delegate)",
                    other.meta.id,
                    whom(theirs, severity)
                );
                let (kind, meta) = (PolicyKind::VirtualService, &one.meta);
                Finding::new(Code::Shadowed, kind, meta, "spec.hosts", message).mattering(severity)
            }));
            older.push((one, reach));
        }
    }
}

/// Of Sidecars and PeerAuthentications one counts for a workload: the oldest that selects it, else the oldest of its
/// namespace without a selector.
fn workload_policies<T: Stored>(
    ground: &Ground<'_>,
    selector: impl Fn(&T) -> WorkloadSelector,
    field: &str,
    found: &mut Vec<Finding>,
) {
    for namespace in ground.known.policies.scopes::<T>() {
        let all = ground.known.policies.of::<T>(namespace);
        let (wide, narrow): (Vec<_>, Vec<_>) =
            all.iter().map(|one| (one.meta(), selector(one))).partition(|(_, one)| one.is_everything());
        if let Some(((first, _), others)) = wide.split_first() {
            found.extend(others.iter().map(|(meta, _)| {
                let reason = format!("of those without a selector the first counts ({FIRST})");
                shadowed(T::KIND, meta, field, first, &reason)
            }));
        }
        // R4.12: of these nothing counts, whichever is older.
        let idle = T::KIND == PolicyKind::PeerAuthentication && namespace == ground.root();
        if !idle {
            found.extend(beaten::<T>(ground, namespace, &narrow, field));
        }
    }
}

/// Those of which every workload that they select has an older one.
fn beaten<T: Policy>(
    ground: &Ground<'_>,
    namespace: &Name,
    narrow: &[(&PolicyMeta, WorkloadSelector)],
    field: &str,
) -> Vec<Finding> {
    let mut winners: BTreeMap<usize, &PolicyMeta> = BTreeMap::new();
    let mut found = Vec::new();
    for (meta, selector) in narrow {
        let (mut selected, mut won, mut by) = (0, 0, None);
        for (workload, _) in ground.known.workloads.with(Some(namespace), selector.labels()) {
            selected += 1;
            match winners.get(&workload) {
                Some(winner) => by = by.or(Some(*winner)),
                None => {
                    winners.insert(workload, meta);
                    won += 1;
                }
            }
        }
        if let Some(by) = by.filter(|_| selected > 0 && won == 0) {
            let reason =
                format!("every workload that it selects now is selected by one that comes first ({FIRST})");
            found.push(shadowed(T::KIND, meta, field, by, &reason));
        }
    }
    found
}

fn shadowed(kind: PolicyKind, meta: &PolicyMeta, field: &str, by: &PolicyMeta, reason: &str) -> Finding {
    let message =
        format!("{} {} counts instead: {reason}. Delete one, or narrow its selector", kind.name(), by.id);
    Finding::new(Code::Shadowed, kind, meta, field, message)
}
