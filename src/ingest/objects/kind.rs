//! Which objects there are: kinds and keys.

use std::fmt;

use crate::model::Name;

/// Namespace and name of an object; the namespace of cluster-wide objects is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// Its namespace.
    pub namespace: Name,
    /// Its name.
    pub name: Name,
}

impl ObjectKey {
    /// A key from its parts.
    pub fn new(namespace: impl Into<Name>, name: impl Into<Name>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

/// The kinds read from every cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKind {
    /// Namespaces.
    Namespace,
    /// Nodes.
    Node,
    /// Pods.
    Pod,
    /// Services.
    Service,
    /// EndpointSlices.
    EndpointSlice,
    /// Gateways of the Gateway API.
    Gateway,
    /// The mesh ConfigMap of the config cluster.
    ConfigMap,
    /// Exported Services.
    ServiceExport,
    /// Imported Services.
    ServiceImport,
    /// Services and endpoints that are no Kubernetes objects; of the config cluster only.
    ServiceEntry,
    /// Endpoints that are no Pods.
    WorkloadEntry,
}

impl ObjectKind {
    /// Every kind.
    pub const ALL: [Self; 11] = [
        Self::Namespace,
        Self::Node,
        Self::Pod,
        Self::Service,
        Self::EndpointSlice,
        Self::Gateway,
        Self::ConfigMap,
        Self::ServiceExport,
        Self::ServiceImport,
        Self::ServiceEntry,
        Self::WorkloadEntry,
    ];

    /// The kinds every cluster has, and must have listed before it serves.
    pub const BUILT_IN: [Self; 5] =
        [Self::Namespace, Self::Node, Self::Pod, Self::Service, Self::EndpointSlice];

    /// Its name as Kubernetes spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Namespace => "Namespace",
            Self::Node => "Node",
            Self::Pod => "Pod",
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::Gateway => "Gateway",
            Self::ConfigMap => "ConfigMap",
            Self::ServiceExport => "ServiceExport",
            Self::ServiceImport => "ServiceImport",
            Self::ServiceEntry => "ServiceEntry",
            Self::WorkloadEntry => "WorkloadEntry",
        }
    }

    /// Several of it.
    pub fn plural(self) -> String {
        plural(self.name())
    }
}

/// Several of a kind: `Services`, `ServiceEntries`, `Gateways`.
pub(in crate::ingest) fn plural(kind: &str) -> String {
    match kind.strip_suffix('y') {
        Some(stem) if !stem.ends_with(['a', 'e', 'o', 'u']) => format!("{stem}ies"),
        _ => format!("{kind}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_are_spelt_as_people_do() {
        let all = ["Service", "ServiceEntry", "Gateway", "AuthorizationPolicy"].map(plural);
        assert_eq!(all, ["Services", "ServiceEntries", "Gateways", "AuthorizationPolicies"]);
    }
}
