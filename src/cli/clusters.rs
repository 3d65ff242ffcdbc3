//! `tombolo clusters`.

use std::process::ExitCode;

/// Arguments of `tombolo clusters`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the command.
pub async fn run(_args: Args) -> ExitCode {
    ExitCode::from(super::EXIT_FAILURE)
}
