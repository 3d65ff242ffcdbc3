//! What is asked about a host, and as whom: arguments of several commands.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::str::FromStr;

use super::client::encode;

/// A host, and whose view of it.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("who").required(true).args(["proxy", "viewer"])))]
pub(crate) struct Question {
    /// The service, in full or as NAME.NAMESPACE, with or without a port; or the name of an Envoy cluster, such as
    /// `outbound_.80_.v1_.HOST`
    #[arg(value_name = "HOST[:PORT]")]
    host: Host,
    /// As this connected proxy: its node id, POD.NAMESPACE, or a part of the id that only it has
    #[arg(long, value_name = "ID")]
    proxy: Option<String>,
    /// As a proxy that need not exist: network=N,cluster=C[,namespace=NS][,ip=ADDRESS][,type=router]
    #[arg(long = "as", id = "viewer", value_name = "WHO")]
    viewer: Option<Viewer>,
    /// A subset of the host
    #[arg(long, value_name = "NAME")]
    subset: Option<String>,
    /// As east-west gateways are asked for it by SNI: endpoints with mesh mTLS only
    #[arg(long)]
    sni_dnat: bool,
}

impl Question {
    /// The path of a debug page that answers it.
    pub(super) fn path(&self, page: &str) -> String {
        let mut path = format!("/debug/{page}?host={}", encode(&self.host.name));
        if let Some(port) = self.host.port {
            path += &format!("&port={port}");
        }
        if let Some(subset) = &self.subset {
            path += &format!("&subset={}", encode(subset));
        }
        if self.sni_dnat {
            path += "&sni-dnat";
        }
        match (&self.proxy, &self.viewer) {
            (Some(proxy), _) => path += &format!("&proxy={}", encode(proxy)),
            (None, Some(Viewer(query))) => path += query,
            (None, None) => {}
        }
        path
    }
}

/// A host with an optional port.
#[derive(Clone, Debug)]
struct Host {
    name: String,
    port: Option<u16>,
}

impl FromStr for Host {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) => {
                let number = port.parse().ok().filter(|&port| port != 0);
                (name, Some(number.ok_or_else(|| format!("port {port:?} is not a number from 1 to 65535"))?))
            }
            None => (text, None),
        };
        if name.is_empty() {
            return Err("the host is empty".to_owned());
        }
        let name = name.to_owned();
        Ok(Self { name, port })
    }
}

/// What is told of a proxy that need not exist.
const KEYS: [&str; 5] = ["network", "cluster", "namespace", "ip", "type"];

/// The query of a proxy that need not exist.
#[derive(Clone, Debug)]
struct Viewer(String);

impl FromStr for Viewer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (mut query, mut said) = (String::new(), BTreeSet::new());
        let mut placed = false;
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once('=').ok_or_else(|| format!("{part:?} is not KEY=VALUE"))?;
            if !KEYS.contains(&key) {
                return Err(format!("unknown key {key:?}; known are {}", KEYS.join(", ")));
            }
            if !said.insert(key) {
                return Err(format!("{key}= is given twice"));
            }
            match key {
                "ip" if value.parse::<IpAddr>().is_err() => {
                    return Err(format!("ip={value:?} is no address"));
                }
                "type" if !["sidecar", "router"].contains(&value) => {
                    return Err(format!("type={value:?} is neither sidecar nor router"));
                }
                _ => {}
            }
            placed |= !value.is_empty() && ["network", "cluster"].contains(&key);
            query += &format!("&{key}={}", encode(value));
        }
        if placed { Ok(Self(query)) } else { Err("neither network= nor cluster= is given".to_owned()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_is_checked() {
        assert!("network=n".parse::<Viewer>().is_ok());
        for wrong in [
            "",
            "namespace=x",
            "netwrok=n",
            "network",
            "cluster=a,cluster=b",
            "cluster=a,ip=zz",
            "cluster=a,type=waypoint",
        ] {
            assert!(wrong.parse::<Viewer>().is_err(), "{wrong}");
        }
        for wrong in ["", ":80", "h:0", "h:x"] {
            assert!(wrong.parse::<Host>().is_err(), "{wrong}");
        }
        for cluster in ["outbound|80|v1|h.ns", "outbound_.80_._.h.ns"] {
            assert_eq!(
                cluster.parse::<Host>().map(|host| (host.name, host.port)),
                Ok((cluster.to_owned(), None))
            );
        }
    }
}
