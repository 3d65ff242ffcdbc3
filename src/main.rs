//! The `tombolo` binary: parses arguments and runs one command.
#![forbid(unsafe_code)]

use std::process::ExitCode;

/// What is held is many small objects, and lists come and go around them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    tombolo::cli::main()
}
