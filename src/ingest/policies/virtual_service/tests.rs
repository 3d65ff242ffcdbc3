use std::time::Duration;

use serde_json::{Value, json};

use super::virtual_service;
use crate::ingest::policies::decode::{At, Notes};
use crate::model::ExportTo;
use crate::model::policy::{HttpAction, Percent, Policy, PolicyId, PolicyMeta, TextMatch, VirtualService};

fn decode(spec: Value) -> Result<VirtualService, String> {
    let meta = PolicyMeta { created: 7, id: PolicyId::new("shop", "cart") };
    virtual_service(meta, &At::root("", &spec), "cluster.local")
}

fn scopes(spec: Value) -> Vec<String> {
    decode(spec).expect("valid").scopes().iter().map(ToString::to_string).collect()
}

#[test]
fn short_hosts_are_services_of_the_own_namespace() {
    let route =
        json!([{"route": [{"destination": {"host": "cart", "subset": "v1", "port": {"number": 80}}}]}]);
    let made = decode(json!({"hosts": ["cart", "cart", "*.example.com"], "http": route})).expect("valid");
    let hosts: Vec<_> = made.hosts.iter().map(|host| host.as_str()).collect();
    assert_eq!(hosts, ["cart.shop.svc.cluster.local", "*.example.com"]);
    assert!(made.is_for("mesh") && made.export_to == ExportTo::Unset);
    let to = made.destinations().next().expect("one");
    assert_eq!(
        (to.host.as_str(), to.subset.as_str(), to.port),
        ("cart.shop.svc.cluster.local", "v1", Some(80))
    );
}

#[test]
fn addresses_are_no_short_hosts() {
    let route = json!([{"route": [{"destination": {"host": "FD00::2"}}]}]);
    let made = decode(json!({"hosts": ["fd00::1", "10.0.0.1"], "http": route})).expect("valid");
    let hosts: Vec<_> = made.hosts.iter().map(|host| host.as_str()).collect();
    assert_eq!(hosts, ["fd00::1", "10.0.0.1"]);
    assert_eq!(made.destinations().next().expect("one").host.as_str(), "fd00::2");
}

#[test]
fn hosts_are_read_in_lower_case() {
    let route = json!([{"route": [{"destination": {"host": "Reviews"}}]}]);
    let made =
        decode(json!({"hosts": ["Reviews", "reviews", "API.example.com"], "http": route})).expect("valid");
    let hosts: Vec<_> = made.hosts.iter().map(|host| host.as_str()).collect();
    assert_eq!(hosts, ["reviews.shop.svc.cluster.local", "api.example.com"]);
    assert_eq!(made.destinations().next().expect("one").host.as_str(), "reviews.shop.svc.cluster.local");
}

#[test]
fn gateways_and_namespaces_are_resolved() {
    let route = json!([{"redirect": {"uri": "/x"}}]);
    let made = decode(
        json!({"hosts": ["a.b"], "gateways": ["gw", "other/gw"], "exportTo": [".", "x"], "http": route}),
    )
    .expect("valid");
    assert_eq!(made.gateways.iter().map(|name| name.as_str()).collect::<Vec<_>>(), ["shop/gw", "other/gw"]);
    assert_eq!(made.export_to, ExportTo::Namespaces(["shop".into(), "x".into()].into()));
    assert!(!made.is_for("mesh"));
    let nobody = decode(json!({"hosts": ["a.b"], "exportTo": ["~"], "http": route})).expect("valid");
    assert_eq!(nobody.export_to, ExportTo::Nowhere);
}

