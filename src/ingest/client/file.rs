//! Files with credentials: read by few threads of each server, whatever state they are in (K-16, K-17).

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::Semaphore;

use super::one_run::OneRun;

/// Bytes of a file that are read; certificates and tokens are much smaller.
const LARGEST: u64 = 1 << 20;
/// How long reading one is waited for.
const PATIENCE: Duration = Duration::from_secs(3);
/// Files that the process reads at once. On a file system that hangs each of them holds a thread, and names are
/// resolved by threads as well.
static THREADS: Semaphore = Semaphore::const_new(192);
/// And those of one server: a file system that hangs must not hold up the files of others.
const OWN_THREADS: usize = 2;

/// What a file holds, or why that is not known. Secret: never shown.
pub(super) type Contents = Result<Arc<[u8]>, Arc<str>>;

/// Those who read the files of one server.
#[derive(Clone)]
pub(super) struct Readers {
    own: Arc<Semaphore>,
    load: fn(&Path) -> Contents,
}

impl Default for Readers {
    fn default() -> Self {
        Self { own: Arc::new(Semaphore::new(OWN_THREADS)), load }
    }
}

/// A file that somebody keeps current. However many ask, and however long it takes, it is read once at a time.
pub(super) struct CredentialFile {
    path: PathBuf,
    readers: Readers,
    reading: OneRun<Contents>,
    /// A thread is busy with it.
    busy: Arc<AtomicBool>,
}

impl CredentialFile {
    pub(super) fn new(path: PathBuf, readers: &Readers) -> Self {
        Self { path, readers: readers.clone(), reading: OneRun::default(), busy: Arc::default() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What it holds now. Needs a runtime.
    ///
    /// # Errors
    /// *Retried* by the next call: it cannot be read, is no regular file, is larger than 1 MiB or takes too long.
    pub(super) async fn read(&self) -> Contents {
        let reading = self.reading.join(|| self.in_thread());
        match tokio::time::timeout(PATIENCE, reading).await {
            Ok(contents) => contents.unwrap_or_else(|| Err("reading it ended abnormally".into())),
            Err(_) if self.busy.load(Relaxed) => Err(too_long()),
            Err(_) => Err("it was not its turn: other files hang".into()),
        }
    }

    fn in_thread(&self) -> impl Future<Output = Contents> + Send + 'static {
        let (path, busy) = (self.path.clone(), Arc::clone(&self.busy));
        let Readers { own, load } = self.readers.clone();
        async move {
            let own = own.acquire_owned().await.map_err(why)?;
            let thread = THREADS.acquire().await.map_err(why)?;
            let read = tokio::task::spawn_blocking(move || {
                // As long as the thread is busy, not as long as somebody waits for it.
                let _until_it_ends = (own, thread);
                busy.store(true, Relaxed);
                let contents = load(&path);
                busy.store(false, Relaxed);
                contents
            });
            read.await.map_err(why)?
        }
    }
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
    use std::sync::{Condvar, Mutex};

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
            let file = CredentialFile::new(path.to_owned(), &Readers::default());
            // On a thread of its own: one that hangs is told apart from one that fails.
            let read = tokio::time::timeout(Duration::from_secs(60), file.read()).await;
            let error = read.unwrap().unwrap_err();
            assert!(error.contains(why), "{}: {error}", path.display());
        }
        let good = CredentialFile::new(good, &Readers::default());
        assert_eq!(good.read().await.unwrap().as_ref(), b"x");
    }

    /// How many threads wait for a file system that hangs, and whether it does not any more.
    static HANGS: (Mutex<(usize, bool)>, Condvar) = (Mutex::new((0, false)), Condvar::new());

    fn hang(_: &Path) -> Contents {
        let (state, changed) = &HANGS;
        let mut state = state.lock().unwrap();
        state.0 += 1;
        while !state.1 {
            state = changed.wait(state).unwrap();
        }
        Err("over".into())
    }

    /// Lets threads go, whatever becomes of the test.
    struct LetGo;

    impl Drop for LetGo {
        fn drop(&mut self) {
            HANGS.0.lock().unwrap().1 = true;
            HANGS.1.notify_all();
        }
    }

    #[tokio::test]
    async fn k16_files_that_hang_hold_up_those_of_their_own_server_only() {
        let _let_go = LetGo;
        let dir = tempfile::tempdir().unwrap();
        let good = dir.path().join("good");
        std::fs::write(&good, "x").unwrap();
        let of_one = || {
            let readers = Readers { load: hang, ..Readers::default() };
            [(); 3].map(|()| CredentialFile::new("/mnt/gone".into(), &readers))
        };
        let files: Vec<_> = (0..40).flat_map(|_| of_one()).collect();
        let reads = futures::future::join_all(files.iter().map(CredentialFile::read));
        let good = async {
            while HANGS.0.lock().unwrap().0 < 80 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            CredentialFile::new(good, &Readers::default()).read().await
        };
        let (hanging, good) = tokio::join!(reads, good);
        assert_eq!(good.unwrap().as_ref(), b"x");
        let told = |words| hanging.iter().filter(|read| read.as_ref().unwrap_err().contains(words)).count();
        assert_eq!((told("longer than 3s"), told("not its turn")), (80, 40), "two threads for each server");
    }
}
