//! Assignments, written by hand from the compact model: no message in memory, no text of its own (P8).

mod by_prost;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use super::backward::{Backward, Mark};
use crate::model::{Health, Workload, WorkloadProfile};
use crate::view::{AssignedEndpoint, Assignment, LocalityGroup, Origin};
use crate::xds::resource::{Encoded, ResourceType};

pub use by_prost::assignment_by_prost;

/// Filter metadata that chooses the transport socket (R4.13).
const TRANSPORT_MATCH: &str = "envoy.transport_socket_match";
/// Filter metadata for telemetry (R4.14).
const TELEMETRY: &str = "istio";
/// Bytes of a usual endpoint and of a group's own fields.
const ROOM: (usize, usize) = (160, 96);

/// The assignment of the Envoy cluster `name` (R4.11–R4.15, R4.23). Equal assignments have equal bytes (D20).
pub fn assignment(name: &str, assignment: &Assignment) -> Encoded {
    let endpoints: usize = assignment.groups.iter().map(|group| group.endpoints.len()).sum();
    let room = endpoints * ROOM.0 + assignment.groups.len() * ROOM.1 + 4 * name.len() + 256;
    let mut writer = Writer { message: Backward::with_room(room), blocks: Blocks::default() };
    assignment.groups.iter().rev().for_each(|group| writer.group(group));
    writer.message.text(1, name);
    Encoded::wrap(ResourceType::Endpoint, name, writer.message)
}

/// The answer for a name that has no endpoints, or does not exist (D22).
pub fn empty_assignment(name: &str) -> Encoded {
    assignment(name, &Assignment::default())
}

struct Writer<'a> {
    message: Backward,
    blocks: Blocks<'a>,
}

/// Where the metadata of the latest pods was written: pods of one deployment have the same.
#[derive(Default)]
struct Blocks<'a> {
    recent: [Option<Block<'a>>; 4],
    next: usize,
}

/// Metadata that was written.
#[derive(Clone, Copy)]
struct Block<'a> {
    profile: &'a Arc<WorkloadProfile>,
    mtls: bool,
    from: Mark,
    len: usize,
}

impl<'a> Blocks<'a> {
    fn find(&self, profile: &Arc<WorkloadProfile>, mtls: bool) -> Option<(Mark, usize)> {
        let same = |block: &&Block<'_>| Arc::ptr_eq(block.profile, profile) && block.mtls == mtls;
        self.recent.iter().flatten().find(same).map(|block| (block.from, block.len))
    }

    fn keep(&mut self, block: Block<'a>) {
        self.recent[self.next] = Some(block);
        self.next = (self.next + 1) % self.recent.len();
    }
}

impl<'a> Writer<'a> {
    fn group(&mut self, group: &'a LocalityGroup) {
        let end = self.message.mark();
        self.message.number(5, group.priority.into());
        self.message.wrapped(3, group.weight);
        group.endpoints.iter().rev().for_each(|endpoint| self.endpoint(endpoint));
        let locality = self.message.mark();
        self.message.text(3, &group.locality.subzone);
        self.message.text(2, &group.locality.zone);
        self.message.text(1, &group.locality.region);
        self.message.close(1, locality);
        self.message.close(2, end);
    }

    fn endpoint(&mut self, endpoint: &'a AssignedEndpoint) {
        let end = self.message.mark();
        self.message.wrapped(4, endpoint.weight);
        self.metadata(endpoint);
        self.message.number(2, health(endpoint.health));
        let socket = self.message.mark();
        self.message.number(3, endpoint.port.into());
        let address = self.message.mark();
        self.message.address(endpoint.address);
        self.message.close(2, address);
        // Socket address, address, endpoint.
        (0..3).for_each(|_| self.message.close(1, socket));
        self.message.close(2, end);
    }

    fn metadata(&mut self, endpoint: &'a AssignedEndpoint) {
        let Origin::Direct(workload) = &endpoint.origin else {
            return self.fresh_metadata(endpoint);
        };
        if let Some((from, len)) = self.blocks.find(&workload.profile, endpoint.mtls) {
            return self.message.again(from, len);
        }
        let from = self.message.mark();
        self.fresh_metadata(endpoint);
        if workload.is_told_by_profile() {
            let (len, mtls) = (self.message.since(from), endpoint.mtls);
            self.blocks.keep(Block { profile: &workload.profile, mtls, from, len });
        }
    }

    fn fresh_metadata(&mut self, endpoint: &AssignedEndpoint) {
        let end = self.message.mark();
        self.entry(TELEMETRY, "workload", |message| match &endpoint.origin {
            Origin::Direct(workload) => telemetry(message, workload),
            Origin::Gateway { cluster, .. } => {
                message.bytes(cluster.as_bytes());
                message.bytes(b";;;;");
            }
        });
        if endpoint.mtls {
            self.entry(TRANSPORT_MATCH, "tlsMode", |message| message.bytes(b"istio"));
        }
        self.message.close(3, end);
    }

    /// One filter's metadata: a struct with one text.
    fn entry(&mut self, filter: &str, key: &str, text: impl FnOnce(&mut Backward)) {
        let message = &mut self.message;
        let end = message.mark();
        text(message);
        message.close(3, end);
        // The value of the field, the field, the struct that is the value of the filter.
        message.close(2, end);
        message.filled(1, key);
        message.close(1, end);
        message.close(2, end);
        message.filled(1, filter);
        message.close(1, end);
    }
}

/// R4.14.
fn telemetry(message: &mut Backward, workload: &Workload) {
    let texts: [&str; 5] = [
        workload.workload_name(),
        &workload.namespace,
        workload.canonical_name(),
        &workload.canonical_revision,
        &workload.cluster,
    ];
    for (place, text) in texts.into_iter().enumerate().rev() {
        message.bytes(text.as_bytes());
        if place > 0 {
            message.bytes(b";");
        }
    }
}

/// `envoy.config.core.v3.HealthStatus`.
fn health(health: Option<Health>) -> u64 {
    match health {
        None => 0,
        Some(Health::Healthy) => 1,
        Some(Health::Unhealthy) => 2,
        Some(Health::Draining | Health::Terminating) => 3,
    }
}
