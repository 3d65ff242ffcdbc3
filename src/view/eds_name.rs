//! Names of Envoy clusters and of the assignments behind them.

use std::fmt;

use crate::model::Hostname;

/// `outbound|PORT|SUBSET|HOST`, or the SNI-DNAT form `outbound_.PORT_.SUBSET_.HOST` (R4.1).
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
}

impl EdsName {
    /// The whole service on one port, as sidecars name it.
    pub fn outbound(port: u16, host: &Hostname) -> Self {
        Self { port, subset: String::new(), host: host.clone(), sni_dnat: false }
    }

    /// The whole service on one port, as east-west gateways and SNI name it.
    pub fn sni_dnat(port: u16, host: &Hostname) -> Self {
        Self { sni_dnat: true, ..Self::outbound(port, host) }
    }

    /// Reads either form; anything else is `None`.
    pub fn parse(name: &str) -> Option<Self> {
        let sni_dnat = name.starts_with("outbound_");
        let mut parts = name.splitn(4, if sni_dnat { "_." } else { "|" });
        let (direction, port, subset, host) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let valid = direction == "outbound" && !host.is_empty();
        let port = port.parse().ok().filter(|&port| port != 0)?;
        valid.then(|| Self { port, subset: subset.to_owned(), host: host.into(), sni_dnat })
    }
}

impl fmt::Display for EdsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let separator = if self.sni_dnat { "_." } else { "|" };
        write!(f, "outbound{separator}{}{separator}{}{separator}{}", self.port, self.subset, self.host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r4_1_both_forms_are_read_and_printed() {
        for name in [
            "outbound|8080||a.ns.svc.cluster.local",
            "outbound|8080|v1|a.ns.svc.cluster.local",
            "outbound_.8080_._.a.ns.svc.cluster.local",
            "outbound_.8080_.v1_.a.ns.svc.cluster.local",
        ] {
            let parsed = EdsName::parse(name).expect(name);
            assert_eq!(parsed.to_string(), name);
            assert_eq!(parsed.port, 8080);
            assert_eq!(&*parsed.host, "a.ns.svc.cluster.local");
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
        ] {
            assert_eq!(EdsName::parse(name), None, "{name}");
        }
    }
}
