//! Assignments, written by hand from the compact model: no message in memory, no text of its own (P8).

mod by_prost;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;

use super::backward::{Backward, Mark};
use crate::model::{Health, Workload, WorkloadProfile};
use crate::view::{
    AssignedEndpoint, Assignment, EdsName, InternalListener, LocalityGroup, Origin, SocketMatch, Target,
};
use crate::xds::resource::{Encoded, ResourceType};

pub use by_prost::assignment_by_prost;

/// Filter metadata that chooses the transport socket (R4.13).
const TRANSPORT_MATCH: &str = "envoy.transport_socket_match";
/// Filter metadata for telemetry (R4.14).
const TELEMETRY: &str = "istio";
/// Filter metadata that says where an internal listener goes on to (R4.17).
const ORIGINAL_DST: &str = "envoy.filters.listener.original_dst";
/// Room for what surrounds the endpoints of a few groups.
const ROOM: usize = 1024;
/// By how much endpoints may be longer than the first one.
const SPARE: usize = 4;

/// The assignment of the Envoy cluster `name` (R4.11–R4.17, R4.23, R4.24). Equal assignments have equal bytes (D20).
pub fn assignment(name: &str, assignment: &Assignment<'_>) -> Encoded {
    Encoded::wrap(ResourceType::Endpoint, name, written(name, assignment))
}

/// The same message, for an Envoy cluster that is told of its endpoints.
pub(super) fn message(name: &str, assignment: &Assignment<'_>) -> Bytes {
    written(name, assignment).finish()
}

fn written(name: &str, assignment: &Assignment<'_>) -> Backward {
    let mut writer = Writer {
        message: Backward::with_room(ROOM),
        name,
        about: assignment,
        others: assignment.endpoints().count().saturating_sub(1),
        measured: false,
        metadata: Recent::default(),
        tails: Recent::default(),
    };
    assignment.groups.iter().rev().for_each(|group| writer.group(group));
    writer.message.text(1, name);
    writer.message
}

/// The answer for a name that has no endpoints, or does not exist (D22).
pub fn empty_assignment(name: &str) -> Encoded {
    assignment(name, &Assignment::default())
}

struct Writer<'a> {
    message: Backward,
    name: &'a str,
    /// What holds for every endpoint.
    about: &'a Assignment<'a>,
    /// How many endpoints come after the first one that is written.
    others: usize,
    /// Whether that was written: the others are mostly as long.
    measured: bool,
    /// The metadata of pods of one deployment, which is the same.
    metadata: Recent<(*const WorkloadProfile, SocketMatch)>,
    /// What follows the address of an endpoint: mostly that is the same too.
    tails: Recent<(*const WorkloadProfile, SocketMatch, Option<Health>, u32)>,
}

/// Where the latest of something was written.
struct Recent<K> {
    written: [Option<(K, Mark, usize)>; 4],
    next: usize,
}

impl<K> Default for Recent<K> {
    fn default() -> Self {
        Self { written: [const { None }; 4], next: 0 }
    }
}

impl<K: PartialEq> Recent<K> {
    fn find(&self, key: &K) -> Option<(Mark, usize)> {
        let found = self.written.iter().flatten().find(|(of, ..)| of == key);
        found.map(|(_, from, len)| (*from, *len))
    }

    fn keep(&mut self, key: K, from: Mark, len: usize) {
        self.written[self.next] = Some((key, from, len));
        self.next = (self.next + 1) % self.written.len();
    }
}

