//! Envoy messages out of plain values: pure, and equal input gives equal bytes.
//!
//! Names follow the surface that existing tools know (control-plane-surface §3.1). Only filters a stock Envoy
//! has are used: that suits both dialects of Envoy (§3.8).

mod assignment;
mod backward;
mod cluster;
mod destination;
mod filters;
mod gateway;
mod hbone;
mod inbound;
mod inbound_chains;
mod inbound_cluster;
mod listener;
mod parts;
mod proxyless;
mod rbac;
mod route;
mod secret;
mod tls;

#[cfg(test)]
pub(crate) mod tests;

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::resource::Entry;
use crate::model::policy::VirtualService;
use crate::model::{
    Dialect, InterceptionMode, Name, PortProtocol, ProxyKind, Resolution, Service, Transport,
};
use crate::view::{Client, Place};
use cluster::{Port, Way};

pub use assignment::{assignment, assignment_by_prost, empty_assignment};
pub(super) use backward::{Backward, Mark};
pub use destination::{Reads, Surroundings};
pub use gateway::{GatewayListeners, GatewayRoutes, gateway_listeners, gateway_routes};
pub use inbound::{InboundPolicy, InboundPort, InboundResources, inbound};
pub use inbound_cluster::Application;
pub use listener::{Collision, SharedChain, SharedListener, collisions, shared, sni_listener};
pub use route::{empty_route, route};
pub use secret::{certificate, files, is_of_files, validation};

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

/// Everything one service contributes for one projection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceResources {
    /// Envoy clusters.
    pub clusters: Vec<Entry>,
    /// Envoy clusters that differ by where clients are, for each place.
    pub placed: BTreeMap<Place, Vec<Entry>>,
    /// Listeners. Services with an HTTP port of one number contribute the same listener, byte for byte; other
    /// equal names are conflicts.
    pub listeners: Vec<Entry>,
    /// Listeners on addresses of other clusters: they yield to all others of the same name.
    pub fallback_listeners: Vec<Entry>,
    /// Chains of listeners that services share.
    pub chains: Vec<SharedChain>,
    /// Encoded `filter_chains` fields for each of [`Client::passthroughs`].
    pub sni_chains: Vec<Bytes>,
    /// Route configuration name and encoded `virtual_hosts` field.
    pub virtual_hosts: Vec<(Name, Bytes)>,
    /// What was read of other services.
    pub reads: Reads,
}

impl ServiceResources {
    fn add(&mut self, made: cluster::Clusters) {
        self.clusters.extend(made.shared);
        for (place, clusters) in made.placed {
            self.placed.entry(place).or_default().extend(clusters);
        }
    }
}

/// What `service` (the merged record) contributes to its clients; nothing when they may not see it (R4.2), nothing
/// for aliases. Of a service that their Sidecar hides only the Envoy clusters, and those only where a VirtualService
/// that they heed leads there.
pub fn service(service: &Service, around: &Surroundings<'_>) -> ServiceResources {
    let mut resources = ServiceResources::default();
    let (client, key) = (&around.client, around.client.key());
    if matches!(service.resolution, Resolution::Alias(_)) || !client.sight().is_told(service) {
        return resources;
    }
    let destination = client.destination(&service.key);
    let rules = destination.ids();
    let passthroughs = around.passthroughs;
    let mut chains = vec![Vec::new(); passthroughs.len()];
    let tcp = service
        .ports
        .iter()
        .filter(|port| port.transport == Transport::Tcp && port.protocol != PortProtocol::Udp);
    for port in tcp {
        if !client.sight().reaches(&service.key, port.number) {
            continue;
        }
        let named = client.sight().names(&service.key, port.number);
        let rule = destination.rule().map(AsRef::as_ref);
        let behind = OnceCell::new();
        let port = Port { service, port, client, rule, rules: &rules, around, behind };
        if key.dialect == Dialect::Grpc {
            proxyless::port(&port, around, &mut resources);
            continue;
        }
        let made = port.clusters(Way::Outbound, around.places, &mut resources.reads);
        let reachable = !made.names.is_empty();
        resources.add(made);
        if !passthroughs.is_empty() && is_led_by_name(service) {
            let behind = port.clusters(Way::SniDnat, around.places, &mut resources.reads);
            for (passthrough, chains) in passthroughs.iter().zip(&mut chains) {
                if passthrough.leads_to(&service.key) {
                    behind.names.iter().for_each(|name| listener::put_sni_chain(name, chains));
                }
            }
            resources.add(behind);
        }
        if key.kind == ProxyKind::Sidecar && named && reachable {
            port_resources(&port, around, &mut resources);
        }
    }
    resources.sni_chains = chains.into_iter().map(Bytes::from).collect();
    resources
}

