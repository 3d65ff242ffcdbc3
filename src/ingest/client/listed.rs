//! The API servers that remote kubeconfigs may name at all (Z-04).

use std::net::IpAddr;

use ipnet::IpNet;

/// Hosts and networks. A server counts if its host is one of the hosts, or if every address it has when it is
/// connected to is in one of the networks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerList {
    hosts: Vec<Host>,
    networks: Vec<IpNet>,
}

/// A name, or every name below one.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    Exactly(String),
    /// With the leading dot.
    Below(String),
}

/// *Fatal* at start: an entry of the list cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "--remote-api-servers: {0:?} is none of a host name, *.domain, an IP address and an address block such as \
     10.0.0.0/8"
)]
pub struct BadServer(String);

impl ServerList {
    /// From text: entries between commas, each a host name, `*.domain` (names below it, not itself), an address
    /// or an address block.
    ///
    /// # Errors
    /// The first entry that is none of these; an empty list is one.
    pub fn parse(text: &str) -> Result<Self, BadServer> {
        let mut list = Self { hosts: Vec::new(), networks: Vec::new() };
        for entry in text.split(',').map(str::trim) {
            if let Ok(network) = entry.parse::<IpNet>() {
                list.networks.push(canonical(network).ok_or_else(|| BadServer(entry.to_owned()))?);
            } else if let Ok(address) = entry.trim_matches(['[', ']']).parse::<IpAddr>() {
                list.networks.push(address.to_canonical().into());
            } else {
                list.hosts.push(Host::parse(entry).ok_or_else(|| BadServer(entry.to_owned()))?);
            }
        }
        Ok(list)
    }

    /// Whether a server with this host and this address (one of them) is on the list.
    pub(super) fn contains(&self, host: &str, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.hosts.iter().any(|entry| entry.covers(host))
            || self.networks.iter().any(|network| network.contains(&address))
    }
}

/// A block as addresses are compared with it: IPv4-mapped ones count as IPv4. `None` for a block that begins in
/// the mapped ones and has others besides.
fn canonical(network: IpNet) -> Option<IpNet> {
    let IpNet::V6(v6) = network else { return Some(network.trunc()) };
    match (v6.addr().to_ipv4_mapped(), v6.prefix_len().checked_sub(96)) {
        (None, _) => Some(network.trunc()),
        (Some(v4), Some(length)) => IpNet::new(v4.into(), length).ok().map(|network| network.trunc()),
        (Some(_), None) => None,
    }
}

impl Host {
    fn parse(entry: &str) -> Option<Self> {
        let (name, below) = entry.strip_prefix("*.").map_or((entry, false), |name| (name, true));
        let label = |label: &str| {
            let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
            !label.is_empty() && label.len() <= 63 && label.bytes().all(good)
        };
        // What looks like an address and is none is a typing error, not a name.
        let number =
            name.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
        if number || name.len() > 253 || !name.split('.').all(label) {
            return None;
        }
        let name = name.to_ascii_lowercase();
        Some(if below { Self::Below(format!(".{name}")) } else { Self::Exactly(name) })
    }

    fn covers(&self, host: &str) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        match self {
            Self::Exactly(name) => host == *name,
            Self::Below(suffix) => host.ends_with(suffix),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(list: &str, host: &str, address: &str) -> bool {
        ServerList::parse(list).unwrap().contains(host, address.parse().unwrap())
    }

    #[test]
    fn z_04_a_server_counts_by_its_name_or_its_address() {
        let list = "api.east.example, *.west.example,10.0.0.0/8,2001:db8::7";
        for (host, address, is) in [
            ("api.east.example", "192.0.2.1", true),
            ("API.East.Example.", "192.0.2.1", true),
            ("x.api.east.example", "192.0.2.1", false),
            ("a.b.west.example", "192.0.2.1", true),
            ("west.example", "192.0.2.1", false),
            ("evilwest.example", "192.0.2.1", false),
            ("other.example", "10.200.0.1", true),
            ("other.example", "::ffff:10.200.0.1", true),
            ("other.example", "11.0.0.1", false),
            ("2001:db8::7", "2001:db8::7", true),
            ("2001:db8::8", "2001:db8::8", false),
        ] {
            assert_eq!(contains(list, host, address), is, "{host} {address}");
        }
        for address in ["10.200.0.1", "::ffff:10.200.0.1"] {
            assert!(contains("::ffff:10.0.0.0/104", "other.example", address), "{address}");
        }
        assert!(!contains("::ffff:10.0.0.0/104", "other.example", "11.0.0.1"));
    }

    #[test]
    fn z_04_an_entry_that_is_neither_ends_the_start() {
        for entry in [
            "",
            "10.0.0.0/33",
            "::ffff:10.0.0.0/90",
            "300.1.1.1",
            "https://x",
            "*",
            "a..b",
            "*.",
            "a b",
            "10.0.0.1:6443",
        ] {
            assert_eq!(ServerList::parse(entry), Err(BadServer(entry.to_owned())), "{entry}");
            assert!(ServerList::parse(&format!("ok.example,{entry}")).is_err(), "{entry}");
        }
    }
}
