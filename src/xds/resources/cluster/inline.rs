//! Endpoints that Envoy is told with the Envoy cluster: names it resolves, and Unix sockets (R5.33–R5.36).

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

use envoy_types::pb::envoy::config::cluster::v3 as cds;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{DiscoveryType, DnsLookupFamily, LbPolicy};
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::endpoint::v3 as eds;
use envoy_types::pb::google::protobuf::Struct;

use super::security::tls_mode_field;
use super::{Port, discovered, typed};
use crate::model::policy::Subset;
use crate::model::{GatewayAddress, InlineAddress, InlineEndpoint, IpFamilies, Resolution};
use crate::view::{InlineGroup, InlineSent, InlineTarget, inline};
use crate::xds::resources::parts::{address, number, seconds, socket};

/// How often names are resolved where their answers do not say.
const REFRESH_SECONDS: i64 = 60;

/// The Envoy cluster over the inline endpoints of a port; `None` where Envoy would have to resolve a name and
/// there is none.
pub(super) fn cluster(name: &str, port: &Port<'_>, subset: Option<&Subset>) -> Option<cds::Cluster> {
    let kind = match port.service.resolution {
        Resolution::Dns => DiscoveryType::StrictDns,
        Resolution::DnsRoundRobin => DiscoveryType::LogicalDns,
        _ => DiscoveryType::Static,
    };
    let endpoints: Vec<_> = port.service.inline().iter().filter(|one| belongs(one, port, subset)).collect();
    let groups = match kind {
        // Envoy takes exactly one.
        DiscoveryType::LogicalDns => {
            endpoints.iter().find_map(|one| first(sent(&[*one], port))).into_iter().collect()
        }
        _ => sent(&endpoints, port),
    };
    if groups.is_empty() && kind != DiscoveryType::Static {
        return None;
    }
    let mut cluster = cds::Cluster {
        eds_cluster_config: None,
        load_assignment: Some(assignment(name, groups, port.service.is_mesh_external())),
        lb_policy: LbPolicy::LeastRequest.into(),
        ..typed(name, kind)
    };
    let base = discovered(name);
    cluster.alt_stat_name = base.alt_stat_name;
    cluster.common_lb_config = base.common_lb_config;
    if kind != DiscoveryType::Static {
        resolve(&mut cluster, port.client.key().families);
    }
    Some(cluster)
}

#[expect(deprecated, reason = "the extension that replaces these fields is not known to older proxies")]
fn resolve(cluster: &mut cds::Cluster, families: IpFamilies) {
    cluster.respect_dns_ttl = true;
    cluster.dns_refresh_rate = seconds(REFRESH_SECONDS);
    cluster.dns_lookup_family = match families {
        IpFamilies::V4 => DnsLookupFamily::V4Only,
        IpFamilies::V6 => DnsLookupFamily::V6Only,
        IpFamilies::Dual => DnsLookupFamily::All,
    }
    .into();
}

fn belongs(endpoint: &InlineEndpoint, port: &Port<'_>, subset: Option<&Subset>) -> bool {
    let labels = subset.map(|subset| &subset.labels);
    let has = |(key, value): (&crate::model::Name, &crate::model::Name)| {
        endpoint.workload.label(key) == Some(value.as_str())
    };
    endpoint.port_name == port.port.name && labels.is_none_or(|labels| labels.iter().all(has))
}

/// What the clients are sent of some endpoints, across networks. What is outside the mesh is on none of its networks.
fn sent<'a>(endpoints: &[&'a InlineEndpoint], port: &Port<'_>) -> Vec<InlineGroup<'a>> {
    let external = port.service.is_mesh_external();
    let ways = port.client.ways().filter(|_| !external);
    inline(endpoints, port.client.key(), ways, |one| is_mtls(one, external))
}

/// The first of them alone.
fn first(groups: Vec<InlineGroup<'_>>) -> Option<InlineGroup<'_>> {
    let mut first = groups.into_iter().next()?;
    first.sent.truncate(1);
    Some(first)
}

fn is_mtls(endpoint: &InlineEndpoint, external: bool) -> bool {
    !external && endpoint.workload.tls_mode_text() == "istio"
}

fn assignment(name: &str, groups: Vec<InlineGroup<'_>>, external: bool) -> eds::ClusterLoadAssignment {
    let group = |group: InlineGroup<'_>| {
        let sum = group.sent.iter().fold(0_u32, |sum, one| sum.saturating_add(one.weight));
        eds::LocalityLbEndpoints {
            locality: Some(core::Locality {
                region: group.locality.region.to_string(),
                zone: group.locality.zone.to_string(),
                sub_zone: group.locality.subzone.to_string(),
            }),
            lb_endpoints: group.sent.into_iter().map(|one| endpoint(one, external)).collect(),
            load_balancing_weight: number(sum),
            ..Default::default()
        }
    };
    eds::ClusterLoadAssignment {
        cluster_name: name.to_owned(),
        endpoints: groups.into_iter().map(group).collect(),
        ..Default::default()
    }
}

fn endpoint(sent: InlineSent<'_>, external: bool) -> eds::LbEndpoint {
    let (address, mtls) = match sent.to {
        InlineTarget::Own(own) => (located(&own.address, own.port), is_mtls(own, external)),
        // R4.23.
        InlineTarget::Gateway(GatewayAddress::Ip(ip), port) => (address(ip, port), true),
        InlineTarget::Gateway(GatewayAddress::Host(host), port) => (named(&host, port), true),
    };
    let metadata = mtls.then(|| core::Metadata {
        // One entry each: maps of more would have no stable order.
        filter_metadata: HashMap::from([(
            "envoy.transport_socket_match".to_owned(),
            Struct { fields: HashMap::from([tls_mode_field("istio")]) },
        )]),
        ..Default::default()
    });
    eds::LbEndpoint {
        host_identifier: Some(eds::lb_endpoint::HostIdentifier::Endpoint(eds::Endpoint {
            address,
            ..Default::default()
        })),
        metadata,
        load_balancing_weight: number(sent.weight),
        ..Default::default()
    }
}

/// A host name that Envoy resolves.
fn named(host: &str, port: u16) -> Option<core::Address> {
    let mut socket = socket(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port);
    socket.address = host.to_owned();
    Some(core::Address { address: Some(core::address::Address::SocketAddress(socket)) })
}

fn located(at: &InlineAddress, port: u16) -> Option<core::Address> {
    match at {
        InlineAddress::Ip(ip) => address(*ip, port),
        InlineAddress::Host(host) => named(host, port),
        InlineAddress::Unix(path) => {
            let pipe = core::Pipe { path: path.to_string(), ..Default::default() };
            Some(core::Address { address: Some(core::address::Address::Pipe(pipe)) })
        }
        InlineAddress::Absent => None,
    }
}
