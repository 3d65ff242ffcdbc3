//! `tombolo explain`.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::process::ExitCode;

use serde_json::Value;

use super::client::{self, ServerArgs, encode, rows, socket, text};
use super::question::Question;
use super::table::{self, Output, plain};

/// Arguments of `tombolo explain`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    question: Question,
    /// One endpoint only, with every check
    #[arg(long, value_name = "IP")]
    endpoint: Option<IpAddr>,
    /// A subset of the host
    #[arg(long, value_name = "NAME")]
    subset: Option<String>,
    #[command(flatten)]
    server: ServerArgs,
    /// Form of the answer; wide has every check
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

/// Runs the command.
pub async fn run(args: Args) -> ExitCode {
    client::finish(show(&args).await)
}

async fn show(args: &Args) -> anyhow::Result<()> {
    let mut path = args.question.path("explain");
    if let Some(endpoint) = args.endpoint {
        path += &format!("&endpoint={endpoint}");
    }
    if let Some(subset) = &args.subset {
        path += &format!("&subset={}", encode(subset));
    }
    let answer = client::fetch(&args.server, &path).await?;
    let checks = args.endpoint.is_some();
    table::show(args.output, &answer, |answer| told(answer, checks), |answer| told(answer, true))
}

/// The whole answer: each port by itself.
fn told(answer: &Value, checks: bool) -> String {
    let who = &answer["as"];
    let place = [text(who, "locality"), text(who, "network"), text(who, "cluster")];
    let place: Vec<_> = place.iter().filter(|part| !part.is_empty()).map(String::as_str).collect();
    let who = plain(&format!("seen by {} ({})", text(who, "proxy"), place.join(", ")));
    let ports = rows(&answer["ports"]).iter().map(|port| told_of_port(port, &who, checks));
    ports.collect::<Vec<_>>().join("\n")
}

fn told_of_port(port: &Value, who: &str, checks: bool) -> String {
    let mut out = format!("{}, {who}\n", plain(&text(port, "name")));
    if let Some(code) = port["nothing"].as_str() {
        let _ = writeln!(out, "nothing is sent: {code}: {}", why_nothing(code));
        return out;
    }
    let _ = writeln!(out, "{}", verdict(rows(&port["endpoints"])));
    let rules: Vec<_> = rows(&port["rules"]).iter().filter_map(Value::as_str).collect();
    if !rules.is_empty() {
        let _ = writeln!(out, "DestinationRules: {}", plain(&rules.join(", ")));
    }
    let _ = writeln!(out, "localities are ordered by {}\n", plain(&text(port, "localitySetting")));
    out += &endpoints(rows(&port["endpoints"]));
    if port["waypoint"].is_object() {
        out += &waypoint(&port["waypoint"]);
    }
    if checks {
        rows(&port["endpoints"]).iter().for_each(|endpoint| out += &chain(endpoint));
    }
    if !rows(&port["gateways"]).is_empty() {
        let line = |row: &Value| {
            ["address", "network", "priority", "weight", "arithmetic"].map(|key| text(row, key)).to_vec()
        };
        out += "\n";
        out += &table::columns(
            &["GATEWAY", "NETWORK", "PRIORITY", "WEIGHT", "SUM"],
            rows(&port["gateways"]).iter().map(line),
        );
    }
    out += "\n";
    out += &priorities(rows(&port["priorities"]));
    out
}

fn why_nothing(code: &str) -> &'static str {
    match code {
        "hidden/not-visible" => "the proxy does not see the service (exportTo, or its Sidecar)",
        "hidden/no-port" => "the service has no such TCP port",
        "hidden/no-subset" => "no DestinationRule that holds for the proxy has the subset",
        "dns" => "Envoy resolves the host itself",
        _ => "see /debug/explain",
    }
}

/// `2 of 5 endpoints are sent as they are, 1 stands behind a gateway, 2 are hidden`.
fn verdict(endpoints: &[Value]) -> String {
    let count = |wanted: &str| endpoints.iter().filter(|one| one["decision"] == wanted).count();
    let (direct, behind, led) = (count("direct"), count("via-gateway"), count("via-waypoint"));
    let hidden = endpoints.len() - direct - behind - led;
    let led = if led > 0 { format!("{led} behind a waypoint, ") } else { String::new() };
    format!(
        "{} endpoints: {direct} sent as they are, {behind} behind gateways, {led}{hidden} hidden",
        endpoints.len()
    )
}

