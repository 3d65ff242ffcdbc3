//! Endpoints that Envoy resolves itself (R3.14, R4.12, R4.21–R4.36).

use super::*;
use crate::model::policy::{
    Distribute, Failover, LocalityLb, MeshConfig, MtlsMode, OutlierDetection, PeerAuthentication, PolicyId,
    PolicyKind, PolicyMeta, WorkloadSelector, ZoneAwareLb,
};
use crate::model::{EntryFacts, GatewayHost, InlineAddress, InlineEndpoint, Name, Quirk, Quirks, Resolution};
use crate::registry::{NetworkClaim, PolicyObject};
use crate::view::explain::Nothing;

/// An endpoint of `net/locality`; nowhere without a host.
fn at(host: &str, network: &str, locality: &str) -> InlineEndpoint {
    let parts = WorkloadParts {
        cluster: "east".into(),
        namespace: "sample".into(),
        network: network.into(),
        locality: Locality::parse(locality),
        tls_mode: TlsMode::Istio,
        ..WorkloadParts::default()
    };
    let address = if host.is_empty() { InlineAddress::Absent } else { InlineAddress::Host(host.into()) };
    InlineEndpoint {
        address,
        port: 443,
        port_name: "http".into(),
        weight: None,
        workload: Arc::new(parts.into()),
    }
}

/// `net-west` has a gateway with an IPv4 address, one with an IPv6 address and one with a host name.
fn world(resolution: Resolution, inline: &[InlineEndpoint]) -> World {
    let mut world = World::new(&[("east", "net-east"), ("west", "net-west")]);
    let of = |address: &str| {
        NetworkGateway::new("net-west".into(), "west".into(), address.parse().expect("address"))
    };
    let host = GatewayHost {
        network: "net-west".into(),
        host: "gw.example".into(),
        port: 15443,
        hbone_port: 0,
        cluster: "west".into(),
    };
    world.writers.get_mut("west").expect("known").0.claim_networks(NetworkClaim {
        network: Some("net-west".into()),
        gateways: vec![of("172.30.0.2"), of("fd00::2")],
        hosts: vec![host],
    });
    world.service.resolution = resolution;
    world.service.entry = Some(Arc::new(EntryFacts { inline: inline.to_vec(), ..EntryFacts::default() }));
    world.pods("east", &[])
}

fn strict(inline: &[InlineEndpoint]) -> World {
    world(Resolution::Dns, inline)
}

/// `locality priority weight: host:port*weight …`.
fn told_of(viewer: &Viewer<'_>) -> Vec<String> {
    let (assignment, _) = viewer.assignment(&whole());
    let one = |group: &crate::view::LocalityGroup<'_>| {
        let all = group.endpoints.iter();
        let all: Vec<_> = all.map(|one| format!("{}:{}*{}", shown(one), one.port(), one.weight)).collect();
        format!("{} {} {}: {}", group.locality, group.priority, group.weight, all.join(" "))
    };
    assignment.groups.iter().map(one).collect()
}

fn sees(families: IpFamilies, quirks: &[Quirk], inline: &[InlineEndpoint]) -> Vec<String> {
    let mut world = strict(inline);
    world.mesh = MeshRules::default().with_quirks(Quirks::of(quirks.iter().copied()));
    told_of(&world.from("net-east/east").with(|key| key.families = families))
}

fn decisions(viewer: &Viewer<'_>) -> Vec<Decision> {
    viewer.assignment(&whole()).1.into_iter().map(|(_, decision)| decision).collect()
}

fn under(mesh: MeshConfig, inline: &[InlineEndpoint]) -> World {
    World { policies: PolicySnapshot::with(mesh, []), ..strict(inline) }
}

fn ordered(mesh: MeshConfig, inline: &[InlineEndpoint]) -> Vec<String> {
    let labels = vec![(Name::from("topology.istio.io/network"), Name::from("net-east"))];
    let world = under(mesh, inline);
    let viewer = world.from("net-east/east").with(|key| {
        key.locality = Some(Locality::parse("r1/z1"));
        key.labels = Some(labels);
    });
    told_of(&viewer)
}

fn with(setting: LocalityLb) -> MeshConfig {
    MeshConfig { locality_lb: Some(setting), ..MeshConfig::default() }
}

fn disabling(namespace: &str) -> PolicyObject {
    PolicyObject::PeerAuthentication(Arc::new(PeerAuthentication {
        meta: PolicyMeta { created: 1, id: PolicyId::new(namespace, "p") },
        selector: WorkloadSelector::default(),
        mode: Some(MtlsMode::Disable),
        ports: Vec::new(),
    }))
}

