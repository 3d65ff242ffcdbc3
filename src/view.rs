//! What one kind of proxy sees: pure functions of (snapshots, projection).
//!
//! A function here reads the snapshots it is given and a projection of the proxy, and nothing else (contract
//! 6): the projection is the cache key, so two proxies with equal projections get the same answer and the
//! answer is computed once for both (D16).

mod assignment;
mod client;
mod eds_name;
mod endpoints;
mod mesh;
mod mtls;
mod projection;
mod rules;
mod split_horizon;
#[cfg(test)]
mod tests;

pub use assignment::{AssignedEndpoint, Assignment, LocalityGroup, Origin};
pub use client::{Client, Passthrough, Unseen};
pub use eds_name::EdsName;
pub use endpoints::{Decision, Inputs, Recorder, assign};
pub use mesh::MeshRules;
pub use mtls::WorkloadMtls;
pub use projection::{EdsKey, OutboundKey, WorkloadKey};
pub use rules::{RuleClient, destination_rule};
