//! Kubeconfigs: the operator's own, and those of remote clusters, which are not trusted.

mod own;
mod policy;
mod refusal;
mod remote;
mod server;

pub use own::{ConfigSource, OwnError, load};
pub use policy::{KubeconfigPolicy, KubeconfigRules, UnknownOption, verdict};
pub use refusal::Refusal;
pub use remote::{MAX_BYTES, RemoteKubeconfig, check_cluster_id};
