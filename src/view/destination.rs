//! The DestinationRules that hold for a proxy and a host (R4.3).

use std::sync::Arc;

use crate::model::policy::{DestinationRule, PolicyId, Subset, TrafficPolicy, TrafficSettings};
use crate::model::{ExportTo, Name, ProxyView, ServiceKey};
use crate::registry::PolicySnapshot;

/// The rules of one host in one namespace that hold together: their subsets are united, the first policy wins. Empty
/// where no rule holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Destination<'a>(Vec<&'a Arc<DestinationRule>>);

impl<'a> Destination<'a> {
    /// The rules that hold for a proxy that calls a service: those of its own namespace, else of the service's, else
    /// of the root namespace, as far as they are exported; in each those for the host itself before those for
    /// wildcards, and in its own namespace those that select the proxy before those for everybody.
    pub fn of(view: &ProxyView, service: &ServiceKey, policies: &'a PolicySnapshot) -> Self {
        let (own, root) = (view.namespace(), &policies.mesh().root_namespace);
        let default = &policies.mesh().default_destination_rule_export_to;
        let everybody = |rule: &DestinationRule| rule.selector.is_everything();
        let exported = |rule: &DestinationRule| {
            rule.export_to.reaches(own, &rule.meta.id.namespace, default) && everybody(rule)
        };
        // A proxy of the root namespace: what is for the mesh must not hide what is for the service.
        let private = |rule: &DestinationRule| {
            own != root
                || matches!(&rule.export_to, ExportTo::Namespaces(names) if names.len() == 1 && names.contains(own))
        };
        let about: Vec<_> = policies.about::<DestinationRule>(&service.hostname).collect();
        let of = |namespace: &'_ Name| {
            let namespace = namespace.clone();
            about.iter().copied().filter(move |rule| rule.meta.id.namespace == namespace)
        };
        let selects = |rule: &DestinationRule| rule.selector.selects(|key| view.own_label(key));
        let client = Self::first(of(own).filter(|rule| private(rule) && selects(rule)));
        if !client.0.is_empty() {
            return client;
        }
        let steps = [&service.namespace, root].into_iter();
        let mut steps = steps.map(|namespace| Self::first(of(namespace).filter(|rule| exported(rule))));
        steps.find(|found| !found.0.is_empty()).unwrap_or_default()
    }

    /// Of rules in the order of their hosts those of the first one; where some select their clients, those of the first
    /// selector.
    fn first(mut rules: impl Iterator<Item = &'a Arc<DestinationRule>>) -> Self {
        let Some(first) = rules.next() else {
            return Self::default();
        };
        let mut same: Vec<_> =
            [first].into_iter().chain(rules.filter(|rule| rule.host == first.host)).collect();
        if let Some(selecting) = same.iter().find(|rule| !rule.selector.is_everything()) {
            let selector = selecting.selector.clone();
            same.retain(|rule| rule.selector == selector);
        }
        Self(same)
    }

    /// The rules of these ids about `host`, in the order of the ids; those that are gone are left out.
    pub fn of_ids(policies: &'a PolicySnapshot, host: &str, ids: &[PolicyId]) -> Self {
        let rule = |id: &PolicyId| policies.about::<DestinationRule>(host).find(|rule| rule.meta.id == *id);
        Self(ids.iter().filter_map(rule).collect())
    }

    /// Which objects they are.
    pub fn ids(&self) -> Vec<PolicyId> {
        self.0.iter().map(|rule| rule.meta.id.clone()).collect()
    }

    /// The subsets of all rules; of one name the first counts.
    pub fn subsets(&self) -> impl Iterator<Item = &'a Subset> + '_ {
        let all = || self.0.iter().flat_map(|rule| &rule.subsets);
        all().enumerate().filter_map(move |(at, subset)| {
            let first = all().position(|other| other.name == subset.name) == Some(at);
            first.then_some(subset)
        })
    }

    /// One subset.
    pub fn subset(&self, name: &str) -> Option<&'a Subset> {
        self.0.iter().find_map(|rule| rule.subset(name))
    }

    /// The policy of the host.
    pub fn policy(&self) -> Option<&'a TrafficPolicy> {
        let said = |rule: &&&'a Arc<DestinationRule>| rule.policy != TrafficPolicy::default();
        self.0.iter().find(said).map(|rule| &rule.policy)
    }

    /// The effective settings for a port of a subset, or of the whole host for the empty name: settings of a port
    /// replace those of their level, a subset's win over the host's field by field.
    pub fn settings(&self, port: u16, subset: &str) -> TrafficSettings {
        let host = self.policy().map(|policy| policy.of_port(port));
        match (self.subset(subset), host) {
            (Some(subset), Some(host)) => subset.policy.of_port(port).over(host),
            (Some(subset), None) => subset.policy.of_port(port).clone(),
            (None, host) => host.cloned().unwrap_or_default(),
        }
    }
}
