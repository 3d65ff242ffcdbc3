//! Visibility, DestinationRules and what a projection reads (R4.2, R4.3, D16).

use std::sync::Arc;

use super::*;
use crate::model::policy::{
    ClientTls, ClientTlsMode, DestinationRule, EgressHost, EgressListener, EgressNamespace, HostPattern,
    LabelRequirement, LoadBalancer, LocalityLb, MeshConfig, NamespaceSelector, OutlierDetection, PolicyId,
    PolicyKind, PolicyMeta, PolicyPart, ServiceScopeRule, Sidecar, Subset, TrafficPolicy, TrafficSettings,
    WorkloadSelector,
};
use crate::model::{ExportTo, Features, Labels, Name, Node, NodeMetadata, ProxyView, Quirks};
use crate::registry::{PolicyObject, ServiceSnapshot};
use crate::view::visibility;

pub(super) fn proxy(namespace: &str, labels: &[(&str, &str)]) -> ProxyView {
    let metadata = NodeMetadata {
        cluster_id: "c1".to_owned(),
        network: "n1".to_owned(),
        namespace: namespace.to_owned(),
        node_name: "node-1".to_owned(),
        labels: labels.iter().map(|(key, value)| (Name::from(*key), Name::from(*value))).collect(),
        ..NodeMetadata::default()
    };
    let id = format!("sidecar~10.0.0.9~p.{namespace}~{namespace}.svc.cluster.local");
    let node = Node::parse(&id, metadata, Locality::parse("r1/z1"), std::iter::empty()).expect("a node");
    ProxyView::new(&node, None, &"".into(), Quirks::OURS)
}

pub(super) fn rule(place: &str, host: &str) -> DestinationRule {
    let (namespace, name) = place.split_once('/').expect("namespace/name");
    DestinationRule {
        meta: PolicyMeta { created: 0, id: PolicyId::new(namespace, name) },
        host: HostPattern::new(host),
        policy: TrafficPolicy::default(),
        subsets: Vec::new(),
        selector: WorkloadSelector::default(),
        export_to: ExportTo::Unset,
    }
}

fn snapshot(mesh: MeshConfig, rules: Vec<DestinationRule>) -> PolicySnapshot {
    let rules = rules.into_iter().map(|rule| PolicyObject::DestinationRule(Arc::new(rule)));
    PolicySnapshot::with(mesh, rules)
}

fn world() -> World {
    World::new(&[("c1", "n1")]).pods("c1", &[pod("10.0.0.1")])
}

fn key(world: &World, view: &ProxyView, policies: &PolicySnapshot) -> EdsKey {
    let candidates: Vec<_> = world.registry.host(HOST).iter().map(|cell| cell.load()).collect();
    EdsKey::of(view, &EdsName::outbound(5000, &HOST.into()), &candidates, policies, &world.mesh)
}

fn ids(world: &World, view: &ProxyView, policies: &PolicySnapshot) -> Vec<String> {
    key(world, view, policies).rules.iter().map(ToString::to_string).collect()
}

#[test]
fn r4_3_the_clients_namespace_then_the_services_then_the_root() {
    let all = || vec![rule("client/x", "*"), rule("sample/y", HOST), rule("istio-system/z", HOST)];
    let ids = |view: &ProxyView, rules| ids(&world(), view, &snapshot(MeshConfig::default(), rules));
    let client = proxy("client", &[]);
    assert_eq!(ids(&client, all()), ["client/x"]);
    assert_eq!(ids(&client, all().split_off(1)), ["sample/y"]);
    assert_eq!(ids(&client, all().split_off(2)), ["istio-system/z"]);
    assert_eq!(ids(&proxy("other", &[]), all()), ["sample/y"]);
    let private = DestinationRule {
        export_to: ExportTo::Namespaces(["sample".into()].into()),
        ..rule("sample/y", HOST)
    };
    assert_eq!(ids(&client, vec![private, rule("istio-system/z", "*")]), ["istio-system/z"]);
    assert_eq!(ids(&client, vec![rule("client/x", "*.cluster.local"), rule("client/w", HOST)]), ["client/w"]);
}

#[test]
fn r4_3_rules_that_select_the_client_come_first_and_only_in_its_namespace() {
    let selecting = |place| DestinationRule {
        selector: WorkloadSelector::new(Labels::from([("app", "c")])),
        ..rule(place, HOST)
    };
    let policies = snapshot(
        MeshConfig::default(),
        vec![rule("client/a", HOST), selecting("client/b"), selecting("sample/c")],
    );
    assert_eq!(ids(&world(), &proxy("client", &[("app", "c")]), &policies), ["client/b"]);
    assert_eq!(ids(&world(), &proxy("client", &[("app", "d")]), &policies), ["client/a"]);
    assert_eq!(ids(&world(), &proxy("other", &[("app", "c")]), &policies), [] as [&str; 0]);
}

