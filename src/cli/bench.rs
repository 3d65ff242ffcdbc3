//! `tombolo bench`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Subcommand, ValueEnum as _};

use super::printing;
use super::table::{self, Output};
use super::{EXIT_FAILURE, EXIT_USAGE, fail};
use crate::sim::bench::{self, Candidate, FigureResult, Phase, Program, Report, Settings, Sizes};
use crate::sim::lab::machine::find_envoy;

/// Arguments of `tombolo bench`. The exit code is 1 if a goal is missed and --check is given.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    part: Option<Part>,
    #[command(flatten)]
    run: RunArgs,
}

/// What else there is.
#[derive(Debug, Subcommand)]
enum Part {
    /// Run phases, as without a subcommand
    Run(Box<RunArgs>),
    /// Compare two reports, figure by figure
    Compare {
        /// bench.json of the one
        before: PathBuf,
        /// bench.json of the other
        after: PathBuf,
        /// Form of the answer
        #[arg(long, short, value_enum, default_value_t)]
        output: Output,
    },
    /// Print a report as SVG
    Plot {
        /// bench.json
        report: PathBuf,
    },
}

#[derive(Debug, clap::Args)]
struct RunArgs {
    /// What to measure, in this order; all for everything [default: all but lists, work, streams and scale]
    #[arg(long, env = "TOMBOLO_BENCH_PHASES", value_name = "PHASE,…", value_delimiter = ',', value_parser = parse_phase)]
    phases: Vec<Phases>,
    /// Clusters, each a network of its own with the same services
    #[arg(long, env = "TOMBOLO_BENCH_CLUSTERS", value_name = "N", value_parser = clap::value_parser!(u8).range(2..))]
    clusters: Option<u8>,
    /// Services in each cluster
    #[arg(long, env = "TOMBOLO_BENCH_SERVICES", value_name = "N", value_parser = clap::value_parser!(u32).range(2..=100_000))]
    services: Option<u32>,
    /// Endpoints of each service in each cluster
    #[arg(long, env = "TOMBOLO_BENCH_ENDPOINTS", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    endpoints: Option<u32>,
    /// Proxies, where a phase does not need another number
    #[arg(long, env = "TOMBOLO_BENCH_PROXIES", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    proxies: Option<u32>,
    /// Seed of worlds and fleets
    #[arg(long, env = "TOMBOLO_BENCH_SEED", value_name = "N", default_value_t = Sizes::STANDARD.seed)]
    seed: u64,
    /// Runs of each phase, in turn with those of the peer; the table has their medians
    #[arg(long, env = "TOMBOLO_BENCH_REPEAT", value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    repeat: u32,
    /// Only try it out: few of everything, no goals, seconds
    #[arg(long, env = "TOMBOLO_BENCH_QUICK")]
    quick: bool,
    /// Envoy of the phase envoy [default: `envoy` in PATH, else what `make envoy` installed; none skips the phase]
    #[arg(long, env = "ENVOY", value_name = "PATH")]
    envoy: Option<PathBuf>,
    /// The binary to measure [default: this one]
    #[arg(long, env = "TOMBOLO_BENCH_SERVER", value_name = "FILE")]
    server: Option<PathBuf>,
    /// Further arguments of its `serve`; may be repeated
    #[arg(long, env = "TOMBOLO_BENCH_SERVE_ARG", value_name = "ARG", allow_hyphen_values = true)]
    serve_arg: Vec<String>,
    /// Another server, measured in turn with ours: a shell command with {kubeconfig}, {grpc}, {http} and {monitoring}
    /// in it; it is ready when {http}/ready answers 200
    #[arg(long, env = "TOMBOLO_BENCH_PEER_CMD", value_name = "CMD")]
    peer_cmd: Option<String>,
    /// Measure the peer alone
    #[arg(long, env = "TOMBOLO_BENCH_PEER_ONLY", requires = "peer_cmd")]
    peer_only: bool,
    /// Write bench.json and bench.svg to this directory
    #[arg(long, env = "TOMBOLO_BENCH_OUT", value_name = "DIR")]
    out: Option<PathBuf>,
    /// Fail if a goal is missed
    #[arg(long, env = "TOMBOLO_BENCH_CHECK")]
    check: bool,
    /// Form of the answer
    #[arg(long, short, env = "TOMBOLO_BENCH_OUTPUT", value_enum, default_value_t)]
    output: Output,
}