#[test]
fn q18_gateways_with_host_names_stay_where_envoy_resolves_them() {
    let all = [at("b.example", "net-west", ""), at("", "net-west", "")];
    let told = |families, quirks: &[Quirk]| sees(families, quirks, &all);
    assert_eq!(told(IpFamilies::V4, &[]), [" 0 4: 172.30.0.2:15443*2 gw.example:15443*2"]);
    assert_eq!(told(IpFamilies::V4, &[Quirk::Q18]), [" 0 2: 172.30.0.2:15443*2"]);
    assert_eq!(told(IpFamilies::V6, &[]), [" 0 4: fd00::2:15443*2 gw.example:15443*2"]);
    assert_eq!(told(IpFamilies::V6, &[Quirk::Q18]), [" 0 2: fd00::2:15443*2"]);
    let every = [" 0 6: 172.30.0.2:15443*2 fd00::2:15443*2 gw.example:15443*2"];
    assert_eq!(told(IpFamilies::Dual, &[]), every);
    assert_eq!(told(IpFamilies::Dual, &[Quirk::Q18]), every, "no family is missing");
}

#[test]
fn r4_25_names_are_direct_behind_gateways_or_hidden() {
    let nowhere = at("c.example", "net-none", "");
    let (near, open, far) =
        (at("a.example", "net-east", ""), at("o.example", "", ""), at("b.example", "net-west", ""));
    let all = [near, open, far, nowhere.clone(), at("", "net-east", "")];
    let through = " 0 6: a.example:443*2 o.example:443*2 172.30.0.2:15443*1 gw.example:15443*1";
    assert_eq!(sees(IpFamilies::V4, &[], &all), [through]);
    assert!(sees(IpFamilies::V4, &[], std::slice::from_ref(&nowhere)).is_empty(), "D2");
    assert_eq!(sees(IpFamilies::V4, &[Quirk::Q26], &[nowhere]), [" 0 1: c.example:443*1"]);
    let world = strict(&all);
    let viewer = world.from("net-east/east");
    let expected =
        [Decision::Direct, Decision::Direct, Decision::ViaGateway, Decision::NoGateway, Decision::NoAddress];
    assert_eq!(decisions(&viewer), expected);
    let read = viewer.assignment(&whole()).0.networks_read;
    let read: Vec<_> = read.iter().map(|(network, _)| network.as_str()).collect();
    assert_eq!(read, ["net-none", "net-west"]);
}

#[test]
fn r4_12_3_peer_authentications_are_asked_as_for_other_endpoints() {
    let all = [at("a.example", "net-east", ""), at("b.example", "net-west", "")];
    let mut world = strict(&all);
    let asked = |world: &World| {
        let viewer = world.from("net-east/east");
        let (assignment, _) = viewer.assignment(&whole());
        let kinds = assignment.policies_read.iter().map(|(part, _)| part);
        let asked: Vec<_> = kinds.filter(|part| part.kind == PolicyKind::PeerAuthentication).collect();
        let asked: Vec<_> = asked.iter().map(|part| part.scope.to_string()).collect();
        let mtls: Vec<_> = assignment.endpoints().map(AssignedEndpoint::is_mtls).collect();
        (asked, mtls, decisions(&viewer))
    };
    let scopes = vec!["istio-system".to_owned(), "sample".to_owned()];
    let open = (scopes.clone(), vec![true; 3], vec![Decision::Direct, Decision::ViaGateway]);
    assert_eq!(asked(&world), open);
    world.policies = PolicySnapshot::with(MeshConfig::default(), [disabling("other")]);
    assert_eq!(asked(&world), open, "another namespace");
    world.policies = PolicySnapshot::with(MeshConfig::default(), [disabling("sample")]);
    assert_eq!(asked(&world), (scopes, vec![false], vec![Decision::Direct, Decision::MtlsRequired]));
}

#[test]
fn r4_28_by_sni_only_mtls_is_reached() {
    let plain = at("a.example", "net-east", "");
    let parts = WorkloadParts { network: "net-east".into(), ..WorkloadParts::default() };
    let plain = InlineEndpoint { workload: Arc::new(parts.into()), ..plain };
    let world = strict(&[plain, at("b.example", "net-east", "")]);
    let viewer = world.from("net-east/east").with(|key| key.role = Role::Router);
    let (assignment, decided) = viewer.assignment(&EdsName::sni_dnat(5000, &HOST.into()));
    assert_eq!(assignment.endpoints().map(shown).collect::<Vec<_>>(), ["b.example"]);
    assert_eq!(decided[0].1, Decision::MtlsRequired);
}