#[test]
fn r4_3_rules_of_one_host_and_namespace_are_united() {
    let subset = |name: &str, version: &str| Subset {
        name: name.into(),
        labels: Labels::from([("version", version)]),
        policy: TrafficPolicy::default(),
    };
    let tls = |mode| TrafficPolicy {
        settings: TrafficSettings {
            tls: Some(ClientTls { mode, ..ClientTls::default() }),
            ..TrafficSettings::default()
        },
        ports: Vec::new(),
    };
    let first = DestinationRule { subsets: vec![subset("a", "1")], ..rule("sample/a", HOST) };
    let second = DestinationRule {
        subsets: vec![subset("a", "9"), subset("b", "2")],
        policy: tls(ClientTlsMode::Simple),
        ..rule("sample/b", HOST)
    };
    let third = DestinationRule { policy: tls(ClientTlsMode::Disable), ..rule("sample/c", HOST) };
    let policies = snapshot(MeshConfig::default(), vec![third, second, first]);
    let destination =
        crate::view::Destination::of(&proxy("client", &[]), &ServiceKey::new("sample", HOST), &policies);
    let names: Vec<_> =
        destination.subsets().map(|one| (one.name.to_string(), one.labels["version"].to_string())).collect();
    assert_eq!(names, [("a".into(), "1".into()), ("b".into(), "2".into())]);
    let tls = destination.settings(5000, "b").tls.map(|tls| tls.mode);
    assert_eq!(tls, Some(ClientTlsMode::Simple), "the first policy wins");
}

#[test]
fn d16_proxies_that_no_rule_tells_apart_have_one_projection() {
    let (world, none) = (world(), PolicySnapshot::default());
    let keys = (0..100).map(|n| key(&world, &proxy(&format!("ns-{n}"), &[("app", &n.to_string())]), &none));
    assert_eq!(keys.collect::<std::collections::BTreeSet<_>>().len(), 1);
}

#[test]
fn d16_localities_and_labels_are_read_where_a_rule_reads_them() {
    let view = proxy("client", &[("app", "c")]);
    let key = |rule: Option<DestinationRule>| {
        key(&world(), &view, &snapshot(MeshConfig::default(), rule.into_iter().collect()))
    };
    assert_eq!((key(None).locality, key(None).labels), (None, None));
    let outliers = TrafficPolicy {
        settings: TrafficSettings {
            outlier_detection: Some(OutlierDetection::default()),
            ..TrafficSettings::default()
        },
        ports: Vec::new(),
    };
    let read = key(Some(DestinationRule { policy: outliers, ..rule("sample/a", HOST) }));
    assert_eq!((read.locality, read.labels), (Some(Locality::parse("r1/z1")), None));
    let keys = ["app", "kubernetes.io/hostname", "x=y"].map(Name::from);
    let setting = LocalityLb { failover_priority: keys.into(), ..LocalityLb::default() };
    let balancer = LoadBalancer { locality: Some(setting), ..LoadBalancer::default() };
    let settings = TrafficSettings { load_balancer: Some(balancer), ..TrafficSettings::default() };
    let policy = TrafficPolicy { settings, ports: Vec::new() };
    let read = key(Some(DestinationRule { policy, ..rule("sample/a", HOST) }));
    let labels = [("app", "c"), ("kubernetes.io/hostname", "node-1")];
    let labels = labels.map(|(key, value)| (Name::from(key), Name::from(value)));
    assert_eq!((read.locality, read.labels), (None, Some(labels.to_vec())), "Q22");
}

#[test]
fn r4_2_a_host_means_the_service_that_the_proxy_sees() {
    let service = |namespace: &str, created, export_to| {
        let key = ServiceKey::new(namespace, HOST);
        let service = Service { key, created, export_to, ..Service::default() };
        let mut world = World::new(&[("c1", "n1")]);
        world.service = service;
        let world = world.pods("c1", &[pod("10.0.0.1")]);
        world.registry.host(HOST)[0].load()
    };
    let means = |view: &ProxyView, candidates: &[Arc<ServiceSnapshot>], policies: &PolicySnapshot| {
        let name = EdsName::outbound(5000, &HOST.into());
        let namespace = EdsKey::of(view, &name, candidates, policies, &MeshRules::default()).namespace;
        namespace.map(|name| name.to_string()).unwrap_or_default()
    };
    let all = [
        service("b", 2, ExportTo::Unset),
        service("a", 3, ExportTo::Unset),
        service("c", 1, ExportTo::Nowhere),
    ];
    let none = PolicySnapshot::default();
    assert_eq!(means(&proxy("a", &[]), &all, &none), "a", "its own");
    assert_eq!(means(&proxy("x", &[]), &all, &none), "b", "the oldest it sees");
    let own_only = MeshConfig {
        default_service_export_to: ExportTo::Namespaces(["".into()].into()),
        ..MeshConfig::default()
    };
    let policies = PolicySnapshot::with(own_only, []);
    assert_eq!(
        (means(&proxy("b", &[]), &all, &policies), means(&proxy("x", &[]), &all, &policies)),
        ("b".into(), String::new())
    );
    let hosts =
        vec![EgressHost { namespace: EgressNamespace::Named("a".into()), host: HostPattern::new("*") }];
    let sidecar = Sidecar {
        meta: PolicyMeta { created: 0, id: PolicyId::new("x", "s") },
        selector: WorkloadSelector::default(),
        egress: vec![EgressListener {
            port: None,
            bind: None,
            socket: None,
            capture: Default::default(),
            hosts,
        }],
        ingress: Vec::new(),
        outbound_policy: None,
        inbound_pool: None,
    };
    let policies =
        PolicySnapshot::with(MeshConfig::default(), [PolicyObject::Sidecar(Arc::new(sidecar.clone()))]);
    assert_eq!(means(&proxy("x", &[]), &all, &policies), "a");
    assert_eq!(means(&proxy("y", &[]), &all, &policies), "b", "another namespace's Sidecar");
    assert!(visibility::sidecar(&proxy("x", &[]), &policies).is_some());
    assert!(!visibility::is_imported(&sidecar, "b", HOST, 5000));
}

