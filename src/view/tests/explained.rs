//! Explanations of what the pipeline does in its corners.

use std::sync::Arc;

use super::rules::{proxy, rule};
use super::*;
use crate::model::policy::{
    EgressHost, EgressListener, EgressNamespace, HostPattern, MeshConfig, OutlierDetection, PolicyId,
    PolicyMeta, ServiceScopeRule, Sidecar, SidecarPort, Subset, TrafficPolicy, WorkloadSelector,
};
use crate::model::{
    EntryFacts, ExportTo, Features, InlineAddress, InlineEndpoint, Labels, ProxyView, Quirk, Quirks,
    Resolution, SessionLabels,
};
use crate::registry::PolicyObject;
use crate::view::explain::{Absence, EndpointExplanation, Explanation, Nothing, Share, unseen};

impl World {
    fn hbone_gateway(mut self, cluster: &'static str, network: &str, address: &str, port: u16) -> Self {
        let (writer, own, gateways) = self.writers.get_mut(cluster).expect("known cluster");
        let mut gateway =
            NetworkGateway::new(network.into(), cluster.into(), address.parse().expect("address"));
        gateway.hbone_port = port;
        gateways.push(gateway);
        writer.set_networks(Some((*own).into()), gateways.clone());
        self
    }

    /// Ambient mode over several networks, with these waypoint and ingress switches; global services if `global`.
    fn ambient(mut self, waypoint: bool, ingress: bool, global: bool) -> Self {
        let features = Features {
            ambient: true,
            multi_network: true,
            multi_network_waypoint: waypoint,
            multi_network_ingress: ingress,
            ..Features::default()
        };
        self.mesh = self.mesh.clone().with_features(features);
        let scope = ServiceScopeRule { global, ..ServiceScopeRule::default() };
        self.policies =
            PolicySnapshot::with(MeshConfig { service_scopes: vec![scope], ..MeshConfig::default() }, []);
        self
    }

    fn seen_by(&self, view: &ProxyView, name: &EdsName) -> Option<Absence> {
        let candidates: Vec<_> = self.registry.host(HOST).iter().map(|cell| cell.load()).collect();
        let (networks, standings) = (self.registry.networks(), self.registry.standings());
        let (mesh, policies) = (&self.mesh, &self.policies);
        let service = &candidates[0];
        let inputs =
            Inputs { service, waypoint: None, networks: &networks, mesh, standings: &standings, policies };
        unseen(view, name, &candidates, inputs)
    }
}

fn of<'a>(explanation: &'a Explanation, pod: &str) -> &'a EndpointExplanation {
    explanation.endpoints.iter().find(|one| *one.pod == *pod).expect(pod)
}

/// The decision, the last check with its detail, and what would be: condition and decision.
fn story(explanation: &Explanation, pod: &str) -> (Decision, String, Option<(String, Decision)>) {
    let one = of(explanation, pod);
    let last = one.chain.last().expect("a check");
    let would = one.would.clone().map(|would| (would.condition, would.then));
    (one.decision, format!("{}: {}", last.check, last.detail), would)
}

fn name() -> EdsName {
    EdsName::outbound(5000, &HOST.into())
}

#[test]
fn the_priority_behind_gateways_is_that_of_the_endpoints_own_ones() {
    let at = |address, locality| Pod { locality, ..pod(address) };
    let mut world = World::new(&[("c1", "n1"), ("c2a", "n2"), ("c2b", "n2")])
        .gateway("c2a", "n2", "172.16.0.2", 15443)
        .gateway("c2b", "n2", "172.16.0.20", 15443)
        .pods("c1", &[at("10.0.0.1", "r1")])
        .pods("c2a", &[at("10.2.0.1", "r1")])
        .pods("c2b", &[at("10.3.0.1", "r3")]);
    let outlier_detection = Some(OutlierDetection::default());
    world.policies = PolicySnapshot::with(MeshConfig { outlier_detection, ..MeshConfig::default() }, []);
    let explanation = world.from("n1/c1").with(|key| key.locality = Some(Locality::parse("r1"))).explains();
    let sent: Vec<_> = explanation.gateways.iter().map(|sum| (sum.address.as_str(), sum.priority)).collect();
    assert_eq!(sent, [("172.16.0.2:15443", 0), ("172.16.0.20:15443", 1)]);
    let priority = |pod| of(&explanation, pod).priority;
    assert_eq!((priority("10.2.0.1"), priority("10.3.0.1")), (Some(0), Some(1)));
}

