use envoy_types::pb::envoy::config::cluster::v3::{self as cds, cluster::DiscoveryType};
use envoy_types::pb::envoy::config::core::v3::transport_socket;
use envoy_types::pb::envoy::config::listener::v3 as lds;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as tls;
use prost::Message;

use super::fixtures::{
    HOST, built as service, decode, everything, find, fixed, gateway, implicit, names, port,
    service as fixture, sidecar, unpack,
};
use crate::model::{
    ExportTo, InterceptionMode, IpFamilies, PortProtocol, Resolution, Service, ServiceKey, Transport,
};
use crate::xds::resources::sni_listener;

fn kind(cluster: &cds::Cluster) -> Option<DiscoveryType> {
    match cluster.cluster_discovery_type {
        Some(cds::cluster::ClusterDiscoveryType::Type(kind)) => DiscoveryType::try_from(kind).ok(),
        _ => None,
    }
}

fn mtls(cluster: &cds::Cluster) -> tls::UpstreamTlsContext {
    let socket = cluster.transport_socket_matches[0].transport_socket.as_ref();
    match &socket.expect("socket").config_type {
        Some(transport_socket::ConfigType::TypedConfig(any)) => unpack(any),
        None => panic!("no config"),
    }
}

#[test]
fn r4_18_clusters_speak_mtls_where_the_endpoint_does() {
    let made = service(&fixture("helloworld", everything()), &sidecar(InterceptionMode::Redirect));
    for (number, alpn) in [
        (80, &["istio-http/1.1", "istio"][..]),
        (82, &["istio-h2", "istio", "h2"]),
        (3306, &["istio"]),
        (9000, &["istio"]),
    ] {
        let cluster: cds::Cluster = find(&made.clusters, &format!("outbound|{number}||{HOST}"));
        assert_eq!(kind(&cluster), Some(DiscoveryType::Eds));
        assert_eq!(cluster.alt_stat_name, format!("{};", cluster.name));
        let panic = cluster.common_lb_config.as_ref().expect("lb").healthy_panic_threshold;
        assert_eq!(panic.map(|percent| percent.value), Some(0.0));
        let matches = &cluster.transport_socket_matches;
        let order: Vec<_> = matches.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(order, ["tlsMode-istio", "tlsMode-disabled"]);
        assert!(matches[1].r#match.as_ref().expect("match").fields.is_empty());
        let context = mtls(&cluster);
        assert_eq!(context.sni, format!("outbound_.{number}_._.{HOST}"));
        let common = context.common_tls_context.expect("common");
        assert_eq!(common.alpn_protocols, alpn);
        let Some(tls::common_tls_context::ValidationContextType::CombinedValidationContext(both)) =
            common.validation_context_type
        else {
            panic!("not combined");
        };
        let names = both.default_validation_context.expect("names").match_typed_subject_alt_names;
        let exact: Vec<_> = names.iter().map(|name| format!("{:?}", name.matcher)).collect();
        assert_eq!(exact.len(), 2);
        assert!(exact[0].contains("sa/a") && exact[1].contains("sa/b"), "{exact:?}");
        let http2 = !cluster.typed_extension_protocol_options.is_empty();
        assert_eq!(http2, number == 82);
    }
}

#[test]
fn captured_services_get_listeners_by_protocol() {
    let made = service(&fixture("helloworld", everything()), &sidecar(InterceptionMode::Redirect));
    let expected = [
        "0.0.0.0_80",
        "0.0.0.0_81",
        "0.0.0.0_82",
        "0.0.0.0_83",
        "10.96.0.10_443",
        "10.96.0.10_444",
        "10.96.0.10_3306",
        "10.96.0.10_9000",
    ];
    assert_eq!(names(&made.listeners), expected);
    let http: lds::Listener = find(&made.listeners, "0.0.0.0_80");
    assert_eq!(http.bind_to_port.map(|flag| flag.value), Some(false));
    assert!(http.continue_on_listener_filters_timeout);
    let otherwise = http.default_filter_chain.expect("default");
    assert_eq!(otherwise.name, "PassthroughFilterChain");
    let tcp: lds::Listener = find(&made.listeners, "10.96.0.10_3306");
    assert!(tcp.listener_filters.is_empty() && tcp.default_filter_chain.is_none());
    let auto: lds::Listener = find(&made.listeners, "10.96.0.10_9000");
    assert!(auto.default_filter_chain.is_some() && auto.filter_chains.len() == 1);
}

#[test]
fn http_listeners_of_one_port_are_equal_for_all_services() {
    for mode in [InterceptionMode::Redirect, InterceptionMode::Tproxy, InterceptionMode::None] {
        let of = |name, protocol| service(&fixture(name, vec![port(80, protocol)]), &sidecar(mode)).listeners;
        assert_eq!(of("a", PortProtocol::Http), of("b", PortProtocol::Grpc));
    }
}

#[test]
fn c06_equal_input_gives_equal_bytes() {
    for key in [sidecar(InterceptionMode::Redirect), sidecar(InterceptionMode::None), gateway()] {
        let world = fixture("helloworld", everything());
        assert_eq!(service(&world, &key), service(&world, &key));
        assert_eq!(fixed(&key), fixed(&key));
    }
}

#[test]
fn without_capture_ports_are_bound_on_the_outbound_address() {
    let key = sidecar(InterceptionMode::None);
    let ports =
        vec![port(80, PortProtocol::Http), port(3306, PortProtocol::Tcp), port(15021, PortProtocol::Http)];
    let made = service(&fixture("helloworld", ports), &key);
    assert_eq!(names(&made.listeners), ["127.0.0.9_80", "127.0.0.9_3306"]);
    for entry in &made.listeners {
        let listener: lds::Listener = decode(&entry.encoded);
        assert_eq!(listener.bind_to_port.map(|flag| flag.value), Some(true));
    }
    let routes: Vec<_> = made.virtual_hosts.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(routes, ["80"]);
    assert!(fixed(&key).listeners.is_empty());
}

#[test]
fn invisible_services_aliases_and_other_transports_give_nothing() {
    let key = sidecar(InterceptionMode::Redirect);
    let mut hidden = fixture("helloworld", everything());
    hidden.export_to = ExportTo::Namespaces(["other".into()].into());
    assert_eq!(service(&hidden, &key), Default::default());
    let mut alias = fixture("helloworld", everything());
    alias.resolution = Resolution::Alias("example.org".into());
    assert_eq!(service(&alias, &gateway()), Default::default());
    let mut udp = fixture("helloworld", vec![port(53, PortProtocol::Udp)]);
    udp.ports[0].transport = Transport::Udp;
    assert_eq!(service(&udp, &key), Default::default());
}

#[test]
fn r5_22_headless_services_keep_the_address_the_client_chose() {
    let mut headless = fixture("db", vec![port(80, PortProtocol::Http), port(5432, PortProtocol::Tcp)]);
    headless.resolution = Resolution::Passthrough;
    headless.vips.clear();
    let name = "outbound|5432||db.sample.svc.cluster.local";
    let of = |key| {
        let made = service(&headless, &key);
        let cluster: cds::Cluster = find(&made.clusters, name);
        (kind(&cluster), cluster.transport_socket_matches.len())
    };
    assert_eq!(of(sidecar(InterceptionMode::Redirect)), (Some(DiscoveryType::OriginalDst), 0));
    assert_eq!(of(sidecar(InterceptionMode::None)), (Some(DiscoveryType::Eds), 2));
    assert_eq!(of(gateway()), (Some(DiscoveryType::Eds), 2));
    let made = service(&headless, &sidecar(InterceptionMode::Redirect));
    assert_eq!(names(&made.listeners), ["0.0.0.0_80"]);
}

#[test]
fn r7_2_east_west_gateways_lead_each_sni_to_its_cluster() {
    let key = gateway();
    let made = service(&fixture("helloworld", vec![port(5000, PortProtocol::Http)]), &key);
    let sni = format!("outbound_.5000_._.{HOST}");
    assert_eq!(names(&made.clusters), [format!("outbound|5000||{HOST}"), sni.clone()]);
    assert!(made.listeners.is_empty() && made.virtual_hosts.is_empty());
    let cluster: cds::Cluster = find(&made.clusters, &sni);
    assert!(cluster.transport_socket_matches.is_empty() && cluster.transport_socket.is_none());
    let entry = sni_listener(&key, &implicit(), made.sni_chains.iter());
    let listener: lds::Listener = decode(&entry.encoded);
    assert_eq!(listener.name, "0.0.0.0_15443");
    let matched = listener.filter_chains[0].filter_chain_match.as_ref().expect("match");
    assert_eq!(matched.server_names, [sni]);
    assert_eq!(matched.application_protocols.len(), 5);
    assert!(listener.default_filter_chain.is_none());
    let empty: lds::Listener = decode(&sni_listener(&key, &implicit(), [].iter()).encoded);
    assert!(empty.default_filter_chain.is_some());
    let policies = crate::registry::PolicySnapshot::default();
    let passthroughs = |key| crate::view::Client::new(key, &policies).passthroughs().len();
    assert_eq!([passthroughs(&key), passthroughs(&sidecar(InterceptionMode::Redirect))], [1, 0]);
}

#[test]
fn headless_services_are_spoken_mtls_to_where_every_pod_takes_it() {
    let headless = |name: &str| {
        let ports = vec![port(80, PortProtocol::Http), port(5432, PortProtocol::Tcp)];
        Service { resolution: Resolution::Passthrough, vips: Vec::new(), ..fixture(name, ports) }
    };
    let key = sidecar(InterceptionMode::Redirect);
    for (name, secured) in [("meshed", true), ("db", false)] {
        let made = service(&headless(name), &key);
        assert!(made.reads.addresses);
        for number in [80, 5432] {
            let host = format!("{name}.sample.svc.cluster.local");
            let cluster: cds::Cluster = find(&made.clusters, &format!("outbound|{number}||{host}"));
            assert_eq!(kind(&cluster), Some(DiscoveryType::OriginalDst));
            assert!(cluster.transport_socket_matches.is_empty(), "there are no endpoints to match");
            let socket = cluster.transport_socket.and_then(|socket| socket.config_type);
            let sni = socket.map(|transport_socket::ConfigType::TypedConfig(any)| {
                unpack::<tls::UpstreamTlsContext>(&any).sni
            });
            assert_eq!(sni, secured.then(|| format!("outbound_.{number}_._.{host}")));
        }
        let ports: Vec<_> = made.chains.iter().map(|chain| chain.port).collect();
        assert_eq!(ports, if secured { vec![5432] } else { vec![] }, "the catch-all has no TLS");
    }
}

#[test]
fn services_whose_server_name_is_too_long_are_left_out() {
    let long = |length: usize| {
        let host = "abcdefg.".repeat(32)[..length - 1].to_owned() + "x";
        Service { key: ServiceKey::new("sample", host), ..super::validate::inside() }
    };
    let prefix = "outbound_.443_._.".len();
    for (length, left_out) in [(255 - prefix, false), (256 - prefix, true)] {
        for key in [sidecar(InterceptionMode::Redirect), gateway()] {
            let made = service(&long(length), &key);
            assert_eq!((made.clusters.is_empty(), !made.reads.left_out.is_empty()), (left_out, left_out));
            assert!(!left_out || made.listeners.is_empty() && made.chains.is_empty());
        }
    }
}

#[test]
fn no_server_name_leads_to_a_host_with_a_wildcard() {
    let wild = |host: &str| Service { key: ServiceKey::new("sample", host), ..super::validate::inside() };
    for (host, led) in [("*.x.local", false), ("*", false), ("a.x.local", true)] {
        let made = service(&wild(host), &gateway());
        let is_led = |entry: &&str| entry.starts_with("outbound_.");
        assert_eq!(names(&made.clusters).iter().any(is_led), led, "{host}");
        assert_eq!(made.sni_chains.iter().any(|chain| !chain.is_empty()), led, "{host}");
        assert!(names(&made.clusters).iter().any(|name| name.starts_with("outbound|443||")), "{host}");
    }
}

#[test]
fn fixed_resources_follow_kind_mode_and_family() {
    let key = sidecar(InterceptionMode::Tproxy);
    let made = fixed(&key);
    assert_eq!(names(&made.clusters), ["BlackHoleCluster", "PassthroughCluster"]);
    let listener: lds::Listener = find(&made.listeners, "virtualOutbound");
    assert_eq!(listener.use_original_dst.map(|flag| flag.value), Some(true));
    assert_eq!(listener.transparent.map(|flag| flag.value), Some(true));
    assert_eq!(names(&fixed(&gateway()).clusters), ["BlackHoleCluster"]);
    let key = crate::view::OutboundKey { families: IpFamilies::V6, ..key };
    let listener: lds::Listener = find(&fixed(&key).listeners, "virtualOutbound");
    let bytes = listener.encode_to_vec();
    assert!(bytes.windows(2).any(|pair| pair == b"::"));
}
