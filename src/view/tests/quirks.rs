//! Our answer and the peer's, row by row of the register.

use super::*;
use crate::model::policy::{Failover, LocalityLb, MeshConfig, OutlierDetection};
use crate::model::{Addresses, Quirk, Quirks};
use crate::view::Target;

impl World {
    fn peer(mut self, rows: &[Quirk]) -> Self {
        self.mesh = self.mesh.clone().with_quirks(Quirks::of(rows.iter().copied()));
        self
    }
}

/// Pods of `west` as a sidecar of `east` sees them, on our side and with the peer's answer in some rows.
fn differs(world: impl Fn() -> World, rows: &[Quirk], ours: &[&str], peers: &[&str]) {
    world().from("net-east/east").sees(ours);
    world().peer(rows).from("net-east/east").sees(peers);
}

#[test]
fn q10_either_label_makes_a_service_sticky() {
    let world = || {
        let mut world = two_networks();
        world.service.labels.insert("istio.io/persistent-session-header".into(), "x".into());
        world.pods("east", &[Pod { health: Health::Draining, ..pod("10.10.0.1") }])
    };
    differs(world, &[Quirk::Q10], &["10.10.0.1*1"], &[]);
}

#[test]
fn q11_unready_endpoints_give_a_gateway_no_weight() {
    let sick = || Pod { health: Health::Unhealthy, ..pod("10.10.0.2") };
    let world = || two_networks().pods("west", &[pod("10.10.0.1"), sick()]);
    differs(world, &[Quirk::Q11], &["172.30.0.2:15443*1"], &["172.30.0.2:15443*2"]);
    let alone = || two_networks().pods("west", &[sick()]);
    differs(alone, &[Quirk::Q11], &[], &["172.30.0.2:15443*1"]);
}

#[test]
fn q12_and_q26_pods_behind_gateways_without_mtls_are_hidden() {
    let world = || {
        World::new(&[("east", "net-east"), ("west", "net-west")])
            .gateway("west", "net-west", "172.30.0.2", 0)
            .pods("west", &[pod("10.10.0.1")])
    };
    differs(world, &[Quirk::Q12, Quirk::Q26], &[], &["10.10.0.1*1"]);
    world().peer(&[Quirk::Q26]).from("net-east/east").sees(&[]);
}

#[test]
fn q26_a_network_without_gateway_is_hidden() {
    let world =
        || World::new(&[("east", "net-east"), ("west", "net-west")]).pods("west", &[pod("10.10.0.1")]);
    differs(world, &[Quirk::Q26], &[], &["10.10.0.1*1"]);
}

#[test]
fn q14_nothing_is_lost_where_gateways_do_not_divide_the_scale() {
    // The proxy reaches two of the three gateways; the peer's scale is that of all three.
    let world = || {
        two_networks()
            .gateway("west", "net-west", "172.30.0.3", 15443)
            .gateway("west", "net-west", "fd00::1", 15443)
            .pods("west", &[pod("10.10.0.1"), pod("10.10.0.2")])
    };
    let sees = |rows: &[Quirk], expected: &str| world().peer(rows).from("net-east/east").sees(&[expected]);
    sees(&[], "172.30.0.2:15443*2 172.30.0.3:15443*2");
    sees(&[Quirk::Q29], "172.30.0.2:15443*3 172.30.0.3:15443*3");
    sees(&[Quirk::Q14, Quirk::Q29], "172.30.0.2:15443*2 172.30.0.3:15443*2");
}

#[test]
fn q15_a_gateway_without_port_is_none_for_routers() {
    let world = || {
        World::new(&[("east", "net-east"), ("west", "net-west")])
            .gateway("west", "net-west", "172.30.0.2", 0)
            .pods("west", &[pod("10.10.0.1")])
    };
    let sent = |world: World| {
        let viewer = world.from("net-east/east").with(|key| key.role = Role::Router);
        let sent = viewer.assignment(&whole()).0;
        sent.endpoints().map(|endpoint| format!("{:?}", endpoint.target)).collect::<Vec<_>>()
    };
    assert_eq!(sent(world()), [""; 0]);
    assert_eq!(sent(world().peer(&[Quirk::Q15])), [format!("{:?}", Target::Pipe("172.30.0.2".into()))]);
}

#[test]
fn q16_huge_weights_keep_their_ratio() {
    let heavy = |address| Pod { weight: u32::MAX, ..pod(address) };
    let world = || two_networks().pods("east", &[heavy("10.10.0.1"), heavy("10.10.0.2")]);
    let group = |world: World| {
        let viewer = world.from("net-east/east");
        let sent = viewer.assignment(&whole()).0;
        (sent.groups[0].weight, sent.groups[0].endpoints.iter().map(|one| one.weight).collect::<Vec<_>>())
    };
    let (sum, parts) = group(world());
    assert_eq!((parts[0], u64::from(sum)), (parts[1], parts.iter().map(|&one| u64::from(one)).sum()));
    assert_eq!(group(world().peer(&[Quirk::Q16])), (u32::MAX - 1, vec![u32::MAX; 2]), "wrapped around");
}

