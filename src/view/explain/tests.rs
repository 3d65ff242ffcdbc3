use super::*;
use crate::view::tests::{Pod, World, pod};

/// `code` of the endpoint at an address, the check it ended at, and what would be.
fn told(
    explanation: &Explanation,
    address: &str,
) -> (&'static str, &'static str, Option<(String, &'static str)>) {
    let wanted: IpAddr = address.parse().expect("address");
    let one = explanation.endpoints.iter().find(|one| one.address == Some(wanted)).expect(address);
    let last = one.chain.last().expect("a check");
    assert_eq!(last.ok, !one.decision.code().starts_with("hidden/"), "{one:?}");
    assert!(one.chain.iter().rev().skip(1).all(|check| check.ok), "only the last check can fail: {one:?}");
    let would = one.would.clone().map(|would| (would.condition, would.then.code()));
    (one.decision.code(), last.check, would)
}

fn world() -> World {
    World::new(&[("c1", "n1"), ("c2", "n2")]).pods("c1", &[pod("10.0.0.1")])
}

#[test]
fn a_hidden_endpoint_names_its_check_and_what_would_help() {
    let plain = Pod { mtls: false, ..pod("10.2.0.2") };
    let unready = Pod { health: Health::Unhealthy, ..pod("10.2.0.3") };
    let without = world().pods("c2", &[pod("10.2.0.1"), plain.clone(), unready.clone()]);
    let explanation = without.from("n1/c1").explains();
    let gateway = || "network n2 had a gateway".to_owned();
    assert_eq!(told(&explanation, "10.0.0.1"), ("direct", "network", None));
    assert_eq!(
        told(&explanation, "10.2.0.1"),
        ("hidden/no-gateway", "network", Some((gateway(), "via-gateway")))
    );
    assert_eq!(
        told(&explanation, "10.2.0.2"),
        ("hidden/no-gateway", "network", Some((gateway(), "hidden/mtls-required"))),
        "what would be is not guessed"
    );
    let with = without.gateway("c2", "n2", "172.16.0.1", 15443);
    let explanation = with.from("n1/c1").explains();
    let (code, check, would) = told(&explanation, "10.2.0.2");
    assert_eq!(
        (code, check, would.map(|would| would.1)),
        ("hidden/mtls-required", "mtls", Some("via-gateway"))
    );
    assert_eq!(
        told(&explanation, "10.2.0.3"),
        (
            "hidden/not-ready-behind-gateway",
            "ready-behind-gateway",
            Some(("it were ready".to_owned(), "via-gateway"))
        )
    );
    let v6 = with.from("n1/c1").with(|key| key.families = crate::model::IpFamilies::V6).explains();
    let (code, check, would) = told(&v6, "10.2.0.1");
    assert_eq!(
        (code, check, would.map(|would| would.1)),
        ("hidden/gateway-family", "gateway-family", Some("via-gateway"))
    );
    let viewed = with
        .from("n1/c1")
        .with(|key| key.requested_view = crate::model::RequestedView::new(vec!["n1".into()]));
    let (code, check, would) = told(&viewed.explains(), "10.2.0.1");
    assert_eq!(
        (code, check, would.map(|would| would.1)),
        ("hidden/network-view", "network-view", Some("via-gateway"))
    );
}

#[test]
fn the_weight_of_a_gateway_is_told_by_its_parts() {
    let heavy = Pod { weight: 2, ..pod("10.2.0.2") };
    let world = world().gateway("c2", "n2", "172.16.0.1", 15443).gateway("c2", "n2", "172.16.0.2", 15443);
    let explanation = world.pods("c2", &[pod("10.2.0.1"), heavy]).from("n1/c1").explains();
    let sums: Vec<_> = explanation.gateways.iter().map(|sum| (sum.address.as_str(), sum.weight)).collect();
    assert_eq!(sums, [("172.16.0.1:15443", 3), ("172.16.0.2:15443", 3)]);
    let share = Share { cluster: "c2".into(), endpoints: 2, weight: 3, gateways: 2 };
    assert_eq!(explanation.gateways[0].shares, [share]);
    let arithmetic = &explanation.gateways[0].arithmetic;
    assert_eq!(
        arithmetic,
        "2 endpoints of c2 weigh 3, over 2 gateways; every weight of this answer is multiplied by about 2.00 = 3"
    );
    assert_eq!(explanation.endpoints.iter().map(|one| one.priority).collect::<Vec<_>>(), [Some(0); 3]);
}

#[test]
fn a_name_without_endpoints_says_why() {
    let world = world();
    let unseen = world.from("n1/c1").with(|key| key.namespace = None).explains();
    let code = unseen.nothing.map(|nothing| nothing.code);
    assert_eq!((code, unseen.endpoints.len()), (Some(Nothing::NoService), 0));
    assert_eq!(world.from("n1/c1").explains().nothing, None);
}

#[test]
fn priorities_say_how_localities_stand_to_the_proxy() {
    let at = |address, locality| Pod { locality, ..pod(address) };
    let world = World::new(&[("c1", "n1")]).pods("c1", &[at("10.0.0.1", "r1/z1"), at("10.0.0.2", "r2/z1")]);
    let rows = world.from("n1/c1").explains().priorities;
    assert_eq!(rows.len(), 1);
    assert!(rows[0].groups.iter().all(|group| group.why == "localities are not ordered"), "{rows:?}");
    let setting = world.from("n1/c1").explains().locality_setting;
    assert!(setting.contains("the mesh") && setting.contains("changes nothing"), "{setting}");
}
