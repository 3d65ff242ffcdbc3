//! What all parts of one running lab share: its plan, its programs, its directory, and who runs in it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::plan::Plan;
use super::pod::RunningPod;
use super::{LabError, Progress};

/// The shared ground.
pub(super) struct Site {
    /// Where everything is.
    pub(super) plan: Plan,
    /// This binary.
    pub(super) exe: PathBuf,
    /// The Envoy that pods can execute.
    pub(super) envoy: PathBuf,
    /// Everything that outlives no lab.
    pub(super) run_dir: PathBuf,
    /// Generated files, for the lab's own processes.
    pub(super) files: PathBuf,
    /// Logs.
    pub(super) logs: PathBuf,
    /// Where progress goes.
    pub(super) progress: Progress,
    pods: Mutex<BTreeMap<String, Arc<RunningPod>>>,
    numbers: AtomicUsize,
}

impl std::fmt::Debug for Site {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Site").field("run_dir", &self.run_dir).finish_non_exhaustive()
    }
}

/// Programs and directories of a site.
pub(super) struct Ground {
    pub(super) plan: Plan,
    pub(super) exe: PathBuf,
    pub(super) envoy: PathBuf,
    pub(super) run_dir: PathBuf,
    pub(super) files: PathBuf,
    pub(super) logs: PathBuf,
    pub(super) progress: Progress,
    /// The first number that no link has.
    pub(super) first_number: usize,
}

impl Site {
    pub(super) fn new(ground: Ground) -> Self {
        let Ground { plan, exe, envoy, run_dir, files, logs, progress, first_number } = ground;
        let (pods, numbers) = (Mutex::default(), AtomicUsize::new(first_number));
        Self { plan, exe, envoy, run_dir, files, logs, progress, pods, numbers }
    }

    /// Tells the user.
    pub(super) fn say(&self, line: &str) {
        (self.progress)(line);
    }

    /// A number that nothing else in the lab has.
    pub(super) fn next_number(&self) -> usize {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// All pods whose processes run, by cluster, namespace and name.
    pub(super) fn pods(&self) -> Vec<Arc<RunningPod>> {
        let mut pods: Vec<_> = self.lock().values().cloned().collect();
        pods.sort_by(|a, b| a.key().cmp(&b.key()));
        pods
    }

    /// Takes a pod in and tells the exec script where it is.
    ///
    /// # Errors
    /// [`LabError::File`].
    pub(super) fn adopt(&self, pod: Arc<RunningPod>) -> Result<(), LabError> {
        self.lock().insert(pod.uid().to_owned(), Arc::clone(&pod));
        self.write_entries(&pod)
    }

    /// Takes a pod out.
    ///
    /// # Errors
    /// [`LabError::File`].
    pub(super) fn release(&self, pod: &RunningPod) -> Result<(), LabError> {
        self.lock().remove(pod.uid());
        // Absent in loopback mode.
        let _ = std::fs::remove_file(self.entries(pod.cluster()).join(pod.name()));
        self.write_entries(pod)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Arc<RunningPod>>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn entries(&self, cluster: &str) -> PathBuf {
        self.run_dir.join("pods").join(cluster)
    }

    /// The exec script's entries: one for the pod, one for its Deployment, which is the first of its pods.
    fn write_entries(&self, changed: &RunningPod) -> Result<(), LabError> {
        let dir = self.entries(changed.cluster());
        let same = |pod: &Arc<RunningPod>| {
            pod.cluster() == changed.cluster() && pod.deployment() == changed.deployment()
        };
        let mates: Vec<_> = self.pods().into_iter().filter(same).collect();
        for pod in mates.iter().rev() {
            let Some(pid) = pod.place().pid() else { return Ok(()) };
            std::fs::create_dir_all(&dir).map_err(LabError::file("create", &dir))?;
            let names = [Some(pod.name()), pod.deployment()];
            for file in names.into_iter().flatten().map(|name| dir.join(name)) {
                std::fs::write(&file, pid.to_string()).map_err(LabError::file("write", &file))?;
            }
        }
        if let (Some(deployment), true) = (changed.deployment(), mates.is_empty()) {
            // Absent in loopback mode.
            let _ = std::fs::remove_file(dir.join(deployment));
        }
        Ok(())
    }
}
