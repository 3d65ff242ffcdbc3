//! The lab: clusters, networks, control planes and Envoys on one machine.
//!
//! Each cluster has an API server, controllers and a node agent; what runs in it is what its API server's objects
//! say, Deployments included. At the start these are a client, the application `helloworld` and an east-west
//! gateway; every pod has a real Envoy. Control planes (this binary's `serve`) watch the API servers.
//! [`Lab::start`] brings it up, [`Lab::check`] proves that requests cross the networks the only way they may,
//! [`Lab::stop`] leaves nothing behind. Checks, scenarios and the node agents work on one lab at the same time.
//!
//! In [`Mode::Namespaces`] the caller must already be in network, mount and process namespaces of its own:
//! [`outside::enter`] puts the binary there. In [`Mode::Loopback`] no privileges are needed.

pub mod api;
pub mod bootstrap;
pub mod check;
pub mod client;
pub mod cluster;
pub mod control;
pub mod control_plane;
pub mod envoy;
mod error;
mod http;
pub mod kubelet;
pub mod machine;
pub mod netns;
pub mod outside;
mod part;
pub mod place;
pub mod plan;
pub mod pod;
mod rollout;
pub mod rundir;
pub mod scenario;
mod server;
mod site;
mod start;
pub mod timeline;
mod truth;
pub mod usage;
mod wait;
pub mod world;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::future::join_all;

pub use self::client::Client;
pub use self::cluster::Cluster;
pub use self::control_plane::ControlPlane;
pub use self::error::LabError;
use self::netns::OpenBox;
use self::plan::{Plan, Range, Shape};
pub use self::pod::RunningPod;
use self::site::Site;
use self::world::file::WorldObject;
use super::kube_apiserver::KubeAssets;

/// How a lab keeps its networks apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A network namespace per pod, transparent capture (D39).
    Namespaces,
    /// Addresses of 127/8, explicit addressing (D40).
    Loopback,
}

impl Mode {
    /// The word in verdicts.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Namespaces => "namespaces",
            Self::Loopback => "loopback",
        }
    }
}

/// Which API servers a lab has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApiServers {
    /// This program's own, in process.
    Synthetic,
    /// etcd and kube-apiserver.
    Real(KubeAssets),
}

/// Receives short lines about what is going on.
pub type Progress = Arc<dyn Fn(&str) + Send + Sync>;

/// What a lab is started with.
#[derive(Clone)]
pub struct Options {
    /// What the lab is to be.
    pub shape: Shape,
    /// Which API servers it has.
    pub api: ApiServers,
    /// What runs in it besides its own application.
    pub world: Vec<WorldObject>,
    /// The `tombolo` binary: control planes and applications are children of it.
    pub exe: PathBuf,
    /// An Envoy binary (not a launcher script): [`machine::find_envoy`].
    pub envoy: PathBuf,
    /// A directory for logs and generated files: [`rundir::RunDir`].
    pub run_dir: PathBuf,
    /// What the lab takes from its host: [`outside::free_loopback`] or the host's link.
    pub range: Range,
    /// In namespaces mode, this process's id as the host sees it, once the host is linked: the exec script
    /// enters by it. Without, the lab is alone in its namespaces.
    pub host_pid: Option<u32>,
    /// Where progress goes.
    pub progress: Progress,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("run_dir", &self.run_dir)
            .field("range", &self.range)
            .finish_non_exhaustive()
    }
}

/// A running lab. Dropping it kills its processes; [`Lab::stop`] does so in order.
#[derive(Debug)]
pub struct Lab {
    site: Arc<Site>,
    host_pid: Option<u32>,
    clusters: Vec<Cluster>,
    control_planes: Vec<ControlPlane>,
    routers: std::sync::Mutex<Vec<OpenBox>>,
}

impl Lab {
    /// Where everything is.
    pub fn plan(&self) -> &Plan {
        &self.site.plan
    }

    /// The lab's directory.
    pub fn run_dir(&self) -> &Path {
        &self.site.run_dir
    }

    /// All pods whose processes run, by cluster, namespace and name. Each call looks anew: pods come and go.
    pub fn pods(&self) -> Vec<Arc<RunningPod>> {
        self.site.pods()
    }

    /// The client pods that are ready, one per cluster at most.
    pub fn clients(&self) -> Vec<Client> {
        Client::all(&self.site)
    }

    /// The clusters, in the plan's order.
    pub fn clusters(&self) -> &[Cluster] {
        &self.clusters
    }

    /// The running cluster `name`.
    ///
    /// # Errors
    /// [`LabError::Missing`].
    pub fn cluster(&self, name: &str) -> Result<&Cluster, LabError> {
        self.clusters.iter().find(|cluster| cluster.plan().name == name).ok_or_else(|| LabError::Missing {
            what: format!("the lab has no cluster {name}"),
            hint: format!("it has {}", self.plan().cluster_names().join(", ")),
        })
    }

    /// The control planes, in the plan's order.
    pub fn control_planes(&self) -> &[ControlPlane] {
        &self.control_planes
    }

    /// The control plane `name`.
    ///
    /// # Errors
    /// [`LabError::Missing`].
    pub fn control_plane(&self, name: &str) -> Result<&ControlPlane, LabError> {
        self.control_planes.iter().find(|one| one.name() == name).ok_or_else(|| LabError::Missing {
            what: format!("the lab has no control plane {name}"),
            hint: format!(
                "it has {}",
                self.control_planes.iter().map(ControlPlane::name).collect::<Vec<_>>().join(", ")
            ),
        })
    }

    /// The control plane that serves the sidecars of `cluster`.
    ///
    /// # Errors
    /// [`LabError::Missing`].
    pub fn control_plane_of(&self, cluster: &str) -> Result<&ControlPlane, LabError> {
        self.control_plane(&self.cluster(cluster)?.plan().control_plane)
    }

    /// An error that quotes the log of the first control plane or API server that ended by itself. Pods are the node agents'
    /// matter: what dies there starts again.
    ///
    /// # Errors
    /// [`LabError::Ended`], [`LabError::KubeApiServer`].
    pub fn check_running(&self) -> Result<(), LabError> {
        self.control_planes.iter().try_for_each(ControlPlane::check_running)?;
        self.clusters.iter().try_for_each(Cluster::check_running)
    }

    /// The ends of all logs that say something.
    pub fn log_tails(&self) -> String {
        let Ok(entries) = std::fs::read_dir(&self.site.logs) else {
            return String::new();
        };
        let mut logs: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        // The application answers and nothing else: what is wrong, others say.
        logs.retain(|log| !log.file_name().is_some_and(|name| name.to_string_lossy().contains("-app-")));
        logs.sort();
        let tails = logs.iter().map(|log| (log, part::tail(log))).filter(|(_, tail)| !tail.is_empty());
        tails.map(|(log, tail)| format!("{}:\n{tail}\n", log.display())).collect()
    }

    /// Tells the user.
    pub fn say(&self, line: &str) {
        self.site.say(line);
    }

    /// Stops everything; proxies first, since nobody waits for their answers any more.
    pub async fn stop(&self) {
        join_all(self.clusters.iter().map(Cluster::end_life)).await;
        join_all(self.pods().iter().map(|pod| pod.kill())).await;
        join_all(self.control_planes.iter().map(ControlPlane::close)).await;
        join_all(self.clusters.iter().map(Cluster::close)).await;
        let routers =
            std::mem::take(&mut *self.routers.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        join_all(routers.into_iter().map(OpenBox::close)).await;
    }
}
