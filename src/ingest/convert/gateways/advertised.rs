//! Where gateways are reached instead of where their objects say.

use crate::model::GatewayAddress;

/// The longest list that is read.
const MAX_ENTRIES: usize = 100;

/// Addresses given by hand, behind a NAT or a load balancer that Kubernetes does not know: annotation
/// `tombolo.dev/gateway-address` or the option of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertised {
    /// Whether the addresses found stay too (`+` in front of the list).
    pub append: bool,
    /// Addresses, each with the mTLS port to use there, if another one.
    pub entries: Vec<(GatewayAddress, Option<u16>)>,
}

impl Advertised {
    /// Reads `[+]address[:port],…`; an address is an IP address (`[…]` around IPv6 before a port) or a host
    /// name. Entries that cannot be used are told; `None` if no other is left.
    pub fn parse(text: &str) -> (Option<Self>, Vec<String>) {
        let (append, list) = match text.trim().strip_prefix('+') {
            Some(list) => (true, list),
            None => (false, text.trim()),
        };
        let mut entries = Vec::new();
        let mut problems = Vec::new();
        for part in list.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            if entries.len() + problems.len() >= MAX_ENTRIES {
                problems.push(format!("only the first {MAX_ENTRIES} entries are used"));
                break;
            }
            match entry(part) {
                Some(entry) if !entries.contains(&entry) => entries.push(entry),
                Some(_) => {}
                None => {
                    let shown: String = part.chars().take(80).collect();
                    problems
                        .push(format!("`{shown}` is not an IP address or host name with an optional :port"));
                }
            }
        }
        if entries.is_empty() && problems.is_empty() {
            problems.push("it names no address: leave it out".to_owned());
        }
        ((!entries.is_empty()).then_some(Self { append, entries }), problems)
    }
}

fn entry(text: &str) -> Option<(GatewayAddress, Option<u16>)> {
    if let Ok(address) = text.parse::<std::net::IpAddr>() {
        return Some((GatewayAddress::Ip(address.to_canonical()), None));
    }
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port != 0);
    if let Ok(socket) = text.parse::<std::net::SocketAddr>() {
        return Some((
            GatewayAddress::Ip(socket.ip().to_canonical()),
            Some(port(&socket.port().to_string())?),
        ));
    }
    match text.rsplit_once(':') {
        Some((host, number)) => Some((GatewayAddress::host(host)?, Some(port(number)?))),
        None => Some((GatewayAddress::host(text)?, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> (String, usize) {
        let (advertised, problems) = Advertised::parse(text);
        let text = advertised.map(|a| {
            let entry = |(address, port): &(GatewayAddress, Option<u16>)| match port {
                Some(port) => format!("{address} {port}"),
                None => address.to_string(),
            };
            format!(
                "{}{}",
                if a.append { "+ " } else { "" },
                a.entries.iter().map(entry).collect::<Vec<_>>().join(", ")
            )
        });
        (text.unwrap_or_default(), problems.len())
    }

    #[test]
    fn lists_are_read_and_bad_entries_told() {
        let read = |text: &str| shown(text).0;
        assert_eq!(read("203.0.113.7"), "203.0.113.7");
        assert_eq!(
            read("203.0.113.7:443, [2001:db8::1]:8443,2001:db8::2"),
            "203.0.113.7 443, 2001:db8::1 8443, 2001:db8::2"
        );
        assert_eq!(read("+ GW.example.com.:15443,gw.example.com:15443"), "+ gw.example.com 15443");
        for (text, good, problems) in [
            ("", "", 1),
            ("+", "", 1),
            ("a b", "", 1),
            ("1.2.3.4:0", "", 1),
            ("1.2.3.4:70000", "", 1),
            ("1.2.3.4.5", "", 1),
            ("gw.example.com:", "", 1),
            ("1.2.3.4, ???, 1.2.3.5:x", "1.2.3.4", 2),
        ] {
            assert_eq!(shown(text), (good.to_owned(), problems), "{text:?}");
        }
        assert_eq!(Advertised::parse(&"1.2.3.4,".repeat(50)).0.expect("one").entries.len(), 1);
        let many: Vec<_> = (0..200).map(|n| format!("10.0.0.{n}")).collect();
        let (advertised, problems) = Advertised::parse(&many.join(","));
        assert_eq!((advertised.expect("some").entries.len(), problems.len()), (100, 1));
    }
}
