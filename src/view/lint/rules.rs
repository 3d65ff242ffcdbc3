//! DestinationRules: hosts that nobody has, subsets without endpoints.

use super::finding::{Code, Finding, labels};
use super::ground::Ground;
use super::hosts::is_alias;
use crate::model::policy::{DestinationRule, PolicyKind, Subset};
use crate::model::{Resolution, Workload};
use crate::registry::ServiceSnapshot;

/// Looks at every DestinationRule.
pub(super) fn check(ground: &Ground<'_>, found: &mut Vec<Finding>) {
    for rule in ground.all::<DestinationRule>() {
        if ground.hosts.any(rule.host.as_str()) {
            found.extend(empty_subsets(ground, rule));
        } else {
            found.push(unknown_host(ground, rule));
        }
    }
}

fn unknown_host(ground: &Ground<'_>, rule: &DestinationRule) -> Finding {
    let host = rule.host.as_str();
    let namespace = host.split('.').nth(1).filter(|_| host.contains(".svc.") && !rule.host.is_wildcard());
    let found = Finding::new(
        Code::UnknownHost,
        PolicyKind::DestinationRule,
        &rule.meta,
        "spec.host",
        format!(
            "no Service and no ServiceEntry has {host}: the rule holds for nothing{}{}{}",
            ground.hosts.hint(host, ground.known.domain),
            namespace.map(|namespace| ground.blank(namespace)).unwrap_or_default(),
            ground.unread_clusters(),
        ),
    );
    ground.perhaps(found)
}

/// Subsets of one host that have no endpoint now. Of wildcards nothing is said: they may be meant for some hosts only.
fn empty_subsets<'a>(
    ground: &'a Ground<'_>,
    rule: &'a DestinationRule,
) -> impl Iterator<Item = Finding> + use<'a> {
    let services = ground.hosts.of(rule.host.as_str());
    // Without endpoints of its own, by nature: any label may come.
    let has_endpoints = |one: &ServiceSnapshot| {
        one.service.as_deref().is_none_or(|service| {
            let anywhere = service.entry.is_some() && service.resolution == Resolution::Passthrough;
            !anywhere && !is_alias(service)
        })
    };
    let looked_at = !services.is_empty() && services.iter().all(|one| has_endpoints(one));
    let subsets = rule.subsets.iter().enumerate().filter(move |_| looked_at);
    subsets.filter_map(move |(index, subset)| {
        let empty = !subset.labels.is_empty() && !services.iter().any(|one| has(one, subset));
        empty.then(|| empty_subset(ground, rule, index, subset))
    })
}

fn empty_subset(ground: &Ground<'_>, rule: &DestinationRule, index: usize, subset: &Subset) -> Finding {
    let (host, name) = (rule.host.as_str(), &subset.name);
    let services = ground.hosts.of(host);
    let none = services.iter().all(|one| workloads(one).next().is_none());
    let message = if none {
        format!("{host} has no endpoints at all now, so neither has subset {name}")
    } else {
        let wanted = labels(subset.labels.iter());
        format!(
            "no endpoint of {host} has {wanted} now: traffic to subset {name} fails (503); compare the labels of its \
             pods"
        )
    };
    let message = message + &ground.unread_clusters();
    let field = format!("spec.subsets[{index}].labels");
    Finding::new(Code::EmptySubset, PolicyKind::DestinationRule, &rule.meta, field, message)
}

/// Whether an endpoint has the labels of a subset (R4.8).
fn has(service: &ServiceSnapshot, subset: &Subset) -> bool {
    let fits = |workload: &Workload| {
        subset.labels.iter().all(|(label, value)| workload.label(label) == Some(value.as_str()))
    };
    workloads(service).any(fits)
}

fn workloads(service: &ServiceSnapshot) -> impl Iterator<Item = &Workload> {
    let told = service.shards.iter().flat_map(|shard| shard.endpoints.iter()).map(|one| &*one.workload);
    let records =
        service.service.iter().chain(service.shards.iter().filter_map(|shard| shard.service.as_ref()));
    told.chain(records.flat_map(|record| record.inline()).map(|one| &*one.workload))
}
