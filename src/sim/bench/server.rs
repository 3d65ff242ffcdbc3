//! The server under test, a child process.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use super::BenchError;
use super::usage::Usage;
use crate::sim::child::{self, Signal, tied};

/// How often a server is asked whether it is ready.
const READY_POLL: Duration = Duration::from_millis(10);
/// How long it may take.
const READY_LIMIT: Duration = Duration::from_secs(300);
/// How long a server may take to end.
const STOP_GRACE: Duration = Duration::from_secs(10);
/// How long a page may take.
const PAGE_LIMIT: Duration = Duration::from_secs(5);
/// Bytes of a log that an error quotes.
const LOG_TAIL: usize = 2000;

/// A server that can be started.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Its name in tables.
    pub name: String,
    /// How it is started.
    pub program: Program,
}

/// How a server is started.
#[derive(Debug, Clone)]
pub enum Program {
    /// `EXE serve …` with further arguments.
    Own {
        /// The binary.
        exe: PathBuf,
        /// Arguments behind those it needs.
        arguments: Vec<String>,
    },
    /// A shell command with `{kubeconfig}`, `{grpc}`, `{http}` and `{monitoring}` in it.
    Peer(String),
}

impl Candidate {
    /// Whether it is this program, with its metrics.
    pub(super) fn is_own(&self) -> bool {
        matches!(self.program, Program::Own { .. })
    }

    /// What `serve --help` says; nothing of a peer.
    ///
    /// # Errors
    /// [`BenchError::Spawn`].
    pub(super) async fn help(&self) -> Result<String, BenchError> {
        let Program::Own { exe, .. } = &self.program else { return Ok(String::new()) };
        let output = Command::new(exe).args(["serve", "--help"]).env_clear().output().await;
        let output = output.map_err(|source| BenchError::Spawn { name: self.name.clone(), source })?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// Where a server listens.
#[derive(Debug, Clone, Copy)]
pub(super) struct Addresses {
    pub(super) grpc: SocketAddr,
    pub(super) secure: Option<SocketAddr>,
    pub(super) http: SocketAddr,
    pub(super) monitoring: SocketAddr,
}

/// A server that is ready. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    pub(super) at: Addresses,
    pub(super) usage: Usage,
    /// From its start until it said so.
    pub(super) ready_after: Duration,
    /// CPU used until then.
    pub(super) ready_cpu: Duration,
}

impl Server {
    /// Starts `candidate` with the config cluster of `kubeconfig` and waits until it is ready.
    ///
    /// # Errors
    /// [`BenchError`], with the end of its log.
    pub(super) async fn start(
        candidate: &Candidate,
        kubeconfig: &Path,
        dir: &Path,
        further: &[String],
    ) -> Result<Self, BenchError> {
        let ports = dir.join("ports.json");
        // An error means that there is none of an earlier server.
        let _ = std::fs::remove_file(&ports);
        let (command, at) = match &candidate.program {
            Program::Own { exe, arguments } => (own(exe, arguments, further, kubeconfig, &ports), None),
            Program::Peer(line) => {
                let at = free_addresses()?;
                (peer(line, kubeconfig, at), Some(at))
            }
        };
        let log = dir.join("server.log");
        let started = Instant::now();
        let spawned =
            spawn(command, &log).map_err(|source| BenchError::Spawn { name: candidate.name.clone(), source });
        let mut child = spawned?;
        let usage = Usage::of(child.id().ok_or_else(|| ended(candidate, &log))?);
        let deadline = started + READY_LIMIT;
        let mut found = at;
        loop {
            if let Ok(Some(_)) = child.try_wait() {
                return Err(ended(candidate, &log));
            }
            if found.is_none() {
                found = std::fs::read_to_string(&ports).ok().and_then(|text| addresses(&text));
            }
            if let Some(at) = found
                && page(at.http, "/ready").await.is_some()
            {
                let ready_cpu = usage.cpu().map_err(BenchError::usage)?;
                return Ok(Self { child, at, usage, ready_after: started.elapsed(), ready_cpu });
            }
            if Instant::now() > deadline {
                return Err(BenchError::NotReady {
                    name: candidate.name.clone(),
                    limit: READY_LIMIT,
                    log: tail(&log),
                });
            }
            tokio::time::sleep(READY_POLL).await;
        }
    }

    /// The sum of a metric over its label sets that contain `label`; `None` if it has none.
    pub(super) async fn metric(&self, name: &str, label: &str) -> Option<f64> {
        sum_metric(&page(self.at.monitoring, "/metrics").await?, name, label)
    }

