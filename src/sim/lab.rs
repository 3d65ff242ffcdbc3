//! The lab: clusters, networks, control planes and Envoys on one machine.
//!
//! A lab has two clusters on two networks, `east` and `west`. Each has a synthetic API server, a control plane
//! (this binary's `serve`, which watches both API servers), a client pod, the application `helloworld` and an
//! east-west gateway; every pod has a real Envoy. [`Lab::start`] brings it up, [`Lab::check`] proves that
//! requests cross the networks the only way they may, [`Lab::stop`] leaves nothing behind.
//!
//! In [`Mode::Namespaces`] the caller must already be in network, mount and process namespaces of its own:
//! [`outside::enter`] puts the binary there. In [`Mode::Loopback`] no privileges are needed.

pub mod api;
pub mod bootstrap;
pub mod check;
pub mod cluster;
pub mod control;
mod controller;
pub mod envoy;
mod error;
mod http;
pub mod machine;
pub mod netns;
pub mod outside;
mod part;
pub mod place;
pub mod plan;
pub mod pod;
pub mod rundir;
pub mod scenario;
pub mod timeline;
pub mod usage;
mod wait;
pub mod world;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use futures::future::{join_all, try_join_all};

use self::cluster::{ControlPlane, RunningCluster};
pub use self::error::LabError;
use self::netns::{BoxPlan, HostSide, OpenBox};
use self::place::Place;
use self::plan::{ClusterPlan, Plan, PodPlan, Range};
use self::pod::{OpenPod, PodSetup, RunningPod};

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

/// Receives short lines about what is going on.
pub type Progress = Arc<dyn Fn(&str) + Send + Sync>;

/// What a lab is started with.
#[derive(Clone)]
pub struct Options {
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
    plan: Plan,
    options: Options,
    pod_setup: PodSetup,
    clusters: BTreeMap<&'static str, RunningCluster>,
    pods: BTreeMap<String, RunningPod>,
    routers: Vec<OpenBox>,
    control_boxes: BTreeMap<&'static str, OpenBox>,
    numbers: AtomicUsize,
}

impl Lab {
    /// Brings a lab up: returns when every Envoy is live.
    ///
    /// # Errors
    /// [`LabError`]; what had been started is killed.
    pub async fn start(options: Options) -> Result<Self, LabError> {
        if machine::find_program("curl").is_none() {
            return Err(LabError::Missing {
                what: "curl is not in PATH".to_owned(),
                hint: "install it: the lab's clients are plain curl".to_owned(),
            });
        }
        let plan = Plan::new(options.range);
        let files = generated_files(&options, plan.mode()).await?;
        let pod_setup = PodSetup {
            exe: options.exe.clone(),
            envoy: options.envoy.clone(),
            files,
            logs: options.run_dir.join("logs"),
            mode: plan.mode(),
        };
        let mut lab = Self {
            plan,
            options,
            pod_setup,
            clusters: BTreeMap::new(),
            pods: BTreeMap::new(),
            routers: Vec::new(),
            control_boxes: BTreeMap::new(),
            numbers: AtomicUsize::new(0),
        };
        lab.bring_up().await?;
        Ok(lab)
    }

    async fn bring_up(&mut self) -> Result<(), LabError> {
        let cas = self.pod_setup.files.join("ca");
        crate::trust::plant(
            &cas,
            &self.plan.clusters.each_ref().map(|cluster| cluster.name),
            SystemTime::now(),
        )?;
        if self.plan.mode() == Mode::Namespaces {
            self.make_networks().await?;
            self.say("networks are up");
        }
        let first = self.first_pods();
        let opening = first
            .iter()
            .map(|(cluster, pod)| OpenPod::open(&self.pod_setup, cluster, pod, self.next_number()));
        let (opened, clusters, envoy) =
            futures::try_join!(try_join_all(opening), self.start_api_servers(), self.take_envoy())?;
        self.pod_setup.envoy = envoy;
        self.clusters = clusters;
        self.say("API servers hold their worlds, pods are open");
        self.start_control_planes().await?;
        self.say("control planes are ready");
        let pods =
            opened.into_iter().map(|pod| pod.start_envoy(&self.pod_setup)).collect::<Result<Vec<_>, _>>()?;
        let live = pods.into_iter().map(async |mut pod| pod.live().await.map(|()| pod));
        for pod in try_join_all(live).await? {
            self.adopt(pod)?;
        }
        self.say("Envoys are live");
        usage::write_files(self)
    }

