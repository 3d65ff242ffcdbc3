//! Who is a sibling of a proxy (R4.9.10).

use super::rules::proxy;
use super::*;
use crate::model::policy::{LocalityLb, MeshConfig};
use crate::model::{ExportTo, Features, ProxyView, Standing, WorkloadCell};
use crate::view::LOCAL_CLUSTER;

const HASH: (&str, &str) = ("pod-template-hash", "6d4f");
const ROLLOUT: (&str, &str) = ("rollouts-pod-template-hash", "77");

/// A pod of the same version as the proxy of [`view`].
fn sibling(address: &'static str) -> Pod {
    Pod { locality: "r1/z1", labels: vec![HASH, ROLLOUT], ..pod(address) }
}

/// A proxy of cluster `c1` on network `n1`; its pod's workload has no name, as the other pods' here.
fn view() -> ProxyView {
    proxy("sample", &[HASH, ROLLOUT])
}

impl World {
    /// The services of a proxy's own, this one alone.
    fn own(&self) -> Vec<Arc<ServiceSnapshot>> {
        self.registry.host(HOST).iter().map(|cell| cell.load()).collect()
    }

    fn siblings_of(&self, view: &ProxyView) -> Viewer<'_> {
        let key = EdsKey::of_siblings(view, &self.own(), &self.mesh);
        let place = format!("{}/{}", view.network, view.cluster());
        let mut viewer = self.from("n1/c1");
        assert_eq!(place, "n1/c1", "the proxy of these tests");
        viewer.key = key;
        viewer
    }

    fn siblings(&self) -> Viewer<'_> {
        self.siblings_of(&view())
    }
}

fn one_cluster(pods: &[Pod]) -> World {
    World::new(&[("c1", "n1")]).pods("c1", pods)
}

#[test]
fn r4_9_10_pods_of_another_version_or_region_are_no_siblings() {
    let other = |labels: &[(&'static str, &'static str)], locality, address| Pod {
        labels: labels.to_vec(),
        locality,
        ..pod(address)
    };
    let world = one_cluster(&[
        sibling("10.0.0.1"),
        other(&[("pod-template-hash", "x"), ROLLOUT], "r1/z1", "10.0.0.2"),
        other(&[HASH, ("rollouts-pod-template-hash", "x")], "r1/z1", "10.0.0.3"),
        other(&[HASH], "r1/z1", "10.0.0.4"),
        other(&[HASH, ROLLOUT], "r2/z1", "10.0.0.5"),
        other(&[HASH, ROLLOUT], "", "10.0.0.6"),
        other(&[HASH, ROLLOUT, ("app", "x")], "r1/z2", "10.0.0.7"),
    ]);
    let siblings = world.siblings();
    siblings.sees(&["10.0.0.1*1", "10.0.0.7*1"]);
    for hidden in 2..7 {
        assert_eq!(siblings.decides(&format!("10.0.0.{hidden}")), Decision::OtherWorkload);
    }
}

#[test]
fn r4_9_10_the_name_of_the_workload_is_the_pods_or_the_proxys_own_word() {
    let named = |name: &str, address: &str| {
        let parts = WorkloadParts {
            cluster: "c1".into(),
            network: "n1".into(),
            name: address.into(),
            workload_name: name.into(),
            locality: Locality::parse("r1/z1"),
            ..WorkloadParts::default()
        };
        Endpoint::new(address.parse().expect("an address"), 5000, "http", parts)
    };
    let mut world = one_cluster(&[]);
    let cell = world.registry.host(HOST).remove(0);
    let mut shard = (*cell.load().shards[0]).clone();
    shard.endpoints = vec![named("web", "10.0.0.1"), named("web-canary", "10.0.0.2")].into();
    world.writers.get_mut("c1").expect("known").0.set(cell.key().clone(), shard);
    let told = ProxyView { workload_name: "web".into(), ..proxy("sample", &[]) };
    world.siblings_of(&told).sees(&["10.0.0.1*1"]);
    world.siblings_of(&ProxyView { workload_name: "x".into(), ..told }).sees(&[]);
}

