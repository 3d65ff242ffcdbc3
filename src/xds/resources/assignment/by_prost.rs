//! Assignments through generated messages with ordered maps (D20): what the encoder beside this is held against.

use prost::Message;

use crate::model::Health;
use crate::proto::assignment as wire;
use crate::view::{AssignedEndpoint, Assignment, LocalityGroup};
use crate::xds::resource::{Encoded, ResourceType};

/// The same bytes as [`assignment`](super::assignment), at the cost of a message in memory: for tests and benchmarks.
pub fn assignment_by_prost(name: &str, assignment: &Assignment) -> Encoded {
    let message = wire::ClusterLoadAssignment {
        cluster_name: name.to_owned(),
        endpoints: assignment.groups.iter().map(group).collect(),
    };
    Encoded::new(ResourceType::Endpoint, name, &message.encode_to_vec())
}

fn group(group: &LocalityGroup) -> wire::LocalityLbEndpoints {
    wire::LocalityLbEndpoints {
        locality: Some(wire::Locality {
            region: group.locality.region.to_string(),
            zone: group.locality.zone.to_string(),
            sub_zone: group.locality.subzone.to_string(),
        }),
        lb_endpoints: group.endpoints.iter().map(endpoint).collect(),
        load_balancing_weight: Some(wire::UInt32Value { value: group.weight }),
        priority: group.priority,
    }
}

fn endpoint(endpoint: &AssignedEndpoint) -> wire::LbEndpoint {
    let address =
        wire::SocketAddress { address: endpoint.address.to_string(), port_value: endpoint.port.into() };
    wire::LbEndpoint {
        endpoint: Some(wire::Endpoint { address: Some(wire::Address { socket_address: Some(address) }) }),
        health_status: health(endpoint.health),
        metadata: Some(metadata(endpoint)),
        load_balancing_weight: Some(wire::UInt32Value { value: endpoint.weight }),
    }
}

/// `envoy.config.core.v3.HealthStatus`.
fn health(health: Option<Health>) -> i32 {
    match health {
        None => 0,
        Some(Health::Healthy) => 1,
        Some(Health::Unhealthy) => 2,
        Some(Health::Draining | Health::Terminating) => 3,
    }
}

fn metadata(endpoint: &AssignedEndpoint) -> wire::Metadata {
    let mut filters = vec![("istio", single("workload", endpoint.telemetry()))];
    if endpoint.mtls {
        filters.push(("envoy.transport_socket_match", single("tlsMode", "istio".to_owned())));
    }
    wire::Metadata {
        filter_metadata: filters.into_iter().map(|(name, fields)| (name.to_owned(), fields)).collect(),
    }
}

fn single(key: &str, text: String) -> wire::Struct {
    let value = wire::Value { kind: Some(wire::value::Kind::StringValue(text)) };
    wire::Struct { fields: [(key.to_owned(), value)].into() }
}
