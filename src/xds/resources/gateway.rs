//! What Gateways open on routers: ordinary ingress (control-plane-surface §3.3, §3.9). Mesh traffic that passes through
//! by its server name is the SNI listener's ([`super::sni_listener`]).

mod listeners;
mod routes;

pub use listeners::{GatewayListeners, gateway_listeners};
pub use routes::{GatewayRoutes, gateway_routes};

use std::collections::HashMap;
use std::sync::Arc;

use super::Surroundings;
use crate::model::policy::{Gateway, GatewayServer, HostPattern, ServerTlsMode, VirtualService};
use crate::model::{Name, PortProtocol};
use crate::view::Client;

/// A server of a gateway.
#[derive(Clone, Copy)]
struct Server<'a> {
    /// The gateway's name in VirtualServices.
    name: &'a str,
    server: &'a GatewayServer,
}

/// The route configurations of the servers of some routers that look at requests. Plain ones of one place share theirs, as
/// they share its chain. One that ends TLS has its own: whoever meets the terms of its chain shall reach nothing else.
struct RouteNames(HashMap<*const GatewayServer, Name>);

impl RouteNames {
    fn of(client: &Client<'_>) -> Self {
        let (mut all, mut taken) = (HashMap::new(), HashMap::<String, usize>::new());
        for gateway in client.gateways() {
            for server in &gateway.servers {
                let name = match &server.tls {
                    None if server.protocol.is_http() => plain_route(client, server),
                    Some(_) if ends_tls(server) && server.protocol == PortProtocol::Https => {
                        let base = secure_route(client, gateway, server);
                        let others = taken.entry(base.clone()).or_default();
                        *others += 1;
                        // Names of objects have no such character.
                        if *others == 1 { base } else { format!("{base}~{others}") }
                    }
                    _ => continue,
                };
                all.insert(std::ptr::from_ref(server), name.into());
            }
        }
        Self(all)
    }

    /// That of one server; `None` when it does not look at requests.
    fn get(&self, server: &GatewayServer) -> Option<Name> {
        self.0.get(&std::ptr::from_ref(server)).cloned()
    }
}

/// What says where a server listens, if that is an address of its own.
fn place(client: &Client<'_>, server: &GatewayServer) -> String {
    let own = server.bind.filter(|ip| *ip != client.key().anywhere());
    own.map(|ip| format!(".{ip}")).unwrap_or_default()
}

fn plain_route(client: &Client<'_>, server: &GatewayServer) -> String {
    format!("http.{}{}", client.key().target(server.port), place(client, server))
}

fn secure_route(client: &Client<'_>, gateway: &Gateway, server: &GatewayServer) -> String {
    let (id, place) = (&gateway.meta.id, place(client, server));
    format!("https.{}.{}.{}.{}{place}", server.port, server.port_name, id.name, id.namespace)
}

fn ends_tls(server: &GatewayServer) -> bool {
    let passing =
        |mode: &ServerTlsMode| matches!(mode, ServerTlsMode::Passthrough | ServerTlsMode::AutoPassthrough);
    server.tls.as_ref().is_some_and(|tls| !passing(&tls.mode))
}

impl<'a> Server<'a> {
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
