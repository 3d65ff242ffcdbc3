//! `tombolo bench` from outside, small: every phase runs against the real server, and what is counted is right.
#![allow(missing_docs)]

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn tombolo(args: &[&str], temp: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tombolo"));
    command
        .args(args)
        .env_clear()
        .env("TMPDIR", temp)
        .stdin(Stdio::null())
        .output()
        .expect("the binary starts")
}

fn figures(report: &Value) -> &Vec<Value> {
    report["targets"][0]["figures"].as_array().expect("figures")
}

fn median(report: &Value, phase: &str, name: &str) -> f64 {
    let figure = figures(report).iter().find(|figure| figure["phase"] == phase && figure["name"] == name);
    figure.unwrap_or_else(|| panic!("{phase}: {name}"))["median"].as_f64().expect("a number")
}

#[test]
fn every_phase_runs_and_counts_what_it_should() {
    let dir = tempfile::tempdir().expect("a directory");
    let out = dir.path().join("out");
    let path = out.to_str().expect("UTF-8");
    let output = tombolo(&["bench", "--quick", "--phases", "all", "--out", path], dir.path());
    let talk = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{talk}");
    let text = std::fs::read_to_string(out.join("bench.json")).expect("written");
    let report: Value = serde_json::from_str(&text).expect("JSON");

    let skipped = report["targets"][0]["skipped"].as_array().expect("a list").len();
    let mut phases: Vec<&str> =
        figures(&report).iter().filter_map(|figure| figure["phase"].as_str()).collect();
    phases.dedup();
    assert_eq!(phases.len() + skipped, 19, "{phases:?}");
    assert!(
        figures(&report).iter().all(|figure| figure["values"][0].is_number() && figure["goal"].is_null())
    );

    for phase in ["storm", "connects", "streams"] {
        assert_eq!(median(&report, phase, "connections refused or ended"), 0.0, "{phase}");
    }
    assert_eq!(median(&report, "warm", "bytes sent, of those of a first connect"), 0.0, "nothing differs");
    assert!(median(&report, "distinct", "builds per change and locality") <= 2.0, "P20");
    assert!(median(&report, "gateway", "builds per assignment") >= 1.0);
    assert_eq!(median(&report, "work", "the same with many services"), 1.0, "P13");
    assert_eq!(median(&report, "work", "wake-ups with many services"), 1.0, "P13");
    assert!(median(&report, "update", "change to last proxy, p99") > 0.0);

    let table = String::from_utf8_lossy(&output.stdout);
    assert!(table.starts_with("SERVER") && table.contains("P20"), "{table}");
    let left: Vec<_> =
        std::fs::read_dir(dir.path()).expect("readable").flatten().map(|e| e.file_name()).collect();
    assert_eq!(left, ["out"], "nothing else is left behind");

    let json = out.join("bench.json");
    let json = json.to_str().expect("UTF-8");
    let drawn = tombolo(&["bench", "plot", json], dir.path());
    assert_eq!(drawn.stdout, std::fs::read(out.join("bench.svg")).expect("written"));
    assert!(drawn.stdout.starts_with(b"<svg"));
    let compared = tombolo(&["bench", "compare", json, json], dir.path());
    let compared = String::from_utf8_lossy(&compared.stdout);
    assert!(
        compared.lines().count() == figures(&report).len() + 1 && compared.contains("RATIO"),
        "{compared}"
    );
}

#[test]
fn what_makes_no_bench_is_refused_with_the_reason() {
    let dir = tempfile::tempdir().expect("a directory");
    let cases: [(&[&str], i32, &str); 4] = [
        (&["--phases", "nothing"], 2, "the phases are all, start, storm"),
        (&["--peer-cmd", "server"], 2, "no {grpc} in it"),
        (&["--quick", "--phases", "start", "--server", "/bin/false"], 1, "the server tombolo ended"),
        (&["compare", "/nowhere", "/nowhere"], 1, "cannot read /nowhere"),
    ];
    for (args, code, why) in cases {
        let output = tombolo(&[&["bench"], args].concat(), dir.path());
        let talk = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {talk}");
        assert!(talk.contains(why), "{args:?}: {talk}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).expect("readable").count(), 0);
}

#[test]
fn a_peer_is_measured_in_turn_with_ours() {
    let dir = tempfile::tempdir().expect("a directory");
    let exe = env!("CARGO_BIN_EXE_tombolo");
    let peer = format!(
        "{exe} serve --cluster-id c1 --allow-loopback-clusters --kubeconfig {{kubeconfig}} --grpc-addr {{grpc}} \
         --http-addr {{http}} --monitoring-addr {{monitoring}}"
    );
    let phases = "storm,distinct";
    let args = ["bench", "--quick", "--phases", phases, "--repeat", "2", "--peer-cmd", &peer, "-o", "json"];
    let output = tombolo(&args, dir.path());
    let talk = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{talk}");
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let [ours, peer] = &report["targets"].as_array().expect("two")[..] else { panic!("{report}") };
    assert_eq!((&ours["name"], &peer["name"]), (&"tombolo".into(), &"peer".into()));
    assert_eq!(ours["figures"][0]["values"].as_array().map(Vec::len), Some(2));
    assert_eq!(peer["figures"][0]["values"].as_array().map(Vec::len), Some(2));
    assert_eq!(peer["skipped"][0]["phase"], "distinct", "a peer does not count as we do");
    let turns: Vec<&str> = talk.lines().filter(|line| line.contains("storm of")).collect();
    assert!(turns[0].contains("tombolo, round 1") && turns[1].contains("peer, round 1"), "{turns:?}");
}
