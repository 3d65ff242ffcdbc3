//! What is read of AuthorizationPolicies.

use serde_json::json;

use super::*;
use crate::model::policy::PolicyId;

fn read(spec: Value) -> Result<AuthorizationPolicy, String> {
    authorization_policy(PolicyMeta { created: 1, id: PolicyId::new("ns", "p") }, &spec)
}

#[test]
fn fields_and_those_with_not_are_one_clause() {
    let policy = read(json!({"selector": {"matchLabels": {"app": "a"}}, "action": "DENY", "rules": [{
        "from": [{"source": {"principals": ["a"], "notPrincipals": ["b"], "serviceAccounts": ["x", "o/y"]}}],
        "to": [{"operation": {"paths": ["/a/{*}/b/{**}"], "ports": ["80"]}}],
        "when": [{"key": "request.headers[X-A]", "values": ["1"]}]}]}))
    .expect("valid");
    assert_eq!((policy.action, policy.problems.len()), (AuthorizationAction::Deny, 0));
    let rule = &policy.rules[0];
    let of = |attribute, values: &[&str], not_values: &[&str]| Clause {
        attribute,
        values: values.iter().map(|&value| value.into()).collect(),
        not_values: not_values.iter().map(|&value| value.into()).collect(),
    };
    assert_eq!(
        rule.from[0],
        [of(Attribute::SourcePrincipal, &["a"], &["b"]), of(Attribute::SourceAccount, &["ns/x", "o/y"], &[])]
    );
    assert_eq!(rule.to[0].len(), 2);
    assert_eq!(rule.when, [of(Attribute::Header("x-a".into()), &["1"], &[])]);
}

#[test]
fn what_cannot_be_enforced_is_told_and_marked() {
    let rule = |rule: Value| {
        let policy = read(json!({"rules": [rule]})).expect("a shape");
        assert_eq!(policy.problems.len(), 1, "{:?}", policy.problems);
        let rule = policy.rules.into_iter().next().expect("a rule");
        rule.from.into_iter().chain(rule.to).flatten().chain(rule.when).next().expect("a clause").attribute
    };
    let from = |field: &str, value: &str| rule(json!({"from": [{"source": {field: [value]}}]}));
    let to = |field: &str, value: &str| rule(json!({"to": [{"operation": {field: [value]}}]}));
    for attribute in [
        from("requestPrincipals", "*"),
        from("notRequestPrincipals", "*"),
        from("novelty", "x"),
        from("ipBlocks", "10.0.0.0/33"),
        from("serviceAccounts", "a/*"),
        from("principals", ""),
        to("ports", "http"),
        to("paths", "/a/{**}/b"),
        to("paths", "/a{*}"),
        rule(json!({"when": [{"key": "request.auth.claims[iss]", "values": ["x"]}]})),
        rule(json!({"when": [{"key": "source.ip"}]})),
        rule(json!({"until": "tomorrow"})),
        rule(json!({"from": [{"source": {"principals": "x"}}]})),
        rule(json!({"from": []})),
        rule(json!({"to": null})),
        rule(json!({"when": []})),
        rule(json!({"from": [{}]})),
        rule(json!({"from": [{"source": null}]})),
        rule(json!({"to": [{"operation": {}}]})),
        rule(json!({"from": [{"source": {"principals": []}}]})),
        rule(json!({"from": [{"source": {"principals": null}}]})),
        rule(json!({"from": [{"source": {"notPrincipals": []}}]})),
        rule(json!({"when": [{"key": "source.ip", "values": [], "notValues": ["10.0.0.1"]}]})),
    ] {
        assert!(matches!(attribute, Attribute::Unsupported(_)), "{attribute:?}");
    }
    let both = json!({"from": [{"source": {"principals": ["a"], "namespaces": []}}]});
    assert_eq!(read(json!({"rules": [both]})).expect("read").problems.len(), 1, "beside another");
    let custom = read(json!({"action": "CUSTOM", "provider": {"name": "x"}, "rules": [{}]})).expect("read");
    assert!(custom.problems[0].contains("external authorizers"));
    assert!(custom.problems[0].contains("ALLOW and DENY policies"), "what to do: {:?}", custom.problems);
}

#[test]
fn attributes_of_tokens_are_told_with_what_to_do_instead() {
    let source = |field: &str| json!({"from": [{"source": {field: ["*"], "namespaces": ["a"]}}]});
    let when = |key: &str| json!({"when": [{"key": key, "notValues": ["x"]}]});
    for action in ["ALLOW", "DENY"] {
        for rule in [
            source("requestPrincipals"),
            source("notRequestPrincipals"),
            when("request.auth.principal"),
            when("request.auth.audiences"),
            when("request.auth.presenter"),
            when("request.auth.claims[groups]"),
        ] {
            let policy = read(json!({"action": action, "rules": [rule]})).expect("a shape");
            let [problem] = policy.problems.as_slice() else { panic!("{rule} {:?}", policy.problems) };
            assert!(problem.contains("name principals or namespaces of the mesh instead"), "{problem}");
            let clauses = policy.rules[0].from.iter().flatten().chain(&policy.rules[0].when);
            let marked = clauses.filter(|one| matches!(one.attribute, Attribute::Unsupported(_)));
            assert_eq!(marked.count(), 1, "{rule}");
        }
    }
}