#[test]
fn r4_9_10_only_ready_siblings_count_even_where_others_are_sent() {
    let with = |health, address| Pod { health, ..sibling(address) };
    let leaving = Pod { labels: vec![HASH, ROLLOUT, ("istio.io/draining", "yes")], ..sibling("10.0.0.5") };
    let mut world = World::new(&[("c1", "n1")]);
    world.service.labels.insert("istio.io/persistent-session".into(), "cookie".into());
    let world = world.pods(
        "c1",
        &[
            sibling("10.0.0.1"),
            with(Health::Unhealthy, "10.0.0.2"),
            with(Health::Draining, "10.0.0.3"),
            with(Health::Terminating, "10.0.0.4"),
            leaving,
        ],
    );
    let siblings = world.siblings();
    siblings.sees(&["10.0.0.1*1"]);
    assert_eq!(siblings.decides("10.0.0.2"), Decision::Unhealthy);
    assert_eq!(siblings.decides("10.0.0.5"), Decision::Draining);
}

#[test]
fn r4_9_10_siblings_are_by_locality_with_weights_and_of_one_priority() {
    let at = |locality, weight, address| Pod { locality, weight, ..sibling(address) };
    let mut world = World::new(&[("c1", "n1"), ("c2", "n1")])
        .pods("c1", &[at("r1/z2", 1, "10.0.0.1"), at("r1/z1", 2, "10.0.0.2"), at("r1/z1", 3, "10.0.0.3")])
        .pods("c2", &[at("r1/z1", 4, "10.1.0.1")]);
    let failover = LocalityLb::default();
    let outlier_detection = Some(Default::default());
    let mesh = MeshConfig { locality_lb: Some(failover), outlier_detection, ..MeshConfig::default() };
    world.policies = PolicySnapshot::with(mesh, []);
    world.writers.get_mut("c2").expect("known").0.set_standing(Standing::Demoted);
    let siblings = world.siblings();
    siblings.sees(&["10.0.0.2*2 10.0.0.3*3 10.1.0.1*4", "10.0.0.1*1"]);
    let (assignment, _) = siblings.assignment(&whole());
    assert_eq!(
        assignment.groups.iter().map(|group| (group.priority, group.weight)).collect::<Vec<_>>(),
        [(0, 9), (0, 1)]
    );
    // A cluster that may not serve any more counts where nobody else does.
    world.writers.get_mut("c2").expect("known").0.set_standing(Standing::Dropped);
    let siblings = world.siblings();
    siblings.sees(&["10.0.0.2*2 10.0.0.3*3", "10.0.0.1*1"]);
    assert_eq!(siblings.decides("10.1.0.1"), Decision::StaleCluster);
}

#[test]
fn r4_9_10_what_is_behind_a_gateway_or_hidden_from_the_proxy_is_no_sibling() {
    let world = World::new(&[("c1", "n1"), ("c2", "n2"), ("c3", "n3")])
        .gateway("c2", "n2", "172.30.0.2", 15443)
        .pods("c1", &[sibling("10.0.0.1")])
        .pods("c2", &[sibling("10.1.0.1")])
        .pods("c3", &[sibling("10.2.0.1")]);
    let siblings = world.siblings();
    siblings.sees(&["10.0.0.1*1"]);
    assert_eq!(siblings.decides("10.1.0.1"), Decision::BehindGateway);
    assert_eq!(siblings.decides("10.2.0.1"), Decision::NoGateway);
    let narrow = world.siblings().with(|key| key.requested_view = RequestedView::new(vec!["n1".into()]));
    assert_eq!(narrow.decides("10.1.0.1"), Decision::NetworkView);
}

#[test]
fn r4_9_10_siblings_are_told_without_tls_and_hbone_and_read_no_policy_of_these() {
    let world = World::new(&[("c1", "n1")]).pods("c1", &[Pod { redirected: true, ..sibling("10.0.0.1") }]);
    let features = Features { ambient: true, prefer_hbone: true, ..Features::default() };
    let world = World { mesh: MeshRules::default().with_features(features), ..world };
    let siblings = world.siblings();
    let (assignment, _) = siblings.assignment(&whole());
    let one = assignment.endpoints().next().expect("a sibling");
    assert_eq!((one.address(), one.tls_mode()), (Some([10, 0, 0, 1].into()), None));
    assert!(matches!(one.target, super::super::Target::Socket { .. }));
    let read: Vec<_> = assignment.policies_read.iter().map(|(part, _)| part.kind).collect();
    assert_eq!(read, [crate::model::policy::PolicyKind::MeshConfig]);
}

