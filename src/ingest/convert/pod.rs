//! A pod as it is kept: what it shares with the others of its deployment apart from what is its own.

use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;

use crate::ingest::objects::{Controller, Labels, PodObject};
use crate::model::{Addresses, Name, Workload};

/// What the pods of one deployment have in common. Equal ones are to be shared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodShape {
    /// Their labels.
    pub labels: Labels,
    /// Whether their names are generated (R5.10).
    pub generated: bool,
    /// Their controller, if they have one.
    pub controller: Option<Controller>,
    /// `spec.serviceAccountName`.
    pub service_account: Name,
    /// `spec.hostname`.
    pub hostname: Name,
    /// `spec.subdomain`.
    pub subdomain: Name,
    /// Whether their nodes take HBONE for them (R4.16).
    pub redirected: bool,
}

impl Hash for PodShape {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.labels.hash(state);
        (self.generated, self.redirected).hash(state);
        (&self.service_account, &self.hostname, &self.subdomain).hash(state);
        self.controller.as_ref().map(|controller| (&controller.kind, &controller.name)).hash(state);
    }
}

/// One pod. Reads as its shape where it has no value of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// What others have too.
    pub shape: Arc<PodShape>,
    /// `spec.nodeName`; empty until scheduled.
    pub node: Name,
    /// Its addresses, the primary one first.
    pub addresses: Addresses,
    /// Whether it has failed: such a pod counts as absent (R5.3).
    pub failed: bool,
    /// Whether it may lend its metadata to its addresses (R5.7).
    pub lends: bool,
}

impl Pod {
    /// The addresses it lends its metadata to (R5.7).
    pub fn lent(&self) -> &[IpAddr] {
        if self.lends && !self.failed { &self.addresses } else { &[] }
    }

    /// Whether a workload says where it runs and which addresses it has.
    pub fn is_told_by(&self, workload: &Workload) -> bool {
        self.addresses == workload.addresses && self.node == *workload.node()
    }
}

impl Deref for Pod {
    type Target = PodShape;

    fn deref(&self) -> &PodShape {
        &self.shape
    }
}

impl From<PodObject> for Pod {
    fn from(object: PodObject) -> Self {
        let shape = PodShape {
            labels: object.labels,
            generated: object.generated,
            controller: object.controller,
            service_account: object.service_account,
            hostname: object.hostname,
            subdomain: object.subdomain,
            redirected: object.redirected,
        };
        Self {
            shape: Arc::new(shape),
            node: object.node,
            addresses: object.addresses.into(),
            failed: object.failed,
            lends: object.lends,
        }
    }
}
