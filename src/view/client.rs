//! What clients of one projection may see, and which policies hold for them (R4.2, R4.3).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, LazyLock};

use super::visibility::{Sight, own_port, reads};
use super::{Destination, MeshRules, OutboundKey, RuleClient};
use crate::model::policy::{
    DestinationRule, EgressListener, Gateway, GatewayHostName, GatewayServer, MESH_GATEWAY, MeshConfig,
    OutboundPolicy, ServerTls, Sidecar, Sources, VirtualService,
};
use crate::model::{DEFAULT_GATEWAY_PORT, ServiceKey};
use crate::registry::{NetworkSnapshot, PolicySnapshot};

/// The clients of one projection under the policies of one moment.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    key: &'a OutboundKey,
    policies: &'a PolicySnapshot,
    rules: &'a MeshRules,
    sight: Sight<'a>,
    /// The gateway the clients are behind, or [`MESH_GATEWAY`].
    behind: &'a str,
    /// The networks; `None` where they do not matter.
    networks: Option<&'a NetworkSnapshot>,
}

impl<'a> Client<'a> {
    /// The clients of `key`, under the usual mesh-wide rules.
    pub fn new(key: &'a OutboundKey, policies: &'a PolicySnapshot) -> Self {
        let find = |id: &crate::model::policy::PolicyId| {
            let mut all = policies.of::<Sidecar>(&id.namespace).iter();
            all.find(|sidecar| sidecar.meta.id == *id).map(Arc::as_ref)
        };
        let sight = Sight::new(&key.namespace, key.sidecar.as_ref().and_then(find), policies);
        static USUAL: LazyLock<MeshRules> = LazyLock::new(MeshRules::default);
        Self { key, policies, rules: &USUAL, sight, behind: MESH_GATEWAY, networks: None }
    }

    /// The same clients, under these mesh-wide rules.
    pub fn under(self, rules: &'a MeshRules) -> Self {
        Self { rules, ..self }
    }

