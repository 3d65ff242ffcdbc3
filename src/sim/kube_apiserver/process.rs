//! One of the two processes, with its log.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};

use super::KubeApiServerError;
use crate::sim::child::{self, Signal, tied};

/// How many lines of a log an error quotes.
const TAIL_LINES: usize = 12;

/// A running program. Dropping it kills the process.
#[derive(Debug)]
pub(super) struct Process {
    cluster: String,
    program: &'static str,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`; what it prints is appended to `log`.
    pub(super) fn spawn(
        cluster: &str,
        program: &'static str,
        command: Command,
        log: &Path,
    ) -> Result<Self, KubeApiServerError> {
        let file = File::options()
            .create(true)
            .append(true)
            .open(log)
            .map_err(KubeApiServerError::file("open", log))?;
        let copy = file.try_clone().map_err(KubeApiServerError::file("open", log))?;
        let failed = |source| KubeApiServerError::Run { cluster: cluster.to_owned(), program, source };
        let child = tied(command)
            .stdin(Stdio::null())
            .stdout(copy)
            .stderr(file)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        Ok(Self { cluster: cluster.to_owned(), program, child, log: log.to_owned() })
    }

    /// An error that quotes its log if it has ended.
    pub(super) fn check_running(&mut self) -> Result<(), KubeApiServerError> {
        let (cluster, program) = (self.cluster.clone(), self.program);
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(KubeApiServerError::Ended {
                cluster,
                program,
                status: status.to_string(),
                log: self.log.clone(),
                tail: tail(&self.log),
            }),
            Err(source) => Err(KubeApiServerError::Run { cluster, program, source }),
        }
    }

    /// Its process id, while it runs.
    pub(super) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Sends a signal; a process that is gone needs none.
    pub(super) fn send(&self, signal: Signal) {
        child::send(&self.child, signal);
    }

    /// Asks it to end, kills it after `grace`, and returns when it is gone, its sockets with it.
    pub(super) async fn stop(mut self, grace: Duration) {
        self.send(Signal::TERM);
        // A stopped process is asked in vain.
        self.send(Signal::CONT);
        if tokio::time::timeout(grace, self.child.wait()).await.is_err() {
            self.kill().await;
        }
    }

    /// Kills it at once and returns when it is gone, its sockets with it.
    pub(super) async fn kill(mut self) {
        // An error means that it is gone already.
        let _ = self.child.kill().await;
    }
}

fn tail(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}
