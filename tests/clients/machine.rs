//! The machine, and programs that are not ours.

use std::path::PathBuf;

use tokio::sync::{Mutex, MutexGuard};

/// A thousand connections at a time: who counts what they cost wants no others.
static MACHINE: Mutex<()> = Mutex::const_new(());

/// Waits for the machine.
pub async fn alone() -> MutexGuard<'static, ()> {
    MACHINE.lock().await
}

/// The first of these that exists; none is said aloud, and fails in CI.
fn found(what: &str, how: &str, candidates: impl IntoIterator<Item = PathBuf>) -> Option<PathBuf> {
    let found = candidates.into_iter().find(|path| path.exists());
    if found.is_none() {
        assert!(std::env::var_os("CI").is_none(), "CI needs {what}: {how}");
        println!("SKIPPED: no {what}: {how}");
    }
    found
}

fn named(variable: &str) -> impl Iterator<Item = PathBuf> {
    std::env::var_os(variable).map(PathBuf::from).into_iter()
}

/// `$ENVOY`, else `envoy` by `PATH`.
pub fn envoy() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path: Vec<_> = std::env::split_paths(&path).map(|dir| dir.join("envoy")).collect();
    found("Envoy", "run `make envoy`, or set ENVOY", named("ENVOY").chain(on_path))
}

/// A Python with grpcio: `$GRPC_PYTHON`.
pub fn python() -> Option<PathBuf> {
    found("Python with grpcio", "run `make grpcio`, and set GRPC_PYTHON", named("GRPC_PYTHON"))
}
