//! The API server of a cluster, synthetic or real, and what can befall it.

use std::net::SocketAddr;
use std::path::Path;

use super::plan::{API_PORT, ClusterPlan};
use super::{ApiServers, LabError};
use crate::sim::apiserver::{ApiServer, Authority, RunningApiServer, Store};
use crate::sim::kube_apiserver::{KubeApiServer, RunningKubeApiServer};
use crate::trust::Secret;

/// What API servers are started with.
pub(super) struct Making<'a> {
    pub(super) api: &'a ApiServers,
    pub(super) files: &'a Path,
    pub(super) logs: &'a Path,
}

/// An API server, up or down.
#[derive(Debug)]
pub(super) enum Server {
    /// This program's own, and what a later one at the same place needs.
    Synthetic(Box<Synthetic>),
    /// etcd and kube-apiserver.
    Real(Box<RunningKubeApiServer>),
}

/// See [`Server::Synthetic`].
#[derive(Debug)]
pub(super) struct Synthetic {
    plan: ClusterPlan,
    running: Option<RunningApiServer>,
    store: Store,
    authority: Authority,
    token: Secret,
}

impl Server {
    /// Starts the API server of `plan`, empty; returns its kubeconfig too.
    ///
    /// # Errors
    /// [`LabError`] naming what could not be started.
    pub(super) async fn start(plan: &ClusterPlan, making: &Making<'_>) -> Result<(Self, Secret), LabError> {
        match making.api {
            ApiServers::Synthetic => {
                let builder =
                    ApiServer::builder().cluster(&plan.name).listen(address(plan)).server_url(plan.api_url());
                let running = builder.start().await.map_err(|error| failed(plan, error))?;
                let kubeconfig = Secret::new(running.kubeconfig());
                let synthetic = Synthetic {
                    plan: plan.clone(),
                    store: running.store(),
                    authority: running.authority().clone(),
                    token: Secret::new(running.token()),
                    running: Some(running),
                };
                Ok((Self::Synthetic(Box::new(synthetic)), kubeconfig))
            }
            ApiServers::Real(assets) => {
                let builder = KubeApiServer::builder()
                    .cluster(&plan.name)
                    .listen(address(plan))
                    .server_url(plan.api_url())
                    .service_range(plan.service_range())
                    .dir(making.files.join(format!("{}-kube", plan.name)))
                    .logs(making.logs.to_owned());
                let running = builder.start(assets).await?;
                let kubeconfig = Secret::new(running.kubeconfig());
                Ok((Self::Real(Box::new(running)), kubeconfig))
            }
        }
    }

    /// Fault: nobody listens any more. What it holds stays.
    pub(super) async fn kill(&mut self) {
        match self {
            Self::Synthetic(synthetic) => {
                if let Some(running) = synthetic.running.take() {
                    running.shutdown().await;
                }
            }
            Self::Real(real) => real.kill_api().await,
        }
    }

    /// Starts it again, unless it runs: with what it held, at the same address, with the same credentials.
    ///
    /// # Errors
    /// [`LabError`].
    pub(super) async fn resume(&mut self) -> Result<(), LabError> {
        match self {
            Self::Synthetic(synthetic) => synthetic.resume().await,
            Self::Real(real) => Ok(real.resume_api().await?),
        }
    }

    /// Fault: it stands still; connections stay open, nothing comes.
    pub(super) fn hang(&self) {
        match self {
            Self::Synthetic(synthetic) => synthetic.running.iter().for_each(RunningApiServer::freeze),
            Self::Real(real) => real.hang(),
        }
    }

    /// Lets it go on where it was.
    pub(super) fn unhang(&self) {
        match self {
            Self::Synthetic(synthetic) => synthetic.running.iter().for_each(RunningApiServer::thaw),
            Self::Real(real) => real.unhang(),
        }
    }

    /// An error if it ended by itself.
    ///
    /// # Errors
    /// [`LabError::KubeApiServer`].
    pub(super) fn check_running(&mut self) -> Result<(), LabError> {
        match self {
            Self::Synthetic(_) => Ok(()),
            Self::Real(real) => Ok(real.check_running()?),
        }
    }

    /// Ends it.
    pub(super) async fn close(mut self) {
        self.unhang();
        match self {
            Self::Synthetic(_) => self.kill().await,
            Self::Real(real) => real.stop().await,
        }
    }
}

impl Synthetic {
    async fn resume(&mut self) -> Result<(), LabError> {
        if self.running.is_some() {
            return Ok(());
        }
        let builder = ApiServer::builder()
            .cluster(&self.plan.name)
            .listen(address(&self.plan))
            .server_url(self.plan.api_url())
            .token(self.token.reveal())
            .store(self.store.clone())
            .authority(self.authority.clone());
        self.running = Some(builder.start().await.map_err(|error| failed(&self.plan, error))?);
        Ok(())
    }
}

fn address(plan: &ClusterPlan) -> SocketAddr {
    SocketAddr::from((plan.api, API_PORT))
}

fn failed(plan: &ClusterPlan, error: impl std::fmt::Display) -> LabError {
    LabError::Http { method: "starting".to_owned(), url: plan.api_url(), problem: error.to_string() }
}
