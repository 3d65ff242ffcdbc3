//! The siblings of proxies follow what the registry knows, at the cost of what changed (R4.9.10).

use super::client::{Client, node, push};
use super::*;
use crate::model::{Labels, Locality, Node, WorkloadCell, WorkloadId};
use crate::xds::hub::{Hub, Settings};

struct Mesh {
    hub: Arc<Hub>,
    east: ClusterWriter,
    west: ClusterWriter,
    clients: Vec<Client>,
}

fn key(service: &str) -> ServiceKey {
    ServiceKey::new("ns", format!("{service}.ns.svc.cluster.local"))
}

fn parts(cluster: &str, workload: &str, pod: &str) -> WorkloadParts {
    let id = WorkloadId { cluster: cluster.into(), namespace: "ns".into(), name: pod.into() };
    WorkloadParts {
        workload_name: workload.into(),
        labels: Labels::from([("pod-template-hash", "6d4f")]),
        locality: Locality::parse("r/z1"),
        ..WorkloadParts::of(&id)
    }
}

/// A service with so many endpoints of each of these workloads.
fn told(cluster: &str, service: &str, created: i64, pods: &[(&str, u8)]) -> EndpointShard {
    let port = |number| ServicePort {
        number,
        name: "http".into(),
        transport: Transport::Tcp,
        protocol: PortProtocol::Http,
    };
    let record = Service { key: key(service), created, ports: vec![port(80)], ..Service::default() };
    let endpoint = |workload: &str, number: u8| {
        let address = [10, 0, workload.len() as u8, number];
        Endpoint::new(address.into(), 8080, "http", parts(cluster, workload, &format!("{workload}-{number}")))
    };
    let all = pods.iter().flat_map(|&(workload, count)| (0..count).map(move |n| endpoint(workload, n)));
    EndpointShard::new(cluster.into(), Some(Arc::new(record)), all.collect())
}

impl Mesh {
    /// Three proxies of `web` and one of `other`, all behind service `a`; service `b` is there, and leads to nobody.
    fn new() -> Self {
        let registry = Registry::new();
        let east = registry.writer("east".into(), ClusterRole::Config).expect("first writer");
        let mut west = registry.writer("west".into(), ClusterRole::Remote).expect("first writer");
        west.set(key("a"), told("west", "a", 5, &[("web", 3), ("other", 1)]));
        west.set(key("b"), told("west", "b", 9, &[("web", 1)]));
        let hub = Arc::new(Hub::new(registry, Settings::default(), None));
        let mut mesh = Self { hub, east, west, clients: Vec::new() };
        for (workload, number) in [("web", 0), ("web", 1), ("web", 2), ("other", 0)] {
            mesh.behind(workload, number, &["a"]);
            let own = node("west", "ns", &format!("{workload}-{number}"));
            let mut client = Client::new(&mesh.hub, Node { ..own });
            client.watch(&mesh.hub, &LOCAL_CLUSTER.into());
            mesh.clients.push(client);
        }
        mesh.cost();
        mesh
    }

    /// These services lead to a pod.
    fn behind(&mut self, workload: &str, number: u8, services: &[&str]) {
        let pod = format!("{workload}-{number}");
        let cell = WorkloadCell {
            services: services.iter().map(|service| key(service)).collect(),
            ..WorkloadCell::from(parts("west", workload, &pod))
        };
        self.west.apply([(cell.id(), Some(cell))], []);
    }

    /// Builds and wake-ups of the push of what is written, and which proxies were sent their siblings.
    fn cost(&mut self) -> (u64, u64, Vec<usize>) {
        let hub = Arc::clone(&self.hub);
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counts = || (read(&hub.counts.assignment_builds), read(&hub.counts.wakeups));
        let before = counts();
        push(&hub);
        let sent = self.clients.iter_mut().map(|client| !client.listen(&hub).is_empty());
        let sent = sent.collect::<Vec<_>>().into_iter().enumerate().filter(|(_, sent)| *sent);
        let sent = sent.map(|(at, _)| at).collect();
        (counts().0 - before.0, counts().1 - before.1, sent)
    }

    fn service(&self, client: usize) -> Option<Hostname> {
        let key = self.clients[client].cell(&LOCAL_CLUSTER.into()).key().clone();
        key.siblings.map(|siblings| siblings.host)
    }
}

#[test]
fn proxies_of_one_workload_share_a_build_and_no_other_workload_gets_their_bytes() {
    let mesh = Mesh::new();
    let cell = |at: usize| mesh.clients[at].cell(&LOCAL_CLUSTER.into());
    assert!(Arc::ptr_eq(cell(0), cell(1)) && Arc::ptr_eq(cell(1), cell(2)));
    assert!(!Arc::ptr_eq(cell(0), cell(3)));
    let held = |at: usize| mesh.clients[at].held[&Name::from(LOCAL_CLUSTER)];
    assert!(held(0) == held(1) && held(0) != held(3));
    assert_eq!(mesh.hub.counts.assignment_builds.load(Ordering::Relaxed), 2, "one for each workload");
}

