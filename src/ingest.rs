//! API servers in, model out.
//!
//! ```text
//! cluster_set ── Secrets or files say which clusters there are (roster settles who speaks for one)
//!      │ one task per cluster and generation
//! cluster ────── client + five watches → staging (private, pure conversion) → ClusterWriter
//! ```
//!
//! Kubernetes types stop here. Nothing that goes wrong with one object, one Secret, one file or one cluster
//! touches another (contract 9); an outage never takes anything away (contract 11).

mod absences;
mod adopted;
pub mod client;
mod cluster;
mod cluster_set;
pub mod convert;
pub mod counts;
mod directory;
mod documents;
mod entries;
mod exports;
mod gate;
pub mod kubeconfig;
pub mod networks;
mod notices;
pub mod objects;
pub mod options;
mod policies;
mod problems;
mod remotes;
mod roster;
mod secrets;
pub mod snapshot;
pub mod staging;
mod start;
pub mod watch;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch as signal;
use tokio_util::task::TaskTracker;

use client::{ClientError, ServerList};
use options::Texts;
use snapshot::SnapshotError;
use watch::ListPermits;

#[cfg(test)]
pub(crate) use convert::read_entry;
pub use convert::{EntryOptions, McsOptions};
pub use counts::{Counts, EventKind};
pub use entries::SelectingEntries;
pub use kubeconfig::{ConfigSource, KubeconfigPolicy, OwnError};
pub use networks::{GatewayNames, NameStatus, NetworkOptions};
pub use objects::ObjectKind;
pub use options::ClusterOptions;
#[cfg(test)]
pub(crate) use policies::read_policy;
pub use policies::{KindStatus, Policies, PoliciesTold, PolicyState, PolicyStatus};
pub use problems::{Problem, Problems};
pub use roster::Rehearsal;
pub use snapshot::SnapshotOptions;
pub use start::start;
pub use watch::{Deadlines, RetryPolicy, Sizes};

use crate::model::{ClusterId, Name, Quirks, SessionLabels};
use crate::registry::DuplicateWriter;

/// The control plane's own cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigCluster {
    /// Its id (R1.8).
    pub id: ClusterId,
    /// Where its credentials come from.
    pub source: ConfigSource,
}

/// Where remote clusters come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Remotes {
    /// There are none.
    #[default]
    None,
    /// Secrets labelled `istio/multiCluster=true` in the config cluster's system namespace (R1.1). None
    /// without a config cluster.
    Secrets,
    /// Kubeconfig files in a directory, instead of Secrets (R1.10).
    Directory(PathBuf),
}

/// What ingest works by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngestOptions {
    /// The control plane's own cluster, if it has one.
    pub config: Option<ConfigCluster>,
    /// Where remote clusters come from.
    pub remotes: Remotes,
    /// The namespace whose label names a cluster's network, and which holds the Secrets.
    pub system_namespace: Name,
    /// The DNS domain of services.
    pub domain: Name,
    /// The trust domain of workloads, in every cluster (D34).
    pub trust_domain: Name,
    /// How long the start gate waits for a remote cluster; zero waits for ever (R1.17).
    pub remote_cluster_timeout: Duration,
    /// How long a removed cluster still serves (K-33).
    pub removal_grace: Duration,
    /// Labs and tests: permits API servers, endpoints and gateways on loopback and link-local addresses (D34).
    pub allow_loopback_clusters: bool,
    /// What remote kubeconfigs may do on this machine (R1.14).
    pub kubeconfig_policy: KubeconfigPolicy,
    /// The only API servers that remote kubeconfigs may name (Z-04); `None`: any outside this machine and link.
    pub remote_api_servers: Option<Arc<ServerList>>,
    /// Pauses between attempts.
    pub retry: RetryPolicy,
    /// How long API servers may take.
    pub deadlines: Deadlines,
    /// How large their answers may be.
    pub sizes: Sizes,
    /// Lists that are read at once, of all clusters (K-42).
    pub parallel_lists: usize,
    /// What the file of settings says of single clusters (D35).
    pub clusters: BTreeMap<ClusterId, Texts>,
    /// Clusters that settings name, and which setting does: one that is not there is told.
    pub named: BTreeMap<ClusterId, &'static str>,
    /// Whether a list that takes most of a cluster away is confirmed before it counts (K-21).
    pub mass_delete_guard: bool,
    /// Who reads the Secrets, if not the config cluster (R1.9).
    pub secrets_by: Option<ConfigSource>,
    /// Keeps what clusters amounted to on disk, for a restart while one cannot be reached.
    pub snapshots: Option<SnapshotOptions>,
    /// Where to answer as the peer does (D1).
    pub quirks: Quirks,
    /// One endpoint with every address of its pod, `ISTIO_DUAL_STACK` (R5.15).
    pub dual_stack: bool,
    /// Multi-cluster services (R4.38–R4.40).
    pub mcs: McsOptions,
    /// Who selects whom of WorkloadEntries and Pods (R1.16, R5.24, R5.37).
    pub entries: EntryOptions,
    /// Which Services have sticky sessions (R5.13).
    pub session_labels: SessionLabels,
    /// Whether rules of the mesh may ask for labels of Namespaces: in an ambient mesh of several networks (R4.9).
    pub service_scopes: bool,
    /// Whether endpoints are served from slices alone where Pods may not be read (D9).
    pub serve_without_pods: bool,
    /// How networks and their gateways are read.
    pub networks: NetworkOptions,
    /// The file of MeshConfig; without it the mesh ConfigMap of the config cluster's system namespace is read.
    pub mesh_config: Option<PathBuf>,
}

