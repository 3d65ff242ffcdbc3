//! `tombolo sim`: the synthetic parts, each usable alone.

mod apiserver;
mod app;
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
    /// Send HTTP requests at a steady rate and count who answered
    Load(Box<load::Args>),
}

/// Runs the command.
pub async fn run(args: Args) -> ExitCode {
    match args.part {
        Part::Apiserver(args) => apiserver::run(*args).await,
        Part::App(args) => app::run(*args).await,
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
        .try_init();
}

/// Prints one line of data and flushes it, so that a reading process sees it at once.
#[allow(clippy::print_stdout)]
fn print_line(line: &impl std::fmt::Display) {
    use std::io::Write as _;
    println!("{line}");
    // A reader that went away wants nothing more.
    let _ = std::io::stdout().flush();
}

/// Tells the user something on stderr that is no error.
#[allow(clippy::print_stderr)]
fn print_note(text: &str) {
    eprintln!("tombolo: {text}");
}
