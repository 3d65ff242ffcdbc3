//! Names of Envoy clusters and of the assignments behind them.

use std::fmt;

use crate::model::Hostname;

/// What a waypoint reads of the connections behind an `inbound-vip` name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VipProtocol {
    /// Requests.
    Http,
    /// Bytes.
    Tcp,
}

impl VipProtocol {
    const ALL: [Self; 2] = [Self::Http, Self::Tcp];

    fn text(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Tcp => "tcp",
        }
    }
}

/// `outbound|PORT|SUBSET|HOST`, or the SNI-DNAT form `outbound_.PORT_.SUBSET_.HOST` (R4.1), or for what comes to a waypoint
/// for the address of a service `inbound-vip|PORT|PROTOCOL|HOST` and `inbound-vip|PORT|PROTOCOL/SUBSET|HOST` (R4.16).
///
/// The SNI-DNAT form is at once the Envoy cluster of an east-west gateway and the SNI that clients send (R7.3).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EdsName {
    /// The service port.
    pub port: u16,
    /// The subset; empty for the whole service.
    pub subset: String,
    /// The service's host name.
    pub host: Hostname,
    /// Whether it is the SNI-DNAT form.
    pub sni_dnat: bool,
    /// The protocol of an `inbound-vip` name; `None` for the other forms.
    pub inbound_vip: Option<VipProtocol>,
}

impl EdsName {
    /// The whole service on one port, as sidecars name it.
    pub fn outbound(port: u16, host: &Hostname) -> Self {
        Self { port, subset: String::new(), host: host.clone(), sni_dnat: false, inbound_vip: None }
    }

    /// The whole service on one port, as east-west gateways and SNI name it.
    pub fn sni_dnat(port: u16, host: &Hostname) -> Self {
        Self { sni_dnat: true, ..Self::outbound(port, host) }
    }

    /// Reads any of the forms; anything else is `None`.
    pub fn parse(name: &str) -> Option<Self> {
        let sni_dnat = name.starts_with("outbound_");
        let mut parts = name.splitn(4, if sni_dnat { "_." } else { "|" });
        let (direction, port, subset, host) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let (inbound_vip, subset) = match direction {
            "outbound" => (None, subset),
            "inbound-vip" => {
                let (protocol, subset) = subset.split_once('/').unwrap_or((subset, ""));
                let protocol = VipProtocol::ALL.into_iter().find(|one| one.text() == protocol)?;
                (Some(protocol), subset)
            }
            _ => return None,
        };
        let port = port.parse().ok().filter(|&port| port != 0)?;
        let (subset, host) = (subset.to_owned(), Some(host).filter(|host| !host.is_empty())?.into());
        Some(Self { port, subset, host, sni_dnat, inbound_vip })
    }
}

impl fmt::Display for EdsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { port, subset, host, sni_dnat, inbound_vip } = self;
        match inbound_vip.map(VipProtocol::text) {
            Some(protocol) if subset.is_empty() => write!(f, "inbound-vip|{port}|{protocol}|{host}"),
            Some(protocol) => write!(f, "inbound-vip|{port}|{protocol}/{subset}|{host}"),
            None if *sni_dnat => write!(f, "outbound_.{port}_.{subset}_.{host}"),
            None => write!(f, "outbound|{port}|{subset}|{host}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r4_1_every_form_is_read_and_printed() {
        for name in [
            "outbound|8080||a.ns.svc.cluster.local",
            "outbound|8080|v1|a.ns.svc.cluster.local",
            "outbound_.8080_._.a.ns.svc.cluster.local",
            "outbound_.8080_.v1_.a.ns.svc.cluster.local",
            "inbound-vip|8080|http|a.ns.svc.cluster.local",
            "inbound-vip|8080|tcp/v1|a.ns.svc.cluster.local",
        ] {
            let parsed = EdsName::parse(name).expect(name);
            assert_eq!(parsed.to_string(), name);
            assert_eq!(parsed.port, 8080);
            assert_eq!(&*parsed.host, "a.ns.svc.cluster.local");
            assert_eq!(parsed.subset, if name.contains("v1") { "v1" } else { "" });
        }
    }

    #[test]
    fn other_names_are_not_services() {
        for name in [
            "",
            "inbound|80||",
            "outbound|x||h",
            "outbound|0||h",
            "outbound|80||",
            "outbound|80",
            "PassthroughCluster",
            "inbound-vip|80||h",
            "inbound-vip|80|udp|h",
            "inbound-vip|80|http|",
            "inbound-vip_.80_.http_.h",
        ] {
            assert_eq!(EdsName::parse(name), None, "{name}");
        }
    }
}
