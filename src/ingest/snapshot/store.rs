//! The directory of snapshots.
//!
//! Several processes may share one, while one takes over from another: files are written whole under names of
//! their own and moved into place, and only who is alone clears away the pieces that others left. Snapshots that are
//! twice too old are deleted by whoever finds them, for all who share the directory.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use xxhash_rust::xxh3::xxh3_64;

use super::format::write_within;
use super::{Corrupt, MAX_BYTES, Pin, Snapshot, SnapshotOptions, parse};
use crate::model::ClusterId;

const SUFFIX: &str = ".snapshot";
const TEMPORARY: &str = ".snapshot.tmp";
/// Longer ids are cut and told apart by a hash: file names have at most 255 bytes.
const LONGEST_NAME: usize = 200;
/// Names that are tried for a file that is being written.
const MAX_NAMES: u32 = 1000;
/// Permission of others than the owner to write.
const OTHERS_WRITE: u32 = 0o022;
/// What a clock that is being set right may be off by.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(300);

/// *Fatal* at start: nothing could ever be kept there.
#[derive(Debug, thiserror::Error)]
#[error("--snapshot-dir: cannot {action} {path}: {error}; the directory must be there and writable")]
pub struct SnapshotError {
    action: &'static str,
    path: PathBuf,
    error: io::Error,
}

/// *Skipped*: why a snapshot is not used. The cluster is then served once its API server was read.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// The file.
    #[error("it cannot be read: {0}")]
    Read(#[from] io::Error),
    /// It is of another user.
    #[error("it belongs to user {0}, and what this process writes does not: anybody may have made it up")]
    OtherOwner(u32),
    /// Other users may write to it.
    #[error("its mode is {0:o}: others may write to it")]
    Writable(u32),
    /// Its bytes.
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    /// It is of another cluster.
    #[error("it is of cluster {0}")]
    OtherCluster(ClusterId),
    /// The cluster is behind another API server now.
    #[error("it was read from {then}, and the cluster's API server is {now}")]
    OtherServer {
        /// Where it was read from.
        then: String,
        /// Where the cluster is now.
        now: String,
    },
    /// The API server has another CA now.
    #[error("it was read from an API server with another CA")]
    OtherCa,
    /// It is too old.
    #[error("it is {} old, more than --snapshot-max-age {}", short(*.age), humantime::format_duration(*.limit))]
    TooOld {
        /// Its age.
        age: Duration,
        /// The limit.
        limit: Duration,
    },
    /// It is from the future.
    #[error("it is from {} in the future: the clock was wrong then, or is now", short(*.0))]
    FromTheFuture(Duration),
}

/// *Skipped*: why a state is not kept. The file of before stays.
#[derive(Debug, thiserror::Error)]
pub enum Unsaved {
    /// The disk.
    #[error("it cannot be written: {0}")]
    Write(#[from] io::Error),
    /// More than is ever read.
    #[error("it would be larger than {0} bytes")]
    TooLarge(usize),
}

fn short(age: Duration) -> humantime::FormattedDuration {
    humantime::format_duration(Duration::from_secs(age.as_secs()))
}

/// A snapshot that can be served.
#[derive(Debug)]
pub struct Loaded {
    /// The file.
    pub path: PathBuf,
    /// Its content.
    pub snapshot: Snapshot,
    /// How long ago it was true.
    pub age: Duration,
}

/// A file that would be the snapshot of a cluster, by its name.
#[derive(Debug)]
pub struct Ignored {
    /// The cluster; of one with a long id what its file is named after.
    pub cluster: ClusterId,
    /// The file.
    pub path: PathBuf,
    /// Why it is not used.
    pub why: Unusable,
}

/// Every snapshot there is.
#[derive(Debug, Default)]
pub struct All {
    /// Those that can be served.
    pub usable: Vec<Loaded>,
    /// The others.
    pub ignored: Vec<Ignored>,
}

/// Reads and writes the snapshots of one directory. Blocking: not for the threads that serve.
#[derive(Debug)]
pub struct SnapshotStore {
    dir: PathBuf,
    max_age: Duration,
    max_bytes: usize,
    /// User and mode that files have here which this process makes.
    made: (u32, u32),
    /// Held: others see that the directory is in use.
    _lock: File,
}

impl SnapshotStore {
    /// Opens the directory, makes it if need be, and clears away pieces of writes that were interrupted.
    ///
    /// # Errors
    /// It cannot be made or written to.
    pub fn open(options: &SnapshotOptions) -> Result<Self, SnapshotError> {
        let dir = options.dir.clone();
        let fail = |action| {
            let path = dir.clone();
            move |error| SnapshotError { action, path, error }
        };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(fail("make"))?;
        let lock = File::open(&dir).map_err(fail("read"))?;
        claim(&lock, || clear(&dir)).map_err(fail("read"))?;
        let (probe, file) = create(&dir).map_err(fail("write to"))?;
        let made = file.metadata().map_err(fail("read"))?;
        remove(&probe).map_err(fail("write to"))?;
        let made = (made.uid(), made.mode());
        Ok(Self { dir, max_age: options.max_age, max_bytes: MAX_BYTES, made, _lock: lock })
    }

