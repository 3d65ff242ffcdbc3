//! Outbound listeners and the SNI listener of east-west gateways (control-plane-surface §3.3, §3.7).

mod chains;
mod matches;
mod shared;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bytes::{BufMut, Bytes};
use envoy_types::pb::envoy::config::core::v3::{Address, Pipe, TrafficDirection, address as kinds};
use envoy_types::pb::envoy::config::listener::v3 as lds;
use prost::Message;

pub(super) use shared::of_names;
pub use shared::{Collision, SharedChain, SharedListener, collisions, shared};

use super::cluster::{Port, Way};
use super::destination::{Reads, Surroundings, Target};
use super::parts::{address, entry, flag, number, put_field, seconds, time, wildcard};
use super::{BLACK_HOLE, OUTBOUND_PORT, PASSTHROUGH, RESERVED_PORTS, filters};
use crate::model::policy::{CaptureMode, VirtualService};
use crate::model::{InterceptionMode, Name, PortProtocol, Resolution, ServicePort, Transport};
use crate::view::{Client, OutboundKey, Passthrough};
use crate::xds::resource::{Encoded, Entry, ResourceType};

/// Application protocols of mesh traffic.
pub(super) const MESH_ALPN: [&str; 5] =
    ["istio", "istio-peer-exchange", "istio-http/1.0", "istio-http/1.1", "istio-h2"];
/// Application protocols of plain HTTP, as the HTTP inspector tells them.
pub(super) const PLAIN_ALPN: [&str; 2] = ["http/1.1", "h2c"];
/// Tag of `Listener.filter_chains`.
const FILTER_CHAINS: u32 = 3;
/// A connection through a gateway must send its client's hello within this.
const SNI_CONNECT_SECONDS: i64 = 15;

/// How one service port is reached.
#[derive(Default)]
pub(super) struct Made {
    /// Listeners of its own, or shared byte for byte.
    pub(super) entries: Vec<Entry>,
    /// Whether those are on addresses of other clusters: they yield to others.
    pub(super) fallback: bool,
    /// Chains of listeners that services share.
    pub(super) chains: Vec<SharedChain>,
    /// The route configuration that is asked for.
    pub(super) route: Option<Name>,
    /// Whether it is the service's alone, found by detection: its route serves every host name.
    pub(super) sniffed: bool,
}

/// The listeners through which clients reach one service port; none where the catch-all does.
pub(super) fn outbound(port: &Port<'_>, around: &Surroundings<'_>, reads: &mut Reads) -> Made {
    let key = around.client.key();
    let number = port.port.number;
    let Ok(egress) = around.client.listener(&port.service.key, number) else {
        return Made::default();
    };
    let egress = egress.filter(|listener| listener.bind.is_some() || listener.capture == CaptureMode::None);
    if egress.is_some() || key.mode == InterceptionMode::None {
        let captured = key.mode != InterceptionMode::None
            && egress.is_some_and(|listener| listener.capture != CaptureMode::None);
        let ip = egress.and_then(|listener| listener.bind).or(key.bind);
        return bound(port, ip.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), !captured, around, reads);
    }
    if port.port.protocol.is_http() {
        http_shared(number, &around.client)
    } else {
        opaque(port, around, reads)
    }
}

/// The Unix sockets through which a Sidecar lets its application reach one service port: one of HTTP tells the services
/// that it names apart by the host of a request, another one leads to a single service. Of several ports of a service
/// the first is meant that speaks what the socket says.
pub(super) fn on_sockets(port: &Port<'_>, around: &Surroundings<'_>, reads: &mut Reads) -> Vec<Made> {
    let mut all = Vec::new();
    for egress in around.client.sockets(&port.service.key) {
        let Some(socket) = &egress.socket else { continue };
        let http = egress.port.as_ref().is_some_and(|port| port.protocol.is_http());
        let carries = |one: &&ServicePort| {
            let tcp = one.transport == Transport::Tcp && one.protocol != PortProtocol::Udp;
            tcp && (!http || one.protocol.is_http())
        };
        if port.service.ports.iter().find(carries).map(|first| first.number) != Some(port.port.number) {
            continue;
        }
        let path = socket.strip_prefix("unix://").unwrap_or(socket).to_owned();
        let mut listener = lds::Listener {
            name: socket.to_string(),
            address: pipe(path),
            bind_to_port: flag(true),
            ..on(wildcard(around.client.key().families), 0)
        };
        let route = http.then(|| socket.to_string());
        match &route {
            Some(route) => {
                let paths = around.client.mesh().path_normalization;
                let filter = filters::http_outbound(&listener.name, route, paths);
                listener.filter_chains = vec![chain("", None, filter)];
            }
            None => connections(&mut listener, port, around, reads),
        }
        all.push(made(vec![finish(&listener)], route, false));
    }
    all
}

