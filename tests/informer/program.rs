//! The informer program: a process that is asked what it holds.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::{Instant, sleep, timeout};

use super::Truth;

/// What a working informer never needs, its backoff after a restart of the server included.
const LIMIT: Duration = Duration::from_secs(90);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// What it asks the server for.
#[derive(Debug, Clone, Copy)]
pub enum Encoding {
    Json,
    Protobuf,
}

/// How it gets the first objects.
#[derive(Debug, Clone, Copy)]
pub enum Start {
    /// By lists in pages of so many objects.
    Pages(u32),
    /// By a watch that begins with them.
    Stream,
}

/// How it works.
#[derive(Debug, Clone, Copy)]
pub struct Mode {
    pub encoding: Encoding,
    pub start: Start,
}

/// The requests it made.
#[derive(Debug, Deserialize)]
pub struct Requests {
    pub lists: u64,
    pub pages: u64,
    pub streams: u64,
    pub protobuf: u64,
    pub json: u64,
}

/// What it says.
#[derive(Debug, Deserialize)]
pub struct Held {
    pub synced: bool,
    pub requests: Requests,
    versions: BTreeMap<String, String>,
    objects: BTreeMap<String, Vec<Value>>,
}

impl Held {
    /// The objects of each resource.
    pub fn objects(&self) -> Truth {
        Truth::new(self.objects.clone())
    }

    /// The objects without what a server chooses for itself.
    pub fn content(&self) -> Truth {
        self.objects().content()
    }

    /// Which resource has not seen `version` yet, if any.
    pub fn behind(&self, version: u64) -> Option<String> {
        let seen = |text: &str| text.parse().unwrap_or(0);
        let behind = self.versions.iter().find(|(_, text)| seen(text) < version);
        behind.map(|(resource, text)| format!("{resource} is at {text}, not at {version}"))
    }
}

/// A running informer. Dropping it kills the process.
pub struct Informer {
    mode: Mode,
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    _files: TempDir,
}

impl std::fmt::Debug for Informer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "informer by {:?}, {:?}", self.mode.encoding, self.mode.start)
    }
}

impl Informer {
    pub fn start(programs: &Path, mode: Mode, kubeconfig: &str) -> Self {
        let files = tempfile::tempdir().unwrap();
        let path = files.path().join("kubeconfig");
        std::fs::write(&path, kubeconfig).unwrap();
        let mut command = Command::new(programs.join("informer"));
        command.arg("--kubeconfig").arg(path);
        if matches!(mode.encoding, Encoding::Protobuf) {
            command.arg("--protobuf");
        }
        match mode.start {
            Start::Pages(size) => command.arg(format!("--page-size={size}")),
            Start::Stream => command.arg("--watch-list"),
        };
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = piped.spawn().expect("the informer starts");
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { mode, child, input, output: BufReader::new(output).lines(), _files: files }
    }

    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// What it holds now.
    pub async fn dump(&mut self) -> Held {
        let answer = async {
            self.input.write_all(b"dump\n").await.expect("the informer listens");
            self.output.next_line().await.expect("text").expect("the informer runs")
        };
        let line = timeout(LIMIT, answer).await.expect("the informer answers");
        serde_json::from_str(&line).unwrap()
    }

    /// Waits until `difference` finds none in what it holds.
    pub async fn until(&mut self, difference: impl Fn(&Held) -> Option<String>) {
        let start = Instant::now();
        loop {
            let held = self.dump().await;
            match difference(&held) {
                None if held.synced => return,
                seen if start.elapsed() > LIMIT => {
                    panic!("{self:?} after {LIMIT:?}: {seen:?}; {:?}", held.requests)
                }
                _ => sleep(PAUSE).await,
            }
        }
    }

    /// Stops the process without ending it.
    pub fn suspend(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let id = self.child.id().expect("it runs");
        let pid = Pid::from_raw(i32::try_from(id).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Ends it as it wants to be ended.
    pub async fn stop(mut self) {
        drop(self.input);
        let status = timeout(LIMIT, self.child.wait()).await.expect("the informer ends").unwrap();
        assert!(status.success(), "{status}");
    }
}
