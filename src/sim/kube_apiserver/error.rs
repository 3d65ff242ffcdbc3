//! Why a real API server is not there.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::sim::apiserver::CertificateError;

/// Errors of the launcher. Every variant is *Fatal* for the start; nothing is left running.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KubeApiServerError {
    /// The programs are not where they were looked for.
    #[error(
        "no {program} in {}: `make kube-assets` builds it; or name a directory by TOMBOLO_KUBE_ASSETS or KUBEBUILDER_ASSETS",
        places(looked)
    )]
    Assets {
        /// The first program that is missing.
        program: &'static str,
        /// Where it was looked for.
        looked: Vec<PathBuf>,
    },
    /// A file of the server's directory could not be made.
    #[error("cannot {action} {path}", path = path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A certificate or key could not be made.
    #[error("cluster {cluster}: no certificate")]
    Certificate {
        /// Cluster name.
        cluster: String,
        /// The reason.
        source: CertificateError,
    },
    /// No token could be generated.
    #[error("cluster {cluster}: cannot generate a token: {problem}")]
    Token {
        /// Cluster name.
        cluster: String,
        /// The reason.
        problem: String,
    },
    /// The address is in use or not ours.
    #[error("cannot listen on {address} for the API server of cluster {cluster}")]
    Listen {
        /// Cluster name.
        cluster: String,
        /// The address asked for.
        address: SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
    /// A program could not be started or waited for.
    #[error("cannot run {program} for cluster {cluster}")]
    Run {
        /// Cluster name.
        cluster: String,
        /// Which program.
        program: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// A program ended although it should run on.
    #[error("{program} of cluster {cluster} ended ({status}); its log {log} ends with:\n{tail}", log = log.display())]
    Ended {
        /// Cluster name.
        cluster: String,
        /// Which program.
        program: &'static str,
        /// Its exit status.
        status: String,
        /// Its log.
        log: PathBuf,
        /// The last lines of its log.
        tail: String,
    },
    /// The server did not become ready in time.
    #[error("the API server of cluster {cluster} is not ready after {limit:?}; last seen: {seen}")]
    NotReady {
        /// Cluster name.
        cluster: String,
        /// How long it was waited for.
        limit: Duration,
        /// What it answered instead.
        seen: String,
    },
    /// etcd did not forget its history.
    #[error("cannot compact the etcd of cluster {cluster}: {problem}")]
    Compact {
        /// Cluster name.
        cluster: String,
        /// The reason.
        problem: String,
    },
    /// Its kubeconfig could not be used.
    #[error("cannot use the kubeconfig of cluster {cluster}: {problem}")]
    Kubeconfig {
        /// Cluster name.
        cluster: String,
        /// The reason.
        problem: String,
    },
}

impl KubeApiServerError {
    /// Wraps an I/O error with what was tried on which path.
    pub(super) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }
}

fn places(looked: &[PathBuf]) -> String {
    let names: Vec<String> = looked.iter().map(|path| path.display().to_string()).collect();
    names.join(" or ")
}
