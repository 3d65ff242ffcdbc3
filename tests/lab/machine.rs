//! What labs in tests need of the machine.

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One lab at a time: each runs a dozen processes and times what it promises.
static MACHINE: Mutex<()> = Mutex::new(());

/// Waits for the machine.
pub fn alone() -> MutexGuard<'static, ()> {
    MACHINE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Says aloud that a test does nothing; in CI that is a failure.
pub fn skip(why: &str) {
    assert!(std::env::var_os("CI").is_none(), "cannot run in CI without this: {why}");
    println!("SKIPPED: {why}");
}

/// `$ENVOY`, else `envoy` by `PATH`; none is skipped loudly.
pub fn envoy() -> Option<PathBuf> {
    let named = std::env::var_os("ENVOY").map(PathBuf::from).filter(|path| path.exists());
    let found = || {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).map(|dir| dir.join("envoy")).find(|envoy| envoy.exists())
    };
    let envoy = named.or_else(found);
    if envoy.is_none() {
        skip("no Envoy: run `make envoy`, or set ENVOY");
    }
    envoy
}

/// Whether network namespaces can be had; if not, that is said.
pub fn has_namespaces() -> bool {
    let id = Command::new("id").arg("-u").output().expect("id runs");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = |program: &str| std::env::split_paths(&path).any(|dir| dir.join(program).exists());
    let has = id.stdout.starts_with(b"0\n") && on_path("ip") && on_path("nft");
    if !has {
        skip("network namespaces need root, `ip` (iproute2) and `nft` (nftables)");
    }
    has
}
