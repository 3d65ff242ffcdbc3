//! Kubeconfigs: the operator's own, and those of remote clusters, which are not trusted.

mod own;
mod remote;

pub use own::{ConfigSource, OwnError, load};
pub use remote::{MAX_BYTES, Refusal, RemoteKubeconfig, check_cluster_id};
