//! `tombolo endpoints`.

use std::process::ExitCode;

use serde_json::Value;

use super::client::{self, ServerArgs, rows, socket, text};
use super::printing;
use super::question::Question;
use super::table::{self, Output, plain};

/// Arguments of `tombolo endpoints`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    question: Question,
    #[command(flatten)]
    server: ServerArgs,
    /// Form of the answer
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

/// Runs the command.
pub async fn run(args: Args) -> ExitCode {
    client::finish(show(&args).await)
}

async fn show(args: &Args) -> anyhow::Result<()> {
    let answer = client::fetch(&args.server, &args.question.path("view")).await?;
    for port in rows(&answer["ports"]) {
        if let Some(why) = why_nothing(port) {
            printing::note(&why);
        }
    }
    table::show(args.output, &answer, |answer| columns(answer, false), |answer| columns(answer, true))
}

/// Why a port has no lines; `None` where it has.
fn why_nothing(port: &Value) -> Option<String> {
    if !port_lines(port, false).is_empty() {
        return None;
    }
    let why = match text(port, "nothing") {
        code if code.is_empty() => "`tombolo explain` says of every endpoint why".to_owned(),
        code => format!("{code}: {}", text(port, "detail")),
    };
    Some(plain(&format!("{}: no endpoints: {why}", text(port, "name"))))
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
        let mut cells = vec![socket(row), status, text(row, "weight"), text(row, "locality"), via];
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
    let behind = ["behindGateways", "behindWaypoint"].into_iter().filter(|_| wide);
    let behind = behind.flat_map(|field| rows(&port[field]));
    let hidden = rows(&port["hidden"]).iter().filter(|row| wide || row["reason"] != "hidden/other-port");
    // Whatever the client chose: the only row there is.
    if let Some(code) = port["nothing"].as_str().filter(|code| *code == "original-dst") {
        let any = ["any", "-", "", "", code, "", "", &name].map(str::to_owned);
        lines.push(any.into_iter().chain(wide.then(String::new)).collect());
    }
    lines.extend(behind.chain(hidden).map(|row| line(row, "-".to_owned(), text(row, "reason"))));
    lines
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
            "behindGateways": [], "behindWaypoint": [hidden("sent/via-waypoint")], "hidden": [hidden("hidden/no-gateway"), hidden("hidden/other-port")]}]});
        let text = columns(&answer, false);
        assert!(text.contains("192.0.2.9:15443  HEALTHY  3"), "{text}");
        let chosen =
            json!({"ports": [{"port": 5000, "name": "outbound|5000||h", "nothing": "original-dst"}]});
        assert!([false, true].iter().all(|wide| columns(&chosen, *wide).contains("original-dst")));
        assert!(text.contains("hidden/no-gateway") && !text.contains("other-port"), "{text}");
        assert!(!text.contains("via-waypoint"), "{text}");
        let wide = columns(&answer, true);
        assert!(wide.contains("other-port") && wide.contains("via-waypoint"), "{wide}");
        assert_eq!(why_nothing(&answer["ports"][0]), None);
    }

    #[test]
    fn a_port_without_endpoints_says_why() {
        let port = json!({"name": "outbound|80|v9|h", "endpoints": [], "nothing": "hidden/no-subset", "detail": "has v1"});
        let why = why_nothing(&port).expect("nothing is shown");
        assert_eq!(why, "outbound|80|v9|h: no endpoints: hidden/no-subset: has v1");
        let undecided = json!({"name": "n", "endpoints": [], "nothing": null});
        assert!(why_nothing(&undecided).is_some_and(|why| why.contains("tombolo explain")));
    }
}
