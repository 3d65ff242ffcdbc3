//! What an assignment costs: build and encode, by endpoints, clusters and views; the generated messages in the same run.
//!
//! `cargo bench --bench view`. P8: at most 50 ns per endpoint at 1 000 endpoints. P13: other services cost nothing.
#![allow(missing_docs, unreachable_pub, clippy::print_stdout, clippy::expect_used)]

#[path = "cost.rs"]
mod cost;

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use cost::{Way, compare};
use tombolo::model::{
    ClusterRole, Endpoint, EndpointShard, Locality, Name, NetworkGateway, NodePlace, PortProtocol, Service,
    ServiceKey, ServicePort, Shared, TlsMode, Transport, Workload, WorkloadParts, WorkloadProfile,
};
use tombolo::registry::{NetworkSnapshot, PolicySnapshot, Registry, ServiceSnapshot, StandingSnapshot};
use tombolo::view::{Assignment, EdsKey, EdsName, Inputs, MeshRules, Recorder, Tally, assign};
use tombolo::xds::resources;

/// As in the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Rounds of which the best counts.
const ROUNDS: usize = 60;

fn main() {
    let rounds = if std::env::args().any(|word| word == "--test") { 1 } else { ROUNDS };
    for endpoints in [10, 100, 1_000, 10_000] {
        let world = World::new(2, endpoints / 2, 0);
        compare(
            &format!("{endpoints} endpoints, half of them behind a gateway"),
            rounds,
            world.ways(&of_cluster(0)),
        );
        let world = World::new(1, endpoints, 0);
        compare(&format!("{endpoints} endpoints, all direct"), rounds, world.ways(&of_cluster(0)));
    }
    for clusters in [1, 10, 100] {
        let world = World::new(clusters, 1_000 / clusters, 0);
        compare(
            &format!("1 000 endpoints of {clusters} clusters on as many networks"),
            rounds,
            world.ways(&of_cluster(0)),
        );
    }
    for views in [1, 8, 64] {
        let world = World::new(64, 16, 0);
        let keys: Vec<EdsKey> = (0..views).map(of_cluster).collect();
        let all = Way::new("build and encode for every view", || {
            keys.iter().for_each(|view| {
                let _ = black_box(world.bytes(&world.assign(view, &mut ())));
            });
        });
        compare(&format!("1 024 endpoints of 64 clusters, {views} views"), rounds, vec![all]);
    }
    for services in [0, 1_000, 10_000] {
        let world = World::new(2, 50, services);
        let one = Way::new("build and encode", || {
            let _ = black_box(world.bytes(&world.assign(&of_cluster(0), &mut ())));
        });
        compare(&format!("100 endpoints beside {services} other services"), rounds, vec![one]);
    }
}

/// A service in several clusters, each on a network of its own with a gateway.
struct World {
    name: EdsName,
    text: String,
    service: Arc<ServiceSnapshot>,
    networks: Arc<NetworkSnapshot>,
    standings: Arc<StandingSnapshot>,
    policies: Arc<PolicySnapshot>,
    mesh: MeshRules,
}

impl World {
    fn new(clusters: usize, endpoints: usize, others: usize) -> Self {
        let registry = Registry::new();
        for cluster in 0..clusters {
            let role = if cluster == 0 { ClusterRole::Config } else { ClusterRole::Remote };
            let (id, network) = (format!("c{cluster}"), format!("n{cluster}"));
            let mut writer = registry.writer(id.as_str().into(), role).expect("one writer each");
            writer.set_networks(Some(network.as_str().into()), vec![gateway(cluster)]);
            for service in 0..=others {
                let count = if service == 0 { endpoints } else { 1 };
                writer.set(key(service), shard(&id, &network, service, count));
            }
        }
        let name = EdsName::outbound(80, &key(0).hostname);
        Self {
            text: name.to_string(),
            service: registry.host(&name.host)[0].load(),
            networks: registry.networks(),
            standings: registry.standings(),
            policies: registry.policies(),
            mesh: MeshRules::default(),
            name,
        }
    }