#[test]
fn every_part_of_a_request_route_is_read() {
    let made = decode(json!({
        "hosts": ["a.b"],
        "http": [{
            "name": "r",
            "match": [{
                "uri": {"prefix": "/x"}, "ignoreUriCase": true, "method": {"exact": "GET"},
                "headers": {"X-A": {"regex": "a+"}, "x-b": {}}, "withoutHeaders": {"x-c": {"exact": "1"}},
                "queryParams": {"q": {"exact": "1"}}, "port": 80, "sourceLabels": {"app": "web"},
                "sourceNamespace": "shop", "gateways": ["mesh"],
            }],
            "route": [
                {"destination": {"host": "a"}, "weight": 90, "headers": {"request": {"set": {"x": "%START_TIME%"}}}},
                {"destination": {"host": "b"}, "weight": 10},
                {"destination": {"host": "c"}, "weight": 0},
            ],
            "rewrite": {"uri": "/", "authority": "z"}, "timeout": "1.5s",
            "retries": {"attempts": 3, "perTryTimeout": "100ms", "retryOn": "5xx,503,reset"},
            "fault": {"delay": {"fixedDelay": "2s", "percentage": {"value": 0.5}}, "abort": {"grpcStatus": "UNAVAILABLE"}},
            "mirrors": [{"destination": {"host": "m"}, "percentage": {"value": 25}}],
            "corsPolicy": {"allowOrigins": [{"exact": "https://o"}], "maxAge": "1h", "allowCredentials": true},
        }],
    }))
    .expect("valid");
    let route = &made.http[0];
    let one = &route.matches[0];
    assert_eq!(one.headers, [("x-a".into(), Some(TextMatch::Regex("a+".into()))), ("x-b".into(), None)]);
    assert!(one.ignore_case && !one.is_everything() && one.sources.port == Some(80));
    let HttpAction::Forward(to) = &route.action else { panic!("{route:?}") };
    assert_eq!(to.iter().map(|one| one.weight).collect::<Vec<_>>(), [90, 10], "none without a share");
    assert_eq!(route.timeout, Some(Duration::from_millis(1500)));
    let retries = route.retries.as_ref().expect("retries");
    assert_eq!((retries.codes.as_slice(), retries.conditions.len()), (&[503][..], 2));
    let fault = route.fault.as_ref().expect("fault");
    assert_eq!(fault.delay.as_ref().map(|delay| delay.share), Percent::new(0.5));
    assert_eq!(fault.abort.as_ref().map(|abort| (abort.status, abort.share)), Some((Err(14), Percent::ALL)));
    assert_eq!(route.mirrors[0].share.millionths(), 250_000);
    assert_eq!(route.destinations().count(), 3);
}

#[test]
fn routes_that_ask_for_labels_are_found_by_that() {
    let to = json!([{"destination": {"host": "a"}}]);
    assert_eq!(
        scopes(json!({"hosts": ["a.b"], "tcp": [{"route": to}]})),
        ["a.b", "destination/a.shop.svc.cluster.local"]
    );
    let labels = json!([{"match": [{"sourceLabels": {"v": "1"}}], "route": to}]);
    assert_eq!(
        scopes(json!({"hosts": ["a.b"], "tcp": labels})),
        ["a.b", VirtualService::WITH_LABELS, "destination/a.shop.svc.cluster.local"]
    );
}

