//! One running control plane: this binary's `serve`, as a child.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::process::Command;

use super::cluster::Cluster;
use super::http::fetch;
use super::netns::OpenBox;
use super::part::Part;
use super::place::Place;
use super::plan::{ControlPlanePlan, HTTP_PORT, MONITORING_PORT, XDS_PORT};
use super::wait::until;
use super::{LabError, Mode};

/// A control plane that has its clusters is ready at once; a debug build under load needs longer.
const READY_LIMIT: Duration = Duration::from_secs(45);
/// How long a control plane may drain.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// A control plane, which may be up or down.
#[derive(Debug)]
pub struct ControlPlane {
    plan: ControlPlanePlan,
    mode: Mode,
    exe: PathBuf,
    files: PathBuf,
    logs: PathBuf,
    opened: Mutex<Option<OpenBox>>,
    place: Place,
    part: Mutex<Option<Part>>,
}

/// What a control plane is made from.
pub(super) struct Making {
    pub(super) plan: ControlPlanePlan,
    pub(super) mode: Mode,
    pub(super) exe: PathBuf,
    pub(super) files: PathBuf,
    pub(super) logs: PathBuf,
    pub(super) opened: Option<OpenBox>,
}

impl ControlPlane {
    pub(super) fn new(making: Making) -> Self {
        let Making { plan, mode, exe, files, logs, opened } = making;
        let place = opened.as_ref().map_or(Place::Here, |opened| opened.place);
        Self { plan, mode, exe, files, logs, opened: Mutex::new(opened), place, part: Mutex::new(None) }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.plan.name
    }

    /// Where everything is.
    pub fn plan(&self) -> &ControlPlanePlan {
        &self.plan
    }

    /// `http://…` of its readiness and debug pages.
    pub fn http_url(&self) -> String {
        self.plan.http_url()
    }

    /// Writes the kubeconfigs it starts with: its home cluster's, or those of all.
    ///
    /// # Errors
    /// [`LabError::File`].
    pub(super) fn write_kubeconfigs(&self, clusters: &[Cluster]) -> Result<(), LabError> {
        let dir = self.kubeconfig_dir();
        std::fs::create_dir_all(&dir).map_err(LabError::file("create", &dir))?;
        let own =
            |cluster: &&Cluster| self.plan.home.as_ref().is_none_or(|home| *home == cluster.plan().name);
        for cluster in clusters.iter().filter(own) {
            let path = dir.join(format!("{}.yaml", cluster.plan().name));
            let text = cluster.kubeconfig().reveal();
            std::fs::write(&path, text).map_err(LabError::file("write", &path))?;
        }
        Ok(())
    }

    fn kubeconfig_dir(&self) -> PathBuf {
        self.files.join(format!("{}-kubeconfigs", self.plan.name))
    }

    /// Starts it, unless it runs, and waits until it serves.
    ///
    /// # Errors
    /// [`LabError::Ended`] with its log if it ends, [`LabError::Deadline`] with what it says instead.
    pub async fn start(&self) -> Result<(), LabError> {
        let name = format!("{}/control-plane", self.plan.name);
        {
            let mut part = self.lock();
            if part.as_mut().is_none_or(|part| part.check_running().is_err()) {
                *part = Some(Part::spawn(&name, self.command(), &self.logs)?);
            }
        }
        let url = format!("{}/ready", self.http_url());
        until(&format!("{name} ready"), READY_LIMIT, async || {
            if let Err(ended) = self.check_running() {
                return Ok(Err(ended));
            }
            fetch(Place::Here, "GET", &url).await.map(|_| Ok(())).map_err(|error| error.to_string())
        })
        .await?
    }

    /// Ends it in order: its proxies are told to go.
    pub async fn stop(&self) {
        let part = self.lock().take();
        if let Some(part) = part {
            part.stop(STOP_GRACE).await;
        }
    }

    /// Kills it (SIGKILL): nobody is told.
    pub async fn kill(&self) {
        let part = self.lock().take();
        if let Some(part) = part {
            part.kill().await;
        }
    }

    /// An error if it ended by itself.
    ///
    /// # Errors
    /// [`LabError::Ended`].
    pub(super) fn check_running(&self) -> Result<(), LabError> {
        self.lock().as_mut().map_or(Ok(()), Part::check_running)
    }

    /// Ends it and its namespaces.
    pub(super) async fn close(&self) {
        self.stop().await;
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(opened) = opened {
            opened.close().await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Part>> {
        self.part.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn command(&self) -> Command {
        let mut command = self.place.command(&self.exe);
        command.arg("serve").args(["--cluster-id", &self.plan.name]);
        match &self.plan.home {
            Some(home) => command.arg("--kubeconfig").arg(self.kubeconfig_dir().join(format!("{home}.yaml"))),
            None => command.arg("--kubeconfig-dir").arg(self.kubeconfig_dir()),
        };
        // One address per network in namespaces: all of them.
        let xds = match (self.mode, &self.plan.feet[..]) {
            (Mode::Namespaces, [_, _, ..]) => Ipv4Addr::UNSPECIFIED,
            (_, feet) => feet.first().map_or(self.plan.management, |foot| foot.address),
        };
        let management = self.plan.management;
        command.arg("--grpc-addr").arg(format!("{xds}:{XDS_PORT}"));
        command.arg("--http-addr").arg(format!("{management}:{HTTP_PORT}"));
        command.arg("--monitoring-addr").arg(format!("{management}:{MONITORING_PORT}"));
        command.arg("--ca-dir").arg(self.files.join("ca").join(&self.plan.name));
        command.arg("--insecure-plaintext-sds");
        if self.mode == Mode::Loopback {
            command.arg("--allow-loopback-clusters");
        }
        command
    }
}
