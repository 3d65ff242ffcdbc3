//! Ingest against a real kube-apiserver and etcd: what the registry and the operators see.
//!
//! Needs the programs of `make kube-assets`, or those that `KUBEBUILDER_ASSETS` names. Without them the tests are
//! skipped loudly; with `CI=true` that is a failure.
// The allowance for tests covers test functions only, not what they share.
#![allow(clippy::unwrap_used, clippy::print_stdout, unreachable_pub, missing_docs)]

use std::time::Duration;

#[path = "kube/assets.rs"]
mod assets;
#[path = "real_apiserver/audit.rs"]
mod audit;
#[path = "kube/client.rs"]
mod client;
#[path = "real_apiserver/cluster.rs"]
mod cluster;
#[path = "real_apiserver/front.rs"]
mod front;
#[path = "real_apiserver/plane.rs"]
mod plane;

#[path = "real_apiserver/forms.rs"]
mod forms;
#[path = "real_apiserver/history.rs"]
mod history;
#[path = "real_apiserver/outages.rs"]
mod outages;
#[path = "real_apiserver/policies.rs"]
mod policies;
#[path = "real_apiserver/rights.rs"]
mod rights;
#[path = "real_apiserver/rotation.rs"]
mod rotation;

/// What a working server never needs.
const LIMIT: Duration = Duration::from_secs(90);

/// Waits until this holds.
async fn soon(what: &str, mut check: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + LIMIT;
    while !check().await {
        assert!(tokio::time::Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
