//! `tombolo endpoints`.

use std::process::ExitCode;
use std::str::FromStr;

use serde_json::Value;

use super::client::{self, ServerArgs, encode, rows, text};
use super::table::{self, Output};

/// Arguments of `tombolo endpoints`.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("who").required(true).args(["proxy", "viewer"])))]
pub struct Args {
    /// The service, in full or as NAME.NAMESPACE, with or without a port
    #[arg(value_name = "HOST[:PORT]")]
    host: Host,
    /// As this connected proxy: its node id, POD.NAMESPACE, or a part of the id that only it has
    #[arg(long, value_name = "ID")]
    proxy: Option<String>,
    /// As a proxy that need not exist: network=N,cluster=C[,namespace=NS][,ip=ADDRESS]
    #[arg(long = "as", id = "viewer", value_name = "WHO")]
    viewer: Option<Viewer>,
    #[command(flatten)]
    server: ServerArgs,
    /// Form of the answer
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
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

/// The query of a proxy that need not exist.
#[derive(Clone, Debug)]
struct Viewer(String);

impl FromStr for Viewer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut query = String::new();
        let mut placed = false;
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once('=').ok_or_else(|| format!("{part:?} is not KEY=VALUE"))?;
            if !["network", "cluster", "namespace", "ip"].contains(&key) {
                return Err(format!("unknown key {key:?}; known are network, cluster, namespace, ip"));
            }
            placed |= !value.is_empty() && ["network", "cluster"].contains(&key);
            query += &format!("&{key}={}", encode(value));
        }
        if placed { Ok(Self(query)) } else { Err("neither network= nor cluster= is given".to_owned()) }
    }
}

/// Runs the command.
pub async fn run(args: Args) -> ExitCode {
    client::finish(show(&args).await)
}

async fn show(args: &Args) -> anyhow::Result<()> {
    let mut path = format!("/debug/view?host={}", encode(&args.host.name));
    if let Some(port) = args.host.port {
        path += &format!("&port={port}");
    }
    match (&args.proxy, &args.viewer) {
        (Some(proxy), _) => path += &format!("&proxy={}", encode(proxy)),
        (None, Some(Viewer(query))) => path += query,
        (None, None) => {}
    }
    let answer = client::fetch(&args.server, &path).await?;
    table::show(args.output, &answer, |answer| columns(answer, false), |answer| columns(answer, true))
}

fn columns(answer: &Value, wide: bool) -> String {
    let lines = rows(&answer["ports"]).iter().flat_map(|port| port_lines(port, wide));
    let mut header = vec!["ENDPOINT", "STATUS", "WEIGHT", "LOCALITY", "VIA", "NETWORK", "CLUSTER", "NAME"];
    if wide {
        header.push("POD");
    }
    table::columns(&header, lines)
}

fn port_lines(port: &Value, wide: bool) -> Vec<Vec<String>> {
    let name = text(port, "name");
    let line = |row: &Value, status: String, via: String| {
        let mut cells = vec![address(row), status, text(row, "weight"), text(row, "locality"), via];
        cells.extend([text(row, "network"), text(row, "cluster"), name.clone()]);
        if wide {
            cells.push(text(row, "pod"));
        }
        cells
    };
    let sent = rows(&port["endpoints"]).iter();
    let mut lines: Vec<_> = sent
        .map(|row| {
            let health = text(row, "health").to_uppercase();
            let health = if health.is_empty() { "HEALTHY".to_owned() } else { health };
            line(row, health, text(row, "via"))
        })
        .collect();
    let behind = rows(&port["behindGateways"]).iter().filter(|_| wide);
    let hidden = rows(&port["hidden"]).iter().filter(|row| wide || row["reason"] != "hidden/other-port");
    lines.extend(behind.chain(hidden).map(|row| line(row, "-".to_owned(), text(row, "reason"))));
    lines
}

fn address(row: &Value) -> String {
    let address = text(row, "address");
    let port = text(row, "port");
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn hidden_endpoints_have_their_reason_and_other_ports_are_noise() {
        let gateway = json!({"address": "192.0.2.9", "port": 15443, "weight": 3, "health": null, "via": "gateway",
            "locality": "", "network": "net-west", "cluster": "west"});
        let hidden = |reason: &str| {
            json!({"address": "10.0.0.1", "port": 80, "weight": 1, "health": "healthy", "locality": "",
                "network": "n", "cluster": "c", "reason": reason})
        };
        let answer = json!({"ports": [{"port": 5000, "name": "outbound|5000||h", "endpoints": [gateway],
            "behindGateways": [], "hidden": [hidden("hidden/no-gateway"), hidden("hidden/other-port")]}]});
        let text = columns(&answer, false);
        assert!(text.contains("192.0.2.9:15443  HEALTHY  3"), "{text}");
        assert!(text.contains("hidden/no-gateway") && !text.contains("other-port"), "{text}");
        assert!(columns(&answer, true).contains("other-port"));
    }

    #[test]
    fn who_asks_is_checked() {
        assert!("network=n".parse::<Viewer>().is_ok());
        for wrong in ["", "namespace=x", "netwrok=n", "network"] {
            assert!(wrong.parse::<Viewer>().is_err(), "{wrong}");
        }
        for wrong in ["", ":80", "h:0", "h:x"] {
            assert!(wrong.parse::<Host>().is_err(), "{wrong}");
        }
    }
}
