//! The DestinationRules that hold for a client and a host (R4.3).

#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::model::policy::{DestinationRule, PolicyId, Subset, TrafficPolicy, TrafficSettings};
use crate::model::{ExportTo, ProxyView, ServiceKey};
use crate::registry::PolicySnapshot;

/// Who asks for rules.
#[derive(Clone, Copy)]
pub struct RuleClient<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Looks one of its labels up. Only those that rules of its namespace select by need to be there.
    pub label: &'a dyn Fn(&str) -> Option<&'a str>,
}

/// Whether a rule holds.
type Holds<'a> = &'a dyn Fn(&DestinationRule) -> bool;

/// The rules of one host in one namespace that hold together: their subsets are united, the first policy wins. Empty
/// where no rule holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Destination {
    ids: Vec<PolicyId>,
    /// All of them as one.
    rule: Option<Arc<DestinationRule>>,
}

impl Destination {
    /// The rules that hold for a proxy that calls a service.
    pub fn of(view: &ProxyView, service: &ServiceKey, policies: &PolicySnapshot) -> Self {
        let label = |key: &str| view.own_label(key);
        Self::for_client(&RuleClient { namespace: view.namespace(), label: &label }, service, policies)
    }

    /// The rules that hold for a client that calls a service: those of its own namespace, else of the service's, else
    /// of the root namespace, as far as they are exported; in each those for the host itself before those for
    /// wildcards, and in its own namespace those that select the client before those for everybody. Cost ∝ the rules
    /// about the host.
    pub fn for_client(client: &RuleClient<'_>, service: &ServiceKey, policies: &PolicySnapshot) -> Self {
        let (own, root) = (client.namespace, policies.mesh().root_namespace.as_str());
        let default = &policies.mesh().default_destination_rule_export_to;
        let exported = |rule: &DestinationRule| {
            let everybody = rule.selector.is_everything();
            everybody && rule.export_to.reaches(own, &rule.meta.id.namespace, default)
        };
        // A client of the root namespace: what is for the mesh must not hide what is for the service.
        let private = |rule: &DestinationRule| {
            own != root
                || matches!(&rule.export_to, ExportTo::Namespaces(names) if names.len() == 1 && names.contains(own))
        };
        let selects = |rule: &DestinationRule| rule.selector.selects(client.label);
        let mine = |rule: &DestinationRule| private(rule) && selects(rule);
        let steps: [(&str, Holds<'_>); 3] =
            [(own, &mine), (&service.namespace, &exported), (root, &exported)];
        let about: Vec<_> = policies.about::<DestinationRule>(&service.hostname).collect();
        let mut found = steps.into_iter().map(|(namespace, holds)| {
            let about = about.iter().copied();
            Self::first(about.filter(|rule| rule.meta.id.namespace.as_str() == namespace && holds(rule)))
        });
        found.find(|found| found.rule.is_some()).unwrap_or_default()
    }

    /// Of rules in the order of their hosts those of the first one; where some select their clients, those of the first
    /// selector.
    fn first<'a>(mut rules: impl Iterator<Item = &'a Arc<DestinationRule>>) -> Self {
        let Some(first) = rules.next() else {
            return Self::default();
        };
        let mut same: Vec<_> =
            [first].into_iter().chain(rules.filter(|rule| rule.host == first.host)).collect();
        if let Some(selector) = same.iter().map(|rule| &rule.selector).find(|one| !one.is_everything()) {
            same.retain(|rule| rule.selector == *selector);
        }
        Self::united(same.into_iter())
    }

    /// The rules of these ids about `host`, in the order of the ids; those that are gone are left out.
    pub fn of_ids(policies: &PolicySnapshot, host: &str, ids: &[PolicyId]) -> Self {
        let rule = |id: &PolicyId| policies.about::<DestinationRule>(host).find(|rule| rule.meta.id == *id);
        Self::united(ids.iter().filter_map(rule))
    }

    /// One rule out of those for one host, the oldest first. A single one is not copied.
    fn united<'a>(rules: impl Iterator<Item = &'a Arc<DestinationRule>>) -> Self {
        let mut united = Self::default();
        for rule in rules {
            united.ids.push(rule.meta.id.clone());
            match &mut united.rule {
                Some(all) => unite(Arc::make_mut(all), rule),
                none => *none = Some(Arc::clone(rule)),
            }
        }
        united
    }

    /// Which objects they are.
    pub fn ids(&self) -> Vec<PolicyId> {
        self.ids.clone()
    }

    /// All of them as one: the first policy, and every subset once.
    pub fn rule(&self) -> Option<&Arc<DestinationRule>> {
        self.rule.as_ref()
    }

    /// All of them as one.
    pub fn into_rule(self) -> Option<Arc<DestinationRule>> {
        self.rule
    }

    /// The subsets of all rules; of one name the first counts.
    pub fn subsets(&self) -> impl Iterator<Item = &Subset> {
        self.rule.iter().flat_map(|rule| &rule.subsets)
    }

    /// One subset.
    pub fn subset(&self, name: &str) -> Option<&Subset> {
        self.rule.as_ref()?.subset(name)
    }

    /// The policy of the host.
    pub fn policy(&self) -> Option<&TrafficPolicy> {
        self.rule.as_ref().map(|rule| &rule.policy)
    }

    /// The effective settings for a port of a subset, or of the whole host for the empty name: settings of a port
    /// replace those of their level, a subset's win over the host's field by field.
    pub fn settings(&self, port: u16, subset: &str) -> TrafficSettings {
        self.rule.as_ref().map(|rule| rule.settings(port, subset)).unwrap_or_default()
    }
}

/// Adds what `other` says more: its policy where there is none yet, and its subsets of other names.
fn unite(all: &mut DestinationRule, other: &DestinationRule) {
    if all.policy == TrafficPolicy::default() {
        all.policy = other.policy.clone();
    }
    let new = other.subsets.iter().filter(|subset| all.subset(&subset.name).is_none()).cloned();
    let new: Vec<_> = new.collect();
    all.subsets.extend(new);
}
