//! Where routes lead: hosts, ports, subsets, gateways, delegates.

use super::*;

use PolicyKind::{DestinationRule, Gateway, VirtualService};

const ROUTE: &str = "spec.http[0].route";

fn warning(code: &str, field: &str) -> String {
    format!("warning {code} shop/routes {field}")
}

#[test]
fn unknown_host() {
    for known in [
        "reviews",
        "reviews.shop.svc.cluster.local",
        "www.example.com",
        "reviews.shop.svc.clusterset.local",
        "other-name",
    ] {
        assert_eq!(found(&[routes(json!({"host": known}))]), [""; 0], "{known}");
    }
    for (unknown, words) in [
        ("review", "no Service and no ServiceEntry has the host review.shop.svc.cluster.local"),
        ("reviews.shop", "did you mean reviews.shop.svc.cluster.local?"),
        ("reviews.prod.svc.cluster.local", "there is reviews.shop.svc.cluster.local"),
        ("reviews.prod.svc.cluster.local", "nothing of namespace prod is known"),
        ("en.wiki.org", "a ServiceEntry has *.wiki.org"),
    ] {
        let objects = [routes(json!({"host": unknown}))];
        assert_eq!(found(&objects), [warning("unknown-host", ROUTE)], "{unknown}");
        assert!(said(&objects, Code::UnknownHost).contains(words), "{}", said(&objects, Code::UnknownHost));
    }
    let rule = |host: &str| [(DestinationRule, "shop/rule", json!({"host": host}))];
    for known in ["reviews", "*.example.com", "*.shop.svc.cluster.local", "*.wiki.org", "*"] {
        assert_eq!(found(&rule(known)), [""; 0], "{known}");
    }
    for unknown in ["review", "*.prod.svc.cluster.local", "en.wiki.org"] {
        assert_eq!(found(&rule(unknown)), ["warning unknown-host shop/rule spec.host"], "{unknown}");
    }
}

#[test]
fn a_host_may_be_that_of_a_cluster_that_is_not_read_yet() {
    let mut world = World::new(&[routes(json!({"host": "nobody"}))]);
    world.unsynced = vec!["west".into()];
    assert_eq!(world.found(), ["info unknown-host shop/routes spec.http[0].route"]);
    assert!(world.messages(Code::UnknownHost)[0].contains("may have it: west"));
}

#[test]
fn hidden_host() {
    let to = |host: &str, export_to: Value| {
        let spec = json!({"hosts": ["web.example"], "exportTo": export_to,
            "http": [{"route": [{"destination": {"host": host}}]}]});
        [(VirtualService, "shop/routes", spec)]
    };
    let audit = host("audit.ops");
    assert_eq!(found(&to(&audit, json!(["."]))), [warning("hidden-host", ROUTE)]);
    let text = said(&to(&audit, json!(["."])), Code::HiddenHost);
    assert!(text.contains("those of namespace shop") && text.contains("to namespace ops"), "{text}");
    assert_eq!(found(&to(&audit, json!(["ops"]))), [""; 0]);
    assert_eq!(found(&to(&audit, json!(["*"]))), [""; 0], "clients of ops get there");
    assert_eq!(found(&to("db", json!(["."]))), [""; 0]);
}

#[test]
fn unknown_port() {
    let to = |port: u16| [routes(json!({"host": "reviews", "port": {"number": port}}))];
    assert_eq!(found(&to(9080)), [""; 0]);
    assert_eq!(found(&to(80)), [warning("unknown-port", ROUTE)]);
    assert_eq!(
        said(&to(80), Code::UnknownPort),
        "reviews.shop.svc.cluster.local has no port 80; it has 9080"
    );
}

/// Subset v1 of a host.
fn v1(host: &str, export_to: Value) -> Value {
    json!({"host": host, "exportTo": export_to, "subsets": [{"name": "v1", "labels": {"version": "v1"}}]})
}

