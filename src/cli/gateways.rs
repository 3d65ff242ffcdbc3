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
        let mut cells = ["network", "cluster", "address", "port"].map(|key| text(row, key)).to_vec();
        // 0 is none.
        cells.extend([text(row, "hbonePort")].map(|port| if port == "0" { String::new() } else { port }));
        cells.push(text(row, "hostname"));
        cells.extend([
            state(row),
            age(&row["resolvedSeconds"]),
            age(&row["refreshSeconds"]),
            age(&row["goneSeconds"]),
            text(row, "lastError"),
        ]);
        cells
    };
    let header = [
        "NETWORK", "CLUSTER", "ADDRESS", "PORT", "HBONE", "HOSTNAME", "STATE", "RESOLVED", "NEXT", "GONE",
        "ERROR",
    ];
    table::columns(&header, rows(&answer["gateways"]).iter().map(line))
}

/// `ok`, or what is wrong with it: what DNS says of its address counts more than how its cluster is.
fn state(row: &Value) -> String {
    if text(row, "address").is_empty() {
        return "unresolved".to_owned();
    }
    if row["lastGood"] == true {
        return "last-good".to_owned();
    }
    match &*text(row, "clusterHealth") {
        // Static gateways have no cluster, and a cluster that lacks something tells of its gateways.
        "" | "live" | "degraded" => "ok".to_owned(),
        health => format!("cluster-{health}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_gateway_says_what_is_wrong_with_it() {
        let row = |address: &str, last_good: bool, health: &str| {
            json!({"network": "n", "cluster": "c", "address": address, "port": 15443, "hbonePort": 0,
                "hostname": "gw.example.com", "lastError": "AAAA: SERVFAIL", "clusterHealth": health,
                "resolvedSeconds": 75.2, "refreshSeconds": 12.5, "goneSeconds": 200.0, "lastGood": last_good})
        };
        for (row, word) in [
            (row("192.0.2.1", false, "live"), "ok"),
            (row("192.0.2.1", false, "degraded"), "ok"),
            (row("192.0.2.1", true, "live"), "last-good"),
            (row("", false, "live"), "unresolved"),
            (row("192.0.2.1", false, "stale"), "cluster-stale"),
            (row("192.0.2.1", false, "unauthorized"), "cluster-unauthorized"),
            (row("192.0.2.1", false, "removing"), "cluster-removing"),
        ] {
            assert_eq!(state(&row), word);
            let text = wide(&json!({"gateways": [row]}));
            for word in [word, "1m15s", "12.5s", "3m20s", "AAAA: SERVFAIL"] {
                assert!(text.contains(word), "{word}: {text}");
            }
        }
        let fixed = json!({"network": "n", "cluster": "", "address": "192.0.2.1", "hostname": null});
        assert_eq!(state(&fixed), "ok");
    }
}
