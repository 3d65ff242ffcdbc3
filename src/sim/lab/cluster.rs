//! One running cluster: its API server and its control plane.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;

use super::api::{ApiClient, Collection};
use super::http::fetch;
use super::part::Part;
use super::place::Place;
use super::plan::{API_PORT, ClusterPlan, HTTP_PORT, MONITORING_PORT, XDS_PORT};
use super::wait::until;
use super::{LabError, Mode, world};
use crate::sim::apiserver::{ApiServer, Authority, RunningApiServer, Store};
use crate::trust::Secret;

/// A control plane that has its clusters is ready at once; a debug build under load needs longer.
const READY_LIMIT: Duration = Duration::from_secs(45);
/// How long a control plane may drain.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// The API server of a cluster, as a client needs it and as a later server at the same place needs it.
#[derive(Debug)]
pub struct RunningCluster {
    plan: ClusterPlan,
    running: Option<RunningApiServer>,
    store: Store,
    authority: Authority,
    token: Secret,
    kubeconfig: Secret,
    api: ApiClient,
    control_plane: Option<Part>,
}

/// How to start a control plane; the same every time.
#[derive(Debug, Clone)]
pub struct ControlPlane {
    /// This binary.
    pub exe: PathBuf,
    /// Where it runs.
    pub place: Place,
    /// Its kubeconfig and CA.
    pub files: PathBuf,
    /// Its log.
    pub logs: PathBuf,
    /// Loopback API servers must be allowed explicitly.
    pub mode: Mode,
}

impl RunningCluster {
    /// Starts the API server of `plan` with `world` in it.
    ///
    /// # Errors
    /// [`LabError::Http`] naming what could not be started.
    pub async fn start(plan: &ClusterPlan, world: &Value) -> Result<Self, LabError> {
        let items = world["items"].as_array().cloned().unwrap_or_default();
        let builder = ApiServer::builder()
            .cluster(plan.name)
            .listen(address(plan))
            .server_url(plan.api_url())
            .world(items);
        let running = builder.start().await.map_err(|error| failed(plan, error))?;
        let kubeconfig = running.kubeconfig();
        Ok(Self {
            plan: plan.clone(),
            store: running.store(),
            authority: running.authority().clone(),
            token: Secret::new(running.token()),
            api: ApiClient::from_kubeconfig(&kubeconfig).await?,
            kubeconfig: Secret::new(kubeconfig),
            running: Some(running),
            control_plane: None,
        })
    }

    /// A client of the API server.
    pub fn api(&self) -> &ApiClient {
        &self.api
    }

    /// The kubeconfig, with its token.
    pub fn kubeconfig(&self) -> &Secret {
        &self.kubeconfig
    }

    /// Tells this cluster's control plane of `peer`, as `create-remote-secret | kubectl apply` would.
    ///
    /// # Errors
    /// [`LabError::Http`].
    pub async fn add_remote(&self, peer: &RunningCluster) -> Result<(), LabError> {
        let secret = world::remote_secret(peer.plan.name, peer.kubeconfig.reveal());
        self.api.create(Collection::Secrets, &secret).await
    }

    /// Stops the API server: its port closes, watches end. What it holds stays for [`Self::resume_api`].
    pub async fn stop_api(&mut self) {
        if let Some(running) = self.running.take() {
            running.shutdown().await;
        }
    }

    /// Starts the API server again, with what it held, at the same address, with the same credentials.
    ///
    /// # Errors
    /// [`LabError::Http`].
    pub async fn resume_api(&mut self) -> Result<(), LabError> {
        let builder = ApiServer::builder()
            .cluster(self.plan.name)
            .listen(address(&self.plan))
            .server_url(self.plan.api_url())
            .token(self.token.reveal())
            .store(self.store.clone())
            .authority(self.authority.clone());
        self.running = Some(builder.start().await.map_err(|error| failed(&self.plan, error))?);
        Ok(())
    }

    /// Starts the control plane and waits until it serves.
    ///
    /// # Errors
    /// [`LabError::Ended`] with its log if it ends, [`LabError::Deadline`] with what it says instead.
    pub async fn start_control_plane(&mut self, setup: &ControlPlane) -> Result<(), LabError> {
        let kubeconfig = setup.files.join(format!("{}.kubeconfig", self.plan.name));
        std::fs::write(&kubeconfig, self.kubeconfig.reveal())
            .map_err(LabError::file("write", &kubeconfig))?;
        let name = format!("{}/control-plane", self.plan.name);
        let part = Part::spawn(&name, serve_command(&self.plan, setup, &kubeconfig), &setup.logs)?;
        let part = self.control_plane.insert(part);
        let url = format!("{}/ready", self.plan.http_url());
        until(&format!("{name} ready"), READY_LIMIT, async || {
            if let Err(ended) = part.check_running() {
                return Ok(Err(ended));
            }
            fetch(Place::Here, "GET", &url).await.map(|_| Ok(())).map_err(|error| error.to_string())
        })
        .await?
    }

    /// Stops the control plane.
    pub async fn stop_control_plane(&mut self) {
        if let Some(part) = self.control_plane.take() {
            part.stop(STOP_GRACE).await;
        }
    }

    /// An error if the control plane ended by itself.
    ///
    /// # Errors
    /// [`LabError::Ended`].
    pub fn check_running(&mut self) -> Result<(), LabError> {
        self.control_plane.as_mut().map_or(Ok(()), Part::check_running)
    }

    /// Stops everything.
    pub async fn stop(mut self) {
        self.stop_control_plane().await;
        self.stop_api().await;
    }
}

fn address(plan: &ClusterPlan) -> SocketAddr {
    SocketAddr::from((plan.api, API_PORT))
}

fn failed(plan: &ClusterPlan, error: impl std::fmt::Display) -> LabError {
    LabError::Http { method: "starting".to_owned(), url: plan.api_url(), problem: error.to_string() }
}

fn serve_command(plan: &ClusterPlan, setup: &ControlPlane, kubeconfig: &Path) -> Command {
    let mut command = setup.place.command(&setup.exe);
    command.arg("serve").args(["--cluster-id", plan.name]).arg("--kubeconfig").arg(kubeconfig);
    command.arg("--grpc-addr").arg(format!("{}:{XDS_PORT}", plan.xds));
    command.arg("--http-addr").arg(format!("{}:{HTTP_PORT}", plan.management));
    command.arg("--monitoring-addr").arg(format!("{}:{MONITORING_PORT}", plan.management));
    command.arg("--ca-dir").arg(setup.files.join("ca").join(plan.name)).arg("--insecure-plaintext-sds");
    if setup.mode == Mode::Loopback {
        command.arg("--allow-loopback-clusters");
    }
    command
}
