//! East-west gateways.

use std::fmt;
use std::net::IpAddr;

use serde::Serialize;

use super::{ClusterId, Hostname, NetworkId};

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

/// A gateway that is known by a host name (R3.14, unresolved): each address the name resolves to becomes a
/// [`NetworkGateway`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct GatewayHost {
    /// The network behind it.
    pub network: NetworkId,
    /// Its host name, in lower case and without a dot at the end.
    pub host: Hostname,
    /// Its mTLS (SNI pass-through) port; 0 when it has none.
    pub port: u16,
    /// Its HBONE port; 0 when it has none.
    pub hbone_port: u16,
    /// The cluster that told of it; empty for a static gateway (R3.13).
    pub cluster: ClusterId,
}

impl GatewayHost {
    /// The gateway at one address of the host.
    pub fn at(&self, address: IpAddr) -> NetworkGateway {
        NetworkGateway {
            network: self.network.clone(),
            cluster: self.cluster.clone(),
            address,
            port: self.port,
            hbone_port: self.hbone_port,
        }
    }
}

/// Where a gateway says it is reached: the address of a gateway as configured (R3.14).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GatewayAddress {
    /// An IP address.
    Ip(IpAddr),
    /// A host name.
    Host(Hostname),
}

impl fmt::Display for GatewayAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Host(host) => host.fmt(f),
        }
    }
}

impl GatewayAddress {
    /// Reads a host name as DNS spells them, in lower case; `None` if it is none. A name of digits and dots
    /// only would be an address and is no host name.
    pub fn host(text: &str) -> Option<Self> {
        let text = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let label = |label: &str| {
            let bytes = label.as_bytes();
            let inner = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
            !bytes.is_empty()
                && bytes.len() <= 63
                && bytes.iter().all(inner)
                && bytes.first() != Some(&b'-')
                && bytes.last() != Some(&b'-')
        };
        let last = text.rsplit('.').next().unwrap_or_default();
        let numeric = last.bytes().all(|b| b.is_ascii_digit());
        let usable = text.len() <= 253 && text.split('.').all(label) && !numeric;
        usable.then(|| Self::Host(text.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_names_are_told_from_what_is_none() {
        let host = |text| GatewayAddress::host(text).map(|host| host.to_string());
        assert_eq!(host("GW.Example.com.").as_deref(), Some("gw.example.com"));
        assert_eq!(host("a_b-1.example").as_deref(), Some("a_b-1.example"));
        for none in ["", ".", "a..b", "-a.b", "a b", "*.example.com", "1.2.3", "1.2.3.4", "a.b:80", "fd00::1"]
        {
            assert_eq!(host(none), None, "{none}");
        }
        assert_eq!(host(&format!("{}.com", "a".repeat(64))), None);
    }
}