#[test]
fn a_workload_that_scales_is_told_to_its_own_pods_alone() {
    let mut mesh = Mesh::new();
    mesh.west.set(key("a"), told("west", "a", 5, &[("web", 4), ("other", 1)]));
    assert_eq!(mesh.cost(), (2, 4, vec![0, 1, 2]), "the other one was looked at");
    mesh.west.set(key("a"), told("west", "a", 5, &[("web", 4), ("other", 2)]));
    assert_eq!(mesh.cost(), (2, 4, vec![3]));
    mesh.west.set(key("b"), told("west", "b", 9, &[("web", 2)]));
    mesh.west.set(key("c"), told("west", "c", 1, &[("web", 1)]));
    assert_eq!(mesh.cost(), (0, 0, vec![]), "services that do not lead to them");
}

#[test]
fn the_name_follows_the_services_that_lead_to_the_pod() {
    let mut mesh = Mesh::new();
    let a = Some(key("a").hostname);
    let b = Some(key("b").hostname);
    mesh.behind("web", 0, &["a", "b"]);
    assert_eq!(mesh.cost(), (0, 1, vec![]), "the older one counts");
    assert_eq!(mesh.service(0), a);
    mesh.west.set(key("b"), told("west", "b", 1, &[("web", 1)]));
    assert_eq!(mesh.cost(), (1, 1, vec![0]), "it is older now");
    assert_eq!((mesh.service(0), mesh.service(1)), (b.clone(), a.clone()));
    mesh.west.remove(&key("b"));
    assert_eq!(mesh.cost().2, [0]);
    assert_eq!(mesh.service(0), a);
    mesh.behind("web", 0, &["b"]);
    assert_eq!(mesh.cost().2, [0], "nothing is left");
    assert_eq!(mesh.service(0), None);
    mesh.west.set(key("b"), told("west", "b", 9, &[("web", 2)]));
    assert_eq!(mesh.cost().2, [0], "it comes back");
    assert_eq!(mesh.service(0), b);
    mesh.behind("web", 0, &[]);
    assert_eq!(mesh.cost().2, [0]);
    mesh.west.set(key("b"), told("west", "b", 1, &[("web", 3)]));
    assert_eq!(mesh.cost(), (0, 0, vec![]), "it is not watched any more");
}

#[test]
fn the_record_of_the_own_cluster_counts_and_not_the_merged_one() {
    let mut mesh = Mesh::new();
    for service in ["a", "b"] {
        mesh.east.set(key(service), told("east", service, 3, &[]));
    }
    mesh.behind("web", 0, &["a", "b"]);
    mesh.cost();
    assert_eq!(mesh.service(0), Some(key("a").hostname));
    mesh.west.set(key("b"), told("west", "b", 1, &[("web", 1)]));
    let service = mesh.hub.registry.service(&key("b")).expect("it is there").load();
    assert_eq!(service.service.as_ref().expect("a record").created, 3, "the config cluster's");
    assert_eq!(mesh.cost().2, [0]);
    assert_eq!(mesh.service(0), Some(key("b").hostname));
}

#[test]
fn nothing_is_left_when_they_leave() {
    let mut mesh = Mesh::new();
    mesh.clients[0].unwatch(&LOCAL_CLUSTER.into());
    mesh.west.set(key("a"), told("west", "a", 5, &[("web", 4), ("other", 1)]));
    assert_eq!(mesh.cost().2, [1, 2]);
    mesh.clients.clear();
    assert!(mesh.hub.siblings.is_empty() && mesh.hub.assignments.topics.is_empty());
}

#[test]
fn d17_a_proxy_whose_own_service_changes_does_not_look_at_all_its_assignments() {
    let mut mesh = Mesh::new();
    let hub = Arc::clone(&mesh.hub);
    mesh.clients[0].watch_lists();
    for number in 0..50 {
        mesh.clients[0].watch(&hub, &format!("outbound|80||s{number}.ns.svc.cluster.local").into());
    }
    mesh.cost();
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let counts = || (read(&hub.counts.wakeups), read(&hub.counts.rekeys));
    let before = counts();
    mesh.west.set(key("a"), told("west", "a", 6, &[("web", 3), ("other", 1)]));
    mesh.cost();
    let after = counts();
    // The siblings of each of the four, and nothing else.
    assert_eq!((after.0 - before.0, after.1 - before.1), (4, 4));
    // What is known of its pod is another matter.
    mesh.behind("web", 0, &["a", "b"]);
    mesh.cost();
    assert!(counts().1 - after.1 >= 50);
}
