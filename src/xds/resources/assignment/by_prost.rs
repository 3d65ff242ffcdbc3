//! Assignments through generated messages with ordered maps (D20): what the encoder beside this is held against.

use std::net::SocketAddr;

use prost::Message;

use crate::model::Health;
use crate::proto::assignment as wire;
use crate::view::{
    AssignedEndpoint, Assignment, EdsName, InternalListener, LocalityGroup, SocketMatch, Target,
};
use crate::xds::resource::{Encoded, ResourceType};

/// The same bytes as [`assignment`](super::assignment), at the cost of a message in memory: for tests and benchmarks.
pub fn assignment_by_prost(name: &str, assignment: &Assignment<'_>) -> Encoded {
    let service = EdsName::parse(name).map(|name| format!("{}:{}", name.host, name.port));
    let about = About {
        service: service.unwrap_or_default(),
        hides_workloads: assignment.hides_workloads,
        waypoint_to: assignment.waypoint_to,
    };
    let message = wire::ClusterLoadAssignment {
        cluster_name: name.to_owned(),
        endpoints: assignment.groups.iter().map(|one| group(one, &about)).collect(),
    };
    Encoded::new(ResourceType::Endpoint, name, &message.encode_to_vec())
}

/// What every endpoint of an assignment may tell.
struct About {
    /// `host:port`.
    service: String,
    hides_workloads: bool,
    waypoint_to: Option<SocketAddr>,
}

fn group(group: &LocalityGroup<'_>, about: &About) -> wire::LocalityLbEndpoints {
    wire::LocalityLbEndpoints {
        locality: Some(wire::Locality {
            region: group.locality.region.to_string(),
            zone: group.locality.zone.to_string(),
            sub_zone: group.locality.subzone.to_string(),
        }),
        lb_endpoints: group.endpoints.iter().map(|one| endpoint(one, about)).collect(),
        load_balancing_weight: (group.weight != 0).then_some(wire::UInt32Value { value: group.weight }),
        priority: group.priority,
    }
}

fn endpoint(endpoint: &AssignedEndpoint<'_>, about: &About) -> wire::LbEndpoint {
    let (first, further) = addresses(&endpoint.target);
    let further = further.into_iter().map(|one| wire::AdditionalAddress { address: Some(one) });
    wire::LbEndpoint {
        endpoint: Some(wire::Endpoint { address: Some(first), additional_addresses: further.collect() }),
        health_status: health(endpoint.health),
        metadata: Some(metadata(endpoint, about)),
        load_balancing_weight: Some(wire::UInt32Value { value: endpoint.weight }),
    }
}

/// The address of an endpoint, and further ones (R4.15).
fn addresses(target: &Target<'_>) -> (wire::Address, Vec<wire::Address>) {
    use wire::address::Address as Kind;
    let of = |kind| wire::Address { address: Some(kind) };
    let socket = |address: String, port: u16| {
        of(Kind::SocketAddress(wire::SocketAddress { address, port_value: port.into() }))
    };
    match target {
        Target::Socket { addresses, port } => {
            let mut all = addresses.iter().map(|address| socket(address.to_string(), *port));
            (all.next().unwrap_or_default(), all.collect())
        }
        Target::Named { host, port } => (socket((*host).to_owned(), *port), Vec::new()),
        Target::Nowhere { port } => (socket(String::new(), *port), Vec::new()),
        Target::Pipe(path) => (of(Kind::Pipe(wire::Pipe { path: path.to_string() })), Vec::new()),
        Target::Internal { listener, address, port } => {
            let internal = wire::EnvoyInternalAddress {
                server_listener_name: listener.name().to_owned(),
                endpoint_id: SocketAddr::new(*address, *port).to_string(),
            };
            (of(Kind::EnvoyInternalAddress(internal)), Vec::new())
        }
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

fn metadata(endpoint: &AssignedEndpoint<'_>, about: &About) -> wire::Metadata {
    let mut istio = Vec::new();
    if !about.hides_workloads {
        istio.push(("workload", text(endpoint.telemetry())));
    }
    let mut filters = Vec::new();
    match (endpoint.socket, endpoint.tls_mode()) {
        (SocketMatch::Tunnel, _) => {
            filters.push(("envoy.transport_socket_match", fields([("tunnel", text("http".to_owned()))])));
        }
        (_, Some(mode)) => {
            filters.push(("envoy.transport_socket_match", fields([("tlsMode", text(mode.to_owned()))])));
        }
        (_, None) => {}
    }
    if let Target::Internal { listener, address, port } = &endpoint.target {
        let own = SocketAddr::new(*address, *port).to_string();
        let led = about.waypoint_to.filter(|_| *listener == InternalListener::ConnectOriginate);
        let places = match led {
            Some(to) => fields([("local", text(to.to_string())), ("waypoint", text(own))]),
            None => fields([("local", text(own))]),
        };
        filters.push(("envoy.filters.listener.original_dst", places));
        if *listener == InternalListener::InnerConnectOriginate {
            let inside = fields([("hbone_target_address", text(about.service.clone()))]);
            istio.push(("double_hbone", wire::Value { kind: Some(wire::value::Kind::StructValue(inside)) }));
        }
    }
    if !istio.is_empty() {
        filters.push(("istio", fields(istio)));
    }
    wire::Metadata {
        filter_metadata: filters.into_iter().map(|(name, fields)| (name.to_owned(), fields)).collect(),
    }
}

fn text(text: String) -> wire::Value {
    wire::Value { kind: Some(wire::value::Kind::StringValue(text)) }
}

fn fields(fields: impl IntoIterator<Item = (&'static str, wire::Value)>) -> wire::Struct {
    wire::Struct { fields: fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect() }
}
