//! The main job with real Envoys: `tombolo lab --exit-after-check`, in network namespaces and on loopback, in
//! several shapes.
//!
//! Needs an Envoy (`$ENVOY` or `PATH`; `make test` installs one) and, for namespaces, root with `ip` and `nft`.
//! Without them a test is skipped loudly; with `CI=true` that is a failure.
#![allow(missing_docs, unreachable_pub, clippy::print_stdout)]

#[path = "lab/machine.rs"]
mod machine;

use std::process::{Command, Output, Stdio};

use machine::{alone, envoy, has_namespaces, skip};

/// What every lab of more than one cluster checks.
const CHECKS: [&str; 10] = [
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
];

fn tombolo(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tombolo"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("the binary runs")
}

/// Runs a lab with these arguments and holds its verdict.
fn lab(arguments: &str, mode: &str) {
    let Some(envoy) = envoy() else { return };
    let envoy = envoy.to_str().expect("a path in UTF-8");
    let _alone = alone();
    let mut all = vec!["lab", "--exit-after-check", "-o", "json", "--envoy", envoy];
    all.extend(arguments.split_whitespace());
    let output = tombolo(&all);
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let last = stdout.lines().last().unwrap_or_default();
    let verdict: serde_json::Value =
        serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {last:?}\n{stderr}"));
    assert_eq!(verdict["mode"], mode, "{stderr}");
    let checks = verdict["checks"].as_array().expect("checks");
    let failed: Vec<_> = checks.iter().filter(|check| check["ok"] != true).collect();
    assert!(failed.is_empty() && verdict["ok"] == true, "{failed:#?}\n{stderr}");
    assert_eq!(output.status.code(), Some(0), "the exit status is the verdict");
    let names: Vec<_> = checks.iter().filter_map(|check| check["name"].as_str()).collect();
    for name in CHECKS {
        assert!(names.contains(&name), "{name} was not checked: {names:?}");
    }
    let apart = mode == "namespaces" && !arguments.contains("--networks 1");
    assert_eq!(names.contains(&"networks-apart"), apart, "{names:?}");
}

#[test]
fn the_main_job_in_network_namespaces_with_transparent_capture() {
    if has_namespaces() {
        lab("--netns on", "namespaces");
    }
}

#[test]
fn the_main_job_on_loopback_addresses() {
    lab("--netns off", "loopback");
}

#[test]
fn three_clusters_on_two_networks_with_a_world_of_ones_own() {
    if has_namespaces() {
        lab("--netns on --clusters 3 --networks 2 --world tests/lab/shop.yaml", "namespaces");
    }
}

#[test]
fn one_control_plane_serves_a_remote_cluster_with_vanilla_sidecars() {
    if has_namespaces() {
        lab("--netns on --topology primary-remote --sidecars none", "namespaces");
    }
}

#[test]
fn a_control_plane_outside_of_two_clusters_that_share_a_network() {
    lab("--netns off --topology external --networks 1", "loopback");
}

#[test]
fn the_main_job_with_real_api_servers() {
    let beside = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("target/kube-assets/kube-apiserver");
    if std::env::var_os("TOMBOLO_KUBE_ASSETS").is_none() && !beside.exists() {
        return skip("no kube-apiserver: run `make kube-assets`");
    }
    if has_namespaces() {
        lab("--netns on --api-server real", "namespaces");
    }
}

/// The exit status is 2 and standard error says all of `words`.
fn refused(arguments: &[&str], words: &[&str]) {
    let output = tombolo(arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
    for word in words {
        assert!(stderr.contains(word), "{arguments:?} says {word:?}: {stderr}");
    }
}

#[test]
fn wrong_arguments_are_usage_errors_that_say_what_would_be_right() {
    refused(&["lab", "--clusters", "9"], &["9 clusters", "1 to 8"]);
    refused(&["lab", "up", "--clusters", "2", "--networks", "3"], &["3 networks for 2 clusters"]);
    refused(&["lab", "--topology", "flat"], &["multi-primary", "primary-remote", "external"]);
    refused(&["lab", "--world", "/nonexistent/shop.yaml"], &["/nonexistent/shop.yaml"]);
    refused(&["lab", "--netns", "off", "--api-server", "real"], &["loopback", "--api-server synthetic"]);
    refused(&["lab", "--envoy", "/nonexistent/envoy"], &["/nonexistent/envoy", "make envoy"]);
}

#[test]
fn a_world_that_cannot_be_is_refused_with_its_place_in_the_file() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("shop.yaml");
    let text = "kind: Service\napiVersion: v1\nmetadata: {name: a}\n---\nkind: Pod\napiVersion: v1\n";
    std::fs::write(&path, text).expect("a writable directory");
    let path = path.to_str().expect("a path in UTF-8");
    refused(&["lab", "--world", path], &["shop.yaml:5: document 2, Pod", "metadata.name"]);
    let stray = "kind: Pod\napiVersion: v1\nmetadata: {name: a, annotations: {tombolo.dev/cluster: nord}}\n";
    std::fs::write(path, stray).expect("a writable directory");
    refused(&["lab", "--world", path], &["Pod a", "\"nord\"", "east, west"]);
}
