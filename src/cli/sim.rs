//! `tombolo sim`: the synthetic parts, each usable alone.

mod apiserver;
mod app;
mod fleet;
mod load;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Subcommand;

/// Arguments of `tombolo sim`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which part.
    #[command(subcommand)]
    pub part: Part,
}

/// The synthetic parts.
#[derive(Debug, Subcommand)]
pub enum Part {
    /// Run a synthetic Kubernetes API server that kubectl and client libraries accept
    Apiserver(Box<apiserver::Args>),
    /// Run the echo application of the lab
    App(Box<app::Args>),
    /// Act as many proxies at once against an ADS server and count what comes
    Fleet(Box<fleet::Args>),
    /// Send HTTP requests at a steady rate and count who answered
    Load(Box<load::Args>),
}

/// Runs the command.
pub async fn run(args: Args) -> ExitCode {
    match args.part {
        Part::Apiserver(args) => apiserver::run(*args).await,
        Part::App(args) => app::run(*args).await,
        Part::Fleet(args) => fleet::run(*args).await,
        Part::Load(args) => load::run(*args).await,
    }
}

/// Logs this crate's debug messages to stderr.
fn log_verbosely() {
    // A second subscriber is refused; the first one then already logs.
    let _ = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        // Colours are for people.
        .with_ansi(std::io::stderr().is_terminal())
        .with_env_filter("tombolo=debug")
        // A reader that went away wants nothing more.
        .log_internal_errors(false)
        .try_init();
}
