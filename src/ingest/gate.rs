//! The start gate: when a server that has just begun may answer proxies (R1.18).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch as signal;

use super::networks::GatewayNames;
use super::policies::MeshConfigFeed;
use crate::model::{ClusterRole, ClusterStatus};
use crate::registry::Registry;

/// How long the start waits for the first answers to host names of gateways.
const FIRST_ANSWERS: Duration = Duration::from_secs(10);

/// What the start gate waits for besides the clusters.
pub(super) struct Awaited {
    /// Whether it is known which clusters there are.
    pub(super) known_set: signal::Receiver<bool>,
    /// Host names of gateways, where they are resolved.
    pub(super) names: Option<Arc<GatewayNames>>,
    /// Whether every kind of policy is listed, or cannot be.
    pub(super) policies: signal::Receiver<bool>,
    /// MeshConfig, once it is known.
    pub(super) mesh: MeshConfigFeed,
}

/// Opens the start gate once (R1.18).
pub(super) async fn hold_gate(registry: Arc<Registry>, awaited: Awaited, ready: signal::Sender<bool>) {
    let Awaited { mut known_set, names, mut policies, mut mesh } = awaited;
    let mut table = registry.clusters().watch();
    if known_set.wait_for(|known| *known).await.is_err() {
        return;
    }
    while !registry.clusters().gate_open() {
        if table.changed().await.is_err() {
            return;
        }
    }
    // Policies belong to the first lists of the config cluster.
    let config_is_restored = || {
        let restored = |row: &ClusterStatus| row.role == ClusterRole::Config && row.restored.is_some();
        registry.clusters().all().iter().any(restored)
    };
    let mut restored_at = None;
    while !(*policies.borrow() && mesh.borrow().is_some()) {
        // One that is served from its snapshot may have been kept without them.
        if config_is_restored() && restored_at.is_none() {
            restored_at = Some(tokio::time::Instant::now() + FIRST_ANSWERS);
        }
        let late = restored_at.unwrap_or_else(tokio::time::Instant::now);
        tokio::select! {
            // Unbiased: all are looked at again. What ended says nothing more.
            Ok(()) = policies.changed() => {}
            Ok(()) = mesh.changed() => {}
            Ok(()) = table.changed() => {}
            () = tokio::time::sleep_until(late), if restored_at.is_some() => break,
            else => return,
        }
    }
    if let Some(names) = names {
        // Endpoints behind a gateway that is not resolved yet are hidden: not a state to begin with.
        let wanted = || registry.networks().host_names().cloned().collect();
        let _ = tokio::time::timeout(FIRST_ANSWERS, names.asked(wanted)).await;
    }
    ready.send_replace(true);
}
