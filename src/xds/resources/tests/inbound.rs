use envoy_types::pb::envoy::config::cluster::v3 as cds;
use envoy_types::pb::envoy::config::core::v3::transport_socket;
use envoy_types::pb::envoy::config::listener::v3 as lds;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as tls;

use super::fixtures::{HOST, find, names, unpack, workload};
use crate::model::policy::{MeshConfig, PathNormalization};
use crate::model::{InterceptionMode, PortProtocol, ProxyKind, ServiceKey};
use crate::registry::PolicySnapshot;
use crate::view::WorkloadKey;
use crate::xds::resources::{InboundPolicy, InboundPort, InboundResources, inbound};

fn ports(list: &[(u16, u16, PortProtocol)]) -> Vec<InboundPort> {
    list.iter()
        .map(|&(service_port, target_port, protocol)| InboundPort {
            service: Some(ServiceKey::new("sample", HOST)),
            service_port,
            target_port,
            protocol,
            bind: None,
            application: None,
            pool: None,
        })
        .collect()
}

fn policy(trust_domains: &[&str]) -> InboundPolicy {
    let trust_domains = trust_domains.iter().map(|&domain| domain.into()).collect();
    InboundPolicy { trust_domains, ..InboundPolicy::default() }
}

/// (transport, application protocols, mTLS) of the chains for one port.
fn chains(listener: &lds::Listener, port: Option<u32>) -> Vec<(String, Vec<String>, bool)> {
    let of = |chain: &lds::FilterChain| {
        let matched = chain.filter_chain_match.clone().expect("match");
        (matched.destination_port.map(|port| port.value) == port).then_some((
            matched.transport_protocol,
            matched.application_protocols,
            chain.transport_socket.is_some(),
        ))
    };
    listener.filter_chains.iter().filter_map(of).collect()
}

#[test]
fn captured_ports_take_mesh_and_plain_clients() {
    let given = ports(&[
        (80, 8080, PortProtocol::Http),
        (3306, 3306, PortProtocol::Tcp),
        (9000, 9000, PortProtocol::Auto),
    ]);
    let made = inbound(&given, &workload(InterceptionMode::Redirect), &policy(&["cluster.local"]));
    let listener: lds::Listener = find(&made.listeners, "virtualInbound");
    let shape = |port| {
        let chains = chains(&listener, port);
        chains.into_iter().map(|(transport, alpn, mtls)| (transport, alpn.len(), mtls)).collect::<Vec<_>>()
    };
    let (tls, raw) = (|n, m| ("tls".to_owned(), n, m), |n| ("raw_buffer".to_owned(), n, false));
    assert_eq!(shape(Some(8080)), [tls(5, true), raw(0)]);
    assert_eq!(shape(Some(3306)), [tls(5, true), tls(0, false), raw(0)]);
    let auto = [tls(3, true), raw(2), tls(2, true), raw(0), tls(0, false)];
    assert_eq!(shape(Some(9000)), auto);
    assert_eq!(shape(None), auto);
    assert_eq!(chains(&listener, Some(15006)).len(), 1);
    assert_eq!(listener.listener_filters.len(), 3);
    assert!(listener.listener_filters[2].filter_disabled.is_some());
    let cluster: cds::Cluster = find(&made.clusters, "inbound|8080||");
    let source = cluster.upstream_bind_config.expect("bind").source_address.expect("source");
    assert_eq!(source.address, "127.0.0.6");
}

#[test]
fn mesh_clients_need_a_certificate_of_a_trust_domain() {
    let given = ports(&[(80, 8080, PortProtocol::Http)]);
    let made = inbound(&given, &workload(InterceptionMode::None), &policy(&["example.org", "west.org"]));
    let listener: lds::Listener = find(&made.listeners, "127.0.0.7_8080");
    let socket = listener.filter_chains[0].transport_socket.clone().expect("tls");
    let Some(transport_socket::ConfigType::TypedConfig(any)) = socket.config_type else {
        panic!("no config");
    };
    let context: tls::DownstreamTlsContext = unpack(&any);
    assert_eq!(context.require_client_certificate.map(|flag| flag.value), Some(true));
    let common = context.common_tls_context.expect("common");
    assert_eq!(common.alpn_protocols, ["h2", "http/1.1"]);
    let common = format!("{common:?}");
    for domain in ["example.org", "west.org"] {
        assert!(common.contains(&format!("Prefix(\"spiffe://{domain}/\")")), "{common}");
    }
}

