//! Where HBONE starts: internal listeners that put each connection into a CONNECT (R4.17, R4.18, R4.24).
//!
//! The endpoint is an internal address; its metadata say where the tunnel leads. The transport socket of the endpoint
//! hands these over to the internal listener, where the filter `envoy.filters.listener.original_dst` takes
//! `local` as the address that the connection was going to. Proxies need the bootstrap extension
//! `envoy.bootstrap.internal_listener`.

mod double;

use envoy_types::pb::envoy::config::cluster::v3 as cds;
use envoy_types::pb::envoy::config::core::v3::{TrafficDirection, TransportSocket};
use envoy_types::pb::envoy::config::listener::v3 as lds;
use envoy_types::pb::envoy::extensions::transport_sockets::internal_upstream::v3 as internal;
use envoy_types::pb::envoy::r#type::metadata::v3 as metadata;
use envoy_types::util::pack_any;

use super::cluster::{self, original_dst, speak_connect};
use super::parts::{entry, number, seconds};
use super::{filters, tls};
use crate::view::InternalListener;
use crate::xds::resource::{Entry, ResourceType};

/// The port of workloads that terminate HBONE.
const PORT: u32 = 15008;
/// Metadata of endpoints that say where a tunnel leads.
const ORIGINAL_DST: &str = "envoy.filters.listener.original_dst";
/// Metadata of endpoints with the target of the tunnel in a tunnel.
const ISTIO: &str = "istio";
/// Addresses that were not connected to for this long are forgotten with their connections.
const FORGET_SECONDS: i64 = 60;

/// The Envoy clusters and listeners behind an internal address.
pub(super) fn tunnel(listener: InternalListener) -> (Vec<Entry>, Vec<Entry>) {
    let name = listener.name();
    let (clusters, listeners) = match listener {
        InternalListener::ConnectOriginate => {
            // The authority is the address that the connection is for; with a waypoint that is not where it goes.
            let filters = vec![filters::tunnel(name, "%DOWNSTREAM_LOCAL_ADDRESS%")];
            (vec![originate(name)], vec![internal(name, filters)])
        }
        InternalListener::ForwardInnerConnect => {
            // What arrives is a tunnel already, made for the workload by whoever sent it.
            (vec![by_address(name)], vec![internal(name, vec![filters::tcp(name)])])
        }
        InternalListener::InnerConnectOriginate => double::tunnel(name),
    };
    let listeners = listeners.iter().map(|one| entry(ResourceType::Listener, &one.name, one));
    (clusters.iter().map(cluster::finish).collect(), listeners.collect())
}

/// The transport socket of endpoints at one of these internal listeners.
pub(super) fn into(listeners: &[InternalListener]) -> TransportSocket {
    let double = listeners.contains(&InternalListener::InnerConnectOriginate);
    let names: &[&str] = if double { &[ORIGINAL_DST, ISTIO] } else { &[ORIGINAL_DST] };
    hand_over(names, tls::raw_buffer())
}

/// `socket` with which an internal listener is told these metadata of the endpoint, and filter state that is shared.
fn hand_over(names: &[&str], socket: TransportSocket) -> TransportSocket {
    let host = metadata::metadata_kind::Kind::Host(metadata::metadata_kind::Host {});
    let source = |name: &&str| internal::internal_upstream_transport::MetadataValueSource {
        kind: Some(metadata::MetadataKind { kind: Some(host) }),
        name: (*name).to_owned(),
    };
    let transport = internal::InternalUpstreamTransport {
        passthrough_metadata: names.iter().map(source).collect(),
        transport_socket: Some(socket),
    };
    tls::named("envoy.transport_sockets.internal_upstream", pack_any(transport))
}

/// A listener that only the proxy itself connects to.
fn internal(name: &str, filters: Vec<lds::Filter>) -> lds::Listener {
    use lds::listener::{InternalListenerConfig, ListenerSpecifier};
    lds::Listener {
        name: name.to_owned(),
        traffic_direction: TrafficDirection::Outbound.into(),
        listener_specifier: Some(ListenerSpecifier::InternalListener(InternalListenerConfig {})),
        listener_filters: vec![filters::original_dst()],
        filter_chains: vec![lds::FilterChain { filters, ..Default::default() }],
        ..Default::default()
    }
}

/// CONNECT by mesh mTLS to wherever the connection is for, on the port of HBONE. One tunnel leads to workloads of all
/// services, so that every identity under the roots of the mesh is accepted.
fn originate(name: &str) -> cds::Cluster {
    let mut cluster = by_address(name);
    cluster.transport_socket = Some(tls::client(String::new(), &["h2"], Vec::new()));
    speak_connect(&mut cluster, false);
    cluster
}

/// To wherever the connection is for, on the port of HBONE; through a waypoint where there is one.
fn by_address(name: &str) -> cds::Cluster {
    use metadata::metadata_key::{PathSegment, path_segment::Segment};
    let waypoint = PathSegment { segment: Some(Segment::Key("waypoint".to_owned())) };
    cds::Cluster {
        cleanup_interval: seconds(FORGET_SECONDS),
        lb_config: Some(cds::cluster::LbConfig::OriginalDstLbConfig(cds::cluster::OriginalDstLbConfig {
            upstream_port_override: number(PORT),
            metadata_key: Some(metadata::MetadataKey { key: ORIGINAL_DST.to_owned(), path: vec![waypoint] }),
            ..Default::default()
        })),
        ..original_dst(name)
    }
}
