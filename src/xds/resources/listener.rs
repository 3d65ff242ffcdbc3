//! Outbound listeners and the SNI listener of east-west gateways (control-plane-surface §3.3, §3.7).

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bytes::{BufMut, Bytes};
use envoy_types::pb::envoy::config::core::v3::TrafficDirection;
use envoy_types::pb::envoy::config::listener::v3 as lds;
use prost::Message;

use super::parts::{address, entry, flag, number, put_field, seconds, wildcard};
use super::{BLACK_HOLE, OUTBOUND_PORT, PASSTHROUGH, RESERVED_PORTS, filters};
use crate::model::DEFAULT_GATEWAY_PORT;
use crate::model::{InterceptionMode, Name, PortProtocol, Resolution, Service, ServicePort};
use crate::view::EdsName;
use crate::view::OutboundKey;
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

/// The listener of one service port.
pub(super) struct Made {
    pub(super) entry: Entry,
    /// The route configuration it asks for.
    pub(super) route: Option<Name>,
    /// Whether it is the service's alone, found by detection: its route serves every host name.
    pub(super) sniffed: bool,
}

/// The listener through which clients of `key` reach one service port; `None` where the catch-all does.
pub(super) fn outbound(service: &Service, port: &ServicePort, key: &OutboundKey) -> Option<Made> {
    if key.mode == InterceptionMode::None {
        bound(service, port, key)
    } else if port.protocol.is_http() {
        http_shared(port, key)
    } else if service.resolution == Resolution::ClientSide {
        own_address(service, port, key)
    } else {
        None
    }
}

/// Without capture: really bound, all services on one address.
fn bound(service: &Service, port: &ServicePort, key: &OutboundKey) -> Option<Made> {
    if RESERVED_PORTS.contains(&port.number) {
        return None;
    }
    let ip = key.bind.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let route = port.protocol.is_http().then(|| port.number.to_string());
    let mut listener = on(ip, port.number);
    let filter = match &route {
        Some(route) => filters::http_outbound(&listener.name, route),
        None => filters::tcp(&cluster(service, port)),
    };
    listener.filter_chains = vec![chain("", None, filter)];
    listener.bind_to_port = flag(true);
    Some(made(&listener, route, false))
}

/// One listener for all HTTP services on a port: it depends on nothing else.
fn http_shared(port: &ServicePort, key: &OutboundKey) -> Option<Made> {
    if RESERVED_PORTS.contains(&port.number) {
        return None;
    }
    let route = port.number.to_string();
    let mut listener = on(wildcard(key.families), port.number);
    detect(&mut listener, &route, chain("PassthroughFilterChain", None, filters::tcp(PASSTHROUGH)));
    Some(made(&listener, Some(route), false))
}

/// A listener on the service's own address; `None` without one. Only an address of the proxy's own cluster: with
/// equal service ranges another cluster's is another service here.
fn own_address(service: &Service, port: &ServicePort, key: &OutboundKey) -> Option<Made> {
    let &vip = service.own_vips(&key.cluster).first()?;
    let mut listener = on(vip, port.number);
    let opaque = chain("", None, filters::tcp(&cluster(service, port)));
    if port.protocol != PortProtocol::Auto {
        listener.filter_chains = vec![opaque];
        return Some(made(&listener, None, false));
    }
    let route = format!("{}:{}", service.key.hostname, port.number);
    detect(&mut listener, &route, opaque);
    Some(made(&listener, Some(route), true))
}

/// HTTP goes to `route`, all else to the chain `otherwise`.
fn detect(listener: &mut lds::Listener, route: &str, otherwise: lds::FilterChain) {
    let plain_http = lds::FilterChainMatch {
        transport_protocol: "raw_buffer".to_owned(),
        application_protocols: PLAIN_ALPN.map(str::to_owned).into(),
        ..Default::default()
    };
    let http = filters::http_outbound(&listener.name, route);
    listener.filter_chains = vec![chain("", Some(plain_http), http)];
    listener.default_filter_chain = Some(otherwise);
    listener.listener_filters = vec![filters::http_inspector()];
}

/// `virtualOutbound`: captured connections start here and are handed to the listener of their destination.
pub(super) fn virtual_outbound(key: &OutboundKey) -> Entry {
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
            chain("virtualOutbound-catchall-tcp", None, filters::tcp(PASSTHROUGH)),
        ],
        ..Default::default()
    };
    finish(&listener)
}

/// Appends the chain that leads one SNI to the Envoy cluster of that name (R7.2).
pub(super) fn put_sni_chain(service: &Service, port: &ServicePort, buffer: &mut impl BufMut) {
    let name = EdsName::sni_dnat(port.number, &service.key.hostname).to_string();
    let sni = lds::FilterChainMatch {
        server_names: vec![name.clone()],
        application_protocols: MESH_ALPN.map(str::to_owned).into(),
        ..Default::default()
    };
    let chain = lds::FilterChain {
        transport_socket_connect_timeout: seconds(SNI_CONNECT_SECONDS),
        ..chain(&name, Some(sni), filters::tcp(&name))
    };
    put_field(FILTER_CHAINS, &chain, buffer);
}

/// The listener of an east-west gateway over the chains of all services; `None` for other proxies (D43).
pub fn sni_listener<'a>(key: &OutboundKey, chains: impl Iterator<Item = &'a Bytes>) -> Option<Entry> {
    if !key.east_west {
        return None;
    }
    let ip = key.bind.unwrap_or_else(|| wildcard(key.families));
    let mut listener = on(ip, DEFAULT_GATEWAY_PORT);
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
    Some(Entry {
        name: listener.name.as_str().into(),
        encoded: Arc::new(Encoded::new(ResourceType::Listener, &listener.name, &message)),
    })
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

fn cluster(service: &Service, port: &ServicePort) -> String {
    EdsName::outbound(port.number, &service.key.hostname).to_string()
}

fn made(listener: &lds::Listener, route: Option<String>, sniffed: bool) -> Made {
    Made { entry: finish(listener), route: route.map(Name::from), sniffed }
}

fn finish(listener: &lds::Listener) -> Entry {
    entry(ResourceType::Listener, &listener.name, listener)
}
