//! Endpoints that Envoy is told with the Envoy cluster: names it resolves, and Unix sockets (R5.33–R5.36).

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};

use envoy_types::pb::envoy::config::cluster::v3 as cds;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{DiscoveryType, DnsLookupFamily, LbPolicy};
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::endpoint::v3 as eds;
use envoy_types::pb::google::protobuf::Struct;

use super::security::tls_mode_field;
use super::{Port, discovered, typed};
use crate::model::policy::Subset;
use crate::model::{InlineAddress, InlineEndpoint, IpFamilies, Locality, Resolution};
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
    let mut endpoints: Vec<_> =
        port.service.inline().iter().filter(|one| belongs(one, port, subset)).collect();
    if kind == DiscoveryType::LogicalDns {
        // Envoy takes exactly one.
        endpoints.truncate(1);
    }
    if endpoints.is_empty() && kind != DiscoveryType::Static {
        return None;
    }
    let mut cluster = cds::Cluster {
        eds_cluster_config: None,
        load_assignment: Some(assignment(name, &endpoints, port.service.is_mesh_external())),
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
    endpoint.port_name == port.port.name
        && endpoint.address != InlineAddress::Absent
        && labels.is_none_or(|labels| labels.iter().all(has))
}

fn assignment(name: &str, endpoints: &[&InlineEndpoint], external: bool) -> eds::ClusterLoadAssignment {
    let mut groups: BTreeMap<&Locality, Vec<&InlineEndpoint>> = BTreeMap::new();
    for endpoint in endpoints {
        groups.entry(endpoint.workload.locality()).or_default().push(endpoint);
    }
    let group = |(locality, group): (&Locality, Vec<&InlineEndpoint>)| {
        let sum = group.iter().fold(0_u32, |sum, one| sum.saturating_add(one.weight()));
        eds::LocalityLbEndpoints {
            locality: Some(core::Locality {
                region: locality.region.to_string(),
                zone: locality.zone.to_string(),
                sub_zone: locality.subzone.to_string(),
            }),
            lb_endpoints: group.into_iter().map(|one| endpoint(one, external)).collect(),
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

fn endpoint(endpoint: &InlineEndpoint, external: bool) -> eds::LbEndpoint {
    let mtls = !external && endpoint.workload.tls_mode_text() == "istio";
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
            address: located(&endpoint.address, endpoint.port),
            ..Default::default()
        })),
        metadata,
        load_balancing_weight: number(endpoint.weight()),
        ..Default::default()
    }
}

fn located(at: &InlineAddress, port: u16) -> Option<core::Address> {
    match at {
        InlineAddress::Ip(ip) => address(*ip, port),
        InlineAddress::Host(host) => {
            let mut socket = socket(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port);
            socket.address = host.to_string();
            Some(core::Address { address: Some(core::address::Address::SocketAddress(socket)) })
        }
        InlineAddress::Unix(path) => {
            let pipe = core::Pipe { path: path.to_string(), ..Default::default() };
            Some(core::Address { address: Some(core::address::Address::Pipe(pipe)) })
        }
        InlineAddress::Absent => None,
    }
}
