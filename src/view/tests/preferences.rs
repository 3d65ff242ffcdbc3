//! Localities as proxies see them (R4.29–R4.36).

use super::*;
use crate::model::policy::{Distribute, Failover, LocalityLb, MeshConfig, ZoneAwareLb};
use crate::model::{Features, Name, TrafficDistribution};
use crate::view::lb;

/// Two pods here, and three behind the gateway of another region, under a setting of the mesh.
fn world(mesh: MeshConfig) -> World {
    let at = |address, locality| Pod { locality, ..pod(address) };
    let mut world =
        two_networks().pods("east", &[at("10.1.0.1", "us-east/a"), at("10.1.0.2", "us-east/b")]).pods(
            "west",
            &[at("10.2.0.1", "us-west/a"), at("10.2.0.2", "us-west/b"), at("10.2.0.3", "us-west/b")],
        );
    world.policies = PolicySnapshot::with(mesh, []);
    world
}

fn groups(world: &World, from: &str) -> Vec<String> {
    let labels = vec![
        (Name::from("topology.istio.io/network"), Name::from("net-east")),
        (Name::from("topology.kubernetes.io/region"), Name::from("us-east")),
        (Name::from("topology.kubernetes.io/zone"), Name::from("a")),
    ];
    let viewer = world.from("net-east/east").with(|key| {
        key.locality = Some(Locality::parse(from));
        key.labels = Some(labels);
    });
    let sent = viewer.assignment(&whole()).0;
    let one = |group: &crate::view::LocalityGroup<'_>| {
        let weights: Vec<_> = group.endpoints.iter().map(|endpoint| endpoint.weight.to_string()).collect();
        format!("{} {} {}: {}", group.locality, group.priority, group.weight, weights.join(" "))
    };
    sent.groups.iter().map(one).collect()
}

fn with(setting: LocalityLb) -> MeshConfig {
    MeshConfig { locality_lb: Some(setting), ..MeshConfig::default() }
}

#[test]
fn d03_shares_of_a_gateways_localities_add_up() {
    let to = vec![("us-east/*".into(), 70), ("us-west/*".into(), 30)];
    let rule = Distribute { from: "us-east/*".into(), to };
    let world = world(with(LocalityLb { distribute: vec![rule], ..LocalityLb::default() }));
    assert_eq!(groups(&world, "us-east/a"), ["us-east/a 0 35: 1", "us-east/b 0 35: 1", "us-west/a 0 30: 3"]);
    assert_eq!(groups(&world, "eu/a"), ["us-east/a 0 1: 1", "us-east/b 0 1: 1", "us-west/a 0 3: 3"]);
}

#[test]
fn r4_32_localities_without_a_share_are_hidden() {
    let rule = Distribute { from: "*".into(), to: vec![("us-east/a".into(), 100)] };
    let world = world(with(LocalityLb { distribute: vec![rule], ..LocalityLb::default() }));
    assert_eq!(groups(&world, "us-east/a"), ["us-east/a 0 100: 1"]);
    let decides = |address| world.from("net-east/east").decides(address);
    assert_eq!((decides("10.1.0.1"), decides("10.1.0.2")), (Decision::Direct, Decision::NoShare));
    assert_eq!(decides("10.2.0.1"), Decision::NoShare);
}

#[test]
fn r4_33_regions_fail_over_where_a_rule_says_so() {
    let failover = vec![Failover { from: "us-east".into(), to: "us-west".into() }];
    let world = world(with(LocalityLb { failover, ..LocalityLb::default() }));
    assert_eq!(groups(&world, "us-east/a"), ["us-east/a 0 1: 1", "us-east/b 1 1: 1", "us-west/a 2 3: 3"]);
}

#[test]
fn r4_30_a_service_prefers_its_own_zone_and_gateways_come_last() {
    let mut world = two_networks();
    world.service.traffic_distribution = TrafficDistribution::PreferSameZone;
    let at = |address, locality| Pod { locality, ..pod(address) };
    let world = world
        .pods("east", &[at("10.1.0.1", "us-east/a"), at("10.1.0.2", "us-east/b")])
        .pods("west", &[at("10.2.0.1", "us-east/a")]);
    assert_eq!(groups(&world, ""), ["us-east/a 0 1: 1", "us-east/a 2 1: 1", "us-east/b 1 1: 1"]);
}

#[test]
fn r4_35_zone_aware_routing_prefers_regions() {
    let zones = ZoneAwareLb::default();
    let world = world(MeshConfig { zone_aware_lb: Some(zones), ..MeshConfig::default() });
    assert_eq!(groups(&world, "us-east"), ["us-east/a 0 1: 1", "us-east/b 0 1: 1", "us-west/a 1 3: 3"]);
}

#[test]
fn r4_36_weights_of_localities_count_where_a_setting_says_so() {
    let says = |own: &LocalityLb| {
        let mesh = MeshConfig { locality_lb: Some(own.clone()), ..MeshConfig::default() };
        let setting = lb::setting(None, TrafficDistribution::Any, &mesh);
        lb::is_locality_weighted(&Features::default(), setting)
    };
    let rule = Distribute { from: "*".into(), to: vec![("*".into(), 100)] };
    let keys = vec![Name::from("app")];
    let explicit = LocalityLb { failover_priority: keys, ..LocalityLb::default() };
    assert!(says(&explicit) && !says(&LocalityLb { enabled: false, ..explicit }));
    let shares = LocalityLb { distribute: vec![rule], ..LocalityLb::default() };
    assert!(says(&shares) && !says(&LocalityLb { enabled: false, ..shares }), "R4.29: it is switched off");
    assert!(!says(&LocalityLb::default()));
    let always = Features { locality_weighted: true, ..Features::default() };
    assert!(lb::is_locality_weighted(&always, None));
}
