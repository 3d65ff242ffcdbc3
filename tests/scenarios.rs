//! Every scenario, end to end: `tombolo lab scenario` against a running lab with real Envoys, on synthetic and on
//! real API servers.
//!
//! Needs root with `ip` and `nft`, an Envoy (`$ENVOY` or `PATH`; `make test` installs one) and, for the real ones,
//! `make kube-assets` (`$TOMBOLO_KUBE_ASSETS`). Without them a test is skipped loudly; with `CI=true` that is a
//! failure.
#![allow(missing_docs, unreachable_pub, clippy::print_stdout)]

#[path = "lab/machine.rs"]
mod machine;

use std::io::{BufRead as _, BufReader};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// For a lab to start and check itself.
const START_LIMIT: Duration = Duration::from_secs(300);
/// For a lab to stop, or a scenario to be undone.
const STOP_LIMIT: Duration = Duration::from_secs(60);
/// What holds in every scenario.
const ALWAYS: [&str; 4] = ["no-request-fails", "no-foreign-address", "nothing-refused", "restored"];

/// A scenario, its options, and what it must show besides [`ALWAYS`].
type Case = (&'static str, &'static [&'static str], &'static [&'static str]);

const CASES: [Case; 17] = [
    ("kill-api", &["--for", "1s"], &["nothing-moves", "others-change", "catches-up", "says-so"]),
    ("hang-api", &["--for", "1s"], &["nothing-moves", "others-change", "catches-up", "says-so"]),
    ("move-gateway", &[], &["answers-by-the-new-one", "clients-follow", "endpoints-only"]),
    ("kill-control-plane", &["--for", "1s"], &["reconnects", "catches-up", "no-endpoint-lost"]),
    ("drain-cluster", &["--for", "1s"], &["nobody-left", "others-answer", "comes-back"]),
    ("scale", &["--to", "3,0,1"], &["weights-follow", "answers-again"]),
    ("rotate-secret", &["--for", "1s"], &["old-one-refused", "no-push", "still-watched"]),
    ("delete-cluster", &["--for", "1s"], &["leaves-after-grace", "one-push", "comes-back"]),
    ("flap", &["--times", "10"], &["truth-in-the-end", "endpoints-only", "pushed-as-needed"]),
    ("kill-gateway", &[], &["retried-elsewhere", "known-hosts-only", "comes-back"]),
    ("weights", &[], &["weights-shown", "split-by-weight"]),
    ("distribute", &[], &["split-as-told"]),
    ("failover", &[], &["near-first", "next-region-takes-over", "returns"]),
    ("subsets", &[], &["version-asked-for"]),
    ("strict-mtls", &[], &["plaintext-before", "plaintext-refused", "mesh-goes-on"]),
    ("authorization", &[], &["other-principal-denied", "principal-of-another-cluster-allowed"]),
    (
        "ingress",
        &[],
        &[
            "host-and-path",
            "unknown-host",
            "split-as-told",
            "tls-by-server-name",
            "bad-file-costs-one-server",
        ],
    ),
];

fn tombolo() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tombolo"));
    command.stdin(Stdio::null());
    for variable in ["TOMBOLO_LAB_RUN_DIR", "TOMBOLO_LAB_CLUSTER", "TOMBOLO_LAB_FOR", "TOMBOLO_LAB_OUTPUT"] {
        command.env_remove(variable);
    }
    command
}

/// A running lab; stopped in order when dropped.
struct Lab {
    child: Child,
    dir: tempfile::TempDir,
}

impl Lab {
    fn start(envoy: &Path, arguments: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let log = std::fs::File::create(dir.path().join("lab.log")).expect("a file");
        let child = tombolo()
            .args(["lab", "--netns", "on", "--run-dir"])
            .arg(dir.path())
            .args(arguments)
            .env("ENVOY", envoy)
            .stdout(log.try_clone().expect("the same file"))
            .stderr(log)
            .spawn()
            .expect("the lab starts");
        let mut lab = Self { child, dir };
        let deadline = Instant::now() + START_LIMIT;
        while UnixStream::connect(lab.dir.path().join("control")).is_err() {
            let ended = lab.child.try_wait().expect("a child");
            assert!(ended.is_none() && Instant::now() < deadline, "no lab ({ended:?}):\n{}", lab.log());
            std::thread::park_timeout(Duration::from_millis(50));
        }
        lab
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("lab.log")).unwrap_or_default()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = tombolo();
        command.args(["lab", "scenario"]).args(arguments).arg("--run-dir").arg(self.dir.path());
        command
    }

    fn scenario(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the client runs")
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        interrupt(&self.child);
        let deadline = Instant::now() + STOP_LIMIT;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::park_timeout(Duration::from_millis(50));
        }
        // Gone already unless the deadline is over.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Ctrl-C.
fn interrupt(child: &Child) {
    let _ = Command::new("kill").args(["-INT", &child.id().to_string()]).stderr(Stdio::null()).status();
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The Envoy of a run of every scenario; none if the machine lacks something.
fn envoy() -> Option<PathBuf> {
    machine::has_namespaces().then(machine::envoy).flatten()
}

#[test]
fn every_scenario_holds_on_synthetic_api_servers() {
    let Some(envoy) = envoy() else { return };
    let _alone = machine::alone();
    let lab = Lab::start(&envoy, &[]);
    is_refused_what_is_wrong(&lab);
    all_hold(&lab);
    one_at_a_time_and_ctrl_c_restores(&lab);
}

#[test]
fn every_scenario_holds_on_real_api_servers() {
    let Some(envoy) = envoy() else { return };
    let assets = std::env::var_os("TOMBOLO_KUBE_ASSETS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/kube-assets"), PathBuf::from);
    if !assets.join("kube-apiserver").exists() {
        return machine::skip("no kube-apiserver: run `make kube-assets`, or set TOMBOLO_KUBE_ASSETS");
    }
    let _alone = machine::alone();
    all_hold(&Lab::start(&envoy, &["--api-server", "real"]));
}

fn all_hold(lab: &Lab) {
    for case in CASES {
        let start = Instant::now();
        holds(lab, case);
        println!("{} held, {:?}", case.0, start.elapsed());
    }
}

/// Plays a scenario; its report must be complete, and everything in it hold.
fn holds(lab: &Lab, (name, options, own): Case) {
    let output = lab.scenario(&[&[name], options, &["-o", "json"]].concat());
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{name}: {error}\n{}\n{}", stderr(&output), lab.log()));
    let checks = report["checks"].as_array().expect("checks");
    let failed: Vec<_> = checks.iter().filter(|check| check["ok"] != true).collect();
    let held = failed.is_empty() && report["ok"] == true;
    assert!(held, "{}\n{}\n{name}: {failed:#?}", lab.log(), stderr(&output));
    assert_eq!(output.status.code(), Some(0), "{name}: the exit status is the verdict");
    let names: Vec<_> = checks.iter().filter_map(|check| check["name"].as_str()).collect();
    assert_eq!(names, [own, &ALWAYS].concat(), "{name}");
    let rows = report["rows"].as_array().expect("rows");
    assert!(rows.iter().any(|row| row["marks"].as_array().is_some_and(|marks| !marks.is_empty())), "{name}");
    for client in ["east", "west"] {
        let ok: u64 = rows.iter().filter_map(|row| row["clients"][client]["ok"].as_u64()).sum();
        assert!(ok > 20, "{name}: {client} got {ok} answers");
    }
    let kept = report["kept"].as_str().expect("a file");
    let again: Value = serde_json::from_slice(&std::fs::read(kept).expect("is there")).expect("JSON");
    assert_eq!(again["checks"], report["checks"], "{name}: the lab keeps what it says");
}

fn is_refused_what_is_wrong(lab: &Lab) {
    for (arguments, why) in [
        (
            &["kill-api", "--cluster", "north"][..],
            "the lab has no cluster \"north\"; its clusters are east, west",
        ),
        (&["kill-api", "--times", "3"], "scenario kill-api takes no --times"),
        (&["scale", "--to", "1,9999"], "--to is a list of 0 to 50"),
    ] {
        let output = lab.scenario(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(why), "{arguments:?}: {}", stderr(&output));
    }
}

fn one_at_a_time_and_ctrl_c_restores(lab: &Lab) {
    let mut command = lab.command(&["kill-api", "--for", "10m"]);
    let mut first = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the client starts");
    let mut lines = BufReader::new(first.stdout.take().expect("a pipe")).lines().map_while(Result::ok);
    let killed = lines.by_ref().any(|line| line.contains("the API server of west is killed"));
    assert!(killed, "the scenario begins: {}", lab.log());
    let second = lab.scenario(&["scale"]);
    assert_eq!(second.status.code(), Some(1), "{}", stderr(&second));
    assert!(stderr(&second).contains("scenario kill-api has been running"), "{}", stderr(&second));
    interrupt(&first);
    let rest: Vec<String> = lines.collect();
    let status = first.wait().expect("a child");
    assert_eq!(status.code(), Some(1), "{rest:#?}");
    let says = |name: &str, word: &str| {
        rest.iter().any(|line| line.starts_with(name) && line.split_whitespace().nth(1) == Some(word))
    };
    assert!(
        says("catches-up", "FAILED") && rest.iter().any(|line| line.contains("it was cut short")),
        "{rest:#?}"
    );
    assert!(says("restored", "ok") && says("no-request-fails", "ok"), "{rest:#?}");
    assert!(rest.iter().any(|line| line.contains("the API server of west is back")), "{rest:#?}");
}

#[test]
fn without_a_running_lab_it_says_what_to_do() {
    let empty = tempfile::tempdir().expect("a directory");
    let output =
        tombolo().args(["lab", "scenario", "scale"]).env("TMPDIR", empty.path()).output().expect("runs");
    assert_eq!(output.status.code(), Some(2));
    let text = stderr(&output);
    assert!(text.contains("no lab is running") && text.contains("`tombolo lab`"), "{text}");
    let mut named = tombolo();
    named.args(["lab", "scenario", "scale", "--run-dir"]).arg(empty.path());
    let output = named.output().expect("runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("no lab answers in"), "{}", stderr(&output));
}

#[test]
fn an_unknown_scenario_is_told_the_known_ones() {
    let output = tombolo().args(["lab", "scenario", "kill-everything"]).output().expect("runs");
    assert_eq!(output.status.code(), Some(2));
    let text = stderr(&output);
    assert!(CASES.iter().all(|(name, ..)| text.contains(name)), "{text}");
}

#[test]
fn the_list_describes_every_scenario() {
    for arguments in [&["list"][..], &["--list"]] {
        let output = tombolo().args(["lab", "scenario"]).args(arguments).output().expect("runs");
        let text = String::from_utf8_lossy(&output.stdout);
        for (name, _, own) in CASES {
            assert!(text.lines().any(|line| line.split(' ').next() == Some(name)), "{name}: {text}");
            assert!(own.iter().chain(&ALWAYS).all(|check| text.contains(check)), "{name}: {text}");
        }
    }
    let output = tombolo().args(["lab", "scenario", "list", "-o", "json"]).output().expect("runs");
    let list: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(list.as_array().map(Vec::len), Some(CASES.len()));
}
