//! What the networks amount to after any writes.

use std::cell::Cell;

use proptest::prelude::*;

use super::*;

fn gateway(network: &str, cluster: &str, address: &str) -> NetworkGateway {
    NetworkGateway::new(network.into(), cluster.into(), address.parse().expect("address"))
}

fn named(network: &str, cluster: &str, host: &str) -> GatewayHost {
    GatewayHost {
        network: network.into(),
        cluster: cluster.into(),
        host: host.into(),
        port: 15443,
        hbone_port: 0,
    }
}

fn claim(gateways: &[NetworkGateway], hosts: &[GatewayHost]) -> NetworkClaim {
    NetworkClaim { network: None, gateways: gateways.to_vec(), hosts: hosts.to_vec() }
}

/// Networks with versions that count.
#[derive(Default)]
struct World {
    networks: NetworkSnapshot,
    versions: Cell<u64>,
}

impl World {
    fn tell(&mut self, cluster: &str, claim: &NetworkClaim) -> Option<NetworkDifference> {
        let versions = &self.versions;
        self.networks.replace(&cluster.into(), claim, Quirks::OURS, || {
            versions.set(versions.get() + 1);
            versions.get()
        })
    }

    fn resolve(&mut self, host: &str, addresses: &[&str]) -> Option<NetworkDifference> {
        let addresses: Vec<_> = addresses.iter().map(|text| text.parse().expect("address")).collect();
        let versions = &self.versions;
        self.networks.resolved(&host.into(), &addresses, Quirks::OURS, || {
            versions.set(versions.get() + 1);
            versions.get()
        })
    }

    fn shown(&self, network: &str) -> Vec<String> {
        let part = self.networks.part(&network.into());
        part.gateways.iter().map(|gateway| format!("{} {}", gateway.cluster, gateway.address)).collect()
    }
}

#[test]
fn r3_14_static_and_registry_gateways_are_one_set() {
    let mut world = World::default();
    world.tell("", &claim(&[gateway("n", "", "7.7.7.7")], &[]));
    world.tell("a", &claim(&[gateway("n", "a", "7.7.7.7"), gateway("n", "a", "7.7.7.7")], &[]));
    assert_eq!(world.shown("n"), [" 7.7.7.7", "a 7.7.7.7"], "each once, by cluster (Q7)");
    world.tell("a", &NetworkClaim::default());
    assert_eq!(world.shown("n"), [" 7.7.7.7"]);
}

#[test]
fn q02_a_cluster_that_goes_takes_its_gateways_and_only_those() {
    let mut world = World::default();
    world.tell(
        "a",
        &claim(&[gateway("n", "a", "1.1.1.1"), gateway("m", "a", "1.1.1.2")], &[named("n", "a", "x")]),
    );
    world.tell("b", &claim(&[gateway("n", "b", "2.2.2.2")], &[named("n", "b", "x")]));
    world.resolve("x", &["9.9.9.9"]);
    world.tell("c", &claim(&[gateway("k", "c", "3.3.3.3")], &[]));
    let others = world.networks.part(&"k".into());
    let difference = world.tell("a", &NetworkClaim::default()).expect("two networks differ");
    assert_eq!(difference.networks, ["m".into(), "n".into()].into());
    assert!(!difference.hosts, "b still names the host");
    assert_eq!(world.shown("n"), ["b 2.2.2.2", "b 9.9.9.9"]);
    assert_eq!(world.networks.part(&"k".into()), others, "not even the version");
    assert!(world.networks.part(&"m".into()).gateways.is_empty());
}

#[test]
fn d14_only_networks_of_the_writing_cluster_are_looked_at() {
    let mut world = World::default();
    for n in 0..100 {
        let (network, cluster) = (format!("n{n}"), format!("c{n}"));
        world.tell(&cluster, &claim(&[gateway(&network, &cluster, "1.1.1.1")], &[]));
    }
    let before = world.networks.clone();
    let used = world.versions.get();
    let difference = world.tell("c7", &claim(&[gateway("n7", "c7", "1.1.1.2")], &[])).expect("differs");
    assert_eq!(difference.networks, ["n7".into()].into());
    assert_eq!(world.versions.get(), used + 1);
    for n in (0..100).filter(|n| *n != 7) {
        let network = NetworkId::from(format!("n{n}"));
        let (was, is) = (before.part(&network), world.networks.part(&network));
        assert!(Arc::ptr_eq(&was.gateways, &is.gateways) && was.version == is.version);
    }
    assert!(world.tell("c7", &claim(&[gateway("n7", "c7", "1.1.1.2")], &[])).is_none(), "told again");
    assert_eq!(world.versions.get(), used + 1);
}

