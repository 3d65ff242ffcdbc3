//! `tombolo version`.

use std::process::ExitCode;

use serde_json::json;

use super::printing;
use super::table::{self, Output};

/// Arguments of `tombolo version`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Form of the answer
    #[arg(long, short, value_enum, default_value_t)]
    output: Output,
}

/// Runs the command.
pub fn run(args: Args) -> ExitCode {
    let version = env!("CARGO_PKG_VERSION");
    let text = match args.output {
        Output::Table | Output::Wide => Ok(format!("tombolo {version}\n")),
        document => table::document(document, &json!({"component": "tombolo", "version": version})),
    };
    super::client::finish(text.map(|text| _ = printing::data(&text)))
}
