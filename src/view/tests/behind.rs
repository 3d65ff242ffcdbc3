//! What clients find behind a port at the addresses themselves.

use std::sync::Arc;

use super::*;
use crate::model::policy::{
    MeshConfig, MtlsMode, PeerAuthentication, PolicyId, PolicyMeta, WorkloadSelector,
};
use crate::model::{Dialect, InterceptionMode, ProxyKind, ProxyView, Resolution};
use crate::registry::PolicyObject;
use crate::view::explain::{Nothing, original_dst};
use crate::view::{Behind, Client, OutboundKey};

/// What a sidecar of `network` finds behind a port of `helloworld`.
fn behind(world: &World, network: &str, port: u16) -> Behind {
    let key = OutboundKey {
        kind: ProxyKind::Sidecar,
        cluster: "east".into(),
        network: network.into(),
        requested_view: Default::default(),
        namespace: "sample".into(),
        dns_domain: "sample.svc.cluster.local".into(),
        mode: InterceptionMode::Redirect,
        dialect: Dialect::Vanilla,
        families: IpFamilies::V4,
        bind: None,
        east_west: false,
        sidecar: None,
        gateways: Vec::new(),
        tunnels: Vec::new(),
        targets: Vec::new(),
        labels: Default::default(),
    };
    let client = Client::new(&key, &world.policies).under(&world.mesh);
    Behind::of(&world.registry.host(HOST)[0].load(), port, &client)
}

#[test]
fn addresses_of_networks_that_are_not_reached_are_left_out() {
    let mut world =
        World::new(&[("east", "net-east"), ("west", "net-west"), ("north", "net-north"), ("any", "")]);
    world.mesh = MeshRules::new("cluster.local", "istio-system", [("net-east".into(), "net-north".into())]);
    // Each cluster has a name of its own for the port.
    world.port_name.insert("north", "web");
    let world = world
        .pods("east", &[pod("10.0.0.1")])
        .pods("west", &[Pod { mtls: false, ..pod("10.0.0.2") }])
        .pods("north", &[pod("10.0.0.3")])
        .pods("any", &[pod("10.0.0.4")]);
    let found = |network: &str| {
        let behind = behind(&world, network, 5000);
        let addresses: Vec<_> = behind.addresses.iter().map(ToString::to_string).collect();
        (addresses, behind.takes_mtls)
    };
    let of = |last: &[u8]| -> Vec<_> { last.iter().map(|last| format!("10.0.0.{last}")).collect() };
    assert_eq!(found("net-east"), (of(&[1, 3, 4]), true), "the foreign one without a sidecar is not asked");
    assert_eq!(found("net-west"), (of(&[2, 4]), false));
    assert_eq!(
        behind(&world, "net-east", 5001),
        Behind::default(),
        "nothing is behind it: nothing takes mTLS"
    );
}

#[test]
fn r4_12_workloads_that_ask_for_no_mtls_take_none() {
    let mut world = World::new(&[("east", "net-east")]).pods("east", &[pod("10.0.0.1")]);
    assert!(behind(&world, "net-east", 5000).takes_mtls);
    let plain = PeerAuthentication {
        meta: PolicyMeta {
            created: 1,
            id: PolicyId::new(MeshConfig::default().root_namespace.as_str(), "plain"),
        },
        selector: WorkloadSelector::default(),
        mode: Some(MtlsMode::Disable),
        ports: Vec::new(),
    };
    let plain = PolicyObject::PeerAuthentication(Arc::new(plain));
    world.policies = PolicySnapshot::with(MeshConfig::default(), [plain]);
    let found = behind(&world, "net-east", 5000);
    assert!(!found.takes_mtls && found.policies.iter().any(|part| part.scope.as_str() == "istio-system"));
}

#[test]
fn captured_sidecars_ask_for_no_endpoints_of_headless_services() {
    for (resolution, told) in
        [(Resolution::Passthrough, Some(Nothing::OriginalDst)), (Resolution::default(), None)]
    {
        let mut world = World::new(&[("east", "net-east")]);
        world.service.resolution = resolution;
        let world = world.pods("east", &[pod("10.0.0.1")]);
        let (viewer, name) = (world.from("net-east/east"), whole());
        let code = |view: &ProxyView, name: &EdsName| {
            original_dst(view, viewer.inputs(name), name, &viewer.key).map(|absence| absence.code)
        };
        let view = super::rules::proxy("sample", &[]);
        assert_eq!(code(&ProxyView { mode: InterceptionMode::Redirect, ..view.clone() }, &name), told);
        assert_eq!(code(&ProxyView { mode: InterceptionMode::None, ..view.clone() }, &name), None);
        assert_eq!(code(&view, &EdsName { port: 5001, ..name.clone() }), None, "there is no such port");
    }
}
