//! One running pod: its namespaces, its application, its Envoy.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use super::envoy::{self, Admin};
use super::netns::{self, BoxPlan, OpenBox};
use super::part::Part;
use super::place::Place;
use super::plan::{ClusterPlan, PodPlan, Role, SERVICES};
use super::wait::until_every;
use super::{LabError, Mode, bootstrap};

/// An Envoy is live in about a second; several at once on a small machine take longer.
const LIVE_LIMIT: Duration = Duration::from_secs(60);
/// Looking costs a process each time.
const LIVE_PAUSE: Duration = Duration::from_millis(80);
/// How long requests in flight may take before a leaving pod stops regardless.
const SETTLE_LIMIT: Duration = Duration::from_secs(10);
/// How long a leaving pod waits for peers to close connections that are idle: a peer behind a gateway cannot
/// know which of its connections end here, and closes one only after its next request.
const IDLE_LIMIT: Duration = Duration::from_secs(2);
/// How long an Envoy may take to end.
const STOP_GRACE: Duration = Duration::from_secs(3);

/// What every pod is started with.
#[derive(Debug, Clone)]
pub struct PodSetup {
    /// This binary.
    pub exe: PathBuf,
    /// Envoy's.
    pub envoy: PathBuf,
    /// Generated files, for the lab's processes.
    pub files: PathBuf,
    /// Logs.
    pub logs: PathBuf,
    /// Namespaces or loopback.
    pub mode: Mode,
}

/// A pod whose application runs and whose Envoy does not yet.
#[derive(Debug)]
pub struct OpenPod {
    cluster: ClusterPlan,
    plan: PodPlan,
    place: Place,
    opened: Option<OpenBox>,
    apps: Vec<Part>,
}

impl OpenPod {
    /// Makes the pod's namespaces and starts its application. `number` is unique in the lab.
    ///
    /// # Errors
    /// [`LabError`].
    pub async fn open(
        setup: &PodSetup,
        cluster: &ClusterPlan,
        plan: &PodPlan,
        number: usize,
    ) -> Result<Self, LabError> {
        let opened = match setup.mode {
            Mode::Loopback => None,
            Mode::Namespaces => {
                let plan = BoxPlan::pod(cluster, plan);
                Some(netns::open(&plan, number, &setup.files, &setup.logs).await?)
            }
        };
        let place = opened.as_ref().map_or(Place::Here, |opened| opened.place);
        let mut pod = Self { cluster: cluster.clone(), plan: plan.clone(), place, opened, apps: Vec::new() };
        if matches!(plan.role, Role::Helloworld(_)) {
            pod.start_apps(setup)?;
        }
        Ok(pod)
    }

    /// One process per port: the application knows one address and no proxy.
    fn start_apps(&mut self, setup: &PodSetup) -> Result<(), LabError> {
        let address = match setup.mode {
            Mode::Namespaces => Ipv4Addr::UNSPECIFIED,
            Mode::Loopback => self.plan.app,
        };
        for service in &SERVICES {
            let mut command = self.place.command(&setup.exe);
            command.args(["sim", "app", "--version", self.cluster.version, "--cluster", self.cluster.name]);
            command.args(["--instance", &self.plan.name, "--listen"]);
            command.arg(format!("{address}:{}", service.port));
            let name = format!("{}/{}", self.plan.path(), service.name);
            self.apps.push(Part::spawn(&name, command, &setup.logs)?);
        }
        Ok(())
    }

    /// Starts the Envoy.
    ///
    /// # Errors
    /// [`LabError`].
    pub fn start_envoy(self, setup: &PodSetup) -> Result<RunningPod, LabError> {
        let file = setup.files.join(format!("{}-{}.json", self.plan.cluster, self.plan.name));
        let text = bootstrap::bootstrap(&self.cluster, &self.plan, setup.mode).to_string();
        std::fs::write(&file, text).map_err(LabError::file("write", &file))?;
        let command = envoy::command(self.place, &setup.envoy, &file);
        let envoy = Part::spawn(&format!("{}/envoy", self.plan.path()), command, &setup.logs)?;
        let admin = Admin::new(self.place, &self.plan, setup.mode);
        Ok(RunningPod {
            plan: self.plan,
            place: self.place,
            opened: self.opened,
            apps: self.apps,
            envoy,
            admin,
        })
    }
}

/// A pod with its Envoy.
#[derive(Debug)]
pub struct RunningPod {
    plan: PodPlan,
    place: Place,
    opened: Option<OpenBox>,
    apps: Vec<Part>,
    envoy: Part,
    admin: Admin,
}

