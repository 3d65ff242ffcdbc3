//! Shares by locality where gateways, standings and weights meet (R4.32 with D3, D5, D35).

use super::*;
use crate::model::policy::{Distribute, LocalityLb, MeshConfig};
use crate::model::{Quirks, Standing};

/// A rule of the mesh.
fn rule(from: &str, to: &[(&str, u32)]) -> MeshConfig {
    let to = to.iter().map(|&(pattern, share)| (pattern.into(), share)).collect();
    let distribute = vec![Distribute { from: from.into(), to }];
    let setting = LocalityLb { distribute, ..LocalityLb::default() };
    MeshConfig { locality_lb: Some(setting), ..MeshConfig::default() }
}

fn at(address: &'static str, locality: &'static str) -> Pod {
    Pod { locality, ..pod(address) }
}

impl World {
    fn under(mut self, mesh: MeshConfig) -> Self {
        self.policies = PolicySnapshot::with(mesh, []);
        self
    }

    /// So many gateways in front of a cluster.
    fn gateways(mut self, count: u8, cluster: &'static str, network: &str) -> Self {
        for number in 0..count {
            self = self.gateway(cluster, network, &format!("172.30.9.{number}"), 15443);
        }
        self
    }
}

/// `locality priority weight` of each group, for a sidecar of `place` in us-east/a.
fn weights(world: &World, place: &str) -> Vec<String> {
    let viewer = world.from(place).with(|key| key.locality = Some(Locality::parse("us-east/a")));
    let sent = viewer.assignment(&whole()).0;
    let shown = |group: &crate::view::LocalityGroup<'_>| {
        format!("{} {} {}", group.locality, group.priority, group.weight)
    };
    sent.groups.iter().map(shown).collect()
}

#[test]
fn d03_no_share_is_lost_between_several_gateways() {
    let rule = || rule("us-east/*", &[("us-east/*", 80), ("us-west/a", 15), ("us-west/b", 5)]);
    let world = |gateways| {
        World::new(&[("east", "net-east"), ("west", "net-west")])
            .gateways(gateways, "west", "net-west")
            .pods("east", &[at("10.1.0.1", "us-east/a")])
            .pods("west", &[at("10.2.0.1", "us-west/a"), at("10.2.0.2", "us-west/b")])
            .under(rule())
    };
    for gateways in [1, 2, 3, 7, 8] {
        let seen = weights(&world(gateways), "net-east/east");
        assert_eq!(seen, ["us-east/a 0 80", "us-west/a 0 20"], "{gateways} gateways");
    }
}

#[test]
fn r4_32_what_stays_of_a_locality_keeps_the_rest_of_its_share() {
    let world = World::new(&[("east", "net-east"), ("west", "net-west")])
        .gateways(3, "west", "net-west")
        .pods("east", &[at("10.1.0.1", "us-east/b"), at("10.1.0.2", "us-west/b")])
        .pods("west", &[at("10.2.0.1", "us-west/a"), at("10.2.0.2", "us-west/b")])
        .under(rule("us-east/*", &[("us-east/*", 80), ("us-west/a", 15), ("us-west/b", 5)]));
    // us-west/b has one pod here, and one that the gateways in us-west/a stand for.
    let seen = weights(&world, "net-east/east");
    assert_eq!(seen, ["us-east/b 0 80", "us-west/a 0 17", "us-west/b 0 3"]);
}

#[test]
fn d35_a_demoted_cluster_adds_nothing_to_the_share_of_its_locality() {
    let world = || {
        World::new(&[("c1", "n1"), ("c2", "n2"), ("c3", "n2")])
            .gateway("c2", "n2", "172.30.0.2", 15443)
            .pods("c1", &[at("10.1.0.1", "r1")])
            .pods("c2", &[at("10.2.0.1", "r2")])
            .pods("c3", &[at("10.3.0.1", "r2")])
            .under(rule("*", &[("r1", 70), ("r2", 30)]))
    };
    assert_eq!(weights(&world(), "n1/c1"), ["r1 0 70", "r2 0 30"]);
    let stale = world().standing("c3", Standing::Demoted);
    assert_eq!(weights(&stale, "n1/c1"), ["r1 0 70", "r2 0 30"]);
}

#[test]
fn q16_groups_of_a_proxy_without_rule_fit_together() {
    let heavy = |address, locality| Pod { weight: 3_000_000_000, ..at(address, locality) };
    let world = World::new(&[("c1", "n1")])
        .pods("c1", &[heavy("10.1.0.1", "r1"), heavy("10.1.0.2", "r2")])
        .under(rule("eu/*", &[("r1", 50), ("r2", 50)]));
    let viewer = world.from("n1/c1").with(|key| key.locality = Some(Locality::parse("us-east/a")));
    let sent = viewer.assignment(&whole()).0;
    let sum: u64 = sent.groups.iter().map(|group| u64::from(group.weight)).sum();
    assert!(sum <= u64::from(u32::MAX), "{sum}");
    for group in &sent.groups {
        assert_eq!(group.weight, group.endpoints.iter().map(|one| one.weight).sum::<u32>());
    }
}

#[test]
fn d35_endpoints_without_a_share_serve_nobody() {
    let world = || {
        World::new(&[("c1", "n1"), ("c2", "n1"), ("c3", "n3")])
            .gateway("c3", "n3", "172.30.0.3", 15443)
            .pods("c1", &[at("10.1.0.1", "r1")])
            .pods("c2", &[at("10.2.0.1", "r2")])
            .pods("c3", &[at("10.3.0.1", "r1")])
            .under(rule("*", &[("r2", 100)]))
    };
    let stale = world().standing("c2", Standing::Dropped);
    stale.from("n1/c1").sees(&["10.2.0.1*1"]);
    assert_eq!(stale.from("n1/c1").decides("10.2.0.1"), Decision::Direct);
    assert_eq!(stale.from("n1/c1").decides("10.3.0.1"), Decision::NoShare);
}

#[test]
fn q27_a_locality_without_endpoints_counts_as_one_at_the_peer() {
    let world = || {
        World::new(&[("east", "net-east"), ("west", "net-west")])
            .gateway("west", "net-west", "172.30.0.2", 15443)
            .pods("east", &[at("10.1.0.1", "us-west/a")])
            .pods("west", &[Pod { mtls: false, ..at("10.2.0.1", "us-west/b") }])
            .under(rule("us-east/*", &[("us-east/*", 70), ("us-west/*", 30)]))
    };
    assert_eq!(weights(&world(), "net-east/east"), ["us-west/a 0 30"]);
    let mut peer = world();
    peer.mesh = peer.mesh.with_quirks(Quirks::peer());
    assert_eq!(weights(&peer, "net-east/east"), ["us-west/a 0 15", "us-west/b 0 15"]);
}
