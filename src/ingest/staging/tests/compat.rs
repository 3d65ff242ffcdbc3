//! Where the peer remembers, and we do under its flags only (D1).

use std::time::Instant;

use super::*;
use crate::model::Quirks;

fn with(rows: &[Quirk]) -> Staging {
    let context = ClusterContext { quirks: Quirks::of(rows.iter().copied()), ..convert::test_context() };
    Staging::new(context, "istio-system".into(), Arc::default())
}

#[test]
fn q20_localities_stay_what_they_were_until_the_pod_or_the_slice_changes() {
    let mut staging = with(&[Quirk::Q20]);
    staging.advance(Instant::now());
    let entries = ["p1=10.1.0.1"];
    staging.apply(apply(&pod("p1", "10.1.0.1", "n1")));
    staging.apply(apply(&slice("s", &entries)));
    let locality = |staging: &mut Staging| {
        staging.state().shards[&key("s")].endpoints[0].workload.locality().to_string()
    };
    assert_eq!(locality(&mut staging), "", "an unknown node is not waited for");
    staging.apply(apply(&node("n1", "r1")));
    assert_eq!(locality(&mut staging), "");
    staging.apply(apply(&slice("s", &["p1=10.1.0.1", "10.1.0.9"])));
    assert_eq!(locality(&mut staging), "r1");
    let mut ours = with(&[]);
    ours.apply(apply(&pod("p1", "10.1.0.1", "n1")));
    ours.apply(apply(&slice("s", &entries)));
    ours.apply(apply(&node("n1", "r1")));
    assert_eq!(locality(&mut ours), "r1");
}

#[test]
fn q23_an_endpoint_that_came_before_its_pod_waits_until_the_pod_is_ready() {
    let mut unready = pod("p1", "10.1.0.1", "n1");
    unready["status"]["conditions"] = json!([]);
    let served = |rows: &[Quirk], objects: &[&Value]| {
        let mut staging = with(rows);
        objects.iter().for_each(|object| staging.apply(apply(object)));
        endpoints(&mut staging, "s").len()
    };
    let (slice, ready) = (slice("s", &["p1=10.1.0.1"]), pod("p1", "10.1.0.1", "n1"));
    assert_eq!(served(&[Quirk::Q23], &[&slice, &unready]), 0);
    assert_eq!(served(&[Quirk::Q23], &[&unready, &slice]), 1);
    assert_eq!(served(&[Quirk::Q23], &[&slice, &unready, &ready]), 1);
    assert_eq!(served(&[Quirk::Q23], &[&slice, &unready, &ready, &unready]), 1);
    assert_eq!(served(&[], &[&slice, &unready]), 1);
}

#[test]
fn q32_health_is_what_it_was_when_the_slice_came() {
    let mut leaving = slice("s", &["10.1.0.1"]);
    leaving["endpoints"][0]["conditions"] = json!({"ready": false});
    let health = |rows: &[Quirk], objects: &[&Value]| {
        let mut staging = with(rows);
        objects.iter().for_each(|object| staging.apply(apply(object)));
        staging.state().shards[&key("s")].endpoints[0].health
    };
    let service = service("s");
    assert_eq!(health(&[Quirk::Q32], &[&leaving, &service]), Health::Unhealthy);
    assert_eq!(health(&[Quirk::Q32], &[&service, &leaving]), Health::Terminating);
    assert_eq!(health(&[], &[&leaving, &service]), Health::Terminating);
}