#[test]
fn gateways_of_double_hbone_have_their_shares() {
    let world = World::new(&[("c1", "n1"), ("c2", "n2")])
        .hbone_gateway("c2", "n2", "172.16.0.2", 15008)
        .ambient(true, false, true)
        .pods("c2", &[pod("10.2.0.1"), pod("10.2.0.2")]);
    let explanation = world.from("n1/c1").with(|key| key.role = Role::Waypoint).explains();
    let sum = &explanation.gateways[0];
    assert_eq!((sum.address.as_str(), sum.weight), ("172.16.0.2:15008", 2));
    assert_eq!(sum.shares, [Share { cluster: "c2".into(), endpoints: 2, weight: 2, gateways: 1 }]);
    assert_eq!(sum.arithmetic, "2 endpoints of c2 weigh 2 = 2");
    assert_eq!(of(&explanation, "10.2.0.1").priority, Some(0));
    let network = of(&explanation, "10.2.0.1").chain.iter().find(|check| check.check == "network").unwrap();
    assert!(network.detail.ends_with("through 172.16.0.2:15008"), "{}", network.detail);
}

#[test]
fn q27_each_copy_of_a_gateway_has_the_shares_of_its_locality() {
    let at = |address, locality| Pod { locality, ..pod(address) };
    let mut world = World::new(&[("c1", "n1"), ("c2", "n2")])
        .gateway("c2", "n2", "172.16.0.2", 15443)
        .pods("c2", &[at("10.2.0.1", "r1"), at("10.2.0.2", "r2"), at("10.2.0.3", "r2")]);
    world.mesh = world.mesh.clone().with_quirks(Quirks::of([Quirk::Q27]));
    let explanation = world.from("n1/c1").explains();
    let told: Vec<_> = explanation.gateways.iter().map(|sum| (sum.weight, sum.arithmetic.as_str())).collect();
    assert_eq!(told, [(1, "1 endpoint of c2 weighs 1 = 1"), (2, "2 endpoints of c2 weigh 2 = 2")]);
}

#[test]
fn draining_endpoints_would_be_kept_by_the_label_that_is_configured() {
    let mut world =
        World::new(&[("c1", "n1")]).pods("c1", &[Pod { health: Health::Draining, ..pod("10.0.0.1") }]);
    let would = |world: &World| story(&world.from("n1/c1").explains(), "10.0.0.1").2;
    let with = |cookie: &str, header: &str| {
        MeshRules::default()
            .with_session_labels(SessionLabels { cookie: cookie.into(), header: header.into() })
    };
    world.mesh = with("my/session", "my/header");
    let expected =
        |label| Some((format!("the Service had sticky sessions (label {label})"), Decision::Direct));
    assert_eq!(would(&world), expected("my/session"));
    world.mesh = with("", "my/header");
    assert_eq!(would(&world), expected("my/header"));
    world.mesh = with("", "my/header").with_quirks(Quirks::of([Quirk::Q10]));
    assert_eq!(would(&world), None, "the peer looks at the label for cookies only");
}

#[test]
fn r4_9_a_service_that_is_not_global_says_so() {
    let world = World::new(&[("c1", "n1"), ("c2", "n1")])
        .ambient(true, false, false)
        .pods("c1", &[pod("10.0.0.1")])
        .pods("c2", &[pod("10.2.0.1")]);
    let explanation = world.from("n1/c1").explains();
    let (decision, check, would) = story(&explanation, "10.2.0.1");
    assert_eq!(decision, Decision::NotGlobal);
    assert_eq!(
        check,
        "cluster: the service is not global (serviceScopeConfigs): cluster c2, the proxy is in c1"
    );
    let condition = "the mesh's serviceScopeConfigs made the service GLOBAL".to_owned();
    assert_eq!(would, Some((condition, Decision::Direct)));
    assert_eq!(of(&explanation, "10.0.0.1").decision, Decision::Direct);
}

