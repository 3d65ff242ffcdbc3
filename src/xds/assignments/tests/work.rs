//! How much is built and who is woken for one change, counted.

use std::sync::atomic::AtomicU64;

use super::client::{Client, node, push};
use super::*;
use crate::model::policy::{
    DestinationRule, Failover, HostPattern, LoadBalancer, LocalityLb, OutlierDetection, PolicyId, PolicyMeta,
    TrafficPolicy, TrafficSettings, WorkloadSelector,
};
use crate::model::{ExportTo, Labels, Locality, Node, WorkloadCell};
use crate::registry::{PolicyObject, PolicyWrite};
use crate::xds::hub::{Hub, Settings};

const PROXIES: u16 = 1000;
const LOCALITIES: u16 = 10;
const NAMESPACES: u16 = 100;

struct Mesh {
    registry: Arc<Registry>,
    writers: Vec<ClusterWriter>,
    hub: Arc<Hub>,
    clients: Vec<Client>,
}

impl Mesh {
    fn new(clusters: usize) -> Self {
        let registry = Registry::new();
        let writers = (0..clusters).map(|at| {
            let role = if at == 0 { ClusterRole::Config } else { ClusterRole::Remote };
            registry.writer(cluster(at), role).expect("one writer each")
        });
        let writers = writers.collect();
        let hub = Arc::new(Hub::new(Arc::clone(&registry), Settings::default(), None));
        Self { registry, writers, hub, clients: Vec::new() }
    }

    /// The service of [`service_key`] in one cluster.
    fn serve(&mut self, at: usize, endpoints: u8) {
        self.writers[at].set(service_key(), shard_of(&cluster(at), "", endpoints));
    }

    /// Proxies that have nothing in common but cluster and network, and every tenth the place.
    fn connect(&mut self, count: u16) {
        for number in 0..count {
            let (namespace, pod) = (format!("ns{}", number % NAMESPACES), format!("pod{number}"));
            let [high, low] = number.to_be_bytes();
            let of_pod = node(&cluster(0), &namespace, &pod);
            let cell = WorkloadCell::from(WorkloadParts {
                labels: Labels::from([
                    ("pod-template-hash", pod.as_str()),
                    ("app", &*format!("app{}", number % 7)),
                ]),
                locality: Locality::parse(&format!("r{}/z/s", number % LOCALITIES)),
                addresses: std::net::IpAddr::from([10, 7, high, low]).into(),
                node: format!("node{number}").into(),
                ..WorkloadParts::of(&of_pod.workload)
            });
            self.writers[0].apply([(of_pod.workload.clone(), Some(cell))], []);
            let own = Node { addresses: vec![[10, 7, high, low].into()], ..of_pod };
            self.clients.push(Client::new(&self.hub, own));
        }
        for client in &mut self.clients {
            client.watch(&self.hub, &NAME.into());
        }
        self.settle();
    }

    fn settle(&mut self) -> usize {
        push(&self.hub);
        self.clients.iter_mut().map(|client| client.listen(&self.hub).len()).sum()
    }

    /// Builds and wake-ups of the push of what is written, and how many assignments were sent.
    fn cost(&mut self) -> (u64, u64, usize) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let hub = Arc::clone(&self.hub);
        let counts = || (read(&hub.counts.assignment_builds), read(&hub.counts.wakeups));
        let before = counts();
        let sent = self.settle();
        (counts().0 - before.0, counts().1 - before.1, sent)
    }
}

fn cluster(at: usize) -> crate::model::ClusterId {
    format!("c{at}").into()
}

fn by_locality() -> PolicyWrite {
    let failover = vec![Failover { from: "r1".into(), to: "r2".into() }];
    let locality = LocalityLb { failover, ..LocalityLb::default() };
    let settings = TrafficSettings {
        load_balancer: Some(LoadBalancer { locality: Some(locality), ..LoadBalancer::default() }),
        outlier_detection: Some(OutlierDetection::default()),
        ..TrafficSettings::default()
    };
    PolicyWrite::set(PolicyObject::DestinationRule(Arc::new(DestinationRule {
        meta: PolicyMeta { created: 1, id: PolicyId::new("ns", "by-locality") },
        host: HostPattern::new("*.ns.svc.cluster.local"),
        policy: TrafficPolicy { settings, ports: Vec::new() },
        subsets: Vec::new(),
        selector: WorkloadSelector::default(),
        export_to: ExportTo::Everywhere,
    })))
}

#[test]
fn p20_a_thousand_distinct_proxies_cost_a_build_for_each_locality_that_counts() {
    let mut mesh = Mesh::new(1);
    mesh.serve(0, 1);
    mesh.connect(PROXIES);
    let all = usize::from(PROXIES);
    for endpoints in 2..5 {
        mesh.serve(0, endpoints);
        assert_eq!(mesh.cost(), (1, u64::from(PROXIES), all), "no rule asks for the place");
    }
    mesh.registry.write_policies([by_locality()]);
    let (builds, wakeups, _) = mesh.cost();
    assert!(builds <= 1 + u64::from(LOCALITIES), "the rule itself: {builds}");
    assert_eq!(wakeups, u64::from(PROXIES));
    for endpoints in 5..8 {
        mesh.serve(0, endpoints);
        assert_eq!(mesh.cost(), (u64::from(LOCALITIES), u64::from(PROXIES), all), "a rule does");
    }
    // A record decides about projections, so that all look again; what they have stays.
    let mut shard = shard_of(&cluster(0), "", 7);
    shard.service = shard.service.map(|record| Arc::new(Service { created: 7, ..Service::clone(&record) }));
    mesh.writers[0].set(service_key(), shard);
    assert_eq!(mesh.cost(), (u64::from(LOCALITIES), u64::from(PROXIES), 0));
}

#[test]
fn p13_other_services_and_other_clusters_cost_a_change_nothing() {
    let cost = |services: u16, clusters: usize| {
        let mut mesh = Mesh::new(clusters);
        (0..clusters).for_each(|at| mesh.serve(at, 1));
        mesh.registry.write_policies([by_locality()]);
        mesh.connect(20);
        for number in 0..services {
            let host = format!("other{number}.ns.svc.cluster.local");
            let mut shard = shard_of(&cluster(0), "", 1);
            let record = Service::clone(shard.service.as_deref().expect("a record"));
            let key = ServiceKey::new("ns", host.as_str());
            shard.service = Some(Arc::new(Service { key: key.clone(), ..record }));
            mesh.writers[0].set(key, shard);
            let at = usize::from(number) % mesh.clients.len();
            mesh.clients[at].watch(&mesh.hub, &format!("outbound|80||{host}").into());
        }
        mesh.settle();
        mesh.serve(clusters - 1, 2);
        mesh.cost()
    };
    let least = cost(10, 1);
    assert_eq!(least, (u64::from(LOCALITIES), 20, 20));
    assert_eq!(cost(1000, 1), least);
    assert_eq!(cost(10, 50), least);
}
