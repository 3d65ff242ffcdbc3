//! The table of kinds this server speaks: one row per kind, read by routing, discovery and validation.
//!
//! A further kind is a further `static` and its mention in [`KINDS`]; nothing else changes.

use serde_json::Value;

use super::columns::{self, Column};
use super::defaults;

/// One kind of object.
pub struct Kind {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// API version within the group.
    pub version: &'static str,
    /// Resource name in paths.
    pub plural: &'static str,
    /// `kind` in objects.
    pub kind: &'static str,
    /// Lower-case singular for the command line.
    pub singular: &'static str,
    /// Abbreviations kubectl accepts.
    pub short_names: &'static [&'static str],
    /// Categories such as `all`.
    pub categories: &'static [&'static str],
    /// Whether objects live in a namespace.
    pub scope: Scope,
    /// Whether `/status` exists; then writes to the object itself leave `status` alone.
    pub has_status: bool,
    /// Whether `/scale` exists.
    pub has_scale: bool,
    /// How names are checked.
    pub names: NameRule,
    /// Field paths usable in a field selector, besides `metadata.name` and `metadata.namespace`.
    pub selectable: &'static [&'static str],
    /// Fills what a real server fills when an object is created.
    pub defaults: fn(&mut Value),
    /// Columns of the table form, after the name and before the age.
    pub columns: &'static [Column],
}

/// Where objects of a kind live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// In a namespace.
    Namespaced,
    /// Directly in the cluster.
    Cluster,
}

/// What a name of this kind may look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameRule {
    /// One DNS-1123 label of at most 63 characters.
    Label,
    /// DNS-1123 labels joined by dots, at most 253 characters.
    Subdomain,
}

impl std::fmt::Debug for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Kind({})", self.resource())
    }
}

impl Kind {
    /// `v1` or `group/version`.
    pub fn api_version(&self) -> String {
        match self.group {
            "" => self.version.to_owned(),
            group => format!("{group}/{}", self.version),
        }
    }

    /// `plural` or `plural.group`, as messages name a resource.
    pub fn resource(&self) -> String {
        match self.group {
            "" => self.plural.to_owned(),
            group => format!("{}.{group}", self.plural),
        }
    }

    /// Whether objects live in a namespace.
    pub fn is_namespaced(&self) -> bool {
        self.scope == Scope::Namespaced
    }
}

const PLAIN: Kind = Kind {
    group: "",
    version: "v1",
    plural: "",
    kind: "",
    singular: "",
    short_names: &[],
    categories: &[],
    scope: Scope::Namespaced,
    has_status: false,
    has_scale: false,
    names: NameRule::Subdomain,
    selectable: &[],
    defaults: |_| {},
    columns: &[],
};

/// `v1` Namespace.
pub static NAMESPACES: Kind = Kind {
    plural: "namespaces",
    kind: "Namespace",
    singular: "namespace",
    short_names: &["ns"],
    scope: Scope::Cluster,
    has_status: true,
    names: NameRule::Label,
    selectable: &["status.phase"],
    defaults: defaults::namespace,
    columns: columns::NAMESPACE,
    ..PLAIN
};

/// `v1` Service.
pub static SERVICES: Kind = Kind {
    plural: "services",
    kind: "Service",
    singular: "service",
    short_names: &["svc"],
    categories: &["all"],
    has_status: true,
    names: NameRule::Label,
    selectable: &["spec.clusterIP", "spec.type"],
    defaults: defaults::service,
    columns: columns::SERVICE,
    ..PLAIN
};

/// `v1` Pod.
pub static PODS: Kind = Kind {
    plural: "pods",
    kind: "Pod",
    singular: "pod",
    short_names: &["po"],
    categories: &["all"],
    has_status: true,
    selectable: &[
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "status.phase",
        "status.podIP",
        "status.nominatedNodeName",
    ],
    defaults: defaults::pod,
    columns: columns::POD,
    ..PLAIN
};

/// `v1` Node.
pub static NODES: Kind = Kind {
    plural: "nodes",
    kind: "Node",
    singular: "node",
    short_names: &["no"],
    scope: Scope::Cluster,
    has_status: true,
    selectable: &["spec.unschedulable"],
    columns: columns::NODE,
    ..PLAIN
};

/// `v1` Secret.
pub static SECRETS: Kind = Kind {
    plural: "secrets",
    kind: "Secret",
    singular: "secret",
    selectable: &["type"],
    defaults: defaults::secret,
    columns: columns::SECRET,
    ..PLAIN
};

/// `v1` ConfigMap.
pub static CONFIG_MAPS: Kind = Kind {
    plural: "configmaps",
    kind: "ConfigMap",
    singular: "configmap",
    short_names: &["cm"],
    columns: columns::CONFIG_MAP,
    ..PLAIN
};

/// `discovery.k8s.io/v1` EndpointSlice.
pub static ENDPOINT_SLICES: Kind = Kind {
    group: "discovery.k8s.io",
    plural: "endpointslices",
    kind: "EndpointSlice",
    singular: "endpointslice",
    columns: columns::ENDPOINT_SLICE,
    ..PLAIN
};

/// `apps/v1` Deployment.
pub static DEPLOYMENTS: Kind = Kind {
    group: "apps",
    plural: "deployments",
    kind: "Deployment",
    singular: "deployment",
    short_names: &["deploy"],
    categories: &["all"],
    has_status: true,
    has_scale: true,
    defaults: defaults::deployment,
    columns: columns::DEPLOYMENT,
    ..PLAIN
};

/// Every kind served, in the order discovery lists them.
pub static KINDS: &[&Kind] =
    &[&CONFIG_MAPS, &NAMESPACES, &NODES, &PODS, &SECRETS, &SERVICES, &DEPLOYMENTS, &ENDPOINT_SLICES];

/// The kind served at a resource path.
pub fn by_plural(group: &str, version: &str, plural: &str) -> Option<&'static Kind> {
    KINDS.iter().copied().find(|k| k.group == group && k.version == version && k.plural == plural)
}

/// The kind of an object by its `apiVersion` and `kind`.
pub fn of_object(api_version: &str, kind: &str) -> Option<&'static Kind> {
    KINDS.iter().copied().find(|k| k.kind == kind && k.api_version() == api_version)
}

/// The distinct (group, version) pairs, in table order.
pub fn group_versions() -> Vec<(&'static str, &'static str)> {
    let mut out = Vec::new();
    for kind in KINDS {
        if !out.contains(&(kind.group, kind.version)) {
            out.push((kind.group, kind.version));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_found_by_path_and_by_object() {
        for kind in KINDS {
            let by_path = by_plural(kind.group, kind.version, kind.plural).unwrap();
            let by_object = of_object(&kind.api_version(), kind.kind).unwrap();
            assert!(std::ptr::eq(by_path, *kind) && std::ptr::eq(by_object, *kind), "{kind:?}");
        }
    }

    #[test]
    fn groups_are_listed_once() {
        assert_eq!(group_versions(), [("", "v1"), ("apps", "v1"), ("discovery.k8s.io", "v1")]);
    }
}
