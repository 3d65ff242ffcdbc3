//! Endpoints that Envoy is told with the Envoy cluster: names it resolves (R3.14, R5.33–R5.36).

use bytes::Bytes;
use envoy_types::pb::envoy::config::cluster::v3 as cds;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{DiscoveryType, DnsLookupFamily};

use super::{Port, discovered, typed};
use crate::model::policy::PolicyKind;
use crate::model::{IpFamilies, Resolution};
use crate::view::{EdsName, Place};
use crate::xds::resources::assignment;
use crate::xds::resources::destination::Reads;
use crate::xds::resources::parts::{put_bytes, seconds};

/// How often names are resolved where their answers do not say.
const REFRESH_SECONDS: i64 = 60;
/// Tag of `Cluster.load_assignment`.
const LOAD_ASSIGNMENT: u32 = 33;

/// The endpoints of the Envoy cluster `name` for clients at `place`, written; `None` where there is nothing to resolve.
/// `reads` is told what was looked at.
pub(super) fn endpoints(name: &EdsName, port: &Port<'_>, place: &Place, reads: &mut Reads) -> Option<Bytes> {
    let told = port.resolved().endpoints(name, place);
    reads.networks.extend(told.networks_read.iter().map(|(network, _)| network.clone()));
    // The others are known to whoever asks: rules by their hosts, the mesh-wide document to all.
    let asked = told.policies_read.iter().map(|(part, _)| part);
    reads.policies.extend(asked.filter(|part| part.kind == PolicyKind::PeerAuthentication).cloned());
    let sends = told.endpoints().next().is_some();
    sends.then(|| assignment::message(&name.to_string(), &told))
}

/// The Envoy cluster, without its endpoints.
pub(super) fn cluster(name: &str, port: &Port<'_>) -> cds::Cluster {
    let kind = match port.service.resolution {
        Resolution::DnsRoundRobin => DiscoveryType::LogicalDns,
        _ => DiscoveryType::StrictDns,
    };
    let base = discovered(name);
    let mut cluster = cds::Cluster {
        alt_stat_name: base.alt_stat_name,
        common_lb_config: base.common_lb_config,
        lb_policy: base.lb_policy,
        ..typed(name, kind)
    };
    resolve(&mut cluster, port.client.key().families);
    cluster
}

/// Adds the endpoints to the encoded Envoy cluster.
pub(super) fn put(message: &mut Vec<u8>, endpoints: &[u8]) {
    put_bytes(LOAD_ASSIGNMENT, endpoints, message);
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
