//! Listeners of routers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use envoy_types::pb::envoy::config::core::v3::TrafficDirection;
use envoy_types::pb::envoy::config::listener::v3 as lds;

use super::{RouteNames, Server, served};
use crate::model::policy::{ServerTls, ServerTlsMode, Sources, Weighted};
use crate::model::{Name, PortProtocol};
use crate::view::PlacedServer;
use crate::xds::resource::{Entry, ResourceType};
use crate::xds::resources::destination::{Reads, Surroundings};
use crate::xds::resources::inbound::InboundPolicy;
use crate::xds::resources::parts::{address, entry};
use crate::xds::resources::{filters, listener, rbac, tls};

/// The listeners of a router.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GatewayListeners {
    /// One for each address and port.
    pub entries: Vec<Entry>,
    /// Servers and routes, or names of them, that were left out: an older one has the same match, or serves something
    /// else on the port.
    pub conflicts: usize,
}

/// The listeners of the router that `around` is about, guarded by `policy`. Ports on which mesh traffic passes through
/// are the SNI listener's.
pub fn gateway_listeners(around: &Surroundings<'_>, policy: &InboundPolicy) -> GatewayListeners {
    let names: BTreeMap<_, _> =
        around.client.gateways().map(|one| (&one.meta.id, one.bound_name())).collect();
    let anywhere = around.client.key().anywhere();
    let passthroughs = around.client.passthroughs().into_iter();
    let led: BTreeSet<_> = passthroughs.map(|one| (one.port, one.bind.unwrap_or(anywhere))).collect();
    let trust_domains: Vec<_> =
        policy.trust_domains.iter().chain(&policy.own_trust_domain).cloned().collect();
    let guards = rbac::filters(&policy.authorization, &policy.trust_domains);
    let route_names = RouteNames::of(&around.client);
    let mut made = GatewayListeners::default();
    for ((port, ip), servers) in around.client.places() {
        // One of both kinds counts on a place: the other is a conflict.
        let (leading, ordinary): (Vec<_>, Vec<_>) =
            servers.into_iter().partition(|one| one.server.is_auto_passthrough());
        if led.contains(&(port, ip)) {
            made.conflicts += ordinary.len();
            continue;
        }
        made.conflicts += leading.len();
        let mut opened = Port {
            around,
            guards: &guards,
            route_names: &route_names,
            trust_domains: &trust_domains,
            ip,
            port,
            chains: Vec::new(),
            plain: None,
            names: BTreeSet::new(),
            conflicts: 0,
        };
        for PlacedServer { gateway, server } in ordinary {
            opened.open(Server { name: &names[&gateway.meta.id], server });
        }
        made.conflicts += opened.conflicts;
        made.entries.extend(opened.listener());
    }
    made
}

/// What is opened on one address and port.
struct Port<'a> {
    around: &'a Surroundings<'a>,
    guards: &'a rbac::Filters,
    route_names: &'a RouteNames,
    trust_domains: &'a [Name],
    ip: IpAddr,
    port: u16,
    chains: Vec<lds::FilterChain>,
    /// What plain connections lead to: the route configuration, or nothing for routes of connections.
    plain: Option<Option<Name>>,
    /// Server names that are served; the empty one for all others.
    names: BTreeSet<String>,
    conflicts: usize,
}

impl<'a> Port<'a> {
    fn open(&mut self, server: Server<'a>) {
        match &server.server.tls {
            None => self.plain(server),
            Some(told) if told.mode == ServerTlsMode::Passthrough => self.passing(server),
            Some(told) => self.terminated(server, told),
        }
    }

    /// Plain connections: all servers for requests share one chain, routes of connections have one owner.
    fn plain(&mut self, server: Server<'a>) {
        let route = self.route_names.get(server.server);
        if self.plain.is_some() || !self.names.is_empty() {
            self.conflicts += usize::from(self.plain != Some(route.clone()) || route.is_none());
            return;
        }
        if let Some(chain) = self.chain(server, route.clone()) {
            self.chains.push(chain);
            self.plain = Some(route);
        }
    }

    /// TLS that ends here: by the server names of the server.
    fn terminated(&mut self, server: Server<'a>, told: &ServerTls) {
        let hosts = server.server.hosts.iter().map(|host| host.host.as_str());
        let hosts = hosts.map(|host| if host == "*" { String::new() } else { host.to_owned() });
        let names = self.free(hosts.collect());
        let alpn: &[&str] =
            if server.server.protocol == PortProtocol::Https { &["h2", "http/1.1"] } else { &[] };
        let (Some(names), Some(socket)) = (names, tls::gateway(told, alpn, self.trust_domains)) else {
            return;
        };
        if let Some(chain) = self.chain(server, self.route_names.get(server.server)) {
            self.put(names, lds::FilterChain { transport_socket: Some(socket), ..chain });
        }
    }

