//! What a proxy gets for one Envoy cluster: plain values, no protobuf. They borrow from the snapshots they were made of.

use std::net::{IpAddr, SocketAddr};

use serde::Serialize;

use super::Role;
use crate::model::policy::PolicyPart;
use crate::model::{ClusterId, Health, Locality, Name, NetworkId, ServiceKey, Workload};

/// What an assigned endpoint stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Origin<'a> {
    /// One pod (or bare address), reached directly.
    Direct(&'a Workload),
    /// Every ready endpoint of a network behind this gateway (R4.23).
    Gateway {
        /// The network behind it.
        network: &'a NetworkId,
        /// The cluster that told of the gateway.
        cluster: &'a ClusterId,
    },
}

/// An internal listener of Envoy (R4.17, R4.24).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum InternalListener {
    /// HBONE to the endpoint.
    ConnectOriginate,
    /// HBONE to the endpoint, from an ambient east-west gateway.
    ForwardInnerConnect,
    /// HBONE to a gateway, with HBONE to the service inside: `istio.double_hbone.hbone_target_address` is
    /// `host:port` of the assignment's name.
    InnerConnectOriginate,
}

impl InternalListener {
    /// Where HBONE to endpoints themselves starts at proxies of this part (R4.17).
    pub fn to_endpoints(role: Role) -> Self {
        match role {
            Role::EastWest => Self::ForwardInnerConnect,
            _ => Self::ConnectOriginate,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::ConnectOriginate => "connect_originate",
            Self::ForwardInnerConnect => "forward_inner_connect",
            Self::InnerConnectOriginate => "inner_connect_originate",
        }
    }
}

/// Where to connect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Target<'a> {
    /// The first of these addresses; the others are `additional_addresses` (R4.15).
    Socket {
        /// At least one.
        addresses: &'a [IpAddr],
        /// The port of all of them.
        port: u16,
    },
    /// Wherever this host name resolves to; only among endpoints that Envoy resolves.
    Named {
        /// The host name.
        host: &'a str,
        /// The port there.
        port: u16,
    },
    /// A Unix socket (R4.15).
    Pipe(Name),
    /// An internal listener. The endpoint id is `address:port`, and so is `local` of the filter metadata
    /// `envoy.filters.listener.original_dst` (R4.17, R4.24) unless it is a [waypoint's](Assignment::waypoint_to).
    Internal {
        /// Which.
        listener: InternalListener,
        /// Where it goes on to.
        address: IpAddr,
        /// The port there.
        port: u16,
    },
    /// A socket address without an address: what the peer sends where nothing else is known (Q17).
    Nowhere {
        /// Its port.
        port: u16,
    },
}

/// A host: an address, or a name that Envoy resolves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Host<'a> {
    /// At an address.
    Address(IpAddr),
    /// Wherever a name resolves to.
    Name(&'a str),
}

impl<'a> Target<'a> {
    /// The address traffic goes to; `None` for names, sockets and nowhere.
    pub fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Socket { addresses, .. } => addresses.first().copied(),
            Self::Internal { address, .. } => Some(*address),
            Self::Named { .. } | Self::Pipe(_) | Self::Nowhere { .. } => None,
        }
    }

    /// The host traffic goes to; `None` for sockets and nowhere.
    pub(super) fn host(&self) -> Option<Host<'a>> {
        match self {
            Self::Named { host, .. } => Some(Host::Name(host)),
            _ => self.address().map(Host::Address),
        }
    }

    /// The port traffic goes to; 0 for Unix sockets.
    pub fn port(&self) -> u16 {
        match self {
            Self::Socket { port, .. }
            | Self::Named { port, .. }
            | Self::Internal { port, .. }
            | Self::Nowhere { port } => *port,
            Self::Pipe(_) => 0,
        }
    }
}

