//! `tombolo lab up`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::ValueEnum as _;

use super::Output;
use crate::cli::value::number;
use crate::cli::{EXIT_FAILURE, EXIT_USAGE, fail, printing};
use crate::lifecycle;
use crate::sim::kube_apiserver::KubeAssets;
use crate::sim::lab::check::{Check, Verdict};
use crate::sim::lab::control::{listen, serve};
use crate::sim::lab::machine::{Netns, choose_mode, find_envoy};
use crate::sim::lab::outside::{Lifeline, enter, free_loopback};
use crate::sim::lab::plan::{Range, Shape, Sidecars, Topology};
use crate::sim::lab::rundir::RunDir;
use crate::sim::lab::scenario::play;
use crate::sim::lab::world::file::{self, WorldObject};
use crate::sim::lab::{ApiServers, Lab, LabError, Mode, Options, Progress, usage};

/// How often a lab that stays up looks whether all its parts still run.
const LOOK: Duration = Duration::from_secs(1);

/// Arguments of `tombolo lab up`.
#[derive(Debug, Clone, clap::Args)]
#[group(id = "up")]
pub(super) struct Args {
    /// Number of clusters, 1 to 8: east, west, north, south, c5, …
    #[arg(long, env = "TOMBOLO_LAB_CLUSTERS", value_name = "N", default_value_t = 2, value_parser = number::<u8>)]
    clusters: u8,
    /// Number of networks, at most as many as clusters; cluster i is in network i modulo N [default: 2, or 1 for
    /// one cluster]
    #[arg(long, env = "TOMBOLO_LAB_NETWORKS", value_name = "N", value_parser = number::<u8>)]
    networks: Option<u8>,
    /// Which control plane serves which cluster
    #[arg(long, env = "TOMBOLO_LAB_TOPOLOGY", value_enum, default_value_t = Topology::MultiPrimary)]
    topology: Topology,
    /// How traffic gets into sidecars
    #[arg(long, env = "TOMBOLO_LAB_SIDECARS", value_enum, default_value_t = Sidecars::Captured)]
    sidecars: Sidecars,
    /// Kubernetes objects to add, in YAML; annotation tombolo.dev/cluster puts one into one cluster only
    #[arg(long, env = "TOMBOLO_LAB_WORLD", value_name = "FILE", value_delimiter = ',')]
    world: Vec<PathBuf>,
    /// API servers: this program's own, or etcd and kube-apiserver from `make kube-assets`
    #[arg(long, env = "TOMBOLO_LAB_API_SERVER", value_enum, default_value_t = ApiServer::Synthetic)]
    api_server: ApiServer,
    /// Envoy to run [default: `envoy` in PATH, else what `make envoy` installed]
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

impl Args {
    fn networks(&self) -> u8 {
        self.networks.unwrap_or_else(|| self.clusters.clamp(1, 2))
    }
}

/// Which API servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum ApiServer {
    /// This program's own.
    Synthetic,
    /// etcd and kube-apiserver.
    Real,
}

/// What arguments mean, once they are found to mean something.
#[derive(Debug, Clone)]
struct Wanted {
    shape: Shape,
    api: ApiServers,
    world: Vec<WorldObject>,
    envoy: PathBuf,
}

impl Wanted {
    /// What is wrong with the arguments themselves, and what this machine lacks for them.
    fn parse(args: &Args) -> Result<Self, Refusal> {
        let (shape, world) = Self::meaning(args).map_err(Refusal::Usage)?;
        let envoy = find_envoy(args.envoy.as_deref()).map_err(|error| Refusal::Usage(error.into()))?;
        let api = match args.api_server {
            ApiServer::Synthetic => ApiServers::Synthetic,
            ApiServer::Real => {
                ApiServers::Real(KubeAssets::find(None).map_err(|error| Refusal::Machine(error.into()))?)
            }
        };
        Ok(Self { shape, api, world, envoy })
    }

    fn meaning(args: &Args) -> anyhow::Result<(Shape, Vec<WorldObject>)> {
        let shape = Shape::new(args.clusters, args.networks(), args.topology, args.sidecars)?;
        let mut world = Vec::new();
        for path in &args.world {
            world.extend(file::read(path)?);
        }
        file::check_clusters(&world, &shape.cluster_names())?;
        if args.api_server == ApiServer::Synthetic {
            file::check_kinds(&world)?;
        }
        if args.netns == Netns::Off && args.api_server == ApiServer::Real {
            return Err(real_on_loopback().into());
        }
        Ok((shape, world))
    }

    fn options(
        self,
        run_dir: &Path,
        range: Range,
        host_pid: Option<u32>,
        progress: Progress,
    ) -> anyhow::Result<Options> {
        Ok(Options {
            shape: self.shape,
            api: self.api,
            world: self.world,
            exe: own_file()?,
            envoy: self.envoy,
            run_dir: run_dir.to_owned(),
            range,
            host_pid,
            progress,
        })
    }
}