#[test]
fn errors_name_the_field_and_its_value() {
    let to = json!([{"destination": {"host": "a"}}]);
    let http = |route: Value| json!({"hosts": ["a.b"], "http": [route]});
    for (spec, field, value) in [
        (json!({"hosts": ["a b"], "http": [{"route": to}]}), "spec.hosts[0]", "a b"),
        (json!({"hosts": ["a.b"]}), "spec", "none of http"),
        (http(json!({"route": []})), "spec.http[0].route", "[]"),
        (http(json!({"route": to, "redirect": {}})), "spec.http[0]", "exactly one"),
        (http(json!({"route": to, "timeout": "soon"})), "spec.http[0].timeout", "soon"),
        (http(json!({"route": to, "match": [{"uri": {"regex": "("}}]})), "match[0].uri.regex", "\"(\""),
        (http(json!({"route": to, "match": [{"uri": {"regex": "(?=a)"}}]})), "match[0].uri.regex", "(?=a)"),
        (http(json!({"route": to, "match": [{"uri": {"regex": "a{1001}"}}]})), "match[0].uri.regex", "1000"),
        (
            http(json!({"route": to, "match": [{"uri": {"regex": "[a-z]{99}"}}]})),
            "uri.regex",
            "max_program_size",
        ),
        (
            http(json!({"route": to, "rewrite": {"uriRegexRewrite": {"match": "\\u0041", "rewrite": "x"}}})),
            "rewrite.uriRegexRewrite.match",
            "u0041",
        ),
        (
            http(json!({"route": to, "headers": {"request": {"set": {"x": "%USER%"}}}})),
            "http[0].headers.request.set[x]",
            "%USER%",
        ),
        (
            http(json!({"route": to, "headers": {"response": {"add": {"x": "%REQ%"}}}})),
            "response.add[x]",
            "%REQ%",
        ),
        (http(json!({"route": to, "match": [{"port": 0}]})), "match[0].port", "0"),
        (http(json!({"directResponse": {"status": 42}})), "directResponse.status", "42"),
        (http(json!({"redirect": {"redirectCode": 200}})), "redirect.redirectCode", "200"),
        (http(json!({"route": to, "delegate": {"name": "x"}})), "spec.http[0]", "exactly one"),
        (http(json!({"delegate": {"namespace": "x"}})), "http[0].delegate.name", "needed"),
        (json!({"gateways": ["mesh"], "http": [{"route": to}]}), "spec.hosts", "without gateways"),
        (json!({"tcp": [{"route": to}]}), "spec.hosts", "without tcp"),
        (json!({"http": []}), "spec.hosts", "no http"),
        (
            json!({"http": [{"route": to}, {"delegate": {"name": "x"}}]}),
            "http[1].delegate",
            "lead on to nobody",
        ),
        (
            http(json!({"route": to, "headers": {"request": {"set": {"x": "100%"}}}})),
            "request.set[x]",
            "write %% for a percent sign",
        ),
        (
            http(json!({"route": [{"destination": {"host": "a"}}, {"destination": {"host": "b"}}]})),
            "spec.http[0].route",
            "weight",
        ),
        (json!({"hosts": ["a.b"], "tls": [{"route": to}]}), "spec.tls[0].match", "needed"),
        (
            json!({"hosts": ["evil.example"], "tls": [{"match": [{"sniHosts": ["www.bank.com"]}], "route": to}]}),
            "spec.tls[0].match[0].sniHosts[0]",
            "www.bank.com",
        ),
        (
            json!({"hosts": ["a.b"], "tcp": [{"match": [{"destinationSubnets": ["10.0.0.0/99"]}], "route": to}]}),
            "destinationSubnets[0]",
            "10.0.0.0/99",
        ),
    ] {
        let error = decode(spec).expect_err(field);
        assert!(error.contains(field) && error.contains(value), "{error} names {field} and {value}");
    }
}

#[test]
fn server_names_are_under_the_hosts_of_their_object() {
    let covered = |host: &str, name: &str| {
        let matched = json!([{"sniHosts": [name]}]);
        decode(
            json!({"hosts": [host], "tls": [{"match": matched, "route": [{"destination": {"host": "a"}}]}]}),
        )
        .is_ok()
    };
    for (host, name) in
        [("a.b", "A.b"), ("*.b", "a.b"), ("*.b", "*.a.b"), ("*.b", "*.b"), ("*", "*"), ("cart", "cart")]
    {
        assert!(covered(host, name), "{name} is under {host}");
    }
    for (host, name) in [("a.b", "b.b"), ("a.b", "*.b"), ("*.a.b", "*.b"), ("*.b", "*"), ("*.b", "b")] {
        assert!(!covered(host, name), "{name} is not under {host}");
    }
}

/// A bootstrap with one route for each expression and each value of a header.
fn bootstrap(expressions: &[&str], values: &[String]) -> Value {
    let answer = json!({"status": 200});
    let by_path = expressions
        .iter()
        .map(|text| json!({"match": {"safe_regex": {"regex": text}}, "direct_response": answer}));
    let headers = values.iter().map(|value| {
        let header = json!([{"header": {"key": "x", "value": value}}]);
        json!({"match": {"prefix": "/"}, "direct_response": answer, "request_headers_to_add": header})
    });
    let routes: Vec<_> = by_path.chain(headers).collect();
    let router = json!({"name": "router", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}});
    let manager = json!({"name": "http", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "x", "http_filters": [router],
        "route_config": {"virtual_hosts": [{"name": "v", "domains": ["*"], "routes": routes}]}}});
    json!({"static_resources": {"listeners": [{
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "filter_chains": [{"filters": [manager]}]}]}})
}