    /// The pods that run from the start, each with its cluster.
    fn first_pods(&self) -> Vec<(ClusterPlan, PodPlan)> {
        let of = |cluster: &ClusterPlan| {
            first_pods(cluster).into_iter().map(|pod| (cluster.clone(), pod.clone())).collect::<Vec<_>>()
        };
        self.plan.clusters.iter().flat_map(of).collect()
    }

    async fn make_networks(&mut self) -> Result<(), LabError> {
        let host = self.options.host_pid.map_or(HostSide::Absent, |_| HostSide::Linked);
        netns::make_bridges(&self.plan.clusters, host).await?;
        let gateways = self.plan.clusters.each_ref().map(|cluster| cluster.gateway_wan);
        let routers = self.plan.clusters.iter().map(|cluster| BoxPlan::router(cluster, &gateways));
        let controls = self.plan.clusters.iter().map(BoxPlan::control_plane);
        let plans: Vec<BoxPlan> = routers.chain(controls).collect();
        let setup = &self.pod_setup;
        let opening =
            plans.iter().map(|plan| netns::open(plan, self.next_number(), &setup.files, &setup.logs));
        let mut boxes = try_join_all(opening).await?;
        let controls = boxes.split_off(self.plan.clusters.len());
        self.routers = boxes;
        self.control_boxes = self.plan.clusters.iter().map(|cluster| cluster.name).zip(controls).collect();
        Ok(())
    }

