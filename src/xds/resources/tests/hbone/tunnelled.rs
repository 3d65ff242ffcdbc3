//! Two real Envoys: one with what is made for a proxy, one that terminates HBONE.
//!
//! Needs an Envoy (`$ENVOY`, else the one that `make envoy` installs); without one it is skipped loudly, and fails with
//! `CI=true`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;

use envoy_types::pb::envoy::config::bootstrap::v3::{Bootstrap, bootstrap};
use envoy_types::pb::envoy::config::cluster::v3 as cds;
use envoy_types::pb::envoy::config::core::v3::{TransportSocket, transport_socket};
use envoy_types::pb::envoy::config::endpoint::v3 as eds;
use envoy_types::pb::envoy::config::listener::v3 as lds;
use envoy_types::pb::envoy::extensions::transport_sockets::internal_upstream::v3::InternalUpstreamTransport;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::UpstreamTlsContext;
use envoy_types::pb::google::protobuf::{Struct, Value, value};
use envoy_types::util::pack_any;
use prost::Message;
use serde_json::{Value as Json, json};

use super::super::enforced::client::{Application, Request};
use super::super::enforced::envoy::{Envoy, Trust, program};
use super::super::fixtures::{HOST, decode, fixed};
use super::super::validate::internal_listeners;
use super::{ALL, cluster, config, tunnelling};
use crate::model::policy::MeshConfig;
use crate::model::{Health, Workload};
use crate::view::{
    AssignedEndpoint, Assignment, InternalListener, LocalityGroup, Origin, SocketMatch, Target,
};
use crate::xds::resources::{assignment, filters, listener, parts};

const ORIGINAL_DST: &str = "envoy.filters.listener.original_dst";

/// Ports that were free on an address of loopback that nobody else uses now.
fn free(ports: usize) -> (IpAddr, Vec<u16>) {
    let address =
        |at: u32| IpAddr::from(Ipv4Addr::from(0x7f5e_0001 + (std::process::id() + at * 977) % 0xfff0));
    let open = |at: &u32| TcpListener::bind((address(*at), 15008)).is_ok();
    let ip = address((0..100).find(open).expect("an address"));
    let sockets: Vec<_> = (0..ports).map(|_| TcpListener::bind((ip, 0)).expect("a port")).collect();
    (ip, sockets.iter().map(|one| one.local_addr().expect("bound").port()).collect())
}

/// A listener that takes CONNECT by mTLS for one authority and passes its bytes on to `cluster`.
fn terminator(at: SocketAddr, authority: &str, cluster: &str, trust: &Trust) -> Json {
    let issued = trust.issue("mesh.org/ns/sample/sa/server");
    let tls = json!({
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "require_client_certificate": true,
        "common_tls_context": {
            "alpn_protocols": ["h2"],
            "tls_certificates": [{
                "certificate_chain": {"inline_string": issued.chain_pem},
                "private_key": {"inline_string": issued.key_pem.reveal()},
            }],
            "validation_context": {"trusted_ca": {"inline_string": trust.roots()}},
        },
    });
    let connect = json!({
        "match": {"connect_matcher": {}},
        "route": {"cluster": cluster, "upgrade_configs": [{"upgrade_type": "CONNECT", "connect_config": {}}]},
    });
    let http = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.\
                  HttpConnectionManager",
        "stat_prefix": "hbone",
        "http2_protocol_options": {"allow_connect": true},
        "upgrade_configs": [{"upgrade_type": "CONNECT"}],
        "http_filters": [{"name": "router", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
        }}],
        "route_config": {"virtual_hosts": [{"name": "one", "domains": [authority], "routes": [connect]}]},
    });
    json!({
        "address": socket(at),
        "filter_chains": [{
            "transport_socket": {"name": "tls", "typed_config": tls},
            "filters": [{"name": "http", "typed_config": http}],
        }],
    })
}

fn socket(at: SocketAddr) -> Json {
    json!({"socket_address": {"address": at.ip().to_string(), "port_value": at.port()}})
}

fn upstream(name: &str, to: SocketAddr) -> Json {
    json!({"name": name, "type": "STATIC", "connect_timeout": "5s", "load_assignment": {
        "cluster_name": name,
        "endpoints": [{"lb_endpoints": [{"endpoint": {"address": socket(to)}}]}],
    }})
}

fn server(program: &Path, listeners: &[Json], clusters: &[Json], at: &[SocketAddr]) -> Envoy {
    let document = json!({"static_resources": {"listeners": listeners, "clusters": clusters}});
    Envoy::run(program, "bootstrap.json", document.to_string().as_bytes(), at)
}

fn into(listener: InternalListener, at: SocketAddr, pod: &Workload) -> Assignment<'_> {
    let endpoint = AssignedEndpoint {
        target: Target::Internal { listener, address: at.ip(), port: at.port() },
        weight: 1,
        health: Some(Health::Healthy),
        socket: SocketMatch::Tunnel,
        origin: Origin::Direct(pod),
    };
    let group =
        LocalityGroup { locality: Default::default(), priority: 0, weight: 1, endpoints: vec![endpoint] };
    Assignment { groups: vec![group], ..Assignment::default() }
}

/// One way through the first Envoy: an Envoy cluster with its endpoints and the port that leads there.
struct Way {
    at: SocketAddr,
    endpoints: eds::ClusterLoadAssignment,
}

impl Way {
    fn new(at: SocketAddr, given: &Assignment<'_>) -> Self {
        Self { at, endpoints: decode(&assignment(&format!("outbound|80||{HOST}"), given)) }
    }

