//! What clients of gRPC get that resolve `xds:///host:port` themselves (control-plane-surface §7): a listener of that
//! name, the routes that it names, their Envoy clusters. Such a client refuses what it does not know, so that nothing
//! else is in these messages.

use envoy_types::pb::envoy::config::cluster::v3 as cds;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{LbConfig, LbPolicy, RingHashLbConfig};
use envoy_types::pb::envoy::config::core::v3::TransportSocket;
use envoy_types::pb::envoy::config::listener::v3 as lds;
use envoy_types::pb::google::protobuf::UInt64Value;

use super::cluster::{self, Port, Way};
use super::destination::Surroundings;
use super::parts::entry;
use super::{ServiceResources, filters, route, tls};
use crate::model::InlineAddress;
use crate::model::policy::{ClientTlsMode, HashTable, Subset, TrafficSettings, VirtualService};
use crate::view::EdsName;
use crate::xds::resource::{Entry, ResourceType};

/// The largest ring that clients of gRPC take.
const LARGEST_RING: u64 = 8 << 20;
/// Why an Envoy cluster is left out.
const OTHER_TLS: &str =
    "clients of gRPC know no TLS but the mesh's, and plaintext is not what its DestinationRule says";

const LONG_SNI: &str = "no TLS has a server name of more than 255 bytes";

/// What one port of a service contributes. Nothing where Envoy would resolve names or use Unix sockets: these clients take
/// addresses only, and refuse an assignment with anything else in it.
pub(super) fn port(port: &Port<'_>, around: &Surroundings<'_>, out: &mut ServiceResources) {
    let (key, number) = (&port.service.key, port.port.number);
    let by_socket = port.service.inline().iter().any(|one| matches!(one.address, InlineAddress::Unix(_)));
    if port.service.resolution.is_dns() || by_socket {
        return;
    }
    let whole = out.clusters.len();
    for subset in port.subsets() {
        match cluster(port, subset) {
            Ok(entry) => out.clusters.push(entry),
            Err(left_out) => out.reads.left_out.push(left_out),
        }
    }
    let name = port.name(None, Way::Outbound).to_string();
    let reachable = out.clusters.get(whole).is_some_and(|first| first.name.as_str() == name);
    if !reachable || !around.client.sight().names(key, number) {
        return;
    }
    let names = route::names(&key.hostname, &around.client.key().dns_domain);
    listeners(&names, number, &name, out);
    let host = route::virtual_host_named(port, around, domains(&names, number), &mut out.reads);
    out.virtual_hosts.push((name.into(), host));
}

/// What a VirtualService contributes for a host that is no service, on one port.
pub(super) fn host(
    host: &str,
    port: u16,
    told: &VirtualService,
    around: &Surroundings<'_>,
    out: &mut ServiceResources,
) {
    // A listener is asked for by its whole name.
    if host.starts_with('*') {
        return;
    }
    let names = route::names(host, &around.client.key().dns_domain);
    let made = route::virtual_host_under(domains(&names, port), host, port, told, around, &mut out.reads);
    if let Some(made) = made {
        let route = EdsName::outbound(port, &host.into()).to_string();
        listeners(&names, port, &route, out);
        out.virtual_hosts.push((route.into(), made));
    }
}

/// `name` and `name:port` of each: clients compare the whole of what they were asked to call.
fn domains(names: &[String], port: u16) -> Vec<String> {
    names.iter().flat_map(|name| [format!("{name}:{port}"), name.clone()]).collect()
}

/// A listener for each name, all of which lead to one route configuration.
fn listeners(names: &[String], port: u16, route: &str, out: &mut ServiceResources) {
    for name in names {
        let listener = lds::Listener {
            name: format!("{name}:{port}"),
            api_listener: Some(lds::ApiListener { api_listener: Some(filters::http_api(route)) }),
            ..Default::default()
        };
        out.listeners.push(entry(ResourceType::Listener, &listener.name, &listener));
    }
}

/// One Envoy cluster, or its name and why there is none.
fn cluster(port: &Port<'_>, subset: Option<&Subset>) -> Result<Entry, (String, &'static str)> {
    let name = port.name(subset, Way::Outbound).to_string();
    let of_subset = subset.map_or("", |subset| subset.name.as_str());
    let settings = port.rule.map(|rule| rule.settings(port.port.number, of_subset)).unwrap_or_default();
    let transport_socket = match security(port, subset, &settings) {
        Ok(socket) => socket,
        Err(why) => return Err((name, why)),
    };
    let (lb_policy, lb_config) = balance(&settings);
    let mut cluster = cds::Cluster {
        lb_policy: lb_policy.into(),
        lb_config,
        transport_socket,
        ..cluster::discovered(&name)
    };
    if let Some(pool) = &settings.connection_pool {
        cluster::limit(&mut cluster, pool);
    }
    Ok(entry(ResourceType::Cluster, &name, &cluster))
}

/// The two policies that every such client has. Of outlier detection they know no algorithm that rules can ask for.
fn balance(settings: &TrafficSettings) -> (LbPolicy, Option<LbConfig>) {
    let hash = settings.load_balancer.as_ref().and_then(|lb| lb.hash.as_ref());
    let Some((_, table)) = hash else {
        return (LbPolicy::RoundRobin, None);
    };
    let minimum_ring_size = match table {
        HashTable::Ring(size) => Some(UInt64Value { value: (*size).min(LARGEST_RING) }),
        HashTable::Maglev(_) => None,
    };
    let ring = RingHashLbConfig { minimum_ring_size, ..Default::default() };
    (LbPolicy::RingHash, Some(LbConfig::RingHashLbConfig(ring)))
}

/// TLS only where a rule asks for the mesh's: a client cannot choose by endpoint. `Err` says why there is none.
fn security(
    port: &Port<'_>,
    subset: Option<&Subset>,
    settings: &TrafficSettings,
) -> Result<Option<TransportSocket>, &'static str> {
    let Some(told) = &settings.tls else {
        return Ok(None);
    };
    match told.mode {
        ClientTlsMode::Disable => Ok(None),
        ClientTlsMode::IstioMutual => {
            let own = || port.name(subset, Way::SniDnat).to_string();
            let sni = if told.sni.is_empty() { own() } else { told.sni.to_string() };
            if told.sni.is_empty() && sni.len() > cluster::LONGEST_SNI {
                return Err(LONG_SNI);
            }
            Ok(Some(tls::provided(sni, cluster::server_names(port, Some(told)))))
        }
        ClientTlsMode::Simple | ClientTlsMode::Mutual => Err(OTHER_TLS),
    }
}
