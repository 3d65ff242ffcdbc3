//! Which rules hold, and that assignments and Envoy clusters have them from one place (R4.3).

use std::time::Duration;

use super::*;
use crate::model::policy::{HostPattern, LoadBalancer, MeshConfig, PolicyMeta, WorkloadSelector};
use crate::model::{Labels, Locality, Node, NodeMetadata, Quirks};
use crate::registry::PolicyObject;
use crate::view::{Client, OutboundKey};

fn rule(namespace: &str, name: &str, host: &str, created: i64) -> DestinationRule {
    DestinationRule {
        meta: PolicyMeta { created, id: PolicyId::new(namespace, name) },
        host: HostPattern::new(host),
        policy: TrafficPolicy {
            settings: TrafficSettings {
                load_balancer: Some(LoadBalancer {
                    warmup: Some(Duration::from_secs(1)),
                    ..LoadBalancer::default()
                }),
                ..TrafficSettings::default()
            },
            ports: Vec::new(),
        },
        subsets: vec![Subset { name: name.into(), labels: Labels::new(), policy: TrafficPolicy::default() }],
        selector: WorkloadSelector::default(),
        export_to: ExportTo::Unset,
    }
}

fn chosen(mesh: MeshConfig, rules: Vec<DestinationRule>) -> Option<Vec<String>> {
    let objects = rules.into_iter().map(|rule| PolicyObject::DestinationRule(Arc::new(rule)));
    let policies = PolicySnapshot::with(mesh, objects);
    let label = |key: &str| (key == "app").then_some("web");
    let client = RuleClient { namespace: "client", label: &label };
    let found = Destination::for_client(&client, &ServiceKey::new("service", "a.service"), &policies);
    Some(found.rule()?.subsets.iter().map(|subset| subset.name.to_string()).collect())
}

#[test]
fn r4_3_the_clients_namespace_then_the_services_then_the_mesh() {
    let all = ["istio-system", "service", "client"];
    for (at, expected) in all.iter().enumerate() {
        let rules = all[..=at].iter().map(|namespace| rule(namespace, namespace, "a.service", 1)).collect();
        assert_eq!(chosen(MeshConfig::default(), rules), Some(vec![(*expected).to_owned()]));
    }
    assert_eq!(chosen(MeshConfig::default(), vec![rule("other", "x", "a.service", 1)]), None);
    let wide = vec![rule("client", "wide", "*", 1), rule("client", "exact", "a.service", 2)];
    assert_eq!(chosen(MeshConfig::default(), wide), Some(vec!["exact".to_owned()]));
    let near = vec![rule("client", "wide", "*", 1), rule("service", "exact", "a.service", 2)];
    assert_eq!(
        chosen(MeshConfig::default(), near),
        Some(vec!["wide".to_owned()]),
        "the namespace counts more"
    );
}

#[test]
fn r4_3_rules_that_select_the_client_count_first_and_others_not_at_all() {
    let selecting = |value: &str, namespace: &str| DestinationRule {
        selector: WorkloadSelector::new([("app".into(), value.into())].into_iter().collect()),
        ..rule(namespace, "selecting", "a.service", 5)
    };
    let general = || rule("client", "general", "a.service", 1);
    let first = |rules| chosen(MeshConfig::default(), rules).expect("some")[0].clone();
    assert_eq!(first(vec![general(), selecting("web", "client")]), "selecting");
    assert_eq!(first(vec![general(), selecting("db", "client")]), "general");
    assert_eq!(first(vec![general(), selecting("web", "service")]), "general", "its own namespace only");
}

#[test]
fn r4_3_several_rules_of_one_host_are_one() {
    let two = vec![rule("service", "young", "a.service", 2), rule("service", "old", "a.service", 1)];
    assert_eq!(chosen(MeshConfig::default(), two), Some(vec!["old".to_owned(), "young".to_owned()]));
}

#[test]
fn r4_2_rules_are_for_the_namespaces_they_are_exported_to() {
    let hidden = DestinationRule { export_to: ExportTo::Nowhere, ..rule("service", "x", "a.service", 1) };
    assert_eq!(chosen(MeshConfig::default(), vec![hidden]), None);
    let own = ExportTo::Namespaces(["".into()].into());
    let mesh = || MeshConfig { default_destination_rule_export_to: own.clone(), ..MeshConfig::default() };
    assert_eq!(chosen(mesh(), vec![rule("service", "x", "a.service", 1)]), None, "the mesh's default");
    assert!(chosen(mesh(), vec![rule("client", "x", "a.service", 1)]).is_some());
}

/// A proxy of a namespace with one label.
fn proxy(namespace: &str, label: &str) -> ProxyView {
    let metadata = NodeMetadata {
        cluster_id: "c1".to_owned(),
        namespace: namespace.to_owned(),
        labels: [("app", label)].into(),
        ..NodeMetadata::default()
    };
    let id = format!("sidecar~10.0.0.9~p.{namespace}~{namespace}.svc.cluster.local");
    let node = Node::parse(&id, metadata, Locality::default(), std::iter::empty()).expect("a node");
    ProxyView::new(&node, None, &"".into(), Quirks::OURS)
}

#[test]
fn r4_3_assignments_and_envoy_clusters_have_the_same_rule() {
    let selecting = |namespace: &str, name: &str| DestinationRule {
        selector: WorkloadSelector::new([("app".into(), "web".into())].into_iter().collect()),
        ..rule(namespace, name, "a.service", 3)
    };
    let to = |names: &[&str]| ExportTo::Namespaces(names.iter().map(|name| (*name).into()).collect());
    let exported = |namespace: &str, name: &str, host: &str, names: &[&str]| DestinationRule {
        export_to: to(names),
        ..rule(namespace, name, host, 2)
    };
    let plain = |namespace: &str, name: &str| DestinationRule {
        policy: TrafficPolicy::default(),
        ..rule(namespace, name, "a.service", 1)
    };
    let pool = [
        rule("client", "wide", "*", 1),
        plain("client", "plain"),
        rule("client", "second", "a.service", 2),
        selecting("client", "mine"),
        exported("service", "partly", "a.service", &["client"]),
        rule("service", "wide", "*.service", 4),
        selecting("service", "foreign"),
        exported("istio-system", "root", "*", &["istio-system"]),
        rule("istio-system", "all", "a.service", 6),
    ];
    let (service, mut different) =
        (ServiceKey::new("service", "a.service"), std::collections::BTreeSet::new());
    for chosen in 0..1_u32 << pool.len() {
        let rules =
            pool.iter().enumerate().filter(|(at, _)| chosen >> at & 1 == 1).map(|(_, rule)| rule.clone());
        let objects = rules.map(|rule| PolicyObject::DestinationRule(Arc::new(rule)));
        let policies = PolicySnapshot::with(MeshConfig::default(), objects);
        for (namespace, label) in [("client", "web"), ("client", "db"), ("istio-system", "web"), ("x", "web")]
        {
            let view = proxy(namespace, label);
            let key = OutboundKey::of(&view, &policies);
            let of_cluster = Client::new(&key, &policies).rule(&service);
            let found = Destination::of(&view, &service, &policies);
            let of_assignment = Destination::of_ids(&policies, "a.service", &found.ids());
            assert_eq!(of_assignment.rule(), of_cluster.as_ref(), "{chosen:b} {namespace} {label}");
            different.insert(found.ids());
        }
    }
    assert!(different.len() > pool.len(), "{different:?}");
}
