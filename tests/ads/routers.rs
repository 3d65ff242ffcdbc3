//! Routers and their Gateways, end to end over ADS.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tombolo::model::policy::{
    Destination, Gateway, GatewayHostName, GatewayServer, Headers, HostPattern, HttpAction, HttpRoute,
    PolicyId, PolicyKind, PolicyMeta, ServerTls, ServerTlsMode, TlsVersion, VirtualService, Weighted,
    WorkloadSelector,
};
use tombolo::model::{
    Endpoint, EndpointShard, ExportTo, Labels, PortProtocol, Service, ServiceKey, ServicePort, Transport,
    WorkloadCell, WorkloadId, WorkloadParts,
};
use tombolo::proto::discovery as wire;
use tombolo::registry::{PolicyObject, PolicyWrite};
use tombolo::xds::resource::ResourceType::{Cluster, Endpoint as Assignment, Listener, Route, Secret};

use super::client::{Delta, Sotw, node, sidecar, value};
use super::world::{World, eds, endpoints, host};

/// The label by which Gateways select the router.
const LABEL: (&str, &str) = ("istio", "ingressgateway");

fn labels() -> Labels {
    [(LABEL.0.into(), LABEL.1.into())].into_iter().collect()
}

fn id() -> WorkloadId {
    WorkloadId { cluster: "east".into(), namespace: "edge".into(), name: "gw".into() }
}

/// The pod of the router; `services` lead to it.
fn pod(services: &[ServiceKey]) -> WorkloadCell {
    let parts = WorkloadParts {
        labels: labels(),
        network: "net-east".into(),
        addresses: "10.0.0.9".parse::<std::net::IpAddr>().expect("an address").into(),
        ..WorkloadParts::of(&id())
    };
    WorkloadCell { services: services.iter().cloned().collect(), ..WorkloadCell::from(parts) }
}

fn router() -> wire::Node {
    node(
        "router~10.0.0.9~gw.edge~edge.svc.cluster.local",
        &[("CLUSTER_ID", "east"), ("NETWORK", "net-east"), ("NAMESPACE", "edge")],
    )
}

fn server(port: u16, protocol: PortProtocol, hosts: &str, tls: Option<ServerTlsMode>) -> GatewayServer {
    GatewayServer {
        port,
        protocol,
        port_name: "p".into(),
        bind: None,
        hosts: vec![GatewayHostName { namespace: None, host: HostPattern::new(hosts) }],
        tls: tls.map(|mode| ServerTls {
            mode,
            min_version: TlsVersion::V1_2,
            max_version: TlsVersion::V1_3,
            cipher_suites: Vec::new(),
            subject_alt_names: Vec::new(),
            client_optional: false,
        }),
        https_redirect: false,
    }
}

fn http(port: u16) -> GatewayServer {
    server(port, PortProtocol::Http, "*.example", None)
}

fn files(hosts: &str, certificate: &str) -> GatewayServer {
    let mode =
        ServerTlsMode::Files { certificate: certificate.into(), key: "/k".into(), ca: Some("/ca".into()) };
    server(443, PortProtocol::Https, hosts, Some(mode))
}

fn gateway(servers: Vec<GatewayServer>) -> PolicyWrite {
    let selector = WorkloadSelector::new(labels());
    let meta = PolicyMeta { created: 1, id: PolicyId::new("edge", "gw") };
    PolicyWrite::set(PolicyObject::Gateway(Arc::new(Gateway {
        meta,
        selector,
        servers,
        problems: Vec::new(),
    })))
}

fn no_gateway() -> PolicyWrite {
    PolicyWrite::remove(PolicyKind::Gateway, PolicyId::new("edge", "gw"))
}

/// `shop.example` behind the Gateway leads to a service.
fn routes(to: usize) -> PolicyWrite {
    let destination = Destination { host: host(to).into(), subset: "".into(), port: None };
    let forward = HttpAction::Forward(vec![Weighted { destination, weight: 1, headers: Headers::default() }]);
    let route = HttpRoute::new(forward);
    PolicyWrite::set(PolicyObject::VirtualService(Arc::new(VirtualService {
        meta: PolicyMeta { created: 1, id: PolicyId::new("edge", "routes") },
        hosts: vec![HostPattern::new("shop.example")],
        gateways: vec!["edge/gw".into()],
        export_to: ExportTo::Unset,
        http: vec![route],
        tls: Vec::new(),
        tcp: Vec::new(),
    })))
}

