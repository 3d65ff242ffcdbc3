//! The lock-free store, its writers and its change signal.
//!
//! One pointer per service ([`ServiceCell`]) is the only place where clusters meet. Reading a snapshot takes
//! no lock: clone the `Arc` out and work on it. Writers publish the pointer first and then note the *key* in
//! the [`ChangeLog`]; whoever is woken by the log sees at least the version that woke it (contract 1).
//!
//! Versions come from one process-wide counter and are never reused (D13).

mod cell;
mod changes;
mod clusters;
mod conflicts;
mod difference;
mod merge;
mod networks;
mod policies;
mod standing;
mod store;
#[cfg(test)]
mod tests;
mod workloads;
mod writer;

pub use cell::{ServiceCell, ServiceSnapshot, accounts_behind};
pub use changes::{ChangeLog, ChangeSet, ServiceChange};
pub use clusters::ClusterTable;
pub use conflicts::{PortConflict, PortDifference, conflicts};
pub use networks::{NetworkClaim, NetworkPart, NetworkSnapshot, Unresolved};
pub use policies::{PolicyObject, PolicySnapshot, PolicyWrite, Stored};
pub use standing::{StandingPart, StandingSnapshot};
pub use store::{Registry, RegistryCounts};
pub use writer::{ClusterState, ClusterWriter, DuplicateWriter};
