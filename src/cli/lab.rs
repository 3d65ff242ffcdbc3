//! `tombolo lab`.

mod scenario;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::{EXIT_FAILURE, EXIT_USAGE, fail};
use crate::lifecycle;
use crate::sim::lab::check::{Check, Verdict};
use crate::sim::lab::control::{listen, serve};
use crate::sim::lab::machine::{Netns, choose_mode, find_envoy};
use crate::sim::lab::outside::{Lifeline, enter, free_loopback};
use crate::sim::lab::plan::Shape;
use crate::sim::lab::rundir::RunDir;
use crate::sim::lab::scenario::play;
use crate::sim::lab::{Lab, LabError, Mode, Options, Progress, usage};

/// How often a lab that stays up looks whether all its parts still run.
const LOOK: Duration = Duration::from_secs(1);

/// Arguments of `tombolo lab`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    /// Something else than to run a lab.
    #[command(subcommand)]
    command: Option<Command>,
    /// What to do
    #[arg(value_enum, default_value_t = Action::Up)]
    action: Action,
    /// Number of clusters; 2 for now
    #[arg(long, env = "TOMBOLO_LAB_CLUSTERS", value_name = "N", default_value_t = 2)]
    clusters: u8,
    /// Number of networks; 2 for now
    #[arg(long, env = "TOMBOLO_LAB_NETWORKS", value_name = "N", default_value_t = 2)]
    networks: u8,
    /// Envoy to run [default: `envoy` in PATH]
    #[arg(long, env = "ENVOY", value_name = "PATH")]
    envoy: Option<PathBuf>,
    /// Whether each pod gets a network namespace
    #[arg(long, env = "TOMBOLO_LAB_NETNS", value_enum, default_value_t = Netns::Auto)]
    netns: Netns,
    /// Run the check and exit with its verdict
    #[arg(long, env = "TOMBOLO_LAB_EXIT_AFTER_CHECK")]
    exit_after_check: bool,
    /// Form of the verdict
    #[arg(long, short, env = "TOMBOLO_LAB_OUTPUT", value_enum, default_value_t = Output::Table)]
    output: Output,
    /// Keep logs and generated files here [default: a temporary directory that goes with the lab]
    #[arg(long, env = "TOMBOLO_LAB_RUN_DIR", value_name = "DIR")]
    run_dir: Option<PathBuf>,
    /// For the lab itself: this process is already in the lab's namespaces
    #[arg(long, hide = true)]
    inside: bool,
}

/// What to do about a running lab.
#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Play a scenario on the running lab: a fault or a change, with a timeline and a verdict
    Scenario(Box<scenario::Args>),
}

/// What the lab does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Action {
    /// Start it, check it, stay
    Up,
}

/// Form of the verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// For people.
    Table,
    /// One JSON object as the last line.
    Json,
}

/// Runs the command.
pub async fn run(args: Args) -> ExitCode {
    if let Some(Command::Scenario(args)) = args.command {
        return scenario::run(*args).await;
    }
    let Action::Up = args.action;
    if (args.clusters, args.networks) != (2, 2) {
        let asked = format!("{} clusters on {} networks", args.clusters, args.networks);
        return fail(EXIT_USAGE, &anyhow::anyhow!("{asked}: the lab has 2 clusters on 2 networks for now"));
    }
    let outcome = if args.inside { inside(&args).await } else { outside(&args).await };
    outcome.unwrap_or_else(|error| {
        if args.exit_after_check && args.output == Output::Json {
            print(&args, &not_started(&error));
        }
        fail(EXIT_FAILURE, &error)
    })
}

/// The first process: decides the mode, makes the run directory, and in namespaces mode starts the second.
async fn outside(args: &Args) -> anyhow::Result<ExitCode> {
    let progress = progress();
    let shutdown = lifecycle::interrupted().context("cannot catch signals")?;
    let envoy = find_envoy(args.envoy.as_deref())?;
    let (mode, why) = choose_mode(args.netns).await?;
    progress(&why);
    let run_dir = RunDir::create(args.run_dir.as_deref())?;
    let exe = std::env::current_exe().context("cannot find this program's own file")?;
    if mode == Mode::Loopback {
        let claim = free_loopback()?;
        let options = Options {
            shape: Shape::default(),
            exe,
            envoy,
            run_dir: run_dir.path().to_owned(),
            range: claim.range(),
            host_pid: None,
            progress,
        };
        return up(args, options, shutdown).await;
    }
    let inner = enter(&exe, &inner_arguments(args, &envoy, &run_dir)).await?;
    let status = inner.wait(shutdown).await?;
    let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(EXIT_FAILURE);
    Ok(ExitCode::from(code))
}

fn inner_arguments(args: &Args, envoy: &std::path::Path, run_dir: &RunDir) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = vec!["lab".into(), "--inside".into()];
    arguments.extend(["--envoy".into(), envoy.into()]);
    arguments.extend(["--run-dir".into(), run_dir.path().into()]);
    if args.exit_after_check {
        arguments.push("--exit-after-check".into());
    }
    if args.output == Output::Json {
        arguments.extend(["-o".into(), "json".into()]);
    }
    arguments
}

