//! Policies: Istio's configuration kinds, watched in the config cluster alone (D36).
//!
//! ```text
//! follow ── one list and watch per kind, all namespaces; one write to the registry per poll
//! shelf ─── what is known of one kind's objects: last good version, error, mark and sweep. Pure
//! form ──── which kinds there are: group, versions, plural, reader
//! decode ── JSON of one object → the slim type of its kind, checked. Pure
//! ```
//!
//! An object that cannot be read is told of and changes nothing: its last good version stays until it is repaired or
//! deleted. A kind that the API server does not have delays nothing and is noticed later; one that may not be read
//! is told of. An outage takes nothing away.
//!
//! # How to add a kind
//!
//! 1. `model/policy.rs`: the slim type, its `Policy` impl and a row of `PolicyKind`; `registry/policies.rs`: one line in
//!    `kinds!`.
//! 2. `ingest/policies/decode/<kind>.rs`: `fn kind(meta: PolicyMeta, spec: &At<'_>, terms: &Terms) -> Result<Kind, String>`,
//!    exported by `decode.rs`. [`decode::At`] reads values and makes the errors; `names` has hosts, `exportTo`, selectors
//!    and labels, `traffic` the parts of traffic policies.
//! 3. `ingest/policies/form.rs`: one line in `forms!` with the plural, the group, its versions and that function.
//! 4. `deploy/home-rbac.yaml`: the plural, so that it may be read (those of VirtualService, Gateway and
//!    AuthorizationPolicy are there).
//!
//! Watching, versions, quarantine, `/debug/policies` and metrics follow from the line in `forms!`.

mod authorization;
mod decode;
mod delegates;
mod follow;
mod form;
mod gateway;
mod memory;
mod mesh;
mod shelf;
mod status;
mod virtual_service;

pub(super) use follow::{PolicyFollower, follow_policies};
#[cfg(test)]
pub(crate) use form::read_policy;
pub(super) use mesh::{MeshConfigFeed, MeshConfigPublisher};
pub use status::{KindStatus, Policies, PoliciesTold, PolicyState, PolicyStatus};
