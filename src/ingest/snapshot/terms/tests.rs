use super::*;
use crate::ingest::networks::HostNames;
use crate::model::{Endpoint, ServiceKey, Set, Workload, WorkloadCell, WorkloadParts};

fn gateway(network: &str, address: &str) -> NetworkGateway {
    NetworkGateway::new(network.into(), "west".into(), address.parse().unwrap())
}

fn host(network: &str, host: &str) -> GatewayHost {
    GatewayHost {
        network: network.into(),
        host: host.into(),
        port: 15443,
        hbone_port: 0,
        cluster: "west".into(),
    }
}

/// West belongs to n1 and tells of gateways of n1, n2 and n3.
fn state() -> ClusterState {
    let gateways = ["n1", "n2", "n3"].map(|network| gateway(network, "192.0.2.1")).to_vec();
    let hosts = ["n1", "n2"].map(|network| host(network, "gw.example.com")).to_vec();
    ClusterState {
        networks: NetworkClaim { network: Some("n1".into()), gateways, hosts },
        ..ClusterState::default()
    }
}

fn terms(trusted: &[&str], advertised: &str) -> Terms {
    Terms {
        trusted: trusted.iter().map(|network| NetworkId::from(*network)).collect(),
        advertised: Advertised::parse(advertised).0,
        stale: StalePolicy::Hold,
        trust_domain: "old.example".into(),
    }
}

/// What is left: networks and addresses.
fn left(then: &Terms, now: Terms, mesh: Option<&MeshNetworks>, mut state: ClusterState) -> Vec<String> {
    let filter = Filter { terms: now, special: SpecialAddresses::Drop, mesh };
    filter.apply(&"west".into(), then, &mut state);
    let gateways = state.networks.gateways.iter();
    let gateways = gateways.map(|one| format!("{} {}:{}", one.network, one.address, one.port));
    let hosts = state.networks.hosts.iter();
    gateways.chain(hosts.map(|one| format!("{} {}:{}", one.network, one.host, one.port))).collect()
}

#[test]
fn d10_networks_that_a_cluster_is_trusted_with_no_longer_lose_its_restored_gateways() {
    let then = terms(&["n2", "n3"], "");
    let nothing = MeshNetworks::default();
    let all = ["n1 192.0.2.1:15443", "n2 192.0.2.1:15443", "n3 192.0.2.1:15443"];
    let hosts = ["n1 gw.example.com:15443", "n2 gw.example.com:15443"];
    let with = |now| left(&then, now, Some(&nothing), state());
    assert_eq!(with(then.clone()), [&all[..], &hosts[..]].concat());
    assert_eq!(with(terms(&["n3"], "")), [all[0], all[2], hosts[0]]);
    assert_eq!(with(terms(&[], "")), [all[0], hosts[0]], "its own");
    let text = "networks: {n2: {endpoints: [{fromRegistry: west}]}}";
    let (mesh, _) = MeshNetworks::parse(text, HostNames::Allowed).strict().unwrap();
    assert_eq!(left(&then, terms(&[], ""), Some(&mesh), state()), [all[0], all[1], hosts[0], hosts[1]]);
    assert_eq!(left(&then, terms(&[], ""), None, state()).len(), 5, "it may still be given them");
    // What it was not trusted with then, it belonged to.
    assert_eq!(left(&terms(&[], ""), terms(&[], ""), Some(&nothing), state()).len(), 5);
}

#[test]
fn what_is_advertised_now_takes_the_place_of_what_was() {
    let state = || {
        let gateways = vec![gateway("n1", "192.0.2.1"), gateway("n1", "198.51.100.1")];
        let networks = NetworkClaim { network: Some("n1".into()), gateways, hosts: Vec::new() };
        ClusterState { networks, ..ClusterState::default() }
    };
    let (one, two) = ("n1 192.0.2.1:15443", "n1 198.51.100.1:15443");
    let with = |then: &str, now: &str| left(&terms(&[], then), terms(&[], now), None, state());
    assert_eq!(with("", ""), [one, two]);
    assert_eq!(with("", "203.0.113.1,gw.example.com:443"), ["n1 203.0.113.1:15443", "n1 gw.example.com:443"]);
    assert_eq!(with("", "+203.0.113.1:443"), [one, two, "n1 203.0.113.1:443"]);
    assert_eq!(with("+198.51.100.1", ""), [one], "what was added goes");
    assert_eq!(with("+198.51.100.1", "+198.51.100.1"), [one, two]);
    assert_eq!(with("198.51.100.1", ""), [one, two], "nothing else is known");
    assert_eq!(with("", "127.0.0.1"), [""; 0], "K-40");
}

#[test]
fn k40_addresses_of_this_machine_are_not_restored() {
    let mut state = state();
    state.networks.gateways.push(gateway("n1", "127.0.0.1"));
    let workload = Arc::new(Workload::from(WorkloadParts::default()));
    let endpoint = |address: &str| Endpoint::new(address.parse().unwrap(), 80, "http", Arc::clone(&workload));
    let shard = EndpointShard::new("west".into(), None, vec![endpoint("127.0.0.1"), endpoint("10.0.0.1")]);
    let key = ServiceKey::new("a", "web.a.svc.cluster.local");
    state.shards.insert(key.clone(), Arc::new(shard));
    for (special, gateways, endpoints) in [(SpecialAddresses::Keep, 4, 2), (SpecialAddresses::Drop, 3, 1)] {
        let mut state = state.clone();
        let filter = Filter { terms: Terms::default(), special, mesh: None };
        filter.apply(&"west".into(), &Terms::default(), &mut state);
        assert_eq!(
            (state.networks.gateways.len(), state.shards[&key].endpoints.len()),
            (gateways, endpoints)
        );
    }
}

