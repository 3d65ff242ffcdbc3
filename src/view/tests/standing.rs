//! Clusters that have not been heard for long (D35).

use super::*;
use crate::model::Standing;

impl World {
    pub(super) fn standing(mut self, cluster: &'static str, standing: Standing) -> Self {
        self.writers.get_mut(cluster).expect("known cluster").0.set_standing(standing);
        self
    }
}

impl Viewer<'_> {
    /// `priority: address*weight …`, one entry for each group.
    fn prefers(&self, expected: &[&str]) {
        let (assignment, _) = self.assignment(&whole());
        let group = |group: &crate::view::LocalityGroup<'_>| {
            let all = group.endpoints.iter().map(|e| format!("{}*{}", shown(e), e.weight));
            format!("{}: {}", group.priority, all.collect::<Vec<_>>().join(" "))
        };
        assert_eq!(assignment.groups.iter().map(group).collect::<Vec<_>>(), expected);
    }
}

fn three() -> World {
    World::new(&[("c1", "n1"), ("c2", "n1"), ("c3", "n3")])
        .gateway("c3", "n3", "172.30.0.3", 15443)
        .pods("c1", &[pod("10.1.0.1")])
        .pods("c2", &[pod("10.2.0.1"), pod("10.2.0.2")])
        .pods("c3", &[pod("10.3.0.1")])
}

#[test]
fn d35_demoted_endpoints_and_the_gateways_in_front_of_them_come_second() {
    three().from("n1/c1").prefers(&["0: 10.1.0.1*1 10.2.0.1*1 10.2.0.2*1 172.30.0.3*1"]);
    let world = three().standing("c2", Standing::Demoted).standing("c3", Standing::Demoted);
    world.from("n1/c1").prefers(&["0: 10.1.0.1*1", "1: 10.2.0.1*1 10.2.0.2*1 172.30.0.3*1"]);
    let world = world.standing("c3", Standing::Regular);
    world.from("n1/c1").prefers(&["0: 10.1.0.1*1 172.30.0.3*1", "1: 10.2.0.1*1 10.2.0.2*1"]);
}

#[test]
fn d35_priorities_have_no_gap_when_everything_is_demoted() {
    let mut world = three();
    for cluster in ["c1", "c2", "c3"] {
        world = world.standing(cluster, Standing::Demoted);
    }
    world.from("n1/c1").prefers(&["0: 10.1.0.1*1 10.2.0.1*1 10.2.0.2*1 172.30.0.3*1"]);
}

#[test]
fn d03_a_gateway_before_regular_and_demoted_endpoints_is_listed_once_and_first() {
    let world = World::new(&[("c1", "n1"), ("c2", "n2"), ("c3", "n2")])
        .gateway("c2", "n2", "172.30.0.2", 15443)
        .pods("c2", &[pod("10.2.0.1")])
        .pods("c3", &[pod("10.3.0.1"), pod("10.3.0.2")])
        .standing("c3", Standing::Demoted);
    world.from("n1/c1").prefers(&["0: 172.30.0.2*3"]);
}

#[test]
fn d35_dropped_endpoints_go_but_never_the_last_ones() {
    let world = three().standing("c2", Standing::Dropped);
    world.from("n1/c1").prefers(&["0: 10.1.0.1*1 172.30.0.3*1"]);
    assert_eq!(world.from("n1/c1").decides("10.2.0.1"), Decision::StaleCluster);
    assert_eq!(Decision::StaleCluster.code(), "hidden/stale-cluster");
    // What is left cannot be reached, or is not healthy.
    let alone = World::new(&[("c1", "n1"), ("c2", "n2")])
        .pods("c1", &[pod("10.1.0.1")])
        .pods("c2", &[pod("10.2.0.1")])
        .standing("c1", Standing::Dropped);
    alone.from("n1/c1").prefers(&["0: 10.1.0.1*1"]);
    alone.from("n2/c2").prefers(&["0: 10.2.0.1*1"]);
    let sick = World::new(&[("c1", "n1"), ("c2", "n1")])
        .pods("c1", &[Pod { health: Health::Unhealthy, ..pod("10.1.0.1") }])
        .pods("c2", &[pod("10.2.0.1")])
        .standing("c2", Standing::Dropped);
    sick.from("n1/c1").prefers(&["0: 10.1.0.1*1", "1: 10.2.0.1*1"]);
    let together = World::new(&[("c1", "n1"), ("c2", "n1")])
        .pods("c1", &[pod("10.1.0.1")])
        .pods("c2", &[pod("10.2.0.1")])
        .standing("c1", Standing::Dropped)
        .standing("c2", Standing::Dropped);
    together.from("n1/c1").prefers(&["0: 10.1.0.1*1 10.2.0.1*1"]);
    let all = three().standing("c1", Standing::Dropped).standing("c2", Standing::Dropped);
    let all = all.standing("c3", Standing::Dropped);
    assert!(!all.from("n1/c1").assignment(&whole()).0.groups.is_empty());
}

/// The same addresses in two clusters of one network, as a Service without selector has them.
fn mirrored(c1: &[Pod], c2: &[Pod]) -> World {
    World::new(&[("c1", "n1"), ("c2", "n1")]).pods("c1", c1).pods("c2", c2)
}

#[test]
fn d35_of_one_address_in_two_clusters_the_fresher_copy_is_sent() {
    let both = || mirrored(&[pod("10.9.0.5")], &[pod("10.9.0.5"), pod("10.9.0.6")]);
    both().from("n1/c1").prefers(&["0: 10.9.0.5*1 10.9.0.6*1"]);
    let stale = both().standing("c1", Standing::Demoted);
    stale.from("n1/c1").prefers(&["0: 10.9.0.5*1 10.9.0.6*1"]);
    let (_, decisions) = stale.from("n1/c1").assignment(&whole());
    let of_c1 =
        decisions.iter().find(|(endpoint, _)| endpoint.workload.cluster.as_str() == "c1").expect("decided");
    assert_eq!(of_c1.1, Decision::SameAddress);
}

#[test]
fn d35_of_one_address_in_two_clusters_the_ready_copy_is_sent() {
    let sick = |address| Pod { health: Health::Unhealthy, ..pod(address) };
    let health = |world: &World| -> Vec<String> {
        let viewer = world.from("n1/c1");
        let (sent, decisions) = viewer.assignment(&whole());
        assert_eq!(decisions.len(), 4, "each is decided once");
        sent.endpoints().map(|one| format!("{} {:?}", shown(one), one.health.expect("direct"))).collect()
    };
    let world = mirrored(&[sick("10.9.0.5"), pod("10.9.0.6")], &[pod("10.9.0.5"), sick("10.9.0.7")]);
    assert_eq!(health(&world), ["10.9.0.6 Healthy", "10.9.0.5 Healthy", "10.9.0.7 Unhealthy"]);
    // What a stale cluster says of it is no news.
    let stale = world.standing("c2", Standing::Demoted);
    assert_eq!(health(&stale), ["10.9.0.5 Unhealthy", "10.9.0.6 Healthy", "10.9.0.7 Unhealthy"]);
    let neither = mirrored(&[sick("10.9.0.5"), pod("10.9.0.6")], &[sick("10.9.0.5"), pod("10.9.0.6")]);
    assert_eq!(health(&neither), ["10.9.0.6 Healthy", "10.9.0.5 Unhealthy"]);
}