#[test]
fn targets_are_gateways_by_name_and_what_cannot_be_read_is_any_of_them() {
    let targets = |spec: Value| {
        let policy = read(spec.clone()).expect("read");
        let closed = closed(PolicyMeta { created: 1, id: PolicyId::new("ns", "p") }, &spec);
        assert_eq!(closed.targets, policy.targets, "{spec}");
        let names = policy.targets.map(|names| names.iter().map(ToString::to_string).collect::<Vec<_>>());
        (names, policy.problems.len())
    };
    let named = |names: &[&str]| Some(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>());
    let edge = json!({"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "edge"});
    assert_eq!(targets(json!({})), (None, 0));
    assert_eq!(targets(json!({"targetRef": null, "targetRefs": []})), (None, 0));
    assert_eq!(targets(json!({"targetRef": edge})), (named(&["edge"]), 0));
    let service = json!({"kind": "Service", "name": "a"});
    assert_eq!(targets(json!({"targetRefs": [edge, service]})), (named(&["edge"]), 1));
    let class = json!({"kind": "GatewayClass", "name": "istio-waypoint"});
    assert_eq!(targets(json!({"targetRefs": [service, class]})), (named(&[]), 2));
    for unreadable in [json!({"kind": "Gateway"}), json!({"kind": "gateway", "name": "edge"}), json!(1)] {
        assert_eq!(targets(json!({"targetRefs": [unreadable]})), (named(&["*"]), 1), "{unreadable}");
    }
    let both = json!({"targetRef": edge, "selector": {"matchLabels": {"app": "a"}}});
    assert_eq!(targets(both), (named(&["edge"]), 1));
}

#[test]
fn a_trial_is_what_says_so_and_nothing_else() {
    let of = |text: &str| {
        let policy = annotated(read(json!({"rules": [{}]})).expect("read"), text);
        (policy.dry_run, policy.problems.len())
    };
    assert_eq!(["true", "1", "T"].map(of), [(true, 0); 3]);
    assert_eq!(["", "false", "0"].map(of), [(false, 0); 3]);
    assert_eq!(["yes", "ture", " true"].map(of), [(false, 1); 3], "it is enforced, and that is told");
}

#[test]
fn fields_that_are_not_known_are_conditions_that_are_not_supported() {
    let marked = |spec: Value| {
        let policy = read(spec.clone()).expect("a shape");
        assert_eq!(policy.problems.len(), 1, "{spec} {:?}", policy.problems);
        let marked = |rule: &AuthorizationRule| {
            let mut clauses = rule.from.iter().chain(&rule.to).flatten().chain(&rule.when);
            clauses.any(|clause| matches!(clause.attribute, Attribute::Unsupported(_)))
        };
        policy.rules.iter().all(marked)
    };
    let source = json!({"source": {"principals": ["a"]}});
    for spec in [
        json!({"Action": "DENY", "rules": [{}, {"from": [source]}]}),
        json!({"rules": [{"from": [{"sources": {"principals": ["a"]}}]}]}),
        json!({"rules": [{"to": [{"operation": {"paths": ["/a"]}, "unless": {}}]}]}),
        json!({"rules": [{"when": [{"key": "source.ip", "notvalues": ["10.0.0.1"], "values": ["10.0.0.1"]}]}]}),
    ] {
        // A part that is not known and nothing else beside it are one thing to say.
        assert!(marked(spec));
    }
    assert!(read(json!({"Action": "DENY"})).expect("a shape").rules.is_empty(), "which allows nothing");
}

#[test]
fn a_selector_selects_by_labels_and_nothing_else() {
    for selector in [
        json!({"labels": {"app": "a"}}),
        json!({"matchLabels": {"version": 1}}),
        json!({"matchLabels": {"app": "a"}, "matchExpressions": []}),
    ] {
        let spec = json!({"selector": selector, "rules": [{}]});
        assert!(read(spec.clone()).unwrap_err().starts_with("spec.selector"), "{spec}");
        let closed = closed(PolicyMeta { created: 1, id: PolicyId::new("ns", "p") }, &spec);
        assert!(closed.selector.is_everything() && closed.is_about("ns", "root", None, |_| None));
    }
    let app = json!({"matchLabels": {"app": "a"}});
    let spec = json!({"selector": app, "action": "allow", "rules": [{}]});
    let closed = closed(PolicyMeta { created: 1, id: PolicyId::new("ns", "p") }, &spec);
    assert!(
        !closed.is_about("ns", "root", None, |_| None) && closed.is_about("ns", "root", None, |_| Some("a"))
    );
    assert_eq!((closed.action, closed.rules.len()), (AuthorizationAction::Allow, 0));
    for everything in [json!(null), json!({}), json!({"matchLabels": {}})] {
        assert!(read(json!({"selector": everything})).expect("read").selector.is_everything());
    }
}

#[test]
fn a_document_of_another_shape_is_an_error() {
    assert!(read(json!({"action": "MAYBE"})).unwrap_err().contains("MAYBE"));
    assert!(read(json!({"rules": {}})).unwrap_err().starts_with("spec"));
    assert!(
        read(json!({"rules": [{"when": [{"values": ["x"]}]}]})).unwrap_err().starts_with("spec.rules[0]")
    );
}
