//! The document in a file (`--networks-config`): read again whenever it changes.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{RecursiveMode, Watcher};
use tokio::sync::mpsc;

use super::{MeshPublisher, file_origin};

/// Changes are collected for this long.
const COALESCE: Duration = Duration::from_millis(100);
/// The file is read this often even without a notice: its links may lead to places that are not watched.
const RESCAN: Duration = Duration::from_secs(10);
/// The largest file that is read.
const MAX_BYTES: u64 = 4 << 20;

/// A file that is followed through every way of replacing it.
pub(in crate::ingest) struct MeshFile {
    path: PathBuf,
    notices: mpsc::Receiver<()>,
    /// Kept for its side effect; `None` where notices are not to be had, and looking again suffices.
    _watcher: Option<notify::RecommendedWatcher>,
    text: String,
}

impl MeshFile {
    /// Reads the file for the first time.
    ///
    /// # Errors
    /// It cannot be read.
    pub(in crate::ingest) fn open(path: &Path) -> io::Result<Self> {
        let (sender, notices) = mpsc::channel(1);
        let watcher = notify::recommended_watcher(move |_| {
            // Full means that a look is already due.
            let _ = sender.try_send(());
        });
        // The folder, not the file: a mounted volume exchanges a link beside it, an editor the file itself.
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let watcher = watcher.and_then(|mut watcher| {
            watcher.watch(folder, RecursiveMode::NonRecursive)?;
            Ok(watcher)
        });
        // Watched before it is read: no change between the two is missed.
        let text = read(path)?;
        Ok(Self { path: path.to_owned(), notices, _watcher: watcher.ok(), text })
    }

    /// What it said when it was last read.
    pub(in crate::ingest) fn text(&self) -> &str {
        &self.text
    }

    /// Publishes every version of the file, for ever.
    pub(in crate::ingest) async fn follow(mut self, publisher: MeshPublisher) {
        let origin = file_origin(&self.path);
        loop {
            self.changed().await;
            let path = self.path.clone();
            let text = tokio::task::spawn_blocking(move || read(&path)).await;
            match text.unwrap_or_else(|error| Err(io::Error::other(error))) {
                Ok(text) => {
                    self.text = text;
                    // Told by the publisher; the last good version stands.
                    let _ = publisher.take(&self.text, &origin);
                }
                Err(error) => publisher.unreadable(&origin, &error.to_string()),
            }
        }
    }

    async fn changed(&mut self) {
        tokio::select! {
            // Unbiased: either leads to a look.
            notice = self.notices.recv() => {
                if notice.is_none() {
                    tokio::time::sleep(RESCAN).await;
                }
            }
            () = tokio::time::sleep(RESCAN) => return,
        }
        tokio::time::sleep(COALESCE).await;
        while self.notices.try_recv().is_ok() {}
    }
}

fn read(path: &Path) -> io::Result<String> {
    let length = std::fs::metadata(path)?.len();
    if length > MAX_BYTES {
        return Err(io::Error::other(format!("{length} bytes are more than {MAX_BYTES}")));
    }
    std::fs::read_to_string(path)
}
