//! Inbound Envoy clusters: where the application is.

use std::net::IpAddr;

use envoy_types::pb::envoy::config::cluster::v3 as cds;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::endpoint::v3 as eds;

use super::cluster::{self, Version};
use super::parts::{address, seconds, socket};
use crate::model::Name;
use crate::model::policy::ConnectionPool;
use crate::xds::resource::Entry;

/// Hosts of inbound connections are the pod's own address: they may stay for ever.
const NEVER_CLEANED_SECONDS: i64 = 365 * 24 * 3600;

/// Where the application is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Application {
    /// Where the connection was going.
    Original,
    /// At a fixed address.
    At(IpAddr, u16),
    /// Behind a Unix socket at this path.
    Socket(Name),
}

/// The Envoy cluster towards an application. `source` is an address that capture leaves alone; connections to the
/// pod's own address need it.
pub(super) fn inbound(
    name: &str,
    application: &Application,
    source: Option<IpAddr>,
    version: Version,
    pool: Option<&ConnectionPool>,
) -> Entry {
    let mut cluster = match application {
        Application::Original => {
            cds::Cluster { cleanup_interval: seconds(NEVER_CLEANED_SECONDS), ..cluster::original_dst(name) }
        }
        Application::At(ip, port) => fixed(name, address(*ip, *port)),
        Application::Socket(path) => {
            let pipe = core::Pipe { path: path.to_string(), mode: 0 };
            fixed(name, Some(core::Address { address: Some(core::address::Address::Pipe(pipe)) }))
        }
    };
    let outside = match application {
        Application::Original => true,
        Application::At(ip, _) => !ip.is_loopback(),
        Application::Socket(_) => false,
    };
    cluster.upstream_bind_config = source
        .filter(|_| outside)
        .map(|source| core::BindConfig { source_address: Some(socket(source, 0)), ..Default::default() });
    cluster::speak(&mut cluster, version, None);
    if let Some(pool) = pool {
        cluster::limit(&mut cluster, pool);
    }
    cluster::finish(&cluster)
}

fn fixed(name: &str, address: Option<core::Address>) -> cds::Cluster {
    let endpoint = eds::Endpoint { address, ..Default::default() };
    let endpoint = eds::LbEndpoint {
        host_identifier: Some(eds::lb_endpoint::HostIdentifier::Endpoint(endpoint)),
        ..Default::default()
    };
    cds::Cluster {
        load_assignment: Some(eds::ClusterLoadAssignment {
            cluster_name: name.to_owned(),
            endpoints: vec![eds::LocalityLbEndpoints { lb_endpoints: vec![endpoint], ..Default::default() }],
            ..Default::default()
        }),
        ..cluster::typed(name, cds::cluster::DiscoveryType::Static)
    }
}
