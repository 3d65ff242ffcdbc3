//! What a ServiceEntry says of a service beyond what a Kubernetes Service can (R5.33–R5.36).

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use ipnet::IpNet;
use serde::{Serialize, Serializer};

use super::{Name, Set, SpiffeId, Workload};

/// The part of a [`Service`](super::Service) that only ServiceEntries have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct EntryFacts {
    /// `location: MESH_EXTERNAL`: it is outside the mesh, no mesh mTLS is spoken to it unless a rule says so.
    pub mesh_external: bool,
    /// Virtual addresses that are blocks (R5.33); single ones are among the VIPs.
    #[serde(serialize_with = "texts")]
    pub blocks: Vec<IpNet>,
    /// `subjectAltNames` that are no SPIFFE ids of the mesh's form; those that are count among the accounts.
    pub alt_names: Set<Name>,
    /// Endpoints that Envoy is told with the Envoy cluster and not by EDS, in order: every endpoint of a service
    /// that Envoy resolves by DNS, and Unix sockets.
    pub inline: Vec<InlineEndpoint>,
}

/// Where an inline endpoint is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum InlineAddress {
    /// At an IP address.
    Ip(IpAddr),
    /// Wherever this host name resolves to.
    Host(Name),
    /// At a Unix socket: the path, abstract ones with `@` in front. Its port is 0.
    Unix(Name),
    /// Behind the gateways of its network, nobody says where (R4.26).
    Absent,
}

/// An endpoint that Envoy is told with the Envoy cluster. Always healthy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InlineEndpoint {
    /// Where it is.
    pub address: InlineAddress,
    /// The target port (R5.34).
    pub port: u16,
    /// The service port's name.
    pub port_name: Name,
    /// Weight; `None` counts as 1 (R4.11).
    pub weight: Option<NonZeroU32>,
    /// Network, locality, labels and identity.
    pub workload: Arc<Workload>,
}

impl InlineEndpoint {
    /// The weight with its default (R4.11).
    pub fn weight(&self) -> u32 {
        self.weight.map_or(1, NonZeroU32::get)
    }
}

impl EntryFacts {
    /// Identities behind the inline endpoints.
    pub fn accounts(&self) -> Set<SpiffeId> {
        self.inline.iter().filter_map(|endpoint| endpoint.workload.account.clone()).collect()
    }
}

fn texts<S: Serializer>(blocks: &[IpNet], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(blocks.iter().map(ToString::to_string))
}