    async fn start_api_servers(&self) -> Result<BTreeMap<&'static str, RunningCluster>, LabError> {
        let starting = self.plan.clusters.iter().map(async |cluster| {
            let world = world::world(cluster, &first_pods(cluster));
            Ok::<_, LabError>((cluster.name, RunningCluster::start(cluster, &world).await?))
        });
        let clusters: BTreeMap<_, _> = try_join_all(starting).await?.into_iter().collect();
        for cluster in &self.plan.clusters {
            clusters[cluster.name].add_remote(&clusters[cluster.peer]).await?;
        }
        Ok(clusters)
    }

    /// In namespaces Envoy runs as a user that may not reach where it is installed: it gets a copy.
    async fn take_envoy(&self) -> Result<PathBuf, LabError> {
        if self.plan.mode() == Mode::Loopback {
            return Ok(self.options.envoy.clone());
        }
        let copy = self.pod_setup.files.join("envoy");
        tokio::fs::copy(&self.options.envoy, &copy).await.map_err(LabError::file("copy Envoy to", &copy))?;
        let mut probe = Place::Here.command("setpriv");
        let uid = place::PROXY_UID.to_string();
        probe.args(["--reuid", &uid, "--regid", &uid, "--clear-groups", "--"]).arg(&copy).arg("--version");
        place::run(probe, &format!("running Envoy as uid {uid} from {}", copy.display()), None).await?;
        Ok(copy)
    }

    async fn start_control_planes(&mut self) -> Result<(), LabError> {
        let setups: BTreeMap<_, _> = self
            .plan
            .clusters
            .iter()
            .map(|cluster| (cluster.name, self.control_plane_setup(cluster.name)))
            .collect();
        let starting =
            self.clusters.iter_mut().map(|(name, cluster)| cluster.start_control_plane(&setups[name]));
        try_join_all(starting).await.map(|_| ())
    }

    fn control_plane_setup(&self, cluster: &str) -> ControlPlane {
        ControlPlane {
            exe: self.options.exe.clone(),
            place: self.control_boxes.get(cluster).map_or(Place::Here, |opened| opened.place),
            files: self.pod_setup.files.clone(),
            logs: self.pod_setup.logs.clone(),
            mode: self.plan.mode(),
        }
    }

    /// Stops the control plane of `cluster` and starts it again.
    ///
    /// # Errors
    /// [`LabError`].
    pub async fn restart_control_plane(&mut self, cluster: &str) -> Result<(), LabError> {
        let setup = self.control_plane_setup(cluster);
        let cluster = self.cluster_mut(cluster)?;
        cluster.stop_control_plane().await;
        cluster.start_control_plane(&setup).await
    }

    /// Where everything is.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The lab's directory.
    pub fn run_dir(&self) -> &Path {
        &self.options.run_dir
    }

    /// The running pods by `cluster/name`.
    pub fn pods(&self) -> &BTreeMap<String, RunningPod> {
        &self.pods
    }

    /// The running cluster `name`.
    ///
    /// # Errors
    /// [`LabError::Missing`].
    pub fn cluster(&self, name: &str) -> Result<&RunningCluster, LabError> {
        self.clusters.get(name).ok_or_else(|| no_cluster(name))
    }

    fn cluster_mut(&mut self, name: &str) -> Result<&mut RunningCluster, LabError> {
        self.clusters.get_mut(name).ok_or_else(|| no_cluster(name))
    }

    fn cluster_plan(&self, name: &str) -> Result<ClusterPlan, LabError> {
        self.plan.cluster(name).cloned().ok_or_else(|| no_cluster(name))
    }

    /// An error that quotes the log of the first process that ended by itself.
    ///
    /// # Errors
    /// [`LabError::Ended`].
    pub fn check_running(&mut self) -> Result<(), LabError> {
        self.clusters.values_mut().try_for_each(RunningCluster::check_running)?;
        self.pods.values_mut().try_for_each(RunningPod::check_running)
    }

    /// The ends of all logs that say something.
    pub fn log_tails(&self) -> String {
        let Ok(entries) = std::fs::read_dir(&self.pod_setup.logs) else {
            return String::new();
        };
        let mut logs: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        logs.sort();
        let tails = logs.iter().map(|log| (log, part::tail(log))).filter(|(_, tail)| !tail.is_empty());
        tails.map(|(log, tail)| format!("{}:\n{tail}\n", log.display())).collect()
    }

    /// Stops everything; proxies first, since nobody waits for their answers any more.
    pub async fn stop(self) {
        join_all(self.pods.into_values().map(RunningPod::kill)).await;
        join_all(self.clusters.into_values().map(RunningCluster::stop)).await;
        join_all(self.routers.into_iter().chain(self.control_boxes.into_values()).map(OpenBox::close)).await;
    }

    fn say(&self, line: &str) {
        (self.options.progress)(line);
    }

    fn next_number(&self) -> usize {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// Takes a live pod into the lab and tells the exec script where it is.
    fn adopt(&mut self, pod: RunningPod) -> Result<(), LabError> {
        if let Place::Namespace { pid } = pod.place() {
            let file = pod::pid_file(&self.options.run_dir, pod.plan());
            let dir = file.parent().unwrap_or(&self.options.run_dir);
            std::fs::create_dir_all(dir).map_err(LabError::file("create", dir))?;
            std::fs::write(&file, pid.to_string()).map_err(LabError::file("write", &file))?;
        }
        self.pods.insert(pod.plan().path(), pod);
        Ok(())
    }

    /// Takes a pod out of the lab.
    fn release(&mut self, pod: &PodPlan) -> Option<RunningPod> {
        // Absent in loopback mode.
        let _ = std::fs::remove_file(pod::pid_file(&self.options.run_dir, pod));
        self.pods.remove(&pod.path())
    }
}

fn first_pods(cluster: &ClusterPlan) -> Vec<&PodPlan> {
    cluster.pods().filter(|pod| !matches!(pod.role, plan::Role::Helloworld(2..))).collect()
}

fn no_cluster(name: &str) -> LabError {
    LabError::Missing {
        what: format!("the lab has no cluster {name}"),
        hint: "its clusters are east and west".to_owned(),
    }
}

/// The directory for what only the lab's own processes read. In namespaces it is in memory and vanishes with
/// the lab, however it ends.
async fn generated_files(options: &Options, mode: Mode) -> Result<PathBuf, LabError> {
    let files = options.run_dir.join("private");
    std::fs::create_dir_all(&files).map_err(LabError::file("create", &files))?;
    if mode == Mode::Loopback {
        use std::os::unix::fs::PermissionsExt as _;
        let own = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(&files, own).map_err(LabError::file("protect", &files))?;
    } else {
        let mut mount = Place::Here.command("mount");
        mount.args(["-t", "tmpfs", "-o", "mode=0755", "tmpfs"]).arg(&files);
        place::run(mount, "mounting a file system in memory", None).await?;
    }
    Ok(files)
}
