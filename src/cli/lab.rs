//! `tombolo lab`.

mod scenario;
mod up;

use std::process::ExitCode;

/// Arguments of `tombolo lab`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    up: up::Args,
}

/// What to do; without a word, `up`.
#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Start a lab, check it, stay until Ctrl-C
    Up(Box<up::Args>),
    /// Play a scenario on the running lab: a fault or a change, with a timeline and a verdict
    Scenario(Box<scenario::Args>),
}

/// Form of a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// For people.
    Table,
    /// One JSON object as the last line.
    Json,
}

/// Runs the command.
pub async fn run(args: Args) -> ExitCode {
    match args.action {
        None => up::run(args.up).await,
        Some(Action::Up(up)) => up::run(*up).await,
        Some(Action::Scenario(scenario)) => scenario::run(*scenario).await,
    }
}
