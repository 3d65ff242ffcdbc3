//! Selectors that select nothing.

use super::*;

use PolicyKind::{
    AuthorizationPolicy, DestinationRule, Gateway, PeerAuthentication, Sidecar, VirtualService,
};

/// A spec that selects pods of an app, and the field.
fn selecting(kind: PolicyKind, app: &str) -> (Value, &'static str) {
    let labels = json!({"app": app});
    match kind {
        Sidecar => (
            json!({"workloadSelector": {"labels": labels}, "egress": [{"hosts": ["*/*"]}]}),
            "spec.workloadSelector.labels",
        ),
        DestinationRule => (
            json!({"host": "reviews.shop.svc.cluster.local", "workloadSelector": {"matchLabels": labels}}),
            "spec.workloadSelector.matchLabels",
        ),
        _ => (json!({"selector": {"matchLabels": labels}}), "spec.selector.matchLabels"),
    }
}

#[test]
fn workloads_of_the_own_namespace_are_selected() {
    for kind in [Sidecar, DestinationRule, PeerAuthentication, AuthorizationPolicy] {
        assert_eq!(found(&[(kind, "shop/x", selecting(kind, "reviews").0)]), [""; 0], "{kind:?}");
        for (id, app) in [("shop/x", "nobody"), ("ops/x", "reviews")] {
            let (spec, field) = selecting(kind, app);
            let expected = [format!("info selects-nothing {id} {field}")];
            assert_eq!(found(&[(kind, id, spec)]), expected, "{kind:?}");
        }
    }
    let both = json!({"selector": {"matchLabels": {"app": "reviews", "version": "v2"}}});
    let text = said(&[(AuthorizationPolicy, "shop/x", both)], Code::SelectsNothing);
    assert!(text.contains("has app=reviews,version=v2 now, none has version=v2"), "{text}");
}

#[test]
fn the_root_namespace_selects_everywhere_and_peer_authentications_there_nothing() {
    let (spec, field) = selecting(AuthorizationPolicy, "reviews");
    assert_eq!(found(&[(AuthorizationPolicy, "istio-system/x", spec.clone())]), [""; 0]);
    let (other, _) = selecting(AuthorizationPolicy, "nobody");
    let idle = found(&[(AuthorizationPolicy, "istio-system/x", other)]);
    assert_eq!(idle, [format!("info selects-nothing istio-system/x {field}")]);
    let at_root = found(&[(PeerAuthentication, "istio-system/x", spec.clone())]);
    assert_eq!(at_root, [format!("warning root-selector istio-system/x {field}")]);
    assert_eq!(found(&[(PeerAuthentication, "shop/x", spec.clone())]), [""; 0]);
    let world = World::new(&[(PeerAuthentication, "shop/x", spec)]);
    let mesh = MeshConfig { root_namespace: "shop".into(), ..MeshConfig::default() };
    world.sources.registry.write_mesh_config(mesh);
    assert_eq!(world.found(), [format!("warning root-selector shop/x {field}")]);
}

#[test]
fn gateways_select_routers_of_every_namespace() {
    let gateway = |istio: &str| {
        let server = json!({"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]});
        [(Gateway, "shop/x", json!({"selector": {"istio": istio}, "servers": [server]}))]
    };
    assert_eq!(found(&gateway("ingress")), [""; 0]);
    assert_eq!(found(&gateway("egress")), ["info selects-nothing shop/x spec.selector"]);
}

#[test]
fn targets_are_gateways_of_the_own_namespace() {
    let aimed = |id: &'static str, name: &str| {
        let target = json!({"kind": "Gateway", "group": "gateway.networking.k8s.io", "name": name});
        [(AuthorizationPolicy, id, json!({"targetRefs": [target]}))]
    };
    assert_eq!(found(&aimed("edge/x", "public")), [""; 0]);
    for (id, name) in [("edge/x", "private"), ("shop/x", "public")] {
        assert_eq!(found(&aimed(id, name)), [format!("info selects-nothing {id} spec.targetRefs")]);
    }
}

#[test]
fn conditions_on_clients() {
    let from = |condition: Value| {
        let spec = json!({"hosts": ["web.example"],
            "http": [{"match": [condition], "route": [{"destination": {"host": "reviews"}}]}]});
        [(VirtualService, "shop/x", spec)]
    };
    for fine in [
        json!({"sourceLabels": {"app": "reviews"}}),
        json!({"sourceNamespace": "shop"}),
        json!({"sourceNamespace": "shop", "sourceLabels": {"version": "v1"}}),
    ] {
        assert_eq!(found(&from(fine.clone())), [""; 0], "{fine}");
    }
    for (idle, field) in [
        (json!({"sourceLabels": {"app": "nobody"}}), "sourceLabels"),
        (json!({"sourceNamespace": "edge", "sourceLabels": {"app": "reviews"}}), "sourceLabels"),
        (json!({"sourceNamespace": "nowhere"}), "sourceNamespace"),
    ] {
        let expected = format!("info selects-nothing shop/x spec.http[0].match[0].{field}");
        assert_eq!(found(&from(idle)), [expected]);
    }
}
