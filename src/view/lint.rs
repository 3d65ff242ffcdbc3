//! What operators wrote that can have no effect now: findings that need more than one object.
//!
//! Looked for on demand, never while something changes: one pass over the services and workloads makes an index
//! (`Ground`), then each rule looks at the objects of one kind. Cost ∝ services, endpoints, workloads and policies.
//!
//! A finding that is wrong is worse than one that is missed: where clients are not known one by one, it is said only of
//! what holds for none of them.

mod delegates;
mod destinations;
mod finding;
mod gateways;
mod ground;
mod hosts;
mod precedence;
mod reach;
mod rules;
mod selectors;
mod subsets;
mod workloads;

use std::collections::BTreeSet;
use std::sync::Arc;

pub use finding::{Code, Finding, Severity};
use ground::Ground;
pub use workloads::Workloads;

use crate::model::ClusterId;
use crate::model::policy::{PolicyId, PolicyKind, VirtualService};
use crate::registry::{PolicySnapshot, ServiceSnapshot};

/// What is known at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// The policies as they are in use.
    pub policies: &'a PolicySnapshot,
    /// The VirtualServices as they were written: those that lead on to others without the routes of those, and
    /// delegates themselves. Empty where nobody knows: those in use stand for them.
    pub virtual_services: &'a [Arc<VirtualService>],
    /// Objects that are there and in use in no version, because they cannot be read.
    pub unread: &'a BTreeSet<(PolicyKind, PolicyId)>,
    /// Kinds of which nobody has read a complete list: what is not there may be unread.
    pub unlisted: &'a [PolicyKind],
    /// Every service.
    pub services: &'a [Arc<ServiceSnapshot>],
    /// Everything that selectors may select.
    pub workloads: &'a Workloads,
    /// Clusters that were not read completely yet: what is not there may be theirs.
    pub unsynced: &'a [ClusterId],
    /// The DNS domain of the mesh, for hints.
    pub domain: &'a str,
}

/// Everything there is to say, the most important first.
pub fn lint(known: Known<'_>) -> Vec<Finding> {
    let ground = Ground::new(known);
    let mut found = Vec::new();
    for rule in [
        destinations::check,
        rules::check,
        selectors::check,
        gateways::check,
        delegates::check,
        precedence::check,
    ] {
        rule(&ground, &mut found);
    }
    found.sort();
    found.dedup();
    found
}
