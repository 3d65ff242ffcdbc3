//! Which labels of a client its outbound world depends on (D16).

use std::sync::Arc;

use super::rules::{proxy, rule};
use crate::model::policy::{
    Destination, DestinationRule, Headers, HostPattern, MESH_GATEWAY, MeshConfig, PolicyId, PolicyMeta,
    Sources, TcpMatch, TcpRoute, VirtualService, Weighted, WorkloadSelector,
};
use crate::model::{ExportTo, Labels};
use crate::registry::{PolicyObject, PolicySnapshot};
use crate::view::OutboundKey;

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
}

/// A VirtualService of namespace `a` for everybody behind sidecars that asks for these clients.
fn asking(sources: Sources) -> VirtualService {
    let destination = Destination { host: "x.y".into(), subset: "".into(), port: None };
    VirtualService {
        meta: PolicyMeta { created: 1, id: PolicyId::new("a", "routes") },
        hosts: vec![HostPattern::new("x.y")],
        gateways: vec![MESH_GATEWAY.into()],
        export_to: ExportTo::Unset,
        http: Vec::new(),
        tls: Vec::new(),
        tcp: vec![TcpRoute {
            matches: vec![TcpMatch { subnets: Vec::new(), sources }],
            to: vec![Weighted { destination, weight: 1, headers: Headers::default() }],
        }],
    }
}

/// What proxies of `a` and `b` with the labels `version: v1, app: web` are told apart by.
fn asked(object: PolicyObject) -> [Labels; 2] {
    let policies = PolicySnapshot::with(MeshConfig::default(), [object]);
    ["a", "b"].map(|namespace| {
        let view = proxy(namespace, &[("version", "v1"), ("app", "web")]);
        OutboundKey::of(&view, &policies).labels
    })
}

fn routes(told: VirtualService) -> [Labels; 2] {
    asked(PolicyObject::VirtualService(Arc::new(told)))
}

#[test]
fn only_routes_that_a_proxy_may_follow_ask_for_its_labels() {
    let version = || Sources { labels: labels(&[("version", "v1")]), ..Sources::default() };
    let (some, none) = (labels(&[("version", "v1")]), Labels::new());
    assert_eq!(routes(asking(version())), [some.clone(), some.clone()]);
    let private = ExportTo::Namespaces(["a".into()].into());
    let only_a = [some.clone(), none.clone()];
    assert_eq!(routes(VirtualService { export_to: private, ..asking(version()) }), only_a, "not exported");
    assert_eq!(routes(asking(Sources { namespace: "a".into(), ..version() })), only_a, "asks for others");
    let edge = VirtualService { gateways: vec!["a/gw".into()], ..asking(version()) };
    assert_eq!(routes(edge), [none.clone(), none.clone()], "for clients of a gateway");
    let edge = asking(Sources { gateways: vec!["a/gw".into()], ..version() });
    assert_eq!(routes(edge), [none.clone(), none.clone()]);
    let port = asking(Sources { port: Some(80), ..version() });
    assert_eq!(routes(port), [some.clone(), some]);
}

#[test]
fn labels_count_only_where_all_of_them_hold() {
    let both = |value: &str| labels(&[("version", "v1"), ("app", value)]);
    let of = |labels| routes(asking(Sources { labels, ..Sources::default() }));
    assert_eq!(of(both("web")), [both("web"), both("web")]);
    assert_eq!(of(both("other")), [Labels::new(), Labels::new()]);
    let selecting = |value: &str| DestinationRule {
        selector: WorkloadSelector::new(both(value)),
        export_to: ExportTo::Namespaces(["a".into()].into()),
        ..rule("a/r", "x.y")
    };
    let of = |value| asked(PolicyObject::DestinationRule(Arc::new(selecting(value))));
    assert_eq!(of("web"), [both("web"), Labels::new()]);
    assert_eq!(of("other"), [Labels::new(), Labels::new()]);
}