    /// TLS that passes through: by the server names of routes.
    fn passing(&mut self, server: Server<'a>) {
        let around = self.behind(server);
        for told in server.bound(&around) {
            for route in &told.tls {
                let is_for = |sources: &Sources| around.client.are(sources, server.server.port);
                let matches = route.matches.iter().filter(|one| is_for(&one.sources));
                let sni = matches.flat_map(|one| &one.server_names);
                let names: BTreeSet<_> =
                    sni.flat_map(|name| served(server.server, told, name)).map(str::to_owned).collect();
                if names.is_empty() {
                    continue;
                }
                let names = names.into_iter().map(|name| if name == "*" { String::new() } else { name });
                if let Some(names) = self.free(names.collect()) {
                    let chain = self.connections(server, &route.to);
                    self.put(names, chain);
                }
            }
        }
    }

    /// The chain of a server: to its route configuration, else by its routes of connections; `None` without such.
    fn chain(&self, server: Server<'a>, route: Option<Name>) -> Option<lds::FilterChain> {
        if let Some(route) = route {
            let filter = filters::http_gateway(
                &self.name(),
                &route,
                &self.guards.http,
                self.around.client.mesh().path_normalization,
            );
            return Some(listener::chain(&route, None, filter));
        }
        let around = self.behind(server);
        let is_for = |sources: &Sources| around.client.are(sources, server.server.port);
        let mut routes = server.bound(&around).flat_map(|told| &told.tcp);
        let route = routes
            .find(|route| route.matches.is_empty() || route.matches.iter().any(|one| is_for(&one.sources)))?;
        Some(self.connections(server, &route.to))
    }

    fn connections(&self, server: Server<'a>, to: &[Weighted]) -> lds::FilterChain {
        let targets = self.behind(server).targets(to, server.server.port, &mut Reads::default());
        let name = self.name();
        let mut chain = listener::chain(server.name, None, filters::tcp_to(&name, &targets));
        chain.filters.splice(0..0, self.guards.tcp.iter().cloned());
        chain
    }

    fn behind(&self, server: Server<'a>) -> Surroundings<'a> {
        Surroundings { client: self.around.client.behind(server.name), ..*self.around }
    }

    /// Those of some server names that nobody has yet; the others are conflicts. `None` when none is left.
    fn free(&mut self, names: BTreeSet<String>) -> Option<BTreeSet<String>> {
        if self.plain.is_some() {
            self.conflicts += 1;
            return None;
        }
        let (taken, free): (BTreeSet<_>, BTreeSet<_>) =
            names.into_iter().partition(|name| self.names.contains(name));
        self.conflicts += taken.len();
        (!free.is_empty()).then_some(free)
    }

    /// Adds a chain for server names. The empty one is all the others, so that a chain for it needs no names.
    fn put(&mut self, names: BTreeSet<String>, chain: lds::FilterChain) {
        let named: Vec<_> = names.iter().filter(|name| !name.is_empty()).cloned().collect();
        let all_others = (named.len() < names.len()).then(Vec::new);
        let named = Some(named).filter(|named| !named.is_empty());
        for server_names in named.into_iter().chain(all_others) {
            let matched = lds::FilterChainMatch {
                server_names,
                transport_protocol: "tls".to_owned(),
                ..Default::default()
            };
            self.chains.push(lds::FilterChain { filter_chain_match: Some(matched), ..chain.clone() });
        }
        self.names.extend(names);
    }

    fn name(&self) -> String {
        format!("{}_{}", self.ip, self.port)
    }

    /// The listener; `None` when nothing is served.
    fn listener(self) -> Option<Entry> {
        if self.chains.is_empty() {
            return None;
        }
        let name = self.name();
        let listener = lds::Listener {
            address: address(self.ip, self.port),
            listener_filters: (!self.names.is_empty()).then(filters::tls_inspector).into_iter().collect(),
            filter_chains: self.chains,
            traffic_direction: TrafficDirection::Outbound.into(),
            name,
            ..Default::default()
        };
        Some(entry(ResourceType::Listener, &listener.name, &listener))
    }
}
