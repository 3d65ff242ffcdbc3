//! Envoy clusters that differ by where clients are (R4.32–R4.35, D16).

use super::*;
use crate::model::policy::{Failover, LoadBalancer, LocalityLb, TrafficSettings};
use crate::model::{
    EntryFacts, InlineAddress, InlineEndpoint, Locality, Node, NodeMetadata, ProxyView, Resolution,
    WorkloadParts,
};

/// A service that Envoy resolves, with an endpoint in each of two regions.
fn resolved() -> EndpointShard {
    let endpoint = |host: &str, locality: &str| InlineEndpoint {
        address: InlineAddress::Host(host.into()),
        port: 443,
        port_name: "http".into(),
        weight: None,
        workload: Arc::new(
            WorkloadParts { locality: Locality::parse(locality), ..WorkloadParts::default() }.into(),
        ),
    };
    let inline = vec![endpoint("a.example", "r1"), endpoint("b.example", "r2")];
    let entry = EntryFacts { inline, ..EntryFacts::default() };
    let service = Service { resolution: Resolution::Dns, entry: Some(entry.into()), ..record("db") };
    EndpointShard::new("east".into(), Some(Arc::new(service)), Vec::new())
}

/// Regions fail over.
fn failover() -> PolicyObject {
    let rule = Failover { from: "r1".into(), to: "r2".into() };
    let locality = LocalityLb { failover: vec![rule], ..LocalityLb::default() };
    let lb = LoadBalancer { locality: Some(locality), ..LoadBalancer::default() };
    let settings = TrafficSettings { load_balancer: Some(lb), ..TrafficSettings::default() };
    PolicyObject::DestinationRule(Arc::new(DestinationRule {
        meta: meta("rule"),
        host: HostPattern::new(host("db")),
        policy: TrafficPolicy { settings, ..TrafficPolicy::default() },
        subsets: Vec::new(),
        selector: WorkloadSelector::default(),
        export_to: ExportTo::Unset,
    }))
}

fn proxy(locality: &str) -> ProxyView {
    let id = "sidecar~10.0.0.9~p.sample~sample.svc.cluster.local";
    let locality = Locality::parse(locality);
    let node = Node::parse(id, NodeMetadata::default(), locality, std::iter::empty()).expect("a node");
    ProxyView::new(&node, None, &"".into(), Default::default())
}

fn name() -> String {
    format!("outbound|80||{}", host("db"))
}

/// The bytes of the Envoy cluster for a client of a place.
fn told(outbound: &Outbound, placed: Option<&Arc<Placed>>) -> Option<Vec<u8>> {
    let lists = [placed.map(|placed| placed.clusters()).unwrap_or_default(), outbound.clusters()];
    lists.iter().find_map(|list| list.get(&name()).map(|encoded| encoded.any.to_vec()))
}

#[test]
fn d16_only_what_compares_places_is_built_for_each_of_them() {
    let mut mesh = Mesh::new(&["a", "b"]);
    mesh.east.set(record("db").key, resolved());
    mesh.push();
    let (stream, outbound) = mesh.join(1, key("sample"));
    let place =
        |stream: &Arc<StreamHandle>, locality: &str| outbound.place(&proxy(locality), stream, &mesh.registry);
    assert!(place(&stream, "r1").is_none(), "nothing compares it");
    let everywhere = told(&outbound, None).expect("a cluster");
    assert_eq!(mesh.write(failover()), 1);
    assert!(stream.take().view, "it has to find its place");
    let builds = || mesh.counts.service_builds.load(Ordering::Relaxed);
    let before = builds();
    let one = place(&stream, "r1/z1").expect("a place");
    assert_eq!(builds() - before, 1, "of all services only the one that compares it");
    let (other, further) = (StreamHandle::new(2), StreamHandle::new(3));
    let two = place(&other, "r2/z1").expect("a place");
    assert!(Arc::ptr_eq(&two, &place(&further, "r2/z1").expect("the same")));
    assert_eq!(builds() - before, 2, "once for each place");
    let (in_one, in_two) = (told(&outbound, Some(&one)), told(&outbound, Some(&two)));
    assert!(in_one.is_some() && in_two.is_some() && in_one != in_two);
    assert_ne!(in_one.as_deref(), Some(everywhere.as_slice()));
    mesh.east.set(record("db").key, EndpointShard::new("east".into(), None, Vec::new()));
    mesh.push();
    assert!(told(&outbound, Some(&one)).is_some(), "D25: it lingers");
    let dirty = further.take();
    assert!(!dirty.lists.contains(&ResourceType::Cluster), "it stays the same for now");
    outbound.expire(Instant::now() + LINGER, &mut Marks::new(None));
    assert_eq!(told(&outbound, Some(&two)), None);
    outbound.unplace(&one, &stream);
    outbound.unplace(&two, &other);
    outbound.unplace(&two, &further);
    assert!(outbound.world().places.is_empty());
}

#[test]
fn who_comes_back_to_a_place_is_told_of_it() {
    let mut mesh = Mesh::new(&[]);
    mesh.east.set(record("db").key, resolved());
    mesh.write(failover());
    let (stream, outbound) = mesh.join(1, key("sample"));
    let other = StreamHandle::new(2);
    let place =
        |stream: &Arc<StreamHandle>, locality: &str| outbound.place(&proxy(locality), stream, &mesh.registry);
    let stays = place(&other, "r2").expect("a place");
    let first = place(&stream, "r1").expect("a place");
    let before = told(&outbound, Some(&first));
    assert!(before.is_some());
    outbound.unplace(&first, &stream);
    let again = place(&stream, "r1").expect("a place");
    assert_eq!(told(&outbound, Some(&again)), before);
    assert!(told(&outbound, Some(&stays)).is_some());
}

#[test]
fn a_rule_that_no_longer_compares_places_brings_clients_together_again() {
    let mut mesh = Mesh::new(&[]);
    mesh.east.set(record("db").key, resolved());
    mesh.write(failover());
    let (stream, outbound) = mesh.join(1, key("sample"));
    let placed = outbound.place(&proxy("r1"), &stream, &mesh.registry).expect("a place");
    stream.take();
    assert_eq!(mesh.remove(PolicyKind::DestinationRule, "rule"), 1);
    assert!(stream.take().view);
    assert!(outbound.place(&proxy("r1"), &stream, &mesh.registry).is_none());
    let shared = told(&outbound, None);
    assert!(shared.is_some());
    assert_eq!(told(&outbound, Some(&placed)), shared, "nothing older stands before it");
}