    /// The same with another limit.
    #[cfg(test)]
    pub(super) fn limited(self, max_bytes: usize) -> Self {
        Self { max_bytes, ..self }
    }

    /// The same as another user's.
    #[cfg(test)]
    pub(super) fn of_user(self, user: u32) -> Self {
        Self { made: (user, self.made.1), ..self }
    }

    /// The longest age that is believed.
    pub fn max_age(&self) -> Duration {
        self.max_age
    }

    /// Where the snapshot of a cluster is.
    pub fn path(&self, cluster: &ClusterId) -> PathBuf {
        let name = match cluster.get(..LONGEST_NAME) {
            Some(start) if cluster.len() > LONGEST_NAME => {
                format!("{start}-{:016x}{SUFFIX}", xxh3_64(cluster.as_bytes()))
            }
            _ => format!("{cluster}{SUFFIX}"),
        };
        self.dir.join(name)
    }

    /// The snapshot of a cluster, if there is one.
    ///
    /// # Errors
    /// There is one and it is not to be used.
    pub fn load(&self, cluster: &ClusterId, pin: &Pin, now: SystemTime) -> Result<Option<Loaded>, Unusable> {
        let Some(loaded) = self.load_file(self.path(cluster), now)? else {
            return Ok(None);
        };
        let snapshot = &loaded.snapshot;
        if snapshot.pin.server != pin.server {
            return Err(Unusable::OtherServer { then: snapshot.pin.server.clone(), now: pin.server.clone() });
        }
        if snapshot.pin.ca != pin.ca {
            return Err(Unusable::OtherCa);
        }
        Ok(Some(loaded))
    }

    /// The snapshot in a file, of whatever API server.
    fn load_file(&self, path: PathBuf, now: SystemTime) -> Result<Option<Loaded>, Unusable> {
        let Some(bytes) = self.read(&path)? else {
            return Ok(None);
        };
        let snapshot = parse(&bytes)?;
        if self.path(&snapshot.cluster) != path {
            return Err(Unusable::OtherCluster(snapshot.cluster));
        }
        let age = self.age(snapshot.confirmed, now)?;
        Ok(Some(Loaded { path, snapshot, age }))
    }

    /// Every snapshot, of whatever API server, and what is wrong with the others.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn load_all(&self, now: SystemTime) -> io::Result<All> {
        let mut all = All::default();
        for (cluster, path) in self.files()? {
            match self.load_file(path.clone(), now) {
                Ok(loaded) => all.usable.extend(loaded),
                Err(why) => all.ignored.push(Ignored { cluster, path, why }),
            }
        }
        Ok(all)
    }