fn says(bytes: &[u8], text: &str) -> bool {
    String::from_utf8_lossy(bytes).contains(text)
}

/// A sidecar that has everything.
async fn satisfied(world: &World) -> Delta {
    let mut stream = Delta::open(world.address, sidecar("a", "east", "net-east")).await;
    for (kind, names) in [(Cluster, &[][..]), (Listener, &[]), (Route, &["80"])] {
        stream.subscribe(kind, names).await;
        stream.expect(kind).await;
    }
    stream
}

/// A world of two services with the Gateway, its routes and the router's pod.
async fn world() -> World {
    let mut world = World::start(2).await;
    world.east.apply([(id(), Some(pod(&[])))], []);
    world.registry.write_policies([gateway(vec![http(80)]), routes(0)]);
    world
}

#[tokio::test]
async fn a_router_follows_its_gateway_and_routes_and_sidecars_hear_nothing() {
    let world = world().await;
    let mut stream = Delta::open(world.address, router()).await;
    stream.subscribe(Cluster, &[]).await;
    assert_eq!(stream.expect(Cluster).await.names(), ["BlackHoleCluster", &eds(0), &eds(1)]);
    stream.subscribe(Assignment, &[&eds(0)]).await;
    let assignment = stream.expect(Assignment).await;
    let both = ["10.10.0.1:8080*1", "172.30.0.2:15443*1"];
    assert_eq!(endpoints(&assignment.resources[0].2), both, "both clusters, the other one by its gateway");
    stream.subscribe(Listener, &[]).await;
    let listeners = stream.expect(Listener).await;
    assert_eq!(listeners.names(), ["0.0.0.0_80"]);
    assert!(says(&listeners.resources[0].2, "http.80"), "the routes are asked for by this name");
    stream.subscribe(Route, &["http.80"]).await;
    let table = stream.expect(Route).await;
    assert!(says(&table.resources[0].2, "shop.example") && says(&table.resources[0].2, &eds(0)));

    let mut sidecar = satisfied(&world).await;
    let builds = || world.server.counts().service_builds.load(Ordering::Relaxed);
    let before = builds();
    // One more server.
    world.registry.write_policies([gateway(vec![http(80), http(8080)])]);
    let listeners = stream.expect(Listener).await;
    assert_eq!((listeners.names(), listeners.removed.len()), (vec!["0.0.0.0_8080"], 0));
    stream.subscribe(Route, &["http.8080"]).await;
    assert!(says(&stream.expect(Route).await.resources[0].2, "shop.example"));
    // Other routes.
    world.registry.write_policies([routes(1)]);
    let tables = stream.expect(Route).await;
    assert_eq!(tables.names(), ["http.80", "http.8080"]);
    assert!(tables.resources.iter().all(|(_, _, table)| says(table, &eds(1)) && !says(table, &eds(0))));
    assert_eq!(builds() - before, 0, "no service is looked at for that");
    // No Gateway.
    world.registry.write_policies([no_gateway()]);
    let mut removed = Vec::new();
    while removed.len() < 4 {
        let response = stream.next().await.expect("removals");
        stream.ack(&response).await;
        let emptied = response.resources.iter().filter(|(_, _, table)| !says(table, "shop.example"));
        removed.extend(emptied.map(|(name, ..)| name.clone()));
        removed.extend(response.removed);
    }
    removed.sort_unstable();
    assert_eq!(removed, ["0.0.0.0_80", "0.0.0.0_8080", "http.80", "http.8080"]);
    stream.silent().await;
    sidecar.silent().await;
    world.stop().await;
}

#[tokio::test]
async fn a_router_that_no_gateway_selects_hears_of_the_first_one_in_the_state_of_the_world() {
    let world = world().await;
    world.registry.write_policies([no_gateway()]);
    let mut stream = Sotw::open(world.address, router()).await;
    for kind in [Cluster, Listener] {
        stream.send(kind, &[], None).await;
        let response = stream.next().await.expect("an answer");
        stream.send(kind, &[], Some(&response)).await;
    }
    stream.silent().await;
    world.registry.write_policies([gateway(vec![http(80)])]);
    let response = stream.next().await.expect("a push");
    assert_eq!((response.type_url.as_str(), response.resources.len()), (Listener.url(), 1));
    assert!(says(&value(&response.resources[0]), "0.0.0.0_80"));
    stream.send(Listener, &[], Some(&response)).await;
    stream.send(Route, &["http.80"], None).await;
    let response = stream.next().await.expect("routes");
    assert!(says(&value(&response.resources[0]), &eds(0)));
    world.stop().await;
}

