//! Files with credentials: read by few threads, whatever state they are in (K-16, K-17).

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::one_run::OneRun;

/// Bytes of a file that are read; certificates and tokens are much smaller.
const LARGEST: u64 = 1 << 20;
/// How long reading one is waited for.
const PATIENCE: Duration = Duration::from_secs(3);
/// Files that the process reads at once. On a file system that hangs each of them holds a thread, and names are
/// resolved by threads as well.
static READERS: Semaphore = Semaphore::const_new(32);

/// What a file holds, or why that is not known. Secret: never shown.
pub(super) type Contents = Result<Arc<[u8]>, Arc<str>>;

/// A file that somebody keeps current. However many ask, and however long it takes, it is read once at a time.
pub(super) struct CredentialFile {
    path: PathBuf,
    reading: OneRun<Contents>,
}

impl CredentialFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, reading: OneRun::default() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What it holds now. Needs a runtime.
    ///
    /// # Errors
    /// *Retried* by the next call: it cannot be read, is no regular file, is larger than 1 MiB or takes too long.
    pub(super) async fn read(&self) -> Contents {
        let reading = self.reading.join(|| in_thread(self.path.clone()));
        match tokio::time::timeout(PATIENCE, reading).await {
            Ok(contents) => contents.unwrap_or_else(|| Err("reading it ended abnormally".into())),
            Err(_) => Err(too_long()),
        }
    }

    /// The same without a runtime; blocks as long as it is waited for.
    pub(super) fn load(&self) -> Contents {
        let path = self.path.clone();
        let (sender, contents) = mpsc::channel();
        let thread = thread::Builder::new().name("credentials".to_owned());
        // Nobody waits any more: so be it.
        let spawned = thread.spawn(move || _ = sender.send(load(&path)));
        spawned.map_err(why)?;
        contents.recv_timeout(PATIENCE).unwrap_or_else(|_| Err(too_long()))
    }
}

async fn in_thread(path: PathBuf) -> Contents {
    let reader = READERS.acquire().await.map_err(why)?;
    let read = tokio::task::spawn_blocking(move || {
        // As long as the thread is busy, not as long as somebody waits for it.
        let _reader = reader;
        load(&path)
    });
    read.await.map_err(why)?
}

fn why(error: impl std::error::Error) -> Arc<str> {
    error.to_string().into()
}

fn too_long() -> Arc<str> {
    format!("it takes longer than {}", humantime::format_duration(PATIENCE)).into()
}

fn load(path: &Path) -> Contents {
    bytes(path).map(Arc::from).map_err(why)
}

fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    // Before it is opened: opening a pipe waits for its other end.
    check(&std::fs::metadata(path)?)?;
    let file = File::open(path)?;
    check(&file.metadata()?)?;
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        return Err(io::Error::other(format!("it has more than {LARGEST} bytes")));
    }
    Ok(bytes)
}

fn check(metadata: &Metadata) -> io::Result<()> {
    if metadata.is_file() { Ok(()) } else { Err(io::Error::other("it is not a regular file")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn k16_what_is_no_file_of_credentials_holds_nobody_up() {
        let dir = tempfile::tempdir().unwrap();
        let (pipe, large, good) =
            (dir.path().join("pipe"), dir.path().join("large"), dir.path().join("good"));
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        std::fs::write(&large, vec![b'x'; (1 << 20) + 1]).unwrap();
        std::fs::write(&good, "x").unwrap();
        for (path, why) in [
            (pipe.as_path(), "not a regular file"),
            (Path::new("/dev/zero"), "not a regular file"),
            (dir.path(), "not a regular file"),
            (&large, "more than 1048576 bytes"),
            (&dir.path().join("none"), "No such file"),
        ] {
            let file = CredentialFile::new(path.to_owned());
            // On a thread of its own: one that hangs is told apart from one that fails.
            let read = tokio::time::timeout(Duration::from_secs(60), file.read()).await;
            for contents in [read.unwrap(), file.load()] {
                let error = contents.unwrap_err();
                assert!(error.contains(why), "{}: {error}", path.display());
            }
        }
        let good = CredentialFile::new(good);
        assert_eq!(good.read().await.unwrap().as_ref(), b"x");
        assert_eq!(good.load().unwrap().as_ref(), b"x");
    }
}
