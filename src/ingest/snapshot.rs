//! What clusters amounted to, on disk: a server that starts while an API server cannot be reached serves its
//! cluster from there instead of forgetting it.
//!
//! One file per cluster, written whole beside its place and moved there. It holds what the registry holds of
//! the cluster and nothing of its credentials. Its content is believed only if it is complete, written by a
//! version not newer than this one, for the same cluster behind the same API server (D35), and young enough.
//! This is one of the few places that read the wall clock (K-41): an age has to outlive the process.

mod decode;
mod encode;
mod format;
mod keeper;
mod memory;
mod store;
mod terms;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

pub use format::{Corrupt, MAX_BYTES, parse, write};
pub use keeper::Keeper;
pub use memory::Addresses;
pub(super) use memory::{Documents, Memory};
pub use store::{All, Ignored, Loaded, SnapshotError, SnapshotStore, Unsaved, Unusable};
pub use terms::Terms;
pub(super) use terms::{Filter, select};

use super::client::ApiServer;
use super::objects::ObjectKind;
use crate::model::{ClusterId, ClusterStatus, Name, ServiceKey};
use crate::registry::ClusterState;

/// How host names of imported Services end (R4.39): each is a Service under another name as well.
const IMPORTED: &str = ".svc.clusterset.local";

/// Which API server a state was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// Scheme, host, port and path: what tells API servers apart, and nothing a URL may hide besides.
    pub server: String,
    /// SHA-256 of the certificates that its certificate is checked against; `None` for the system's.
    pub ca: Option<[u8; 32]>,
}

impl Pin {
    /// The API server that is read.
    pub(super) fn of(server: &ApiServer) -> Self {
        let credentials = server.credentials();
        Self::new(&credentials.server.parse().unwrap_or_default(), credentials.ca_sha256)
    }

    /// The API server at `url` with this CA.
    pub fn new(url: &http::Uri, ca: Option<[u8; 32]>) -> Self {
        let scheme = url.scheme_str().unwrap_or("https");
        let port = url.port_u16().unwrap_or(if scheme == "http" { 80 } else { 443 });
        let host = url.host().unwrap_or_default().to_ascii_lowercase();
        // Several may be behind one host, each under a path of its own.
        let path = url.path().trim_end_matches('/');
        Self { server: format!("{scheme}://{host}:{port}{path}"), ca }
    }
}

/// One cluster's state with what it is valid for.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// The cluster.
    pub cluster: ClusterId,
    /// The API server it was read from.
    pub pin: Pin,
    /// The uid of its `kube-system` namespace; empty when not known (K-20).
    pub uid: Name,
    /// When this was last known to be true, to the millisecond.
    pub confirmed: SystemTime,
    /// Under which options it was read.
    pub terms: Terms,
    /// What the host names of its gateways resolved to; the config cluster's has those of the document too.
    pub addresses: Addresses,
    /// The document `meshNetworks` of the mesh ConfigMap: the config cluster's, once it was read.
    pub mesh_networks: Option<Arc<str>>,
    /// The document MeshConfig of the mesh ConfigMap, likewise.
    pub mesh_config: Option<Arc<str>>,
    /// The policies that were in use, as JSON, likewise.
    pub policies: Option<Arc<str>>,
    /// The state.
    pub state: ClusterState,
}

impl Snapshot {
    /// Whether something is in it that only the config cluster has.
    pub(super) fn has_documents(&self) -> bool {
        [&self.mesh_networks, &self.mesh_config, &self.policies].into_iter().any(Option::is_some)
    }

    /// What tells operators of a cluster that is served from it.
    pub(super) fn shown(&self) -> impl FnOnce(&mut ClusterStatus) + use<> {
        let state = &self.state;
        let imported = |key: &ServiceKey| key.hostname.ends_with(IMPORTED);
        let services = state.shards.iter().filter(|(key, shard)| shard.service.is_some() && !imported(key));
        let objects =
            [(ObjectKind::Pod.name(), state.workloads.len()), (ObjectKind::Service.name(), services.count())];
        let (uid, network) = (self.uid.clone(), state.networks.network.clone());
        move |row| {
            row.uid = uid;
            row.network = network.unwrap_or_default();
            row.objects = objects.into();
        }
    }
}

/// Where snapshots are kept, and for how long they are believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotOptions {
    /// The directory; it is made if it is not there.
    pub dir: std::path::PathBuf,
    /// Older ones are ignored, and in the end deleted.
    pub max_age: Duration,
}

#[cfg(test)]
mod tests;
