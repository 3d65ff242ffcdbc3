//! A real Kubernetes API server: kube-apiserver and its etcd as child processes.
//!
//! ```no_run
//! # async fn example() -> Result<(), tombolo::sim::kube_apiserver::KubeApiServerError> {
//! use tombolo::sim::kube_apiserver::{KubeApiServer, KubeAssets};
//!
//! let assets = KubeAssets::find(None)?; // `make kube-assets` builds them
//! let server = KubeApiServer::builder().cluster("east").start(&assets).await?;
//! std::fs::write("east.kubeconfig", server.kubeconfig()).expect("a writable directory");
//! server.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! A server takes two to three seconds to start and some 300 MB. It has no controllers, no scheduler and no
//! kubelets: pods stay as they are written, and Services get no EndpointSlices but by who writes them. From the
//! start it holds the Service `kubernetes` in the namespace `default`, with an EndpointSlice unless it listens on
//! a loopback address.
//!
//! The server outlives neither its handle nor, where `setpriv` exists, this process.

mod assets;
mod builder;
mod commands;
mod error;
mod etcd;
mod files;
mod process;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use tokio::net::TcpSocket;
use tokio::time::{Instant, sleep, timeout};

pub use self::assets::KubeAssets;
pub use self::builder::KubeApiServerBuilder;
pub use self::error::KubeApiServerError;
use self::files::Directory;
use self::process::Process;
use super::apiserver::Authority;
use super::child::Signal;
use super::kubeconfig;
use crate::trust::Secret;

const ETCD: &str = "etcd";
const KUBE_APISERVER: &str = "kube-apiserver";
/// Two to three seconds on an idle machine; this is for one under load.
const READY_LIMIT: Duration = Duration::from_secs(90);
/// One question whether it is ready.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// Between two such questions.
const PAUSE: Duration = Duration::from_millis(50);
/// How long each process may take to end.
const GRACE: Duration = Duration::from_secs(5);
/// What answers 200 once clients can work: namespaces are made shortly after the server calls itself ready.
const READY_PATHS: [&str; 3] = ["/readyz", "/api/v1/namespaces/default", "/api/v1/namespaces/kube-system"];

/// The way to a real API server: [`KubeApiServer::builder`].
#[derive(Debug)]
pub struct KubeApiServer;

impl KubeApiServer {
    /// A builder with the defaults: cluster `Kubernetes`, `127.0.0.1:0`, services in `10.96.0.0/16`, a temporary
    /// directory.
    pub fn builder() -> KubeApiServerBuilder {
        KubeApiServerBuilder::new()
    }
}

/// What it takes to start the processes, the same every time.
#[derive(Debug)]
struct Launch {
    assets: KubeAssets,
    logs: PathBuf,
    service_range: String,
    /// Flags of kube-apiserver besides ours.
    api_flags: Vec<String>,
}

impl Launch {
    fn etcd(&self, cluster: &str, directory: &Directory) -> Result<Process, KubeApiServerError> {
        let command = commands::etcd(&self.assets, directory.path());
        Process::spawn(cluster, ETCD, command, &self.log(cluster, ETCD))
    }

    fn api(
        &self,
        cluster: &str,
        directory: &Directory,
        listen: SocketAddr,
    ) -> Result<Process, KubeApiServerError> {
        let mut command =
            commands::kube_apiserver(&self.assets, directory.path(), listen, &self.service_range);
        command.args(&self.api_flags);
        Process::spawn(cluster, KUBE_APISERVER, command, &self.log(cluster, KUBE_APISERVER))
    }

    fn log(&self, cluster: &str, program: &str) -> PathBuf {
        self.logs.join(format!("{}-{program}.log", cluster.replace('/', "-")))
    }
}

/// An address that stays this server's while no process listens on it: a bound socket that never listens. The
/// kernel gives connections to sockets that do.
#[derive(Debug)]
struct HeldAddress {
    address: SocketAddr,
    _socket: TcpSocket,
}

