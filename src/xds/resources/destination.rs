//! The Envoy clusters that policies send traffic to.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::model::policy::{Destination, HashKey, PolicyPart, TrafficSettings, Weighted};
use crate::model::{Hostname, NetworkId, Service, ServiceKey};
use crate::view::{Behind, Client, Compared, EdsName, Passthrough, Place};

/// What a service is built from besides itself.
pub struct Surroundings<'a> {
    /// Who asks.
    pub client: Client<'a>,
    /// The record that these clients see under a host name.
    pub lookup: &'a dyn Fn(&str) -> Option<Arc<Service>>,
    /// What is behind a port of a service.
    pub behind: &'a dyn Fn(&ServiceKey, u16) -> Behind,
    /// Where the clients lead mesh traffic on by its server name: [`Client::passthroughs`].
    pub passthroughs: &'a [Passthrough<'a>],
    /// Where there are clients, as far as anything compares that.
    pub places: &'a [Place],
}

/// What was read of other services: when one of them changes, the reader may differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reads {
    /// Hosts of destinations, known or not.
    pub hosts: BTreeSet<Hostname>,
    /// Destinations that nobody knows: Envoy answers 503 there.
    pub unknown: usize,
    /// Envoy clusters that were left out, and why.
    pub left_out: Vec<(String, &'static str)>,
    /// Whether the service's own addresses were read.
    pub addresses: bool,
    /// The networks whose gateways were looked at.
    pub networks: BTreeSet<NetworkId>,
    /// The PeerAuthentications that were asked which mTLS endpoints speak (R4.12).
    pub policies: BTreeSet<PolicyPart>,
    /// What was compared of where clients are (R4.32–R4.35).
    pub compared: Compared,
}

/// An Envoy cluster that traffic goes to.
pub(super) struct Target {
    /// Its name.
    pub(super) cluster: String,
    /// Its share.
    pub(super) weight: u32,
    /// How it is called.
    pub(super) settings: TrafficSettings,
}

impl Target {
    /// What requests and connections are spread by.
    pub(super) fn hash_key(&self) -> Option<&HashKey> {
        self.settings.load_balancer.as_ref()?.hash.as_ref().map(|(key, _)| key)
    }

    /// How long a connection without traffic stays.
    pub(super) fn idle_timeout(&self) -> Option<Duration> {
        self.settings.connection_pool.as_ref()?.tcp.idle_timeout
    }
}

impl Surroundings<'_> {
    /// The Envoy cluster of a destination for clients that ask for `port`: the port it names, else its only one,
    /// else theirs.
    pub(super) fn target(&self, to: &Destination, port: u16, reads: &mut Reads) -> Target {
        let host = Hostname::from(to.host.as_str());
        let service = (self.lookup)(&host);
        let only = || match service.as_deref().map(|service| service.ports.as_slice()) {
            Some([only]) => Some(only.number),
            _ => None,
        };
        let number = to.port.or_else(only).unwrap_or(port);
        let known = service.as_deref().is_some_and(|service| service.port(number).is_some());
        let rule = service.as_deref().and_then(|service| self.client.rule(&service.key));
        let subset =
            to.subset.is_empty() || rule.as_deref().is_some_and(|rule| rule.subset(&to.subset).is_some());
        reads.unknown += usize::from(!(known && subset));
        let name = EdsName { subset: to.subset.to_string(), ..EdsName::outbound(number, &host) };
        reads.hosts.insert(host);
        let settings = rule.map(|rule| rule.settings(number, &to.subset)).unwrap_or_default();
        Target { cluster: name.to_string(), weight: 1, settings }
    }

    /// The Envoy clusters of some destinations, with their shares.
    pub(super) fn targets(&self, to: &[Weighted], port: u16, reads: &mut Reads) -> Vec<Target> {
        to.iter()
            .map(|one| Target { weight: one.weight, ..self.target(&one.destination, port, reads) })
            .collect()
    }
}
