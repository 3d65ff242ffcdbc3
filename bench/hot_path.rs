//! The first piece of the path of one endpoint change: publish. The others are in `view`.
//!
//! `cargo bench --bench hot_path`; method and results in `bench/README.md`.
#![allow(missing_docs)]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use tombolo::model::{
    ClusterRole, Endpoint, EndpointShard, NetworkGateway, PortProtocol, Service, ServiceKey, ServicePort,
    TlsMode, Transport, WorkloadParts,
};
use tombolo::registry::{ClusterWriter, Registry};

fn main() {
    divan::main();
}

fn key(service: usize) -> ServiceKey {
    ServiceKey::new("bench", format!("s{service}.bench.svc.cluster.local"))
}

fn shard(cluster: &str, network: &str, service: usize, endpoints: usize) -> EndpointShard {
    let port = ServicePort {
        number: 80,
        name: "http".into(),
        transport: Transport::Tcp,
        protocol: PortProtocol::Http,
    };
    let record = Service { key: key(service), ports: vec![port], ..Service::default() };
    let endpoint = |index: usize| {
        let address = IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + index as u32));
        let workload = WorkloadParts {
            cluster: cluster.into(),
            namespace: "bench".into(),
            name: format!("p{index}").into(),
            addresses: address.into(),
            network: network.into(),
            tls_mode: TlsMode::Istio,
            workload_name: "bench".into(),
            ..WorkloadParts::default()
        };
        Endpoint::new(address, 8080, "http", workload)
    };
    EndpointShard::new(cluster.into(), Some(Arc::new(record)), (0..endpoints).map(endpoint).collect())
}

fn world(services: usize, endpoints: usize) -> (Arc<Registry>, ClusterWriter, ClusterWriter) {
    let registry = Registry::new();
    let mut east = registry.writer("east".into(), ClusterRole::Config).expect("first writer");
    let mut west = registry.writer("west".into(), ClusterRole::Remote).expect("first writer");
    let gateway = NetworkGateway {
        network: "net-west".into(),
        cluster: "west".into(),
        address: "172.30.0.2".parse().expect("address"),
        port: 15443,
        hbone_port: 0,
    };
    east.set_networks(Some("net-east".into()), Vec::new());
    west.set_networks(Some("net-west".into()), vec![gateway]);
    for service in 0..services {
        east.set(key(service), shard("east", "net-east", service, endpoints));
        west.set(key(service), shard("west", "net-west", service, endpoints));
    }
    (registry, east, west)
}

/// One shard of 20 endpoints changes; the number of other services must not matter.
#[divan::bench(args = [10, 1_000, 10_000])]
fn publish(bencher: divan::Bencher<'_, '_>, services: usize) {
    let (registry, _east, mut west) = world(services, 2);
    let (a, b) = (shard("west", "net-west", 0, 19), shard("west", "net-west", 0, 20));
    let mut flip = false;
    bencher.bench_local(|| {
        flip = !flip;
        west.set(key(0), if flip { a.clone() } else { b.clone() });
        registry.changes().take()
    });
}
