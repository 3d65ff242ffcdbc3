//! The `tombolo` binary: parses arguments and runs one command.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    tombolo::cli::main()
}
