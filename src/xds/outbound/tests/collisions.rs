//! Chains of shared listeners that two services claim: counted, and told on demand.

use super::*;
use crate::model::{EntryFacts, Resolution};

#[test]
fn what_two_entries_claim_is_told_with_both_and_whom_it_concerns() {
    let mut mesh = Mesh::new(&["a"]);
    let entry = |name: &str, created: i64, blocks: &[&str]| {
        let blocks = blocks.iter().map(|block| block.parse().expect("a block")).collect();
        let port = ServicePort {
            number: 5432,
            name: "tcp".into(),
            transport: Transport::Tcp,
            protocol: PortProtocol::Tcp,
        };
        Service {
            key: ServiceKey::new("sample", name),
            ports: vec![port],
            created,
            resolution: Resolution::Passthrough,
            entry: Some(Arc::new(EntryFacts { blocks, ..EntryFacts::default() })),
            ..Service::default()
        }
    };
    let mut tell = |service: Service| {
        mesh.east
            .set(service.key.clone(), EndpointShard::new("east".into(), Some(Arc::new(service)), Vec::new()));
    };
    tell(entry("old.example", 1, &["192.0.2.0/24"]));
    tell(entry("young.example", 2, &["192.0.2.0/24", "198.51.100.0/24"]));
    mesh.push();
    let counted = |mesh: &Mesh| mesh.counts.chain_conflicts.load(Ordering::Relaxed);
    let (_one, _sample) = mesh.join(1, key("sample"));
    assert_eq!(counted(&mesh), 1, "once for the listener that was built");
    let (_two, _other) = mesh.join(2, key("other"));
    let collisions: Vec<_> = mesh.outbounds.collisions().into_iter().collect();
    let [(collision, clients)] = collisions.as_slice() else { panic!("{collisions:?}") };
    let block = collision.block.map(|block| block.to_string());
    assert_eq!(
        (collision.port, collision.name.as_deref(), block.as_deref()),
        (5432, None, Some("192.0.2.0/24"))
    );
    assert_eq!((&*collision.kept.hostname, &*collision.left_out.hostname), ("old.example", "young.example"));
    assert_eq!(clients.iter().map(|name| name.as_str()).collect::<Vec<_>>(), ["other", "sample"]);
    assert_eq!(counted(&mesh), 2, "asking counts nothing");
    mesh.east
        .set(ServiceKey::new("sample", "old.example"), EndpointShard::new("east".into(), None, Vec::new()));
    mesh.push();
    assert!(mesh.outbounds.collisions().is_empty());
}
