//! DestinationRules.

use serde::Serialize;

use super::{
    ClientTls, HostPattern, Policy, PolicyKind, PolicyMeta, TrafficPolicy, TrafficSettings, WorkloadSelector,
};
use crate::model::{ExportTo, Labels, Name};

/// How a host is called, and which subsets it has.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DestinationRule {
    /// Which object, and how old.
    pub meta: PolicyMeta,
    /// The host, short names already resolved in the rule's namespace.
    pub host: HostPattern,
    /// For the whole host.
    pub policy: TrafficPolicy,
    /// Subsets, each name once.
    pub subsets: Vec<Subset>,
    /// Which clients it is for; one with labels is for its own namespace only.
    pub selector: WorkloadSelector,
    /// Which namespaces it is for.
    pub export_to: ExportTo,
}

/// A part of a host's endpoints.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Subset {
    /// Its name.
    pub name: Name,
    /// Labels that its endpoints have (R4.8).
    pub labels: Labels,
    /// What differs from the host's policy.
    pub policy: TrafficPolicy,
}

impl DestinationRule {
    /// The scope of all of a namespace that select workloads, next to those of their hosts.
    pub fn selecting(namespace: &str) -> Name {
        format!("selecting/{namespace}").into()
    }

    /// The subset of this name.
    pub fn subset(&self, name: &str) -> Option<&Subset> {
        self.subsets.iter().find(|subset| subset.name.as_str() == name)
    }

    /// The effective settings for a port of a subset, or of the whole host for the empty name (R4.3).
    pub fn settings(&self, port: u16, subset: &str) -> TrafficSettings {
        let host = self.policy.of_port(port);
        let settings = match self.subset(subset) {
            Some(subset) => subset.policy.of_port(port).over(host),
            None => host.clone(),
        };
        TrafficSettings { tls: self.tls(port, subset).cloned(), ..settings }
    }

    /// How connections to a port of a subset, or of the whole host for the empty name, are secured (R4.12.1): the subset
    /// before the host, and of each the port before the rest. Envoy clusters and the metadata of endpoints both ask
    /// here: neither may speak what the other does not expect.
    pub fn tls(&self, port: u16, subset: &str) -> Option<&ClientTls> {
        let of_subset = self.subset(subset).and_then(|subset| subset.policy.tls(port));
        of_subset.or_else(|| self.policy.tls(port))
    }
}

impl Policy for DestinationRule {
    const KIND: PolicyKind = PolicyKind::DestinationRule;

    fn meta(&self) -> &PolicyMeta {
        &self.meta
    }

    fn scopes(&self) -> Vec<Name> {
        let selecting = (!self.selector.is_everything()).then(|| Self::selecting(&self.meta.id.namespace));
        std::iter::once(self.host.as_str().into()).chain(selecting).collect()
    }
}