#[test]
fn a_real_envoy_accepts_what_policies_make_of_expressions_and_commands() {
    let named = std::env::var_os("ENVOY").map(std::path::PathBuf::from);
    let made = concat!(env!("CARGO_MANIFEST_DIR"), "/target/envoy-1.40.0");
    let envoy = named.unwrap_or_else(|| made.into());
    if !envoy.exists() {
        assert!(std::env::var_os("CI").is_none(), "CI needs an Envoy: run `make envoy`");
        return;
    }
    let plain = "a".repeat(96);
    // The largest of their form that pass.
    let forms: [fn(usize) -> String; 8] = [
        |n| "(?:(?:(?:a*b)+)*?c)?".repeat(n),
        |n| format!("(?:[^/a-f]+/?){{{n}}}"),
        |n| format!("(?:\\w|\\S|.){{0,{n}}}"),
        |n| format!("(?i)(?:ks[^k]){{1,{n}}}"),
        |n| "(|a)+".repeat(n),
        |n| "(?:\\b)*?".repeat(n),
        |n| format!("(?:{}z)", "ab|cd|".repeat(n)),
        |n| "(é[[:punct:]])".repeat(n),
    ];
    let largest = |form: &fn(usize) -> String| {
        (1..100)
            .map(form)
            .take_while(|text| super::expression::check(text).is_ok())
            .last()
            .expect("one passes")
    };
    let largest: Vec<_> = forms.iter().map(largest).collect();
    let fixed = [plain.as_str(), r"^/x/(?P<id>\d+)\-\x41$", "a{0,9}", r"[]a\]-]"];
    for text in fixed {
        assert_eq!(super::expression::check(text), Ok(()), "{text}");
    }
    let all: Vec<_> = fixed.into_iter().chain(largest.iter().map(String::as_str)).collect();
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("envoy.json");
    let asked = bootstrap(&all, &super::format::every_command());
    std::fs::write(&file, asked.to_string()).expect("written");
    let arguments = ["--mode", "validate", "--log-level", "error", "--concurrency", "1", "-c"];
    let answer =
        std::process::Command::new(&envoy).args(arguments).arg(&file).output().expect("Envoy starts");
    assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
}

#[test]
fn texts_that_cost_a_port_its_routes_are_refused() {
    let with = |route: Value| decode(json!({"hosts": ["a.b"], "http": [route]}));
    let to = json!([{"destination": {"host": "a"}}]);
    let many =
        |count: usize| (0..count).map(|n| (format!("x-{n}"), json!("v"))).collect::<serde_json::Map<_, _>>();
    let long = "x".repeat(1025);
    for (field, route) in [
        ("redirect.uri", json!({"redirect": {"uri": "/a\rb"}})),
        ("redirect.authority", json!({"redirect": {"authority": "a\nb"}})),
        ("redirect.scheme", json!({"redirect": {"scheme": "\0"}})),
        ("rewrite.uri", json!({"route": to, "rewrite": {"uri": "/\n"}})),
        ("rewrite.authority", json!({"route": to, "rewrite": {"authority": "a\r"}})),
        ("rewrite", json!({"route": to, "rewrite": {"uriRegexRewrite": {"match": "a", "rewrite": "\0"}}})),
        ("queryParams[]", json!({"route": to, "match": [{"queryParams": {"": {"exact": "1"}}}]})),
        ("queryParams[xxx", json!({"route": to, "match": [{"queryParams": {long: {"exact": "1"}}}]})),
        ("headers[a b]", json!({"route": to, "match": [{"headers": {"a b": {"exact": "1"}}}]})),
        ("set[x]", json!({"route": to, "headers": {"request": {"set": {"x": "a\nb"}}}})),
        ("set[x]", json!({"route": to, "headers": {"request": {"set": {"x": "v".repeat(16_385)}}}})),
        ("headers.response", json!({"route": to, "headers": {"response": {"add": many(501)}}})),
        ("corsPolicy.allowMethods", json!({"route": to, "corsPolicy": {"allowMethods": ["GET\r"]}})),
        ("timeout", json!({"route": to, "timeout": "9999999999999h"})),
        ("destination.subset", json!({"route": [{"destination": {"host": "a", "subset": "a b"}}]})),
        ("destination.host", json!({"route": [{"destination": {"host": "a\nb"}}]})),
        ("name", json!({"route": to, "name": "a\nb"})),
    ] {
        let error = with(route.clone()).expect_err(&route.to_string().chars().take(200).collect::<String>());
        assert!(error.contains(field), "{field}: {error}");
    }
    assert!(with(json!({"route": to, "headers": {"response": {"add": many(500)}}})).is_ok());
    let route = json!([{"route": to}]);
    for host in ["*foo.com", "a b", "a:80", "", "*.", "a\n", "a.*"] {
        let error = decode(json!({"hosts": [host], "http": route})).expect_err(host);
        assert!(error.contains("DNS name"), "{error}");
    }
    for host in ["*", "*.a.b", "A.b.", "10.0.0.1", "::1"] {
        assert!(decode(json!({"hosts": [host], "http": route})).is_ok(), "{host}");
    }
    let exported = decode(json!({"hosts": ["a.b"], "exportTo": ["team-*"], "http": route}));
    assert!(exported.expect_err("a wildcard").contains("exportTo[0]"));
}