fn endpoints(all: &[Value]) -> String {
    let line = |row: &Value| {
        let would = &row["would"];
        let would = match would["if"].as_str() {
            Some(condition) => format!("{} if {condition}", text(would, "then")),
            None => String::new(),
        };
        let mut cells = vec![address(row)];
        cells.extend(
            ["pod", "cluster", "network", "locality", "health", "weight", "priority", "decision"]
                .map(|key| text(row, key)),
        );
        cells.push(would);
        cells
    };
    let header = [
        "ENDPOINT", "POD", "CLUSTER", "NETWORK", "LOCALITY", "HEALTH", "WEIGHT", "PRIORITY", "DECISION",
        "WOULD BE",
    ];
    table::columns(&header, all.iter().map(line))
}

/// Who stands in for the endpoints.
fn waypoint(waypoint: &Value) -> String {
    let unknown = if waypoint["known"] == true { "" } else { ", which no cluster has" };
    let (service, to) = (text(waypoint, "service"), text(waypoint, "to"));
    let mut out = format!("\nled to {to} through the waypoint {}{unknown}\n", plain(&service));
    let line = |row: &Value| {
        let mut cells = vec![address(row)];
        cells.extend(["pod", "cluster", "network", "decision"].map(|key| text(row, key)));
        cells
    };
    out += &table::columns(
        &["WAYPOINT", "POD", "CLUSTER", "NETWORK", "DECISION"],
        rows(&waypoint["endpoints"]).iter().map(line),
    );
    out
}

fn chain(endpoint: &Value) -> String {
    let mut out =
        format!("\n{} {}: {}\n", address(endpoint), text(endpoint, "pod"), text(endpoint, "decision"));
    for check in rows(&endpoint["chain"]) {
        let mark = if check["ok"] == true { "ok" } else { "NO" };
        let _ = writeln!(out, "  {mark}  {:<20}  {}", text(check, "check"), plain(&text(check, "detail")));
    }
    out
}

fn priorities(all: &[Value]) -> String {
    let line = |row: &Value, group: &Value| {
        let mut cells = vec![text(row, "priority")];
        cells.extend(["locality", "addresses", "weight", "why"].map(|key| text(group, key)));
        cells
    };
    let lines = all.iter().flat_map(|row| rows(&row["groups"]).iter().map(move |group| line(row, group)));
    table::columns(&["PRIORITY", "LOCALITY", "ADDRESSES", "WEIGHT", "WHY"], lines)
}

fn address(row: &Value) -> String {
    if text(row, "address").is_empty() { "no address".to_owned() } else { socket(row) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_hidden_endpoint_has_its_reason_and_what_would_help() {
        let endpoint = json!({"address": "10.2.0.1", "port": 5000, "pod": "p", "cluster": "west", "network": "net-west",
            "locality": "", "health": "healthy", "weight": 1, "priority": null, "decision": "hidden/no-gateway",
            "chain": [{"check": "port", "ok": true, "detail": "d"}, {"check": "network", "ok": false, "detail": "e"}],
            "would": {"if": "network net-west had a gateway", "then": "via-gateway"}});
        let answer = json!({"as": {"proxy": "x", "cluster": "east", "network": "n", "locality": ""}, "ports": [{
            "name": "outbound|5000||h", "nothing": null, "rules": ["ns/dr"], "localitySetting": "the mesh: x",
            "endpoints": [endpoint], "gateways": [], "priorities": []}]});
        let short = told(&answer, false);
        for words in [
            "seen by x (n, east)",
            "1 endpoints: 0 sent as they are, 0 behind gateways, 1 hidden",
            "via-gateway if network net-west had a gateway",
            "DestinationRules: ns/dr",
        ] {
            assert!(short.contains(words), "{words}: {short}");
        }
        assert!(!short.contains("NO  network"));
        assert!(told(&answer, true).contains("  NO  network               e"), "{}", told(&answer, true));
    }

    #[test]
    fn a_waypoint_is_told_with_what_became_of_its_endpoints() {
        let own = json!({"address": "10.2.0.1", "port": 5000, "decision": "via-waypoint", "chain": []});
        let of_waypoint = json!({"address": "10.2.0.9", "port": 15008, "pod": "w-1", "decision": "direct"});
        let answer = json!({"as": {}, "ports": [{
            "name": "outbound|5000||h", "endpoints": [own], "waypoint": {
                "service": "ns/w", "known": true, "to": "10.96.0.1:5000", "endpoints": [of_waypoint]}}]});
        let told = told(&answer, false);
        for words in [
            "0 sent as they are, 0 behind gateways, 1 behind a waypoint, 0 hidden",
            "led to 10.96.0.1:5000 through the waypoint ns/w",
            "10.2.0.9:15008",
        ] {
            assert!(told.contains(words), "{words}: {told}");
        }
    }

    #[test]
    fn a_host_without_anything_says_why() {
        let answer =
            json!({"as": {}, "ports": [{"name": "outbound|80|v9|h", "nothing": "hidden/no-subset"}]});
        assert!(told(&answer, false).contains("nothing is sent: hidden/no-subset: no DestinationRule"));
    }
}