#[test]
fn unknown_subset() {
    let route = || routes(json!({"host": "reviews", "subset": "v1"}));
    let full = host("reviews.shop");
    assert_eq!(found(&[route()]), [warning("unknown-subset", ROUTE)]);
    for (id, host, export_to) in [
        ("shop/a", "reviews", json!(["*"])),
        ("shop/a", "*.shop.svc.cluster.local", json!(["."])),
        ("istio-system/a", full.as_str(), json!(["*"])),
        ("istio-system/a", "*.cluster.local", json!(["shop"])),
        // Clients of another namespace may heed it: the routes are exported there.
        ("ops/a", full.as_str(), json!(["."])),
    ] {
        let world = World::new(&[route(), (DestinationRule, id, v1(host, export_to))]);
        assert_eq!(world.messages(Code::UnknownSubset), [""; 0], "{id} {host}");
    }
    let spec = json!({"host": "reviews", "subsets": [{"name": "v2", "labels": {"version": "v1"}}]});
    let objects = [route(), (DestinationRule, "shop/a", spec)];
    assert_eq!(found(&objects), [warning("unknown-subset", ROUTE)]);
    let text = said(&objects, Code::UnknownSubset);
    assert!(text.contains("shop/a with subsets v2"), "{text}");
    let spec = json!({"hosts": ["web.example"], "exportTo": ["."],
        "http": [{"route": [{"destination": {"host": "reviews", "subset": "v1"}}]}]});
    for (id, export_to) in [("ops/a", json!(["*"])), ("istio-system/a", json!(["ops"]))] {
        let objects =
            [(VirtualService, "shop/routes", spec.clone()), (DestinationRule, id, v1(&full, export_to))];
        assert_eq!(found(&objects), [warning("unknown-subset", ROUTE)], "{id}");
        let text = said(&objects, Code::UnknownSubset);
        assert!(text.contains("holds for no client of this VirtualService (namespace shop)"), "{text}");
    }
    let mut unlisted = World::new(&[route()]);
    unlisted.told.unlisted = vec![DestinationRule];
    assert_eq!(unlisted.found(), [""; 0], "rules were not read yet");
}

#[test]
fn hidden_subset() {
    let route = || routes(json!({"host": "reviews", "subset": "v1"}));
    let wide = || (DestinationRule, "shop/wide", v1("*.shop.svc.cluster.local", json!(["*"])));
    assert_eq!(found(&[route(), wide()]), [""; 0]);
    let exact = (DestinationRule, "shop/exact", json!({"host": "reviews"}));
    let objects = [route(), wide(), exact];
    assert_eq!(found(&objects), [warning("hidden-subset", ROUTE)]);
    let text = said(&objects, Code::HiddenSubset);
    assert!(text.contains("heed DestinationRule shop/exact") && text.contains("shop/wide does"), "{text}");
    let spec = json!({"host": "reviews", "exportTo": ["."],
        "workloadSelector": {"matchLabels": {"app": "reviews"}}});
    let of_some = (DestinationRule, "shop/exact", spec);
    assert_eq!(found(&[route(), wide(), of_some]), [""; 0], "it hangs on the client's labels");
}

#[test]
fn empty_subset() {
    let rule = |host: &str, version: &str| {
        let subset = json!({"name": "x", "labels": {"version": version}});
        [(DestinationRule, "shop/r", json!({"host": host, "subsets": [subset]}))]
    };
    assert_eq!(found(&rule("reviews", "v1")), [""; 0]);
    for quiet in ["*.wiki.org", "other-name", "*.shop.svc.cluster.local"] {
        assert_eq!(found(&rule(quiet, "v9")), [""; 0], "{quiet}");
    }
    assert_eq!(found(&rule("reviews", "v9")), ["info empty-subset shop/r spec.subsets[0].labels"]);
    assert!(said(&rule("reviews", "v9"), Code::EmptySubset).contains("has version=v9 now"));
    assert!(said(&rule("ratings", "v1"), Code::EmptySubset).contains("no endpoints at all"));
}

fn gateway(id: &'static str, host: &str) -> Written<'static> {
    let server = json!({"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": [host]});
    (Gateway, id, json!({"selector": {"istio": "ingress"}, "servers": [server]}))
}

fn bound(gateway: &str) -> Written<'static> {
    let spec = json!({"hosts": ["web.example"], "gateways": [gateway],
        "http": [{"route": [{"destination": {"host": "reviews"}}]}]});
    (VirtualService, "shop/routes", spec)
}

