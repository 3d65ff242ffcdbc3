//! Services: what one cluster says of one, and what all clusters together say.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;

use super::{ClusterId, EntryFacts, InlineEndpoint, Labels, Name, ServiceKey, Set, SpiffeId};

/// How a service is resolved (R5.21, R5.33).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub enum Resolution {
    /// A VIP with endpoints: EDS.
    #[default]
    ClientSide,
    /// Headless, or a ServiceEntry with resolution NONE: the client picks an address itself.
    Passthrough,
    /// An alias of another host (ExternalName); no endpoints of its own.
    Alias(Name),
    /// Envoy resolves each host name of its inline endpoints and uses every address: strict DNS.
    Dns,
    /// Envoy resolves the one host name of its inline endpoints and uses the first address: logical DNS.
    DnsRoundRobin,
}

impl Resolution {
    /// Whether Envoy resolves the endpoints: they are inline, and EDS has none (R4.2).
    pub fn is_dns(&self) -> bool {
        matches!(self, Self::Dns | Self::DnsRoundRobin)
    }
}

/// Layer-4 protocol of a port as Kubernetes names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Transport {
    /// TCP.
    #[default]
    Tcp,
    /// UDP: never served to Envoy.
    Udp,
    /// SCTP: never served to Envoy.
    Sctp,
}

/// Application protocol of a port (R5.32).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum PortProtocol {
    /// HTTP/1.1.
    Http,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// gRPC.
    Grpc,
    /// gRPC-Web.
    GrpcWeb,
    /// TLS carrying HTTP.
    Https,
    /// TLS.
    Tls,
    /// Opaque TCP, databases included.
    Tcp,
    /// UDP.
    Udp,
    /// Not declared: to be detected.
    Auto,
}

impl PortProtocol {
    /// Whether requests on this port are routed one by one.
    pub fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Http2 | Self::Grpc | Self::GrpcWeb)
    }

    /// Whether the upstream speaks HTTP/2 only.
    pub fn is_http2(self) -> bool {
        matches!(self, Self::Http2 | Self::Grpc)
    }
}

/// One port of a service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ServicePort {
    /// The port clients use.
    pub number: u16,
    /// Its name; empty when the Service has one unnamed port.
    pub name: Name,
    /// Its layer-4 protocol.
    pub transport: Transport,
    /// Its application protocol.
    pub protocol: PortProtocol,
}

/// Who may see a service: annotation `networking.istio.io/exportTo` (R4.2).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub enum ExportTo {
    /// Everybody.
    #[default]
    Everywhere,
    /// Nobody (`~`).
    Nowhere,
    /// These namespaces (`.` is already resolved).
    Namespaces(BTreeSet<Name>),
    /// Nobody said: as the mesh says (`defaultServiceExportTo`, `defaultDestinationRuleExportTo`).
    Unset,
}

impl ExportTo {
    /// Whether a proxy of `namespace` may see what `own` exports, where the mesh's default has `.` as the empty name
    /// (R4.2).
    pub fn reaches(&self, namespace: &str, own: &str, default: &Self) -> bool {
        match (self, default) {
            (Self::Unset, Self::Namespaces(names)) => {
                names.contains(namespace) || namespace == own && names.contains("")
            }
            (Self::Unset, default) => default.includes(namespace),
            (said, _) => said.includes(namespace),
        }
    }

    /// Whether a proxy of `namespace` may see it, in a mesh where everybody sees what nobody said anything of.
    pub fn includes(&self, namespace: &str) -> bool {
        match self {
            Self::Everywhere | Self::Unset => true,
            Self::Nowhere => false,
            Self::Namespaces(names) => names.contains(namespace),
        }
    }
}

/// Which endpoints of a service are to be preferred (R4.30).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub enum TrafficDistribution {
    /// None is.
    #[default]
    Any,
    /// Those of the proxy's network, region and zone, in this order.
    PreferSameZone,
    /// Those of the proxy's network, region, zone, subzone and node, in this order.
    PreferSameNode,
}

/// What a record of a `clusterset.local` host stands for (R4.39).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub enum Import {
    /// An ordinary host.
    #[default]
    No,
    /// The cluster has the Service and does not import it.
    Offered,
    /// The cluster imports a Service that it has itself.
    Own,
    /// The cluster imports a Service that it does not have: its VIPs are all it tells.
    Foreign,
}

/// A service as one cluster tells it, or merged over all clusters (R0.5, D7, D11).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Service {
    /// Namespace and host name.
    pub key: ServiceKey,
    /// Ports, ordered by (transport, number). In the merged record: the union over clusters (D7).
    pub ports: Vec<ServicePort>,
    /// VIPs by cluster, config cluster first, then by id (R5.25); headless services have none (R5.22).
    pub vips: Vec<(ClusterId, Vec<IpAddr>)>,
    /// How it is resolved.
    pub resolution: Resolution,
    /// Labels of the Service object.
    pub labels: Labels,
    /// Who may see it.
    pub export_to: ExportTo,
    /// `internalTrafficPolicy: Local`: only endpoints of the proxy's own node (R4.9).
    pub node_local: bool,
    /// `publishNotReadyAddresses`.
    pub publish_not_ready: bool,
    /// Seconds since the epoch at which the Service was created; 0 when not known. The oldest wins conflicts.
    pub created: i64,
    /// Which endpoints are preferred (R4.30).
    pub traffic_distribution: TrafficDistribution,
    /// Whether it stands for a multi-cluster import (R4.39).
    pub import: Import,
    /// The service of the waypoint through which ingress gateways send, if they are to (R4.37).
    pub ingress_waypoint: Option<ServiceKey>,
    /// Identities from annotations (R5.23); in the merged record also those behind all endpoints.
    pub accounts: Set<SpiffeId>,
    /// What only ServiceEntries say; `None` for Kubernetes Services.
    pub entry: Option<Arc<EntryFacts>>,
}

impl Default for ServiceKey {
    fn default() -> Self {
        Self::new("", "")
    }
}

impl Service {
    /// The port with this number that Envoy can carry (TCP).
    pub fn port(&self, number: u16) -> Option<&ServicePort> {
        self.ports.iter().find(|port| port.number == number && port.transport == Transport::Tcp)
    }

    /// Whether it is outside the mesh: a ServiceEntry that says so, or an alias (R5.21, R5.33).
    pub fn is_mesh_external(&self) -> bool {
        matches!(self.resolution, Resolution::Alias(_))
            || self.entry.as_ref().is_some_and(|entry| entry.mesh_external)
    }

    /// Endpoints that Envoy is told with the Envoy cluster.
    pub fn inline(&self) -> &[InlineEndpoint] {
        self.entry.as_ref().map_or(&[], |entry| &entry.inline)
    }

    /// The VIPs of the service in one cluster; none when it has none there. Those of a ServiceEntry hold in every
    /// cluster.
    pub fn own_vips(&self, cluster: &ClusterId) -> &[IpAddr] {
        if self.entry.is_some() {
            return self.vips.first().map_or(&[], |(_, vips)| vips.as_slice());
        }
        self.vips.iter().find(|(id, _)| id == cluster).map_or(&[], |(_, vips)| vips.as_slice())
    }

    /// The VIPs a proxy of `cluster` uses (R5.28): its own cluster's, else the first cluster's that has any.
    pub fn vips_in(&self, cluster: &ClusterId) -> &[IpAddr] {
        let filled = || self.vips.iter().filter(|(_, vips)| !vips.is_empty());
        let own = filled().find(|(id, _)| id == cluster);
        own.or_else(|| filled().next()).map_or(&[], |(_, vips)| vips.as_slice())
    }
}
