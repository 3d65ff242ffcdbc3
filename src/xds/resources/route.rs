//! Route configurations and virtual hosts (control-plane-surface §3.9).

mod hashing;
mod matching;
mod side_effects;
mod virtual_service;

use std::collections::BTreeSet;
use std::net::Ipv6Addr;

use bytes::Bytes;
use envoy_types::pb::envoy::config::route::v3 as rds;
use envoy_types::pb::envoy::extensions::retry::host::previous_hosts::v3::PreviousHostsPredicate;
use envoy_types::util::pack_any;
use prost::Message;

use super::PASSTHROUGH;
use super::cluster::{Port, Way};
use super::destination::{Reads, Surroundings};
use super::parts::{flag, number, put_bytes, put_field, seconds};
use crate::model::policy::VirtualService;
use crate::model::{Resolution, Service};
use crate::view::{Client, OutboundKey};
use crate::xds::resource::{Encoded, ResourceType};

/// Tag of `RouteConfiguration.virtual_hosts`.
const VIRTUAL_HOSTS: u32 = 2;
/// Tag of `VirtualHost.routes`.
const ROUTES: u32 = 3;
const MAX_DIRECT_BODY_BYTES: u32 = 1 << 20;
const RETRY_ON: &str = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes";

/// The encoded `virtual_hosts` field of one service port; it takes every host name when `sniffed`. Routes are those
/// of the VirtualService for the host, else one to the port itself.
pub(super) fn virtual_host(
    port: &Port<'_>,
    around: &Surroundings<'_>,
    sniffed: bool,
    reads: &mut Reads,
) -> Bytes {
    let domains = if sniffed { vec!["*".to_owned()] } else { domains(port.service, around.client.key()) };
    virtual_host_named(port, around, domains, reads)
}

/// The same under these names.
pub(super) fn virtual_host_named(
    port: &Port<'_>,
    around: &Surroundings<'_>,
    domains: Vec<String>,
    reads: &mut Reads,
) -> Bytes {
    let (host, number) = (&port.service.key.hostname, port.port.number);
    if let Some(told) = around.client.virtual_service(host) {
        let routes = virtual_service::routes(told, host, number, around, reads);
        if !routes.is_empty() {
            return routed(host, number, domains, &routes);
        }
    }
    let name = format!("{host}:{number}");
    let mut route = to_cluster("default", port.name(None, Way::Outbound).to_string(), Some(retry()));
    route.decorator = operation(&name);
    if let (Some(rule), Some(rds::route::Action::Route(action))) = (port.rule, &mut route.action) {
        let balancer = rule.settings(number, "").load_balancer;
        let hash = balancer.and_then(|balancer| balancer.hash);
        action.hash_policy = hash.iter().map(|(key, _)| hashing::policy(key)).collect();
    }
    let host = rds::VirtualHost {
        domains,
        name,
        routes: vec![route],
        include_request_attempt_count: true,
        ..Default::default()
    };
    let mut buffer = Vec::new();
    put_field(VIRTUAL_HOSTS, &host, &mut buffer);
    buffer.into()
}

/// The virtual host of a host that is no service: what a VirtualService says of it, nothing when that has no routes
/// for these clients.
pub(super) fn virtual_host_of(
    host: &str,
    port: u16,
    told: &VirtualService,
    around: &Surroundings<'_>,
    reads: &mut Reads,
) -> Option<Bytes> {
    let short = short_names(host, &around.client.key().dns_domain);
    let domains = match host.starts_with('*') || is_v6(host) {
        true => vec![authority(host)],
        false => [host.to_owned(), format!("{host}.")].into_iter().chain(short).collect(),
    };
    virtual_host_under(domains, host, port, told, around, reads)
}

/// The same under these names.
pub(super) fn virtual_host_under(
    domains: Vec<String>,
    host: &str,
    port: u16,
    told: &VirtualService,
    around: &Surroundings<'_>,
    reads: &mut Reads,
) -> Option<Bytes> {
    let routes = virtual_service::routes(told, host, port, around, reads);
    (!routes.is_empty()).then(|| routed(host, port, domains, &routes))
}

pub(super) use virtual_service::{Routes, split as requests};

/// The virtual host of a domain of a router; `https_only` sends plain requests to HTTPS.
pub(super) fn of_gateway(domain: &str, port: u16, routes: &[Bytes], https_only: bool) -> Bytes {
    let requirement = if https_only {
        rds::virtual_host::TlsRequirementType::All
    } else {
        rds::virtual_host::TlsRequirementType::None
    };
    let frame = rds::VirtualHost {
        name: format!("{domain}:{port}"),
        domains: vec![authority(domain)],
        require_tls: requirement.into(),
        include_request_attempt_count: true,
        ..Default::default()
    };
    encoded(&frame, routes)
}

fn is_v6(host: &str) -> bool {
    host.parse::<Ipv6Addr>().is_ok()
}

