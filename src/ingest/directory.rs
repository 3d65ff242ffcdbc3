//! Remote clusters from kubeconfig files (R1.10–R1.12).

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::RecursiveMode;
use tokio::time::Instant;
use xxhash_rust::xxh3::xxh3_128;

use super::absences::{self, Absences};
use super::kubeconfig::{KubeconfigRules, MAX_BYTES, RemoteKubeconfig, check_cluster_id};
use super::notices::Notices;
use super::options::Texts;
use super::problems::Problems;
use super::roster::{Claims, Source};
use super::staging::Guard;

/// Changes of files are collected for this long (R1.10).
const COALESCE: Duration = Duration::from_millis(250);
/// How deep folders may be nested.
const MAX_DEPTH: usize = 8;
/// How many files are read at most.
const MAX_FILES: usize = 10_000;

/// A directory of kubeconfigs.
pub(super) struct DirectoryWatch {
    path: PathBuf,
    rules: KubeconfigRules,
    /// Files and what their content is told apart by.
    known: BTreeMap<PathBuf, u128>,
    absences: Absences,
    /// Files that are no kubeconfigs by their names, told once each.
    ignored: BTreeSet<PathBuf>,
    notices: Notices,
}

/// What one look at a directory finds.
#[derive(Debug, Default)]
struct Found {
    /// Files by path: their content, or why they cannot be read.
    files: BTreeMap<PathBuf, Result<Vec<u8>, String>>,
    /// Files of other extensions.
    others: BTreeSet<PathBuf>,
    /// Folders that could not be looked into.
    closed: Vec<PathBuf>,
    /// Whether there is more than is looked at.
    cut: bool,
}

impl DirectoryWatch {
    /// Looks at the directory for the first time.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub(super) fn open(
        path: &Path,
        rules: KubeconfigRules,
        guard: Guard,
        problems: &Problems,
    ) -> io::Result<Self> {
        std::fs::read_dir(path)?;
        let (notices, error) = Notices::of(path, RecursiveMode::Recursive, COALESCE);
        if let Some(error) = error {
            let text = format!("changes are noticed by looking now and then only: {error}");
            problems.set(format!("directory {}", path.display()), text);
        }
        Ok(Self {
            path: path.to_owned(),
            rules,
            known: BTreeMap::new(),
            absences: Absences::new(guard),
            ignored: BTreeSet::new(),
            notices,
        })
    }

    /// Waits until the directory may have changed. Cancelling loses nothing that a re-scan does not find.
    pub(super) async fn changed(&mut self) {
        self.notices.next().await;
    }

    /// What files say that differ from the last look. A directory that cannot be read changes nothing.
    pub(super) async fn scan(&mut self, problems: &Problems) -> Vec<(Source, Claims)> {
        let (root, began) = (self.path.clone(), Instant::now());
        let subject = format!("directory {}, reading", root.display());
        let found = tokio::task::spawn_blocking(move || read(&root)).await;
        let mut found = match found.map_err(io::Error::from).flatten() {
            Ok(found) => found,
            Err(error) => {
                problems.set(subject, format!("{error}; what is known stands"));
                return Vec::new();
            }
        };
        let cut = found.cut.then(|| format!("more than {MAX_FILES} files: the rest is not read"));
        problems.tell(subject, cut);
        self.tell_ignored(std::mem::take(&mut found.others));
        self.compare(found, began, problems)
    }

    /// Each once: a kubeconfig under another name would otherwise be missed without a word.
    fn tell_ignored(&mut self, others: BTreeSet<PathBuf>) {
        for path in others.difference(&self.ignored) {
            tracing::warn!(path = %path.display(), "file is not read: kubeconfigs end in .yaml or .yml");
        }
        self.ignored = others;
    }

    fn compare(&mut self, found: Found, began: Instant, problems: &Problems) -> Vec<(Source, Claims)> {
        let missing = self.missing(&found, began, problems);
        let mut news = Vec::new();
        for path in missing {
            self.known.remove(&path);
            news.push((source(&path), Claims::Gone));
        }
        for (path, content) in found.files {
            let hash = match &content {
                Ok(bytes) => xxh3_128(bytes),
                Err(reason) => !xxh3_128(reason.as_bytes()),
            };
            if self.known.insert(path.clone(), hash) == Some(hash) {
                continue;
            }
            let claims = match content.and_then(|bytes| claim(&bytes, self.rules.clone())) {
                Ok((id, kubeconfig)) => {
                    Claims::Of(BTreeMap::from([(id.into(), Ok(kubeconfig))]), Texts::new())
                }
                Err(reason) => Claims::Unreadable(reason),
            };
            news.push((source(&path), claims));
        }
        news
    }

    /// Files that are gone. Those that were not looked at are not, and most of them are only if a second look
    /// says so.
    fn missing(&mut self, found: &Found, began: Instant, problems: &Problems) -> Vec<PathBuf> {
        let subject = format!("directory {}, files", self.path.display());
        let unseen = |path: &Path| found.cut || found.closed.iter().any(|folder| path.starts_with(folder));
        let missing = self.known.keys().filter(|path| !found.files.contains_key(*path) && !unseen(path));
        let missing: Vec<_> = missing.cloned().collect();
        if self.absences.believes(missing.len(), self.known.len(), began) {
            problems.clear(&subject);
            return missing;
        }
        problems.set(subject, absences::text(missing.len(), self.known.len(), "kubeconfig files"));
        Vec::new()
    }
}