/// A running API server. Dropping it kills both processes; [`Self::stop`] ends them in order.
pub struct RunningKubeApiServer {
    // Processes first: what they use goes after them.
    api: Option<Process>,
    etcd: Option<Process>,
    held: HeldAddress,
    directory: Directory,
    launch: Launch,
    client: kube::Client,
    cluster: String,
    /// Further names in the certificate.
    names: Vec<String>,
    url: String,
    authority: Authority,
    token: Secret,
}

impl std::fmt::Debug for RunningKubeApiServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunningKubeApiServer")
            .field("cluster", &self.cluster)
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

impl RunningKubeApiServer {
    /// The cluster's name.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// The URL in the kubeconfig.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The address the server listens on.
    pub fn address(&self) -> SocketAddr {
        self.held.address
    }

    /// The certificate clients must trust, as PEM.
    pub fn ca_pem(&self) -> &str {
        self.authority.pem()
    }

    /// Who issued the certificate.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The administrator's bearer token. Keep it out of logs.
    pub fn token(&self) -> &str {
        self.token.reveal()
    }

    /// The administrator's kubeconfig with everything inline: cluster, context and user are named after the
    /// cluster.
    pub fn kubeconfig(&self) -> String {
        kubeconfig::inline(&self.cluster, &self.url, self.ca_pem(), self.token())
    }

    /// Fault: kills kube-apiserver. Connections break, new ones are refused; etcd keeps every object for
    /// [`Self::resume_api`].
    pub async fn kill_api(&mut self) {
        if let Some(api) = self.api.take() {
            api.kill().await;
        }
    }

    /// Starts kube-apiserver unless it runs, with the same address and credentials; returns when clients can
    /// work. Where it knows no history from before, watches from then are answered with 410.
    ///
    /// # Errors
    /// [`KubeApiServerError::Run`], [`KubeApiServerError::Ended`], [`KubeApiServerError::NotReady`].
    pub async fn resume_api(&mut self) -> Result<(), KubeApiServerError> {
        if self.api.is_none() {
            self.api = Some(self.launch.api(&self.cluster, &self.directory, self.held.address)?);
        }
        let start = Instant::now();
        loop {
            self.check_running()?;
            match self.ask_ready().await {
                Ok(()) => return Ok(()),
                Err(_) if start.elapsed() < READY_LIMIT => sleep(PAUSE).await,
                Err(seen) => {
                    let cluster = self.cluster.clone();
                    return Err(KubeApiServerError::NotReady { cluster, limit: READY_LIMIT, seen });
                }
            }
        }
    }

    async fn ask_ready(&self) -> Result<(), String> {
        for path in READY_PATHS {
            let request = http::Request::get(path).body(Vec::new()).map_err(|error| error.to_string())?;
            let answer = timeout(ANSWER_LIMIT, self.client.request_text(request)).await;
            match answer {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(format!("{path}: {error}")),
                Err(_) => return Err(format!("{path}: no answer within {ANSWER_LIMIT:?}")),
            }
        }
        Ok(())
    }

