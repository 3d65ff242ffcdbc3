//! The lab's control socket: another process asks the running lab to play a scenario.
//!
//! A unix socket in the run directory, mode 0600: a path on the host's file system, which connects across
//! network namespaces. The asker sends one [`Request`] as a line of JSON and gets [`Reply`] lines until the
//! lab closes the connection. When the asker goes away, or closes its sending side, the scenario is cut short
//! and the lab restored.

mod asker;

use std::fs::{self, File};
use std::future::Future;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixSocket, UnixStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub use self::asker::{ControlError, ask, find};
use super::LabError;
use super::scenario::Report;
use super::timeline::Row;

/// The socket's name in the run directory.
const NAME: &str = "control";
/// Askers that may wait to be accepted.
const BACKLOG: u32 = 16;
/// The longest request.
const REQUEST_LIMIT: u64 = 16 << 10;
/// An asker says what it wants at once.
const REQUEST_PATIENCE: Duration = Duration::from_secs(5);
/// An asker reads the last line at once.
const LAST_PATIENCE: Duration = Duration::from_secs(10);
/// Replies on their way to an asker. A slow one misses rows, which are in the report too.
const REPLIES: usize = 256;

/// What an asker wants.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The scenario.
    pub scenario: String,
    /// The cluster it happens to; the lab's last one if none.
    pub cluster: Option<String>,
    /// How long the fault lasts, in milliseconds.
    pub for_ms: Option<u64>,
    /// Replicas, one after the other.
    pub to: Option<Vec<u32>>,
    /// How often.
    pub times: Option<u32>,
}

/// One line from the lab.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reply {
    /// What goes on, for people.
    Say(String),
    /// A second is over.
    Row(Row),
    /// The scenario is over; the last line.
    Report(Box<Report>),
    /// There is no scenario; the only line.
    Refused(Refusal),
}

/// Why the lab plays no scenario.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// What is wrong and what to do.
    pub why: String,
    /// Whether the request is at fault.
    pub usage: bool,
}

/// Where a scenario's replies go. Never waits: an asker that does not read misses lines.
#[derive(Debug, Clone)]
pub struct Replies(mpsc::Sender<Reply>);

impl Replies {
    /// A way for replies and its end.
    pub fn channel() -> (Self, mpsc::Receiver<Reply>) {
        let (sender, receiver) = mpsc::channel(REPLIES);
        (Self(sender), receiver)
    }

    /// Sends one line, unless the asker is too far behind: rows are in the report too.
    pub fn send(&self, reply: Reply) {
        let _ = self.0.try_send(reply);
    }

    /// Sends the last line, which waits for the asker.
    async fn end(self, reply: Reply) {
        // An error means that nobody takes lines any more.
        let _ = self.0.send(reply).await;
    }
}

/// The path of the control socket by which a directory of any depth can be used: socket addresses hold about
/// a hundred bytes.
fn short_path(dir: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{NAME}", dir.as_raw_fd()))
}

/// Makes the socket in `run_dir`. Nobody else may connect: it listens only once its mode is set.
///
/// # Errors
/// [`LabError::File`].
pub fn listen(run_dir: &Path) -> Result<UnixListener, LabError> {
    let path = run_dir.join(NAME);
    let making = || LabError::file("make the control socket", path.clone());
    // A kept run directory may have that of a lab that is gone.
    let _ = fs::remove_file(&path);
    let dir = File::open(run_dir).map_err(making())?;
    let socket = UnixSocket::new_stream().map_err(making())?;
    socket.bind(short_path(&dir)).map_err(making())?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(making())?;
    socket.listen(BACKLOG).map_err(making())
}

/// Who plays what since when.
type Stage = Arc<Mutex<Option<(String, Instant)>>>;