#[test]
fn r4_9_10_of_several_services_the_oldest_of_the_own_cluster_counts_with_its_lowest_tcp_port() {
    let registry = Registry::new();
    let mut writer = registry.writer("c1".into(), ClusterRole::Config).expect("one writer");
    let mut other = registry.writer("c2".into(), ClusterRole::Remote).expect("one writer");
    let port = |number, transport| ServicePort {
        number,
        name: format!("p{number}").into(),
        transport,
        protocol: PortProtocol::Http,
    };
    let service = |namespace: &str, host: &str, created, ports| {
        let record = Service { key: ServiceKey::new(namespace, host), created, ports, ..Service::default() };
        (record.key.clone(), Arc::new(record))
    };
    let tcp = |number| port(number, Transport::Tcp);
    let told = [
        service("b", "x", 3, vec![tcp(80)]),
        service("a", "y", 3, vec![tcp(90), tcp(81), port(53, Transport::Udp)]),
        service("a", "z", 3, vec![tcp(80)]),
        service("a", "udp", 1, vec![port(53, Transport::Udp)]),
    ];
    for (key, record) in told {
        writer.set(key, EndpointShard::new("c1".into(), Some(record), Vec::new()));
    }
    // Older, but nobody may see it.
    let (key, record) = service("a", "hidden", 0, vec![tcp(80)]);
    let record = Service { export_to: ExportTo::Nowhere, ..Service::clone(&record) };
    writer.set(key, EndpointShard::new("c1".into(), Some(Arc::new(record)), Vec::new()));
    // Older, but not of the own cluster.
    let (key, record) = service("a", "elsewhere", 0, vec![tcp(80)]);
    other.set(key, EndpointShard::new("c2".into(), Some(record), Vec::new()));
    let own = |hosts: &[&str]| -> Vec<Arc<ServiceSnapshot>> {
        hosts.iter().flat_map(|host| registry.host(host)).map(|cell| cell.load()).collect()
    };
    let chosen = |hosts: &[&str]| {
        let key = EdsKey::of_siblings(&view(), &own(hosts), &MeshRules::default());
        key.meant(LOCAL_CLUSTER).map(|name| name.to_string())
    };
    let all = ["x", "z", "y", "udp", "hidden", "elsewhere"];
    assert_eq!(chosen(&all).as_deref(), Some("outbound|81||y"));
    let mut reversed = all;
    reversed.reverse();
    assert_eq!(chosen(&reversed), chosen(&all), "in whatever order they are told");
    assert_eq!(chosen(&["x", "z"]).as_deref(), Some("outbound|80||z"));
    assert_eq!(chosen(&["udp", "hidden", "elsewhere"]), None, "none of its own");
    assert_eq!(chosen(&[]), None);
}

#[test]
fn r4_9_10_a_projection_is_that_of_the_workload_and_not_of_the_pod() {
    let world = one_cluster(&[sibling("10.0.0.1")]);
    let of = |pod: &str, node: &str, zone: &str, hash: &str| {
        let id = crate::model::WorkloadId { name: pod.into(), ..view().id };
        let parts = WorkloadParts {
            workload_name: "web".into(),
            node: node.into(),
            locality: Locality::parse(zone),
            labels: [(HASH.0, hash), ("pod", pod)].into(),
            ..WorkloadParts::of(&id)
        };
        let workload = Some(WorkloadCell::from(parts));
        let node = crate::model::Node::parse(
            &format!("sidecar~10.0.0.9~{pod}.sample~sample.svc.cluster.local"),
            crate::model::NodeMetadata { cluster_id: "c1".to_owned(), ..Default::default() },
            Locality::default(),
            std::iter::empty(),
        );
        let view = ProxyView::new(&node.expect("a node"), workload, &"n1".into(), Default::default());
        EdsKey::of_siblings(&view, &world.own(), &world.mesh)
    };
    let key = of("p1", "n1", "r1/z1", "6d4f");
    assert_eq!(key, of("p2", "n2", "r1/z2", "6d4f"));
    assert_ne!(key, of("p2", "n2", "r2/z2", "6d4f"));
    assert_ne!(key, of("p2", "n2", "r1/z2", "7e5a"));
}