#[test]
fn d13_networks_that_come_and_go_leave_versions_and_not_entries() {
    let mut world = World::default();
    world.tell("stays", &claim(&[gateway("stays", "stays", "1.1.1.1")], &[]));
    let unheard = world.networks.part(&"unheard of".into()).version;
    let (mut seen, rounds) = (Vec::new(), 3 * MAX_EMPTY);
    for n in 0..rounds {
        let network = format!("n{n}");
        world.tell("a", &claim(&[gateway(&network, "a", "1.1.1.1")], &[named(&network, "a", "x")]));
        seen.push((NetworkId::from(network), world.versions.get()));
    }
    // The last one is there, and some that are not.
    let empty = world.networks.empty.len();
    assert!((MAX_EMPTY - FORGOTTEN..=MAX_EMPTY).contains(&empty), "{empty}");
    assert_eq!(world.networks.parts.len(), empty + 2);
    for (network, told) in &seen[..rounds - 1] {
        let part = world.networks.part(network);
        assert!(part.gateways.is_empty() && part.version > *told, "who read it sees that it is over");
    }
    assert!(world.networks.part(&"unheard of".into()).version > unheard, "it may have been there meanwhile");
    assert_eq!(
        (world.shown("stays"), world.shown(&seen[rounds - 1].0)),
        (vec!["stays 1.1.1.1".to_owned()], vec!["a 1.1.1.1".to_owned()],)
    );
    // One that comes back counts as one that is there.
    let back = &seen[rounds - 2].0;
    world.tell("a", &claim(&[gateway(back, "a", "1.1.1.1")], &[]));
    assert!(world.networks.part(back).version >= world.versions.get() - 1);
    assert!(world.networks.empty.values().all(|network| world.networks.parts[network].is_empty()));
}

#[test]
fn d14_networks_that_come_and_go_seldom_make_a_reader_of_an_unknown_one_look_again() {
    let mut world = World::default();
    let (mut known, mut stale) = (world.networks.part(&"never".into()).version, 0);
    for n in 0..MAX_EMPTY + FORGOTTEN {
        world.tell("a", &claim(&[gateway(&format!("n{n}"), "a", "1.1.1.1")], &[]));
        let version = world.networks.part(&"never".into()).version;
        stale += usize::from(version > known);
        known = version;
    }
    assert_eq!(stale, 1, "one for each {FORGOTTEN}");
}

#[test]
fn r3_15_a_host_name_becomes_a_gateway_per_address() {
    let mut world = World::default();
    let difference = world.tell("a", &claim(&[gateway("n", "a", "10.0.0.1")], &[named("n", "a", "x")]));
    assert!(difference.expect("differs").hosts);
    assert_eq!(world.shown("n"), ["a 10.0.0.1"], "not resolved yet");
    let difference = world.resolve("x", &["10.0.0.2", "fd00::1", "10.0.0.1"]).expect("differs");
    assert_eq!(difference.networks, ["n".into()].into());
    assert_eq!(
        world.shown("n"),
        ["a 10.0.0.1", "a 10.0.0.2", "a fd00::1"],
        "the same address counts once (Q7)"
    );
    assert!(world.resolve("x", &["fd00::1", "10.0.0.1", "10.0.0.2"]).is_none(), "order does not matter");
    let difference = world.tell("b", &claim(&[], &[named("m", "b", "x")])).expect("differs");
    assert!(!difference.hosts, "the name is known");
    assert_eq!(world.shown("m").len(), 3, "its addresses are there at once");
    assert!(world.resolve("unknown", &["1.1.1.1"]).is_none());
}

#[test]
fn q09_both_views_change_in_one_step_and_unused_names_are_forgotten() {
    let mut world = World::default();
    world.tell("a", &claim(&[gateway("n", "a", "10.0.0.1")], &[named("n", "a", "x")]));
    world.resolve("x", &["10.0.0.2"]);
    let difference = world.tell("a", &claim(&[], &[named("n", "a", "y")])).expect("differs");
    assert!(difference.hosts);
    let part = world.networks.part(&"n".into());
    assert!(part.addressed.is_empty() && part.gateways.is_empty());
    assert_eq!(part.hosts.iter().map(|gateway| gateway.host.as_str()).collect::<Vec<_>>(), ["y"]);
    assert_eq!(world.networks.host_names().map(Hostname::as_str).collect::<Vec<_>>(), ["y"]);
    world.tell("a", &claim(&[], &[named("n", "a", "x")]));
    assert!(world.shown("n").is_empty(), "what x resolved to was forgotten with it");
}

#[test]
fn a_name_that_moves_to_another_network_keeps_its_addresses() {
    let mut world = World::default();
    for (from, to) in [("m", "n"), ("n", "m")] {
        world.tell("a", &claim(&[], &[named(from, "a", "x")]));
        world.resolve("x", &["10.0.0.1"]);
        let difference = world.tell("a", &claim(&[], &[named(to, "a", "x")])).expect("differs");
        assert!(!difference.hosts);
        assert_eq!((world.shown(from).len(), world.shown(to).len()), (0, 1));
    }
}

/// One write: a cluster's claim by small numbers, or an answer of the resolver.
#[derive(Clone, Debug)]
enum Write {
    Claim(u8, Vec<(u8, u8)>, Vec<(u8, u8)>),
    Answer(u8, Vec<u8>),
}

