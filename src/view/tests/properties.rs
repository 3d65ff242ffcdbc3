//! What holds in every world.

use std::collections::BTreeSet;

use super::*;
use crate::model::Standing;
use crate::model::policy::{Distribute, Failover, LocalityLb, MeshConfig};
use crate::model::{EntryFacts, InlineAddress, InlineEndpoint, Resolution};

const CLUSTERS: [(&str, &str); 4] = [("c1", "n1"), ("c2", "n2"), ("c3", "n2"), ("c4", "n3")];
const LOCALITIES: [&str; 4] = ["", "r1/z1", "r1/z2", "r2/z1"];

/// One endpoint: cluster, number, locality, weight, ready, mTLS.
type Told = (usize, u8, usize, u32, bool, bool);

fn told() -> impl Strategy<Value = Vec<Told>> {
    let one = (0..CLUSTERS.len(), 0..20_u8, 0..LOCALITIES.len(), 1..9_u32, any::<bool>(), any::<bool>());
    proptest::collection::vec(one, 0..24)
}

/// Every address is of one pod: its network is in it, so that two clusters of one may tell of the same one.
fn build(told: &[Told], gateways: &[u8], order: &[usize], failover: bool, resolved: bool) -> World {
    let mut world = World::new(&CLUSTERS);
    let of_network = |at: usize| CLUSTERS.iter().position(|one| one.1 == CLUSTERS[at].1).expect("itself");
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
            let address: IpAddr = format!("10.{}.0.{number}", of_network(at)).parse().expect("address");
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
        let (mut endpoints, mut service): (Vec<Endpoint>, _) =
            (endpoints.collect(), Service { ports: vec![port], ..world.service.clone() });
        if resolved {
            let inline = std::mem::take(&mut endpoints).iter().map(inline).collect();
            service.resolution = Resolution::Dns;
            service.entry = Some(Arc::new(EntryFacts { inline, ..EntryFacts::default() }));
        }
        let shard = EndpointShard::new(cluster.into(), Some(Arc::new(service)), endpoints);
        let key = world.service.key.clone();
        world.writers.get_mut(cluster).expect("known").0.set(key, shard);
    }
    let rule = Failover { from: "r1".into(), to: "r2".into() };
    let setting = LocalityLb { failover: vec![rule], ..LocalityLb::default() };
    let mesh = MeshConfig { locality_lb: failover.then_some(setting), ..MeshConfig::default() };
    world.policies = PolicySnapshot::with(mesh, []);
    world
}

/// The same where Envoy resolves it: every other one at a name.
fn inline(endpoint: &Endpoint) -> InlineEndpoint {
    let address = endpoint.addresses[0];
    let is_named = endpoint.weight().is_multiple_of(2);
    InlineEndpoint {
        address: match is_named {
            true => InlineAddress::Host(format!("{address}.example").as_str().into()),
            false => InlineAddress::Ip(address),
        },
        port: endpoint.port,
        port_name: endpoint.port_name.clone(),
        weight: endpoint.weight,
        workload: Arc::clone(&endpoint.workload),
    }
}

/// A proxy of one cluster.
fn of_cluster(world: &World, viewer: usize) -> Viewer<'_> {
    let (cluster, network) = CLUSTERS[viewer];
    let viewer = world.from(&format!("{network}/{cluster}"));
    viewer.with(|key| key.locality = Some(Locality::parse("r1/z1")))
}

/// Rules of shares for a proxy in r1/z1; the last one is for others.
const RULES: [(&str, &[(&str, u32)]); 5] = [
    ("r1/*", &[("r1/*", 70), ("r2/*", 30)]),
    ("r1/*", &[("r1/z1", 60), ("r1/z2", 35), ("r2/z1", 5)]),
    ("*", &[("r2/*", 100)]),
    ("*", &[("*", 100)]),
    ("eu/*", &[("r1/*", 70), ("r2/*", 30)]),
];

fn is_meant(pattern: &str, locality: &str) -> bool {
    let under = |stem: &str| stem.is_empty() || locality.starts_with(stem);
    pattern == locality || pattern.strip_suffix('*').is_some_and(under)
}