fn pipe(path: String) -> Option<Address> {
    let pipe = Pipe { path, ..Default::default() };
    Some(Address { address: Some(kinds::Address::Pipe(pipe)) })
}

/// All services on one address, without capture really bound.
fn bound(port: &Port<'_>, ip: IpAddr, bind: bool, around: &Surroundings<'_>, reads: &mut Reads) -> Made {
    let number = port.port.number;
    if RESERVED_PORTS.contains(&number) {
        return Made::default();
    }
    let route = port.port.protocol.is_http().then(|| number.to_string());
    let mut listener = on(ip, number);
    match &route {
        Some(route) => {
            let paths = around.client.mesh().path_normalization;
            let filter = filters::http_outbound(&listener.name, route, paths);
            listener.filter_chains = vec![chain("", None, filter)];
        }
        None => connections(&mut listener, port, around, reads),
    }
    listener.bind_to_port = flag(bind);
    made(vec![finish(&listener)], route, false)
}

/// One listener for all HTTP services on a port: it depends on nothing else.
pub(super) fn http_shared(port: u16, client: &Client<'_>) -> Made {
    if RESERVED_PORTS.contains(&port) {
        return Made::default();
    }
    let route = port.to_string();
    let mut listener = on(wildcard(client.key().families), port);
    let otherwise = chain("PassthroughFilterChain", None, filters::tcp(unknown(client)));
    detect(&mut listener, &route, otherwise, client);
    made(vec![finish(&listener)], Some(route), false)
}

/// Connections: on the service's own addresses, else on a listener that services without one share.
fn opaque(port: &Port<'_>, around: &Surroundings<'_>, reads: &mut Reads) -> Made {
    let key = around.client.key();
    let service = port.service;
    let headless = service.resolution == Resolution::Passthrough && service.entry.is_none();
    if headless {
        return Made { chains: shared::of_pods(port, around, reads), ..Made::default() };
    }
    // Another cluster's address may be another service's here: that one keeps it then (R5.28).
    let own = service.own_vips(&key.cluster);
    let fallback = own.is_empty();
    let vips = if fallback { service.vips_in(&key.cluster) } else { own };
    let vips: Vec<_> = vips.iter().filter(|vip| key.families.reaches(**vip)).collect();
    if vips.is_empty() {
        return Made { chains: shared::of_entry(port, around, reads), ..Made::default() };
    }
    let sniffed = port.port.protocol == PortProtocol::Auto && tcp_routes(port, around).is_none();
    let route = sniffed.then(|| format!("{}:{}", service.key.hostname, port.port.number));
    let listener = |vip: &&IpAddr| {
        let mut listener = on(**vip, port.port.number);
        match &route {
            Some(route) => {
                let otherwise = chain("", None, own_filter(port));
                detect(&mut listener, route, otherwise, &around.client);
            }
            None => connections(&mut listener, port, around, reads),
        }
        finish(&listener)
    };
    let entries = vips.iter().map(listener).collect();
    Made { fallback, ..made(entries, route, sniffed) }
}

/// The VirtualService whose routes for connections hold.
fn tcp_routes<'a>(port: &Port<'_>, around: &Surroundings<'a>) -> Option<&'a VirtualService> {
    let told = around.client.virtual_service(&port.service.key.hostname)?;
    (!told.tls.is_empty() || !told.tcp.is_empty()).then_some(told)
}

/// To the Envoy cluster of the port itself.
fn own_filter(port: &Port<'_>) -> lds::Filter {
    let cluster = port.name(None, Way::Outbound).to_string();
    let settings = port.rule.map(|rule| rule.settings(port.port.number, "")).unwrap_or_default();
    filters::tcp_to(&cluster.clone(), &[Target { cluster, weight: 1, settings }])
}

/// Chains after the routes of a VirtualService, the port itself at their end.
fn connections(listener: &mut lds::Listener, port: &Port<'_>, around: &Surroundings<'_>, reads: &mut Reads) {
    let told = tcp_routes(port, around);
    let mut all = told.map(|told| chains::of(told, port.port.number, around, reads)).unwrap_or_default();
    if !all.iter().any(|chain| chain.matches.is_everything()) {
        all.push(chains::Chain { matches: matches::Matches::default(), filter: own_filter(port) });
    }
    if all.iter().any(|chain| !chain.matches.names.is_empty()) {
        listener.listener_filters = vec![filters::tls_inspector()];
    }
    listener.filter_chains = all.into_iter().map(chains::Chain::message).collect();
}

