//! One running part of the lab: a child process with a log.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use super::LabError;
use crate::sim::child::{self, Signal, tied};

/// How many lines of a log an error quotes.
const TAIL_LINES: usize = 12;

/// A child process. Dropping it kills the process; [`Part::stop`] asks first.
#[derive(Debug)]
pub(super) struct Part {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Part {
    /// Starts `command` as `name`; what it prints goes to `<logs>/<name>.log`.
    ///
    /// # Errors
    /// [`LabError::File`], [`LabError::Spawn`].
    pub(super) fn spawn(name: &str, command: Command, logs: &Path) -> Result<Self, LabError> {
        let (log, file) = open_log(name, logs)?;
        let copy = file.try_clone().map_err(LabError::file("open", &log))?;
        Self::start(name, command, log, copy.into(), file.into())
    }

    /// Like [`Part::spawn`], but standard output is read by the caller.
    ///
    /// # Errors
    /// [`LabError::File`], [`LabError::Spawn`].
    pub(super) fn spawn_talking(
        name: &str,
        command: Command,
        logs: &Path,
    ) -> Result<(Self, Lines<BufReader<ChildStdout>>), LabError> {
        let (log, file) = open_log(name, logs)?;
        let mut part = Self::start(name, command, log, Stdio::piped(), file.into())?;
        let stdout = part.child.stdout.take().expect("standard output is a pipe: asked for just above");
        Ok((part, BufReader::new(stdout).lines()))
    }

    fn start(
        name: &str,
        command: Command,
        log: PathBuf,
        stdout: Stdio,
        stderr: Stdio,
    ) -> Result<Self, LabError> {
        let mut command = tied(command);
        let program = command.as_std().get_program().to_string_lossy().into_owned();
        let child = command
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| LabError::Spawn { name: name.to_owned(), program, source })?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// Its process id, while it runs.
    pub(super) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// An error that quotes its log if it has ended.
    ///
    /// # Errors
    /// [`LabError::Ended`].
    pub(super) fn check_running(&mut self) -> Result<(), LabError> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(self.ended(status)),
            Err(source) => Err(LabError::Wait { name: self.name.clone(), source }),
        }
    }

    /// The last lines of its log.
    pub(super) fn log_tail(&self) -> String {
        tail(&self.log)
    }

    /// Sends SIGKILL and does not wait.
    pub(super) fn kill_now(&mut self) {
        // An error means that it is gone already.
        let _ = self.child.start_kill();
    }

    /// Asks it to end (SIGTERM).
    pub(super) fn terminate(&self) {
        child::send(&self.child, Signal::TERM);
    }

    /// Asks it to end (SIGTERM), kills it after `grace`, and returns when it is gone.
    pub(super) async fn stop(mut self, grace: Duration) {
        self.terminate();
        if tokio::time::timeout(grace, self.child.wait()).await.is_err() {
            self.kill().await;
        }
    }

    /// Kills it at once and returns when it is gone.
    pub(super) async fn kill(mut self) {
        // An error means that it is gone already.
        let _ = self.child.kill().await;
    }

    fn ended(&self, status: ExitStatus) -> LabError {
        LabError::Ended { name: self.name.clone(), status: status.to_string(), tail: self.log_tail() }
    }
}

/// The last lines of a log.
pub(super) fn tail(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

fn open_log(name: &str, logs: &Path) -> Result<(PathBuf, File), LabError> {
    let path = logs.join(format!("{}.log", name.replace('/', "-")));
    let file =
        File::options().create(true).append(true).open(&path).map_err(LabError::file("open", &path))?;
    Ok((path, file))
}
