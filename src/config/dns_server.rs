//! DNS servers as people write them.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use serde::Deserialize;

/// The address of a DNS server: `IP` or `IP:port`, with `[…]` around IPv6 before a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct DnsServer(pub SocketAddr);

impl FromStr for DnsServer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let bare = text.parse::<IpAddr>().map(|address| SocketAddr::new(address, 53));
        let address = bare.or_else(|_| text.parse::<SocketAddr>());
        let usable = address.ok().filter(|address| address.port() != 0);
        usable
            .map(Self)
            .ok_or_else(|| format!("{text:?} is not a DNS server such as 10.96.0.10 or 127.0.0.1:5353"))
    }
}

impl TryFrom<String> for DnsServer {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_may_be_left_out() {
        let read = |text: &str| text.parse::<DnsServer>().map(|server| server.0.to_string());
        assert_eq!(read("10.96.0.10").as_deref(), Ok("10.96.0.10:53"));
        assert_eq!(read("127.0.0.1:5353").as_deref(), Ok("127.0.0.1:5353"));
        assert_eq!(read("2001:db8::1").as_deref(), Ok("[2001:db8::1]:53"));
        assert_eq!(read("[2001:db8::1]:5353").as_deref(), Ok("[2001:db8::1]:5353"));
        for wrong in ["", "dns.example.com", "10.0.0.1:0", "10.0.0.1:x"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
