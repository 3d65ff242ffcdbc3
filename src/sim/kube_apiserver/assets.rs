//! Where the programs are.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use super::KubeApiServerError;

/// The environment variables that name their directory: our own, and the one of Kubernetes' test tools.
const VARIABLES: [&str; 2] = ["TOMBOLO_KUBE_ASSETS", "KUBEBUILDER_ASSETS"];
/// What `make kube-assets` calls the directory inside `target/`.
const DIRECTORY: &str = "kube-assets";
/// What must be in it.
const PROGRAMS: [&str; 3] = [super::ETCD, super::KUBE_APISERVER, "kubectl"];

/// A directory with `etcd`, `kube-apiserver` and `kubectl`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubeAssets {
    dir: PathBuf,
}

impl KubeAssets {
    /// The directory `given`, else the one in `TOMBOLO_KUBE_ASSETS` or `KUBEBUILDER_ASSETS`, else `kube-assets`
    /// beside the build this program is part of or in `target/` of the current directory: what `make kube-assets`
    /// makes.
    ///
    /// # Errors
    /// [`KubeApiServerError::Assets`] when a program is missing there. A directory that was named is the only
    /// one looked at.
    pub fn find(given: Option<&Path>) -> Result<Self, KubeApiServerError> {
        let named = given.map(Path::to_owned).or_else(|| {
            let variable = VARIABLES.into_iter().find_map(env::var_os);
            variable.map(PathBuf::from)
        });
        Self::first_complete(named.map_or_else(usual_places, |dir| vec![dir]))
    }

    fn first_complete(places: Vec<PathBuf>) -> Result<Self, KubeApiServerError> {
        let mut program = PROGRAMS[0];
        for place in &places {
            match PROGRAMS.into_iter().find(|program| !place.join(program).is_file()) {
                None => {
                    let dir = fs::canonicalize(place).map_err(KubeApiServerError::file("resolve", place))?;
                    return Ok(Self { dir });
                }
                Some(missing) => program = missing,
            }
        }
        Err(KubeApiServerError::Assets { program, looked: places })
    }

    /// The absolute path of the directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The command line client.
    pub fn kubectl(&self) -> PathBuf {
        self.dir.join("kubectl")
    }

    /// The path of one of the programs.
    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

fn usual_places() -> Vec<PathBuf> {
    let program = env::current_exe().unwrap_or_default();
    let mut places: Vec<PathBuf> =
        program.ancestors().skip(1).map(|dir| dir.join(DIRECTORY)).filter(|dir| dir.is_dir()).collect();
    places.push(Path::new("target").join(DIRECTORY));
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_complete_directory_is_taken() {
        let temporary = tempfile::tempdir().unwrap();
        let (part, whole) = (temporary.path().join("part"), temporary.path().join("whole"));
        for (dir, programs) in [(&part, &PROGRAMS[..1]), (&whole, &PROGRAMS[..])] {
            fs::create_dir(dir).unwrap();
            for program in programs {
                fs::write(dir.join(program), "").unwrap();
            }
        }
        let found = KubeAssets::first_complete(vec![part.clone(), whole.clone()]).unwrap();
        assert_eq!(found.dir(), fs::canonicalize(whole).unwrap());
        let error = KubeAssets::find(Some(&part)).unwrap_err().to_string();
        let expected = format!("no kube-apiserver in {}: `make kube-assets` builds it", part.display());
        assert!(error.starts_with(&expected), "{error}");
    }
}
