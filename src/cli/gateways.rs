//! `tombolo gateways`.

use std::process::ExitCode;

use serde_json::Value;

use super::client::{self, ServerArgs, encode, rows, text};
use super::clusters::age;
use super::table::{self, Output};

/// Arguments of `tombolo gateways`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only gateways of this network
    #[arg(long, value_name = "NETWORK")]
    network: Option<String>,
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
    let query = args.network.as_deref().map(|network| format!("?network={}", encode(network)));
    let answer =
        client::fetch(&args.server, &format!("/debug/gateways{}", query.unwrap_or_default())).await?;
    table::show(args.output, &answer, short, wide)
}

fn short(answer: &Value) -> String {
    let line = |row: &Value| {
        let mut cells =
            ["network", "cluster", "address", "port", "hostname"].map(|key| text(row, key)).to_vec();
        cells.push(state(row));
        cells
    };
    let header = ["NETWORK", "CLUSTER", "ADDRESS", "PORT", "HOSTNAME", "STATE"];
    table::columns(&header, rows(&answer["gateways"]).iter().map(line))
}

fn wide(answer: &Value) -> String {
    let line = |row: &Value| {
        let mut cells = ["network", "cluster", "address", "port", "hbonePort", "hostname"]
            .map(|key| text(row, key))
            .to_vec();
        cells.extend([
            state(row),
            age(&row["resolvedSeconds"]),
            age(&row["refreshSeconds"]),
            text(row, "lastError"),
        ]);
        cells
    };
    let header =
        ["NETWORK", "CLUSTER", "ADDRESS", "PORT", "HBONE", "HOSTNAME", "STATE", "RESOLVED", "NEXT", "ERROR"];
    table::columns(&header, rows(&answer["gateways"]).iter().map(line))
}

/// `ok`, or what is wrong with it.
fn state(row: &Value) -> String {
    let stale = text(row, "clusterHealth");
    match (text(row, "address").is_empty(), text(row, "lastError").is_empty()) {
        (true, _) => "unresolved".to_owned(),
        (false, false) => "last-good".to_owned(),
        (false, true) if stale == "stale" => "cluster-stale".to_owned(),
        (false, true) => "ok".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_gateway_says_what_is_wrong_with_it() {
        let row = |address: &str, error: &str, health: &str| {
            json!({"network": "n", "cluster": "c", "address": address, "port": 15443, "hbonePort": 0,
                "hostname": "gw.example.com", "lastError": error, "clusterHealth": health, "resolvedSeconds": 75.2})
        };
        for (row, word) in [
            (row("192.0.2.1", "", "live"), "ok"),
            (row("192.0.2.1", "SERVFAIL", "live"), "last-good"),
            (row("", "NXDOMAIN", "live"), "unresolved"),
            (row("192.0.2.1", "", "stale"), "cluster-stale"),
        ] {
            assert_eq!(state(&row), word);
            let text = wide(&json!({"gateways": [row]}));
            assert!(text.contains(word) && text.contains("1m15s"), "{text}");
        }
    }
}