fn writes() -> impl Strategy<Value = Vec<Write>> {
    let pairs = || prop::collection::vec((0..3u8, 0..3u8), 0..4);
    let claim = (0..3u8, pairs(), pairs())
        .prop_map(|(cluster, gateways, hosts)| Write::Claim(cluster, gateways, hosts));
    let answer = (0..3u8, prop::collection::vec(0..4u8, 0..3)).prop_map(|(host, to)| Write::Answer(host, to));
    prop::collection::vec(prop_oneof![claim, answer], 0..24)
}

proptest! {
    /// Any sequence of writes equals a naive model, and a version moves exactly when its part does.
    #[test]
    fn networks_equal_a_naive_model(writes in writes()) {
        let mut world = World::default();
        let mut claims: BTreeMap<u8, NetworkClaim> = BTreeMap::new();
        let mut answers: BTreeMap<String, BTreeSet<IpAddr>> = BTreeMap::new();
        for write in writes {
            let before = world.networks.clone();
            match write {
                Write::Claim(cluster, gateways, hosts) => {
                    let name = format!("c{cluster}");
                    let gateways = gateways.iter().map(|(n, a)| gateway(&format!("n{n}"), &name, &format!("10.0.0.{a}")));
                    let hosts = hosts.iter().map(|(n, h)| named(&format!("n{n}"), &name, &format!("h{h}")));
                    let claim = NetworkClaim { network: None, gateways: gateways.collect(), hosts: hosts.collect() };
                    world.tell(&name, &claim);
                    claims.insert(cluster, claim);
                    let used: BTreeSet<String> =
                        claims.values().flat_map(|claim| &claim.hosts).map(|host| host.host.to_string()).collect();
                    answers.retain(|host, _| used.contains(host));
                }
                Write::Answer(host, addresses) => {
                    let host = format!("h{host}");
                    let texts: Vec<_> = addresses.iter().map(|a| format!("10.0.0.{a}")).collect();
                    world.resolve(&host, &texts.iter().map(String::as_str).collect::<Vec<_>>());
                    let used = claims.values().flat_map(|claim| &claim.hosts).any(|told| *told.host == *host);
                    if used {
                        answers.insert(host, texts.iter().map(|text| text.parse().expect("address")).collect());
                    }
                }
            }
            for n in 0..3u8 {
                let network = NetworkId::from(format!("n{n}"));
                let told = claims.values().flat_map(|claim| &claim.gateways).filter(|g| g.network == network).cloned();
                let hosts = claims.values().flat_map(|claim| &claim.hosts).filter(|h| h.network == network);
                let resolved = hosts.flat_map(|host| {
                    let addresses = answers.get(&*host.host).into_iter().flatten();
                    addresses.map(|address| host.at(*address)).collect::<Vec<_>>()
                });
                let expected: BTreeSet<_> = told.chain(resolved).collect();
                let (was, is) = (before.part(&network), world.networks.part(&network));
                prop_assert_eq!(is.gateways.to_vec(), expected.into_iter().collect::<Vec<_>>());
                let same = was.gateways == is.gateways && was.hosts == is.hosts && was.addressed == is.addressed;
                prop_assert_eq!(was.version == is.version, same);
            }
        }
    }
}

#[test]
fn q07_what_is_told_twice_counts_twice_under_its_flag_only() {
    let both = claim(&[gateway("n", "a", "7.7.7.7"), gateway("n", "a", "7.7.7.7")], &[named("n", "a", "x")]);
    let count = |quirks| {
        let mut networks = NetworkSnapshot::default();
        networks.replace(&"a".into(), &both, quirks, || 1);
        networks.resolved(&"x".into(), &["7.7.7.7".parse().expect("address")], quirks, || 1);
        networks.gateways().count()
    };
    assert_eq!((count(Quirks::OURS), count(Quirks::of([Quirk::Q7]))), (1, 2));
}

#[test]
fn q09_the_unresolved_view_stays_behind_under_its_flag_only() {
    let seen = |quirks| {
        let mut networks = NetworkSnapshot::default();
        let unresolved = |networks: &NetworkSnapshot| {
            let (addressed, hosts) = networks.unresolved(&"n".into());
            (addressed.len(), hosts.len())
        };
        let one = claim(&[gateway("n", "a", "1.1.1.1")], &[]);
        networks.replace(&"a".into(), &one, quirks, || 1);
        let mut seen = vec![unresolved(&networks)];
        // A host name that does not resolve yet changes the unresolved view only.
        let two = claim(&[gateway("n", "a", "1.1.1.1")], &[named("n", "a", "x")]);
        networks.replace(&"a".into(), &two, quirks, || 1);
        seen.push(unresolved(&networks));
        let three = claim(&[gateway("n", "a", "2.2.2.2"), gateway("n", "a", "3.3.3.3")], &[]);
        networks.replace(&"a".into(), &three, quirks, || 1);
        seen.push(unresolved(&networks));
        seen
    };
    assert_eq!(seen(Quirks::OURS), [(1, 0), (1, 1), (2, 0)]);
    assert_eq!(seen(Quirks::of([Quirk::Q9])), [(0, 0), (1, 1), (1, 1)]);
}
