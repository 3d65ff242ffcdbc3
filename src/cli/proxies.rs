//! `tombolo proxies`.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;

use super::client::{self, ServerArgs, encode, rows, text};
use super::table::{self, Output};

/// The types, in the order of the columns.
const TYPES: [&str; 5] = ["cds", "lds", "eds", "rds", "sds"];

/// Arguments of `tombolo proxies`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    server: ServerArgs,
    /// Only proxies of this namespace
    #[arg(long, short, value_name = "NS")]
    namespace: Option<String>,
    /// Form of the answer
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

/// Runs the command.
pub async fn run(args: Args) -> ExitCode {
    client::finish(show(&args).await)
}

async fn show(args: &Args) -> anyhow::Result<()> {
    let namespace = args.namespace.as_deref().map(encode);
    let query = namespace.map(|namespace| format!("?namespace={namespace}"));
    let answer = client::fetch(&args.server, &format!("/debug/proxies{}", query.unwrap_or_default())).await?;
    table::show(args.output, &answer, short, wide)
}

fn short(answer: &Value) -> String {
    let line = |row: &Value| {
        let mut cells = ["proxy", "cluster", "network", "type", "version"].map(|key| text(row, key)).to_vec();
        cells.push(status(row).to_owned());
        cells.push(subscribed(row));
        cells
    };
    let header = ["NAME", "CLUSTER", "NETWORK", "TYPE", "VERSION", "STATUS", "SUBSCRIBED"];
    table::columns(&header, rows(answer).iter().map(line))
}

/// The state of the type that needs most attention: a rejection, then an answer that is not accepted yet.
fn status(row: &Value) -> &'static str {
    let any = |word: &str| TYPES.iter().any(|kind| row["types"][*kind]["status"] == word);
    ["ERROR", "STALE"].into_iter().find(|word| any(word)).unwrap_or("SYNCED")
}

/// `4 (CDS,LDS,EDS,RDS)`, as istioctl counts.
fn subscribed(row: &Value) -> String {
    let types: Vec<_> = TYPES
        .iter()
        .filter(|kind| row["types"].get(**kind).is_some())
        .map(|kind| kind.to_uppercase())
        .collect();
    format!("{} ({})", types.len(), types.join(","))
}

fn wide(answer: &Value) -> String {
    let line = |row: &Value| {
        let mut cells =
            ["proxy", "cluster", "network", "type", "version", "protocol"].map(|key| text(row, key)).to_vec();
        cells.extend(TYPES.map(|kind| state(&row["types"][kind])));
        cells.push(ago(&row["connectedMs"]));
        cells.push(text(row, "peer"));
        cells
    };
    let header = [
        "NAME",
        "CLUSTER",
        "NETWORK",
        "TYPE",
        "VERSION",
        "PROTOCOL",
        "CDS",
        "LDS",
        "EDS",
        "RDS",
        "SDS",
        "CONNECTED",
        "FROM",
    ];
    table::columns(&header, rows(answer).iter().map(line))
}

/// `SYNCED (3s)`; `IGNORED` for a type the proxy did not ask for.
fn state(kind: &Value) -> String {
    match kind["status"].as_str() {
        None => "IGNORED".to_owned(),
        Some(status) if kind["sentAgeMs"].is_null() => status.to_owned(),
        Some(status) => format!("{status} ({})", ago(&kind["sentAgeMs"])),
    }
}

fn ago(millis: &Value) -> String {
    let seconds = millis.as_u64().unwrap_or_default() / 1000;
    let text = humantime::format_duration(Duration::from_secs(seconds)).to_string();
    text.split(' ').take(2).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_type_has_its_state() {
        let answer = json!([{"proxy": "sleep.sample", "cluster": "east", "network": "net-east", "type": "sidecar",
            "version": "", "protocol": "delta", "connectedMs": 61_000, "peer": "10.0.0.1:1",
            "types": {"cds": {"status": "SYNCED", "sentAgeMs": 2000}, "eds": {"status": "NOT_SENT"}}}]);
        assert!(short(&answer).contains("SYNCED  2 (CDS,EDS)"));
        let wide = wide(&answer);
        for words in ["SYNCED (2s)", "NOT_SENT", "IGNORED", "1m1s"] {
            assert!(wide.contains(words), "{wide}");
        }
    }

    #[test]
    fn the_worst_type_is_the_proxys_state() {
        let of = |cds: &str, eds: &str| {
            status(&json!({"types": {"cds": {"status": cds}, "eds": {"status": eds}}}))
        };
        assert_eq!(of("SYNCED", "NOT_SENT"), "SYNCED");
        assert_eq!(of("SYNCED", "STALE"), "STALE");
        assert_eq!(of("ERROR", "STALE"), "ERROR");
    }
}
