//! Networks: the document that says which there are, and the host names of gateways.

mod mesh;
mod names;
mod of_objects;
mod source;

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::model::Name;

pub use mesh::{HostNames, MeshNetworks, Reading, StaticGateway};
pub(super) use names::{Dns, Resolver};
pub use names::{GatewayNames, NameCounts, NameStatus};
pub use of_objects::gateways_of;
pub(super) use source::{MeshFeed, MeshFile, MeshPublisher, Publisher, follow_config_map};

/// How networks are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkOptions {
    /// The file of the document `meshNetworks`; without it the mesh ConfigMap of the config cluster's system
    /// namespace is read.
    pub config: Option<PathBuf>,
    /// Whether host names of gateways are resolved (`RESOLVE_HOSTNAME_GATEWAYS`).
    pub resolve_hosts: bool,
    /// DNS servers to ask, in order; empty: those of `/etc/resolv.conf`.
    pub dns_servers: Vec<SocketAddr>,
    /// Whether Gateways of the Gateway API are read (`PILOT_MULTI_NETWORK_DISCOVER_GATEWAY_API`).
    pub gateway_api: bool,
    /// The mesh ConfigMap: [`config_map_name`].
    pub config_map: Name,
}

/// The mesh ConfigMap of a revision of the control plane: `istio`, or `istio-<revision>` (R2.4).
pub fn config_map_name(revision: &str) -> Name {
    match revision {
        "" | "default" => "istio".into(),
        revision => format!("istio-{revision}").into(),
    }
}

impl Default for NetworkOptions {
    fn default() -> Self {
        Self {
            config: None,
            resolve_hosts: true,
            dns_servers: Vec::new(),
            gateway_api: true,
            config_map: config_map_name(""),
        }
    }
}

impl NetworkOptions {
    pub(super) fn host_names(&self) -> HostNames {
        if self.resolve_hosts { HostNames::Allowed } else { HostNames::Refused }
    }
}
