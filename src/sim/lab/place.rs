//! Where a process runs: on the host's loopback, or in a namespace of the lab.

use std::ffi::OsStr;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::LabError;

/// User and group of a captured pod's Envoy; its own connections are exempt from capture.
pub const PROXY_UID: u32 = 1337;
/// The way to the internet is no way within the lab.
pub const PROXY_VARIABLES: [&str; 6] =
    ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];
/// Set-up commands and page reads take milliseconds; this is for a machine under load.
const COMMAND_LIMIT: Duration = Duration::from_secs(20);

/// Where a process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Among the lab's own namespaces; all of 127/8 is shared.
    Here,
    /// In the network and mount namespaces of this process.
    Namespace {
        /// The process that holds them open.
        pid: u32,
    },
}

impl Place {
    /// The process that holds the namespaces open.
    pub fn pid(&self) -> Option<u32> {
        match self {
            Place::Here => None,
            Place::Namespace { pid } => Some(*pid),
        }
    }

    /// A command for `program` in this place.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.bare_command(program.as_ref());
        for name in PROXY_VARIABLES {
            command.env_remove(name);
        }
        command
    }

    fn bare_command(&self, program: &OsStr) -> Command {
        match self {
            Place::Here => Command::new(program),
            Place::Namespace { pid } => {
                let mut command = Command::new("nsenter");
                command.args(["--target", &pid.to_string(), "--net", "--mount", "--"]).arg(program);
                command
            }
        }
    }

    /// Like [`Place::command`]; in a namespace as the user that is exempt from capture, without privileges.
    pub fn proxy_command(&self, program: impl AsRef<OsStr>) -> Command {
        match self {
            Place::Here => self.command(program),
            Place::Namespace { .. } => {
                let mut command = self.command("setpriv");
                let uid = PROXY_UID.to_string();
                command.args(["--reuid", &uid, "--regid", &uid, "--clear-groups", "--no-new-privs", "--"]);
                command.arg(program);
                command
            }
        }
    }

    /// Runs a `sh` script here and returns what it printed.
    ///
    /// # Errors
    /// [`LabError::Command`] with its output when it fails or takes too long.
    pub async fn script(&self, what: &str, script: &str) -> Result<String, LabError> {
        let mut command = self.command("sh");
        command.arg("-e").stdin(Stdio::piped());
        run(command, what, Some(script)).await
    }
}

/// Runs `command` to its end and returns its standard output.
///
/// # Errors
/// [`LabError::Command`] with its output when it fails or takes too long.
pub async fn run(mut command: Command, what: &str, input: Option<&str>) -> Result<String, LabError> {
    let failed = |output: String| LabError::Command { what: what.to_owned(), output };
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    if input.is_none() {
        command.stdin(Stdio::null());
    }
    let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
    if let (Some(mut pipe), Some(text)) = (child.stdin.take(), input) {
        // A command that ends before it read everything is judged by its exit status.
        let _ = pipe.write_all(text.as_bytes()).await;
    }
    let output = tokio::time::timeout(COMMAND_LIMIT, child.wait_with_output())
        .await
        .map_err(|_| failed(format!("no end within {COMMAND_LIMIT:?}")))?
        .map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said =
        [&output.stderr[..], &output.stdout[..]].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    Err(failed(format!("{} {}", output.status, said.concat().trim())))
}