    /// The mesh-wide rules of the configuration.
    pub fn rules(&self) -> &'a MeshRules {
        self.rules
    }

    /// The projection.
    pub fn key(&self) -> &'a OutboundKey {
        self.key
    }

    /// The same clients with what leads them to other networks.
    pub fn across(self, networks: &'a NetworkSnapshot) -> Self {
        Self { networks: Some(networks), ..self }
    }

    /// What leads to other networks, if that was told.
    pub(super) fn networks(&self) -> Option<&'a NetworkSnapshot> {
        self.networks
    }

    /// The policies of the moment.
    pub(super) fn policies(&self) -> &'a PolicySnapshot {
        self.policies
    }

    /// The same clients behind a gateway (`namespace/name`): conditions on who asks are read for those.
    pub fn behind(self, gateway: &'a str) -> Self {
        Self { behind: gateway, ..self }
    }

    /// The Gateways that select these routers, the oldest first.
    pub fn gateways(&self) -> impl Iterator<Item = &'a Arc<Gateway>> + use<'a> {
        let (key, all) = (self.key, self.policies.of::<Gateway>(""));
        all.iter().filter(|gateway| key.gateways.contains(&gateway.meta.id))
    }

    /// Where the Gateways of these routers have servers, by the port that is listened on and its address: the servers
    /// of each place, the oldest first. A port that a Service leads elsewhere is listened on there.
    pub fn places(&self) -> BTreeMap<(u16, IpAddr), Vec<PlacedServer<'a>>> {
        let mut places = BTreeMap::<_, Vec<_>>::new();
        for gateway in self.gateways() {
            for server in &gateway.servers {
                let ip = server.bind.unwrap_or_else(|| self.key.anywhere());
                places
                    .entry((self.key.target(server.port), ip))
                    .or_default()
                    .push(PlacedServer { gateway, server });
            }
        }
        places
    }

    /// The ports on which these routers lead mesh traffic on by its server name (R7.1): those of their Gateways, where
    /// the oldest server of the place says so. One for everything when they asked to see their own network alone and
    /// no Gateway of theirs leads mesh traffic on (D43).
    pub fn passthroughs(&self) -> Vec<Passthrough<'a>> {
        let implicit = Passthrough { bind: None, port: DEFAULT_GATEWAY_PORT, hosts: None };
        let implicit = self.key.east_west.then_some(implicit);
        if self.key.gateways.is_empty() {
            return implicit.into_iter().collect();
        }
        let places = self.places();
        let leads = |one: &&PlacedServer<'a>| one.server.is_auto_passthrough();
        let implicit = implicit.filter(|_| !places.values().flatten().any(|one| leads(&one)));
        let led = places.iter().filter(|(_, servers)| servers.first().is_some_and(|first| leads(&first)));
        let passthrough = |(&(port, ip), servers): (&(u16, IpAddr), &Vec<PlacedServer<'a>>)| {
            let hosts = servers.iter().filter(leads).flat_map(|one| &one.server.hosts);
            Passthrough { bind: Some(ip), port, hosts: Some(hosts.collect()) }
        };
        led.map(passthrough).chain(implicit).collect()
    }

    /// TLS that ends at servers of these routers' Gateways.
    pub fn server_tls(&self) -> impl Iterator<Item = &'a ServerTls> + use<'a> {
        let servers = self.gateways().flat_map(|gateway| &gateway.servers);
        servers.filter_map(|server| server.tls.as_ref())
    }

    /// The VirtualServices bound to a gateway (`namespace/name`) that these routers may see, the oldest first.
    pub fn bound_to(&self, gateway: &str) -> impl Iterator<Item = &'a Arc<VirtualService>> + use<'a> {
        let client = *self;
        let all = self.policies.of::<VirtualService>(&VirtualService::bound_to(gateway));
        all.iter().filter(move |one| client.sight.is_routed(one))
    }

    /// The mesh-wide document.
    pub fn mesh(&self) -> &'a MeshConfig {
        self.policies.mesh()
    }

    /// Which services they see.
    pub fn sight(&self) -> &Sight<'a> {
        &self.sight
    }

    /// The listener of their Sidecar through which a port of a service is reached: the port's own one, else one
    /// for all other ports. `Err` when there is none, `Ok(None)` without a Sidecar.
    pub fn listener(&self, service: &ServiceKey, port: u16) -> Result<Option<&'a EgressListener>, Unseen> {
        let Some(listeners) = self.sight.egress() else {
            return Ok(None);
        };
        let own = listeners.iter().any(|listener| own_port(listener) == Some(port));
        let wanted = own.then_some(port);
        let addressed = listeners.iter().filter(|listener| listener.socket.is_none());
        let mut on = addressed.filter(|listener| own_port(listener) == wanted);
        let found = on.find(|listener| reads(listener, &service.namespace, &service.hostname));
        found.map(Some).ok_or(Unseen)
    }

    /// The listeners of their Sidecar on Unix sockets through which a service is reached.
    pub fn sockets(&self, service: &ServiceKey) -> impl Iterator<Item = &'a EgressListener> {
        let listeners = self.sight.egress().unwrap_or_default().iter();
        let sockets = listeners.filter(|listener| listener.socket.is_some());
        sockets.filter(|listener| reads(listener, &service.namespace, &service.hostname))
    }

    /// The DestinationRules for calls to a service.
    pub fn destination(&self, service: &ServiceKey) -> Destination {
        let label = |key: &str| self.key.labels.get(key).map(|value| value.as_str());
        let client = RuleClient { namespace: &self.key.namespace, label: &label };
        Destination::for_client(&client, service, self.policies)
    }

    /// The same as one.
    pub fn rule(&self, service: &ServiceKey) -> Option<Arc<DestinationRule>> {
        self.destination(service).into_rule()
    }

    /// The VirtualService for requests to a host: of those that are for the mesh and for these clients the one
    /// with the exact host, else with the longest wildcard; the oldest of them.
    pub fn virtual_service(&self, host: &str) -> Option<&'a Arc<VirtualService>> {
        self.policies.about::<VirtualService>(host).find(|one| self.sight.heeds(one))
    }

    /// The VirtualService whose host is exactly this text, wildcards included.
    pub fn virtual_service_of(&self, host: &str) -> Option<&'a Arc<VirtualService>> {
        self.policies.of::<VirtualService>(host).iter().find(|one| self.sight.heeds(one))
    }

    /// Whether a condition on who asks holds for requests to `port`.
    pub fn are(&self, sources: &Sources, port: u16) -> bool {
        let label = |key: &str| self.key.labels.get(key).map(|value| value.as_str());
        sources.include(self.behind, &self.key.namespace, port, label)
    }

    /// Whether connections to destinations that are not known pass.
    pub fn passes_unknown(&self) -> bool {
        let said = self.sight.sidecar().and_then(|sidecar| sidecar.outbound_policy);
        said.unwrap_or(self.mesh().outbound_policy) == OutboundPolicy::AllowAny
    }
}

/// A server of a Gateway that selects some routers.
#[derive(Clone, Copy, Debug)]
pub struct PlacedServer<'a> {
    /// The Gateway.
    pub gateway: &'a Gateway,
    /// The server.
    pub server: &'a GatewayServer,
}

/// A port on which routers lead mesh traffic on by its server name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passthrough<'a> {
    /// Where it listens; `None` for the usual address.
    pub bind: Option<IpAddr>,
    /// The port.
    pub port: u16,
    /// The hosts it leads to; `None` for all.
    pub hosts: Option<Vec<&'a GatewayHostName>>,
}

impl Passthrough<'_> {
    /// Whether it leads to a service.
    pub fn leads_to(&self, service: &ServiceKey) -> bool {
        let means = |host: &&GatewayHostName| {
            let namespace = host.namespace.as_ref().is_none_or(|own| *own == service.namespace);
            namespace && host.host.matches(&service.hostname)
        };
        self.hosts.as_ref().is_none_or(|hosts| hosts.iter().any(means))
    }
}

/// A Sidecar does not show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unseen;