/// Serves askers, each by `play`, one scenario at a time. `play` gets a token that is cancelled once the asker
/// wants no more; it must still restore the lab before it returns the last line. Runs until dropped.
pub async fn serve<F, Fut>(listener: UnixListener, play: F)
where
    F: Fn(Request, Replies, CancellationToken) -> Fut,
    Fut: Future<Output = Reply>,
{
    let stage = Stage::default();
    let mut askers = FuturesUnordered::new();
    loop {
        // Unbiased: neither can starve the other.
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    askers.push(Box::pin(attend(stream, Arc::clone(&stage), &play)));
                }
                // Out of file descriptors, say: nothing to do but to try again later.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            },
            Some(()) = askers.next(), if !askers.is_empty() => {}
        }
    }
}

async fn attend<F, Fut>(stream: UnixStream, stage: Stage, play: &F)
where
    F: Fn(Request, Replies, CancellationToken) -> Fut,
    Fut: Future<Output = Reply>,
{
    let (reader, writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let request = match hear(&mut reader).await {
        Ok(Some(request)) => request,
        // It only looked whether there is a lab.
        Ok(None) => return,
        Err(why) => return refuse(writer, Refusal { why, usage: true }).await,
    };
    let turn = match Turn::take(&stage, &request.scenario) {
        Ok(turn) => turn,
        Err(why) => return refuse(writer, Refusal { why, usage: false }).await,
    };
    let (replies, lines) = Replies::channel();
    let cancel = CancellationToken::new();
    let mut telling = tokio::task::JoinSet::new();
    telling.spawn(tell(writer, lines));
    let last = {
        let playing = play(request, replies.clone(), cancel.clone());
        tokio::pin!(playing);
        // Unbiased: either way the scenario comes to its end.
        tokio::select! {
            last = &mut playing => last,
            () = gone(reader) => {
                cancel.cancel();
                playing.await
            }
        }
    };
    // Whoever has read the last line may ask again.
    drop(turn);
    let ending = async {
        replies.end(last).await;
        telling.join_next().await
    };
    // An asker that reads nothing is given up.
    let _ = tokio::time::timeout(LAST_PATIENCE, ending).await;
}

/// The request; none if the asker said nothing.
async fn hear(reader: &mut BufReader<OwnedReadHalf>) -> Result<Option<Request>, String> {
    let mut line = String::new();
    let mut limited = reader.take(REQUEST_LIMIT);
    let read = tokio::time::timeout(REQUEST_PATIENCE, limited.read_line(&mut line)).await;
    match read {
        Ok(Ok(0)) => Ok(None),
        Ok(Ok(_)) => serde_json::from_str(&line)
            .map(Some)
            .map_err(|error| format!("no request of a scenario: {error}")),
        Ok(Err(error)) => Err(format!("cannot read the request: {error}")),
        Err(_) => Err(format!("no request within {REQUEST_PATIENCE:?}")),
    }
}

/// Completes once the asker has gone or closed its sending side.
async fn gone(mut reader: BufReader<OwnedReadHalf>) {
    let mut rest = [0; 64];
    // What an asker says after its request means nothing.
    while reader.read(&mut rest).await.is_ok_and(|read| read > 0) {}
}

/// Writes lines until there are no more. An asker that went away is told nothing, yet the lines must flow.
async fn tell(mut writer: OwnedWriteHalf, mut lines: mpsc::Receiver<Reply>) {
    while let Some(reply) = lines.recv().await {
        let _ = write(&mut writer, &reply).await;
    }
}

async fn refuse(mut writer: OwnedWriteHalf, refusal: Refusal) {
    let _ = write(&mut writer, &Reply::Refused(refusal)).await;
}

async fn write(writer: &mut OwnedWriteHalf, reply: &Reply) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    writer.write_all(&line).await
}

/// The right to play a scenario, given back when dropped.
struct Turn(Stage);

impl Turn {
    fn take(stage: &Stage, scenario: &str) -> Result<Self, String> {
        let mut playing = stage.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((name, since)) = playing.as_ref() {
            let seconds = since.elapsed().as_secs();
            return Err(format!(
                "scenario {name} has been running in this lab for {seconds} s and there is one at a time; wait \
                 for its end, or end it with Ctrl-C where it was started"
            ));
        }
        *playing = Some((scenario.to_owned(), Instant::now()));
        Ok(Self(Arc::clone(stage)))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

#[cfg(test)]
mod tests;