/// What a rule deals out to the localities of endpoints, these with their locality and weight: rounded up for each
/// locality, as it is without gateways.
fn dealt<'a>(to: &[(&str, u32)], endpoints: impl Iterator<Item = (&'a Locality, u64)>) -> u64 {
    let mut weights = [0; LOCALITIES.len()];
    for (locality, weight) in endpoints {
        let at = LOCALITIES.iter().position(|text| Locality::parse(text) == *locality).expect("known");
        weights[at] += weight;
    }
    let of = |pattern: &str, share: u32| -> u64 {
        let all = LOCALITIES.iter().zip(weights).filter(|(text, _)| is_meant(pattern, text));
        let all: Vec<u64> = all.map(|(_, weight)| weight).filter(|weight| *weight > 0).collect();
        let total: u64 = all.iter().sum();
        all.iter().map(|weight| (weight * u64::from(share)).div_ceil(total)).sum()
    };
    to.iter().map(|(pattern, share)| of(pattern, *share)).sum()
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
        resolved in any::<bool>(),
    ) {
        let world = build(&told, &gateways, &[0, 1, 2, 3], failover, resolved);
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
        let addresses: Vec<_> = assignment.endpoints().map(|one| (shown(one), one.port())).collect();
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
    fn shares_are_dealt_out_whole_whatever_clusters_are_worth(
        told in told(),
        gateways in proptest::collection::vec(0..9_u8, 4),
        viewer in 0..4_usize,
        standings in proptest::collection::vec(0..3_usize, 4),
        rule in 0..RULES.len(),
        factor in prop_oneof![Just(1_u32), Just(400_000_000)],
    ) {
        const STANDINGS: [Standing; 3] = [Standing::Regular, Standing::Demoted, Standing::Dropped];
        let mut told = told;
        told.iter_mut().for_each(|one| one.3 *= factor);
        let mut world = build(&told, &gateways, &[0, 1, 2, 3], false, false);
        for ((cluster, _), standing) in CLUSTERS.iter().zip(&standings) {
            world = world.standing(cluster, STANDINGS[*standing]);
        }
        let (from, to) = RULES[rule];
        let shares = to.iter().map(|&(pattern, share)| (pattern.into(), share)).collect();
        let distribute = vec![Distribute { from: from.into(), to: shares }];
        let setting = LocalityLb { distribute, ..LocalityLb::default() };
        let mesh = MeshConfig { locality_lb: Some(setting), ..MeshConfig::default() };
        world.policies = PolicySnapshot::with(mesh, []);
        let viewer = of_cluster(&world, viewer);
        let (assignment, decisions) = viewer.assignment(&whole());
        let standing = |endpoint: &Endpoint| {
            let at = CLUSTERS.iter().position(|one| one.0 == endpoint.workload.cluster.as_str());
            STANDINGS[standings[at.expect("known")]]
        };
        let distinct: BTreeSet<_> = told.iter().map(|one| (one.0, one.1)).collect();
        prop_assert_eq!(decisions.len(), distinct.len(), "each is decided once");
        let addresses: Vec<_> = assignment.endpoints().map(|one| (one.address(), one.port())).collect();
        prop_assert_eq!(addresses.iter().collect::<BTreeSet<_>>().len(), addresses.len());
        let served = |decision: &Decision| matches!(decision, Decision::Direct | Decision::ViaGateway);
        let all: u64 = assignment.endpoints().map(|one| u64::from(one.weight)).sum();
        prop_assert!(all <= u64::from(u32::MAX));
        if from == "eu/*" {
            for group in &assignment.groups {
                prop_assert_eq!(group.weight, group.endpoints.iter().map(|one| one.weight).sum::<u32>());
            }
        } else {
            let sent = decisions.iter().filter(|(_, decision)| served(decision)).map(|(endpoint, _)| endpoint);
            let best = sent.clone().map(standing).min();
            let of_best = sent.filter(|endpoint| Some(standing(endpoint)) == best);
            let expected = dealt(to, of_best.map(|one| (one.workload.locality(), u64::from(one.weight()))));
            let first = assignment.groups.iter().filter(|group| group.priority == 0);
            prop_assert_eq!(first.map(|group| u64::from(group.weight)).sum::<u64>(), expected);
        }
        // Nothing is held back while nothing else serves.
        let ready = |(endpoint, decision): &(Endpoint, Decision)| {
            served(decision) && endpoint.health == Health::Healthy
        };
        let stale = decisions.iter().any(|(_, decision)| *decision == Decision::StaleCluster);
        prop_assert!(!stale || decisions.iter().any(ready));
        // Of one address the freshest copy is sent, and of those a healthy one.
        let worth = |endpoint: &Endpoint| (standing(endpoint), endpoint.health != Health::Healthy);
        for (copy, _) in decisions.iter().filter(|(_, decision)| *decision == Decision::SameAddress) {
            let better = |(other, decision): &(Endpoint, Decision)| {
                other.addresses == copy.addresses
                    && matches!(decision, Decision::Direct | Decision::NoShare)
                    && worth(other) <= worth(copy)
            };
            prop_assert!(decisions.iter().any(better));
        }
    }

    #[test]
    fn the_order_in_which_clusters_tell_does_not_matter(
        told in told(),
        gateways in proptest::collection::vec(0..4_u8, 4),
        viewer in 0..4_usize,
        order in Just(vec![0, 1, 2, 3]).prop_shuffle(),
        failover in any::<bool>(),
        resolved in any::<bool>(),
    ) {
        let first = build(&told, &gateways, &[0, 1, 2, 3], failover, resolved);
        let other = build(&told, &gateways, &order, failover, resolved);
        let (first, other) = (of_cluster(&first, viewer), of_cluster(&other, viewer));
        prop_assert_eq!(first.assignment(&whole()).0.groups, other.assignment(&whole()).0.groups);
    }
}
