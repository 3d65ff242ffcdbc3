//! How a lab comes up.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use futures::future::try_join_all;
use tokio::sync::watch;

use super::cluster::Cluster;
use super::control_plane::{ControlPlane, Making};
use super::netns::{self, BoxPlan, HostSide, OpenBox};
use super::place::{self, Place};
use super::plan::Plan;
use super::server::Making as ServerMaking;
use super::site::{Ground, Site};
use super::world::file::WorldObject;
use super::{Lab, LabError, Mode, Options, machine, usage, world};

/// The boxes that are there from the start.
#[derive(Default)]
struct Boxes {
    routers: Vec<OpenBox>,
    /// In the order of the plan's control planes.
    control_planes: Vec<OpenBox>,
}

impl Lab {
    /// Brings a lab up: returns when every pod its Deployments ask for is ready.
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
        let plan = Plan::new(options.shape, options.range);
        let files = generated_files(&options, plan.mode()).await?;
        let names: Vec<&str> = plan.control_planes.iter().map(|one| one.name.as_str()).collect();
        crate::trust::plant(&files.join("ca"), &names, SystemTime::now())?;
        let logs = options.run_dir.join("logs");
        let say = |line: &str| (options.progress)(line);
        let (boxes, envoy) =
            futures::try_join!(make_networks(&options, &plan, &logs), take_envoy(&options, &plan, &files))?;
        let making = ServerMaking { api: &options.api, files: &files, logs: &logs };
        let clusters = try_join_all(plan.clusters.iter().map(|plan| Cluster::start(plan, &making))).await?;
        say("networks and API servers are up");
        let first_number = boxes.routers.len() + boxes.control_planes.len();
        let mut opened = boxes.control_planes.into_iter();
        let control_planes = plan.control_planes.iter().map(|plan| {
            ControlPlane::new(Making {
                plan: plan.clone(),
                mode: options.range.mode(),
                exe: options.exe.clone(),
                files: files.clone(),
                logs: logs.clone(),
                opened: opened.next(),
            })
        });
        let control_planes = control_planes.collect();
        let site = Arc::new(Site::new(Ground {
            plan,
            exe: options.exe,
            envoy,
            run_dir: options.run_dir,
            files,
            logs,
            progress: options.progress,
            first_number,
        }));
        let host_pid = options.host_pid;
        let routers = Mutex::new(boxes.routers);
        let lab = Self { site, host_pid, clusters, control_planes, routers };
        lab.fill(&options.world).await?;
        usage::write_files(&lab)?;
        let crossed = lab.first_crossing().await?;
        lab.say(&crossed);
        Ok(lab)
    }

    /// Creates the world and lets it come to life.
    async fn fill(&self, own: &[WorldObject]) -> Result<(), LabError> {
        let worlds = self.clusters.iter().map(async |cluster| {
            cluster.define_kinds().await?;
            cluster.apply_all(&world::world(cluster.plan())).await?;
            cluster.apply_own(own).await
        });
        try_join_all(worlds).await?;
        self.add_remotes().await?;
        let gates: Vec<watch::Sender<bool>> =
            self.control_planes.iter().map(|_| watch::Sender::new(false)).collect();
        for cluster in &self.clusters {
            let served =
                self.control_planes.iter().position(|one| one.name() == cluster.plan().control_plane);
            let gate = served.and_then(|at| gates.get(at)).map(watch::Sender::subscribe);
            cluster.live(&self.site, gate.unwrap_or_else(|| watch::Sender::new(true).subscribe()));
        }
        self.say("worlds are there, controllers and node agents at work");
        let starting = self.control_planes.iter().zip(&gates).map(async |(control_plane, gate)| {
            control_plane.write_kubeconfigs(&self.clusters)?;
            control_plane.start().await?;
            gate.send_replace(true);
            Ok::<_, LabError>(())
        });
        try_join_all(starting).await?;
        self.say("control planes are ready");
        self.rolled_out().await?;
        self.say("all pods are ready");
        Ok(())
    }

    /// Each control plane's home learns of the clusters to watch.
    async fn add_remotes(&self) -> Result<(), LabError> {
        for control_plane in self.plan().control_planes.iter() {
            let Some(home) = &control_plane.home else { continue };
            for remote in &control_plane.remotes {
                self.cluster(home)?.add_remote(self.cluster(remote)?).await?;
            }
        }
        Ok(())
    }
}

async fn make_networks(options: &Options, plan: &Plan, logs: &std::path::Path) -> Result<Boxes, LabError> {
    if plan.mode() == Mode::Loopback {
        return Ok(Boxes::default());
    }
    let host = options.host_pid.map_or(HostSide::Absent, |_| HostSide::Linked);
    netns::make_bridges(plan, host).await?;
    let routers = plan.networks.iter().map(BoxPlan::router);
    let controls = plan.control_planes.iter().map(|one| BoxPlan::control_plane(plan, one));
    let plans: Vec<BoxPlan> = routers.chain(controls).collect();
    let opening = plans.iter().enumerate().map(|(number, plan)| netns::open(plan, number, logs));
    let mut routers = try_join_all(opening).await?;
    let control_planes = routers.split_off(plan.networks.len());
    Ok(Boxes { routers, control_planes })
}

/// In namespaces Envoy runs as a user that may not reach where it is installed: it gets a copy.
async fn take_envoy(options: &Options, plan: &Plan, files: &std::path::Path) -> Result<PathBuf, LabError> {
    if plan.mode() == Mode::Loopback {
        return Ok(options.envoy.clone());
    }
    let copy = files.join("envoy");
    tokio::fs::copy(&options.envoy, &copy).await.map_err(LabError::file("copy Envoy to", &copy))?;
    let mut probe = Place::Here.command("setpriv");
    let uid = place::PROXY_UID.to_string();
    probe.args(["--reuid", &uid, "--regid", &uid, "--clear-groups", "--"]).arg(&copy).arg("--version");
    place::run(probe, &format!("running Envoy as uid {uid} from {}", copy.display()), None).await?;
    Ok(copy)
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