/// A host as requests name it: an IPv6 address in brackets.
fn authority(host: &str) -> String {
    if is_v6(host) { format!("[{host}]") } else { host.to_owned() }
}

/// A virtual host with encoded routes.
fn routed(host: &str, port: u16, domains: Vec<String>, routes: &[Bytes]) -> Bytes {
    let frame = rds::VirtualHost {
        name: format!("{host}:{port}"),
        domains,
        include_request_attempt_count: true,
        ..Default::default()
    };
    encoded(&frame, routes)
}

/// The `virtual_hosts` field of a virtual host and its encoded routes.
fn encoded(frame: &rds::VirtualHost, routes: &[Bytes]) -> Bytes {
    let mut host = frame.encode_to_vec();
    for route in routes {
        put_bytes(ROUTES, route, &mut host);
    }
    let mut buffer = Vec::new();
    put_bytes(VIRTUAL_HOSTS, &host, &mut buffer);
    buffer.into()
}

/// The host names under which clients of `key` know `service`, without ports and without duplicates. VIPs are
/// those of the proxy's own cluster only: another cluster's may belong to another service here.
fn domains(service: &Service, key: &OutboundKey) -> Vec<String> {
    let host = service.key.hostname.as_str();
    let mut names = vec![host.to_owned(), format!("{host}.")];
    names.extend(short_names(host, &key.dns_domain));
    if service.resolution == Resolution::Passthrough {
        let prefixed: Vec<_> = names.iter().map(|name| format!("*.{name}")).collect();
        names.extend(prefixed);
    }
    for vip in service.own_vips(&key.cluster) {
        names.push(if vip.is_ipv6() { format!("[{vip}]") } else { vip.to_string() });
    }
    let mut seen = BTreeSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names
}

/// `host` and its short names for clients of `dns_domain`.
pub(super) fn names(host: &str, dns_domain: &str) -> Vec<String> {
    let short = short_names(host, dns_domain).into_iter().filter(|name| name != host);
    std::iter::once(host.to_owned()).chain(short).collect()
}

/// Names of `host` that a resolver of `dns_domain` (`<namespace>.svc.<suffix>`) completes.
fn short_names(host: &str, dns_domain: &str) -> Vec<String> {
    let split = dns_domain.split_once('.');
    let Some((namespace, domain)) = split.filter(|(_, domain)| domain.starts_with("svc.")) else {
        return Vec::new();
    };
    let prefix = host.strip_suffix(domain).and_then(|rest| rest.strip_suffix('.'));
    let Some((prefix, (name, of))) = prefix.and_then(|prefix| Some((prefix, prefix.split_once('.')?))) else {
        return Vec::new();
    };
    let mut names = Vec::new();
    if of == namespace {
        names.push(name.to_owned());
    }
    names.extend([prefix.to_owned(), format!("{prefix}.svc")]);
    names
}

/// The route configuration `name` over these virtual hosts. A port's own (a number for a name) ends with the
/// catch-all; one service's (`<host>:<port>`) has none. Of two hosts with one domain, in whatever case, the first keeps
/// it.
pub fn route<'a>(name: &str, client: &Client<'_>, virtual_hosts: impl Iterator<Item = &'a Bytes>) -> Encoded {
    let mut message = header(name).encode_to_vec();
    let mut taken = BTreeSet::new();
    for host in virtual_hosts {
        put_virtual_host(host, &mut taken, &mut message);
    }
    if name.parse::<u16>().is_ok() && !taken.contains("*") {
        let others = if client.passes_unknown() { allow_any() } else { block_all() };
        put_field(VIRTUAL_HOSTS, &others, &mut message);
    }
    Encoded::new(ResourceType::Route, name, &message)
}

/// The names inside encoded `virtual_hosts` fields, and nothing else of them.
#[derive(Clone, PartialEq, Message)]
struct HostNames {
    #[prost(message, repeated, tag = "2")]
    hosts: Vec<Domains>,
}

/// Encoded `virtual_hosts` fields as [`virtual_host`] makes them, their routes as they are.
#[derive(Clone, PartialEq, Message)]
struct RawHosts {
    #[prost(message, repeated, tag = "2")]
    hosts: Vec<RawHost>,
}

#[derive(Clone, PartialEq, Message)]
struct RawHost {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, repeated, tag = "2")]
    domains: Vec<String>,
    #[prost(bytes = "bytes", repeated, tag = "3")]
    routes: Vec<Bytes>,
    #[prost(bool, tag = "14")]
    include_request_attempt_count: bool,
}

#[derive(Clone, PartialEq, Message)]
struct Domains {
    #[prost(string, repeated, tag = "2")]
    domains: Vec<String>,
}

