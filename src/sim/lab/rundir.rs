//! The lab's directory: logs, generated files, and a lock that tells whether the lab still lives.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::LabError;

/// How temporary run directories are called, before the process id.
pub(super) const PREFIX: &str = "tombolo-lab-";
/// How many names a run directory may try.
const MAX_NAMES: u32 = 16;
/// Locked as long as the lab runs.
const LOCK: &str = "lock";

/// A directory that goes when the lab ends, unless the user chose it.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    fate: Fate,
    _lock: File,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Remove,
    Keep,
}

impl RunDir {
    /// Makes the directory: `chosen`, which stays, or a temporary one, which goes. Directories of labs that
    /// were killed are removed on the way.
    ///
    /// # Errors
    /// [`LabError::File`]; [`LabError::Missing`] when a running lab uses `chosen`.
    pub fn create(chosen: Option<&Path>) -> Result<Self, LabError> {
        match chosen {
            Some(path) => {
                Self::open(std::path::absolute(path).map_err(LabError::file("find", path))?, Fate::Keep)
            }
            None => {
                let temporary = std::env::temp_dir();
                remove_abandoned(&temporary);
                Self::open(make_fresh(&temporary)?, Fate::Remove)
            }
        }
    }

    fn open(path: PathBuf, fate: Fate) -> Result<Self, LabError> {
        fs::create_dir_all(path.join("logs")).map_err(LabError::file("create", &path))?;
        let lock_path = path.join(LOCK);
        let lock = File::create(&lock_path).map_err(LabError::file("create", &lock_path))?;
        lock.try_lock().map_err(|_| LabError::Missing {
            what: format!("another lab runs in {}", path.display()),
            hint: "choose another --run-dir".to_owned(),
        })?;
        Ok(Self { path, fate, _lock: lock })
    }

    /// The directory, absolute.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        if self.fate == Fate::Remove {
            // What cannot be removed now is removed by the next lab.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Makes a directory that was not there: in a directory for all, one that was could be anybody's.
fn make_fresh(temporary: &Path) -> Result<PathBuf, LabError> {
    let name = format!("{PREFIX}{}", std::process::id());
    let mut tried = temporary.join(&name);
    let mut outcome = fs::create_dir(&tried);
    for n in 1..MAX_NAMES {
        if outcome.is_ok() {
            break;
        }
        tried = temporary.join(format!("{name}-{n}"));
        outcome = fs::create_dir(&tried);
    }
    outcome.map_err(LabError::file("create", &tried))?;
    Ok(tried)
}

/// The temporary run directories in `temporary`, of labs that run and of labs that are gone, by name. Those of other
/// users are left alone: in a directory for all, anybody can make one.
pub(super) fn candidates(temporary: &Path) -> Vec<PathBuf> {
    use std::os::unix::fs::MetadataExt as _;
    let this_user = fs::metadata("/proc/self").map(|own| own.uid()).ok();
    let entries = fs::read_dir(temporary).into_iter().flatten().flatten();
    let named = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX));
    let own = named
        .filter(|entry| entry.metadata().is_ok_and(|meta| meta.is_dir() && Some(meta.uid()) == this_user));
    let mut found: Vec<PathBuf> = own.map(|entry| entry.path()).collect();
    found.sort();
    found
}

/// Removes run directories whose lab is gone.
fn remove_abandoned(temporary: &Path) {
    for dir in candidates(temporary).into_iter().filter(|dir| is_abandoned(dir)) {
        let _ = fs::remove_dir_all(dir);
    }
}

/// A directory without a lock file is one that is being made or removed: not ours to touch.
fn is_abandoned(dir: &Path) -> bool {
    File::open(dir.join(LOCK)).is_ok_and(|lock| lock.try_lock().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_of_dead_labs_go_and_those_of_living_ones_stay() {
        let temporary = tempfile::tempdir().unwrap();
        let dead = temporary.path().join(format!("{PREFIX}1"));
        drop(RunDir::open(dead.clone(), Fate::Keep).unwrap());
        let living = RunDir::open(temporary.path().join(format!("{PREFIX}2")), Fate::Remove).unwrap();
        let foreign = temporary.path().join("else");
        fs::create_dir(&foreign).unwrap();
        remove_abandoned(temporary.path());
        assert!(!dead.exists() && living.path().exists() && foreign.exists());
    }

    #[test]
    fn a_directory_that_is_there_is_not_taken() {
        let temporary = tempfile::tempdir().unwrap();
        let first = make_fresh(temporary.path()).unwrap();
        let second = make_fresh(temporary.path()).unwrap();
        assert_ne!(first, second);
    }

    #[test]
    fn a_temporary_directory_goes_with_its_lab() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("run");
        let run = RunDir::open(path.clone(), Fate::Remove).unwrap();
        assert!(path.join("logs").is_dir());
        drop(run);
        assert!(!path.exists());
    }

    #[test]
    fn a_directory_in_use_is_refused() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("run");
        let _first = RunDir::open(path.clone(), Fate::Keep).unwrap();
        let error = RunDir::open(path, Fate::Keep).unwrap_err().to_string();
        assert!(error.contains("another lab runs in"), "{error}");
    }

    #[test]
    fn directories_of_others_are_no_labs() {
        let temporary = tempfile::tempdir().unwrap();
        let path = |name: &str| temporary.path().join(format!("{PREFIX}{name}"));
        fs::create_dir(path("own")).unwrap();
        std::os::unix::fs::symlink(path("own"), path("link")).unwrap();
        fs::create_dir(path("other")).unwrap();
        // Only root can give a directory away.
        if std::os::unix::fs::chown(path("other"), Some(4711), None).is_err() {
            fs::remove_dir(path("other")).unwrap();
        }
        assert_eq!(candidates(temporary.path()), [path("own")]);
    }
}