    /// As proxies of a cluster see it.
    fn assign<'a>(&'a self, key: &'a EdsKey, recorder: &mut impl Recorder) -> Assignment<'a> {
        let inputs = Inputs {
            waypoint: None,
            service: &self.service,
            networks: &self.networks,
            mesh: &self.mesh,
            standings: &self.standings,
            policies: &self.policies,
        };
        assign(inputs, &self.name, key, recorder)
    }

    fn bytes(&self, assignment: &Assignment<'_>) -> usize {
        resources::assignment(&self.text, assignment).len()
    }

    fn ways<'a>(&'a self, key: &'a EdsKey) -> Vec<Way<'a>> {
        let assignment = Arc::new(self.assign(key, &mut ()));
        let (ours, theirs) = (Arc::clone(&assignment), assignment);
        vec![
            Way::new("build and encode", move || {
                let _ = black_box(self.bytes(&self.assign(key, &mut ())));
            }),
            Way::new("build", move || drop(black_box(self.assign(key, &mut ())))),
            Way::new("build, counting decisions", move || {
                drop(black_box(self.assign(key, &mut Tally::default())));
            }),
            Way::new("build, recording everything", move || {
                drop(black_box(self.assign(key, &mut Vec::new())));
            }),
            Way::new("encode", move || {
                let _ = black_box(self.bytes(&ours));
            }),
            Way::new("encode, generated messages", move || {
                drop(black_box(resources::assignment_by_prost(&self.text, &theirs)));
            }),
        ]
    }
}

/// Proxies of a cluster.
fn of_cluster(cluster: usize) -> EdsKey {
    EdsKey::plain(format!("c{cluster}").as_str(), format!("n{cluster}").as_str(), &key(0))
}

fn key(service: usize) -> ServiceKey {
    ServiceKey::new("bench", format!("s{service}.bench.svc.cluster.local"))
}

fn gateway(cluster: usize) -> NetworkGateway {
    NetworkGateway {
        network: format!("n{cluster}").as_str().into(),
        cluster: format!("c{cluster}").as_str().into(),
        address: Ipv4Addr::from(0xac10_0000 + cluster as u32).into(),
        port: 15443,
        hbone_port: 0,
    }
}

/// Pods of one deployment on ten nodes in three zones.
fn shard(cluster: &str, network: &str, service: usize, endpoints: usize) -> EndpointShard {
    let port = ServicePort {
        number: 80,
        name: Name::interned("http"),
        transport: Transport::Tcp,
        protocol: PortProtocol::Http,
    };
    let record = Service { key: key(service), ports: vec![port], ..Service::default() };
    let (mut profiles, mut places) = (Shared::<WorkloadProfile>::default(), Shared::<NodePlace>::default());
    // Slices share the names of their ports.
    let port_name = Name::interned("http");
    let endpoint = |index: usize| {
        let address = IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + index as u32));
        let node = index % 10;
        let mut workload: Workload = WorkloadParts {
            cluster: cluster.into(),
            namespace: "bench".into(),
            name: format!("bench-5c8d6f7b9c-{index:05}").into(),
            addresses: address.into(),
            network: network.into(),
            locality: Locality::parse(&format!("region/zone-{}", node % 3)),
            node: format!("node-{node}").into(),
            tls_mode: TlsMode::Istio,
            workload_name: "bench".into(),
            canonical_name: "bench".into(),
            canonical_revision: "v1".into(),
            labels: [("app", "bench"), ("version", "v1"), ("security.istio.io/tlsMode", "istio")].into(),
            ..WorkloadParts::default()
        }
        .into();
        profiles.unify(&mut workload.profile);
        places.unify(&mut workload.place);
        Endpoint::new(address, 8080, port_name.clone(), workload)
    };
    EndpointShard::new(cluster.into(), Some(Arc::new(record)), (0..endpoints).map(endpoint).collect())
}