impl Writer<'_> {
    fn group(&mut self, group: &LocalityGroup<'_>) {
        let end = self.message.mark();
        self.message.number(5, group.priority.into());
        if group.weight != 0 {
            self.message.wrapped(3, group.weight);
        }
        for endpoint in group.endpoints.iter().rev() {
            let before = self.message.mark();
            self.endpoint(endpoint);
            if !std::mem::replace(&mut self.measured, true) {
                self.message.expect(ROOM + self.others * (self.message.since(before) + SPARE));
            }
        }
        let locality = self.message.mark();
        self.message.text(3, &group.locality.subzone);
        self.message.text(2, &group.locality.zone);
        self.message.text(1, &group.locality.region);
        self.message.close(1, locality);
        self.message.close(2, end);
    }

    fn endpoint(&mut self, endpoint: &AssignedEndpoint<'_>) {
        let end = self.message.mark();
        self.tail(endpoint);
        if let Target::Socket { addresses: [IpAddr::V4(address)], port } = endpoint.target {
            self.message.endpoint(*address, port);
        } else {
            let inner = self.message.mark();
            self.target(&endpoint.target);
            self.message.close(1, inner);
        }
        self.message.close(2, end);
    }

    /// What follows the address: health, metadata, weight.
    fn tail(&mut self, endpoint: &AssignedEndpoint<'_>) {
        let from = self.message.mark();
        let profile = self.told_by(endpoint);
        let key = profile.map(|profile| (profile, endpoint.socket, endpoint.health, endpoint.weight));
        if let Some((from, len)) = key.and_then(|key| self.tails.find(&key)) {
            return self.message.again(from, len);
        }
        self.message.wrapped(4, endpoint.weight);
        match profile {
            Some(profile) => self.shared_metadata(profile, endpoint),
            None => self.fresh_metadata(endpoint),
        }
        self.message.number(2, health(endpoint.health));
        if let Some(key) = key {
            self.tails.keep(key, from, self.message.since(from));
        }
    }

    /// The profile that says all of an endpoint's metadata, if one does.
    fn told_by(&self, endpoint: &AssignedEndpoint<'_>) -> Option<*const WorkloadProfile> {
        let (Origin::Direct(workload), Target::Socket { .. }) = (endpoint.origin, &endpoint.target) else {
            return None;
        };
        let told = self.about.hides_workloads || workload.is_told_by_profile();
        told.then(|| std::ptr::from_ref(&*workload.profile))
    }

    /// The address of an endpoint, and further ones (R4.15).
    fn target(&mut self, target: &Target<'_>) {
        let message = &mut self.message;
        let end = message.mark();
        match target {
            Target::Socket { addresses, port } => {
                let (first, further) = addresses.split_first().unzip();
                for address in further.unwrap_or_default().iter().rev() {
                    let additional = message.mark();
                    socket(message, Some(*address), *port);
                    message.close(1, additional);
                    message.close(4, additional);
                }
                let end = message.mark();
                if let Some(first) = first {
                    socket(message, Some(*first), *port);
                }
                message.close(1, end);
                return;
            }
            Target::Named { host, port } => {
                let end = message.mark();
                message.number(3, u64::from(*port));
                message.text(2, host);
                message.close(1, end);
            }
            Target::Nowhere { port } => socket(message, None, *port),
            Target::Pipe(path) => {
                message.text(1, path);
                message.close(2, end);
            }
            Target::Internal { listener, address, port } => {
                place(message, SocketAddr::new(*address, *port));
                message.close(2, end);
                message.text(1, listener.name());
                message.close(3, end);
            }
        }
        message.close(1, end);
    }

    fn shared_metadata(&mut self, profile: *const WorkloadProfile, endpoint: &AssignedEndpoint<'_>) {
        let key = (profile, endpoint.socket);
        if let Some((from, len)) = self.metadata.find(&key) {
            return self.message.again(from, len);
        }
        let from = self.message.mark();
        self.fresh_metadata(endpoint);
        self.metadata.keep(key, from, self.message.since(from));
    }

    fn fresh_metadata(&mut self, endpoint: &AssignedEndpoint<'_>) {
        let end = self.message.mark();
        self.istio(endpoint);
        match (endpoint.socket, endpoint.tls_mode()) {
            (SocketMatch::Tunnel, _) => self.match_of("tunnel", "http"),
            (_, Some(mode)) => self.match_of("tlsMode", mode),
            (_, None) => {}
        }
        if let Target::Internal { listener, address, port } = endpoint.target {
            self.original_dst(listener, SocketAddr::new(address, port));
        }
        self.message.close(3, end);
    }

    /// Where an internal listener goes on to (R4.17): to the endpoint itself, or through it as a waypoint.
    fn original_dst(&mut self, listener: InternalListener, endpoint: SocketAddr) {
        let message = &mut self.message;
        let filter = message.mark();
        let to = self.about.waypoint_to.filter(|_| listener == InternalListener::ConnectOriginate);
        if to.is_some() {
            place(message, endpoint);
            field(message, "waypoint", filter);
        }
        let local = message.mark();
        place(message, to.unwrap_or(endpoint));
        field(message, "local", local);
        entry(message, ORIGINAL_DST, filter);
    }

    fn match_of(&mut self, key: &str, text: &str) {
        let filter = self.message.mark();
        self.message.bytes(text.as_bytes());
        field(&mut self.message, key, filter);
        entry(&mut self.message, TRANSPORT_MATCH, filter);
    }

    /// Who it is (R4.14, R4.23), and what is behind its gateway's gateway (R4.24).
    fn istio(&mut self, endpoint: &AssignedEndpoint<'_>) {
        let message = &mut self.message;
        let filter = message.mark();
        if !self.about.hides_workloads {
            match endpoint.origin {
                Origin::Direct(workload) => telemetry(message, workload),
                Origin::Gateway { cluster, .. } => {
                    message.bytes(cluster.as_bytes());
                    message.bytes(b";;;;");
                }
            }
            field(message, "workload", filter);
        }
        if matches!(
            endpoint.target,
            Target::Internal { listener: InternalListener::InnerConnectOriginate, .. }
        ) {
            let fields = message.mark();
            if let Some(name) = EdsName::parse(self.name) {
                message.bytes(format!("{}:{}", name.host, name.port).as_bytes());
            }
            field(message, "hbone_target_address", fields);
            // The struct, the value that is one, the field with that value.
            message.close(5, fields);
            message.close(2, fields);
            message.filled(1, "double_hbone");
            message.close(1, fields);
        }
        if message.since(filter) > 0 {
            entry(message, TELEMETRY, filter);
        }
    }
}

/// A socket address as an address.
fn socket(message: &mut Backward, address: Option<IpAddr>, port: u16) {
    let end = message.mark();
    message.number(3, port.into());
    if let Some(address) = address {
        let text = message.mark();
        message.address(address);
        message.close(2, text);
    }
    message.close(1, end);
}

/// `address:port`.
fn place(message: &mut Backward, address: SocketAddr) {
    message.bytes(address.to_string().as_bytes());
}

/// Makes the text since `text` a field of a struct.
fn field(message: &mut Backward, key: &str, text: Mark) {
    message.close(3, text);
    message.close(2, text);
    message.filled(1, key);
    message.close(1, text);
}

/// Makes the fields since `fields` the metadata of a filter.
fn entry(message: &mut Backward, filter: &str, fields: Mark) {
    message.close(2, fields);
    message.filled(1, filter);
    message.close(1, fields);
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
