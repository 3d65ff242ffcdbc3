//! A document in a file (`--networks-config`, `--mesh-config`): read again whenever it changes.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::RecursiveMode;

use super::{Publisher, file_origin};
use crate::ingest::notices::Notices;

/// Changes are collected for this long.
const COALESCE: Duration = Duration::from_millis(100);
/// A change counts once two reads this far apart agree: a file that is being written is not believed.
const SETTLE: Duration = Duration::from_secs(1);
/// How often a file that changes all the time is read before that is told.
const MAX_READS: usize = 30;
/// The largest file that is read.
const MAX_BYTES: u64 = 4 << 20;

/// A file that is followed through every way of replacing it.
pub(in crate::ingest) struct MeshFile {
    path: PathBuf,
    notices: Notices,
    text: String,
}

impl MeshFile {
    /// Reads the file for the first time.
    ///
    /// # Errors
    /// It cannot be read.
    pub(in crate::ingest) fn open(path: &Path) -> io::Result<Self> {
        // The folder, not the file: a mounted volume exchanges a link beside it, an editor the file itself.
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let (notices, _without) = Notices::of(folder, RecursiveMode::NonRecursive, COALESCE);
        // Watched before it is read: no change between the two is missed.
        let text = read(path)?;
        Ok(Self { path: path.to_owned(), notices, text })
    }

    /// What it said when it was last read.
    pub(in crate::ingest) fn text(&self) -> &str {
        &self.text
    }

    /// Publishes every version of the file, for ever.
    pub(in crate::ingest) async fn follow<P: Publisher>(mut self, publisher: P) {
        let origin = file_origin(&self.path);
        let mut unreadable = false;
        loop {
            self.notices.next().await;
            match self.settled().await {
                Ok(text) if text == self.text && !unreadable => {}
                Ok(text) if is_blank(&text) && !is_blank(&self.text) => {
                    publisher.unreadable(&origin, P::EMPTIED);
                    unreadable = true;
                }
                Ok(text) => {
                    self.text = text;
                    if let Err(problem) = publisher.take(&self.text, &origin) {
                        publisher.unreadable(&origin, &problem);
                    }
                    unreadable = false;
                }
                Err(error) => {
                    publisher.unreadable(&origin, &error.to_string());
                    unreadable = true;
                }
            }
        }
    }

    /// What the file says once it rests.
    pub(super) async fn settled(&self) -> io::Result<String> {
        let mut last = self.read().await;
        for _ in 0..MAX_READS {
            if last.as_ref().is_ok_and(|text| *text == self.text) {
                return last;
            }
            tokio::time::sleep(SETTLE).await;
            let next = self.read().await;
            let rests = match (&last, &next) {
                (Ok(last), Ok(next)) => last == next,
                (last, next) => last.is_err() && next.is_err(),
            };
            if rests {
                return next;
            }
            last = next;
        }
        Err(io::Error::other("changes all the time"))
    }

    async fn read(&self) -> io::Result<String> {
        let path = self.path.clone();
        let text = tokio::task::spawn_blocking(move || read(&path)).await;
        text.unwrap_or_else(|error| Err(io::Error::other(error)))
    }
}

/// Whether nothing is said at all: what the first step of writing a file leaves.
fn is_blank(text: &str) -> bool {
    text.trim().is_empty()
}

fn read(path: &Path) -> io::Result<String> {
    let length = std::fs::metadata(path)?.len();
    if length > MAX_BYTES {
        return Err(io::Error::other(format!("{length} bytes are more than {MAX_BYTES}")));
    }
    std::fs::read_to_string(path)
}