#[test]
fn without_capture_ports_lead_to_the_application_address() {
    let given = ports(&[(80, 8080, PortProtocol::Http)]);
    let made = inbound(&given, &workload(InterceptionMode::None), &policy(&["cluster.local"]));
    assert_eq!(names(&made.listeners), ["127.0.0.7_8080"]);
    let cluster: cds::Cluster = find(&made.clusters, "inbound|8080||");
    assert!(format!("{:?}", cluster.load_assignment).contains("127.0.0.1"));
}

#[test]
fn the_oldest_service_wins_a_target_port_and_capture_ports_are_left_out() {
    let given = ports(&[
        (80, 8080, PortProtocol::Http),
        (81, 8080, PortProtocol::Tcp),
        (82, 15006, PortProtocol::Tcp),
    ]);
    let key = workload(InterceptionMode::None);
    let first = inbound(&given[..1], &key, &policy(&["cluster.local"]));
    assert_eq!(inbound(&given, &key, &policy(&["cluster.local"])), first);
    let router = WorkloadKey { kind: ProxyKind::Router, ..key };
    assert_eq!(inbound(&given, &router, &policy(&["cluster.local"])), InboundResources::default());
}

/// What each direction makes of paths: `normalize_path`, `merge_slashes`, and what becomes of escaped slashes.
#[test]
fn paths_are_normalized_as_the_mesh_says() {
    use hcm::http_connection_manager::PathWithEscapedSlashesAction as Escaped;
    for (paths, expected) in [
        (PathNormalization::None, (false, false, Escaped::ImplementationSpecificDefault)),
        (PathNormalization::Base, (true, false, Escaped::ImplementationSpecificDefault)),
        (PathNormalization::MergeSlashes, (true, true, Escaped::ImplementationSpecificDefault)),
        (PathNormalization::DecodeAndMergeSlashes, (true, true, Escaped::UnescapeAndForward)),
    ] {
        let of = |chains: &[lds::FilterChain]| {
            let filters = chains.iter().flat_map(|chain| &chain.filters);
            let managers = filters.filter_map(|filter| match &filter.config_type {
                Some(lds::filter::ConfigType::TypedConfig(any)) if filter.name.contains("http_conn") => {
                    let manager = unpack::<hcm::HttpConnectionManager>(any);
                    let normalized = manager.normalize_path.is_some_and(|flag| flag.value);
                    Some((normalized, manager.merge_slashes, manager.path_with_escaped_slashes_action()))
                }
                _ => None,
            });
            let managers: Vec<_> = managers.collect();
            assert!(!managers.is_empty() && managers.iter().all(|one| *one == expected), "{managers:?}");
        };
        let policy = InboundPolicy { paths, ..InboundPolicy::default() };
        let made = inbound(
            &ports(&[(80, 8080, PortProtocol::Http)]),
            &workload(InterceptionMode::Redirect),
            &policy,
        );
        let listener: lds::Listener = find(&made.listeners, "virtualInbound");
        of(&listener.filter_chains);
        let mesh = MeshConfig { path_normalization: paths, ..MeshConfig::default() };
        let key = super::fixtures::sidecar(InterceptionMode::Redirect);
        let service =
            super::fixtures::service("helloworld", vec![super::fixtures::port(80, PortProtocol::Http)]);
        let made = super::fixtures::built_under(&service, &key, &PolicySnapshot::with(mesh, []), &[]);
        let listener: lds::Listener = find(&made.listeners, "0.0.0.0_80");
        of(&listener.filter_chains);
    }
}
