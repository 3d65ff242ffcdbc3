//! Rights that are narrower than what is served was read with (K-31, K-45).

use serde_json::{Value, json};

use super::freshness::{keeper, kept_of, pinned};
use super::*;

/// What an API server does not show, and what hangs on it.
struct Narrow {
    objects: Vec<Value>,
    options: Vec<(&'static str, &'static str)>,
    kind: ObjectKind,
    /// It answers with an empty list, not with 403.
    lies: bool,
    told: &'static str,
}

impl Narrow {
    fn forbidding(kind: ObjectKind, told: &'static str) -> Self {
        Self { objects: world("n1", "u1", 1, 3), options: Vec::new(), kind, lies: false, told }
    }

    /// The gateways are these.
    fn with_gateway(mut self, objects: impl IntoIterator<Item = Value>) -> Self {
        self.objects.retain(|object| object["metadata"]["name"] != "eastwest" && object["kind"] != "Node");
        self.objects.extend(objects);
        self
    }

    fn all() -> Vec<Self> {
        let nodes = NODES.iter().zip(["198.51.100.1", "198.51.100.2"]);
        let nodes: Vec<_> = nodes.map(|((name, zone), address)| external_node(name, zone, address)).collect();
        let by_node = [node_port_gateway("n1")].into_iter().chain(nodes);
        let by_api = [api_gateway("n1", "192.0.2.1")].into_iter().chain(super::nodes());
        let selected = vec![("namespace-selector", "name=a")];
        let many = world("n1", "u1", 1, 150);
        vec![
            Self::forbidding(ObjectKind::Namespace, "Namespaces: the cluster would not be in network n1"),
            Self {
                lies: true,
                ..Self::forbidding(
                    ObjectKind::Namespace,
                    "Namespaces: the cluster would not be in network n1",
                )
            },
            Self {
                objects: world("", "u1", 1, 3),
                options: selected.clone(),
                ..Self::forbidding(ObjectKind::Namespace, "Namespaces: they are selected by label")
            },
            Self {
                objects: many,
                options: selected,
                lies: true,
                ..Self::forbidding(
                    ObjectKind::Namespace,
                    "Namespaces: the cluster would not be in network n1",
                )
            },
            Self::forbidding(ObjectKind::Node, "Nodes: network n1 would have no gateway")
                .with_gateway(by_node),
            Self::forbidding(ObjectKind::Gateway, "Gateways: network n1 would have no gateway")
                .with_gateway(by_api),
            Self::forbidding(ObjectKind::Pod, "Pods: those that are served would be gone"),
        ]
    }

    fn server(&self) -> FakeServer {
        let server = FakeServer::with(self.objects.clone());
        match self.lies {
            true => server.lie(self.kind, usize::MAX),
            false => server.forbid(self.kind),
        }
        server
    }

    fn heal(&self, server: &FakeServer) {
        match self.lies {
            true => server.lie(self.kind, 0),
            false => server.permit(self.kind),
        }
    }
}

fn told(plane: &Plane, narrow: &Narrow) -> bool {
    let told = format!("cluster c1, replacement: what is served stays: it may not read {}", narrow.told);
    let lists = format!("cluster c1, replacement: what is served stays: it does not show {}", narrow.told);
    plane.problems().iter().any(|text| text.starts_with(&told) || text.starts_with(&lists))
}

