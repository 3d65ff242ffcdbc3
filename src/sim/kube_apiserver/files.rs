//! What the two programs read, in one directory: certificate, keys and the administrator's token.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rcgen::KeyPair;

use super::KubeApiServerError;
use crate::sim::apiserver::{Authority, CertificateError};
use crate::trust::Secret;

/// Serving certificate.
pub(super) const CERTIFICATE: &str = "serving.crt";
/// Its key.
pub(super) const KEY: &str = "serving.key";
/// Signs ServiceAccount tokens.
pub(super) const ACCOUNT_KEY: &str = "service-account.key";
/// Verifies them.
pub(super) const ACCOUNT_PUBLIC_KEY: &str = "service-account.pub";
/// What etcd holds.
pub(super) const ETCD_DATA: &str = "etcd.data";
/// A copy of it.
const ETCD_BACKUP: &str = "etcd.backup";
/// Bearer tokens with their users.
pub(super) const TOKENS: &str = "tokens.csv";

/// The directory of one server; one made here goes with it.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    temporary: bool,
}

impl Directory {
    /// Makes `given`, else a fresh one among the temporary files, for this user alone: who reaches the socket of
    /// etcd in it reads every secret.
    pub(super) fn make(given: Option<PathBuf>) -> Result<Self, KubeApiServerError> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let temporary = given.is_none();
        let path = given.unwrap_or_else(|| {
            let nth = MADE.fetch_add(1, Ordering::Relaxed);
            std::env::temp_dir().join(format!("tombolo-kube-apiserver-{}-{nth}", std::process::id()))
        });
        // A directory of that name among everybody's temporary files could be anybody's.
        DirBuilder::new()
            .recursive(!temporary)
            .mode(0o700)
            .create(&path)
            .map_err(KubeApiServerError::file("create", &path))?;
        fs::set_permissions(&path, Permissions::from_mode(0o700))
            .map_err(KubeApiServerError::file("protect", &path))?;
        Ok(Self { path, temporary })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes certificate, keys and the token of an administrator of `cluster`.
    pub(super) fn fill(
        &self,
        cluster: &str,
        authority: &Authority,
        (ip, names): (IpAddr, &[String]),
        token: &Secret,
    ) -> Result<(), KubeApiServerError> {
        let failed = |source| KubeApiServerError::Certificate { cluster: cluster.to_owned(), source };
        let account = KeyPair::generate().map_err(|error| failed(CertificateError::from(error)))?;
        self.certify(cluster, authority, (ip, names))?;
        self.write(ACCOUNT_KEY, &account.serialize_pem())?;
        self.write(ACCOUNT_PUBLIC_KEY, &account.public_key_pem())?;
        self.write(TOKENS, &format!("{},admin,admin,\"system:masters\"\n", token.reveal()))
    }

    /// Writes a new serving certificate and its key.
    pub(super) fn certify(
        &self,
        cluster: &str,
        authority: &Authority,
        (ip, names): (IpAddr, &[String]),
    ) -> Result<(), KubeApiServerError> {
        let failed = |source| KubeApiServerError::Certificate { cluster: cluster.to_owned(), source };
        let (certificate, key) = authority.issue(ip, names).map_err(failed)?;
        self.write(CERTIFICATE, &certificate.pem())?;
        self.write(KEY, &key.serialize_pem())
    }

    /// Copies what etcd holds, while it does not run.
    pub(super) fn back_up(&self) -> Result<(), KubeApiServerError> {
        self.replace(ETCD_DATA, ETCD_BACKUP)
    }

    /// Puts the copy in the place of what etcd holds, while it does not run.
    pub(super) fn restore(&self) -> Result<(), KubeApiServerError> {
        self.replace(ETCD_BACKUP, ETCD_DATA)
    }

    fn replace(&self, from: &str, to: &str) -> Result<(), KubeApiServerError> {
        let (from, to) = (self.path.join(from), self.path.join(to));
        match fs::remove_dir_all(&to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(KubeApiServerError::file("remove", &to)(error));
            }
            _ => {}
        }
        copy(&from, &to).map_err(KubeApiServerError::file("copy", &from))
    }

    fn write(&self, name: &str, text: &str) -> Result<(), KubeApiServerError> {
        let path = self.path.join(name);
        let file = File::options().create(true).write(true).truncate(true).mode(0o600).open(&path);
        file.and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(KubeApiServerError::file("write", &path))
    }
}

/// Copies a directory with all that is in it.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

impl Drop for Directory {
    fn drop(&mut self) {
        if self.temporary {
            // What cannot be removed is among the temporary files.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_else_reads_keys_and_tokens() {
        let directory = Directory::make(None).unwrap();
        let authority = Authority::generate("east").unwrap();
        let ip = IpAddr::from([127, 0, 0, 1]);
        directory.fill("east", &authority, (ip, &[]), &Secret::new("hunter2")).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(directory.path()), 0o700);
        for name in [KEY, ACCOUNT_KEY, TOKENS] {
            assert_eq!(mode(&directory.path().join(name)), 0o600, "{name}");
        }
        let tokens = fs::read_to_string(directory.path().join(TOKENS)).unwrap();
        assert_eq!(tokens, "hunter2,admin,admin,\"system:masters\"\n");
        let path = directory.path().to_owned();
        drop(directory);
        assert!(!path.exists());
    }
}
