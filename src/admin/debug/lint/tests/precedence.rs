//! Objects of which another one takes the place, and chains of listeners.

use super::*;

use PolicyKind::{DestinationRule, PeerAuthentication, Sidecar, VirtualService};

fn rule(id: &'static str, mode: &str, export_to: &str) -> Written<'static> {
    let spec = json!({"host": "reviews.shop.svc.cluster.local", "exportTo": [export_to],
        "trafficPolicy": {"loadBalancer": {"simple": mode}},
        "subsets": [{"name": "v1", "labels": {"version": "v1"}}]});
    (DestinationRule, id, spec)
}

#[test]
fn rules_of_one_namespace_and_host() {
    let same = [rule("shop/a", "RANDOM", "*"), rule("shop/b", "RANDOM", "*")];
    assert_eq!(found(&same), [""; 0], "they say the same");
    assert_eq!(found(&[rule("shop/a", "RANDOM", "*"), rule("ops/b", "ROUND_ROBIN", "*")]), [""; 0]);
    let objects = [rule("shop/a", "RANDOM", "*"), rule("shop/b", "ROUND_ROBIN", "*")];
    assert_eq!(found(&objects), ["warning shadowed shop/b spec.trafficPolicy"]);
    let text = said(&objects, Code::Shadowed);
    assert!(text.contains("DestinationRule shop/a is about reviews.shop.svc.cluster.local too"), "{text}");
    let some = [rule("shop/a", "RANDOM", "."), rule("shop/b", "ROUND_ROBIN", "*")];
    assert_eq!(found(&some), ["info shadowed shop/b spec.trafficPolicy"]);
    assert!(said(&some, Code::Shadowed).contains("counts for clients of namespace shop"));
    let subset = |id, labels: Value| {
        let spec = json!({"host": "reviews.shop.svc.cluster.local", "subsets": [
            {"name": "own", "labels": {"app": "reviews"}}, {"name": "x", "labels": labels}]});
        (DestinationRule, id, spec)
    };
    let objects = [subset("shop/a", json!({"version": "v1"})), subset("shop/b", json!({"app": "reviews"}))];
    assert_eq!(found(&objects), ["warning shadowed shop/b spec.subsets[1]"]);
}

#[test]
fn virtual_services_of_one_host() {
    let routes = |id, host: &str, gateways: Value, export_to: &str| {
        let spec = json!({"hosts": [host], "gateways": gateways, "exportTo": [export_to],
            "http": [{"route": [{"destination": {"host": "reviews.shop.svc.cluster.local"}}]}]});
        (VirtualService, id, spec)
    };
    let mesh = || json!(["mesh"]);
    let old = || routes("shop/a", "web.example", mesh(), "*");
    let objects = [old(), routes("shop/b", "web.example", mesh(), "*")];
    assert_eq!(found(&objects), ["warning shadowed shop/b spec.hosts"]);
    assert!(said(&objects, Code::Shadowed).contains("VirtualService shop/a has the host web.example too"));
    let wildcard = [old(), routes("shop/b", "*.example", mesh(), "*")];
    assert_eq!(found(&wildcard), [""; 0], "a wildcard is another host");
    let private = routes("shop/a", "web.example", mesh(), ".");
    let apart = [private.clone(), routes("ops/b", "web.example", mesh(), ".")];
    assert_eq!(found(&apart), [""; 0], "nobody sees both");
    let some = [private, routes("shop/b", "web.example", mesh(), "*")];
    assert_eq!(found(&some), ["info shadowed shop/b spec.hosts"]);
    let server = json!({"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]});
    let spec = json!({"selector": {"istio": "ingress"}, "servers": [server]});
    let gateway = (PolicyKind::Gateway, "edge/public", spec);
    let bound = |id| routes(id, "web.example", json!(["edge/public"]), "*");
    assert_eq!(found(&[bound("shop/a"), bound("shop/b"), gateway]), [""; 0], "on Gateways both count");
}

#[test]
fn one_policy_of_a_scope_counts() {
    for (kind, wide, field, selector, labels) in [
        (PeerAuthentication, json!({"mtls": {"mode": "STRICT"}}), "spec.selector", "selector", "matchLabels"),
        (
            Sidecar,
            json!({"egress": [{"hosts": ["*/*"]}]}),
            "spec.workloadSelector",
            "workloadSelector",
            "labels",
        ),
    ] {
        let wide = |id| (kind, id, wide.clone());
        let narrow = |id, wanted: Value| {
            let (kind, id, mut spec) = wide(id);
            spec[selector] = json!({labels: wanted});
            (kind, id, spec)
        };
        assert_eq!(found(&[wide("shop/a"), wide("ops/b")]), [""; 0], "{kind:?}");
        let shadowed = [format!("warning shadowed shop/b {field}")];
        assert_eq!(found(&[wide("shop/a"), wide("shop/b")]), shadowed);
        let of_app = || narrow("shop/a", json!({"app": "reviews"}));
        assert_eq!(found(&[of_app(), wide("shop/b")]), [""; 0], "for the others");
        let objects = [of_app(), narrow("shop/b", json!({"version": "v1"}))];
        assert_eq!(found(&objects), shadowed);
        let text = said(&objects, Code::Shadowed);
        assert!(text.contains(&format!("{} shop/a counts instead", kind.name())), "{text}");
    }
}

#[test]
fn chains_that_collide_name_both_services() {
    let world = World::new(&[]);
    let left_out = ServiceKey::new("shop", "www.example.com");
    let one = ChainCollision {
        port: 443,
        name: Some("www.example.com".into()),
        block: None,
        kept: ServiceKey::new("", "web.example"),
        left_out: left_out.clone(),
        clients: ["ops".into(), "shop".into()].into(),
    };
    let found = collision(&world.sources.registry, &one);
    assert_eq!(
        (found.kind, found.code, found.name.as_str(), found.field.as_str()),
        ("ServiceEntry", Code::ChainCollision, "www.example.com", "port 443")
    );
    for words in [
        "that ask for www.example.com to any address port 443 go where the VirtualService for web.example leads",
        "ServiceEntry www.example.com of namespace shop would",
        "namespace ops, shop",
    ] {
        assert!(found.message.contains(words), "{words}: {}", found.message);
    }
    let db = ServiceKey::new("shop", host("db.shop"));
    let swapped = ChainCollision { kept: left_out, left_out: db, ..one };
    assert_eq!(collision(&world.sources.registry, &swapped).kind, "Service");
}
