//! Envoy messages out of plain values: pure, and equal input gives equal bytes.
//!
//! Names follow the surface that existing tools know (control-plane-surface §3.1). Only filters a stock Envoy
//! has are used: that suits both dialects (§3.8).

mod assignment;
mod cluster;
mod filters;
mod inbound;
mod inbound_chains;
mod listener;
mod parts;
mod route;
mod secret;
mod tls;

#[cfg(test)]
mod tests;

use bytes::Bytes;

use super::resource::Entry;
use crate::model::{
    InterceptionMode, Name, PortProtocol, ProxyKind, Resolution, Service, ServicePort, Transport,
};
use crate::view::OutboundKey;

pub use assignment::{assignment, empty_assignment};
pub use inbound::{InboundPort, InboundResources, inbound};
pub use listener::sni_listener;
pub use route::{empty_route, route};
pub use secret::{certificate, validation};

/// The catch-all Envoy cluster: wherever the connection was going.
const PASSTHROUGH: &str = "PassthroughCluster";
/// The Envoy cluster without endpoints.
const BLACK_HOLE: &str = "BlackHoleCluster";
/// Where captured outbound connections arrive.
const OUTBOUND_PORT: u16 = 15001;
/// Where captured inbound connections arrive.
const INBOUND_PORT: u16 = 15006;
/// Ports no listener is made for on an address that other ports share: capture, health, metrics.
const RESERVED_PORTS: [u16; 4] = [OUTBOUND_PORT, INBOUND_PORT, 15021, 15090];

/// Everything one service contributes for one [`OutboundKey`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceResources {
    /// Envoy clusters.
    pub clusters: Vec<Entry>,
    /// Listeners. Services with an HTTP port of one number contribute the same listener, byte for byte; other
    /// equal names are conflicts.
    pub listeners: Vec<Entry>,
    /// Encoded `filter_chains` fields for the SNI listener of an east-west gateway, else empty.
    pub sni_chains: Bytes,
    /// Route configuration name and encoded `virtual_hosts` field.
    pub virtual_hosts: Vec<(Name, Bytes)>,
}

/// What `service` (the merged record) contributes to the proxies of `key`; nothing when they may not see it
/// (R4.2), nothing for aliases and what Envoy would resolve by DNS.
pub fn service(service: &Service, key: &OutboundKey) -> ServiceResources {
    let mut resources = ServiceResources::default();
    let alias = matches!(service.resolution, Resolution::Alias(_));
    if alias || service.resolution.is_dns() || !service.export_to.includes(&key.namespace) {
        return resources;
    }
    let mut chains = Vec::new();
    let tcp = service
        .ports
        .iter()
        .filter(|port| port.transport == Transport::Tcp && port.protocol != PortProtocol::Udp);
    for port in tcp {
        resources.clusters.push(cluster::outbound(service, port, key));
        if key.east_west {
            resources.clusters.push(cluster::sni_dnat(service, port));
            listener::put_sni_chain(service, port, &mut chains);
        }
        if key.kind == ProxyKind::Sidecar {
            port_resources(service, port, key, &mut resources);
        }
    }
    resources.sni_chains = chains.into();
    resources
}

/// The listener of one port and the virtual host it leads to.
fn port_resources(service: &Service, port: &ServicePort, key: &OutboundKey, out: &mut ServiceResources) {
    let Some(made) = listener::outbound(service, port, key) else {
        return;
    };
    out.listeners.push(made.entry);
    if let Some(name) = made.route {
        let host = route::virtual_host(service, port, key, made.sniffed);
        out.virtual_hosts.push((name, host));
    }
}

/// What every proxy of `key` gets: the catch-all Envoy clusters and the listener of captured connections.
pub fn fixed(key: &OutboundKey) -> ServiceResources {
    let mut resources = ServiceResources::default();
    resources.clusters.push(cluster::black_hole());
    if key.kind == ProxyKind::Sidecar {
        resources.clusters.push(cluster::passthrough());
        if key.mode != InterceptionMode::None {
            resources.listeners.push(listener::virtual_outbound(key));
        }
    }
    resources
}

/// Whether clients of `key` reach `service` at the address they chose themselves. Without capture that address
/// is the proxy's own, so headless services are then resolved by the proxy.
fn is_original_dst(service: &Service, key: &OutboundKey) -> bool {
    service.resolution == Resolution::Passthrough
        && key.kind == ProxyKind::Sidecar
        && key.mode != InterceptionMode::None
}
