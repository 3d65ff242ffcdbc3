//! JSON of one object to the slim form of its kind: pure, one file per kind.
//!
//! Only what would make a wrong answer is checked; fields that are not read may hold anything. An object is
//! taken whole or not at all: an error names the first field that is wrong, what it holds and what is allowed.

mod at;
mod destination_rule;
mod locality;
mod mesh_config;
mod names;
mod notes;
mod peer_authentication;
mod sidecar;
pub(in crate::ingest) mod spelling;
mod traffic;

#[cfg(test)]
mod tests;

use crate::model::{ExportTo, Name};

pub(in crate::ingest) use at::At;
pub(in crate::ingest) use destination_rule::destination_rule;
pub(in crate::ingest) use mesh_config::mesh_config;
pub(in crate::ingest) use notes::Notes;
pub(in crate::ingest) use peer_authentication::{closed as closed_peer_authentication, peer_authentication};
pub(in crate::ingest) use sidecar::sidecar;

/// What all objects are read by, besides what they say themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::ingest) struct Terms {
    /// The DNS domain of services.
    pub(in crate::ingest) domain: Name,
    /// `exportTo` of DestinationRules that say none; the empty name stands for the object's own namespace.
    pub(in crate::ingest) destination_rule_export_to: ExportTo,
    /// `exportTo` of VirtualServices that say none; the empty name stands for the object's own namespace.
    pub(in crate::ingest) virtual_service_export_to: ExportTo,
}
