//! Multi-cluster services: which cluster's endpoints others may use (R4.38–R4.40).

use std::net::IpAddr;

use super::ClusterContext;
use crate::ingest::objects::ObjectKey;
use crate::model::{Discoverability, EndpointShard, Hostname, Import, Name, Service, ServiceKey};

/// The switches of multi-cluster services. Each needs the one before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct McsOptions {
    /// `ENABLE_MCS_SERVICE_DISCOVERY`: only exported Services are seen by other clusters (R4.38).
    pub discovery: bool,
    /// `ENABLE_MCS_HOST`: imported Services have `clusterset.local` host names (R4.39).
    pub host: bool,
    /// `ENABLE_MCS_CLUSTER_LOCAL`: `svc.cluster.local` host names never leave their cluster (R4.38).
    pub cluster_local: bool,
    /// `ENABLE_MCS_AUTO_EXPORT`: every Service that is not cluster-local is exported (R4.40). Needs no other.
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
    /// Whether ServiceExports are read.
    pub fn reads_exports(&self) -> bool {
        self.discovery || self.auto_export
    }

    /// The switches as they act: each one counts only with those it needs.
    pub fn effective(self) -> Self {
        let host = self.discovery && self.host;
        Self { host, cluster_local: host && self.cluster_local, ..self }
    }
}

/// The key of an imported Service: `<name>.<namespace>.svc.clusterset.local` (R4.39).
pub fn imported_key(key: &ObjectKey) -> ServiceKey {
    let hostname = format!("{}.{}.svc.clusterset.local", key.name, key.namespace);
    ServiceKey { namespace: key.namespace.clone(), hostname: Hostname::from(hostname) }
}

/// R4.38: who may use the endpoints of a Service under its own name.
pub fn discoverability(options: &McsOptions, is_exported: bool) -> Discoverability {
    match options {
        McsOptions { cluster_local: true, .. } => Discoverability::SameCluster,
        McsOptions { discovery: true, .. } if !is_exported => Discoverability::SameCluster,
        _ => Discoverability::Always,
    }
}

/// One cluster's share of the imported host of a Service (R4.39): the endpoints of `own`, discoverable if the
/// Service is exported, and the import's VIPs, sorted. `None` when the cluster has neither the Service nor an
/// import with addresses.
pub fn imported(
    context: &ClusterContext,
    key: &ObjectKey,
    own: Option<&EndpointShard>,
    ips: &[Name],
    is_exported: bool,
) -> Option<EndpointShard> {
    let mut vips: Vec<IpAddr> = ips.iter().filter_map(|ip| ip.parse().ok()).collect();
    vips.sort();
    let own = own.and_then(|shard| Some((shard, shard.service.as_deref()?)));
    let import = match (own.is_some(), vips.is_empty()) {
        (false, true) => return None,
        (true, true) => Import::Offered,
        (true, false) => Import::Own,
        (false, false) => Import::Foreign,
    };
    let record = own.map(|(_, service)| service.clone()).unwrap_or_default();
    let record = Service {
        key: imported_key(key),
        vips: if vips.is_empty() { Vec::new() } else { vec![(context.cluster.clone(), vips)] },
        import,
        ..record
    };
    let discoverability = if is_exported { Discoverability::Always } else { Discoverability::SameCluster };
    let endpoints = own.into_iter().flat_map(|(shard, _)| shard.endpoints.iter().cloned());
    let endpoints = endpoints.map(|mut endpoint| {
        endpoint.exposure = discoverability.into();
        endpoint
    });
    Some(EndpointShard::new(context.cluster.clone(), Some(record.into()), endpoints.collect()))
}
