//! How a real server starts: its settings, its address, its client.

use std::net::SocketAddr;
use std::path::PathBuf;

use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::net::TcpSocket;

use super::super::apiserver::{Authority, fresh_token};
use super::super::kubeconfig;
use super::files::Directory;
use super::{HeldAddress, KubeApiServerError, KubeAssets, Launch, RunningKubeApiServer};
use crate::trust::Secret;

/// Settings of an API server to start.
#[derive(Debug)]
#[must_use = "a builder does nothing until start is awaited"]
pub struct KubeApiServerBuilder {
    cluster: String,
    listen: SocketAddr,
    names: Vec<String>,
    server_url: Option<String>,
    service_range: String,
    api_flags: Vec<String>,
    dir: Option<PathBuf>,
    logs: Option<PathBuf>,
}

impl KubeApiServerBuilder {
    pub(super) fn new() -> Self {
        Self {
            cluster: "Kubernetes".into(),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            names: Vec::new(),
            server_url: None,
            service_range: "10.96.0.0/16".into(),
            api_flags: Vec::new(),
            dir: None,
            logs: None,
        }
    }

    /// Names the cluster, its context and its user in the kubeconfig.
    pub fn cluster(mut self, name: impl Into<String>) -> Self {
        self.cluster = name.into();
        self
    }

    /// Where to listen; port 0 takes a free one.
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen = address;
        self
    }

    /// A further DNS name or IP address in the certificate.
    pub fn tls_san(mut self, name: impl Into<String>) -> Self {
        self.names.push(name.into());
        self
    }

    /// The URL the kubeconfig names instead of the listening address.
    pub fn server_url(mut self, url: impl Into<String>) -> Self {
        self.server_url = Some(url.into());
        self
    }

    /// Where Services get their cluster IPs from, as a CIDR.
    pub fn service_range(mut self, range: impl Into<String>) -> Self {
        self.service_range = range.into();
        self
    }

    /// A further flag of kube-apiserver, such as `--feature-gates=WatchList=false`.
    pub fn api_flag(mut self, flag: impl Into<String>) -> Self {
        self.api_flags.push(flag.into());
        self
    }

    /// The server's own directory, made if missing, closed to other users and left behind, with all the server
    /// held. Without one a temporary directory is made and removed.
    pub fn dir(mut self, dir: PathBuf) -> Self {
        self.dir = Some(dir);
        self
    }

    /// An existing directory for `<cluster>-etcd.log` and `<cluster>-kube-apiserver.log`, instead of the
    /// server's own.
    pub fn logs(mut self, dir: PathBuf) -> Self {
        self.logs = Some(dir);
        self
    }

    /// Starts etcd and kube-apiserver; returns when clients can work.
    ///
    /// # Errors
    /// See [`KubeApiServerError`]. Nothing is left running.
    pub async fn start(self, assets: &KubeAssets) -> Result<RunningKubeApiServer, KubeApiServerError> {
        let cluster = self.cluster;
        let directory = Directory::make(self.dir)?;
        let held = hold(self.listen).map_err(|source| KubeApiServerError::Listen {
            cluster: cluster.clone(),
            address: self.listen,
            source,
        })?;
        let token = fresh_token().map_err(|error| KubeApiServerError::Token {
            cluster: cluster.clone(),
            problem: error.to_string(),
        })?;
        let token = Secret::new(token);
        let authority = Authority::generate(&cluster)
            .map_err(|source| KubeApiServerError::Certificate { cluster: cluster.clone(), source })?;
        directory.fill(&cluster, &authority, (held.address.ip(), &self.names), &token)?;
        let url = self.server_url.unwrap_or_else(|| format!("https://{}", held.address));
        let here = kubeconfig::inline(
            &cluster,
            &format!("https://{}", held.address),
            authority.pem(),
            token.reveal(),
        );
        let logs = self.logs.unwrap_or_else(|| directory.path().to_owned());
        let launch = Launch {
            assets: assets.clone(),
            logs,
            service_range: self.service_range,
            api_flags: self.api_flags,
        };
        let etcd = launch.etcd(&cluster, &directory)?;
        let mut server = RunningKubeApiServer {
            client: client(&cluster, &here).await?,
            api: None,
            etcd: Some(etcd),
            launch,
            held,
            names: self.names,
            authority,
            token,
            url,
            directory,
            cluster,
        };
        server.resume_api().await?;
        Ok(server)
    }
}

fn hold(wanted: SocketAddr) -> std::io::Result<HeldAddress> {
    if wanted.port() != 0 {
        // Sharing is for our own process only: one that listens already is in the way.
        std::net::TcpListener::bind(wanted)?;
    }
    let socket = if wanted.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseport(true)?;
    socket.bind(wanted)?;
    Ok(HeldAddress { address: socket.local_addr()?, _socket: socket })
}

pub(super) async fn client(cluster: &str, kubeconfig: &str) -> Result<kube::Client, KubeApiServerError> {
    let failed = |problem: String| KubeApiServerError::Kubeconfig { cluster: cluster.to_owned(), problem };
    let parsed = Kubeconfig::from_yaml(kubeconfig).map_err(|error| failed(error.to_string()))?;
    let mut config = kube::Config::from_custom_kubeconfig(parsed, &KubeConfigOptions::default())
        .await
        .map_err(|error| failed(error.to_string()))?;
    // The server is on this machine; a proxy named by the environment is not.
    config.proxy_url = None;
    config.default_retry = false;
    kube::Client::try_from(config).map_err(|error| failed(error.to_string()))
}
