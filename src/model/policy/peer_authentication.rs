//! PeerAuthentications.

use serde::Serialize;

use super::{Policy, PolicyKind, PolicyMeta, WorkloadSelector};
use crate::model::Name;

/// Which mTLS a server asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum MtlsMode {
    /// Plaintext only.
    Disable,
    /// Both.
    #[default]
    Permissive,
    /// mTLS only.
    Strict,
}

/// Which mTLS workloads ask for (R4.12).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PeerAuthentication {
    /// Which object, and how old.
    pub meta: PolicyMeta,
    /// Which workloads of its namespace; without labels all of them, in the root namespace the mesh.
    pub selector: WorkloadSelector,
    /// The mode; `None` inherits.
    pub mode: Option<MtlsMode>,
    /// By target port; read only with a selector. `None` inherits.
    pub ports: Vec<(u16, Option<MtlsMode>)>,
}

impl Policy for PeerAuthentication {
    const KIND: PolicyKind = PolicyKind::PeerAuthentication;

    fn meta(&self) -> &PolicyMeta {
        &self.meta
    }

    fn scopes(&self) -> Vec<Name> {
        vec![self.meta.id.namespace.clone()]
    }
}
