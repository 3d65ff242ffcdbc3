//! The kinds this server speaks: one row per kind, read by routing, discovery and validation.
//!
//! Kinds of CustomResourceDefinitions come and go in a store's own table ([`Kinds`]).

mod built_in;

use std::sync::Arc;

use serde_json::Value;

pub use self::built_in::*;
use super::columns::{self, Column};
use super::scale::Scale;

/// One kind of object.
#[derive(Clone)]
pub struct Kind {
    /// API group; empty for the core group.
    pub group: String,
    /// API version within the group.
    pub version: String,
    /// Resource name in paths.
    pub plural: String,
    /// `kind` in objects.
    pub kind: String,
    /// `kind` in lists; empty means the kind with `List` behind it.
    pub list_kind: String,
    /// Lower-case singular for the command line.
    pub singular: String,
    /// Abbreviations kubectl accepts.
    pub short_names: Vec<String>,
    /// Categories such as `all`.
    pub categories: Vec<String>,
    /// Whether objects live in a namespace.
    pub scope: Scope,
    /// Whether `/status` exists; then writes to the object itself leave `status` alone.
    pub has_status: bool,
    /// How `/scale` reads and writes objects, where it exists.
    pub scale: Option<Scale>,
    /// Whether `metadata.generation` counts the changes of what is wanted.
    pub has_generation: bool,
    /// The version objects are stored in, where it is another: then this one is a view of them.
    pub stored_version: Option<String>,
    /// Whether a PUT must say which version it replaces.
    pub needs_version: bool,
    /// How names are checked.
    pub names: NameRule,
    /// Field paths usable in a field selector, besides `metadata.name` and `metadata.namespace`.
    pub selectable: Vec<String>,
    /// Fills what a real server fills when an object is written.
    pub defaults: fn(&mut Value),
    /// Columns of the table form.
    pub columns: Vec<Column>,
    /// The OpenAPI schema of a custom kind, as its definition has it.
    pub schema: Option<Arc<Value>>,
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
        write!(f, "Kind({} {})", self.resource(), self.version)
    }
}

impl Kind {
    /// A namespaced `v1` kind of the core group with no name and nothing special.
    pub(super) fn plain() -> Self {
        Self {
            group: String::new(),
            version: "v1".into(),
            plural: String::new(),
            kind: String::new(),
            list_kind: String::new(),
            singular: String::new(),
            short_names: Vec::new(),
            categories: Vec::new(),
            scope: Scope::Namespaced,
            has_status: false,
            scale: None,
            has_generation: false,
            stored_version: None,
            needs_version: false,
            names: NameRule::Subdomain,
            selectable: Vec::new(),
            defaults: |_| {},
            columns: columns::plain(),
            schema: None,
        }
    }

    /// `v1` or `group/version`.
    pub fn api_version(&self) -> String {
        match self.group.as_str() {
            "" => self.version.clone(),
            group => format!("{group}/{}", self.version),
        }
    }

    /// `apiVersion` of the stored objects.
    pub(super) fn stored_api_version(&self) -> String {
        match (&self.stored_version, self.group.as_str()) {
            (None, _) => self.api_version(),
            (Some(version), "") => version.clone(),
            (Some(version), group) => format!("{group}/{version}"),
        }
    }

    /// `plural` or `plural.group`, as messages name a resource.
    pub fn resource(&self) -> String {
        match self.group.as_str() {
            "" => self.plural.clone(),
            group => format!("{}.{group}", self.plural),
        }
    }

    /// `Kind` or `Kind.group`, as messages name what is invalid.
    pub(super) fn qualified(&self) -> String {
        match self.group.as_str() {
            "" => self.kind.clone(),
            group => format!("{}.{group}", self.kind),
        }
    }

    /// `kind` of a list of these objects.
    pub fn list_kind(&self) -> String {
        if self.list_kind.is_empty() { format!("{}List", self.kind) } else { self.list_kind.clone() }
    }

    /// Whether objects live in a namespace.
    pub fn is_namespaced(&self) -> bool {
        self.scope == Scope::Namespaced
    }

    /// Whether `/scale` exists.
    pub fn has_scale(&self) -> bool {
        self.scale.is_some()
    }

    /// Whether both name the same objects, in this or another version.
    pub fn is(&self, other: &Self) -> bool {
        self.plural == other.plural && self.group == other.group
    }
}

/// The built-in kind of an object by its `apiVersion` and `kind`.
pub fn of_object(api_version: &str, kind: &str) -> Option<Arc<Kind>> {
    KINDS.iter().find(|k| k.kind == kind && k.api_version() == api_version).cloned()
}

/// The kinds of one store: the built-in ones, then those of its CustomResourceDefinitions. Immutable; a
/// definition that comes or goes makes a new table.
#[derive(Debug, Clone)]
pub struct Kinds(Vec<Arc<Kind>>);

impl Default for Kinds {
    fn default() -> Self {
        Self(KINDS.clone())
    }
}

impl Kinds {
    /// Every kind, in the order discovery lists them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Kind>> {
        self.0.iter()
    }

    /// One kind, the preferred version, of each resource.
    pub(super) fn resources(&self) -> impl Iterator<Item = &Arc<Kind>> {
        let first = |at: usize, kind: &Kind| !self.0[..at].iter().any(|earlier| earlier.is(kind));
        self.0.iter().enumerate().filter(move |(at, kind)| first(*at, kind)).map(|(_, kind)| kind)
    }

    /// The kind served at a resource path.
    pub fn by_plural(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Kind>> {
        self.0.iter().find(|k| k.group == group && k.version == version && k.plural == plural)
    }

    /// The kind of an object by its `apiVersion` and `kind`.
    pub fn of_object(&self, api_version: &str, kind: &str) -> Option<&Arc<Kind>> {
        self.0.iter().find(|k| k.kind == kind && k.api_version() == api_version)
    }

    /// The distinct (group, version) pairs, in table order.
    pub fn group_versions(&self) -> Vec<(String, String)> {
        let mut out: Vec<(String, String)> = Vec::new();
        for kind in &self.0 {
            if !out.iter().any(|(g, v)| *g == kind.group && *v == kind.version) {
                out.push((kind.group.clone(), kind.version.clone()));
            }
        }
        out
    }

    /// The table without any version of `plural` in `group`, and with `versions` of it instead.
    pub(super) fn with(&self, group: &str, plural: &str, versions: Vec<Kind>) -> Self {
        let others = self.0.iter().filter(|k| k.group != group || k.plural != plural).cloned();
        Self(others.chain(versions.into_iter().map(Arc::new)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_found_by_path_and_by_object() {
        let kinds = Kinds::default();
        for kind in KINDS.iter() {
            let by_path = kinds.by_plural(&kind.group, &kind.version, &kind.plural).unwrap();
            let by_object = of_object(&kind.api_version(), &kind.kind).unwrap();
            assert!(Arc::ptr_eq(by_path, kind) && Arc::ptr_eq(&by_object, kind), "{kind:?}");
        }
    }

    #[test]
    fn groups_are_listed_once() {
        let groups: Vec<String> = Kinds::default().group_versions().into_iter().map(|(g, _)| g).collect();
        let wanted = ["", "apps", "coordination.k8s.io", "discovery.k8s.io", "apiextensions.k8s.io"];
        assert_eq!(groups, wanted);
    }
}
