//! One running cluster: its API server, its controllers, its node agent.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use tokio::sync::{Mutex as AsyncMutex, watch};

use super::api::ApiClient;
use super::kubelet::Kubelet;
use super::plan::{API_PORT, ClusterPlan};
use super::site::Site;
use super::{LabError, world};
use crate::sim::apiserver::{ApiServer, Authority, RunningApiServer, Store};
use crate::sim::controllers::{Controllers, RunningControllers, Settings};
use crate::trust::Secret;

/// A cluster. What it holds outlives its API server's outages.
#[derive(Debug)]
pub struct Cluster {
    plan: ClusterPlan,
    server: AsyncMutex<Option<RunningApiServer>>,
    store: Store,
    authority: Authority,
    token: Secret,
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
    /// [`LabError::Http`] naming what could not be started.
    pub(super) async fn start(plan: &ClusterPlan) -> Result<Self, LabError> {
        let builder =
            ApiServer::builder().cluster(&plan.name).listen(address(plan)).server_url(plan.api_url());
        let running = builder.start().await.map_err(|error| failed(plan, error))?;
        let kubeconfig = running.kubeconfig();
        Ok(Self {
            plan: plan.clone(),
            store: running.store(),
            authority: running.authority().clone(),
            token: Secret::new(running.token()),
            api: ApiClient::from_kubeconfig(&kubeconfig).await?,
            kubeconfig: Secret::new(kubeconfig),
            server: AsyncMutex::new(Some(running)),
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

    /// Stops the API server: its port closes, watches end. What it holds stays for [`Self::resume_api`].
    pub async fn kill_api(&self) {
        if let Some(running) = self.server.lock().await.take() {
            running.shutdown().await;
        }
    }

    /// Starts the API server again, with what it held, at the same address, with the same credentials.
    ///
    /// # Errors
    /// [`LabError::Http`].
    pub async fn resume_api(&self) -> Result<(), LabError> {
        let mut server = self.server.lock().await;
        if server.is_some() {
            return Ok(());
        }
        let builder = ApiServer::builder()
            .cluster(&self.plan.name)
            .listen(address(&self.plan))
            .server_url(self.plan.api_url())
            .token(self.token.reveal())
            .store(self.store.clone())
            .authority(self.authority.clone());
        *server = Some(builder.start().await.map_err(|error| failed(&self.plan, error))?);
        Ok(())
    }

    /// Freezes the API server: connections stay open, nothing comes.
    pub async fn hang_api(&self) {
        if let Some(running) = self.server.lock().await.as_ref() {
            running.freeze();
        }
    }

    /// Lets it go on where it was frozen.
    pub async fn unhang_api(&self) {
        if let Some(running) = self.server.lock().await.as_ref() {
            running.thaw();
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

fn address(plan: &ClusterPlan) -> SocketAddr {
    SocketAddr::from((plan.api, API_PORT))
}

fn failed(plan: &ClusterPlan, error: impl std::fmt::Display) -> LabError {
    LabError::Http { method: "starting".to_owned(), url: plan.api_url(), problem: error.to_string() }
}
