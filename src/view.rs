//! What one kind of proxy sees: pure functions of (snapshots, projection).
//!
//! A function here reads the snapshots it is given and a projection of the proxy, and nothing else (contract
//! 6): the projection is the cache key, so two proxies with equal projections get the same answer and the
//! answer is computed once for both (D16).

mod assignment;
mod behind;
mod candidate;
mod client;
mod decision;
mod destination;
mod eds_name;
mod endpoints;
pub mod explain;
mod facts;
mod gate;
mod hbone;
mod inline;
pub mod lb;
pub mod lint;
mod merge;
mod mesh;
pub mod mtls;
mod pass;
mod projection;
mod reads;
mod roads;
mod shares;
mod siblings;
#[cfg(test)]
mod tests;
pub mod visibility;
mod waypoint;
mod weighing;

pub use assignment::{
    AssignedEndpoint, Assignment, InternalListener, LocalityGroup, Origin, SocketMatch, Target,
};
pub use behind::Behind;
pub use client::{Client, Passthrough, PlacedServer, Unseen};
pub use decision::{Decision, Recorder, Tally};
pub use destination::{Destination, RuleClient};
pub use eds_name::{EdsName, VipProtocol};
pub use endpoints::{Inputs, assign, sends_unhealthy, told};
pub use inline::{Compared, Place, Resolved};
pub use mesh::MeshRules;
pub use mtls::WorkloadMtls;
pub use projection::{EdsKey, OutboundKey, Role, WorkloadKey};
pub use siblings::{LOCAL_CLUSTER, Siblings};
pub use waypoint::waypoint;