    /// Fault: stops kube-apiserver without ending it: the kernel accepts connections, nobody answers, watches
    /// fall silent.
    pub fn hang(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets a hanging kube-apiserver go on where it was.
    pub fn unhang(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        if let Some(api) = &self.api {
            api.send(signal);
        }
    }

    /// Other flags for kube-apiserver besides ours, such as `--feature-gates=WatchList=false`, from its next start
    /// on.
    pub fn set_api_flags(&mut self, flags: Vec<String>) {
        self.launch.api_flags = flags;
    }

    /// A new serving certificate, by the same authority or by another: kube-apiserver presents it from its next
    /// start on, and clients that take the kubeconfig from now on trust `authority`.
    ///
    /// # Errors
    /// [`KubeApiServerError::Certificate`], [`KubeApiServerError::File`].
    pub async fn certify(&mut self, authority: Authority) -> Result<(), KubeApiServerError> {
        self.directory.certify(&self.cluster, &authority, (self.held.address.ip(), &self.names))?;
        self.authority = authority;
        let url = format!("https://{}", self.held.address);
        let here = kubeconfig::inline(&self.cluster, &url, self.ca_pem(), self.token());
        self.client = builder::client(&self.cluster, &here).await?;
        Ok(())
    }

    /// Fault: stops etcd without ending it. kube-apiserver answers from memory what it can, and nothing else.
    pub fn freeze_etcd(&self) {
        self.signal_etcd(Signal::STOP);
    }

    /// Lets a frozen etcd go on where it was.
    pub fn thaw_etcd(&self) {
        self.signal_etcd(Signal::CONT);
    }

    fn signal_etcd(&self, signal: Signal) {
        if let Some(etcd) = &self.etcd {
            etcd.send(signal);
        }
    }

    /// Keeps what etcd holds now for [`Self::restore`], and starts it again; kube-apiserver may run meanwhile.
    ///
    /// # Errors
    /// [`KubeApiServerError::File`], [`KubeApiServerError::Run`].
    pub async fn back_up(&mut self) -> Result<(), KubeApiServerError> {
        self.with_etcd_down(Directory::back_up).await
    }

    /// Fault: etcd holds what it held at [`Self::back_up`] again, revisions included, also under a running
    /// kube-apiserver.
    ///
    /// # Errors
    /// As [`Self::back_up`].
    pub async fn restore(&mut self) -> Result<(), KubeApiServerError> {
        self.with_etcd_down(Directory::restore).await
    }

    async fn with_etcd_down(
        &mut self,
        work: impl FnOnce(&Directory) -> Result<(), KubeApiServerError>,
    ) -> Result<(), KubeApiServerError> {
        if let Some(etcd) = self.etcd.take() {
            etcd.stop(GRACE).await;
        }
        let done = work(&self.directory);
        self.etcd = Some(self.launch.etcd(&self.cluster, &self.directory)?);
        done
    }

    /// Fault: etcd forgets its history. Lists that continue, and watches and lists of a version from before now,
    /// are answered with 410 unless the API server still has that history in memory; it has none from before its
    /// start.
    ///
    /// # Errors
    /// [`KubeApiServerError::Compact`].
    pub async fn compact(&self) -> Result<(), KubeApiServerError> {
        let compacted = async {
            let pid = self.etcd.as_ref().and_then(Process::pid).ok_or("it has ended")?;
            etcd::compact(pid, self.revision().await?).await
        };
        let failed = |problem| KubeApiServerError::Compact { cluster: self.cluster.clone(), problem };
        match timeout(ANSWER_LIMIT, compacted).await {
            Ok(done) => done.map_err(failed),
            Err(_) => Err(failed(format!("no answer within {ANSWER_LIMIT:?}"))),
        }
    }

    /// The newest revision in etcd.
    async fn revision(&self) -> Result<u64, String> {
        let request = http::Request::get("/api/v1/namespaces?limit=1").body(Vec::new());
        let request = request.map_err(|error| error.to_string())?;
        let list: Value = self.client.request(request).await.map_err(|error| error.to_string())?;
        let revision = list["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok());
        revision.ok_or_else(|| "the API server lists without a version".to_owned())
    }

    /// An error if a process ended that was not killed by [`Self::kill_api`].
    ///
    /// # Errors
    /// [`KubeApiServerError::Ended`] with the end of its log.
    pub fn check_running(&mut self) -> Result<(), KubeApiServerError> {
        self.etcd.as_mut().map_or(Ok(()), Process::check_running)?;
        self.api.as_mut().map_or(Ok(()), Process::check_running)
    }

    /// Ends kube-apiserver, then etcd, and returns when both are gone and the address is free.
    pub async fn stop(self) {
        if let Some(api) = self.api {
            api.stop(GRACE).await;
        }
        if let Some(etcd) = self.etcd {
            etcd.stop(GRACE).await;
        }
    }
}