#[test]
fn d03_a_gateway_comes_once() {
    let all = [at("b.example", "net-west", "r1"), at("c.example", "net-west", "r2")];
    assert_eq!(sees(IpFamilies::V4, &[], &all), ["r1 0 4: 172.30.0.2:15443*2 gw.example:15443*2"]);
    let twice = ["r1", "r2"].map(|locality| format!("{locality} 0 2: 172.30.0.2:15443*1 gw.example:15443*1"));
    assert_eq!(sees(IpFamilies::V4, &[Quirk::Q27], &all), twice);
}

#[test]
fn a_name_comes_once() {
    let all = [at("a.example", "net-east", "r1"), at("a.example", "net-east", "r2")];
    assert_eq!(sees(IpFamilies::V4, &[], &all), ["r1 0 1: a.example:443*1"]);
    let world = strict(&all);
    assert_eq!(decisions(&world.from("net-east/east")), [Decision::Direct, Decision::SameAddress]);
}

/// In the proxy's zone, in its region, and behind gateways of another one.
fn places() -> Vec<InlineEndpoint> {
    vec![
        at("a.example", "net-east", "r1/z1"),
        at("b.example", "net-east", "r1/z2"),
        at("c.example", "net-west", "r2/z1"),
    ]
}

#[test]
fn r4_33_localities_fail_over() {
    let rule = Failover { from: "r1".into(), to: "r2".into() };
    let expected = [
        "r1/z1 0 2: a.example:443*2",
        "r1/z2 1 2: b.example:443*2",
        "r2/z1 2 2: 172.30.0.2:15443*1 gw.example:15443*1",
    ];
    let failover = LocalityLb { failover: vec![rule], ..LocalityLb::default() };
    assert_eq!(ordered(with(failover), &places()), expected);
    let outliers = Some(OutlierDetection::default());
    let default = MeshConfig { outlier_detection: outliers, ..with(LocalityLb::default()) };
    assert_eq!(ordered(default, &places()), expected);
    let unordered = ordered(with(LocalityLb::default()), &places());
    assert!(unordered.iter().all(|group| group.contains(" 0 2: ")), "D6: {unordered:?}");
}

#[test]
fn r4_32_localities_have_shares() {
    let to = vec![("r1/*".into(), 70), ("r2/*".into(), 30)];
    let rule = Distribute { from: "r1/*".into(), to };
    let shares = LocalityLb { distribute: vec![rule], ..LocalityLb::default() };
    let expected = [
        "r1/z1 0 35: a.example:443*2",
        "r1/z2 0 35: b.example:443*2",
        "r2/z1 0 30: 172.30.0.2:15443*1 gw.example:15443*1",
    ];
    assert_eq!(ordered(with(shares), &places()), expected);
    let rule = Distribute { from: "*".into(), to: vec![("r1/z1".into(), 100)] };
    let shares = LocalityLb { distribute: vec![rule], ..LocalityLb::default() };
    let world = under(with(shares), &places());
    let hidden = [Decision::Direct, Decision::NoShare, Decision::NoShare];
    assert_eq!(decisions(&world.from("net-east/east")), hidden);
}

