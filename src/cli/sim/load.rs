//! `tombolo sim load`.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::cli::printing::{self, Reader};
use crate::cli::value::{number, time};
use crate::cli::{EXIT_FAILURE, EXIT_USAGE, fail};
use crate::sim::load::{self, Connections, LoadSettings, Report, Until};

/// Arguments of `tombolo sim load`. The exit code is 1 if a request failed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Plain http:// URL
    #[arg(long, env = "TOMBOLO_LOAD_URL", value_name = "URL")]
    url: String,
    /// Host header instead of the URL's host and port
    #[arg(long, env = "TOMBOLO_LOAD_HOST", value_name = "NAME")]
    host: Option<String>,
    /// Requests started per second
    #[arg(long, env = "TOMBOLO_LOAD_RATE", value_name = "N", default_value_t = 50.0)]
    rate: f64,
    /// Stop after this time [default: 10s]
    #[arg(long, env = "TOMBOLO_LOAD_DURATION", value_name = "TIME", value_parser = time,
          conflicts_with = "count")]
    duration: Option<Duration>,
    /// Stop after this many requests
    #[arg(long, env = "TOMBOLO_LOAD_COUNT", value_name = "N", value_parser = number::<u64>)]
    count: Option<u64>,
    /// How long one request may take
    #[arg(long, env = "TOMBOLO_LOAD_TIMEOUT", value_name = "TIME", value_parser = time,
          default_value = "2s")]
    timeout: Duration,
    /// Most requests under way at once
    #[arg(long, env = "TOMBOLO_LOAD_CONCURRENCY", value_name = "N", default_value_t = 4, value_parser = number::<usize>)]
    concurrency: usize,
    /// Open a connection for every request
    #[arg(long, env = "TOMBOLO_LOAD_NEW_CONNECTIONS")]
    new_connections: bool,
    /// Time between two lines
    #[arg(long, env = "TOMBOLO_LOAD_INTERVAL", value_name = "TIME", value_parser = time,
          default_value = "250ms")]
    interval: Duration,
    /// Form of the lines; each counts since the line before, the last one everything
    #[arg(long, short, env = "TOMBOLO_LOAD_OUTPUT", value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Form of the lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// For people.
    Text,
    /// One JSON object per line; the last has `"final": true`.
    Json,
}

/// Runs the command until its end or SIGTERM or SIGINT.
pub(super) async fn run(args: Args) -> ExitCode {
    let stop = match crate::lifecycle::interrupted().context("cannot catch signals") {
        Ok(stop) => stop,
        Err(error) => return fail(EXIT_FAILURE, &error),
    };
    let output = args.output;
    // Whoever reads a few lines only, such as `head`, wants no more requests either.
    let unread = Notify::new();
    let stop = async {
        // Unbiased: either is the end.
        tokio::select! {
            () = stop => {}
            () = unread.notified() => {}
        }
    };
    let interim = |report: &Report| {
        if print(output, report, Position::Interim) == Reader::Gone {
            unread.notify_one();
        }
    };
    match load::run(&settings(args), stop, interim).await {
        Err(error) => fail(EXIT_USAGE, &error.into()),
        Ok(report) => {
            print(output, &report, Position::Final);
            if report.tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILURE) }
        }
    }
}

fn settings(args: Args) -> LoadSettings {
    LoadSettings {
        url: args.url,
        host: args.host,
        rate: args.rate,
        until: match args.count {
            Some(count) => Until::Count(count),
            None => Until::Elapsed(args.duration.unwrap_or(Duration::from_secs(10))),
        },
        timeout: args.timeout,
        concurrency: args.concurrency,
        connections: if args.new_connections { Connections::New } else { Connections::Reused },
        interval: args.interval,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Position {
    Interim,
    Final,
}

fn print(output: Output, report: &Report, position: Position) -> Reader {
    let mut value = json!(report);
    if position == Position::Final {
        value["final"] = json!(true);
    }
    match output {
        Output::Json => printing::line(&value),
        Output::Text => printing::line(&text(report, &value)),
    }
}

fn text(report: &Report, value: &Value) -> String {
    let what = if value["final"] == true { "total" } else { "     " };
    let counts = |value: &Value| {
        let pairs = value.as_object().into_iter().flatten().map(|(key, count)| format!("{key}={count}"));
        pairs.collect::<Vec<_>>().join(" ")
    };
    let tally = &report.tally;
    format!(
        "{what} {:>8} ms  ok {:>6}  failed {:>4}  {}  {}",
        report.t_ms,
        tally.ok,
        tally.failed,
        counts(&value["by"]),
        counts(&value["errors"])
    )
}
