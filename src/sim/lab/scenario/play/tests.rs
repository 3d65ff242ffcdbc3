use super::super::super::plan::{Range, Shape, Sidecars, Topology};
use super::*;

fn scenario(name: &str) -> &'static Scenario {
    SCENARIOS.iter().find(|scenario| scenario.name == name).unwrap()
}

#[test]
fn options_that_mean_nothing_are_refused() {
    let request = Request { times: Some(3), ..Request::default() };
    assert_eq!(check_options(scenario("flap"), &request), Ok(()));
    let error = check_options(scenario("kill-api"), &request).unwrap_err();
    assert_eq!(error, "scenario kill-api takes no --times");
    let to = |to: &[u32]| Request { to: Some(to.to_vec()), ..Request::default() };
    assert!(check_options(scenario("scale"), &to(&[])).is_err());
    assert!(check_options(scenario("scale"), &to(&[1, 51])).is_err());
    assert!(check_options(scenario("scale"), &to(&[0, 50])).is_ok());
    let long = Request { for_ms: Some(u64::MAX), ..Request::default() };
    assert!(check_options(scenario("kill-api"), &long).unwrap_err().contains("at most 30m"));
}

#[test]
fn the_cluster_is_the_last_or_the_one_named() {
    let plan = Plan::new(Shape::default(), Range::Loopback(70));
    let name = |scenario_name, asked| subject(&plan, scenario(scenario_name), asked).map(|found| found.name);
    assert_eq!(name("kill-api", None).as_deref(), Ok("west"));
    assert_eq!(name("kill-control-plane", None).as_deref(), Ok("east"));
    assert_eq!(name("kill-api", Some("east")).as_deref(), Ok("east"));
    let error = name("kill-api", Some("north")).unwrap_err();
    assert_eq!(error, "the lab has no cluster \"north\"; its clusters are east, west");
}

#[test]
fn a_lab_that_lacks_what_a_scenario_needs_is_told() {
    let needs = |shape: Shape, name: &str, at: usize| {
        let plan = Plan::new(shape, Range::Loopback(70));
        check_needs(&plan, scenario(name), &plan.clusters[at])
    };
    let shape =
        |clusters, networks, topology| Shape::new(clusters, networks, topology, Sidecars::Captured).unwrap();
    for scenario in SCENARIOS {
        let subject = usize::from(scenario.subject == Subject::Last);
        assert_eq!(needs(Shape::default(), scenario.name, subject), Ok(()));
    }
    let alone = shape(1, 1, Topology::MultiPrimary);
    assert!(needs(alone, "flap", 0).unwrap_err().ends_with("--clusters 2"));
    assert_eq!(needs(alone, "scale", 0), Ok(()));
    let near = shape(2, 1, Topology::MultiPrimary);
    assert!(needs(near, "kill-gateway", 1).unwrap_err().ends_with("--networks 2"));
    assert!(needs(shape(2, 2, Topology::External), "rotate-secret", 1).is_err());
    let remote = shape(2, 2, Topology::PrimaryRemote);
    assert_eq!(needs(remote, "delete-cluster", 1), Ok(()));
    assert!(needs(remote, "delete-cluster", 0).unwrap_err().contains("on east needs a control plane"));
}

#[test]
fn what_was_not_reached_did_not_hold() {
    let found = vec![Expectation { name: "catches-up".to_owned(), ok: true, detail: String::new() }];
    let checks = complete(scenario("kill-api"), found, Err(wrong("a", "b")));
    let names: Vec<_> = checks.iter().map(|check| (check.name.as_str(), check.ok)).collect();
    assert_eq!(names[..3], [("nothing-moves", false), ("others-change", false), ("catches-up", true)]);
    assert_eq!(checks[0].detail, "not reached: expected: a; seen: b");
    assert_eq!(checks.len(), 8);
}

#[test]
fn the_labs_own_terminal_says_whether_it_is_as_it_was() {
    let check = |name: &str, ok| Expectation { name: name.to_owned(), ok, detail: String::new() };
    let said = |one, other| verdict("flap", &[check("one-push", one), check("restored", other)], false);
    assert_eq!(said(true, true), "flap: ok");
    assert_eq!(said(false, true), "flap: failed (one-push); the lab is as it was");
    assert_eq!(said(true, false), "flap: failed (restored); the lab is not as it was, start it anew");
    let cut = [check("comes-back", false), check("restored", true)];
    assert_eq!(verdict("flap", &cut, true), "flap: interrupted; the lab is as it was");
}

#[test]
fn reports_are_numbered() {
    let dir = tempfile::tempdir().unwrap();
    let mut report = Report { scenario: "flap".to_owned(), ..Report::default() };
    for n in [1, 2] {
        keep(dir.path(), &mut report, |problem| panic!("{problem}"));
        let path = dir.path().join(format!("scenarios/flap-{n}.json"));
        assert_eq!(report.kept.as_ref(), Some(&path));
        let text = std::fs::read_to_string(path).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
    }
}

#[test]
fn names_are_told_apart_and_described() {
    let mut names = std::collections::BTreeSet::new();
    for scenario in SCENARIOS {
        assert!(names.insert(scenario.name) && !scenario.about.is_empty() && !scenario.own.is_empty());
        let expected: std::collections::BTreeSet<_> = scenario.expects().map(|one| one.name).collect();
        assert_eq!(expected.len(), scenario.expects().count(), "{}", scenario.name);
    }
    assert!(!names.contains("list"), "the command line's own word");
}