/// The second process: the lab itself, in namespaces of its own.
async fn inside(args: &Args) -> anyhow::Result<ExitCode> {
    let interrupted = lifecycle::interrupted().context("cannot catch signals")?;
    let (lifeline, said) = Lifeline::listen().await?;
    let options = Options {
        shape: Shape::default(),
        exe: std::env::current_exe().context("cannot find this program's own file")?,
        envoy: args.envoy.clone().context("--inside needs --envoy")?,
        run_dir: args.run_dir.clone().context("--inside needs --run-dir")?,
        range: said.range,
        host_pid: Some(said.host_pid),
        progress: progress(),
    };
    let shutdown = async {
        // Unbiased: either is the order to stop.
        tokio::select! {
            () = interrupted => {}
            () = lifeline.cut() => {}
        }
    };
    up(args, options, shutdown).await
}

/// Starts the lab, checks it, and stays until `shutdown` unless told otherwise.
async fn up(args: &Args, options: Options, shutdown: impl Future<Output = ()>) -> anyhow::Result<ExitCode> {
    let progress = Arc::clone(&options.progress);
    tokio::pin!(shutdown);
    // Biased: an interrupted start is given up; dropping it kills what was started.
    let lab = tokio::select! {
        biased;
        () = &mut shutdown => return Ok(ExitCode::from(EXIT_FAILURE)),
        started = Lab::start(options) => Arc::new(started?),
    };
    let outcome = tokio::select! {
        biased;
        () = &mut shutdown => None,
        verdict = lab.check() => Some(verdict),
    };
    let mut ok = outcome.as_ref().is_some_and(|verdict| verdict.ok);
    if let Some(verdict) = outcome {
        print(args, &verdict);
        if !verdict.ok {
            progress(&format!("logs of what may be to blame:\n{}", lab.log_tails()));
        }
        if !args.exit_after_check {
            say(&usage::what_to_try(&lab));
            let ended = tokio::select! {
                biased;
                () = &mut shutdown => None,
                () = scenarios(&lab) => None,
                ended = watch(&lab) => Some(ended),
            };
            if let Some(error) = ended {
                ok = false;
                progress(&error.to_string());
            }
        }
    }
    progress("stopping");
    lab.stop().await;
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILURE) })
}

/// Plays scenarios for whoever asks at the control socket; never completes.
async fn scenarios(lab: &Arc<Lab>) {
    match listen(lab.run_dir()) {
        Ok(listener) => {
            serve(listener, |request, replies, cancel| play(Arc::clone(lab), request, replies, cancel)).await;
        }
        Err(error) => {
            lab.say(&format!("{:#}; there are no scenarios", anyhow::Error::from(error)));
            std::future::pending().await
        }
    }
}

/// Completes when a part of the lab ends by itself.
async fn watch(lab: &Lab) -> LabError {
    loop {
        tokio::time::sleep(LOOK).await;
        if let Err(error) = lab.check_running() {
            return error;
        }
    }
}

/// The verdict of a lab that did not come up.
fn not_started(error: &anyhow::Error) -> Verdict {
    let check = Check { name: "start", ok: false, detail: format!("{error:#}") };
    Verdict { ok: false, mode: "none", checks: vec![check] }
}

fn print(args: &Args, verdict: &Verdict) {
    match args.output {
        Output::Json => say(&serde_json::to_string(verdict).unwrap_or_default()),
        Output::Table => say(&table(verdict)),
    }
}

fn table(verdict: &Verdict) -> String {
    let width = verdict.checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
    let rows: Vec<String> = verdict
        .checks
        .iter()
        .map(|check| {
            format!("{:width$}  {:6}  {}", check.name, if check.ok { "ok" } else { "FAILED" }, check.detail)
        })
        .collect();
    let failed = verdict.checks.iter().filter(|check| !check.ok).count();
    let total = verdict.checks.len();
    format!("{}\n\n{} of {total} checks ok ({} mode)", rows.join("\n"), total - failed, verdict.mode)
}

#[allow(clippy::print_stdout)]
fn say(text: &str) {
    println!("{text}");
}

/// Short lines on stderr with the time since the start.
#[allow(clippy::print_stderr)]
fn progress() -> Progress {
    let start = Instant::now();
    Arc::new(move |line| eprintln!("{:>6.1}s  {line}", start.elapsed().as_secs_f64()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lab_that_does_not_start_has_a_verdict() {
        let verdict = not_started(&anyhow::anyhow!("no envoy is in PATH"));
        let json = serde_json::json!(verdict);
        assert_eq!(json["ok"], false);
        assert_eq!(json["checks"][0]["detail"], "no envoy is in PATH");
    }

    #[test]
    fn the_table_names_what_failed() {
        let verdict = not_started(&anyhow::anyhow!("boom"));
        let text = table(&verdict);
        assert!(text.contains("start") && text.contains("FAILED") && text.contains("0 of 1 checks ok"));
    }
}
