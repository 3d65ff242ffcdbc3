//! Child processes that do not outlive us.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

pub(super) use rustix::process::Signal;
use rustix::process::{Pid, kill_process};
use tokio::process::{Child, Command};

/// The path of `program` by `PATH`.
pub fn find_program(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|dir| dir.join(program)).find(|candidate| is_executable(candidate))
}

/// Whether `path` is a program.
pub(super) fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// `command` in a process group of its own (a terminal's Ctrl-C reaches its parent alone, which then stops its
/// children in order) and, where `setpriv` exists, killed by the kernel should its parent be killed.
pub(super) fn tied(command: Command) -> Command {
    let mut tied = if find_program("setpriv").is_some() { killed_with_parent(&command) } else { command };
    tied.process_group(0);
    tied
}

fn killed_with_parent(command: &Command) -> Command {
    let inner = command.as_std();
    let mut outer = Command::new("setpriv");
    outer.args(["--pdeathsig", "KILL", "--"]).arg(inner.get_program()).args(inner.get_args());
    for (key, value) in inner.get_envs() {
        match value {
            Some(value) => outer.env(key, value),
            None => outer.env_remove(key),
        };
    }
    if let Some(dir) = inner.get_current_dir() {
        outer.current_dir(dir);
    }
    outer
}

/// Sends `signal` to `child`; one that is gone needs none.
pub(super) fn send(child: &Child, signal: Signal) {
    // The id is there until the child has been waited for: it cannot be another process by now.
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid {
        let _ = kill_process(pid, signal);
    }
}
