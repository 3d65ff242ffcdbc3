//! For which namespaces something is.

use std::collections::BTreeSet;

use crate::model::{ExportTo, Name};

/// Some namespaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// All there are.
    Everywhere,
    /// These.
    Only(BTreeSet<Name>),
}

impl Reach {
    /// Those to which `own` exports something, where the mesh's default has `.` as the empty name.
    pub(super) fn of(said: &ExportTo, own: &Name, default: &ExportTo) -> Self {
        match (said, default) {
            (ExportTo::Everywhere, _) | (ExportTo::Unset, ExportTo::Everywhere | ExportTo::Unset) => {
                Self::Everywhere
            }
            (ExportTo::Nowhere, _) | (ExportTo::Unset, ExportTo::Nowhere) => Self::Only(BTreeSet::new()),
            (ExportTo::Namespaces(names), _) => Self::Only(names.clone()),
            (ExportTo::Unset, ExportTo::Namespaces(names)) => {
                let resolved = |name: &Name| if name.is_empty() { own.clone() } else { name.clone() };
                Self::Only(names.iter().map(resolved).collect())
            }
        }
    }

    /// The same and one more.
    pub(super) fn and(self, namespace: &Name) -> Self {
        match self {
            Self::Everywhere => Self::Everywhere,
            Self::Only(mut names) => {
                names.insert(namespace.clone());
                Self::Only(names)
            }
        }
    }

    /// All of both.
    pub(super) fn with(self, other: Self) -> Self {
        match (self, other) {
            (Self::Only(a), Self::Only(b)) => Self::Only(a.into_iter().chain(b).collect()),
            _ => Self::Everywhere,
        }
    }

    /// Whether a namespace is among them.
    pub(super) fn has(&self, namespace: &str) -> bool {
        match self {
            Self::Everywhere => true,
            Self::Only(names) => names.contains(namespace),
        }
    }

    /// Whether some namespace is among both.
    pub(super) fn meets(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Everywhere, Self::Everywhere) => true,
            (Self::Everywhere, Self::Only(names)) | (Self::Only(names), Self::Everywhere) => {
                !names.is_empty()
            }
            (Self::Only(a), Self::Only(b)) => !a.is_disjoint(b),
        }
    }

    /// Whether every namespace of `other` is among them.
    pub(super) fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Everywhere, _) => true,
            (Self::Only(_), Self::Everywhere) => false,
            (Self::Only(a), Self::Only(b)) => a.is_superset(b),
        }
    }
}

impl std::fmt::Display for Reach {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Everywhere => f.write_str("all namespaces"),
            Self::Only(names) if names.is_empty() => f.write_str("no namespace"),
            Self::Only(names) => write!(f, "namespace {}", super::finding::listed(names)),
        }
    }
}
