//! `tombolo explain`.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::process::ExitCode;

use serde_json::Value;

use super::client::{self, ServerArgs, rows, socket, text};
use super::clusters::age;
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

/// The page that answers it.
fn path(args: &Args) -> String {
    let path = args.question.path("explain");
    match args.endpoint {
        Some(endpoint) => format!("{path}&endpoint={endpoint}"),
        None => path,
    }
}

async fn show(args: &Args) -> anyhow::Result<()> {
    let answer = client::fetch(&args.server, &path(args)).await?;
    let short = if args.endpoint.is_some() { Detail::Checks } else { Detail::Short };
    table::show(args.output, &answer, |answer| told(answer, short), |answer| told(answer, Detail::Checks))
}

/// How much is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Detail {
    /// What became of the endpoints of the port.
    Short,
    /// Every check too, and endpoints of other ports.
    Checks,
}

/// The whole answer: each port by itself, then the clusters that tell of it.
fn told(answer: &Value, detail: Detail) -> String {
    let who = &answer["as"];
    let place = [text(who, "locality"), text(who, "network"), text(who, "cluster")];
    let place: Vec<_> = place.iter().filter(|part| !part.is_empty()).map(String::as_str).collect();
    let who = plain(&format!("seen by {} ({})", text(who, "proxy"), place.join(", ")));
    let ports = rows(&answer["ports"]).iter().map(|port| told_of_port(port, &who, detail));
    let mut out = ports.collect::<Vec<_>>().join("\n");
    if !rows(&answer["clusters"]).is_empty() {
        out += "\n";
        out += &clusters(rows(&answer["clusters"]));
    }
    out
}

fn told_of_port(port: &Value, who: &str, detail: Detail) -> String {
    let mut out = format!("{}, {who}\n", plain(&text(port, "name")));
    if let Some(code) = port["nothing"].as_str() {
        let _ = writeln!(out, "nothing is sent: {code}: {}", plain(&text(port, "detail")));
        if let Some(would) = would_see(&port["would"]) {
            let _ = writeln!(out, "{}", plain(&would));
        }
        return out;
    }
    let all = rows(&port["endpoints"]);
    let _ = writeln!(out, "{}", verdict(all));
    let rules: Vec<_> = rows(&port["rules"]).iter().filter_map(Value::as_str).collect();
    if !rules.is_empty() {
        let _ = writeln!(out, "DestinationRules: {}", plain(&rules.join(", ")));
    }
    let _ = writeln!(out, "localities are ordered by {}", plain(&text(port, "localitySetting")));
    let shown = all.iter().filter(|one| detail == Detail::Checks || one["decision"] != OTHER_PORT);
    let mut shown: Vec<_> = shown.collect();
    shown.sort_by_key(|one| rank(one));
    for section in [
        endpoints(&shown),
        waypoint(&port["waypoint"]),
        gateways(rows(&port["gateways"])),
        priorities(rows(&port["priorities"])),
        if detail == Detail::Checks { chains(&shown) } else { String::new() },
    ] {
        if !section.is_empty() {
            out += "\n";
            out += &section;
        }
    }
    out
}

/// What of several ports is behind the other names.
const OTHER_PORT: &str = "hidden/other-port";

/// What is sent comes first, then what is behind gateways, then what is hidden; other ports last.
fn rank(endpoint: &Value) -> usize {
    match endpoint["decision"].as_str() {
        Some("direct") => 0,
        Some("via-gateway") => 1,
        Some("via-waypoint") => 2,
        Some(OTHER_PORT) => 4,
        _ => 3,
    }
}

/// `would be 2 direct, 1 via-gateway if Sidecar a/b named c/d`.
fn would_see(would: &Value) -> Option<String> {
    let condition = would["if"].as_str()?;
    let counts = would["endpoints"].as_object().into_iter().flatten();
    let mut counts: Vec<_> = counts.filter(|(code, _)| *code != OTHER_PORT).collect();
    counts.sort_by_key(|(code, _)| code.starts_with("hidden/"));
    let counts: Vec<_> = counts.into_iter().map(|(code, count)| format!("{count} {code}")).collect();
    let then = match (would["nothing"].as_str(), counts.is_empty()) {
        (Some(code), _) => code.to_owned(),
        (None, true) => "without endpoints".to_owned(),
        (None, false) => counts.join(", "),
    };
    Some(format!("would be {then} if {condition}"))
}

/// `5 endpoints: 2 sent as they are, 1 behind gateways, 2 hidden; 5 of other ports`.
fn verdict(endpoints: &[Value]) -> String {
    let count = |wanted: usize| endpoints.iter().filter(|one| rank(one) == wanted).count();
    let [direct, behind, led, hidden, others] = [0, 1, 2, 3, 4].map(count);
    let all = direct + behind + led + hidden;
    let led = if led > 0 { format!("{led} behind a waypoint, ") } else { String::new() };
    let noun = if all == 1 { "endpoint" } else { "endpoints" };
    let others = if others > 0 { format!("; {others} of other ports") } else { String::new() };
    let sent = if direct == 1 { "sent as it is" } else { "sent as they are" };
    format!("{all} {noun}: {direct} {sent}, {behind} behind gateways, {led}{hidden} hidden{others}")
}