    /// The same by way of a waypoint.
    fn by(mut self, waypoint: SocketAddr) -> Self {
        let endpoint = &mut self.endpoints.endpoints[0].lb_endpoints[0];
        let metadata = &mut endpoint.metadata.as_mut().expect("metadata").filter_metadata;
        let text = Value { kind: Some(value::Kind::StringValue(waypoint.to_string())) };
        let told: &mut Struct = metadata.get_mut(ORIGINAL_DST).expect("where it leads");
        told.fields.insert("waypoint".to_owned(), text);
        self
    }

    /// The Envoy cluster of a service with these endpoints in it, and a listener before it.
    fn made(self, number: usize) -> (cds::Cluster, lds::Listener) {
        let mut cluster = cluster(&tunnelling(&ALL), MeshConfig::default(), None);
        cluster.name = format!("way-{number}");
        cluster.eds_cluster_config = None;
        cluster.cluster_discovery_type =
            Some(cds::cluster::ClusterDiscoveryType::Type(cds::cluster::DiscoveryType::Static.into()));
        cluster.load_assignment = Some(self.endpoints);
        let listener = lds::Listener {
            name: cluster.name.clone(),
            address: parts::address(self.at.ip(), self.at.port()),
            filter_chains: vec![listener::chain("", None, filters::tcp(&cluster.name))],
            ..Default::default()
        };
        (cluster, listener)
    }
}

fn put_secrets(socket: &mut TransportSocket, trust: &Trust) {
    let made = match socket.name.as_str() {
        "envoy.transport_sockets.tls" => {
            let mut context: UpstreamTlsContext = super::unpack(&config(socket));
            trust.put_secrets(context.common_tls_context.as_mut(), "mesh.org/ns/sample/sa/client");
            pack_any(context)
        }
        "envoy.transport_sockets.internal_upstream" => {
            let mut outer: InternalUpstreamTransport = super::unpack(&config(socket));
            put_secrets(outer.transport_socket.as_mut().expect("inside"), trust);
            pack_any(outer)
        }
        _ => return,
    };
    socket.config_type = Some(transport_socket::ConfigType::TypedConfig(made));
}

/// The proxy: all that is made for it, with the secrets it would ask for.
fn client(program: &Path, ways: Vec<Way>, trust: &Trust) -> Envoy {
    let fixed = fixed(&tunnelling(&ALL));
    let mut clusters: Vec<cds::Cluster> = fixed.clusters.iter().map(|one| decode(&one.encoded)).collect();
    let listeners = fixed.listeners.iter().map(|one| decode(&one.encoded));
    let mut listeners: Vec<lds::Listener> =
        listeners.filter(|one: &lds::Listener| one.address.is_none()).collect();
    let addresses: Vec<_> = ways.iter().map(|way| way.at).collect();
    for (number, way) in ways.into_iter().enumerate() {
        let (cluster, listener) = way.made(number);
        clusters.push(cluster);
        listeners.push(listener);
    }
    for cluster in &mut clusters {
        let matched =
            cluster.transport_socket_matches.iter_mut().filter_map(|one| one.transport_socket.as_mut());
        matched.chain(&mut cluster.transport_socket).for_each(|socket| put_secrets(socket, trust));
    }
    let document = Bootstrap {
        bootstrap_extensions: vec![internal_listeners()],
        static_resources: Some(bootstrap::StaticResources { clusters, listeners, ..Default::default() }),
        ..Default::default()
    };
    Envoy::run(program, "bootstrap.pb", &document.encode_to_vec(), &addresses)
}

#[test]
fn a_request_gets_through_each_tunnel() {
    let Some(program) = program() else { return };
    let application = Application::start();
    let trust = Trust::plant();
    let nobody = Workload::default();
    let app = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), application.port);
    let (ip, ports) = free(7);
    let at = |port: u16| SocketAddr::new(ip, port);
    let [gateway, workload, one, two, three, four, closed] = ports[..] else { panic!("{ports:?}") };
    let (pod, vip) = (at(8080), SocketAddr::from(([10, 96, 0, 10], 80)));
    let service = format!("{HOST}:80");
    // Workloads take HBONE on one port, for whatever address the connection is for; the gateway's port is its own.
    let mut workloads = terminator(at(15008), &pod.to_string(), "app", &trust);
    let through = terminator(at(15008), &vip.to_string(), "app", &trust);
    let hosts = |one: &Json| {
        one["filter_chains"][0]["filters"][0]["typed_config"]["route_config"]["virtual_hosts"][0].clone()
    };
    let mut second = hosts(&through);
    second["name"] = json!("two");
    let both = json!([hosts(&workloads), second]);
    workloads["filter_chains"][0]["filters"][0]["typed_config"]["route_config"]["virtual_hosts"] = both;
    let listeners = [
        workloads,
        terminator(at(gateway), &service, "workload", &trust),
        terminator(at(workload), &service, "app", &trust),
    ];
    let clusters = [upstream("app", app), upstream("workload", at(workload))];
    let server = server(&program, &listeners, &clusters, &[at(15008), at(gateway), at(workload)]);
    let single = InternalListener::ConnectOriginate;
    let double = InternalListener::InnerConnectOriginate;
    let ways = vec![
        Way::new(at(one), &into(single, pod, &nobody)),
        Way::new(at(two), &into(single, vip, &nobody)).by(at(9)),
        Way::new(at(three), &into(double, at(gateway), &nobody)),
        // The same service where no gateway is.
        Way::new(at(four), &into(double, at(closed), &nobody)),
    ];
    let client = client(&program, ways, &trust);
    let answers = || [one, two, three, four].map(|port| Request::get("/").ask(ip, port, &trust));
    let expected = [true, true, true, false];
    assert_eq!(answers(), expected, "{}\n{}", client.log(), server.log());
    assert_eq!(answers(), expected, "connections that stay open are not mixed up: {}", client.log());
}