#[test]
fn unknown_gateway() {
    assert_eq!(found(&[bound("edge/public"), gateway("edge/public", "*")]), [""; 0]);
    assert_eq!(found(&[bound("public"), gateway("shop/public", "*")]), [""; 0]);
    assert_eq!(found(&[bound("mesh")]), [""; 0]);
    let objects = [bound("public"), gateway("edge/public", "*")];
    assert_eq!(found(&objects), [warning("unknown-gateway", "spec.gateways[0]")]);
    let text = said(&objects, Code::UnknownGateway);
    assert!(text.contains("no Gateway shop/public") && text.contains("there is edge/public"), "{text}");
    let mut world = World::new(&[bound("edge/public")]);
    world.told.unread = [(Gateway, PolicyId::new("edge", "public"))].into();
    assert!(world.messages(Code::UnknownGateway)[0].contains("cannot be read"));
    world.told.unlisted = vec![Gateway];
    assert_eq!(world.found(), [""; 0], "Gateways were not read yet");
}

#[test]
fn host_not_on_gateway() {
    for served in ["*", "*.example", "web.example", "shop/web.example", "./*"] {
        let id = if served.starts_with('.') { "shop/public" } else { "edge/public" };
        assert_eq!(found(&[bound(id), gateway(id, served)]), [""; 0], "{served}");
    }
    for served in ["api.example", "*.org", "ops/*", "./*"] {
        let objects = [bound("edge/public"), gateway("edge/public", served)];
        assert_eq!(found(&objects), [warning("host-not-on-gateway", "spec.gateways[0]")], "{served}");
    }
}

#[test]
fn clients_of_gateways_are_their_routers() {
    let to = |host: &str| {
        let spec = json!({"hosts": ["web.example"], "gateways": ["edge/public"],
            "http": [{"route": [{"destination": {"host": host}}]}]});
        [(VirtualService, "shop/routes", spec), gateway("edge/public", "*")]
    };
    assert_eq!(found(&to("reviews")), [""; 0]);
    assert_eq!(found(&to("db")), [warning("hidden-host", ROUTE)], "routers are in edge, db is for shop");
}

#[test]
fn delegates() {
    let root = (
        VirtualService,
        "shop/root",
        json!({"hosts": ["web.example"], "http": [{"delegate": {"name": "part", "namespace": "ops"}}]}),
    );
    let part = |id: &'static str, host: &str, export_to: Value| {
        let spec = json!({"exportTo": export_to, "http": [{"route": [{"destination": {"host": host}}]}]});
        (VirtualService, id, spec)
    };
    let full = host("reviews.shop");
    assert_eq!(found(&[root.clone(), part("ops/part", &full, json!(["*"]))]), [""; 0]);
    let unknown = ["warning unknown-delegate shop/root spec.http[0].delegate"];
    assert_eq!(found(std::slice::from_ref(&root)), unknown);
    assert!(said(std::slice::from_ref(&root), Code::UnknownDelegate).contains("ops/part is not there"));
    let hidden = [root.clone(), part("ops/part", &full, json!(["."]))];
    assert_eq!(found(&hidden), unknown);
    assert!(said(&hidden, Code::UnknownDelegate).contains("exported to namespace ops, not to shop"));
    let idle = [part("shop/part", &full, json!(["*"]))];
    assert_eq!(found(&idle), ["info unused-delegate shop/part spec.hosts"]);
    let lost = [root, part("ops/part", "nobody", json!(["*"]))];
    assert_eq!(
        found(&lost),
        ["warning unknown-host ops/part spec.http[0].route"],
        "told of the object that says it, by its own namespace"
    );
    let text = said(&lost, Code::UnknownHost);
    assert!(text.contains("nobody.ops.svc.cluster.local"), "{text}");
}

#[test]
fn destinations_of_copies_and_connections_are_looked_at_too() {
    let spec = json!({"hosts": ["web.example"],
        "http": [{"route": [{"destination": {"host": "reviews"}}], "mirror": {"host": "no"}}],
        "tls": [{"match": [{"sniHosts": ["web.example"]}], "route": [{"destination": {"host": "no"}}]}],
        "tcp": [{"route": [{"destination": {"host": "reviews"}}]}, {"route": [{"destination": {"host": "no"}}]}]});
    let world = World::new(&[(VirtualService, "shop/routes", spec)]);
    let fields: Vec<_> = world.findings().into_iter().map(|one| one.field).collect();
    assert_eq!(fields, ["spec.http[0].mirrors", "spec.tcp[1].route", "spec.tls[0].route"]);
}