    /// Ends it in order, or kills it.
    pub(super) async fn stop(mut self) {
        child::send(&self.child, Signal::TERM);
        if tokio::time::timeout(STOP_GRACE, self.child.wait()).await.is_err() {
            // An error means that it is gone by now.
            let _ = self.child.kill().await;
        }
    }
}

fn own(exe: &Path, arguments: &[String], further: &[String], kubeconfig: &Path, ports: &Path) -> Command {
    let mut command = Command::new(exe);
    command.arg("serve").args(["--cluster-id", "c1", "--allow-loopback-clusters", "--log-level", "warn"]);
    command.arg("--kubeconfig").arg(kubeconfig).arg("--ports-file").arg(ports);
    for flag in ["--grpc-addr", "--http-addr", "--monitoring-addr"] {
        command.args([flag, "127.0.0.1:0"]);
    }
    command.args(arguments).args(further).env_clear();
    command
}

fn peer(line: &str, kubeconfig: &Path, at: Addresses) -> Command {
    let line = line
        .replace("{kubeconfig}", &kubeconfig.display().to_string())
        .replace("{grpc}", &at.grpc.to_string())
        .replace("{http}", &at.http.to_string())
        .replace("{monitoring}", &at.monitoring.to_string());
    let mut command = Command::new("sh");
    // The process that is measured is the server, not the shell.
    command.arg("-c").arg(format!("exec {line}"));
    command
}

fn spawn(command: Command, log: &Path) -> std::io::Result<Child> {
    let log = File::create(log)?;
    tied(command).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true).spawn()
}

/// Ports that are free now.
fn free_addresses() -> Result<Addresses, BenchError> {
    let held: Vec<TcpListener> = (0..3)
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .collect::<Result<_, _>>()
        .map_err(BenchError::usage)?;
    let all: Vec<SocketAddr> =
        held.iter().map(TcpListener::local_addr).collect::<Result<_, _>>().map_err(BenchError::usage)?;
    Ok(Addresses { grpc: all[0], secure: None, http: all[1], monitoring: all[2] })
}

fn addresses(ports: &str) -> Option<Addresses> {
    let ports: Value = serde_json::from_str(ports).ok()?;
    let at = |key: &str| ports[key].as_str()?.parse().ok();
    Some(Addresses {
        grpc: at("grpc")?,
        secure: at("secureGrpc"),
        http: at("http")?,
        monitoring: at("monitoring")?,
    })
}

/// The body of a page that is answered with 200.
pub(super) async fn page(address: SocketAddr, path: &str) -> Option<String> {
    let read = async {
        let mut stream = TcpStream::connect(address).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await.ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        (head.split(' ').nth(1)? == "200").then(|| body.to_owned())
    };
    tokio::time::timeout(PAGE_LIMIT, read).await.ok()?
}

fn sum_metric(page: &str, name: &str, label: &str) -> Option<f64> {
    let value = |line: &str| {
        let rest = line.strip_prefix(name).filter(|rest| rest.starts_with(['{', ' ']))?;
        let (labels, value) = rest.rsplit_once(' ')?;
        labels.contains(label).then(|| value.parse::<f64>().ok())?
    };
    page.lines().filter_map(value).reduce(|sum, value| sum + value)
}

pub(super) fn tail(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    String::from_utf8_lossy(&text[text.len().saturating_sub(LOG_TAIL)..]).into_owned()
}

fn ended(candidate: &Candidate, log: &Path) -> BenchError {
    BenchError::Ended { name: candidate.name.clone(), log: tail(log) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_summed_by_label() {
        let page = "# TYPE a counter\na{type=\"x\"} 2\na{type=\"y\"} 3\nab 7\nc 1.5\n";
        assert_eq!(sum_metric(page, "a", ""), Some(5.0));
        assert_eq!(sum_metric(page, "a", "type=\"y\""), Some(3.0));
        assert_eq!((sum_metric(page, "c", ""), sum_metric(page, "d", "")), (Some(1.5), None));
    }

    #[test]
    fn ports_files_may_lack_what_is_off() {
        let at =
            addresses(r#"{"grpc":"127.0.0.1:1","http":"127.0.0.1:2","monitoring":"127.0.0.1:3"}"#).unwrap();
        assert_eq!((at.grpc.port(), at.secure), (1, None));
        assert!(addresses("{}").is_none() && addresses("{").is_none());
    }
}
