//! Arguments, tables and exit codes: every command a person types.
//!
//! stdout carries data, stderr talk. Exit codes: 0 ok, 1 a runtime failure or a failed check, 2 usage or
//! configuration.

pub mod bench;
mod client;
pub mod clusters;
pub mod dump;
pub mod endpoints;
pub mod explain;
pub mod gateways;
pub mod lab;
pub mod policies;
mod printing;
pub mod proxies;
mod question;
pub mod serve;
pub mod services;
pub mod sim;
mod table;
mod value;
pub mod version;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Cross-cluster endpoint discovery for Envoy.
#[derive(Debug, Parser)]
#[command(name = "tombolo", version, about, max_term_width = 110)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the discovery server
    Serve(Box<serve::Args>),
    /// Run a multi-cluster lab on this machine: API servers, control planes, real Envoys
    Lab(Box<lab::Args>),
    /// Synthetic parts: API servers, the echo application, load, fleets of proxies
    Sim(Box<sim::Args>),
    /// Measure what a discovery server costs, phase by phase
    Bench(Box<bench::Args>),
    /// Act as a proxy against any ADS server and print what it sends
    Dump(dump::Args),
    /// Show the endpoints a proxy gets for a host
    Endpoints(endpoints::Args),
    /// Explain why a proxy gets an endpoint of a host, or does not
    Explain(explain::Args),
    /// Show the clusters the server watches and how fresh they are
    Clusters(clusters::Args),
    /// Show the services of all clusters, their endpoints and where clusters disagree
    Services(services::Args),
    /// Show the gateways of every network
    Gateways(gateways::Args),
    /// Show the policies that are read, what is wrong with each, and what has no effect across them
    Policies(policies::Args),
    /// Show the connected proxies and what was sent to and accepted by each
    Proxies(proxies::Args),
    /// Print the version
    Version(version::Args),
}

/// Exit code of a failed run or a failed check.
pub const EXIT_FAILURE: u8 = 1;
/// Exit code of wrong usage or configuration.
pub const EXIT_USAGE: u8 = 2;

/// Parses the process arguments and runs the command.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return fail(EXIT_FAILURE, &anyhow::anyhow!("cannot start the async runtime: {error}"));
        }
    };
    runtime.block_on(async {
        match cli.command {
            Command::Serve(args) => serve::run(*args).await,
            Command::Lab(args) => lab::run(*args).await,
            Command::Sim(args) => sim::run(*args).await,
            Command::Bench(args) => bench::run(*args).await,
            Command::Dump(args) => dump::run(args).await,
            Command::Endpoints(args) => endpoints::run(args).await,
            Command::Explain(args) => explain::run(args).await,
            Command::Clusters(args) => clusters::run(args).await,
            Command::Services(args) => services::run(args).await,
            Command::Gateways(args) => gateways::run(args).await,
            Command::Policies(args) => policies::run(args).await,
            Command::Proxies(args) => proxies::run(args).await,
            Command::Version(args) => version::run(args),
        }
    })
}

/// Prints `error` with its causes to stderr and returns `code`.
pub(crate) fn fail(code: u8, error: &anyhow::Error) -> ExitCode {
    printing::note(&format_args!("{error:#}"));
    ExitCode::from(code)
}
