//! `tombolo endpoints`.

use std::process::ExitCode;

use serde_json::Value;

use super::client::{self, ServerArgs, rows, socket, text};
use super::question::Question;
use super::table::{self, Output};

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
    let behind = rows(&port["behindGateways"]).iter().filter(|_| wide);
    let hidden = rows(&port["hidden"]).iter().filter(|row| wide || row["reason"] != "hidden/other-port");
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
            "behindGateways": [], "hidden": [hidden("hidden/no-gateway"), hidden("hidden/other-port")]}]});
        let text = columns(&answer, false);
        assert!(text.contains("192.0.2.9:15443  HEALTHY  3"), "{text}");
        assert!(text.contains("hidden/no-gateway") && !text.contains("other-port"), "{text}");
        assert!(columns(&answer, true).contains("other-port"));
    }
}