#[test]
fn r4_21_4_switches_that_keep_waypoints_and_ingress_on_their_network_are_named() {
    let world = |waypoint, ingress| {
        World::new(&[("c1", "n1"), ("c2", "n2"), ("c3", "n3")])
            .hbone_gateway("c2", "n2", "172.16.0.2", 15008)
            .ambient(waypoint, ingress, true)
            .pods("c2", &[pod("10.2.0.1")])
            .pods("c3", &[pod("10.3.0.1")])
    };
    for (role, switch) in [
        (Role::Waypoint, "AMBIENT_ENABLE_MULTI_NETWORK_WAYPOINT"),
        (Role::Ingress, "AMBIENT_ENABLE_MULTI_NETWORK_INGRESS"),
    ] {
        let off = world(false, false).from("n1/c1").with(|key| key.role = role).explains();
        let (decision, check, would) = story(&off, "10.2.0.1");
        assert_eq!(decision, Decision::AmbientNetwork, "{role:?}");
        assert_eq!(check, "network: on n2, the proxy on n1: proxies of this kind do not use other networks");
        assert_eq!(would, Some((format!("{switch} were on"), Decision::ViaGateway)));
        let no_gateway = story(&off, "10.3.0.1");
        let expected = Some((format!("{switch} were on"), Decision::NoGateway));
        assert_eq!((no_gateway.0, no_gateway.2), (Decision::AmbientNetwork, expected));
        let on = world(true, true).from("n1/c1").with(|key| key.role = role).explains();
        assert_eq!(of(&on, "10.2.0.1").decision, Decision::ViaGateway, "{role:?}");
    }
    // East-west gateways have no switch.
    let east_west = world(false, false).from("n1/c1").with(|key| key.role = Role::EastWest).explains();
    assert_eq!(of(&east_west, "10.2.0.1").decision, Decision::ViaGateway);
}

#[test]
fn r4_15_endpoints_at_unix_sockets_are_decided_too() {
    let socket = |path: &str, pod: &str, port_name: &str, mtls| InlineEndpoint {
        address: InlineAddress::Unix(path.into()),
        port: 0,
        port_name: port_name.into(),
        weight: None,
        workload: Arc::new(
            WorkloadParts {
                cluster: "c1".into(),
                name: pod.into(),
                tls_mode: if mtls { TlsMode::Istio } else { TlsMode::Disabled },
                ..WorkloadParts::default()
            }
            .into(),
        ),
    };
    let inline = vec![
        socket("/run/a", "a", "http", false),
        socket("/run/b", "b", "other", false),
        socket("/run/c", "c", "http", true),
    ];
    let mut world = World::new(&[("c1", "n1")]);
    world.service.entry = Some(Arc::new(EntryFacts { inline, ..EntryFacts::default() }));
    let world = world.pods("c1", &[]);
    let direct = world.from("n1/c1").explains();
    let told: Vec<_> =
        direct.endpoints.iter().map(|one| (one.socket.as_deref(), one.decision, one.priority)).collect();
    assert_eq!(
        told,
        [
            (Some("/run/a"), Decision::Direct, Some(0)),
            (Some("/run/b"), Decision::OtherPort, None),
            (Some("/run/c"), Decision::Direct, Some(0)),
        ]
    );
    let chain = &direct.endpoints[0].chain;
    let checks: Vec<_> = chain.iter().map(|check| check.check).collect();
    assert_eq!((checks, chain[1].detail.contains("/run/a")), (vec!["port", "network"], true));
    let sni = world.from("n1/c1").explains_as(&EdsName::sni_dnat(5000, &HOST.into()));
    let (decision, check, would) = story(&sni, "a");
    assert_eq!((decision, check.starts_with("mtls: ")), (Decision::MtlsRequired, true));
    assert_eq!(would.map(|(_, then)| then), Some(Decision::Direct));
    assert_eq!(of(&sni, "c").decision, Decision::Direct);
}