/// Where connections to destinations that are not known go.
fn unknown(client: &Client<'_>) -> &'static str {
    if client.passes_unknown() { PASSTHROUGH } else { BLACK_HOLE }
}

/// HTTP goes to `route`, all else to the chain `otherwise`.
fn detect(listener: &mut lds::Listener, route: &str, otherwise: lds::FilterChain, client: &Client<'_>) {
    let plain_http = lds::FilterChainMatch {
        transport_protocol: "raw_buffer".to_owned(),
        application_protocols: PLAIN_ALPN.map(str::to_owned).into(),
        ..Default::default()
    };
    let http = filters::http_outbound(&listener.name, route, client.mesh().path_normalization);
    listener.filter_chains = vec![chain("", Some(plain_http), http)];
    listener.default_filter_chain = Some(otherwise);
    listener.listener_filters = vec![filters::http_inspector()];
    listener.listener_filters_timeout = time(client.mesh().protocol_detection_timeout);
}

/// `virtualOutbound`: captured connections start here and are handed to the listener of their destination.
pub(super) fn virtual_outbound(client: &Client<'_>) -> Entry {
    let key = client.key();
    let loops =
        lds::FilterChainMatch { destination_port: number(OUTBOUND_PORT.into()), ..Default::default() };
    let listener = lds::Listener {
        name: "virtualOutbound".to_owned(),
        address: address(wildcard(key.families), OUTBOUND_PORT),
        use_original_dst: flag(true),
        transparent: (key.mode == InterceptionMode::Tproxy).then(|| flag(true)).flatten(),
        traffic_direction: TrafficDirection::Outbound.into(),
        filter_chains: vec![
            chain("virtualOutbound-blackhole", Some(loops), filters::tcp(BLACK_HOLE)),
            chain("virtualOutbound-catchall-tcp", None, filters::tcp(unknown(client))),
        ],
        ..Default::default()
    };
    finish(&listener)
}

/// Appends the chain that leads one SNI to the Envoy cluster of that name (R7.2).
pub(super) fn put_sni_chain(name: &str, buffer: &mut impl BufMut) {
    let sni = lds::FilterChainMatch {
        server_names: vec![name.to_owned()],
        application_protocols: MESH_ALPN.map(str::to_owned).into(),
        ..Default::default()
    };
    let chain = lds::FilterChain {
        transport_socket_connect_timeout: seconds(SNI_CONNECT_SECONDS),
        ..chain(name, Some(sni), filters::tcp(name))
    };
    put_field(FILTER_CHAINS, &chain, buffer);
}

/// The listener of a port on which mesh traffic passes through, over the chains of all services (R7.2, D43).
pub fn sni_listener<'a>(
    key: &OutboundKey,
    passthrough: &Passthrough<'_>,
    chains: impl Iterator<Item = &'a Bytes>,
) -> Entry {
    let ip = passthrough.bind.unwrap_or_else(|| key.anywhere());
    let mut listener = on(ip, passthrough.port);
    listener.bind_to_port = None;
    listener.listener_filters = vec![filters::tls_inspector()];
    listener.listener_filters_timeout = None;
    listener.continue_on_listener_filters_timeout = false;
    let body: Vec<u8> = chains.flat_map(|chain| chain.iter().copied()).collect();
    if body.is_empty() {
        // A listener needs a chain; the port stays open when the last service goes.
        listener.default_filter_chain = Some(chain("", None, filters::tcp(BLACK_HOLE)));
    }
    let mut message = listener.encode_to_vec();
    message.extend_from_slice(&body);
    Entry {
        name: listener.name.as_str().into(),
        encoded: Arc::new(Encoded::new(ResourceType::Listener, &listener.name, &message)),
    }
}

/// A chain of one filter.
pub(super) fn chain(
    name: &str,
    matched: Option<lds::FilterChainMatch>,
    filter: lds::Filter,
) -> lds::FilterChain {
    lds::FilterChain {
        name: name.to_owned(),
        filter_chain_match: matched,
        filters: vec![filter],
        ..Default::default()
    }
}

fn on(ip: IpAddr, port: u16) -> lds::Listener {
    lds::Listener {
        name: format!("{ip}_{port}"),
        address: address(ip, port),
        bind_to_port: flag(false),
        traffic_direction: TrafficDirection::Outbound.into(),
        listener_filters_timeout: seconds(0),
        continue_on_listener_filters_timeout: true,
        ..Default::default()
    }
}

fn made(entries: Vec<Entry>, route: Option<String>, sniffed: bool) -> Made {
    Made { entries, route: route.map(Name::from), sniffed, ..Made::default() }
}

fn finish(listener: &lds::Listener) -> Entry {
    entry(ResourceType::Listener, &listener.name, listener)
}
