//! What Gateways open on routers: ordinary ingress (control-plane-surface §3.3, §3.9). Mesh traffic that passes through
//! by its server name is the SNI listener's ([`super::sni_listener`]).

mod listeners;
mod routes;

pub use listeners::{GatewayListeners, gateway_listeners};
pub use routes::{GatewayRoutes, gateway_routes};

use std::sync::Arc;

use super::Surroundings;
use crate::model::Name;
use crate::model::policy::{Gateway, GatewayServer, HostPattern, ServerTlsMode, VirtualService};

/// A server of a gateway.
#[derive(Clone, Copy)]
struct Server<'a> {
    gateway: &'a Gateway,
    /// The gateway's name in VirtualServices.
    name: &'a str,
    server: &'a GatewayServer,
    /// Where it listens.
    port: u16,
}

impl<'a> Server<'a> {
    /// The route configuration of its requests; `None` for one that does not look at requests.
    fn route(&self) -> Option<Name> {
        let (id, server) = (&self.gateway.meta.id, self.server);
        let terminates = server.tls.as_ref().is_some_and(|tls| {
            !matches!(tls.mode, ServerTlsMode::Passthrough | ServerTlsMode::AutoPassthrough)
        });
        match &server.tls {
            None if server.protocol.is_http() => Some(format!("http.{}", self.port).into()),
            Some(_) if terminates && server.protocol == crate::model::PortProtocol::Https => {
                let port_name = &server.port_name;
                Some(format!("https.{}.{port_name}.{}.{}", server.port, id.name, id.namespace).into())
            }
            _ => None,
        }
    }

    /// The VirtualServices that are bound to it and have a host that it serves, the oldest first.
    fn bound(&self, around: &Surroundings<'a>) -> impl Iterator<Item = &'a Arc<VirtualService>> + use<'a> {
        let server = self.server;
        around.client.bound_to(self.name).filter(move |told| {
            let mut hosts = told.hosts.iter();
            hosts.any(|host| served(server, told, host.as_str()).next().is_some())
        })
    }
}

/// The hosts under which a server serves a host of a VirtualService: the narrower of both, where they overlap.
fn served<'a>(
    server: &'a GatewayServer,
    told: &'a VirtualService,
    host: &'a str,
) -> impl Iterator<Item = &'a str> {
    let namespace = told.meta.id.namespace.as_str();
    let covering = server.hosts.iter().filter(move |own| own.covers(namespace, host));
    covering.map(move |own| narrower(&own.host, host))
}

/// Of two hosts that overlap the one that means less.
fn narrower<'a>(a: &'a HostPattern, b: &'a str) -> &'a str {
    let whole = |host: &str| !host.starts_with('*');
    if whole(a.as_str()) || (!whole(b) && a.as_str().len() > b.len()) { a.as_str() } else { b }
}