#[test]
fn what_of_a_virtual_service_has_no_effect_is_told() {
    let spec = json!({"hosts": ["a.b"], "odd": 1, "http": [
        {"match": [{"statPrefix": "x", "uri": {"prefix": "/", "suffix": "y"}}],
            "route": [{"destination": {"host": "a", "zone": 1}}],
            "mirrors": [{"destination": {"host": "m"}, "percentage": {"value": 0}}]},
        {"route": [{"destination": {"host": "a"}}]},
    ]});
    let notes = Notes::default();
    let at = At::noted("", &spec, &notes);
    let meta = PolicyMeta { created: 7, id: PolicyId::new("shop", "cart") };
    virtual_service(meta, &at, "cluster.local").expect("read");
    let problems = notes.problems(&at);
    let told: Vec<_> = problems.iter().map(|one| one.split(": ").next().expect("a field")).collect();
    let expected = [
        "spec.http[0].mirrors[0]",
        "spec.http[1]",
        "http[0].match[0].statPrefix",
        "http[0].match[0].uri.suffix",
        "http[0].route[0].destination.zone",
        "odd",
    ];
    assert_eq!(told, expected, "{problems:?}");
}

#[test]
fn z24_values_of_headers_are_in_no_error() {
    let to = json!([{"destination": {"host": "a"}}]);
    for of in ["set", "add"] {
        for value in [json!("s3cret\n"), json!(["s3cret"]), json!("s3cret 100%")] {
            let headers = json!({"request": {of: {"authorization": value}}});
            let spec = json!({"hosts": ["a"], "http": [{"route": to, "headers": headers}]});
            let told = decode(spec).expect_err("a bad value");
            assert!(told.contains(&format!("headers.request.{of}[authorization]")), "{told}");
            assert!(!told.contains("s3cret"), "{told}");
        }
        let spec = json!({"hosts": ["a"], "http": [{"route": to, "headers": {"response": {of: "s3cret"}}}]});
        let told = decode(spec).expect_err("a bad map");
        assert!(!told.contains("s3cret"), "{told}");
    }
}

#[test]
fn one_without_hosts_is_a_part_of_those_that_lead_on_to_it() {
    let to = json!([{"destination": {"host": "cart"}}]);
    let part = decode(json!({"http": [{"match": [{"uri": {"prefix": "/a"}}], "route": to}]})).expect("valid");
    assert!(part.is_delegate() && part.gateways.is_empty());
    assert_eq!(part.scopes(), Vec::<crate::model::Name>::new(), "nobody is meant by it alone");
    let root = |delegate: Value| {
        let root = decode(json!({"hosts": ["a.b"], "http": [{"delegate": delegate}]})).expect("valid");
        root.delegates().next().map(ToString::to_string)
    };
    assert_eq!(root(json!({"name": "part"})), Some("shop/part".to_owned()));
    assert_eq!(root(json!({"name": "part", "namespace": "team"})), Some("team/part".to_owned()));
}
