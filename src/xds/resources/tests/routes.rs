use envoy_types::pb::envoy::config::endpoint::v3 as eds;
use envoy_types::pb::envoy::config::route::v3 as rds;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as tls;

use super::fixtures::{HOST, built as service, decode, port, service as fixture, sidecar, table};
use crate::model::{Health, InterceptionMode, Locality, PortProtocol, Resolution, Service};
use crate::registry::PolicySnapshot;
use crate::view::{
    AssignedEndpoint, Assignment, Client, LocalityGroup, Origin, OutboundKey, SocketMatch, Target,
};
use crate::xds::resources::{assignment, certificate, empty_assignment, empty_route, route, validation};

fn routes(service_: &Service, key: &OutboundKey) -> rds::RouteConfiguration {
    let made = service(service_, key);
    table(&made, key, &PolicySnapshot::default())
}

#[test]
fn domains_are_the_names_clients_of_that_namespace_use() {
    let world = fixture("helloworld", vec![port(80, PortProtocol::Http)]);
    let mut key = sidecar(InterceptionMode::Redirect);
    let table = routes(&world, &key);
    assert!(table.ignore_port_in_host_matching);
    assert_eq!(table.validate_clusters.map(|flag| flag.value), Some(false));
    assert_eq!(table.virtual_hosts[0].name, format!("{HOST}:80"));
    let fqdn_dot = format!("{HOST}.");
    let own = ["helloworld", "helloworld.sample", "helloworld.sample.svc"];
    let mut expected = vec![HOST, &fqdn_dot];
    expected.extend(own);
    expected.push("10.96.0.10");
    assert_eq!(table.virtual_hosts[0].domains, expected);
    key.dns_domain = "other.svc.cluster.local".into();
    key.cluster = "west".into();
    expected.remove(2);
    *expected.last_mut().expect("vip") = "10.97.0.10";
    assert_eq!(routes(&world, &key).virtual_hosts[0].domains, expected);
    key.dns_domain = "other.svc.example.org".into();
    key.cluster = "south".into();
    assert_eq!(routes(&world, &key).virtual_hosts[0].domains, expected[..2]);
}

#[test]
fn headless_names_have_wildcards_and_v6_addresses_brackets() {
    let key = sidecar(InterceptionMode::Redirect);
    let mut world = fixture("helloworld", vec![port(80, PortProtocol::Http)]);
    world.vips = vec![("east".into(), vec!["fd00::1".parse().expect("ip")])];
    let domains = routes(&world, &key).virtual_hosts[0].domains.clone();
    assert_eq!(domains.last().map(String::as_str), Some("[fd00::1]"));
    world.resolution = Resolution::Passthrough;
    world.vips.clear();
    let domains = routes(&world, &key).virtual_hosts[0].domains.clone();
    assert!(domains.contains(&format!("*.{HOST}")) && domains.contains(&"*.helloworld.sample".to_owned()));
}

#[test]
fn d42_a_dead_endpoint_costs_a_retry_elsewhere() {
    let world = fixture("helloworld", vec![port(80, PortProtocol::Http)]);
    let table = routes(&world, &sidecar(InterceptionMode::Redirect));
    let action = |host: usize| match &table.virtual_hosts[host].routes[0].action {
        Some(rds::route::Action::Route(action)) => action.clone(),
        other => panic!("{other:?}"),
    };
    let retry = action(0).retry_policy.expect("retry");
    assert!(retry.retry_on.starts_with("connect-failure,"));
    assert_eq!(retry.num_retries.map(|n| n.value), Some(2));
    assert_eq!((retry.retry_host_predicate.len(), retry.host_selection_retry_max_attempts), (1, 20));
    assert_eq!(action(0).timeout.map(|timeout| timeout.seconds), Some(0));
    assert_eq!(table.virtual_hosts[1].name, "allow_any");
    let passthrough = rds::route_action::ClusterSpecifier::Cluster("PassthroughCluster".to_owned());
    assert_eq!(action(1).cluster_specifier, Some(passthrough));
}

#[test]
fn sniffed_routes_serve_every_name_and_have_no_catch_all() {
    let world = fixture("helloworld", vec![port(9000, PortProtocol::Auto)]);
    let table = routes(&world, &sidecar(InterceptionMode::Redirect));
    assert_eq!(table.name, format!("{HOST}:9000"));
    assert_eq!(table.virtual_hosts.len(), 1);
    assert_eq!(table.virtual_hosts[0].domains, ["*"]);
    let empty: rds::RouteConfiguration = decode(&empty_route("77"));
    assert!(empty.name == "77" && empty.virtual_hosts.is_empty());
}

