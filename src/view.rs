//! What one kind of proxy sees: pure functions of (snapshots, projection).
//!
//! A function here reads the snapshots it is given and a projection of the proxy, and nothing else (contract
//! 6): the projection is the cache key, so two proxies with equal projections get the same answer and the
//! answer is computed once for both (D16).

mod assignment;
mod client;
mod decision;
mod destination;
mod eds_name;
mod endpoints;
pub mod explain;
mod facts;
mod hbone;
mod inline;
pub mod lb;
mod merge;
mod mesh;
pub mod mtls;
mod pass;
mod projection;
mod reads;
mod roads;
#[cfg(test)]
mod tests;
pub mod visibility;
mod waypoint;
mod weighing;

pub use assignment::{
    AssignedEndpoint, Assignment, InternalListener, LocalityGroup, Origin, SocketMatch, Target,
};
pub use client::{Client, Passthrough, PlacedServer, Unseen};
pub use decision::{Decision, Recorder, Tally};
pub use destination::{Destination, RuleClient};
pub use eds_name::{EdsName, VipProtocol};
pub use endpoints::{Inputs, assign, sends_unhealthy};
pub use inline::{InlineGroup, InlineSent, InlineTarget, Ways, inline, inline_networks};
pub use mesh::MeshRules;
pub use mtls::WorkloadMtls;
pub use projection::{EdsKey, OutboundKey, Role, WorkloadKey};
pub use waypoint::waypoint;
