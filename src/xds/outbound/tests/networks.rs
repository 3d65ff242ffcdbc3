//! Envoy clusters that resolve names, across networks (R3.14, Q18).

use super::*;
use crate::model::policy::{MtlsMode, PeerAuthentication};
use crate::model::{
    EntryFacts, GatewayHost, InlineAddress, InlineEndpoint, Quirk, Quirks, Resolution, Workload,
    WorkloadParts,
};
use crate::registry::NetworkClaim;

/// A service of the mesh whose one endpoint is a host name on another network.
fn resolved() -> EndpointShard {
    let workload = Workload::from(WorkloadParts {
        cluster: "east".into(),
        namespace: "sample".into(),
        network: "net-west".into(),
        tls_mode: crate::model::TlsMode::Istio,
        ..WorkloadParts::default()
    });
    let endpoint = InlineEndpoint {
        address: InlineAddress::Host("b.example".into()),
        port: 443,
        port_name: "http".into(),
        weight: None,
        workload: Arc::new(workload),
    };
    let entry = EntryFacts { inline: vec![endpoint], ..EntryFacts::default() };
    let service = Service { resolution: Resolution::Dns, entry: Some(entry.into()), ..record("db") };
    EndpointShard::new("east".into(), Some(Arc::new(service)), Vec::new())
}

fn gateway(network: &str, host: &str) -> NetworkClaim {
    let host = GatewayHost {
        network: network.into(),
        host: host.into(),
        port: 15443,
        hbone_port: 0,
        cluster: "east".into(),
    };
    NetworkClaim { network: Some("net-east".into()), gateways: Vec::new(), hosts: vec![host] }
}

fn is_told(outbound: &Outbound, host: &str) -> bool {
    let name = format!("outbound|80||{}", super::host("db"));
    let clusters = outbound.clusters();
    let encoded = clusters.get(name.as_str()).map(|encoded| encoded.any.clone()).unwrap_or_default();
    encoded.windows(host.len()).any(|part| part == host.as_bytes())
}

#[test]
fn r3_14_a_change_of_a_network_rebuilds_the_envoy_clusters_made_of_its_gateways() {
    let mut mesh = Mesh::new(&["a", "b"]);
    mesh.east.set(record("db").key, resolved());
    mesh.push();
    let (stream, outbound) = mesh.join(1, key("sample"));
    assert!(!is_told(&outbound, "b.example"), "D2: its network has no gateway");
    mesh.east.claim_networks(gateway("net-west", "gw.example"));
    assert_eq!(mesh.push(), 1);
    assert!(is_told(&outbound, "gw.example") && !is_told(&outbound, "b.example"));
    assert_eq!(stream.take().lists.into_iter().next(), Some(ResourceType::Cluster));
    mesh.east.claim_networks(NetworkClaim {
        hosts: [gateway("net-west", "gw.example").hosts, gateway("net-south", "s.example").hosts].concat(),
        ..gateway("", "")
    });
    assert_eq!(mesh.push(), 0, "another network");
    let near = OutboundKey { network: "net-west".into(), ..key("sample") };
    let (_, near) = mesh.join(2, near);
    assert!(is_told(&near, "b.example") && !is_told(&near, "gw.example"));
}

#[test]
fn q18_the_peer_takes_gateways_with_host_names_from_proxies_of_one_family() {
    for (quirks, families, told) in [
        (&[][..], IpFamilies::V4, true),
        (&[Quirk::Q18], IpFamilies::V4, false),
        (&[Quirk::Q18], IpFamilies::Dual, true),
    ] {
        let mut mesh = Mesh::new(&[]);
        let rules = MeshRules::default().with_quirks(Quirks::of(quirks.iter().copied()));
        mesh.outbounds = Outbounds::new(Arc::clone(&mesh.registry), rules.into(), Arc::clone(&mesh.counts));
        mesh.east.set(record("db").key, resolved());
        mesh.east.claim_networks(gateway("net-west", "gw.example"));
        let (_, outbound) = mesh.join(1, OutboundKey { families, ..key("sample") });
        assert_eq!(is_told(&outbound, "gw.example"), told, "{quirks:?} {families:?}");
    }
}

#[test]
fn names_outside_the_mesh_are_on_none_of_its_networks() {
    let mut mesh = Mesh::new(&[]);
    let shard = resolved();
    let inside = shard.service.as_deref().expect("a record");
    let facts =
        EntryFacts { mesh_external: true, ..EntryFacts::clone(inside.entry.as_deref().expect("an entry")) };
    let outside = Service { entry: Some(facts.into()), ..inside.clone() };
    mesh.east.set(record("db").key, EndpointShard::new("east".into(), Some(outside.into()), Vec::new()));
    mesh.east.claim_networks(gateway("net-west", "gw.example"));
    let (_, outbound) = mesh.join(1, key("sample"));
    assert!(is_told(&outbound, "b.example") && !is_told(&outbound, "gw.example"));
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
fn d14_a_peer_authentication_rebuilds_the_envoy_clusters_that_asked_it() {
    let mut mesh = Mesh::new(&["a", "b"]);
    mesh.east.set(record("db").key, resolved());
    mesh.east.claim_networks(gateway("net-west", "gw.example"));
    mesh.push();
    let (stream, outbound) = mesh.join(1, key("sample"));
    assert!(is_told(&outbound, "gw.example"));
    stream.take();
    let lists = mesh.counts.list_builds.load(Ordering::Relaxed);
    assert_eq!(mesh.write(disabling("other")), 0, "of another namespace");
    assert_eq!(mesh.counts.list_builds.load(Ordering::Relaxed), lists);
    assert_eq!(mesh.write(disabling("sample")), 1, "the one cluster with endpoints of that namespace");
    assert!(stream.take().lists.is_empty(), "nothing differs yet");
    // An Envoy cluster with nothing to resolve lingers as any that is removed (D25).
    let expire = || outbound.expire(Instant::now() + LINGER, &mut Marks::new(None));
    expire();
    assert!(stream.take().lists.contains(&ResourceType::Cluster));
    assert!(!is_told(&outbound, "gw.example"), "without mTLS nothing goes through a gateway");
    assert_eq!(mesh.remove(PolicyKind::PeerAuthentication, "p"), 1);
    assert!(is_told(&outbound, "gw.example"));
    assert_eq!(mesh.write(disabling("istio-system")), 1, "of everybody");
    expire();
    assert!(!is_told(&outbound, "gw.example"));
}
