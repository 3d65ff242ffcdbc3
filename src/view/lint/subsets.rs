//! Which DestinationRules give clients a subset (R4.3).

use std::sync::Arc;

use super::finding::listed;
use super::ground::Ground;
use super::reach::Reach;
use crate::model::policy::DestinationRule;
use crate::model::{ExportTo, Name, Service};
use crate::view::visibility::Sight;
use crate::view::{Destination, RuleClient};

/// Why no client gets a subset of any of these services, which have one host; `None` when some may.
pub(super) fn unknown(
    ground: &Ground<'_>,
    subset: &str,
    services: &[&Arc<Service>],
    audience: &Reach,
) -> Option<String> {
    let host = services.first()?.key.hostname.as_str();
    let rules: Vec<_> = ground.known.policies.about::<DestinationRule>(host).collect();
    let defining: Vec<_> = rules.iter().filter(|rule| rule.subset(subset).is_some()).collect();
    let may =
        |rule: &DestinationRule| services.iter().any(|service| may_hold(ground, rule, service, audience));
    if defining.iter().any(|rule| may(rule)) {
        return None;
    }
    let why = if rules.is_empty() {
        format!("no DestinationRule is about {host}")
    } else if defining.is_empty() {
        let names = rules.iter().flat_map(|rule| &rule.subsets).map(|subset| &subset.name);
        let names: std::collections::BTreeSet<_> = names.collect();
        let has =
            if names.is_empty() { "no subset".to_owned() } else { format!("subsets {}", listed(names)) };
        let ids = listed(rules.iter().map(|rule| &rule.meta.id));
        format!("no DestinationRule about {host} defines subset {subset}: {ids} with {has}")
    } else {
        let places =
            services.iter().map(|service| &service.key.namespace).collect::<std::collections::BTreeSet<_>>();
        format!(
            "subset {subset} of {host} is defined by {} alone, which holds for no client of this VirtualService ({audience}): \
             a rule holds in its own namespace, and as far as it is exported if that is the service's ({}) or the root \
             namespace ({})",
            listed(defining.iter().map(|rule| &rule.meta.id)),
            listed(places),
            ground.root(),
        )
    };
    Some(format!("{why}; traffic there fails (503): add the subset, or drop it here"))
}

/// Whether a rule may hold for some client of these namespaces that calls a service: other rules may still come first.
fn may_hold(ground: &Ground<'_>, rule: &DestinationRule, service: &Service, audience: &Reach) -> bool {
    let (own, root) = (&rule.meta.id.namespace, ground.root());
    let alone = |names: &std::collections::BTreeSet<Name>| names.len() == 1 && names.contains(own);
    let private = own != root || matches!(&rule.export_to, ExportTo::Namespaces(names) if alone(names));
    let at_home = private && audience.has(own);
    let abroad = (*own == service.key.namespace || own == root) && rule.selector.is_everything();
    at_home || abroad && rule_reach(ground, rule).meets(audience)
}

/// The namespaces that a rule is exported to.
pub(super) fn rule_reach(ground: &Ground<'_>, rule: &DestinationRule) -> Reach {
    let default = &ground.mesh().default_destination_rule_export_to;
    Reach::of(&rule.export_to, &rule.meta.id.namespace, default)
}

/// Why clients of one namespace do not get a subset although others do; `None` when they do, or that hangs on their
/// labels.
pub(super) fn hidden(
    ground: &Ground<'_>,
    subset: &str,
    services: &[&Arc<Service>],
    caller: &Name,
) -> Option<String> {
    let policies = ground.known.policies;
    let sight = Sight::new(caller, None, policies);
    let service = sight.meant(services.iter().copied(), |service| Some(service.as_ref()))?;
    let host = service.key.hostname.as_str();
    let by_labels =
        |rule: &&Arc<DestinationRule>| rule.meta.id.namespace == *caller && !rule.selector.is_everything();
    if policies.about::<DestinationRule>(host).any(|rule| by_labels(&rule)) {
        return None;
    }
    let client = RuleClient { namespace: caller, label: &|_| None };
    let heeded = Destination::for_client(&client, &service.key, policies);
    if heeded.subset(subset).is_some() {
        return None;
    }
    let defining = policies.about::<DestinationRule>(host).filter(|rule| rule.subset(subset).is_some());
    let defining = listed(defining.map(|rule| &rule.meta.id));
    let heeded = match heeded.ids().as_slice() {
        [] => "no DestinationRule".to_owned(),
        ids => format!("DestinationRule {}", listed(ids)),
    };
    Some(format!(
        "clients of namespace {caller} heed {heeded} for {host}, which does not define subset {subset}; {defining} does. \
         Rules of the client's namespace come before those of the service's, those before the root namespace's; in each the \
         exact host before wildcards: add the subset to the first"
    ))
}