#[test]
fn explanations_say_what_differs() {
    let world = World::new(&[("c1", "n1"), ("c2", "n2")])
        .gateway("c2", "n2", "172.30.0.2", 15443)
        .pods("c1", &[sibling("10.0.0.1"), Pod { labels: vec![HASH], ..sibling("10.0.0.2") }])
        .pods("c2", &[sibling("10.1.0.1")]);
    let explanation = world.siblings().explains();
    assert_eq!(explanation.name, LOCAL_CLUSTER);
    assert!(
        explanation.nothing.is_none() && explanation.locality_setting.starts_with("nothing: Envoy compares")
    );
    let of = |address: &str| {
        let found = explanation.endpoints.iter().find(|one| one.address == address.parse().ok());
        let one = found.unwrap_or_else(|| panic!("{address}"));
        let last = one.chain.last().expect("checks");
        (one.decision, one.priority, last.check, last.detail.clone())
    };
    let (decision, priority, ..) = of("10.0.0.1");
    assert_eq!((decision, priority), (Decision::Direct, Some(0)));
    let (decision, priority, check, detail) = of("10.0.0.2");
    assert_eq!((decision, priority, check), (Decision::OtherWorkload, None, "workload"));
    let words = "workload \"\" (template hash 6d4f) in region \"r1\", the proxy is of workload \"\" (template hash 6d4f, 77) in region \"r1\"";
    assert_eq!(detail, words);
    let (decision, _, check, detail) = of("10.1.0.1");
    assert_eq!((decision, check), (Decision::BehindGateway, "network"));
    assert_eq!(detail, "on n2, the proxy on n1: what is behind gateways is no sibling");
}

proptest! {
    #[test]
    fn r4_9_10_the_order_in_which_pods_and_clusters_are_told_does_not_matter(
        order in Just((0..8_usize).collect::<Vec<_>>()).prop_shuffle(),
        clusters in Just(vec!["c1", "c2"]).prop_shuffle(),
    ) {
        const ADDRESSES: [&str; 8] =
            ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6", "10.0.0.7", "10.0.0.8"];
        let locality = |at: usize| ["r1/z1", "r1/z2", "r2/z1", "r1/z1/s"][at % 4];
        let build = |clusters: &[&'static str]| {
            let mut world = World::new(&[("c1", "n1"), ("c2", "n1")]);
            for cluster in clusters {
                let own = ADDRESSES.iter().enumerate().filter(|(at, _)| (at % 3 == 0) == (*cluster == "c2"));
                let pods: Vec<_> =
                    own.map(|(at, address)| Pod { locality: locality(at), ..sibling(address) }).collect();
                world = world.pods(cluster, &pods);
            }
            world
        };
        let (first, other) = (build(&["c1", "c2"]), build(&clusters));
        let (first, other) = (first.siblings(), other.siblings());
        prop_assert_eq!(&first.assignment(&whole()).0.groups, &other.assignment(&whole()).0.groups);
        prop_assert!(first.assignment(&whole()).0.endpoints().count() == 6);
        // The order of a shard is the order of its endpoints (R4.19): what is in each group stays the same.
        let mut world = build(&["c1"]);
        let cell = world.registry.host(HOST).remove(0);
        let mut shard = (*cell.load().shards[0]).clone();
        let all = shard.endpoints.to_vec();
        shard.endpoints = order.iter().filter_map(|at| all.get(*at).cloned()).collect::<Vec<_>>().into();
        let set = |world: &World| {
            let viewer = world.siblings();
            let (assignment, _) = viewer.assignment(&whole());
            assignment.groups.iter().map(|group| {
                let mut all: Vec<_> = group.endpoints.iter().map(AssignedEndpoint::address).collect();
                all.sort();
                (group.locality.clone(), group.weight, all)
            }).collect::<Vec<_>>()
        };
        let before = set(&world);
        world.writers.get_mut("c1").expect("known").0.set(cell.key().clone(), shard);
        prop_assert_eq!(set(&world), before);
    }
}
