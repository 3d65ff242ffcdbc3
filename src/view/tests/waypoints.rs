//! Waypoints in place of a service's own endpoints (R4.37).

use super::hbone::ambient;
use super::*;
use crate::model::policy::{MeshConfig, ServiceSettings};
use crate::view::{InternalListener, SocketMatch, Target};

const WAYPOINT: &str = "w.sample.svc.cluster.local";

fn waypoint_key() -> ServiceKey {
    ServiceKey::new("sample", WAYPOINT)
}

/// Two networks with gateways for HBONE; the service has a waypoint and a virtual address.
fn world() -> World {
    let mut world = World::new(&[("east", "net-east"), ("west", "net-west")]);
    for (cluster, network, address) in
        [("east", "net-east", [172, 30, 0, 1]), ("west", "net-west", [172, 30, 0, 2])]
    {
        let gateway = NetworkGateway {
            hbone_port: 15008,
            ..NetworkGateway::new(network.into(), cluster.into(), address.into())
        };
        let (writer, ..) = world.writers.get_mut(cluster).expect("known cluster");
        writer.set_networks(Some(network.into()), vec![gateway]);
    }
    world.service.ingress_waypoint = Some(waypoint_key());
    world.service.vips = vec![("east".into(), vec![[10, 96, 0, 1].into()])];
    ambient(&mut world, |_| {});
    world.pods("east", &[pod("10.10.0.1")]).pods("west", &[pod("10.20.0.1")])
}

impl World {
    /// The waypoint in one cluster.
    fn waypoint(mut self, cluster: &'static str, pods: &[Pod]) -> Self {
        let (writer, network, _) = self.writers.get_mut(cluster).expect("known cluster");
        let port = ServicePort {
            number: 15008,
            name: "hbone".into(),
            transport: Transport::Tcp,
            protocol: PortProtocol::Http,
        };
        let service = Service { key: waypoint_key(), ports: vec![port], ..Service::default() };
        let endpoints =
            pods.iter().map(|pod| Endpoint { port: 15008, ..endpoint(cluster, network, "hbone", pod) });
        let shard = EndpointShard::new(cluster.into(), Some(Arc::new(service)), endpoints.collect());
        writer.set(waypoint_key(), shard);
        self
    }

    fn ingress(&self) -> Viewer<'_> {
        self.from("net-east/east").with(|key| key.role = Role::Ingress)
    }
}

fn name() -> EdsName {
    EdsName::outbound(5000, &HOST.into())
}

#[test]
fn r4_37_ingress_gateways_get_the_waypoint_by_hbone() {
    let world = world().waypoint("east", &[pod("10.10.0.9"), Pod { weight: 3, ..pod("10.10.0.8") }]);
    let ingress = world.ingress();
    ingress.sees(&["10.10.0.9:15008*1 10.10.0.8:15008*3"]);
    let (assignment, decisions) = ingress.assignment(&name());
    assert_eq!(assignment.waypoint_to.map(|to| to.to_string()).as_deref(), Some("10.96.0.1:5000"));
    assert!(assignment.endpoints().all(|one| one.socket == SocketMatch::Tunnel
        && matches!(one.target, Target::Internal { listener: InternalListener::ConnectOriginate, .. })));
    let all: Vec<_> = decisions.iter().map(|(_, decision)| *decision).collect();
    assert_eq!(all, [Decision::ViaWaypoint; 2]);
    let version = world.registry.service(&waypoint_key()).expect("the waypoint").load().version;
    assert_eq!(assignment.waypoint_read, Some((waypoint_key(), version)));
}

#[test]
fn r4_37_others_go_straight() {
    let with = || world().waypoint("east", &[pod("10.10.0.9")]);
    let own = "10.10.0.1*1";
    for role in [Role::Sidecar, Role::Waypoint, Role::EastWest] {
        let world = with();
        let viewer = world.from("net-east/east").with(|key| key.role = role);
        assert_eq!(viewer.assignment(&name()).0.waypoint_read, None, "{role:?}");
    }
    let mut off = with();
    ambient(&mut off, |features| features.ingress_waypoints = false);
    off.ingress().sees(&[&format!("{own} 172.30.0.2:15443*1")]);
    let sni = with();
    sni.ingress().sees_as(&EdsName::sni_dnat(5000, &HOST.into()), &[&format!("{own} 172.30.0.2:15443*1")]);
    let mut bare = world();
    bare.service.vips.clear();
    let bare = bare.pods("east", &[pod("10.10.0.1")]).pods("west", &[pod("10.20.0.1")]);
    let bare = bare.waypoint("east", &[pod("10.10.0.9")]);
    bare.ingress().sees(&[&format!("{own} 172.30.0.2:15443*1")]);
}

#[test]
fn r4_37_without_an_endpoint_of_the_waypoint_there_is_none() {
    for world in [world(), world().waypoint("east", &[])] {
        world.ingress().sees(&[]);
        assert_eq!(world.ingress().decides("10.10.0.1"), Decision::NoWaypoint);
        let told = world.ingress().explains();
        let last = told.endpoints[0].chain.last().expect("a check").clone();
        assert_eq!((last.check, last.ok), ("waypoint", false));
        assert!(told.waypoint.is_some_and(|waypoint| waypoint.endpoints.is_empty()));
    }
}

#[test]
fn r4_37_a_waypoint_of_another_network_is_behind_the_gateways_for_hbone() {
    let mut world = world().waypoint("west", &[pod("10.20.0.9")]);
    world.ingress().sees(&[]);
    let told = world.ingress().explains().waypoint.expect("a waypoint");
    assert_eq!((told.known, told.endpoints[0].decision), (true, Decision::MtlsRequired));
    ambient(&mut world, |features| (features.multi_network, features.multi_network_ingress) = (true, true));
    world.mesh = world.mesh.clone().with_config_cluster(Some("elsewhere".into()));
    world.ingress().sees(&["172.30.0.2:15008*1"]);
}

#[test]
fn r4_37_a_cluster_local_service_has_no_waypoint_elsewhere() {
    let mut world = world().waypoint("east", &[pod("10.10.0.9")]).waypoint("west", &[pod("10.20.0.9")]);
    let local = MeshConfig {
        service_settings: vec![ServiceSettings { cluster_local: true, hosts: vec![HOST.into()] }],
        ..MeshConfig::default()
    };
    world.policies = PolicySnapshot::with(local, []);
    world.ingress().sees(&["10.10.0.9:15008*1"]);
    assert_eq!(
        world.ingress().explains().waypoint.expect("one").endpoints[1].decision,
        Decision::OtherCluster
    );
}