/// The record and endpoint of a Service that leads port 80 of the router's pod to `target`.
fn leading(target: u16) -> (ServiceKey, EndpointShard) {
    let key = ServiceKey::new("edge", "gw.edge.svc.cluster.local");
    let port = ServicePort {
        number: 80,
        name: "http".into(),
        transport: Transport::Tcp,
        protocol: PortProtocol::Http,
    };
    let record = Service { key: key.clone(), ports: vec![port], ..Service::default() };
    let own = std::slice::from_ref(&key);
    let endpoint = Endpoint::new("10.0.0.9".parse().expect("an address"), target, "http", pod(own).workload);
    (key, EndpointShard::new("east".into(), Some(Arc::new(record)), vec![endpoint]))
}

#[tokio::test]
async fn a_server_listens_where_the_service_of_the_router_leads_its_port() {
    let mut world = world().await;
    let (key, shard) = leading(8080);
    world.east.apply([(id(), Some(pod(std::slice::from_ref(&key))))], [(key, Some(Arc::new(shard)))]);
    let mut stream = Delta::open(world.address, router()).await;
    stream.subscribe(Listener, &[]).await;
    let listeners = stream.expect(Listener).await;
    assert_eq!(listeners.names(), ["0.0.0.0_8080"]);
    assert!(says(&listeners.resources[0].2, "http.8080"));
    stream.subscribe(Route, &["http.8080"]).await;
    assert!(says(&stream.expect(Route).await.resources[0].2, "shop.example"));
    let (key, shard) = leading(8081);
    world.east.set(key, shard);
    let listeners = stream.expect(Listener).await;
    assert_eq!(
        (listeners.names(), &*listeners.removed),
        (vec!["0.0.0.0_8081"], &["0.0.0.0_8080".to_owned()][..])
    );
    world.stop().await;
}

#[tokio::test]
async fn only_routers_with_such_a_gateway_get_the_names_of_its_files_and_each_in_a_message_of_its_own() {
    let world = world().await;
    world.registry.write_policies([gateway(vec![files("a.example", "/a"), files("b.example", "/b")])]);
    let names = ["file-cert:/a~/k", "file-cert:/b~/k", "file-root:/ca", "file-root:/etc/shadow"];
    let mut stream = Delta::open(world.address, router()).await;
    stream.subscribe(Listener, &[]).await;
    let listeners = stream.expect(Listener).await;
    assert_eq!(listeners.names(), ["0.0.0.0_443"]);
    assert!(names[..3].iter().all(|name| says(&listeners.resources[0].2, name)), "by secrets");
    stream.subscribe(Secret, &names).await;
    let (mut sent, mut removed) = (Vec::new(), Vec::new());
    while sent.len() < 3 || removed.is_empty() {
        let response = stream.expect(Secret).await;
        assert!(response.resources.len() <= 1, "the client may refuse one: {:?}", response.names());
        sent.extend(response.resources);
        removed.extend(response.removed);
    }
    let told: Vec<&str> = sent.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!((told, removed), (names[..3].to_vec(), vec![names[3].to_owned()]));
    assert!(says(&sent[0].2, "/a") && says(&sent[0].2, "/k") && says(&sent[2].2, "/ca"));

    let mut sotw = Sotw::open(world.address, router()).await;
    sotw.send(Listener, &[], None).await;
    let listeners = sotw.next().await.expect("listeners");
    sotw.send(Listener, &[], Some(&listeners)).await;
    sotw.send(Secret, &names, None).await;
    for name in &names[..3] {
        let response = sotw.next().await.expect("a secret");
        assert_eq!((response.type_url.as_str(), response.resources.len()), (Secret.url(), 1));
        assert!(says(&value(&response.resources[0]), name));
    }
    sotw.silent().await;

    let mut sidecar = satisfied(&world).await;
    sidecar.subscribe(Secret, &names).await;
    let answer = sidecar.expect(Secret).await;
    assert_eq!((answer.resources.len(), answer.removed.len()), (0, 4));
    world.stop().await;
}