#[test]
fn r4_28_what_is_asked_for_by_sni_and_has_no_mtls_says_so() {
    let plain = Pod { mtls: false, ..pod("10.0.0.2") };
    let world = World::new(&[("c1", "n1")]).pods("c1", &[pod("10.0.0.1"), plain]);
    let sni = world.from("n1/c1").explains_as(&EdsName::sni_dnat(5000, &HOST.into()));
    assert_eq!(sni.name, format!("outbound_.5000_._.{HOST}"));
    let (decision, check, would) = story(&sni, "10.0.0.2");
    assert_eq!(
        (decision, check.as_str()),
        (Decision::MtlsRequired, "mtls: its TLS mode is \"disabled\", not \"istio\"")
    );
    assert_eq!(would.map(|(_, then)| then), Some(Decision::Direct));
    assert_eq!(of(&sni, "10.0.0.1").decision, Decision::Direct);
}

#[test]
fn r4_38_export_is_a_check_of_its_own() {
    let world = World::new(&[("c1", "n1"), ("c2", "n1")]).pods("c1", &[pod("10.0.0.1")]);
    let cell = world.registry.host(HOST).remove(0);
    let mut shard = (*cell.load().shards[0]).clone();
    let mut endpoints = shard.endpoints.to_vec();
    let mut world = world;
    let export = |world: &World, from: &str| {
        let explanation = world.from(from).explains();
        let one = of(&explanation, "10.0.0.1");
        let check = one.chain.iter().find(|check| check.check == "export").expect("always there").clone();
        (check.ok, check.detail, one.would.clone().map(|would| (would.condition, would.then)))
    };
    assert_eq!(export(&world, "n1/c2"), (true, "c1 lets every cluster use it".to_owned(), None));
    endpoints[0].exposure = crate::model::Discoverability::SameCluster.into();
    shard.endpoints = endpoints.into();
    world.writers.get_mut("c1").expect("known").0.set(cell.key().clone(), shard);
    let own = "c1 does not export the service to other clusters, and the proxy is in c1";
    assert_eq!(export(&world, "n1/c1"), (true, own.to_owned(), None));
    let abroad = "c1 does not export the service to other clusters, the proxy is in c2";
    let would = ("c1 exported the service (ServiceExport)".to_owned(), Decision::Direct);
    assert_eq!(export(&world, "n1/c2"), (false, abroad.to_owned(), Some(would)));
}

/// The Sidecar `client/s`, which names hosts of `sample` on one port or on all.
fn sidecar(host: &str, port: Option<u16>) -> PolicyObject {
    let namespace = EgressNamespace::Named("sample".into());
    let port = port.map(|number| SidecarPort { number, protocol: PortProtocol::Http, name: "http".into() });
    PolicyObject::Sidecar(Arc::new(Sidecar {
        meta: PolicyMeta { created: 0, id: PolicyId::new("client", "s") },
        selector: WorkloadSelector::default(),
        egress: vec![EgressListener {
            port,
            bind: None,
            socket: None,
            capture: Default::default(),
            hosts: vec![EgressHost { namespace, host: HostPattern::new(host) }],
        }],
        ingress: Vec::new(),
        outbound_policy: None,
        inbound_pool: None,
    }))
}

#[test]
fn r4_2_a_service_that_is_not_exported_to_the_proxy_says_to_whom() {
    let mut world = World::new(&[("c1", "n1"), ("c2", "n2")]);
    world.service.export_to = ExportTo::Namespaces(["sample".into(), "shop".into()].into());
    let mut world = world.pods("c1", &[pod("10.0.0.1"), pod("10.0.0.2")]).pods("c2", &[pod("10.2.0.1")]);
    assert_eq!(world.seen_by(&proxy("shop", &[]), &name()), None);
    let absence = world.seen_by(&proxy("client", &[]), &name()).expect("hidden");
    assert_eq!(absence.code, Nothing::ExportTo);
    assert_eq!(
        absence.detail,
        "the Service of sample is exported to sample, shop only (exportTo); the proxy is in client"
    );
    let would = absence.would.expect("helps");
    assert_eq!(would.condition, "the Service of sample were exported to namespace client");
    assert_eq!((would.nothing, would.endpoints), (None, [("direct", 2), ("hidden/no-gateway", 1)].into()));
    // Where a Sidecar hides it too, export alone does not help.
    world.policies = PolicySnapshot::with(MeshConfig::default(), [sidecar("other.sample", None)]);
    let absence = world.seen_by(&proxy("client", &[]), &name()).expect("hidden");
    assert_eq!(absence.would.expect("helps").nothing, Some(Nothing::SidecarEgress));
}