#[tokio::test(start_paused = true)]
async fn k31_new_credentials_that_show_less_than_what_is_served_hangs_on_do_not_take_over() {
    for narrow in Narrow::all() {
        let (old, new) = (FakeServer::with(narrow.objects.clone()), narrow.server());
        let mut plane = Plane::new();
        plane.run_with("c1", &old, &narrow.options);
        plane.pass(Duration::from_secs(5)).await;
        let (before, gateways, snapshot) = (plane.web(), plane.gateways(), plane.snapshot("web"));
        assert!(
            before[0].1 >= 3 && !gateways.is_empty()
                || narrow.objects[1]["metadata"]["labels"]["topology.istio.io/network"] == "",
            "{:?} {gateways:?}",
            narrow.kind
        );
        plane.changes();
        plane.run_with("c1", &new, &narrow.options);
        plane.pass(HOUR).await;
        assert_eq!((plane.web(), plane.gateways()), (before.clone(), gateways.clone()), "{}", narrow.told);
        assert_eq!(plane.snapshot("web"), snapshot);
        assert!(plane.changes().is_empty());
        assert_eq!((old.open_now(), plane.health("c1"), &*plane.row("c1").uid), (1, "live", "u1"));
        assert!(told(&plane, &narrow), "{} {:?}", narrow.told, plane.problems());
        assert!(plane.row("c1").replacement_held);
        narrow.heal(&new);
        plane.pass(CONFIRM_AFTER + Duration::from_secs(3)).await;
        assert_eq!((old.open_now(), new.open_now(), plane.problems()), (0, 1, Vec::new()), "{}", narrow.told);
        assert_eq!((plane.web(), plane.gateways()), (before, gateways));
        assert!(plane.changes().is_empty() && !plane.row("c1").replacement_held);
    }
}

#[tokio::test(start_paused = true)]
async fn k31_a_restart_with_less_rights_takes_nothing_of_a_snapshot_away() {
    for narrow in Narrow::all() {
        let dir = kept_of(narrow.objects.clone()).await;
        let new = narrow.server();
        let mut plane = Plane::new();
        keeper(&mut plane, &dir);
        let options = plane.set.read_options(&"c1".into(), &as_texts(&narrow.options));
        plane.set.start(Start { options, ..pinned(&new) }).unwrap();
        plane.pass(Duration::from_secs(5)).await;
        let (before, gateways) = (plane.web(), plane.gateways());
        assert!(before[0].1 >= 3, "{} {before:?}", narrow.told);
        plane.changes();
        plane.pass(HOUR).await;
        assert_eq!((plane.web(), plane.gateways()), (before.clone(), gateways.clone()), "{}", narrow.told);
        assert!(plane.changes().is_empty());
        assert_eq!((plane.health("c1"), &*plane.row("c1").uid), ("stale", "u1"));
        assert!(told(&plane, &narrow), "{} {:?}", narrow.told, plane.problems());
        narrow.heal(&new);
        plane.pass(CONFIRM_AFTER + Duration::from_secs(3)).await;
        assert_eq!((plane.health("c1"), plane.problems()), ("live", Vec::new()), "{}", narrow.told);
        assert_eq!((plane.web(), plane.gateways()), (before, gateways));
        assert!(plane.changes().is_empty());
    }
}

/// K-45: what nothing hangs on is done without.
#[tokio::test(start_paused = true)]
async fn k45_new_credentials_that_show_less_take_over_if_that_takes_nothing_away() {
    for (network, kind) in
        [("", ObjectKind::Namespace), ("n1", ObjectKind::Node), ("n1", ObjectKind::Gateway)]
    {
        let (old, new) =
            (FakeServer::with(world(network, "u1", 1, 3)), FakeServer::with(world(network, "u1", 1, 3)));
        new.forbid(kind);
        let mut plane = Plane::new();
        plane.run("c1", &old);
        plane.settle().await;
        let gateways = plane.gateways();
        plane.run("c1", &new);
        plane.pass(Duration::from_secs(5)).await;
        assert_eq!((plane.web(), plane.gateways()), (web(&[("c1", 3)]), gateways), "{kind:?}");
        assert_eq!((old.open_now(), new.open_now(), &*plane.row("c1").uid), (0, 1, "u1"), "{kind:?}");
    }
}

