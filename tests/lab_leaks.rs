//! A lab leaves nothing behind, however it ends: processes, links, mounts, packet filters, files (D41).
//!
//! Needs what `tests/lab.rs` needs, and skips as loudly.
#![cfg(target_os = "linux")]
#![allow(missing_docs, unreachable_pub, clippy::print_stdout)]

#[path = "lab/machine.rs"]
mod machine;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use machine::{alone, envoy, has_namespaces};

/// A lab is up within this, on a small machine under load.
const UP_LIMIT: Duration = Duration::from_secs(150);
/// What is to vanish vanishes within this.
const GONE_LIMIT: Duration = Duration::from_secs(30);
/// Variable that every process of a lab inherits.
const MARK: &str = "TOMBOLO_LEAK_TEST";

/// How a lab ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Interrupt,
    Terminate,
    /// SIGKILL of the process that was started.
    KillOuter,
    /// SIGKILL of the lab itself, inside its namespaces.
    KillInner,
}

/// A lab of this test, in a temporary directory of this test.
struct TestLab {
    child: Child,
    mark: String,
    temporary: PathBuf,
}

impl TestLab {
    /// Starts a lab; returns when all its pods are ready.
    fn start(envoy: &Path, netns: &str, temporary: &Path, mark: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tombolo"))
            .args(["lab", "--netns", netns, "--envoy"])
            .arg(envoy)
            .env("TMPDIR", temporary)
            .env(MARK, mark)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the lab starts");
        let lines = BufReader::new(child.stderr.take().expect("asked for above")).lines();
        let lab = Self { child, mark: mark.to_owned(), temporary: temporary.to_owned() };
        lab.until_ready(lines.map_while(Result::ok));
        lab
    }

    /// Reads on afterwards: a lab whose standard error is full would stand still.
    fn until_ready(&self, lines: impl Iterator<Item = String> + Send + 'static) {
        let (said, heard) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            for line in lines {
                // Nobody listens once the lab is ready.
                let _ = said.send(line);
            }
        });
        let start = Instant::now();
        let mut all = Vec::new();
        loop {
            let left = UP_LIMIT.saturating_sub(start.elapsed());
            let line = heard.recv_timeout(left).unwrap_or_else(|error| panic!("{error}: {all:#?}"));
            let ready = line.contains("has answered");
            all.push(line);
            if ready {
                return;
            }
        }
    }

    fn run_dir(&self) -> PathBuf {
        let dirs = entries(&self.temporary);
        dirs.into_iter().next().expect("a lab has a directory")
    }

    fn end(mut self, how: End) {
        let (signal, pid) = match how {
            End::Interrupt => ("INT", self.child.id()),
            End::Terminate => ("TERM", self.child.id()),
            End::KillOuter => ("KILL", self.child.id()),
            End::KillInner => ("KILL", inner(&self.mark)),
        };
        let killed = Command::new("kill").args([format!("-{signal}"), pid.to_string()]).status();
        assert!(killed.expect("kill runs").success());
        let (start, mut ended) = (Instant::now(), false);
        while !ended && start.elapsed() < GONE_LIMIT {
            ended = self.child.try_wait().expect("a child").is_some();
            std::thread::yield_now();
        }
        assert!(ended, "the lab did not end by {how:?}");
    }
}

/// The lab's process inside its namespaces: the one that was told so.
fn inner(mark: &str) -> u32 {
    let inside = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.starts_with(env!("CARGO_BIN_EXE_tombolo").as_bytes())
            && line.split(|byte| *byte == 0).any(|word| word == b"--inside")
    };
    processes(mark).into_iter().find(inside).expect("a process inside")
}

/// Processes that inherited the mark and are not yet dead.
fn processes(mark: &str) -> Vec<u32> {
    let wanted = format!("{MARK}={mark}");
    let has = |pid: &u32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|word| word == wanted.as_bytes())
    };
    let all = fs::read_dir("/proc").expect("a proc file system").flatten();
    all.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(has).collect()
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).expect("a directory").flatten().map(|entry| entry.path()).collect()
}

