//! `tombolo dump`.

use std::process::ExitCode;

/// Arguments of `tombolo dump`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the command.
pub async fn run(_args: Args) -> ExitCode {
    ExitCode::from(super::EXIT_FAILURE)
}