/// R4.38: what is exported is seen by other clusters, and nothing else.
#[tokio::test(start_paused = true)]
async fn k31_exports_that_are_not_shown_stay_and_go_with_their_api_after_a_second_look() {
    let export = json!({"kind": "ServiceExport", "metadata": {"name": "web", "namespace": "a"}});
    let exporting = || FakeServer::with(world("n1", "u1", 1, 3).into_iter().chain([export.clone()]));
    let seen = |plane: &Plane| plane.set.registry.is_seen_elsewhere(&"c1".into());
    let (old, refused, gone) = (exporting(), exporting(), FakeServer::with(world("n1", "u1", 1, 3)));
    refused.forbid(ObjectKind::ServiceExport);
    let mut plane = Plane::with(|options| options.mcs.discovery = true);
    plane.run("c1", &old);
    plane.settle().await;
    assert!(seen(&plane));
    plane.changes();
    plane.run("c1", &refused);
    plane.pass(HOUR).await;
    assert!(seen(&plane) && plane.changes().is_empty());
    let told = "may not read ServiceExports: other clusters would see nothing of it";
    assert!(plane.problems().iter().any(|text| text.contains(told)), "{:?}", plane.problems());
    refused.permit(ObjectKind::ServiceExport);
    plane.settle().await;
    assert_eq!((old.open_now(), refused.open_now(), plane.problems()), (0, 1, Vec::new()));
    assert!(plane.changes().is_empty());
    plane.run("c1", &gone);
    plane.pass(CONFIRM_AFTER - Duration::from_secs(1)).await;
    assert!(seen(&plane) && plane.changes().is_empty());
    plane.pass(Duration::from_secs(2)).await;
    assert!(!seen(&plane));
    assert_eq!((refused.open_now(), gone.open_now(), plane.problems()), (0, 1, Vec::new()));
}

/// The Gateway API may be taken out of a cluster; that counts once it was seen twice.
#[tokio::test(start_paused = true)]
async fn k46_the_gateways_of_an_api_that_is_gone_go_after_a_second_look() {
    let narrow = Narrow::forbidding(ObjectKind::Gateway, "")
        .with_gateway([api_gateway("n1", "192.0.2.1")].into_iter().chain(nodes()));
    let dir = kept_of(narrow.objects.clone()).await;
    let server = FakeServer::with(narrow.objects.into_iter().filter(|object| object["kind"] != "Gateway"));
    let mut plane = Plane::new();
    keeper(&mut plane, &dir);
    plane.set.start(pinned(&server)).unwrap();
    plane.pass(CONFIRM_AFTER - Duration::from_secs(1)).await;
    assert_eq!(
        (plane.gateways().len(), plane.health("c1"), plane.row("c1").replacement_held),
        (1, "stale", true)
    );
    plane.pass(Duration::from_secs(2)).await;
    assert_eq!((plane.gateways().len(), plane.health("c1"), plane.problems()), (0, "live", Vec::new()));
    assert!(!plane.row("c1").replacement_held);
}

#[tokio::test(start_paused = true)]
async fn k45_pods_that_a_snapshot_has_are_not_given_up_however_fast_they_are_refused() {
    for (endpoints, late) in [(3, false), (3, true), (250, false), (250, true)] {
        let dir = kept_of(world("n1", "u1", 1, endpoints)).await;
        let server = FakeServer::with(world("n1", "u1", 1, endpoints));
        server.forbid(ObjectKind::Pod);
        server.hold_new_lists(late);
        let mut plane = Plane::new();
        keeper(&mut plane, &dir);
        plane.set.start(pinned(&server)).unwrap();
        plane.pass(Duration::from_secs(2)).await;
        server.hold_new_lists(false);
        plane.pass(HOUR).await;
        assert_eq!((plane.web(), plane.health("c1")), (web(&[("c1", endpoints)]), "stale"), "{late}");
        assert_eq!(plane.workloads("c1"), endpoints);
        plane.changes();
        server.permit(ObjectKind::Pod);
        plane.pass(Duration::from_secs(3)).await;
        assert_eq!((plane.web(), plane.health("c1")), (web(&[("c1", endpoints)]), "live"), "{late}");
        assert!(plane.changes().is_empty() && plane.problems().is_empty());
    }
}
