//! The main job with real Envoys: `tombolo lab --exit-after-check`, in network namespaces and on loopback.
//!
//! Needs an Envoy (`$ENVOY` or `PATH`; `make test` installs one) and, for namespaces, root with `ip` and `nft`.
//! Without them a test is skipped loudly; with `CI=true` that is a failure.
#![allow(missing_docs, clippy::print_stdout)]

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

/// One lab at a time: each runs a dozen processes and times what it promises.
static MACHINE: Mutex<()> = Mutex::new(());

fn skip(why: &str) {
    assert!(std::env::var_os("CI").is_none(), "cannot run in CI without this: {why}");
    println!("SKIPPED: {why}");
}

fn envoy() -> Option<PathBuf> {
    let named = std::env::var_os("ENVOY").map(PathBuf::from).filter(|path| path.exists());
    let found = || {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).map(|dir| dir.join("envoy")).find(|envoy| envoy.exists())
    };
    named.or_else(found)
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).exists())
}

fn root() -> bool {
    let id = Command::new("id").arg("-u").output().expect("id runs");
    id.stdout.starts_with(b"0\n")
}

/// Runs the lab in one mode and holds its verdict.
fn lab(mode: &str, expected: &str) {
    let Some(envoy) = envoy() else { return skip("no Envoy: run `make envoy`, or set ENVOY") };
    let _alone = MACHINE.lock().unwrap_or_else(PoisonError::into_inner);
    let output = Command::new(env!("CARGO_BIN_EXE_tombolo"))
        .args(["lab", "--exit-after-check", "-o", "json", "--netns", mode])
        .env("ENVOY", envoy)
        .stdin(Stdio::null())
        .output()
        .expect("the lab runs");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let last = stdout.lines().last().unwrap_or_default();
    let verdict: serde_json::Value =
        serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {last:?}\n{stderr}"));
    assert_eq!(verdict["mode"], expected, "{stderr}");
    let checks = verdict["checks"].as_array().expect("checks");
    let failed: Vec<_> = checks.iter().filter(|check| check["ok"] != true).collect();
    assert!(failed.is_empty() && verdict["ok"] == true, "{failed:#?}\n{stderr}");
    assert_eq!(output.status.code(), Some(0), "the exit status is the verdict");
    let names: Vec<_> = checks.iter().filter_map(|check| check["name"].as_str()).collect();
    for name in [
        "both-versions",
        "remote-network-by-gateway",
        "identity-crosses",
        "http2-crosses",
        "tcp-crosses",
        "scale-follows",
        "service-recreated",
        "control-plane-restart",
        "api-server-outage",
        "no-foreign-address",
    ] {
        assert!(names.contains(&name), "{name} was not checked: {names:?}");
    }
    assert_eq!(names.contains(&"networks-apart"), expected == "namespaces", "{names:?}");
}

#[test]
fn the_main_job_in_network_namespaces_with_transparent_capture() {
    if !root() || !on_path("ip") || !on_path("nft") {
        return skip("network namespaces need root, `ip` (iproute2) and `nft` (nftables)");
    }
    lab("on", "namespaces");
}

#[test]
fn the_main_job_on_loopback_addresses() {
    lab("off", "loopback");
}

#[test]
fn without_an_envoy_the_lab_says_what_to_do() {
    let output = Command::new(env!("CARGO_BIN_EXE_tombolo"))
        .args(["lab", "--exit-after-check", "-o", "json", "--envoy", "/nonexistent/envoy"])
        .stdin(Stdio::null())
        .output()
        .expect("the lab runs");
    assert_ne!(output.status.code(), Some(0));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("/nonexistent/envoy") && stderr.contains("make envoy"), "{stderr}");
}