/// One word of `--phases`.
#[derive(Debug, Clone, Copy)]
enum Phases {
    All,
    One(Phase),
}

fn parse_phase(text: &str) -> Result<Phases, String> {
    match text {
        "all" => Ok(Phases::All),
        _ => Phase::from_str(text, false).map(Phases::One).map_err(|_| {
            let names: Vec<String> = Phase::value_variants().iter().map(|phase| phase.name()).collect();
            format!("the phases are all, {}", names.join(", "))
        }),
    }
}

/// Runs the command until its end or SIGTERM or SIGINT.
pub async fn run(args: Args) -> ExitCode {
    let outcome = match args.part {
        None => measure(args.run).await,
        Some(Part::Run(run)) => measure(*run).await,
        Some(Part::Compare { before, after, output }) => compare(&before, &after, output),
        Some(Part::Plot { report }) => draw(&report),
    };
    outcome.unwrap_or_else(|error| fail(EXIT_FAILURE, &error))
}

async fn measure(args: RunArgs) -> anyhow::Result<ExitCode> {
    let stop = crate::lifecycle::interrupted().context("cannot catch signals")?;
    let settings = match settings(&args) {
        Ok(settings) => settings,
        Err(error) => return Ok(fail(EXIT_USAGE, &error)),
    };
    if let Some(out) = &args.out {
        std::fs::create_dir_all(out).with_context(|| format!("--out: cannot create {}", out.display()))?;
    }
    // Unbiased: both end it. What runs is ended when it is dropped.
    let report = tokio::select! {
        report = bench::run(&settings, |text| printing::note(&text)) => report?,
        () = stop => anyhow::bail!("interrupted"),
    };
    if let Some(out) = &args.out {
        write(out, &report)?;
    }
    match args.output {
        Output::Table | Output::Wide => printing::data(&summary(&report)),
        form => printing::data(&table::document(form, &report)?),
    };
    let missed = report.targets.iter().flat_map(|target| &target.figures).any(|f| f.is_met() == Some(false));
    Ok(if args.check && missed { ExitCode::from(EXIT_FAILURE) } else { ExitCode::SUCCESS })
}

fn settings(args: &RunArgs) -> anyhow::Result<Settings> {
    let defaults = if args.quick { Sizes::QUICK } else { Sizes::STANDARD };
    let sizes = Sizes {
        clusters: args.clusters.map_or(defaults.clusters, usize::from),
        services: args.services.unwrap_or(defaults.services),
        endpoints: args.endpoints.unwrap_or(defaults.endpoints),
        proxies: args.proxies.map_or(defaults.proxies, |proxies| proxies as usize),
        seed: args.seed,
    };
    let envoy = match &args.envoy {
        Some(path) => Some(find_envoy(Some(path))?),
        None => find_envoy(None).ok(),
    };
    let mut candidates = Vec::new();
    if !args.peer_only {
        let exe = match &args.server {
            Some(path) => path.clone(),
            None => std::env::current_exe().context("cannot find this binary; give --server FILE")?,
        };
        let program = Program::Own { exe, arguments: args.serve_arg.clone() };
        candidates.push(Candidate { name: "tombolo".to_owned(), program });
    }
    if let Some(line) = &args.peer_cmd {
        anyhow::ensure!(
            line.contains("{grpc}"),
            "--peer-cmd: there is no {{grpc}} in it, so nobody would find the peer"
        );
        candidates.push(Candidate { name: "peer".to_owned(), program: Program::Peer(line.clone()) });
    }
    Ok(Settings {
        candidates,
        phases: phases(&args.phases),
        sizes,
        quick: args.quick,
        repeat: args.repeat as usize,
        envoy,
        date: jiff::Timestamp::now().strftime("%Y-%m-%d").to_string(),
    })
}

fn phases(asked: &[Phases]) -> Vec<Phase> {
    let all = Phase::value_variants();
    if asked.is_empty() {
        return all.iter().copied().filter(|phase| !phase.is_big()).collect();
    }
    let mut phases = Vec::new();
    for word in asked {
        match word {
            Phases::All => phases.extend(all),
            Phases::One(phase) => phases.push(*phase),
        }
    }
    phases
}