/// Whether gateways lead mesh traffic on to a service by its name: never to what is outside of the mesh, nor to a host
/// with a wildcard. That is no server name, and Envoy refuses a listener with one in the middle of another name.
fn is_led_by_name(service: &Service) -> bool {
    !service.is_mesh_external() && !service.key.hostname.starts_with('*')
}

/// The listeners of one port and the virtual host they lead to.
fn port_resources(port: &Port<'_>, around: &Surroundings<'_>, out: &mut ServiceResources) {
    let mut all = listener::on_sockets(port, around, &mut out.reads);
    all.insert(0, listener::outbound(port, around, &mut out.reads));
    for made in all {
        let slot = if made.fallback { &mut out.fallback_listeners } else { &mut out.listeners };
        slot.extend(made.entries);
        out.chains.extend(made.chains);
        if let Some(name) = made.route {
            let host = route::virtual_host(port, around, made.sniffed, &mut out.reads);
            out.virtual_hosts.push((name, host));
        }
    }
}

/// What a VirtualService contributes for a host that is no service: requests on port 80 and on the ports it names,
/// connections by server name.
pub fn host(host: &str, told: &VirtualService, around: &Surroundings<'_>) -> ServiceResources {
    let mut resources = ServiceResources::default();
    let key = around.client.key();
    if key.kind != ProxyKind::Sidecar {
        return resources;
    }
    let matches = told.http.iter().flat_map(|route| &route.matches);
    let mut ports: BTreeSet<u16> = matches.filter_map(|one| one.sources.port).collect();
    ports.insert(80);
    for port in ports {
        if key.dialect == Dialect::Grpc {
            proxyless::host(host, port, told, around, &mut resources);
            continue;
        }
        let Some(made) = route::virtual_host_of(host, port, told, around, &mut resources.reads) else {
            continue;
        };
        resources.virtual_hosts.push((port.to_string().into(), made));
        if key.mode != InterceptionMode::None {
            resources.listeners.extend(listener::http_shared(port, &around.client).entries);
        }
    }
    if key.dialect != Dialect::Grpc {
        resources.chains = listener::of_names(told, around, &mut resources.reads);
    }
    resources
}

/// What every proxy gets, but no client of gRPC: the catch-all Envoy clusters, the listener of captured connections, and the tunnels that its
/// assignments may lead into.
pub fn fixed(client: &Client<'_>) -> ServiceResources {
    let mut resources = ServiceResources::default();
    let key = client.key();
    if key.dialect == Dialect::Grpc {
        return resources;
    }
    resources.clusters.push(cluster::black_hole());
    for listener in &key.tunnels {
        let (clusters, listeners) = hbone::tunnel(*listener);
        resources.clusters.extend(clusters);
        resources.listeners.extend(listeners);
    }
    if key.kind == ProxyKind::Sidecar {
        resources.clusters.push(cluster::passthrough());
        if key.mode != InterceptionMode::None {
            resources.listeners.push(listener::virtual_outbound(client));
        }
    }
    resources
}

/// Whether clients of `key` reach `service` at the address they chose themselves. Without capture that address
/// is the proxy's own, so headless services are then resolved by the proxy (R5.21).
fn is_original_dst(service: &Service, client: &Client<'_>) -> bool {
    let key = client.key();
    client.rules().leaves_address(service, key.kind, key.mode)
}
