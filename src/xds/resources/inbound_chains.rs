//! Filter chains of one inbound port: mesh mTLS and plain, as the port's mode asks (control-plane-surface §3.4).

use std::collections::BTreeMap;

use envoy_types::pb::envoy::config::core::v3::TransportSocket;
use envoy_types::pb::envoy::config::listener::v3 as lds;
use envoy_types::pb::envoy::config::listener::v3::listener_filter_chain_match_predicate as predicate;
use envoy_types::pb::envoy::r#type::v3::Int32Range;

use super::listener::{MESH_ALPN, PLAIN_ALPN, chain};
use super::parts::number;
use super::{filters, rbac, route};
use crate::model::PortProtocol;
use crate::model::policy::{MtlsMode, PathNormalization};

/// Mesh traffic that is HTTP.
const MESH_HTTP_ALPN: [&str; 3] = ["istio-http/1.0", "istio-http/1.1", "istio-h2"];
/// Mesh traffic that is opaque.
const MESH_TCP_ALPN: [&str; 2] = ["istio-peer-exchange", "istio"];
const TLS: &str = "tls";
const RAW: &str = "raw_buffer";

/// Where the chains of one port lead.
pub(super) struct Target {
    /// Name of opaque chains.
    pub(super) name: String,
    /// Name of HTTP chains.
    pub(super) http_name: String,
    /// The Envoy cluster.
    pub(super) cluster: String,
    /// The port matched, where one listener serves many.
    pub(super) destination_port: Option<u16>,
    /// The service's port, for the name of the virtual host.
    pub(super) service_port: u16,
    /// The operation traced, `host:port`.
    pub(super) decorator: Option<String>,
    /// What is spoken and which mTLS is asked for.
    pub(super) shape: Shape,
}

/// What the chains of a port follow from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    /// What is spoken.
    pub(super) protocol: PortProtocol,
    /// Which mTLS is asked for.
    pub(super) mode: MtlsMode,
}

/// What guards every chain of a workload.
pub(super) struct Guards {
    /// The server's side of mesh mTLS.
    pub(super) mtls: TransportSocket,
    /// Who may ask for what.
    pub(super) rbac: rbac::Filters,
    /// What is made of paths before that.
    pub(super) paths: PathNormalization,
}

impl Shape {
    /// Whether chains tell connections apart by their TLS hello.
    fn looks_for_tls(self) -> bool {
        self.mode != MtlsMode::Disable
    }

    /// Whether chains tell plain connections apart by what they speak.
    fn looks_for_http(self) -> bool {
        self.protocol == PortProtocol::Auto && self.mode != MtlsMode::Strict
    }
}

/// The chains of one port.
pub(super) fn chains(target: &Target, guards: &Guards) -> Vec<lds::FilterChain> {
    use MtlsMode::{Disable, Permissive, Strict};
    let Shape { protocol, mode } = target.shape;
    let http = |transport, alpn| target.http(transport, alpn, guards);
    let tcp = |transport, alpn| target.tcp(transport, alpn, guards);
    let mtls =
        |chain: lds::FilterChain| lds::FilterChain { transport_socket: Some(guards.mtls.clone()), ..chain };
    match (protocol, mode) {
        (PortProtocol::Auto, Permissive) => vec![
            mtls(http(TLS, &MESH_HTTP_ALPN)),
            http(RAW, &PLAIN_ALPN),
            mtls(tcp(TLS, &MESH_TCP_ALPN)),
            tcp(RAW, &[]),
            tcp(TLS, &[]),
        ],
        (PortProtocol::Auto, Strict) => vec![mtls(http(TLS, &MESH_HTTP_ALPN)), mtls(tcp(TLS, &[]))],
        (PortProtocol::Auto, Disable) => vec![http(RAW, &PLAIN_ALPN), tcp(RAW, &[])],
        (protocol, Permissive) if protocol.is_http() => vec![mtls(http(TLS, &MESH_ALPN)), http(RAW, &[])],
        (protocol, Strict) if protocol.is_http() => vec![mtls(http(TLS, &[]))],
        (protocol, Disable) if protocol.is_http() => vec![http(RAW, &[])],
        (_, Permissive) => vec![mtls(tcp(TLS, &MESH_ALPN)), tcp(TLS, &[]), tcp(RAW, &[])],
        (_, Strict) => vec![mtls(tcp(TLS, &[]))],
        (_, Disable) => vec![tcp(RAW, &[])],
    }
}

