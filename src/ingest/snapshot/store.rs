//! The directory of snapshots.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
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

/// Reads and writes the snapshots of one directory. Blocking: not for the threads that serve.
#[derive(Debug)]
pub struct SnapshotStore {
    dir: PathBuf,
    max_age: Duration,
    max_bytes: usize,
}

impl SnapshotStore {
    /// Opens the directory, makes it if need be, and clears away what nobody will use: pieces of writes that
    /// were interrupted, and snapshots twice too old.
    ///
    /// # Errors
    /// It cannot be made or written to.
    pub fn open(options: &SnapshotOptions, now: SystemTime) -> Result<Self, SnapshotError> {
        let dir = options.dir.clone();
        let fail = |action, error| SnapshotError { action, path: dir.clone(), error };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(|e| fail("make", e))?;
        let store = Self { dir: dir.clone(), max_age: options.max_age, max_bytes: MAX_BYTES };
        store.clear(now).map_err(|error| fail("read", error))?;
        let probe = dir.join(format!(".{}{TEMPORARY}", std::process::id()));
        let written = create(&probe).and_then(|_| fs::remove_file(&probe));
        written.map_err(|error| fail("write to", error))?;
        Ok(store)
    }

    /// The same with another limit.
    #[cfg(test)]
    pub(super) fn limited(self, max_bytes: usize) -> Self {
        Self { max_bytes, ..self }
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
        let path = self.path(cluster);
        let Some(bytes) = read(&path)? else {
            return Ok(None);
        };
        let snapshot = parse(&bytes)?;
        if snapshot.cluster != *cluster {
            return Err(Unusable::OtherCluster(snapshot.cluster));
        }
        if snapshot.pin.server != pin.server {
            return Err(Unusable::OtherServer { then: snapshot.pin.server, now: pin.server.clone() });
        }
        if snapshot.pin.ca != pin.ca {
            return Err(Unusable::OtherCa);
        }
        let age = self.age(snapshot.confirmed, now)?;
        Ok(Some(Loaded { path, snapshot, age }))
    }

    /// Every snapshot that is young enough, of whatever API server. Others are passed over: whoever asks for
    /// one by its cluster is told why.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn load_all(&self, now: SystemTime) -> io::Result<Vec<Loaded>> {
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            let Ok(Some(bytes)) = read(&path) else { continue };
            let Ok(snapshot) = parse(&bytes) else { continue };
            let Ok(age) = self.age(snapshot.confirmed, now) else { continue };
            if path == self.path(&snapshot.cluster) {
                all.push(Loaded { path, snapshot, age });
            }
        }
        Ok(all)
    }

    fn age(&self, confirmed: SystemTime, now: SystemTime) -> Result<Duration, Unusable> {
        match now.duration_since(confirmed) {
            Ok(age) if age > self.max_age => Err(Unusable::TooOld { age, limit: self.max_age }),
            Ok(age) => Ok(age),
            Err(ahead) if ahead.duration() <= CLOCK_TOLERANCE => Ok(Duration::ZERO),
            Err(ahead) => Err(Unusable::FromTheFuture(ahead.duration())),
        }
    }

    /// Puts a snapshot in place of the one before: a reader, and a crash, find one or the other, whole.
    ///
    /// # Errors
    /// The one before stays.
    pub fn save(&self, snapshot: &Snapshot) -> Result<(), Unsaved> {
        let bytes = write_within(snapshot, self.max_bytes).ok_or(Unsaved::TooLarge(self.max_bytes))?;
        let path = self.path(&snapshot.cluster);
        let temporary = path.with_extension(&TEMPORARY[1..]);
        let mut file = create(&temporary)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        Ok(File::open(&self.dir)?.sync_all()?)
    }

    /// Deletes the snapshot of a cluster, if there is one.
    ///
    /// # Errors
    /// It is still there.
    pub fn delete(&self, cluster: &ClusterId) -> io::Result<()> {
        match fs::remove_file(self.path(cluster)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn clear(&self, now: SystemTime) -> io::Result<()> {
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let written = entry.metadata()?.modified()?;
            let old = now.duration_since(written).is_ok_and(|age| age > self.max_age.saturating_mul(2));
            if name.ends_with(TEMPORARY) || (name.ends_with(SUFFIX) && old) {
                tracing::info!(path = %entry.path().display(), "an unusable snapshot is deleted");
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

/// A new file that only this user may read.
fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

/// The whole file, as far as a snapshot can be long; `None` when there is none.
fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let mut bytes = Vec::new();
    file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}