/// What of a lab with this directory and these addresses is still on the host.
fn remains(mark: &str, run_dir: &Path, link: Option<&str>) -> Vec<String> {
    let mut left: Vec<String> = processes(mark)
        .into_iter()
        .map(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            format!("process {pid}: {}", String::from_utf8_lossy(&line).replace('\0', " "))
        })
        .collect();
    let run_dir = run_dir.display().to_string();
    let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts");
    left.extend(mounts.lines().filter(|line| line.contains(&run_dir)).map(str::to_owned));
    if let Some(link) = link {
        let addresses = Command::new("ip").args(["-o", "address"]).output().expect("ip runs");
        let addresses = String::from_utf8_lossy(&addresses.stdout).into_owned();
        left.extend(addresses.lines().filter(|line| line.contains(link)).map(str::to_owned));
        let rules = Command::new("nft").args(["list", "tables"]).output().expect("nft runs");
        let rules = String::from_utf8_lossy(&rules.stdout).into_owned();
        left.extend(rules.lines().filter(|line| line.contains("tombolo")).map(str::to_owned));
    }
    left
}

/// The host's address on the link to the lab: ten below that of the first API server.
fn link(run_dir: &Path) -> Option<String> {
    let text = fs::read_to_string(run_dir.join("east.kubeconfig")).expect("a kubeconfig");
    let (_, rest) = text.split_once("https://").expect("a server");
    let api: std::net::Ipv4Addr = rest.split(':').next()?.parse().expect("an address");
    (!api.is_loopback()).then(|| format!(" {}/", std::net::Ipv4Addr::from(u32::from(api) - 10)))
}

fn until_nothing_remains(mark: &str, run_dir: &Path, link: Option<&str>) {
    let start = Instant::now();
    let mut left = remains(mark, run_dir, link);
    while !left.is_empty() && start.elapsed() < GONE_LIMIT {
        std::thread::yield_now();
        left = remains(mark, run_dir, link);
    }
    assert!(left.is_empty(), "{left:#?}");
}

/// Starts a lab, ends it, and looks for what is left.
fn leaves_nothing(netns: &str, ends: &[End]) {
    let Some(envoy) = envoy() else { return };
    let _alone = alone();
    let temporary = tempfile::tempdir().expect("a temporary directory");
    for end in ends {
        let mark = format!("{netns}-{end:?}-{}", std::process::id());
        let lab = TestLab::start(&envoy, netns, temporary.path(), &mark);
        // Directories of labs that were killed before are gone by now.
        let run_dir = lab.run_dir();
        assert_eq!(entries(temporary.path()), std::slice::from_ref(&run_dir), "before {end:?}");
        let link = link(&run_dir);
        assert!(!remains(&mark, &run_dir, link.as_deref()).is_empty(), "a running lab is seen");
        lab.end(*end);
        until_nothing_remains(&mark, &run_dir, link.as_deref());
        let left = entries(temporary.path());
        match end {
            End::Interrupt | End::Terminate => assert!(left.is_empty(), "{end:?}: {left:?}"),
            End::KillOuter | End::KillInner => assert!(left.len() <= 1, "{end:?}: {left:?}"),
        }
    }
}

#[test]
fn a_lab_in_namespaces_leaves_nothing() {
    if has_namespaces() {
        leaves_nothing("on", &[End::KillOuter, End::KillInner, End::Terminate, End::Interrupt]);
    }
}

#[test]
fn a_lab_on_loopback_leaves_nothing() {
    leaves_nothing("off", &[End::KillOuter, End::Terminate, End::Interrupt]);
}

#[test]
fn two_labs_run_side_by_side_and_the_end_of_one_is_not_the_others() {
    if !has_namespaces() {
        return;
    }
    let Some(envoy) = envoy() else { return };
    let _alone = alone();
    for netns in ["on", "off"] {
        let dirs = [0, 1].map(|_| tempfile::tempdir().expect("a temporary directory"));
        let marks = [0, 1].map(|n| format!("side-{n}-{netns}-{}", std::process::id()));
        let one = TestLab::start(&envoy, netns, dirs[0].path(), &marks[0]);
        let two = TestLab::start(&envoy, netns, dirs[1].path(), &marks[1]);
        let (run_one, run_two) = (one.run_dir(), two.run_dir());
        let (link_one, link_two) = (link(&run_one), link(&run_two));
        let before = processes(&marks[1]).len();
        one.end(End::Interrupt);
        until_nothing_remains(&marks[0], &run_one, link_one.as_deref().filter(|_| false));
        assert!(processes(&marks[1]).len() >= before.min(10), "the other lab runs on");
        two.end(End::Interrupt);
        until_nothing_remains(&marks[1], &run_two, link_two.as_deref());
    }
}