    /// Clusters whose snapshot is twice too old, by when it was written and by what it says.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn outdated(&self, now: SystemTime) -> io::Result<Vec<ClusterId>> {
        let limit = self.max_age.saturating_mul(2);
        let mut files = self.files()?;
        files.retain(|(cluster, path)| {
            let written = fs::metadata(path).and_then(|file| file.modified());
            cluster.len() <= LONGEST_NAME
                && written.is_ok_and(|at| now.duration_since(at).is_ok_and(|age| age > limit))
                && matches!(self.load_file(path.clone(), now), Err(Unusable::TooOld { age, .. }) if age > limit)
        });
        Ok(files.into_iter().map(|(cluster, _)| cluster).collect())
    }

    /// Files, with the clusters they are named after.
    fn files(&self) -> io::Result<Vec<(ClusterId, PathBuf)>> {
        let entries = fs::read_dir(&self.dir)?.flatten();
        let files = entries.filter_map(|entry| {
            let name = entry.file_name();
            let id = name.to_str()?.strip_suffix(SUFFIX)?;
            Some((ClusterId::from(id), entry.path()))
        });
        Ok(files.collect())
    }

    fn age(&self, confirmed: SystemTime, now: SystemTime) -> Result<Duration, Unusable> {
        match now.duration_since(confirmed) {
            Ok(age) if age > self.max_age => Err(Unusable::TooOld { age, limit: self.max_age }),
            Ok(age) => Ok(age),
            Err(ahead) if ahead.duration() <= CLOCK_TOLERANCE => Ok(Duration::ZERO),
            Err(ahead) => Err(Unusable::FromTheFuture(ahead.duration())),
        }
    }

    /// Puts a snapshot in place of the one before: a reader, and a crash, find one or the other, whole. Returns its
    /// length.
    ///
    /// # Errors
    /// The one before stays.
    pub fn save(&self, snapshot: &Snapshot) -> Result<usize, Unsaved> {
        let bytes = write_within(snapshot, self.max_bytes).ok_or(Unsaved::TooLarge(self.max_bytes))?;
        let (temporary, file) = create(&self.dir)?;
        if let Err(error) =
            fill(file, &bytes).and_then(|()| fs::rename(&temporary, self.path(&snapshot.cluster)))
        {
            // What is left of it would only fill the disk.
            let _ = remove(&temporary);
            return Err(error.into());
        }
        File::open(&self.dir)?.sync_all()?;
        Ok(bytes.len())
    }

    /// Deletes the snapshot of a cluster, if there is one.
    ///
    /// # Errors
    /// It is still there.
    pub fn delete(&self, cluster: &ClusterId) -> io::Result<()> {
        remove(&self.path(cluster))
    }

    /// The whole file, as far as a snapshot can be long; `None` when there is none. Who serves what it says has to
    /// trust whoever may have written it.
    fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, Unusable> {
        let found = match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            found => found?,
        };
        if !found.is_file() {
            return Err(io::Error::other("it is no file").into());
        }
        let file = File::open(path)?;
        self.is_ours(file.metadata()?.uid(), file.metadata()?.mode())?;
        let mut bytes = Vec::new();
        file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// Whether a file is like those that this process makes: on some file systems all have one mode.
    fn is_ours(&self, owner: u32, mode: u32) -> Result<(), Unusable> {
        let (us, made) = self.made;
        if owner != us {
            return Err(Unusable::OtherOwner(owner));
        }
        match mode & OTHERS_WRITE & !made {
            0 => Ok(()),
            _ => Err(Unusable::Writable(mode & 0o7777)),
        }
    }
}

/// Shares the directory with whoever else uses it. Who is alone clears it before; where nothing can be locked,
/// everybody counts as alone.
fn claim(dir: &File, clear: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    match dir.try_lock() {
        Err(TryLockError::WouldBlock) => {
            tracing::info!("another process uses the directory of snapshots as well")
        }
        locked => {
            clear()?;
            if locked.is_ok() {
                dir.unlock()?;
            }
        }
    }
    // If somebody else is clearing it just now, there is nothing of ours in it yet.
    let _ = dir.try_lock_shared();
    Ok(())
}

/// Deletes pieces of writes that were interrupted. What cannot be deleted stays.
fn clear(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)?.flatten() {
        if entry.file_name().to_str().is_some_and(|name| name.ends_with(TEMPORARY)) {
            let path = entry.path();
            match remove(&path) {
                Ok(()) => tracing::info!(path = %path.display(), "a piece of a snapshot is deleted"),
                Err(error) => tracing::warn!(path = %path.display(), %error, "a piece of a snapshot stays"),
            }
        }
    }
    Ok(())
}

/// A new file, under a name that nobody else writes to, that only this user may read.
fn create(dir: &Path) -> io::Result<(PathBuf, File)> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    for n in 0..MAX_NAMES {
        let path = dir.join(format!(".{}-{n}{TEMPORARY}", std::process::id()));
        match options.open(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            opened => return Ok((path, opened?)),
        }
    }
    Err(io::Error::other(format!("{MAX_NAMES} files `.*{TEMPORARY}` are in the way")))
}

fn fill(mut file: File, bytes: &[u8]) -> io::Result<()> {
    file.write_all(bytes)?;
    file.sync_all()
}

/// Somebody else may have been faster.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
