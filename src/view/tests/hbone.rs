//! HBONE to endpoints, and what comes to a waypoint for the address of a service (R4.16, R4.17, R4.24).

use super::*;
use crate::model::Features;
use crate::view::{InternalListener, SocketMatch, Target, VipProtocol};

/// `listener>address match`, a listener only where HBONE is spoken.
fn sent(viewer: &Viewer<'_>, name: &EdsName) -> Vec<String> {
    let one = |endpoint: &AssignedEndpoint<'_>| {
        let listener = match endpoint.target {
            Target::Internal { listener, .. } => format!("{}>", listener.name()),
            _ => String::new(),
        };
        let socket = match endpoint.socket {
            SocketMatch::Plain => "plain".to_owned(),
            SocketMatch::TlsMode => format!("tlsMode={}", endpoint.tls_mode().unwrap_or_default()),
            SocketMatch::Tunnel => "tunnel".to_owned(),
        };
        format!("{listener}{} {socket}", shown(endpoint))
    };
    viewer.assignment(name).0.endpoints().map(one).collect()
}

pub(super) fn ambient(world: &mut World, change: impl FnOnce(&mut Features)) {
    let mut features = Features { ambient: true, ..Features::default() };
    change(&mut features);
    world.mesh = world.mesh.clone().with_features(features.effective());
}

fn pods() -> World {
    let redirected = |pod| Pod { redirected: true, ..pod };
    World::new(&[("c1", "n1")]).pods(
        "c1",
        &[
            redirected(Pod { mtls: false, ..pod("10.0.0.1") }),
            redirected(pod("10.0.0.2")),
            Pod { mtls: false, ..pod("10.0.0.3") },
        ],
    )
}

#[test]
fn r4_16_pods_whose_nodes_take_hbone_get_it() {
    let mut world = pods();
    ambient(&mut world, |_| {});
    let sees = |world: &World, hbone| sent(&world.from("n1/c1").with(|key| key.hbone = hbone), &whole());
    let mtls = "10.0.0.2 tlsMode=istio";
    assert_eq!(sees(&world, true), ["connect_originate>10.0.0.1 tunnel", mtls, "10.0.0.3 plain"]);
    assert_eq!(sees(&world, false), ["10.0.0.1 plain", mtls, "10.0.0.3 plain"], "it may not send it");
    ambient(&mut world, |features| features.prefer_hbone = true);
    let preferred = "connect_originate>10.0.0.2 tunnel";
    assert_eq!(sees(&world, true), ["connect_originate>10.0.0.1 tunnel", preferred, "10.0.0.3 plain"]);
}

#[test]
fn r4_16_no_proxy_sends_hbone_without_the_ambient_mesh() {
    let policies = PolicySnapshot::default();
    let mut world = pods();
    let hbone = |world: &World| {
        let candidates: Vec<_> = world.registry.host(HOST).iter().map(|cell| cell.load()).collect();
        EdsKey::of(&rules::proxy("a", &[]), &whole(), &candidates, &policies, &world.mesh).hbone
    };
    assert!(!hbone(&world));
    ambient(&mut world, |_| {});
    assert!(hbone(&world));
}

fn vip() -> EdsName {
    EdsName { inbound_vip: Some(VipProtocol::Http), ..whole() }
}

fn as_waypoint(world: &World) -> Viewer<'_> {
    world.from("n1/c1").with(|key| (key.role, key.hbone) = (Role::Waypoint, true))
}

#[test]
fn r4_16_a_waypoint_sends_hbone_to_sidecars_too_and_chooses_no_socket_for_it() {
    let mut world = pods();
    ambient(&mut world, |_| {});
    let tunnelled = ["connect_originate>10.0.0.1 plain", "connect_originate>10.0.0.2 tlsMode=istio"];
    assert_eq!(sent(&as_waypoint(&world), &vip()), [tunnelled[0], tunnelled[1], "10.0.0.3 plain"]);
    let outbound = ["connect_originate>10.0.0.1 tunnel", "10.0.0.2 tlsMode=istio", "10.0.0.3 plain"];
    assert_eq!(sent(&as_waypoint(&world), &whole()), outbound);
}

#[test]
fn r4_16_only_waypoints_have_names_for_the_address_of_a_service() {
    let mut world = pods();
    ambient(&mut world, |_| {});
    for role in [Role::Sidecar, Role::Router, Role::Ingress, Role::EastWest] {
        assert!(sent(&world.from("n1/c1").with(|key| key.role = role), &vip()).is_empty(), "{role:?}");
    }
}

#[test]
fn r4_24_a_gateway_behind_which_hbone_goes_on_has_no_match_there() {
    let mut world = World::new(&[("c1", "n1"), ("c2", "n2")]).pods("c2", &[pod("10.0.0.1")]);
    let gateway = NetworkGateway {
        hbone_port: 15008,
        ..NetworkGateway::new("n2".into(), "c2".into(), "172.30.0.2".parse().expect("address"))
    };
    let (writer, ..) = world.writers.get_mut("c2").expect("c2");
    writer.set_networks(Some("n2".into()), vec![gateway]);
    ambient(&mut world, |features| features.multi_network = true);
    world.mesh = world.mesh.clone().with_config_cluster(Some("elsewhere".into()));
    let inner = InternalListener::InnerConnectOriginate.name();
    assert_eq!(sent(&as_waypoint(&world), &whole()), [format!("{inner}>172.30.0.2 tunnel")]);
    assert_eq!(sent(&as_waypoint(&world), &vip()), [format!("{inner}>172.30.0.2 plain")]);
}
