//! VirtualServices: where requests and connections for hosts go.

mod delegate;
mod http;

use std::collections::BTreeSet;

use ipnet::IpNet;
use serde::{Serialize, Serializer};

use super::{HostPattern, Policy, PolicyKind, PolicyMeta};
use crate::model::{ExportTo, Labels, Name};

pub use http::{
    Abort, Cors, Delay, DirectResponse, Fault, HeaderChanges, Headers, HttpAction, HttpMatch, HttpRoute,
    Mirror, Percent, Redirect, RedirectPort, RegexRewrite, Retries, Rewrite, TextMatch,
};

/// The gateway name that means sidecars.
pub const MESH_GATEWAY: &str = "mesh";

/// Where requests and connections for some hosts go.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VirtualService {
    /// Which object, and how old.
    pub meta: PolicyMeta,
    /// The hosts, short names already resolved, each once. One without hosts is a delegate: others lead on to its routes.
    pub hosts: Vec<HostPattern>,
    /// Gateways as `namespace/name`, and [`MESH_GATEWAY`]; empty for a delegate and for nobody else.
    pub gateways: Vec<Name>,
    /// Which namespaces it is for.
    pub export_to: ExportTo,
    /// For requests, the first that matches.
    pub http: Vec<HttpRoute>,
    /// For TLS connections that pass through, the first that matches.
    pub tls: Vec<TlsRoute>,
    /// For connections, the first that matches.
    pub tcp: Vec<TcpRoute>,
}

/// Who a match is about; every part that is set must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sources {
    /// Gateways as in [`VirtualService::gateways`]; empty for all of those.
    pub gateways: Vec<Name>,
    /// Labels of the client.
    pub labels: Labels,
    /// The namespace of the client; empty for any.
    pub namespace: Name,
    /// The port the client asks for.
    pub port: Option<u16>,
}

impl Sources {
    /// Whether clients behind `gateway` are meant that have these labels and this namespace and ask for `port`.
    pub fn include<'a>(
        &self,
        gateway: &str,
        namespace: &str,
        port: u16,
        label: impl Fn(&str) -> Option<&'a str>,
    ) -> bool {
        (self.gateways.is_empty() || self.gateways.iter().any(|name| name.as_str() == gateway))
            && (self.namespace.is_empty() || self.namespace.as_str() == namespace)
            && self.port.is_none_or(|only| only == port)
            && self.labels.iter().all(|(key, value)| label(key) == Some(value.as_str()))
    }
}

/// A service that traffic goes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Destination {
    /// Its host, a full name.
    pub host: Name,
    /// A subset of it; empty for all of it.
    pub subset: Name,
    /// Its port; `None` for its only one, else for the port the client asked for.
    pub port: Option<u16>,
}

/// A destination and its share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Weighted {
    /// Where to.
    pub destination: Destination,
    /// Its share of the sum of all; never 0 for all of them.
    pub weight: u32,
    /// What becomes of the headers of its requests.
    pub headers: Headers,
}

/// TLS connections by the server name they ask for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TlsRoute {
    /// One of these must hold.
    pub matches: Vec<TlsMatch>,
    /// Where to; not empty.
    pub to: Vec<Weighted>,
}

/// Which TLS connections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TlsMatch {
    /// Server names or `*.suffix`; not empty.
    pub server_names: Vec<Name>,
    /// Blocks of destination addresses; empty for any.
    #[serde(serialize_with = "texts")]
    pub subnets: Vec<IpNet>,
    /// Who asks.
    pub sources: Sources,
}

/// Connections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TcpRoute {
    /// One of these must hold; empty for every connection.
    pub matches: Vec<TcpMatch>,
    /// Where to; not empty.
    pub to: Vec<Weighted>,
}

/// Which connections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TcpMatch {
    /// Blocks of destination addresses; empty for any.
    #[serde(serialize_with = "texts")]
    pub subnets: Vec<IpNet>,
    /// Who asks.
    pub sources: Sources,
}

/// What scopes of destinations begin with.
const LEADING_TO: &str = "destination/";

impl VirtualService {
    /// The scope of all that ask for labels of the client, next to those of their hosts.
    pub const WITH_LABELS: &'static str = "source-labels/";

    /// The scope of all that are bound to a gateway (`namespace/name`). Like no host it has a slash.
    pub fn bound_to(gateway: &str) -> Name {
        format!("gateway/{gateway}").into()
    }

    /// The scope of all that lead mesh traffic to a host. Like no host it has a slash.
    pub fn leading_to(host: &str) -> Name {
        format!("{LEADING_TO}{host}").into()
    }

    /// The host of a scope of [`Self::leading_to`].
    pub fn led_to(scope: &str) -> Option<&str> {
        scope.strip_prefix(LEADING_TO)
    }

    /// Whether others lead on to its routes, and nobody is meant by it alone.
    pub fn is_delegate(&self) -> bool {
        self.hosts.is_empty()
    }

    /// Whether clients behind `gateway` are meant.
    pub fn is_for(&self, gateway: &str) -> bool {
        self.gateways.iter().any(|name| name.as_str() == gateway)
    }

    /// Every condition on who asks.
    pub fn sources(&self) -> impl Iterator<Item = &Sources> {
        let http = self.http.iter().flat_map(|route| &route.matches).map(|one| &one.sources);
        let tls = self.tls.iter().flat_map(|route| &route.matches).map(|one| &one.sources);
        let tcp = self.tcp.iter().flat_map(|route| &route.matches).map(|one| &one.sources);
        http.chain(tls).chain(tcp)
    }

    /// Every destination, those of copies included.
    pub fn destinations(&self) -> impl Iterator<Item = &Destination> {
        let http = self.http.iter().flat_map(HttpRoute::destinations);
        let tls = self.tls.iter().flat_map(|route| &route.to);
        let tcp = self.tcp.iter().flat_map(|route| &route.to);
        http.chain(tls.chain(tcp).map(|one| &one.destination))
    }
}

impl Policy for VirtualService {
    const KIND: PolicyKind = PolicyKind::VirtualService;

    fn meta(&self) -> &PolicyMeta {
        &self.meta
    }

    fn scopes(&self) -> Vec<Name> {
        if self.is_delegate() {
            // It is a part of those that lead on to it.
            return Vec::new();
        }
        let gateways = self.gateways.iter().filter(|name| name.as_str() != MESH_GATEWAY);
        let labels = self.sources().any(|sources| !sources.labels.is_empty());
        let hosts = self.hosts.iter().map(|host| host.as_str().into());
        let labels = labels.then(|| Self::WITH_LABELS.into());
        let gateways = gateways.map(|name| Self::bound_to(name));
        let led: BTreeSet<&str> = match self.is_for(MESH_GATEWAY) {
            true => self.destinations().map(|destination| destination.host.as_str()).collect(),
            false => BTreeSet::new(),
        };
        hosts.chain(labels).chain(gateways).chain(led.into_iter().map(Self::leading_to)).collect()
    }
}

fn texts<S: Serializer>(blocks: &[IpNet], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(blocks.iter().map(ToString::to_string))
}