impl Default for IngestOptions {
    fn default() -> Self {
        Self {
            config: None,
            remotes: Remotes::None,
            system_namespace: "istio-system".into(),
            domain: "cluster.local".into(),
            trust_domain: "cluster.local".into(),
            remote_cluster_timeout: Duration::from_secs(30),
            removal_grace: Duration::from_secs(5),
            allow_loopback_clusters: false,
            kubeconfig_policy: KubeconfigPolicy::default(),
            remote_api_servers: None,
            retry: RetryPolicy::default(),
            deadlines: Deadlines::default(),
            sizes: Sizes::default(),
            parallel_lists: ListPermits::SOUND,
            clusters: BTreeMap::new(),
            named: BTreeMap::new(),
            mass_delete_guard: true,
            secrets_by: None,
            snapshots: None,
            quirks: Quirks::OURS,
            dual_stack: false,
            mcs: McsOptions::default(),
            entries: EntryOptions::default(),
            session_labels: SessionLabels::default(),
            service_scopes: false,
            serve_without_pods: false,
            networks: NetworkOptions::default(),
            mesh_config: None,
        }
    }
}

/// *Fatal* at start: nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The config cluster's kubeconfig.
    #[error(transparent)]
    Config(#[from] OwnError),
    /// The config cluster's credentials.
    #[error("{origin}: {error}")]
    Credentials {
        /// Where they come from.
        origin: String,
        /// What is wrong.
        error: ClientError,
    },
    /// The config cluster's id.
    #[error("--cluster-id: {0}")]
    ClusterId(kubeconfig::Refusal),
    /// Somebody else writes for the config cluster.
    #[error(transparent)]
    Taken(#[from] DuplicateWriter),
    /// The directory of snapshots.
    #[error(transparent)]
    Snapshots(#[from] SnapshotError),
    /// The directory of kubeconfigs.
    #[error("cannot read directory {path}: {error}; check --kubeconfig-dir")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The file of the document `meshNetworks`.
    #[error("{path}: {problem}; check --networks-config")]
    MeshNetworks {
        /// The file.
        path: PathBuf,
        /// Everything that is wrong.
        problem: String,
    },
    /// The file of MeshConfig.
    #[error("{path}: {problem}; check --mesh-config")]
    MeshConfig {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

/// Running ingest. Dropping it changes nothing; it stops when the token given at start is cancelled.
#[derive(Debug)]
pub struct Ingest {
    counts: Arc<Counts>,
    problems: Arc<Problems>,
    ready: signal::Receiver<bool>,
    known_set: signal::Receiver<bool>,
    gateway_names: Arc<GatewayNames>,
    policies: Arc<Policies>,
    tasks: TaskTracker,
}

impl Ingest {
    /// Work done so far.
    pub fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }

    /// What operators have to look at besides the table of clusters, by subject.
    pub fn problems(&self) -> Vec<Problem> {
        self.problems.all()
    }

    /// The same list for whoever outlives this handle.
    pub fn problem_list(&self) -> &Arc<Problems> {
        &self.problems
    }

    /// The start gate (R1.18): true once the set of clusters is known and each has synced or timed out. It
    /// never turns false again: a cluster that is added later does not stop a server that serves.
    pub fn ready(&self) -> signal::Receiver<bool> {
        self.ready.clone()
    }

    /// Waits for the start gate. Returns false when ingest was stopped before.
    pub async fn wait_ready(&self) -> bool {
        let mut ready = self.ready();
        ready.wait_for(|ready| *ready).await.is_ok()
    }

    /// Whether the Secrets or files that were there at the start have been looked at (R1.18).
    pub fn known_set_complete(&self) -> bool {
        *self.known_set.borrow()
    }

    /// The host names of gateways and what they resolve to.
    pub fn gateway_names(&self) -> &Arc<GatewayNames> {
        &self.gateway_names
    }

    /// The policies of the config cluster and what is wrong with them.
    pub fn policies(&self) -> &Arc<Policies> {
        &self.policies
    }

    /// Waits until every task has ended after the token was cancelled.
    pub async fn stopped(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}