impl Target {
    fn http(&self, transport: &str, alpn: &[&str], guards: &Guards) -> lds::FilterChain {
        let routes = route::inbound(&self.cluster, self.service_port, self.decorator.as_deref());
        let filter = filters::http_inbound(&self.name, routes, &guards.rbac.http, guards.paths);
        chain(&self.http_name, Some(self.matching(transport, alpn)), filter)
    }

    fn tcp(&self, transport: &str, alpn: &[&str], guards: &Guards) -> lds::FilterChain {
        let mut chain = chain(&self.name, Some(self.matching(transport, alpn)), filters::tcp(&self.cluster));
        chain.filters.splice(0..0, guards.rbac.tcp.iter().cloned());
        chain
    }

    fn matching(&self, transport: &str, alpn: &[&str]) -> lds::FilterChainMatch {
        lds::FilterChainMatch {
            destination_port: self.destination_port.and_then(|port| number(port.into())),
            transport_protocol: transport.to_owned(),
            application_protocols: alpn.iter().map(|&protocol| protocol.to_owned()).collect(),
            ..Default::default()
        }
    }
}

/// The inspectors of a listener, idle on the ports that need none: there the server may speak first. `otherwise`
/// is the shape of ports that are not among `ports`, where there are such.
pub(super) fn inspectors(ports: &BTreeMap<u16, Shape>, otherwise: Option<Shape>) -> Vec<lds::ListenerFilter> {
    let tls = inspector(filters::tls_inspector(), ports, otherwise, Shape::looks_for_tls);
    let http = inspector(filters::http_inspector(), ports, otherwise, Shape::looks_for_http);
    tls.into_iter().chain(http).collect()
}

/// An inspector where `needed` says so; `None` when that is nowhere.
fn inspector(
    filter: lds::ListenerFilter,
    ports: &BTreeMap<u16, Shape>,
    otherwise: Option<Shape>,
    needed: fn(Shape) -> bool,
) -> Option<lds::ListenerFilter> {
    let elsewhere = otherwise.map_or_else(|| ports.values().any(|shape| needed(*shape)), needed);
    let differing = ports.iter().filter(|(_, shape)| needed(**shape) != elsewhere);
    let differing: Vec<_> = differing.map(|(port, _)| on_port(*port)).collect();
    let nowhere = !elsewhere && differing.is_empty();
    let on = any_of(differing);
    let filter_disabled = match on {
        Some(on) if !elsewhere => Some(of_rule(predicate::Rule::NotMatch(Box::new(on)))),
        on => on,
    };
    (!nowhere).then_some(lds::ListenerFilter { filter_disabled, ..filter })
}

fn any_of(
    mut rules: Vec<lds::ListenerFilterChainMatchPredicate>,
) -> Option<lds::ListenerFilterChainMatchPredicate> {
    match rules.len() {
        0 | 1 => rules.pop(),
        _ => Some(of_rule(predicate::Rule::OrMatch(predicate::MatchSet { rules }))),
    }
}

fn on_port(port: u16) -> lds::ListenerFilterChainMatchPredicate {
    let start = i32::from(port);
    of_rule(predicate::Rule::DestinationPortRange(Int32Range { start, end: start + 1 }))
}

fn of_rule(rule: predicate::Rule) -> lds::ListenerFilterChainMatchPredicate {
    lds::ListenerFilterChainMatchPredicate { rule: Some(rule) }
}