impl RunningPod {
    /// What it was planned as.
    pub fn plan(&self) -> &PodPlan {
        &self.plan
    }

    /// Where its processes run.
    pub fn place(&self) -> Place {
        self.place
    }

    /// Its Envoy's admin pages.
    pub fn admin(&self) -> &Admin {
        &self.admin
    }

    /// Waits until its Envoy is live and, for an application, takes requests for every port.
    ///
    /// # Errors
    /// [`LabError::Ended`] with the log of what ended, [`LabError::Deadline`].
    pub async fn live(&mut self) -> Result<(), LabError> {
        let wanted: Vec<String> = match self.plan.role {
            Role::Helloworld(_) => {
                SERVICES.iter().map(|service| format!("inbound|{}||", service.port)).collect()
            }
            Role::Sleep | Role::Gateway => Vec::new(),
        };
        let what = format!("Envoy of {} live", self.plan.path());
        until_every(&what, LIVE_LIMIT, LIVE_PAUSE, async || {
            if let Err(ended) = self.check_running() {
                return Ok(Err(ended));
            }
            self.admin.live().await.map_err(|error| error.to_string())?;
            let clusters = self.admin.clusters().await.map_err(|error| error.to_string())?;
            match wanted.iter().find(|name| !clusters.contains_key(*name)) {
                Some(missing) => Err(format!("live, without {missing}")),
                None => Ok(Ok(())),
            }
        })
        .await?
    }

    /// An error if one of its processes ended by itself.
    ///
    /// # Errors
    /// [`LabError::Ended`].
    pub fn check_running(&mut self) -> Result<(), LabError> {
        self.apps.iter_mut().chain([&mut self.envoy]).try_for_each(Part::check_running)
    }

    /// Leaves without losing a request: peers are told to close their connections, what is in flight
    /// finishes, then everything stops. The pod must be out of every EndpointSlice.
    pub async fn drain(self) {
        if self.admin.fail_health_checks().await.is_ok() {
            let start = Instant::now();
            // Requests that outlast the limit are cut off, as a kubelet does.
            let _ = until_every("requests in flight", SETTLE_LIMIT, LIVE_PAUSE, async || {
                let stats = self.admin.stats("downstream_rq_active|downstream_cx_active").await;
                let stats = stats.map_err(|error| error.to_string())?;
                let requests = active(&stats, "downstream_rq_active");
                let connections = active(&stats, "downstream_cx_active");
                if requests == 0 && (connections == 0 || start.elapsed() > IDLE_LIMIT) {
                    return Ok(());
                }
                Err(format!("{requests} requests, {connections} connections"))
            })
            .await;
        }
        self.envoy.stop(STOP_GRACE).await;
        close(self.apps, self.opened).await;
    }

    /// Ends everything at once.
    pub async fn kill(self) {
        self.envoy.kill().await;
        close(self.apps, self.opened).await;
    }
}

async fn close(apps: Vec<Part>, opened: Option<OpenBox>) {
    futures::future::join_all(apps.into_iter().map(Part::kill)).await;
    if let Some(opened) = opened {
        opened.close().await;
    }
}

/// The sum of a gauge over all HTTP listeners but the admin pages' own.
fn active(stats: &BTreeMap<String, u64>, gauge: &str) -> u64 {
    let counts =
        |name: &str| name.starts_with("http.") && !name.starts_with("http.admin.") && name.ends_with(gauge);
    stats.iter().filter(|(name, _)| counts(name)).map(|(_, value)| value).sum()
}

/// A directory entry that tells the exec script where a pod is.
pub fn pid_file(run_dir: &Path, pod: &PodPlan) -> PathBuf {
    run_dir.join("pods").join(pod.cluster).join(&pod.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_admin_pages_own_request_is_not_in_flight() {
        let stats = [
            ("http.admin.downstream_rq_active", 1),
            ("http.inbound_0.0.0.0_5000;.downstream_rq_active", 2),
            ("http.inbound_0.0.0.0_5000;.downstream_cx_active", 9),
            ("listener.0.0.0.0_15006.downstream_cx_active", 20),
        ];
        let stats = stats.map(|(name, value)| (name.to_owned(), value)).into();
        assert_eq!(active(&stats, "downstream_rq_active"), 2);
        assert_eq!(active(&stats, "downstream_cx_active"), 9);
    }
}
