//! HBONE in Envoy clusters and listeners (R4.17, R4.18, R4.24).

mod tunnelled;

use envoy_types::pb::envoy::config::cluster::v3 as cds;
use envoy_types::pb::envoy::config::core::v3::{TransportSocket, transport_socket};
use envoy_types::pb::envoy::config::listener::v3 as lds;
use envoy_types::pb::envoy::extensions::transport_sockets::internal_upstream::v3::InternalUpstreamTransport;
use envoy_types::pb::google::protobuf::Any;

use super::clusters::{entry, policies, rule, secured};
use super::fixtures::{
    HOST, built, built_under, find, fixed, gateway, names, port, service, sidecar, unpack,
};
use crate::model::policy::{ClientTlsMode, MeshConfig, TrafficSettings};
use crate::model::{InterceptionMode, PortProtocol, Resolution, Service};
use crate::view::{InternalListener, OutboundKey};

const ALL: [InternalListener; 2] =
    [InternalListener::ConnectOriginate, InternalListener::InnerConnectOriginate];

fn tunnelling(tunnels: &[InternalListener]) -> OutboundKey {
    OutboundKey { tunnels: tunnels.to_vec(), ..sidecar(InterceptionMode::Redirect) }
}

fn http() -> Service {
    service("helloworld", vec![port(80, PortProtocol::Http)])
}

fn config(socket: &TransportSocket) -> Any {
    match &socket.config_type {
        Some(transport_socket::ConfigType::TypedConfig(any)) => any.clone(),
        None => panic!("{} has no config", socket.name),
    }
}

fn cluster(key: &OutboundKey, mesh: MeshConfig, tls: Option<ClientTlsMode>) -> cds::Cluster {
    let told =
        tls.map(|mode| rule(TrafficSettings { tls: Some(secured(mode)), ..TrafficSettings::default() }));
    find(&built_under(&http(), key, &policies(mesh, told), &[]).clusters, &format!("outbound|80||{HOST}"))
}

fn choices<'a>(cluster: &'a cds::Cluster) -> Vec<(&'a str, &'a str)> {
    let choice = |one: &'a cds::cluster::TransportSocketMatch| {
        let socket = one.transport_socket.as_ref().map_or("", |socket| socket.name.as_str());
        (one.name.as_str(), socket.trim_start_matches("envoy.transport_sockets."))
    };
    cluster.transport_socket_matches.iter().map(choice).collect()
}

#[test]
fn r4_18_hbone_comes_first_where_it_is_possible() {
    let mesh = |auto_mtls| MeshConfig { auto_mtls, ..MeshConfig::default() };
    let of = |tunnels: &[InternalListener], auto, tls| cluster(&tunnelling(tunnels), mesh(auto), tls);
    let hbone = ("hbone", "internal_upstream");
    let (mtls, plain) = (("tlsMode-istio", "tls"), ("tlsMode-disabled", "raw_buffer"));
    let automatic = of(&ALL[..1], true, None);
    assert_eq!(choices(&automatic), [hbone, mtls, plain]);
    let fields = automatic.transport_socket_matches[0].r#match.clone().expect("a match").fields;
    assert_eq!(format!("{fields:?}"), r#"{"tunnel": Value { kind: Some(StringValue("http")) }}"#);
    assert_eq!(choices(&of(&[], true, None)), [mtls, plain]);
    assert_eq!(choices(&of(&ALL[..1], false, None)), [hbone, plain]);
    assert_eq!(choices(&of(&ALL[..1], true, Some(ClientTlsMode::Disable))), [hbone, plain]);
    let told = of(&ALL[..1], true, Some(ClientTlsMode::IstioMutual));
    assert_eq!(choices(&told), [hbone, ("tls", "tls")]);
    assert_eq!(told.transport_socket, None, "of two ways Envoy would take this one");
    let without = of(&[], true, Some(ClientTlsMode::IstioMutual));
    assert_eq!(told.transport_socket_matches[1].transport_socket, without.transport_socket);
}

#[test]
fn endpoints_tell_the_internal_listener_where_the_tunnel_leads() {
    let told = |tunnels: &[InternalListener]| -> Vec<String> {
        let cluster = cluster(&tunnelling(tunnels), MeshConfig::default(), None);
        let socket = cluster.transport_socket_matches[0].transport_socket.as_ref().expect("a socket");
        let into: InternalUpstreamTransport = unpack(&config(socket));
        assert_eq!(into.transport_socket.expect("inside").name, "envoy.transport_sockets.raw_buffer");
        into.passthrough_metadata.into_iter().map(|source| source.name).collect()
    };
    assert_eq!(told(&ALL[..1]), ["envoy.filters.listener.original_dst"]);
    assert_eq!(told(&ALL), ["envoy.filters.listener.original_dst", "istio"]);
}

#[test]
fn only_assignments_lead_into_tunnels() {
    let key = tunnelling(&ALL[..1]);
    for service in [entry(Resolution::Dns, &["a.example"]), entry(Resolution::Passthrough, &[])] {
        let plain = built(&service, &sidecar(InterceptionMode::Redirect));
        assert_eq!(built(&service, &key), plain);
    }
    let behind = built(&http(), &OutboundKey { tunnels: ALL.to_vec(), ..gateway() });
    let behind: cds::Cluster = find(&behind.clusters, &format!("outbound_.80_._.{HOST}"));
    assert_eq!(choices(&behind), [], "TLS passes through");
}

#[test]
fn each_internal_address_has_a_listener_and_what_is_behind_it() {
    let of = |tunnels: &[InternalListener]| {
        let (with, without) = (fixed(&tunnelling(tunnels)), fixed(&tunnelling(&[])));
        let new = |all: &[crate::xds::resource::Entry], old: &[crate::xds::resource::Entry]| -> Vec<String> {
            let old = names(old);
            names(all).into_iter().filter(|name| !old.contains(name)).map(str::to_owned).collect()
        };
        let listeners = new(&with.listeners, &without.listeners);
        for name in &listeners {
            let listener: lds::Listener = find(&with.listeners, name);
            assert_eq!(listener.address, None);
            assert_eq!(listener.listener_filters[0].name, "envoy.filters.listener.original_dst");
        }
        (listeners, new(&with.clusters, &without.clusters))
    };
    assert_eq!(of(&[]), (Vec::new(), Vec::new()));
    let named = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
    for one in [InternalListener::ConnectOriginate, InternalListener::ForwardInnerConnect] {
        assert_eq!(of(&[one]), (named(&[one.name()]), named(&[one.name()])));
    }
    let both = named(&["inner_connect_originate", "outer_connect_originate"]);
    assert_eq!(of(&[InternalListener::InnerConnectOriginate]), (both.clone(), both));
}
