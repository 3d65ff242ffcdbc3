//! East-west gateways.

use std::net::IpAddr;

use serde::Serialize;

use super::{ClusterId, NetworkId};

/// The port of AUTO_PASSTHROUGH gateways unless a label says otherwise (R3.2).
pub const DEFAULT_GATEWAY_PORT: u16 = 15443;
/// The HBONE port of gateways (R3.2).
pub const HBONE_GATEWAY_PORT: u16 = 15008;

/// One address through which a network is entered from other networks (R3.6).
///
/// Ordered by network, then address as text, then port: the order in which remainders are given out (D5)
/// and in which gateways appear in an assignment (R3.17, R4.22).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct NetworkGateway {
    /// The network behind it.
    pub network: NetworkId,
    /// The cluster that told of it; empty for a static gateway (R3.13).
    pub cluster: ClusterId,
    /// Its address.
    pub address: IpAddr,
    /// Its mTLS (SNI pass-through) port; 0 when it has none.
    pub port: u16,
    /// Its HBONE port; 0 when it has none.
    pub hbone_port: u16,
}

impl NetworkGateway {
    /// A gateway with the usual mTLS port and no HBONE port.
    pub fn new(network: NetworkId, cluster: ClusterId, address: IpAddr) -> Self {
        Self { network, cluster, address, port: DEFAULT_GATEWAY_PORT, hbone_port: 0 }
    }

    fn order(&self) -> (&NetworkId, String, u16, u16, &ClusterId) {
        (&self.network, self.address.to_string(), self.port, self.hbone_port, &self.cluster)
    }
}

impl PartialOrd for NetworkGateway {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for NetworkGateway {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.order().cmp(&other.order())
    }
}