#[test]
fn r4_23_assignments_tell_address_weight_health_and_mode() {
    let addresses = ["172.18.0.9".parse().expect("ip")];
    let (network, cluster, workload) = ("net-west".into(), "west".into(), Default::default());
    let gateway = AssignedEndpoint {
        target: Target::Socket { addresses: &addresses, port: 15443 },
        weight: 4,
        health: None,
        socket: SocketMatch::TlsMode,
        origin: Origin::Gateway { network: &network, cluster: &cluster },
    };
    let direct = AssignedEndpoint {
        health: Some(Health::Unhealthy),
        socket: SocketMatch::Plain,
        origin: Origin::Direct(&workload),
        ..gateway.clone()
    };
    let given = Assignment {
        groups: vec![LocalityGroup {
            priority: 0,
            locality: Locality::parse("r1/z1"),
            weight: 8,
            endpoints: vec![direct, gateway],
        }],
        ..Assignment::default()
    };
    let sent: eds::ClusterLoadAssignment = decode(&assignment("c", &given));
    let group = &sent.endpoints[0];
    assert_eq!(group.load_balancing_weight.map(|weight| weight.value), Some(8));
    let health: Vec<_> = group.lb_endpoints.iter().map(|one| one.health_status).collect();
    assert_eq!(health, [2, 0]);
    let metadata = |index: usize| {
        let metadata = group.lb_endpoints[index].metadata.as_ref().expect("metadata");
        metadata.filter_metadata.clone()
    };
    assert!(!metadata(0).contains_key("envoy.transport_socket_match"));
    assert!(metadata(1).contains_key("envoy.transport_socket_match"));
    assert!(format!("{:?}", metadata(1)["istio"]).contains(";;;;west"));
    assert_eq!(assignment("c", &given), assignment("c", &given));
    let empty: eds::ClusterLoadAssignment = decode(&empty_assignment("c"));
    assert!(empty.cluster_name == "c" && empty.endpoints.is_empty());
}

#[test]
fn secrets_carry_their_pem_and_hide_it_from_debug() {
    let encoded = certificate("default", "CHAIN", "KEY");
    assert!(!format!("{encoded:?}").contains("KEY"));
    let secret: tls::Secret = decode(&encoded);
    let Some(tls::secret::Type::TlsCertificate(pair)) = secret.r#type else {
        panic!("no certificate");
    };
    assert!(pair.certificate_chain.is_some() && pair.private_key.is_some());
    let secret: tls::Secret = decode(&validation("ROOTCA", "ROOTS"));
    assert!(matches!(secret.r#type, Some(tls::secret::Type::ValidationContext(_))));
}

#[test]
fn domains_that_differ_in_case_are_one() {
    let key = sidecar(InterceptionMode::Redirect);
    let host = |name: &str| {
        let mut world = fixture(name, vec![port(80, PortProtocol::Http)]);
        world.vips.clear();
        service(&world, &key).virtual_hosts[0].1.clone()
    };
    let (upper, lower) = (host("Reviews"), host("reviews"));
    let table: rds::RouteConfiguration =
        decode(&route("80", &Client::new(&key, &PolicySnapshot::default()), [&upper, &lower].into_iter()));
    let names: Vec<_> = table.virtual_hosts.iter().map(|host| host.name.as_str()).collect();
    assert_eq!(names, ["Reviews.sample.svc.cluster.local:80", "allow_any"], "Envoy would refuse the other");
}

#[test]
fn a_domain_stays_with_the_first_host_that_has_it() {
    let key = sidecar(InterceptionMode::Redirect);
    let host = |name| {
        let made = service(&fixture(name, vec![port(80, PortProtocol::Http)]), &key);
        made.virtual_hosts[0].1.clone()
    };
    let (a, b) = (host("a"), host("b"));
    let table: rds::RouteConfiguration =
        decode(&route("80", &Client::new(&key, &PolicySnapshot::default()), [&a, &b, &a].into_iter()));
    let has_vip: Vec<_> = table
        .virtual_hosts
        .iter()
        .map(|host| (host.name.as_str(), host.domains.contains(&"10.96.0.10".to_owned())))
        .collect();
    let expected = [
        ("a.sample.svc.cluster.local:80", true),
        ("b.sample.svc.cluster.local:80", false),
        ("allow_any", false),
    ];
    assert_eq!(has_vip, expected);
}