#[test]
fn d14_an_assignment_names_the_policies_it_read() {
    let world = world();
    let viewer = world.from("n1/c1");
    let sent = viewer.assignment(&whole()).0;
    let part = |kind, scope: &str| (PolicyPart { kind, scope: scope.into() }, 0);
    let read = &sent.policies_read;
    for scope in [HOST, "*.sample.svc.cluster.local", "*"] {
        assert!(read.contains(&part(PolicyKind::DestinationRule, scope)), "{scope}");
    }
    assert!(read.contains(&part(PolicyKind::MeshConfig, "")));
    for namespace in ["sample", "istio-system"] {
        assert!(read.contains(&part(PolicyKind::PeerAuthentication, namespace)), "{namespace}");
    }
    assert!(read.is_sorted());
}

#[test]
fn r4_12_settings_of_a_port_without_tls_leave_the_general_mode() {
    let lb = TrafficSettings { load_balancer: Some(LoadBalancer::default()), ..TrafficSettings::default() };
    let of = |mode| TrafficSettings {
        tls: Some(ClientTls { mode, ..ClientTls::default() }),
        ..TrafficSettings::default()
    };
    let port = |settings| crate::model::policy::PortPolicy { port: 5000, settings };
    let told = |policy, subset| {
        let subsets = vec![Subset { name: "v1".into(), labels: Labels::default(), policy: subset }];
        let policies = snapshot(
            MeshConfig::default(),
            vec![DestinationRule { policy, subsets, ..rule("sample/r", HOST) }],
        );
        let destination = crate::view::Destination::of_ids(&policies, HOST, &[PolicyId::new("sample", "r")]);
        let name = EdsName { subset: "v1".to_owned(), ..EdsName::outbound(5000, &HOST.into()) };
        crate::view::mtls::told(&destination, &name)
    };
    let (disable, mutual) = (ClientTlsMode::Disable, ClientTlsMode::IstioMutual);
    let general = TrafficPolicy { settings: of(disable), ports: vec![port(lb.clone())] };
    assert_eq!(told(general.clone(), TrafficPolicy::default()), Some(disable));
    let own = TrafficPolicy { settings: of(disable), ports: vec![port(of(mutual))] };
    assert_eq!(told(own.clone(), TrafficPolicy::default()), Some(mutual), "the port before the general one");
    let subset = TrafficPolicy { settings: of(mutual), ports: vec![port(lb)] };
    assert_eq!(told(general, subset), Some(mutual), "the subset before the host");
    assert_eq!(told(TrafficPolicy::default(), TrafficPolicy::default()), None);
}

#[test]
fn r4_9_scopes_go_by_the_labels_of_the_namespace() {
    let scoped = |team: &str| {
        let rule = ServiceScopeRule {
            namespaces: NamespaceSelector {
                requirements: vec![LabelRequirement::In("team".into(), vec!["a".into()])],
            },
            global: true,
            ..ServiceScopeRule::default()
        };
        let mut world = World::new(&[("east", "n1"), ("west", "n1")]);
        if !team.is_empty() {
            world.service.namespace_labels = Labels::from([("team", team)]);
        }
        let features = Features { ambient: true, multi_network: true, ..Features::default() };
        world.mesh =
            MeshRules::default().with_features(features.effective()).with_config_cluster(Some("east".into()));
        world.policies =
            PolicySnapshot::with(MeshConfig { service_scopes: vec![rule], ..MeshConfig::default() }, []);
        let world = world.pods("east", &[pod("10.0.0.1")]).pods("west", &[pod("10.0.0.2")]);
        world.from("n1/east").decides("10.0.0.2") != Decision::NotGlobal
    };
    assert_eq!((scoped("a"), scoped("b"), scoped("")), (true, false, false));
}