#[test]
fn r4_2_a_service_that_a_sidecar_does_not_name_says_which_sidecar() {
    let mut world = World::new(&[("c1", "n1")]).pods("c1", &[pod("10.0.0.1")]);
    world.policies = PolicySnapshot::with(MeshConfig::default(), [sidecar("other.sample", None)]);
    let absence = world.seen_by(&proxy("client", &[]), &name()).expect("hidden");
    assert_eq!(absence.code, Nothing::SidecarEgress);
    assert_eq!(absence.detail, format!("Sidecar client/s does not name sample/{HOST}"));
    let would = absence.would.expect("helps");
    assert_eq!(would.condition, format!("Sidecar client/s named sample/{HOST}"));
    assert_eq!((would.nothing, would.endpoints), (None, [("direct", 1)].into()));
    assert_eq!(world.seen_by(&proxy("elsewhere", &[]), &name()), None, "another namespace has no Sidecar");
    world.policies = PolicySnapshot::with(MeshConfig::default(), [sidecar(HOST, Some(9))]);
    let absence = world.seen_by(&proxy("client", &[]), &name()).expect("hidden on this port");
    assert_eq!(absence.detail, format!("Sidecar client/s names sample/{HOST} on port 9 only"));
    assert_eq!(
        absence.would.expect("helps").condition,
        format!("Sidecar client/s named sample/{HOST} on port 5000")
    );
    world.policies = PolicySnapshot::with(MeshConfig::default(), [sidecar(HOST, None)]);
    assert_eq!(world.seen_by(&proxy("client", &[]), &name()), None);
}

#[test]
fn r5_21_an_alias_says_whose_name_it_is() {
    let mut world = World::new(&[("c1", "n1")]);
    world.service.resolution = Resolution::Alias("real.example.com".into());
    let world = world.pods("c1", &[]);
    let absence = world.seen_by(&proxy("client", &[]), &name()).expect("no endpoints");
    assert_eq!(absence.code, Nothing::Alias);
    assert!(absence.detail.contains("real.example.com"), "{}", absence.detail);
}

#[test]
fn ports_and_subsets_that_are_not_there_name_those_that_are() {
    let mut world = World::new(&[("c1", "n1")]).pods("c1", &[pod("10.0.0.1")]);
    let viewed = |world: &World, name: &EdsName, rules: Vec<PolicyId>| {
        let explanation = world.from("n1/c1").with(|key| key.rules = rules).explains_as(name);
        let nothing = explanation.nothing.expect("nothing is decided");
        (nothing.code, nothing.detail)
    };
    let port = EdsName::outbound(80, &HOST.into());
    assert_eq!(
        viewed(&world, &port, Vec::new()),
        (Nothing::NoPort, "the service has the TCP ports 5000".to_owned())
    );
    let subset = EdsName { subset: "v9".into(), ..name() };
    let (code, detail) = viewed(&world, &subset, Vec::new());
    assert_eq!((code, detail.starts_with("no DestinationRule holds")), (Nothing::NoSubset, true), "{detail}");
    let v1 = Subset {
        name: "v1".into(),
        labels: Labels::from([("version", "v1")]),
        policy: TrafficPolicy::default(),
    };
    let mut with_v1 = rule("sample/r", HOST);
    with_v1.subsets = vec![v1];
    let object = PolicyObject::DestinationRule(Arc::new(with_v1));
    world.policies = PolicySnapshot::with(MeshConfig::default(), [object]);
    let rules = vec![PolicyId::new("sample", "r")];
    let expected = "the DestinationRules sample/r have the subsets v1".to_owned();
    assert_eq!(viewed(&world, &subset, rules), (Nothing::NoSubset, expected));
}
