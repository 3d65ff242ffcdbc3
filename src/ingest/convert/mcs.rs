//! Multi-cluster services: which cluster's endpoints others may use (R4.38–R4.40).

use crate::model::Name;

/// The switches of multi-cluster services. Each needs the one before it; [`auto_export`](Self::auto_export)
/// stands alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct McsOptions {
    /// `ENABLE_MCS_SERVICE_DISCOVERY`: only exported Services are seen by other clusters (R4.38).
    pub discovery: bool,
    /// `ENABLE_MCS_HOST`: imported Services have `clusterset.local` host names (R4.39).
    pub host: bool,
    /// `ENABLE_MCS_CLUSTER_LOCAL`: `svc.cluster.local` host names never leave their cluster (R4.38).
    pub cluster_local: bool,
    /// `ENABLE_MCS_AUTO_EXPORT`: every Service is exported (R4.40).
    pub auto_export: bool,
    /// `MCS_API_GROUP`.
    pub group: Name,
    /// `MCS_API_VERSION`.
    pub version: Name,
}

impl Default for McsOptions {
    fn default() -> Self {
        Self {
            discovery: false,
            host: false,
            cluster_local: false,
            auto_export: false,
            group: "multicluster.x-k8s.io".into(),
            version: "v1alpha1".into(),
        }
    }
}

impl McsOptions {
    /// The switches as they act: each one counts only with those it needs.
    pub fn effective(self) -> Self {
        let host = self.discovery && self.host;
        Self { host, cluster_local: host && self.cluster_local, ..self }
    }
}
