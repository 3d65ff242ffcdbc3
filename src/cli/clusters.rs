//! `tombolo clusters`.

use std::process::ExitCode;

use serde_json::Value;

use super::client::{self, ServerArgs, rows, text};
use super::table::{self, Output};

/// Arguments of `tombolo clusters`.
#[derive(Debug, clap::Args)]
pub struct Args {
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
    let answer = client::fetch(&args.server, "/debug/clusters").await?;
    table::show(args.output, &answer, short, wide)
}

fn short(answer: &Value) -> String {
    let line = |row: &Value| {
        ["id", "role", "syncStatus", "health", "network", "source"].map(|key| text(row, key)).to_vec()
    };
    let header = ["NAME", "ROLE", "STATUS", "HEALTH", "NETWORK", "SOURCE"];
    table::columns(&header, rows(&answer["clusters"]).iter().map(line)) + &problems(answer)
}

fn wide(answer: &Value) -> String {
    let line = |row: &Value| {
        let mut cells = ["id", "role", "syncStatus", "health", "detail", "since", "lastEvent", "network"]
            .map(|key| text(row, key))
            .to_vec();
        let objects = row["objects"].as_object().into_iter().flatten();
        let objects: Vec<_> = objects.map(|(kind, count)| format!("{kind}={count}")).collect();
        cells.push(objects.join(","));
        cells.push(rows(&row["quarantined"]).len().to_string());
        cells.push(text(row, "pendingPods"));
        cells.push(text(row, "source"));
        cells
    };
    let header = [
        "NAME",
        "ROLE",
        "STATUS",
        "HEALTH",
        "DETAIL",
        "SINCE",
        "LAST-EVENT",
        "NETWORK",
        "OBJECTS",
        "UNREADABLE",
        "PENDING-PODS",
        "SOURCE",
    ];
    table::columns(&header, rows(&answer["clusters"]).iter().map(line)) + &problems(answer)
}

fn problems(answer: &Value) -> String {
    let line = |row: &Value| vec![text(row, "subject"), text(row, "text")];
    let problems = rows(&answer["problems"]);
    if problems.is_empty() {
        return String::new();
    }
    format!("\n{}", table::columns(&["ABOUT", "PROBLEM"], problems.iter().map(line)))
}