/// R1.11: one file is one cluster, called what the file calls it.
fn claim(bytes: &[u8], rules: KubeconfigRules) -> Result<(String, RemoteKubeconfig), String> {
    let kubeconfig = RemoteKubeconfig::parse(bytes, rules).map_err(|refusal| refusal.to_string())?;
    check_cluster_id(&kubeconfig.cluster_name).map_err(|refusal| refusal.to_string())?;
    Ok((kubeconfig.cluster_name.clone(), kubeconfig))
}

fn source(path: &Path) -> Source {
    Source { created: 0, name: format!("file {}", path.display()) }
}

/// Every `*.yaml` and `*.yml` below `root`, links followed. Names that begin with two dots are the versions
/// behind a mounted volume's links and are read through those.
fn read(root: &Path) -> io::Result<Found> {
    let mut found = Found::default();
    let mut folders = vec![(root.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if depth == 0 => return Err(error),
            // Removed since its parent was read.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                tracing::warn!(folder = %folder.display(), %error, "folder is not read, what is known of it stands");
                found.closed.push(folder);
                continue;
            }
        };
        for entry in entries.flatten() {
            let path = entry.path();
            if entry.file_name().to_string_lossy().starts_with("..") {
                continue;
            }
            match std::fs::metadata(&path) {
                Ok(metadata) if metadata.is_dir() && depth < MAX_DEPTH => folders.push((path, depth + 1)),
                Ok(metadata) if metadata.is_dir() => {}
                _ if found.files.len() + found.others.len() >= MAX_FILES => found.cut = true,
                Ok(_) if !is_yaml(&path) => {
                    found.others.insert(path);
                }
                Ok(metadata) if metadata.is_file() => {
                    let content = content(&path, metadata.len());
                    found.files.insert(path, content);
                }
                Ok(_) => {
                    found.files.insert(path, Err("is not a regular file".to_owned()));
                }
                // A link whose target is being exchanged: the next look finds it.
                Err(error) if is_yaml(&path) => {
                    found.files.insert(path, Err(format!("cannot be read: {error}")));
                }
                Err(_) => {}
            }
        }
    }
    Ok(found)
}

fn is_yaml(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml")
}