fn endpoints(all: &[&Value]) -> String {
    let line = |row: &&Value| {
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
    if all.is_empty() { String::new() } else { table::columns(&header, all.iter().map(line)) }
}

/// The checks of every endpoint; of other ports there is nothing to say.
fn chains(shown: &[&Value]) -> String {
    let told = shown.iter().filter(|one| one["decision"] != OTHER_PORT);
    told.map(|one| chain(one)).collect::<Vec<_>>().join("\n")
}

/// Who stands in for the endpoints.
fn waypoint(waypoint: &Value) -> String {
    if !waypoint.is_object() {
        return String::new();
    }
    let unknown = if waypoint["known"] == true { "" } else { ", which no cluster has" };
    let (service, to) = (text(waypoint, "service"), text(waypoint, "to"));
    let mut out = format!("led to {to} through the waypoint {}{unknown}\n", plain(&service));
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
    let title = format!("{} {}: {}", address(endpoint), text(endpoint, "pod"), text(endpoint, "decision"));
    let mut out = format!("{}\n", plain(&title));
    for check in rows(&endpoint["chain"]) {
        let mark = if check["ok"] == true { "ok" } else { "NO" };
        let _ = writeln!(out, "  {mark}  {:<20}  {}", text(check, "check"), plain(&text(check, "detail")));
    }
    out
}

fn gateways(all: &[Value]) -> String {
    let line = |row: &Value| {
        ["address", "network", "priority", "weight", "arithmetic"].map(|key| text(row, key)).to_vec()
    };
    let header = ["GATEWAY", "NETWORK", "PRIORITY", "WEIGHT", "SUM"];
    if all.is_empty() { String::new() } else { table::columns(&header, all.iter().map(line)) }
}

fn priorities(all: &[Value]) -> String {
    let line = |row: &Value, group: &Value| {
        let mut cells = vec![text(row, "priority")];
        cells.extend(["locality", "addresses", "weight", "why"].map(|key| text(group, key)));
        cells
    };
    let lines = all.iter().flat_map(|row| rows(&row["groups"]).iter().map(move |group| line(row, group)));
    let header = ["PRIORITY", "LOCALITY", "ADDRESSES", "WEIGHT", "WHY"];
    if all.is_empty() { String::new() } else { table::columns(&header, lines) }
}

/// Who tells of the service, and how old that may be.
fn clusters(all: &[Value]) -> String {
    let line = |row: &Value| {
        let (health, standing) = (text(row, "health"), text(row, "standing"));
        let worth = if standing == "regular" { String::new() } else { format!(",{standing}") };
        let mut cells = vec![text(row, "id"), text(row, "endpoints"), health + &worth];
        cells.extend(
            ["sinceSeconds", "lastContactSeconds", "lastEventSeconds", "staleSeconds"]
                .map(|key| age(&row[key])),
        );
        cells.extend([text(row, "source"), text(row, "detail")]);
        cells
    };
    let header = [
        "CLUSTER",
        "ENDPOINTS",
        "HEALTH",
        "SINCE",
        "LAST-CONTACT",
        "LAST-EVENT",
        "STALE",
        "SOURCE",
        "DETAIL",
    ];
    table::columns(&header, all.iter().map(line))
}

fn address(row: &Value) -> String {
    match (text(row, "address").is_empty(), text(row, "socket"), text(row, "host")) {
        (false, ..) => socket(row),
        (true, path, _) if !path.is_empty() => format!("unix:{path}"),
        (true, _, host) if !host.is_empty() => format!("{host}:{}", text(row, "port")),
        _ => "no address".to_owned(),
    }
}

#[cfg(test)]
mod served;

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
        let short = told(&answer, Detail::Short);
        for words in [
            "seen by x (n, east)",
            "1 endpoint: 0 sent as they are, 0 behind gateways, 1 hidden",
            "via-gateway if network net-west had a gateway",
            "DestinationRules: ns/dr",
        ] {
            assert!(short.contains(words), "{words}: {short}");
        }
        assert!(!short.contains("NO  network"));
        let long = told(&answer, Detail::Checks);
        assert!(long.contains("  NO  network               e"), "{long}");
    }

    #[test]
    fn a_waypoint_is_told_with_what_became_of_its_endpoints() {
        let own = json!({"address": "10.2.0.1", "port": 5000, "decision": "via-waypoint", "chain": []});
        let of_waypoint = json!({"address": "10.2.0.9", "port": 15008, "pod": "w-1", "decision": "direct"});
        let answer = json!({"as": {}, "ports": [{
            "name": "outbound|5000||h", "endpoints": [own], "waypoint": {
                "service": "ns/w", "known": true, "to": "10.96.0.1:5000", "endpoints": [of_waypoint]}}]});
        let told = told(&answer, Detail::Short);
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
        let answer = json!({"as": {}, "ports": [{"name": "outbound|80|v9|h", "nothing": "hidden/no-subset",
            "detail": "the DestinationRules a/b have v1"}]});
        let told = told(&answer, Detail::Short);
        assert!(
            told.contains("nothing is sent: hidden/no-subset: the DestinationRules a/b have v1\n"),
            "{told}"
        );
    }
}