#[test]
fn what_is_advertised_is_written_as_it_is_read() {
    for text in ["192.0.2.1", "+192.0.2.1:443,gw.example.com", "[2001:db8::1]:1,2001:db8::2,gw.example.com:7"]
    {
        let advertised = Advertised::parse(text).0.unwrap();
        assert_eq!(Written(&advertised).to_string(), text);
    }
}

#[test]
fn only_what_the_file_of_settings_says_itself_differs() {
    let then = terms(&["n2"], "192.0.2.1");
    let texts = |pairs: &[(&str, &str)]| -> Texts {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    assert_eq!(then.overridden(&texts(&[("start", "required")])), then);
    assert_eq!(then.overridden(&texts(&[("trusted-networks", "n3")])), terms(&["n3"], "192.0.2.1"));
    assert_eq!(then.overridden(&texts(&[("gateway-address", "192.0.2.2")])), terms(&["n2"], "192.0.2.2"));
    let domain = Terms { trust_domain: "new.example".into(), ..then.clone() };
    assert_eq!(then.overridden(&texts(&[("trust-domain", "new.example")])), domain);
    let seconds = std::time::Duration::from_secs;
    let then = Terms { stale: StalePolicy::Demote(seconds(90)), ..then };
    for (said, stale) in [
        (&[][..], StalePolicy::Demote(seconds(90))),
        (&[("stale", "drop")], StalePolicy::Drop(seconds(90))),
        (&[("stale-after", "5s")], StalePolicy::Demote(seconds(5))),
        (&[("stale", "hold")], StalePolicy::Hold),
    ] {
        assert_eq!(then.overridden(&texts(said)).stale, stale, "{said:?}");
    }
}

#[test]
fn z11_namespaces_that_are_not_read_any_more_are_not_restored() {
    let state = || {
        let namespaces = ["a", "b", "istio-system"];
        let shard = |namespace: &str| {
            let shard = EndpointShard::new("west".into(), None, Vec::new());
            (ServiceKey::new(namespace, "web"), Arc::new(shard))
        };
        let workload = |namespace: &str| {
            let parts = WorkloadParts { namespace: namespace.into(), ..WorkloadParts::default() };
            WorkloadCell { workload: Arc::new(Workload::from(parts)), services: Set::default() }
        };
        ClusterState {
            shards: namespaces.into_iter().map(shard).collect(),
            workloads: namespaces.into_iter().map(workload).collect(),
            ..ClusterState::default()
        }
    };
    for (texts, left) in [
        (&[][..], &["a", "b", "istio-system"][..]),
        (&[("namespaces", "a")], &["a", "istio-system"]),
        (&[("namespaces", "!a")], &["b", "istio-system"]),
        (&[("namespaces", "!istio-system")], &["a", "b", "istio-system"]),
        (&[("namespaces", "c")], &["istio-system"]),
        // Which ones these are, nobody knows yet.
        (&[("namespace-selector", "env=prod")], &["a", "b", "istio-system"]),
        // Nothing is read that was not read before.
        (&[("namespaces", "A B")], &["istio-system"]),
    ] {
        let texts: Texts =
            texts.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let mut state = state();
        select(&ClusterOptions::read([&texts], None).0.selection, &"istio-system".into(), &mut state);
        let shards: Vec<_> = state.shards.keys().map(|key| key.namespace.to_string()).collect();
        let pods: Vec<_> = state.workloads.iter().map(|cell| cell.workload.namespace.to_string()).collect();
        assert_eq!(
            (shards, pods),
            (left.iter().map(|n| (*n).to_owned()).collect(), left.iter().map(|n| (*n).to_owned()).collect()),
            "{texts:?}"
        );
    }
}

#[test]
fn what_holds_for_endpoints_holds_for_inline_ones() {
    let account =
        SpiffeId { trust_domain: "old.example".into(), namespace: "a".into(), service_account: "sa".into() };
    let workload: Arc<Workload> = WorkloadParts { account: Some(account), ..WorkloadParts::default() }.into();
    let inline = |address: &str| InlineEndpoint {
        address: InlineAddress::Ip(address.parse().unwrap()),
        port: 80,
        port_name: "http".into(),
        weight: None,
        workload: Arc::clone(&workload),
    };
    let facts = crate::model::EntryFacts {
        inline: vec![inline("10.0.0.1"), inline("127.0.0.1")],
        ..Default::default()
    };
    let service = Service { entry: Some(facts.into()), ..Service::default() };
    let shard = EndpointShard::new("west".into(), Some(service.into()), Vec::new());
    let key = ServiceKey::new("a", "x.example");
    let mut state =
        ClusterState { shards: [(key.clone(), Arc::new(shard))].into(), ..ClusterState::default() };
    let now = Terms { trust_domain: "new.example".into(), ..terms(&[], "") };
    let filter = Filter { terms: now, special: SpecialAddresses::Drop, mesh: None };
    filter.apply(&"west".into(), &terms(&[], ""), &mut state);
    let left = state.shards[&key].service.as_ref().unwrap().inline();
    assert_eq!(left.len(), 1, "K-40");
    assert_eq!(&*left[0].workload.account.as_ref().unwrap().trust_domain, "new.example");
}