#[test]
fn r4_34_and_r4_35_labels_and_regions_order_them() {
    let keys = vec!["topology.istio.io/network".into()];
    let by_network = LocalityLb { failover_priority: keys, ..LocalityLb::default() };
    let ranks = |all: Vec<String>| -> Vec<String> {
        all.iter().map(|group| group.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect()
    };
    assert_eq!(ranks(ordered(with(by_network), &places())), ["r1/z1 0", "r1/z2 0", "r2/z1 1"]);
    let zone = MeshConfig { zone_aware_lb: Some(ZoneAwareLb::default()), ..MeshConfig::default() };
    let enabled = zone.zone_aware_lb.as_ref().is_some_and(|zone| zone.enabled);
    let last = if enabled { "r2/z1 1" } else { "r2/z1 0" };
    assert_eq!(ranks(ordered(zone, &places())), ["r1/z1 0", "r1/z2 0", last]);
}

#[test]
fn logical_dns_is_one_endpoint_of_one_locality() {
    let mut all = places();
    all[0].address = InlineAddress::Absent;
    let rule = Failover { from: "r1".into(), to: "r2".into() };
    let failover = LocalityLb { failover: vec![rule], ..LocalityLb::default() };
    let policies = PolicySnapshot::with(with(failover), []);
    let one = World { policies, ..world(Resolution::DnsRoundRobin, &all) };
    let viewer = one.from("net-east/east").with(|key| key.locality = Some(Locality::parse("r2")));
    assert_eq!(told_of(&viewer), ["r1/z2 0 1: b.example:443*1"]);
    assert_eq!(decisions(&viewer), [Decision::NoAddress, Decision::Direct, Decision::OnlyOne]);
    let behind = world(Resolution::DnsRoundRobin, &[at("c.example", "net-west", "")]);
    let viewer = behind.from("net-east/east");
    let (assignment, _) = viewer.assignment(&whole());
    assert_eq!(assignment.endpoints().map(shown).collect::<Vec<_>>(), ["172.30.0.2"]);
}

#[test]
fn names_outside_the_mesh_are_on_none_of_its_networks() {
    let mut world = strict(&[]);
    let inline = vec![at("b.example", "net-west", "")];
    world.service.entry = Some(Arc::new(EntryFacts { mesh_external: true, inline, ..EntryFacts::default() }));
    let world = world.pods("east", &[]);
    let viewer = world.from("net-east/east");
    assert_eq!(told_of(&viewer), [" 0 1: b.example:443*1"]);
    let (assignment, _) = viewer.assignment(&whole());
    assert!(assignment.endpoints().all(|one| !one.is_mtls()));
    let asks = |kind| assignment.policies_read.iter().any(|(part, _)| part.kind == kind);
    assert!(!asks(PolicyKind::PeerAuthentication) && assignment.networks_read.is_empty());
    let check = viewer.explains().endpoints[0].chain.iter().find(|check| check.check == "network").cloned();
    assert_eq!(check.expect("a check").detail, "outside the mesh: on none of its networks");
}

#[test]
fn what_envoy_resolves_is_explained_as_other_endpoints_are() {
    let rule = Failover { from: "r1".into(), to: "r2".into() };
    let failover = LocalityLb { failover: vec![rule], ..LocalityLb::default() };
    let mut all = places();
    all.extend([at("d.example", "net-none", "r1/z1"), at("", "net-east", "r1/z1")]);
    let world = under(with(failover), &all);
    let viewer = world.from("net-east/east").with(|key| key.locality = Some(Locality::parse("r1/z1")));
    let explained = viewer.explains();
    assert_eq!(explained.nothing, None);
    let told = explained.endpoints.iter();
    let told: Vec<_> =
        told.map(|one| (one.host.as_deref().unwrap_or(""), one.decision, one.priority)).collect();
    let expected = [
        ("a.example", Decision::Direct, Some(0)),
        ("b.example", Decision::Direct, Some(1)),
        ("c.example", Decision::ViaGateway, Some(2)),
        ("d.example", Decision::NoGateway, None),
        ("", Decision::NoAddress, None),
    ];
    assert_eq!(told, expected);
    let would = |at: usize| explained.endpoints[at].would.as_ref().map(|would| would.then);
    assert_eq!((would(3), would(4)), (Some(Decision::ViaGateway), Some(Decision::Direct)));
    let sums: Vec<_> = explained.gateways.iter().map(|sum| (&*sum.address, sum.weight)).collect();
    assert_eq!(sums, [("172.30.0.2:15443", 1), ("gw.example:15443", 1)]);
    let network = explained.endpoints[2].chain.iter().find(|check| check.check == "network");
    let detail = "on net-west, the proxy on net-east: through 172.30.0.2:15443, gw.example:15443";
    assert_eq!(network.map(|check| check.detail.as_str()), Some(detail));
    assert_eq!(explained.priorities.iter().map(|row| row.weight).collect::<Vec<_>>(), [2, 2, 2]);
    let nobody = strict(&[]).from("net-east/east").explains().nothing;
    assert_eq!(nobody.map(|nothing| nothing.code), Some(Nothing::Dns));
}

#[test]
fn eds_tells_nothing_of_what_envoy_resolves() {
    let world = strict(&places());
    let viewer = world.from("net-east/east");
    let (name, mut decided) = (whole(), Vec::new());
    let assignment = crate::view::assign(viewer.inputs(&name), &name, &viewer.key, &mut decided);
    assert!(assignment.groups.is_empty() && decided.is_empty());
}