fn write(out: &Path, report: &Report) -> anyhow::Result<()> {
    let put = |name: &str, text: &str| {
        let path = out.join(name);
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    put("bench.json", &table::document(Output::Json, report)?)?;
    put("bench.svg", &bench::plot(report)?)
}

fn read(path: &Path) -> anyhow::Result<Report> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is no report of a bench", path.display()))
}

fn draw(path: &Path) -> anyhow::Result<ExitCode> {
    printing::data(&bench::plot(&read(path)?)?);
    Ok(ExitCode::SUCCESS)
}

const HEADER: [&str; 8] = ["SERVER", "TARGET", "PHASE", "FIGURE", "VALUE", "UNIT", "GOAL", "VERDICT"];

fn summary(report: &Report) -> String {
    let rows = report
        .targets
        .iter()
        .flat_map(|target| target.figures.iter().map(|figure| row(&target.name, figure)));
    let mut text = table::columns(&HEADER, rows);
    for target in &report.targets {
        for skipped in &target.skipped {
            text += &format!("{}: {} skipped: {}\n", target.name, skipped.phase, skipped.why);
        }
    }
    let machine = &report.machine;
    text += &format!(
        "{}, {} cores, load {} before; medians of {}\n",
        report.date, machine.cores, machine.load, report.repeat
    );
    text
}

fn row(server: &str, figure: &FigureResult) -> Vec<String> {
    let verdict = match figure.is_met() {
        None => "",
        Some(true) => "met",
        Some(false) => "missed",
    };
    [
        server,
        &figure.number,
        &figure.phase,
        &figure.name,
        &number(figure.median),
        &figure.unit,
        &figure.goal.map(number).unwrap_or_default(),
        verdict,
    ]
    .map(str::to_owned)
    .to_vec()
}

/// Three digits that count.
fn number(value: f64) -> String {
    let digits = if value == 0.0 { 0.0 } else { value.abs().log10().floor() };
    format!("{value:.0$}", (2.0 - digits).clamp(0.0, 6.0) as usize)
}

fn compare(before: &Path, after: &Path, output: Output) -> anyhow::Result<ExitCode> {
    let (before, after) = (read(before)?, read(after)?);
    let same = |server: &str, figure: &FigureResult| {
        let old = before.targets.iter().find(|target| target.name == server)?;
        old.figures.iter().find(|old| old.phase == figure.phase && old.name == figure.name)
    };
    let all =
        after.targets.iter().flat_map(|target| target.figures.iter().map(|figure| (&target.name, figure)));
    let pairs: Vec<_> = all.filter_map(|(server, new)| Some((server, same(server, new)?, new))).collect();
    let ratio = |old: f64, new: f64| if old > 0.0 { number(new / old) } else { String::new() };
    let rows = pairs.iter().map(|(server, old, new)| {
        let texts = [number(old.median), number(new.median), new.unit.clone(), ratio(old.median, new.median)];
        [(*server).clone(), new.number.clone(), new.phase.clone(), new.name.clone()]
            .into_iter()
            .chain(texts)
            .collect()
    });
    let header = ["SERVER", "TARGET", "PHASE", "FIGURE", "BEFORE", "AFTER", "UNIT", "RATIO"];
    let text = match output {
        Output::Table | Output::Wide => table::columns(&header, rows),
        form => {
            let rows: Vec<_> = rows
                .map(|row: Vec<String>| header.iter().map(|key| key.to_lowercase()).zip(row).collect())
                .collect::<Vec<std::collections::BTreeMap<String, String>>>();
            table::document(form, &rows)?
        }
    };
    printing::data(&text);
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_that_count() {
        let cases =
            [(0.0, "0.00"), (0.012_345, "0.0123"), (1.2345, "1.23"), (12.345, "12.3"), (12_345.6, "12346")];
        for (value, text) in cases {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn big_phases_are_run_when_named() {
        let names = |words: &[&str]| -> Vec<String> {
            let words: Vec<Phases> = words.iter().map(|word| parse_phase(word).unwrap()).collect();
            phases(&words).into_iter().map(Phase::name).collect()
        };
        assert!(!names(&[]).contains(&"scale".to_owned()) && names(&[]).contains(&"storm".to_owned()));
        assert_eq!(names(&["scale", "storm"]), ["scale", "storm"]);
        assert_eq!(names(&["all"]).len(), Phase::value_variants().len());
        assert!(parse_phase("nothing").unwrap_err().contains("storm"));
    }
}
