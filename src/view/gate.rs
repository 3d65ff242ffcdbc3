//! A gateway in front of a network: at an address, or at a name that Envoy resolves (R3.14).

use super::assignment::{AssignedEndpoint, InternalListener, Origin, SocketMatch, Target};
use crate::model::{ClusterId, GatewayHost, IpFamilies, NetworkGateway, NetworkId, Quirk, Quirks};

/// A gateway of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate<'a> {
    /// Told by address, or at an address that its name resolved to.
    At(&'a NetworkGateway),
    /// Told by a name: whoever is told of it resolves that.
    Named(&'a GatewayHost),
}

impl<'a> Gate<'a> {
    /// The network behind it.
    pub(super) fn network(self) -> &'a NetworkId {
        match self {
            Self::At(gateway) => &gateway.network,
            Self::Named(host) => &host.network,
        }
    }

    /// The cluster that told of it.
    pub(super) fn cluster(self) -> &'a ClusterId {
        match self {
            Self::At(gateway) => &gateway.cluster,
            Self::Named(host) => &host.cluster,
        }
    }

    /// Its mTLS port; 0 when it has none.
    pub(super) fn port(self) -> u16 {
        match self {
            Self::At(gateway) => gateway.port,
            Self::Named(host) => host.port,
        }
    }

    /// Its HBONE port; 0 when it has none.
    pub(super) fn hbone_port(self) -> u16 {
        match self {
            Self::At(gateway) => gateway.hbone_port,
            Self::Named(host) => host.hbone_port,
        }
    }

    /// Its address or name as text: by that gateways are ordered (R3.17).
    pub(super) fn text(self) -> String {
        match self {
            Self::At(gateway) => gateway.address.to_string(),
            Self::Named(host) => host.host.to_string(),
        }
    }

    /// Whether both are the same object of the snapshot.
    pub(super) fn is(self, other: Self) -> bool {
        match (self, other) {
            (Self::At(a), Self::At(b)) => std::ptr::eq(a, b),
            (Self::Named(a), Self::Named(b)) => std::ptr::eq(a, b),
            _ => false,
        }
    }

    /// Whether proxies with addresses of these families reach it (R4.21.3). A name may have any, and Envoy looks for those
    /// that it can use; under Q18 it has none.
    pub(super) fn is_reached(self, families: IpFamilies, quirks: Quirks) -> bool {
        match self {
            Self::At(gateway) => families.reaches(gateway.address),
            Self::Named(_) => families == IpFamilies::Dual || !quirks.has(Quirk::Q18),
        }
    }

    /// The endpoint that stands for everything behind it (R4.23, R4.24), without a weight.
    pub(super) fn endpoint(self, by_hbone: bool) -> AssignedEndpoint<'a> {
        let target = match self {
            Self::At(gateway) if by_hbone => Target::Internal {
                listener: InternalListener::InnerConnectOriginate,
                address: gateway.address,
                port: gateway.hbone_port,
            },
            // Q15: a port of 0 is a Unix socket.
            _ if self.port() == 0 => Target::Pipe(self.text().into()),
            Self::At(gateway) => {
                Target::Socket { addresses: std::slice::from_ref(&gateway.address), port: gateway.port }
            }
            Self::Named(host) => Target::Named { host: &host.host, port: host.port },
        };
        AssignedEndpoint {
            target,
            weight: 0,
            health: None,
            socket: if by_hbone { SocketMatch::Tunnel } else { SocketMatch::TlsMode },
            origin: Origin::Gateway { network: self.network(), cluster: self.cluster() },
        }
    }
}