fn content(path: &Path, length: u64) -> Result<Vec<u8>, String> {
    if length > MAX_BYTES as u64 {
        return Err(format!("is larger than {MAX_BYTES} bytes"));
    }
    std::fs::read(path).map_err(|error| format!("cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::client::AddressPolicy;
    use crate::ingest::cluster::CONFIRM_AFTER;
    use crate::ingest::roster::{Action, Contest, Roster};

    fn kubeconfig(cluster: &str, token: &str) -> String {
        format!(
            "clusters: [{{name: {cluster}, cluster: {{server: 'https://192.0.2.1'}}}}]\n\
             users: [{{name: u, user: {{token: {token}}}}}]\n"
        )
    }

    struct Fixture {
        dir: tempfile::TempDir,
        watch: DirectoryWatch,
        roster: Roster,
        problems: Problems,
    }

    impl Fixture {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let problems = Problems::default();
            Self {
                watch: DirectoryWatch::open(dir.path(), AddressPolicy::Remote.into(), Guard::On, &problems)
                    .unwrap(),
                dir,
                roster: Roster::new(Contest::Nobody, []),
                problems,
            }
        }

        fn write(&self, name: &str, text: &str) {
            let path = self.dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }

        async fn scan(&mut self) -> Vec<String> {
            let news = self.watch.scan(&self.problems).await;
            let actions = self.roster.update(news, &self.problems);
            let show = |action: &Action| match action {
                Action::Run(id, ..) => format!("run {id}"),
                Action::Tell(id, ..) => format!("tell {id}"),
                Action::Remove(id) => format!("remove {id}"),
            };
            actions.iter().map(show).collect()
        }
    }

    const NOTHING: [&str; 0] = [];

    #[tokio::test]
    async fn r1_10_r1_12_files_are_found_recursively_and_bad_ones_keep_the_last_good_content() {
        let mut fixture = Fixture::new();
        fixture.write("west.yaml", &kubeconfig("west", "1"));
        fixture.write("more/south.yml", &kubeconfig("south", "1"));
        fixture.write("notes.txt", &kubeconfig("not-me", "1"));
        fixture.write("..2026/west.yaml", &kubeconfig("not-me-either", "1"));
        assert_eq!(fixture.scan().await, ["run south", "run west"]);
        let ignored: Vec<_> = fixture.watch.ignored.iter().filter_map(|path| path.file_name()).collect();
        assert_eq!(ignored, ["notes.txt"]);
        assert_eq!(fixture.scan().await, NOTHING);

        fixture.write("west.yaml", "token: canary: [");
        fixture.write("north.yaml", "{}");
        assert_eq!(fixture.scan().await, NOTHING);
        let problems = fixture.problems.all();
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems.iter().all(|problem| problem.subject.contains(".yaml")));
        assert!(!format!("{problems:?}").contains("canary"));

        fixture.write("west.yaml", &kubeconfig("west", "2"));
        assert_eq!(fixture.scan().await, ["run west"]);
        std::fs::remove_file(fixture.dir.path().join("more/south.yml")).unwrap();
        assert_eq!(fixture.scan().await, ["remove south"]);
    }

    #[tokio::test(start_paused = true)]
    async fn file_01_files_come_change_go_bad_and_go() {
        let mut fixture = Fixture::new();
        fixture.write("a.yaml", &kubeconfig("remote-1", "token-1"));
        assert_eq!(fixture.scan().await, ["run remote-1"]);
        assert_eq!(fixture.scan().await, NOTHING, "same bytes");
        fixture.write("a.yaml", &kubeconfig("remote-1", "token-2"));
        assert_eq!(fixture.scan().await, ["run remote-1"]);
        fixture.write("a.yaml", "]");
        assert_eq!(fixture.scan().await, NOTHING, "the last good content stays in force");
        assert_eq!(fixture.problems.all().len(), 1);
        fixture.write("a.yaml", &kubeconfig("remote-1", "token-2"));
        assert_eq!(fixture.scan().await, NOTHING);
        assert_eq!(fixture.problems.all(), []);
        fixture.write("a.yaml", &kubeconfig("remote-2", "token-2"));
        assert_eq!(
            fixture.scan().await,
            ["remove remote-1", "run remote-2"],
            "another id is another cluster"
        );
        std::fs::remove_file(fixture.dir.path().join("a.yaml")).unwrap();
        assert_eq!(fixture.scan().await, NOTHING, "it was the only one");
        tokio::time::sleep(CONFIRM_AFTER).await;
        assert_eq!(fixture.scan().await, ["remove remote-2"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_directory_that_reads_empty_keeps_its_clusters_until_a_second_look_after_a_while() {
        let mut fixture = Fixture::new();
        let files = ["a.yaml", "b.yaml", "c.yaml"];
        let put = |fixture: &Fixture| {
            files.iter().for_each(|name| fixture.write(name, &kubeconfig(&name[..1], "1")));
        };
        put(&fixture);
        assert_eq!(fixture.scan().await, ["run a", "run b", "run c"]);
        let remove = |fixture: &Fixture, name: &str| {
            std::fs::remove_file(fixture.dir.path().join(name)).unwrap();
        };
        files.iter().for_each(|name| remove(&fixture, name));
        assert_eq!(fixture.scan().await, NOTHING);
        let problem = &fixture.problems.all()[0];
        assert!(problem.text.starts_with("3 of 3 kubeconfig files are missing"), "{problem:?}");
        // The volume is there again.
        put(&fixture);
        assert_eq!(fixture.scan().await, NOTHING);
        assert_eq!(fixture.problems.all(), []);
        // One that goes while the others stay goes at once; the others, all at once, do not.
        remove(&fixture, "a.yaml");
        assert_eq!(fixture.scan().await, ["remove a"]);
        remove(&fixture, "b.yaml");
        remove(&fixture, "c.yaml");
        assert_eq!(fixture.scan().await, NOTHING);
        tokio::time::sleep(CONFIRM_AFTER / 2).await;
        assert_eq!(fixture.scan().await, NOTHING);
        tokio::time::sleep(CONFIRM_AFTER / 2).await;
        assert_eq!(fixture.scan().await, ["remove b", "remove c"]);
        assert_eq!(fixture.problems.all(), []);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_not_looked_at_is_not_gone() {
        let mut fixture = Fixture::new();
        let path = |name: &str| fixture.dir.path().join(name);
        let content = |id: &str| Ok(kubeconfig(id, "1").into_bytes());
        let (a, b, c) = (path("a.yaml"), path("sub/b.yaml"), path("c.yaml"));
        let all = [(a.clone(), content("a")), (b, content("b")), (c, content("c"))];
        let found = Found { files: all.into(), ..Found::default() };
        let (watch, problems) = (&mut fixture.watch, &fixture.problems);
        assert_eq!(watch.compare(found, Instant::now(), problems).len(), 3);
        let seen = || BTreeMap::from([(a.clone(), content("a"))]);
        let closed = vec![fixture.dir.path().to_owned()];
        for found in [
            Found { files: seen(), cut: true, ..Found::default() },
            Found { files: seen(), closed, ..Found::default() },
        ] {
            assert!(watch.compare(found, Instant::now(), problems).is_empty());
            assert_eq!(problems.all(), []);
        }
    }

    #[tokio::test]
    async fn file_02_two_files_for_one_cluster_at_start_neither_is_used_until_one_goes() {
        let mut fixture = Fixture::new();
        fixture.write("a.yaml", &kubeconfig("remote-1", "token-1"));
        fixture.write("b.yaml", &kubeconfig("remote-1", "token-2"));
        assert_eq!(fixture.scan().await, NOTHING);
        assert!(fixture.problems.all()[0].text.contains("a.yaml and "), "{:?}", fixture.problems.all());
        std::fs::remove_file(fixture.dir.path().join("b.yaml")).unwrap();
        let news = fixture.watch.scan(&fixture.problems).await;
        let actions = fixture.roster.update(news, &fixture.problems);
        let [Action::Run(id, source, kubeconfig, _)] = &actions[..] else { panic!("{actions:?}") };
        assert_eq!(id, &"remote-1".into());
        assert!(source.ends_with("/a.yaml"));
        let first = RemoteKubeconfig::parse(
            &std::fs::read(fixture.dir.path().join("a.yaml")).unwrap(),
            AddressPolicy::Remote,
        );
        assert_eq!(kubeconfig.hash, first.unwrap().hash, "remote-1@token-1");
        assert_eq!(fixture.problems.all(), []);
    }

    #[tokio::test]
    async fn file_03_a_second_file_for_a_running_cluster_changes_nothing_and_takes_over_when_the_first_goes()
    {
        let mut fixture = Fixture::new();
        fixture.write("b.yaml", &kubeconfig("remote-1", "token-1"));
        assert_eq!(fixture.scan().await, ["run remote-1"]);
        fixture.write("a.yaml", &kubeconfig("remote-1", "token-2"));
        assert_eq!(fixture.scan().await, NOTHING);
        assert_eq!(fixture.problems.all().len(), 1);
        std::fs::remove_file(fixture.dir.path().join("b.yaml")).unwrap();
        assert_eq!(fixture.scan().await, ["run remote-1"]);
        assert_eq!(fixture.problems.all(), []);
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_mounted_volume_is_exchanged_by_its_link() {
        use std::os::unix::fs::symlink;
        let mut fixture = Fixture::new();
        let root = fixture.dir.path().to_owned();
        fixture.write("..v1/west.yaml", &kubeconfig("west", "1"));
        fixture.write("..v2/west.yaml", &kubeconfig("west", "2"));
        symlink("..v1", root.join("..data")).unwrap();
        symlink("..data/west.yaml", root.join("west.yaml")).unwrap();
        assert_eq!(fixture.scan().await, ["run west"]);
        symlink("..v2", root.join("..tmp")).unwrap();
        std::fs::rename(root.join("..tmp"), root.join("..data")).unwrap();
        let limit = Duration::from_secs(30);
        tokio::time::timeout(limit, fixture.watch.changed()).await.unwrap();
        assert_eq!(fixture.scan().await, ["run west"]);
    }
}
