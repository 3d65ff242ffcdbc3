//! The other end: finding a running lab and asking it.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

use super::super::rundir;
use super::super::scenario::Report;
use super::{NAME, Refusal, Reply, Request, short_path};

/// Why there is no report. All are *Fatal* for the asker.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// No lab runs.
    #[error(
        "no lab is running: no directory {pattern} in {dir} has one that answers; start one with `tombolo lab` \
         in another terminal and wait until it says what to try, or name its --run-dir",
        dir = dir.display()
    )]
    None {
        /// Where was looked.
        dir: PathBuf,
        /// For what.
        pattern: String,
    },
    /// Several labs run.
    #[error("{} labs are running; name one: {}", runs.len(), choices(runs))]
    Several {
        /// Their run directories.
        runs: Vec<PathBuf>,
    },
    /// The named directory has no running lab.
    #[error("no lab answers in {dir} ({source}); is it running, and past its start?", dir = dir.display())]
    NotThere {
        /// The directory.
        dir: PathBuf,
        /// Why its socket cannot be used.
        source: io::Error,
    },
    /// The lab ended before the scenario did.
    #[error("the lab in {dir} ended before the scenario did", dir = dir.display())]
    Lost {
        /// Its run directory.
        dir: PathBuf,
    },
    /// The lab says something that is no reply.
    #[error("the lab in {dir} says what this program does not understand ({problem}); is it another version?", dir = dir.display())]
    Odd {
        /// Its run directory.
        dir: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The lab refuses.
    #[error("{}", .0.why)]
    Refused(Refusal),
}

fn choices(runs: &[PathBuf]) -> String {
    runs.iter().map(|run| format!("--run-dir {}", run.display())).collect::<Vec<_>>().join(" or ")
}

impl ControlError {
    /// Whether the arguments are at fault, or could help.
    pub fn is_usage(&self) -> bool {
        match self {
            Self::None { .. } | Self::Several { .. } | Self::NotThere { .. } => true,
            Self::Refused(refusal) => refusal.usage,
            Self::Lost { .. } | Self::Odd { .. } => false,
        }
    }
}

/// The run directory of the lab to ask: `chosen`, or that of the only lab running in `temporary`.
///
/// # Errors
/// [`ControlError`] saying what to do.
pub async fn find(chosen: Option<&Path>, temporary: &Path) -> Result<PathBuf, ControlError> {
    if let Some(dir) = chosen {
        let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
        connect(&dir).await?;
        return Ok(dir);
    }
    let mut runs = Vec::new();
    for dir in rundir::candidates(temporary) {
        if connect(&dir).await.is_ok() {
            runs.push(dir);
        }
    }
    match runs.len() {
        0 => {
            let pattern = format!("{}*", rundir::PREFIX);
            Err(ControlError::None { dir: temporary.to_owned(), pattern })
        }
        1 => Ok(runs.remove(0)),
        _ => Err(ControlError::Several { runs }),
    }
}

async fn connect(dir: &Path) -> Result<UnixStream, ControlError> {
    let failed = |source| ControlError::NotThere { dir: dir.to_owned(), source };
    let opened = File::open(dir).map_err(failed)?;
    let path = short_path(&opened);
    if !dir.join(NAME).exists() {
        return Err(failed(io::Error::new(io::ErrorKind::NotFound, format!("it has no socket `{NAME}`"))));
    }
    UnixStream::connect(path).await.map_err(failed)
}

/// Asks the lab in `run_dir` and gives `each` its lines up to the report. Once `stop` completes the lab is told
/// to cut the scenario short; its report still comes.
///
/// # Errors
/// [`ControlError`].
pub async fn ask(
    run_dir: &Path,
    request: &Request,
    stop: impl Future<Output = ()>,
    mut each: impl FnMut(Reply),
) -> Result<Report, ControlError> {
    let lost = || ControlError::Lost { dir: run_dir.to_owned() };
    let odd = |problem: String| ControlError::Odd { dir: run_dir.to_owned(), problem };
    let (reader, mut writer) = connect(run_dir).await?.into_split();
    let line = serde_json::to_string(request).map_err(|error| odd(error.to_string()))?;
    writer.write_all(format!("{line}\n").as_bytes()).await.map_err(|_| lost())?;
    let mut lines = BufReader::new(reader).lines();
    let mut writer = Some(writer);
    tokio::pin!(stop);
    loop {
        // Biased: the order to stop must not wait behind many lines.
        let line = tokio::select! {
            biased;
            () = &mut stop, if writer.is_some() => {
                // Closes the sending side.
                drop(writer.take());
                continue;
            }
            line = lines.next_line() => line.ok().flatten().ok_or_else(lost)?,
        };
        match serde_json::from_str(&line).map_err(|error| odd(error.to_string()))? {
            Reply::Report(report) => return Ok(*report),
            Reply::Refused(refusal) => return Err(ControlError::Refused(refusal)),
            other => each(other),
        }
    }
}