#[test]
fn q17_endpoints_without_address_are_never_sent() {
    let world = || {
        let mut world = World::new(&[("east", "net-east")]).pods("east", &[pod("10.10.0.1")]);
        let cell = world.registry.host(HOST).remove(0);
        let mut shard = (*cell.load().shards[0]).clone();
        let mut endpoints = shard.endpoints.to_vec();
        endpoints[0].addresses = Addresses::default();
        shard.endpoints = endpoints.into();
        world.writers.get_mut("east").expect("known").0.set(cell.key().clone(), shard);
        world
    };
    differs(world, &[Quirk::Q17], &[], &["*1"]);
}

#[test]
fn q27_a_gateway_comes_once() {
    let at = |address, locality| Pod { locality, ..pod(address) };
    let world = || two_networks().pods("west", &[at("10.10.0.1", "r1"), at("10.10.0.2", "r2")]);
    let gateway = "172.30.0.2:15443";
    let (once, twice) = (format!("{gateway}*2"), format!("{gateway}*1"));
    differs(world, &[Quirk::Q27], &[&once], &[&twice, &twice]);
    let plain = || two_networks().pods("west", &[Pod { mtls: false, ..pod("10.10.0.1") }]);
    differs(plain, &[Quirk::Q27], &[], &[""]);
}

#[test]
fn q29_gateways_elsewhere_do_not_change_weights() {
    let world =
        || two_networks().gateway("west", "net-west", "172.30.0.3", 15443).pods("east", &[pod("10.10.0.1")]);
    differs(world, &[Quirk::Q29], &["10.10.0.1*1"], &["10.10.0.1*2"]);
}

#[test]
fn q29_under_it_an_assignment_reads_every_network() {
    let world = two_networks().pods("east", &[pod("10.10.0.1")]).peer(&[Quirk::Q29]);
    let read = world.from("net-east/east").assignment(&whole()).0.networks_read;
    assert_eq!(read.iter().map(|(id, _)| id.to_string()).collect::<Vec<_>>(), [""]);
}

/// The priorities of two regions as a proxy of `r1` sees them.
fn regions(mesh: MeshConfig, rows: &[Quirk]) -> Vec<u32> {
    let at = |address, locality| Pod { locality, ..pod(address) };
    let mut world =
        World::new(&[("c1", "n1")]).pods("c1", &[at("10.0.0.1", "r1"), at("10.0.0.2", "r2")]).peer(rows);
    world.policies = PolicySnapshot::with(mesh, []);
    let viewer = world.from("n1/c1").with(|key| key.locality = Some(Locality::parse("r1")));
    let sent = viewer.assignment(&whole()).0;
    sent.groups.iter().map(|group| group.priority).collect()
}

#[test]
fn q19_the_meshs_outlier_detection_switches_failover_on() {
    let mesh =
        || MeshConfig { outlier_detection: Some(OutlierDetection::default()), ..MeshConfig::default() };
    assert_eq!((regions(mesh(), &[]), regions(mesh(), &[Quirk::Q19])), (vec![0, 1], vec![0, 0]));
    assert_eq!(regions(MeshConfig::default(), &[]), [0, 0], "default failover needs outlier detection");
}

#[test]
fn q28_explicit_failover_needs_no_outlier_detection() {
    let failover = vec![Failover { from: "r1".into(), to: "r2".into() }];
    let setting = LocalityLb { failover, ..LocalityLb::default() };
    let mesh = || MeshConfig { locality_lb: Some(setting.clone()), ..MeshConfig::default() };
    assert_eq!((regions(mesh(), &[]), regions(mesh(), &[Quirk::Q28])), (vec![0, 1], vec![0, 0]));
}

#[test]
fn q19_the_meshs_health_threshold_hides_unready_endpoints() {
    let careful = OutlierDetection { min_health_percent: 50, ..OutlierDetection::default() };
    let mesh = MeshConfig { outlier_detection: Some(careful), ..MeshConfig::default() };
    let sick = Pod { health: Health::Unhealthy, ..pod("10.0.0.2") };
    let sent = |rows: &[Quirk]| {
        let mut world = World::new(&[("c1", "n1")]).pods("c1", &[pod("10.0.0.1"), sick.clone()]).peer(rows);
        world.policies = PolicySnapshot::with(mesh.clone(), []);
        let viewer = world.from("n1/c1");
        let assignment = viewer.assignment(&whole()).0;
        assignment.endpoints().count()
    };
    assert_eq!((sent(&[]), sent(&[Quirk::Q19])), (1, 2));
}