/// Appends a virtual host without the domains that are `taken`: Envoy refuses a whole route configuration for
/// one name that occurs twice in any case, as when a VIP passes from one service to another.
fn put_virtual_host(field: &Bytes, taken: &mut BTreeSet<String>, message: &mut Vec<u8>) {
    let parsed = HostNames::decode(field.clone()).unwrap_or_default();
    let domains: Vec<_> = parsed.hosts.into_iter().flat_map(|host| host.domains).collect();
    let free: BTreeSet<_> =
        domains.iter().filter(|domain| taken.insert(domain.to_ascii_lowercase())).collect();
    if free.len() == domains.len() {
        message.extend_from_slice(field);
        return;
    }
    let table = RawHosts::decode(field.clone()).unwrap_or_default();
    for mut host in table.hosts {
        host.domains.retain(|domain| free.contains(domain));
        if !host.domains.is_empty() {
            put_field(VIRTUAL_HOSTS, &host, message);
        }
    }
}

/// The answer for a name that does not exist.
pub fn empty_route(name: &str) -> Encoded {
    Encoded::new(ResourceType::Route, name, &header(name).encode_to_vec())
}

/// The route configuration of one inbound port, given inside its listener.
pub(super) fn inbound(cluster: &str, service_port: u16, decorator: Option<&str>) -> rds::RouteConfiguration {
    let mut route = to_cluster("default", cluster.to_owned(), None);
    route.decorator = decorator.and_then(operation);
    rds::RouteConfiguration {
        name: cluster.to_owned(),
        virtual_hosts: vec![rds::VirtualHost {
            name: format!("inbound|http|{service_port}"),
            domains: vec!["*".to_owned()],
            routes: vec![route],
            ..Default::default()
        }],
        validate_clusters: flag(false),
        ..Default::default()
    }
}

fn header(name: &str) -> rds::RouteConfiguration {
    rds::RouteConfiguration {
        name: name.to_owned(),
        validate_clusters: flag(false),
        max_direct_response_body_size_bytes: number(MAX_DIRECT_BODY_BYTES),
        ignore_port_in_host_matching: true,
        ..Default::default()
    }
}

fn allow_any() -> rds::VirtualHost {
    rds::VirtualHost {
        name: "allow_any".to_owned(),
        domains: vec!["*".to_owned()],
        routes: vec![to_cluster("allow_any", PASSTHROUGH.to_owned(), None)],
        include_request_attempt_count: true,
        ..Default::default()
    }
}

/// Requests to hosts that are not known end here.
fn block_all() -> rds::VirtualHost {
    let refuse = rds::DirectResponseAction { status: 502, ..Default::default() };
    rds::VirtualHost {
        name: "block_all".to_owned(),
        domains: vec!["*".to_owned()],
        routes: vec![rds::Route {
            name: "block_all".to_owned(),
            r#match: Some(matching::everything()),
            action: Some(rds::route::Action::DirectResponse(refuse)),
            ..Default::default()
        }],
        include_request_attempt_count: true,
        ..Default::default()
    }
}

fn operation(name: &str) -> Option<rds::Decorator> {
    Some(rds::Decorator { operation: format!("{name}/*"), ..Default::default() })
}

/// Every path to one Envoy cluster, however long it takes; gRPC clients set their own deadlines.
fn to_cluster(name: &str, cluster: String, retry_policy: Option<rds::RetryPolicy>) -> rds::Route {
    let action = rds::RouteAction {
        timeout: seconds(0),
        max_stream_duration: Some(rds::route_action::MaxStreamDuration {
            max_stream_duration: seconds(0),
            grpc_timeout_header_max: seconds(0),
            ..Default::default()
        }),
        retry_policy,
        cluster_specifier: Some(rds::route_action::ClusterSpecifier::Cluster(cluster)),
        ..Default::default()
    };
    rds::Route {
        name: name.to_owned(),
        r#match: Some(matching::everything()),
        action: Some(rds::route::Action::Route(action)),
        ..Default::default()
    }
}

/// How often Envoy picks again when it picked an endpoint that was tried before. A dead endpoint never has
/// requests under way, so that least-request balancing prefers it: of two endpoints it is picked three times out
/// of four while the other one is busy. With the usual 5 picks every 30th request that meets a dead gateway would
/// fail; each further pick costs next to nothing.
const PICKS: i64 = 20;

/// Two more attempts, on other endpoints: what a dead gateway costs (D42).
fn retry() -> rds::RetryPolicy {
    let previous = rds::retry_policy::RetryHostPredicate {
        name: "envoy.retry_host_predicates.previous_hosts".to_owned(),
        config_type: Some(rds::retry_policy::retry_host_predicate::ConfigType::TypedConfig(pack_any(
            PreviousHostsPredicate {},
        ))),
    };
    rds::RetryPolicy {
        retry_on: RETRY_ON.to_owned(),
        num_retries: number(2),
        retry_host_predicate: vec![previous],
        host_selection_retry_max_attempts: PICKS,
        retriable_status_codes: vec![503],
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_name_an_ipv6_address_in_brackets() {
        let named = |host| authority(host);
        assert_eq!(
            (named("fd00::1"), named("10.0.0.1"), named("a.b")),
            ("[fd00::1]".to_owned(), "10.0.0.1".to_owned(), "a.b".to_owned())
        );
    }
}
