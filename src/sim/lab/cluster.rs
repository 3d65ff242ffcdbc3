//! One running cluster: its API server, its controllers, its node agent.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{Mutex as AsyncMutex, watch};

use super::api::ApiClient;
use super::kubelet::Kubelet;
use super::plan::ClusterPlan;
use super::server::{Making, Server};
use super::site::Site;
use super::wait::until;
use super::world::file::WorldObject;
use super::{LabError, world};
use crate::sim::controllers::{Controllers, RunningControllers, Settings};
use crate::trust::Secret;

/// Definitions of kinds take effect at once, or within a second or two on a real server.
const DEFINED_LIMIT: Duration = Duration::from_secs(30);

/// A cluster. What it holds outlives its API server's outages.
#[derive(Debug)]
pub struct Cluster {
    plan: ClusterPlan,
    server: AsyncMutex<Option<Server>>,
    kubeconfig: Secret,
    api: ApiClient,
    life: Mutex<Option<Life>>,
}

/// What makes objects into running pods.
#[derive(Debug)]
struct Life {
    controllers: RunningControllers,
    kubelet: Kubelet,
}

impl Cluster {
    /// Starts the API server of `plan`, empty.
    ///
    /// # Errors
    /// [`LabError`] naming what could not be started.
    pub(super) async fn start(plan: &ClusterPlan, making: &Making<'_>) -> Result<Self, LabError> {
        let (server, kubeconfig) = Server::start(plan, making).await?;
        Ok(Self {
            plan: plan.clone(),
            api: ApiClient::from_kubeconfig(kubeconfig.reveal()).await?,
            kubeconfig,
            server: AsyncMutex::new(Some(server)),
            life: Mutex::new(None),
        })
    }

    /// Starts what makes objects into running pods. Envoys wait until `gate` is true.
    pub(super) fn live(&self, site: &Arc<Site>, gate: watch::Receiver<bool>) {
        let controllers = Controllers::start(self.api.kube(), Settings::default());
        let kubelet = Kubelet::start(site, &self.plan, &self.api, gate);
        *self.life.lock().unwrap_or_else(PoisonError::into_inner) = Some(Life { controllers, kubelet });
    }

    /// Applies objects, in order.
    ///
    /// # Errors
    /// [`LabError::Http`], [`LabError::Refused`].
    pub(super) async fn apply_all(&self, objects: &[Value]) -> Result<(), LabError> {
        for object in objects {
            self.api.apply(object).await?;
        }
        Ok(())
    }

    /// Makes the server know the custom kinds a lab may use.
    ///
    /// # Errors
    /// [`LabError::Http`], [`LabError::Refused`], [`LabError::Deadline`].
    pub(super) async fn define_kinds(&self) -> Result<(), LabError> {
        let definitions = world::custom_kinds();
        self.apply_all(&definitions).await?;
        for definition in &definitions {
            let name = definition["metadata"]["name"].as_str().unwrap_or_default();
            let place = ("CustomResourceDefinition", "", name);
            until(&format!("kind {name} in {}", self.plan.name), DEFINED_LIMIT, async || {
                let found = self.api.get(place).await.map_err(|error| error.to_string())?.unwrap_or_default();
                let conditions = found["status"]["conditions"].as_array().cloned().unwrap_or_default();
                let established = |one: &Value| one["type"] == "Established" && one["status"] == "True";
                if conditions.iter().any(established) { Ok(()) } else { Err(format!("{conditions:?}")) }
            })
            .await?;
        }
        Ok(())
    }

    /// Applies what is for this cluster of the user's own objects, their namespaces first.
    ///
    /// # Errors
    /// [`LabError::World`].
    pub(super) async fn apply_own(&self, own: &[WorldObject]) -> Result<(), LabError> {
        let here = |one: &&WorldObject| one.cluster.as_ref().is_none_or(|name| *name == self.plan.name);
        for one in own.iter().filter(here) {
            let applied = async {
                self.api.ensure_namespace(&one.object).await?;
                self.api.apply(&one.object).await
            };
            applied.await.map_err(|source| LabError::World {
                at: one.at.clone(),
                cluster: self.plan.name.clone(),
                source: Box::new(source),
            })?;
        }
        Ok(())
    }

    /// Where everything is.
    pub fn plan(&self) -> &ClusterPlan {
        &self.plan
    }

    /// A client of the API server.
    pub fn api(&self) -> &ApiClient {
        &self.api
    }

    /// The kubeconfig, with its token.
    pub fn kubeconfig(&self) -> &Secret {
        &self.kubeconfig
    }

    /// Tells the control planes at home here of `peer`, as `create-remote-secret | kubectl apply` would.
    ///
    /// # Errors
    /// [`LabError::Http`], [`LabError::Refused`].
    pub async fn add_remote(&self, peer: &Cluster) -> Result<(), LabError> {
        self.api.apply(&world::remote_secret(&peer.plan.name, peer.kubeconfig.reveal())).await
    }

    /// Kills the API server: its port closes, watches end. What it holds stays for [`Self::resume_api`].
    pub async fn kill_api(&self) {
        if let Some(server) = self.server.lock().await.as_mut() {
            server.kill().await;
        }
    }

    /// Starts the API server again, with what it held, at the same address, with the same credentials.
    ///
    /// # Errors
    /// [`LabError::Http`], [`LabError::KubeApiServer`].
    pub async fn resume_api(&self) -> Result<(), LabError> {
        match self.server.lock().await.as_mut() {
            Some(server) => server.resume().await,
            None => Ok(()),
        }
    }

    /// Freezes the API server: connections stay open, nothing comes.
    pub async fn hang_api(&self) {
        if let Some(server) = self.server.lock().await.as_ref() {
            server.hang();
        }
    }

    /// Lets it go on where it was frozen.
    pub async fn unhang_api(&self) {
        if let Some(server) = self.server.lock().await.as_ref() {
            server.unhang();
        }
    }

    /// An error if the API server ended by itself. While somebody kills or starts it there is none.
    pub(super) fn check_running(&self) -> Result<(), LabError> {
        let Ok(mut server) = self.server.try_lock() else { return Ok(()) };
        server.as_mut().map_or(Ok(()), Server::check_running)
    }

    /// Ends the API server for good.
    pub(super) async fn close(&self) {
        let server = self.server.lock().await.take();
        if let Some(server) = server {
            server.close().await;
        }
    }

    /// Ends what makes objects into running pods.
    pub(super) async fn end_life(&self) {
        let life = self.life.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(life) = life {
            life.kubelet.stop().await;
            life.controllers.stop().await;
        }
    }
}