/// The filter metadata `envoy.transport_socket_match` of an endpoint (R4.13, R4.17).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SocketMatch {
    /// None is written: plaintext.
    Plain,
    /// `{tlsMode: …}`, the text of [`AssignedEndpoint::tls_mode`].
    TlsMode,
    /// `{tunnel: http}`.
    Tunnel,
}

/// One address a proxy may send to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AssignedEndpoint<'a> {
    /// Where to connect.
    pub target: Target<'a>,
    /// Its weight, at least 1.
    pub weight: u32,
    /// Its health; `None` for gateways, which have none of their own (R4.23).
    pub health: Option<Health>,
    /// How to speak to it.
    pub socket: SocketMatch,
    /// What stands behind it.
    pub origin: Origin<'a>,
}

impl AssignedEndpoint<'_> {
    /// The address traffic goes to, if it is known.
    pub fn address(&self) -> Option<IpAddr> {
        self.target.address()
    }

    /// The port traffic goes to; 0 for Unix sockets.
    pub fn port(&self) -> u16 {
        self.target.port()
    }

    /// The text of `tlsMode` under [`SocketMatch::TlsMode`] (R4.13, R4.23).
    pub fn tls_mode(&self) -> Option<&str> {
        match (self.socket, self.origin) {
            (SocketMatch::TlsMode, Origin::Direct(workload)) => Some(workload.tls_mode_text()),
            (SocketMatch::TlsMode, Origin::Gateway { .. }) => Some("istio"),
            _ => None,
        }
    }

    /// Whether mesh mTLS is spoken to it (R4.13).
    pub fn is_mtls(&self) -> bool {
        self.tls_mode() == Some("istio")
    }

    /// The telemetry text of R4.14 and R4.23.
    pub fn telemetry(&self) -> String {
        match self.origin {
            Origin::Direct(workload) => workload.telemetry(),
            Origin::Gateway { cluster, .. } => format!(";;;;{cluster}"),
        }
    }
}

/// The endpoints of one locality and priority.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LocalityGroup<'a> {
    /// The locality; empty when not known.
    pub locality: Locality,
    /// 0 is preferred; without gaps over an assignment.
    pub priority: u32,
    /// The group's weight: the sum of its endpoints', or its share (R4.32). 0 only in a group without endpoints, where
    /// it is not written.
    pub weight: u32,
    /// Direct endpoints first, then gateways by address and port (R4.22). Empty only under Q27.
    pub endpoints: Vec<AssignedEndpoint<'a>>,
}

/// The answer for one Envoy cluster name and projection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Assignment<'a> {
    /// Groups ordered by locality as text, then priority (R4.19).
    pub groups: Vec<LocalityGroup<'a>>,
    /// Whether the encoder leaves out the filter metadata `istio.workload` (R4.14).
    pub hides_workloads: bool,
    /// Where the waypoint whose endpoints these are is to lead: an address and port of the service (R4.17, R4.37). Then
    /// `local` of every endpoint at [`InternalListener::ConnectOriginate`] is this, and `waypoint` its own
    /// `address:port`.
    pub waypoint_to: Option<SocketAddr>,
    /// The waypoint's service that was looked at, with its version, 0 for none.
    pub waypoint_read: Option<(ServiceKey, u64)>,
    /// The networks whose gateways were looked at, with the version of each (D14); ordered. The empty id stands for
    /// all of them (Q17, Q26, Q29).
    pub networks_read: Vec<(NetworkId, u64)>,
    /// The newest version among the standings of the clusters that were looked at.
    pub standings_read: u64,
    /// The parts of the policies that were looked at, with the version of each (D14); ordered.
    pub policies_read: Vec<(PolicyPart, u64)>,
}

impl<'a> Assignment<'a> {
    /// Every endpoint, in wire order.
    pub fn endpoints(&self) -> impl Iterator<Item = &AssignedEndpoint<'a>> {
        self.groups.iter().flat_map(|group| &group.endpoints)
    }
}
