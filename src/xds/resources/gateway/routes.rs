//! Route configurations of routers, after the VirtualServices that are bound to their Gateways.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::{RouteNames, Server, served};
use crate::model::policy::VirtualService;
use crate::model::{Hostname, Name};
use crate::xds::resources::destination::{Reads, Surroundings};
use crate::xds::resources::route::{self, Routes};

/// The virtual hosts of the route configurations of routers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GatewayRoutes {
    /// Encoded `virtual_hosts` fields by route configuration, no two with one domain.
    pub hosts: BTreeMap<Name, Vec<Bytes>>,
    /// What was read of services.
    pub reads: Reads,
}

/// What is served under one domain.
#[derive(Default)]
struct Domain<'a> {
    /// With the gateway each is bound to, and the port of its server there.
    told: Vec<(&'a str, &'a VirtualService, u16)>,
    /// Whether plain requests are sent to HTTPS.
    https_only: bool,
}

/// The route configurations of the routers that `around` is about. Cost ∝ what is bound to their Gateways.
pub fn gateway_routes(around: &Surroundings<'_>) -> GatewayRoutes {
    let gateways: Vec<_> = around.client.gateways().map(|one| (one, one.bound_name())).collect();
    let mut tables: BTreeMap<Name, (u16, BTreeMap<&str, Domain<'_>>)> = BTreeMap::new();
    let (mut routes, route_names) = (GatewayRoutes::default(), RouteNames::of(&around.client));
    for (gateway, name) in &gateways {
        for told in around.client.bound_to(name) {
            let hosts = told.destinations().map(|to| Hostname::from(to.host.as_str()));
            routes.reads.hosts.extend(hosts);
        }
        for server in &gateway.servers {
            if let Some(route) = route_names.get(server) {
                let (_, domains) = tables.entry(route).or_insert((server.port, BTreeMap::new()));
                add(Server { name, server }, around, domains);
            }
        }
    }
    for (name, (port, domains)) in tables {
        let made = domains.into_iter().map(|(domain, one)| {
            // What takes everything comes after what any of them takes, the oldest such one alone.
            let mut all = Routes::default();
            for (gateway, told, port) in one.told {
                let around = Surroundings { client: around.client.behind(gateway), ..*around };
                let Routes { some, rest } = route::requests(told, domain, port, &around, &mut routes.reads);
                all.some.extend(some);
                all.rest = all.rest.or(rest);
            }
            all.some.extend(all.rest);
            route::of_gateway(domain, port, &all.some, one.https_only)
        });
        let made = made.collect();
        routes.hosts.insert(name, made);
    }
    routes
}

/// Adds the domains of a server and what is bound to it.
fn add<'a>(server: Server<'a>, around: &Surroundings<'a>, domains: &mut BTreeMap<&'a str, Domain<'a>>) {
    let https_only = server.server.https_redirect;
    if https_only {
        for host in &server.server.hosts {
            domains.entry(host.host.as_str()).or_default().https_only = true;
        }
    }
    for told in server.bound(around).filter(|told| !told.http.is_empty()) {
        let told: &'a VirtualService = Arc::as_ref(told);
        for domain in told.hosts.iter().flat_map(|host| served(server.server, told, host.as_str())) {
            let entry = domains.entry(domain).or_default();
            entry.https_only |= https_only;
            let port = server.server.port;
            if !entry.told.iter().any(|(_, other, of)| *of == port && std::ptr::eq(*other, told)) {
                entry.told.push((server.name, told, port));
            }
        }
    }
}
