//! `tombolo lab scenario`.

mod text;

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::sync::Notify;

use self::text::Look;
use super::Output;
use crate::cli::printing::{data, talk};
use crate::cli::value::{number, some_time};
use crate::cli::{EXIT_FAILURE, EXIT_USAGE, fail};
use crate::lifecycle;
use crate::sim::lab::control::{ControlError, Reply, Request, ask, find};
use crate::sim::lab::scenario::{Report, SCENARIOS, Scenario};

/// The name that lists.
const LIST: &str = "list";

/// Arguments of `tombolo lab scenario`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Which scenario; `list` describes them
    #[arg(value_name = "NAME", required_unless_present = "list")]
    name: Option<String>,
    /// Describe the scenarios
    #[arg(long)]
    list: bool,
    /// The lab's directory [default: that of the only lab running]
    #[arg(long, env = "TOMBOLO_LAB_RUN_DIR", value_name = "DIR")]
    run_dir: Option<PathBuf>,
    /// The cluster it happens to [default: the last one; for kill-control-plane the first]
    #[arg(long, env = "TOMBOLO_LAB_CLUSTER", value_name = "CLUSTER")]
    cluster: Option<String>,
    /// How long the fault lasts [default: 5s]
    #[arg(long = "for", env = "TOMBOLO_LAB_FOR", value_name = "TIME", value_parser = some_time)]
    lasts: Option<Duration>,
    /// scale: replicas, one after the other [default: 3,0,1]
    #[arg(long, env = "TOMBOLO_LAB_TO", value_name = "N,…", value_delimiter = ',', value_parser = number::<u32>)]
    to: Option<Vec<u32>>,
    /// flap: how often [default: 20]
    #[arg(long, env = "TOMBOLO_LAB_TIMES", value_name = "N", value_parser = number::<u32>)]
    times: Option<u32>,
    /// Form of the timeline and the verdict
    #[arg(long, short, env = "TOMBOLO_LAB_OUTPUT", value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// Runs the command.
pub(super) async fn run(args: Args) -> ExitCode {
    match play(&args).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(EXIT_FAILURE),
        Err(error) => {
            let usage = match error.downcast_ref::<ControlError>() {
                Some(error) => error.is_usage(),
                None => error.is::<Unknown>(),
            };
            fail(if usage { EXIT_USAGE } else { EXIT_FAILURE }, &error)
        }
    }
}

/// *Fatal*: there is no such scenario.
#[derive(Debug, thiserror::Error)]
#[error("there is no scenario {name:?}; there are {}", names())]
struct Unknown {
    name: String,
}

fn names() -> String {
    SCENARIOS.iter().map(|scenario| scenario.name).collect::<Vec<_>>().join(", ")
}

/// Whether all expectations held.
async fn play(args: &Args) -> anyhow::Result<bool> {
    let name = args.name.as_deref().unwrap_or(LIST);
    if args.list || name == LIST {
        list(args.output)?;
        return Ok(true);
    }
    if !SCENARIOS.iter().any(|scenario| scenario.name == name) {
        return Err(Unknown { name: name.to_owned() }.into());
    }
    let interrupted = lifecycle::interrupted().context("cannot catch signals")?;
    let run_dir = find(args.run_dir.as_deref(), &std::env::temp_dir()).await?;
    let look = Look::of(std::io::stdout().is_terminal());
    let begun = Instant::now();
    let mut head = Some(text::head(look));
    let cut = Notify::new();
    let request = request(name, args);
    let asking = ask(&run_dir, &request, cut.notified(), |reply| match reply {
        Reply::Say(line) => talk(begun, &line),
        Reply::Row(row) if args.output == Output::Table => {
            data(&(head.take().unwrap_or_default() + &text::row(&row, look)));
        }
        Reply::Row(row) => row.marks.iter().for_each(|mark| talk(begun, &mark.what)),
        _ => {}
    });
    let leaving = async {
        interrupted.await;
        talk(begun, "stopping: the lab restores itself first; Ctrl-C again leaves at once");
        cut.notify_one();
        again(lifecycle::interrupted()).await;
    };
    // Unbiased: whoever leaves at the very end may see the report or not.
    let report = tokio::select! {
        report = asking => report?,
        () = leaving => anyhow::bail!("left before the end; the lab restores itself"),
    };
    show(args.output, &report, look)?;
    Ok(report.ok)
}

/// Completes with the next signal; never if none can be caught.
async fn again(interrupted: std::io::Result<impl Future<Output = ()>>) {
    match interrupted {
        Ok(interrupted) => interrupted.await,
        Err(_) => std::future::pending().await,
    }
}

fn request(name: &str, args: &Args) -> Request {
    Request {
        scenario: name.to_owned(),
        cluster: args.cluster.clone(),
        for_ms: args.lasts.map(|lasts| u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX)),
        to: args.to.clone(),
        times: args.times,
    }
}

fn show(output: Output, report: &Report, look: Look) -> anyhow::Result<()> {
    match output {
        Output::Json => data(&(serde_json::to_string(report)? + "\n")),
        Output::Table => data(&text::verdict(report, look)),
    };
    Ok(())
}

fn list(output: Output) -> anyhow::Result<()> {
    match output {
        Output::Json => data(&(serde_json::to_string(&described_all())? + "\n")),
        Output::Table => data(&SCENARIOS.iter().map(described).collect::<Vec<_>>().join("\n")),
    };
    Ok(())
}

fn described_all() -> Vec<serde_json::Value> {
    let one = |scenario: &Scenario| {
        let expects: Vec<_> = scenario.expects().collect();
        let Scenario { name, about, takes, .. } = scenario;
        serde_json::json!({"name": name, "about": about, "takes": takes, "expects": expects})
    };
    SCENARIOS.iter().map(one).collect()
}

fn described(scenario: &Scenario) -> String {
    let width = scenario.expects().map(|expected| expected.name.len()).max().unwrap_or(0);
    let takes: String = scenario.takes.iter().map(|option| format!(" [{option}]")).collect();
    let mut text = format!("{}{takes}\n  {}\n", scenario.name, scenario.about);
    for expected in scenario.expects() {
        text += &format!("    {:width$}  {}\n", expected.name, expected.what);
    }
    text
}