/// Why there is no lab.
enum Refusal {
    /// The arguments are wrong.
    Usage(anyhow::Error),
    /// The machine lacks something.
    Machine(anyhow::Error),
}

fn own_file() -> anyhow::Result<PathBuf> {
    std::env::current_exe().context("cannot find this program's own file")
}

/// Runs the command.
pub(super) async fn run(args: Args) -> ExitCode {
    let wanted = match Wanted::parse(&args) {
        Ok(wanted) => wanted,
        Err(refusal) => {
            let (code, error) = match refusal {
                Refusal::Usage(error) => (EXIT_USAGE, error),
                Refusal::Machine(error) => (EXIT_FAILURE, error),
            };
            print_not_started(&args, &error);
            return fail(code, &error);
        }
    };
    let outcome = if args.inside { inside(&args, wanted).await } else { outside(&args, wanted).await };
    outcome.unwrap_or_else(|error| {
        print_not_started(&args, &error);
        fail(EXIT_FAILURE, &error)
    })
}

/// Whoever waits for a verdict in JSON gets one.
fn print_not_started(args: &Args, error: &anyhow::Error) {
    if args.exit_after_check && args.output == Output::Json {
        print(args, &not_started(error));
    }
}

/// The first process: decides the mode, makes the run directory, and in namespaces mode starts the second.
async fn outside(args: &Args, wanted: Wanted) -> anyhow::Result<ExitCode> {
    let progress = progress();
    let shutdown = lifecycle::interrupted().context("cannot catch signals")?;
    let (mode, why) = choose_mode(args.netns).await?;
    progress(&why);
    if mode == Mode::Loopback && wanted.api != ApiServers::Synthetic {
        return Err(real_on_loopback().into());
    }
    let run_dir = RunDir::create(args.run_dir.as_deref())?;
    if mode == Mode::Loopback {
        let claim = free_loopback()?;
        let options = wanted.options(run_dir.path(), claim.range(), None, progress)?;
        return up(args, options, shutdown).await;
    }
    let inner = enter(&own_file()?, &inner_arguments(args, &wanted, &run_dir)?).await?;
    let status = inner.wait(shutdown).await?;
    let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(EXIT_FAILURE);
    Ok(ExitCode::from(code))
}

/// Kubernetes refuses endpoints in 127.0.0.0/8, and a lab without namespaces has no other addresses.
fn real_on_loopback() -> LabError {
    LabError::Missing {
        what: "real API servers refuse endpoints on loopback addresses, and --netns off has no others"
            .to_owned(),
        hint: "use --netns on as root, or --api-server synthetic".to_owned(),
    }
}

/// The same arguments for the second process, paths resolved.
fn inner_arguments(args: &Args, wanted: &Wanted, run_dir: &RunDir) -> anyhow::Result<Vec<OsString>> {
    let word =
        |value: Option<clap::builder::PossibleValue>| value.map(|value| OsString::from(value.get_name()));
    let mut arguments: Vec<OsString> = vec!["lab".into(), "up".into(), "--inside".into()];
    arguments.extend(["--clusters".into(), args.clusters.to_string().into()]);
    arguments.extend(["--networks".into(), args.networks().to_string().into()]);
    for (flag, value) in [
        ("--topology", word(args.topology.to_possible_value())),
        ("--sidecars", word(args.sidecars.to_possible_value())),
        ("--api-server", word(args.api_server.to_possible_value())),
        ("--output", word(args.output.to_possible_value())),
    ] {
        arguments.extend([flag.into(), value.unwrap_or_default()]);
    }
    for path in &args.world {
        let path = std::path::absolute(path).with_context(|| format!("cannot find {}", path.display()))?;
        arguments.extend(["--world".into(), path.into()]);
    }
    arguments.extend(["--envoy".into(), wanted.envoy.clone().into()]);
    arguments.extend(["--run-dir".into(), run_dir.path().into()]);
    if args.exit_after_check {
        arguments.push("--exit-after-check".into());
    }
    Ok(arguments)
}

/// The second process: the lab itself, in namespaces of its own.
async fn inside(args: &Args, wanted: Wanted) -> anyhow::Result<ExitCode> {
    let interrupted = lifecycle::interrupted().context("cannot catch signals")?;
    let (lifeline, said) = Lifeline::listen().await?;
    let run_dir = args.run_dir.clone().context("--inside needs --run-dir")?;
    let options = wanted.options(&run_dir, said.range, Some(said.host_pid), progress())?;
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
        () = &mut shutdown => {
            progress("interrupted before the lab was up: what was started is being killed");
            return Ok(ExitCode::from(EXIT_FAILURE));
        }
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
            printing::line(&usage::what_to_try(&lab));
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
        Output::Json => printing::line(&serde_json::to_string(verdict).unwrap_or_default()),
        Output::Table => printing::line(&table(verdict)),
    };
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

/// Short lines on stderr with the time since the start.
fn progress() -> Progress {
    let start = Instant::now();
    Arc::new(move |line| printing::talk(start, line))
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
