//! What holds in every world.

use std::collections::BTreeSet;

use super::*;
use crate::model::policy::{Failover, LocalityLb, MeshConfig};

const CLUSTERS: [(&str, &str); 4] = [("c1", "n1"), ("c2", "n2"), ("c3", "n2"), ("c4", "n3")];
const LOCALITIES: [&str; 4] = ["", "r1/z1", "r1/z2", "r2/z1"];

/// One endpoint: cluster, number, locality, weight, ready, mTLS.
type Told = (usize, u8, usize, u32, bool, bool);

fn told() -> impl Strategy<Value = Vec<Told>> {
    let one = (0..CLUSTERS.len(), 0..20_u8, 0..LOCALITIES.len(), 1..9_u32, any::<bool>(), any::<bool>());
    proptest::collection::vec(one, 0..24)
}

/// Every address is of one pod: its cluster is in it.
fn build(told: &[Told], gateways: &[u8], order: &[usize], failover: bool) -> World {
    let mut world = World::new(&CLUSTERS);
    for (at, count) in gateways.iter().enumerate() {
        let (cluster, network) = CLUSTERS[at];
        for number in 0..*count {
            world = world.gateway(cluster, network, &format!("172.30.{at}.{number}"), 15443);
        }
    }
    for &at in order {
        let (cluster, network) = CLUSTERS[at];
        let mut seen = BTreeSet::new();
        let own = told.iter().filter(|one| one.0 == at && seen.insert(one.1));
        let endpoints = own.map(|&(_, number, locality, weight, ready, mtls)| {
            let address: IpAddr = format!("10.{at}.0.{number}").parse().expect("address");
            let pod = Pod {
                locality: LOCALITIES[locality],
                health: if ready { Health::Healthy } else { Health::Unhealthy },
                mtls,
                weight,
                ..pod("10.0.0.0")
            };
            Endpoint { addresses: address.into(), ..endpoint(cluster, network, "http", &pod) }
        });
        let port = ServicePort {
            number: 5000,
            name: "http".into(),
            transport: Transport::Tcp,
            protocol: PortProtocol::Http,
        };
        let service = Service { ports: vec![port], ..world.service.clone() };
        let shard = EndpointShard::new(cluster.into(), Some(Arc::new(service)), endpoints.collect());
        let key = world.service.key.clone();
        world.writers.get_mut(cluster).expect("known").0.set(key, shard);
    }
    let rule = Failover { from: "r1".into(), to: "r2".into() };
    let setting = LocalityLb { failover: vec![rule], ..LocalityLb::default() };
    let mesh = MeshConfig { locality_lb: failover.then_some(setting), ..MeshConfig::default() };
    world.policies = PolicySnapshot::with(mesh, []);
    world
}

/// A proxy of one cluster.
fn of_cluster(world: &World, viewer: usize) -> Viewer<'_> {
    let (cluster, network) = CLUSTERS[viewer];
    let viewer = world.from(&format!("{network}/{cluster}"));
    viewer.with(|key| key.locality = Some(Locality::parse("r1/z1")))
}

/// The least common multiple of the sizes of the gateway sets that lead to pods.
fn scale(used: &BTreeSet<u64>) -> u64 {
    (1..).find(|scale| used.iter().all(|size| scale % size == 0)).expect("a multiple")
}

proptest! {
    #[test]
    fn every_endpoint_is_decided_and_its_weight_is_somewhere(
        told in told(),
        gateways in proptest::collection::vec(0..4_u8, 4),
        viewer in 0..4_usize,
        failover in any::<bool>(),
    ) {
        let world = build(&told, &gateways, &[0, 1, 2, 3], failover);
        let own = CLUSTERS[viewer].1;
        let viewer = of_cluster(&world, viewer);
        let (assignment, decisions) = viewer.assignment(&whole());
        // How many gateways lead to a cluster: its own, else those of its network.
        let count = |cluster: &str| -> u64 {
            let at = CLUSTERS.iter().position(|one| one.0 == cluster).expect("known");
            let of_network = (0..4).filter(|other| CLUSTERS[*other].1 == CLUSTERS[at].1);
            let all = of_network.map(|other| u64::from(gateways[other])).sum();
            if gateways[at] > 0 { gateways[at].into() } else { all }
        };
        let via = || decisions.iter().filter(|(_, decision)| *decision == Decision::ViaGateway);
        let used = via().map(|(endpoint, _)| count(&endpoint.workload.cluster)).collect();
        let expected = |wanted: Decision| -> u64 {
            let all = decisions.iter().filter(|(_, decision)| *decision == wanted);
            all.map(|(endpoint, _)| u64::from(endpoint.weight()) * scale(&used)).sum()
        };
        let sum = |gateway: bool| -> u64 {
            let of = |one: &&AssignedEndpoint<'_>| matches!(one.origin, Origin::Gateway { .. }) == gateway;
            assignment.endpoints().filter(of).map(|one| u64::from(one.weight)).sum()
        };
        prop_assert_eq!(sum(false), expected(Decision::Direct));
        prop_assert_eq!(sum(true), expected(Decision::ViaGateway));
        let addresses: Vec<_> = assignment.endpoints().map(|one| (one.address(), one.port())).collect();
        prop_assert_eq!(addresses.iter().collect::<BTreeSet<_>>().len(), addresses.len());
        for one in assignment.endpoints() {
            if let Origin::Direct(workload) = &one.origin {
                prop_assert_eq!(&*workload.network, own);
            }
        }
        let mut priorities: Vec<_> = assignment.groups.iter().map(|group| group.priority).collect();
        priorities.sort_unstable();
        priorities.dedup();
        prop_assert!(priorities.iter().copied().eq(0..priorities.len() as u32), "without gaps");
        for group in &assignment.groups {
            prop_assert!(!group.endpoints.is_empty());
            prop_assert_eq!(group.weight, group.endpoints.iter().map(|one| one.weight).sum::<u32>());
        }
    }

    #[test]
    fn the_order_in_which_clusters_tell_does_not_matter(
        told in told(),
        gateways in proptest::collection::vec(0..4_u8, 4),
        viewer in 0..4_usize,
        order in Just(vec![0, 1, 2, 3]).prop_shuffle(),
        failover in any::<bool>(),
    ) {
        let first = build(&told, &gateways, &[0, 1, 2, 3], failover);
        let other = build(&told, &gateways, &order, failover);
        let (first, other) = (of_cluster(&first, viewer), of_cluster(&other, viewer));
        prop_assert_eq!(first.assignment(&whole()).0.groups, other.assignment(&whole()).0.groups);
    }
}
