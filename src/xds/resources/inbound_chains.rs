//! Filter chains of one inbound port: mesh mTLS and plain side by side.

use envoy_types::pb::envoy::config::listener::v3 as lds;
use envoy_types::pb::envoy::config::listener::v3::listener_filter_chain_match_predicate as predicate;
use envoy_types::pb::envoy::r#type::v3::Int32Range;

use super::inbound::InboundPort;
use super::listener::{MESH_ALPN, PLAIN_ALPN, chain};
use super::parts::number;
use super::{filters, route, tls};
use crate::model::PortProtocol;

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
    /// What is spoken.
    pub(super) protocol: PortProtocol,
}

/// The chains of one port under the permissive mode of §3.4.
pub(super) fn chains(target: &Target, trust_domains: &[&str]) -> Vec<lds::FilterChain> {
    let mtls = |mut chain: lds::FilterChain| {
        chain.transport_socket = Some(tls::server(trust_domains));
        chain
    };
    match target.protocol {
        protocol if protocol.is_http() => vec![mtls(target.http(TLS, &MESH_ALPN)), target.http(RAW, &[])],
        PortProtocol::Auto => vec![
            mtls(target.http(TLS, &MESH_HTTP_ALPN)),
            target.http(RAW, &PLAIN_ALPN),
            mtls(target.tcp(TLS, &MESH_TCP_ALPN)),
            target.tcp(RAW, &[]),
            target.tcp(TLS, &[]),
        ],
        _ => vec![mtls(target.tcp(TLS, &MESH_ALPN)), target.tcp(TLS, &[]), target.tcp(RAW, &[])],
    }
}

impl Target {
    fn http(&self, transport: &str, alpn: &[&str]) -> lds::FilterChain {
        let routes = route::inbound(&self.cluster, self.service_port, self.decorator.as_deref());
        let filter = filters::http_inbound(&self.name, routes);
        chain(&self.http_name, Some(self.matching(transport, alpn)), filter)
    }

    fn tcp(&self, transport: &str, alpn: &[&str]) -> lds::FilterChain {
        let filter = filters::tcp(&self.cluster);
        chain(&self.name, Some(self.matching(transport, alpn)), filter)
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

/// The HTTP inspector, idle on ports whose protocol is declared: there the server may speak first.
pub(super) fn http_inspector(ports: &[&InboundPort]) -> lds::ListenerFilter {
    let declared = ports.iter().filter(|port| port.protocol != PortProtocol::Auto);
    let rules: Vec<_> = declared.map(|port| on_port(port.target_port)).collect();
    let disabled = match rules.len() {
        0 | 1 => rules.into_iter().next(),
        _ => Some(lds::ListenerFilterChainMatchPredicate {
            rule: Some(predicate::Rule::OrMatch(predicate::MatchSet { rules })),
        }),
    };
    lds::ListenerFilter { filter_disabled: disabled, ..filters::http_inspector() }
}

fn on_port(port: u16) -> lds::ListenerFilterChainMatchPredicate {
    let start = i32::from(port);
    let range = Int32Range { start, end: start + 1 };
    lds::ListenerFilterChainMatchPredicate { rule: Some(predicate::Rule::DestinationPortRange(range)) }
}
