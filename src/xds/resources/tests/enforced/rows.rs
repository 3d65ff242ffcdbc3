//! Policies, requests, and whether those pass.

use std::sync::Arc;

use serde_json::{Value, json};

use super::client::Request;
use crate::model::PortProtocol::{self, Http, Tcp};
use crate::model::policy::{
    Attribute, AuthorizationAction, AuthorizationPolicy, AuthorizationRule, Clause, PolicyId, PolicyMeta,
    WorkloadSelector,
};

/// One listener.
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) protocol: PortProtocol,
    /// The trust domain of the cluster of the listener, beside those of the mesh.
    pub(super) own: &'static str,
    /// Action and rules of each policy.
    pub(super) policies: Vec<Value>,
    /// Requests, and whether they pass.
    pub(super) asks: Vec<(Request, bool)>,
}

/// As long as a namespace or an account may be.
const LONG: &str = "a-namespace-and-an-account-whose-names-are-as-long-as-can-be-63";
/// A client of that namespace with that account.
const LONG_ID: &str = concat!(
    "mesh.org/ns/a-namespace-and-an-account-whose-names-are-as-long-as-can-be-63",
    "/sa/a-namespace-and-an-account-whose-names-are-as-long-as-can-be-63"
);
/// A host of many letters that have more than two cases.
const LONG_HOST: &str = concat!(
    "kiosks-and-desks-of-sales-assistants.kiosks-and-desks-of-sales-assistants.",
    "kiosks-and-desks-of-sales-assistants.svc.cluster.local"
);

/// Policies in the spelling of these rows: attributes by a short name, `!` before a name for values that must not be.
pub(super) fn policies(specs: &[Value]) -> Vec<Arc<AuthorizationPolicy>> {
    specs.iter().enumerate().map(|(index, spec)| Arc::new(policy(index, spec))).collect()
}

fn policy(index: usize, spec: &Value) -> AuthorizationPolicy {
    let action = match spec["action"].as_str() {
        None => AuthorizationAction::Allow,
        Some("DENY") => AuthorizationAction::Deny,
        Some("AUDIT") => AuthorizationAction::Audit,
        Some("CUSTOM") => AuthorizationAction::Custom,
        Some(other) => panic!("{other}"),
    };
    let lists = |value: &Value| value.as_array().into_iter().flatten().map(clauses).collect();
    let rule = |rule: &Value| AuthorizationRule {
        from: lists(&rule["from"]),
        to: lists(&rule["to"]),
        when: clauses(&rule["when"]),
    };
    AuthorizationPolicy {
        meta: PolicyMeta { created: 0, id: PolicyId::new("sample", format!("p{index}")) },
        selector: WorkloadSelector::default(),
        targets: None,
        dry_run: spec["dry-run"] == true,
        action,
        rules: spec["rules"].as_array().into_iter().flatten().map(rule).collect(),
        problems: Vec::new(),
    }
}

fn clauses(fields: &Value) -> Vec<Clause> {
    let clause = |(field, values): (&String, &Value)| {
        let values = values.as_array().expect("values").iter();
        let values = values.map(|value| value.as_str().expect("a text").into()).collect();
        let (values, not_values) = match field.strip_prefix('!') {
            Some(_) => (Vec::new(), values),
            None => (values, Vec::new()),
        };
        Clause { attribute: attribute(field.trim_start_matches('!')), values, not_values }
    };
    fields.as_object().into_iter().flatten().map(clause).collect()
}

fn attribute(name: &str) -> Attribute {
    match name {
        "principal" => Attribute::SourcePrincipal,
        "namespace" => Attribute::SourceNamespace,
        "account" => Attribute::SourceAccount,
        "ip" => Attribute::SourceIp,
        "remote" => Attribute::RemoteIp,
        "to-ip" => Attribute::DestinationIp,
        "port" => Attribute::DestinationPort,
        "sni" => Attribute::Sni,
        "host" => Attribute::Host,
        "method" => Attribute::Method,
        "path" => Attribute::Path,
        "jwt" => Attribute::Unsupported("requestPrincipals".into()),
        header => Attribute::Header(header.strip_prefix("header:").expect("a known name").into()),
    }
}

fn row(name: &'static str, protocol: PortProtocol, policies: Value, asks: Vec<(Request, bool)>) -> Row {
    let Value::Array(policies) = policies else {
        panic!("{name}: a list");
    };
    Row { name, protocol, own: "west.org", policies, asks }
}

fn get() -> Request {
    Request::get("/")
}

fn of(principal: &'static str) -> Request {
    get().of(principal)
}

/// Paths that pass and paths that do not.
fn paths(pass: &[&str], others: &[&str]) -> Vec<(Request, bool)> {
    let ask = |path: &&str, passes| (Request::get(path), passes);
    pass.iter().map(|path| ask(path, true)).chain(others.iter().map(|path| ask(path, false))).collect()
}

pub(super) fn all() -> Vec<Row> {
    [semantics(), sources(), operations(), conditions(), connections()].into_iter().flatten().collect()
}

fn semantics() -> Vec<Row> {
    vec![
        row("none", Http, json!([]), vec![(get(), true)]),
        row("allow-nothing", Http, json!([{}]), vec![(get(), false)]),
        row("allow-all", Http, json!([{"rules": [{}]}]), vec![(get(), true)]),
        row("deny-nothing", Http, json!([{"action": "DENY"}]), vec![(get(), true)]),
        row("deny-all", Http, json!([{"action": "DENY", "rules": [{}]}]), vec![(get(), false)]),
        row(
            "deny-before-allow",
            Http,
            json!([{"rules": [{}]}, {"action": "DENY", "rules": [{"to": [{"path": ["/a"]}]}]}]),
            paths(&["/"], &["/a", "/a?q"]),
        ),
        row(
            "tried-deny",
            Http,
            json!([{"action": "DENY", "dry-run": true, "rules": [{}]}, {"action": "DENY", "rules": [{"to": [{"path": ["/a"]}]}]}]),
            paths(&["/"], &["/a"]),
        ),
        row("tried-allow", Http, json!([{"dry-run": true}]), vec![(get(), true)]),
        row(
            "tried-custom",
            Http,
            json!([{"action": "CUSTOM", "dry-run": true, "rules": [{}]}]),
            vec![(get(), true)],
        ),
        row(
            "tried-audit",
            Http,
            json!([{"action": "AUDIT", "dry-run": true, "rules": [{}]}]),
            vec![(get(), true)],
        ),
        row(
            "tried-allows-nothing",
            Http,
            json!([{"dry-run": true, "rules": [{}]}, {"rules": [{"to": [{"path": ["/a"]}]}]}]),
            paths(&["/a"], &["/"]),
        ),
        row(
            "tried-tcp",
            Tcp,
            json!([{"action": "DENY", "dry-run": true, "rules": [{}]}, {"dry-run": true}]),
            vec![(get(), true)],
        ),
        row("tried-beside-tcp", Tcp, json!([{"dry-run": true, "rules": [{}]}, {}]), vec![(get(), false)]),
        row("jwt-allow-tcp", Tcp, json!([{"rules": [{"from": [{"jwt": ["*"]}]}]}]), vec![(get(), false)]),
        row(
            "jwt-deny-tcp",
            Tcp,
            json!([{"action": "DENY", "rules": [{"from": [{"!jwt": ["*"]}]}]}]),
            vec![(get(), false)],
        ),
        row(
            "jwt-deny-of-some",
            Http,
            json!([{"action": "DENY", "rules": [{"from": [{"!jwt": ["*"], "namespace": ["a"]}]}]}]),
            vec![(of("mesh.org/ns/a/sa/x"), false), (of("mesh.org/ns/b/sa/x"), true)],
        ),
        row("custom-tcp", Tcp, json!([{"action": "CUSTOM", "rules": [{}]}]), vec![(get(), false)]),
        row("audit", Http, json!([{"action": "AUDIT", "rules": [{}]}]), vec![(get(), true)]),
        row(
            "audit-does-not-allow",
            Http,
            json!([{"action": "AUDIT", "rules": [{}]}, {"rules": []}]),
            vec![(get(), false)],
        ),
        row(
            "custom",
            Http,
            json!([{"action": "CUSTOM", "rules": [{"to": [{"path": ["/a"]}]}]}]),
            paths(&["/"], &["/a"]),
        ),
        row(
            "one-of-many",
            Http,
            json!([{"rules": [{"to": [{"path": ["/a"]}]}]}, {"rules": [{"to": [{"path": ["/b"]}]}]}]),
            paths(&["/a", "/b"], &["/c"]),
        ),
        row(
            "all-parts",
            Http,
            json!([{"rules": [{"from": [{"namespace": ["a"]}], "to": [{"path": ["/a"], "method": ["GET"]}]}]}]),
            vec![
                (Request::get("/a").of("mesh.org/ns/a/sa/x"), true),
                (Request::get("/a").of("mesh.org/ns/b/sa/x"), false),
                (Request::get("/b").of("mesh.org/ns/a/sa/x"), false),
                (Request::get("/a").method("POST").of("mesh.org/ns/a/sa/x"), false),
                (Request::get("/a"), false),
            ],
        ),
        row("jwt-allow", Http, json!([{"rules": [{"from": [{"jwt": ["*"]}]}]}]), vec![(get(), false)]),
        row("jwt-not-allow", Http, json!([{"rules": [{"from": [{"!jwt": ["x"]}]}]}]), vec![(get(), false)]),
        row(
            "jwt-deny",
            Http,
            json!([{"action": "DENY", "rules": [{"from": [{"!jwt": ["*"]}], "to": [{"path": ["/a"]}]}]}]),
            paths(&["/"], &["/a"]),
        ),
        row(
            "jwt-or-known",
            Http,
            json!([{"rules": [{"from": [{"jwt": ["*"]}, {"namespace": ["a"]}]}]}]),
            vec![(of("mesh.org/ns/a/sa/x"), true), (get(), false)],
        ),
    ]
}

fn sources() -> Vec<Row> {
    let principal = |value: &str| json!([{"rules": [{"from": [{"principal": [value]}]}]}]);
    vec![
        row(
            "principal",
            Http,
            principal("mesh.org/ns/a/sa/x"),
            vec![
                (of("mesh.org/ns/a/sa/x"), true),
                (of("old.org/ns/a/sa/x"), true),
                (of("west.org/ns/a/sa/x"), false),
                (of("mesh.org/ns/a/sa/xy"), false),
                (of("mesh.org/ns/aa/sa/x"), false),
                (get(), false),
            ],
        ),
        row(
            "principal-own",
            Http,
            principal("cluster.local/ns/a/sa/x"),
            vec![
                (of("mesh.org/ns/a/sa/x"), true),
                (of("old.org/ns/a/sa/x"), true),
                (of("west.org/ns/a/sa/x"), false),
            ],
        ),
        Row {
            own: "cluster.local",
            ..row(
                "principal-own-and-literal",
                Http,
                json!([{"action": "DENY", "rules": [{"from": [{"principal": ["cluster.local/ns/a/sa/x"]}]}]}]),
                vec![
                    (of("cluster.local/ns/a/sa/x"), false),
                    (of("mesh.org/ns/a/sa/x"), false),
                    (of("cluster.local/ns/a/sa/y"), true),
                ],
            )
        },
        Row {
            own: "cluster.local",
            ..row(
                "principal-own-and-literal-not",
                Http,
                json!([{"rules": [{"from": [{"!principal": ["mesh.org/ns/a/sa/y", "cluster.local/ns/a/sa/x"]}]}]}]),
                vec![(of("cluster.local/ns/a/sa/x"), false), (of("cluster.local/ns/b/sa/x"), true)],
            )
        },
        row(
            "principal-of-another-cluster",
            Http,
            principal("west.org/ns/a/sa/x"),
            vec![(of("west.org/ns/a/sa/x"), true), (of("mesh.org/ns/a/sa/x"), false)],
        ),
        row(
            "principal-prefix",
            Http,
            principal("mesh.org/ns/a/*"),
            vec![
                (of("old.org/ns/a/sa/y"), true),
                (of("mesh.org/ns/ab/sa/y"), false),
                (of("west.org/ns/a/sa/y"), false),
            ],
        ),
        row(
            "principal-suffix",
            Http,
            principal("*/sa/x"),
            vec![(of("west.org/ns/b/sa/x"), true), (of("mesh.org/ns/b/sa/xx"), false)],
        ),
        row("principal-any", Http, principal("*"), vec![(of("west.org/ns/b/sa/x"), true), (get(), false)]),
        row(
            "principal-not",
            Http,
            json!([{"rules": [{"from": [{"!principal": ["mesh.org/ns/a/sa/x"]}]}]}]),
            vec![(of("old.org/ns/a/sa/x"), false), (of("mesh.org/ns/a/sa/y"), true), (get(), true)],
        ),
        row(
            "namespace",
            Http,
            json!([{"rules": [{"from": [{"namespace": ["sa", "b*"]}]}]}]),
            vec![
                (of("mesh.org/ns/sa/sa/x"), true),
                (of("mesh.org/ns/bb/sa/x"), true),
                // Segments of another meaning are none of the namespace.
                (of("mesh.org/ns/ns/sa/x"), false),
                (of("mesh.org/ns/ns/sa/b"), false),
                (get(), false),
            ],
        ),
        row(
            "namespace-that-names-a-segment",
            Http,
            json!([{"rules": [{"from": [{"namespace": ["s*", "*ns"]}]}]}]),
            vec![
                (of("mesh.org/ns/sales/sa/x"), true),
                (of("mesh.org/ns/sa/sa/x"), true),
                (of("mesh.org/ns/ns/sa/x"), true),
                (of("mesh.org/ns/my-ns/sa/x"), true),
                (of("mesh.org/ns/a/sa/ns"), false),
            ],
        ),
        row(
            "namespace-that-no-segment-names",
            Http,
            json!([{"rules": [{"from": [{"namespace": ["sa*", "*s", "*x"]}]}]}]),
            vec![
                (of("mesh.org/ns/saw/sa/x"), true),
                (of("mesh.org/ns/x/sa/b"), true),
                (of("mesh.org/ns/ns/sa/sab"), true),
                (of("mesh.org/ns/b/sa/x"), false),
            ],
        ),
        row(
            "namespace-prefix-of-a-segment",
            Http,
            json!([{"rules": [{"from": [{"namespace": ["sa*"]}]}]}]),
            vec![(of("mesh.org/ns/sa/sa/x"), true), (of("mesh.org/ns/ns/sa/x"), false)],
        ),
        row(
            "namespace-suffix-of-a-segment",
            Http,
            json!([{"rules": [{"from": [{"namespace": ["*s"]}]}]}]),
            vec![(of("mesh.org/ns/as/sa/x"), true), (of("mesh.org/ns/sa/sa/x"), false)],
        ),
        row(
            "namespace-any",
            Http,
            json!([{"rules": [{"from": [{"namespace": ["*"]}]}]}]),
            vec![(of("mesh.org/ns/a/sa/x"), true), (get(), false)],
        ),
        row(
            "long-names",
            Http,
            json!([{"rules": [{"from": [
                {"namespace": [LONG]}, {"namespace": [format!("{LONG}*")]}, {"namespace": [format!("*{LONG}")]},
                {"account": [format!("{LONG}/{LONG}")]}, {"principal": [format!("*/ns/{LONG}/sa/{LONG}")]},
            ]}]}]),
            vec![(of(LONG_ID), true), (of("mesh.org/ns/a/sa/x"), false)],
        ),
        row(
            "long-account",
            Http,
            json!([{"action": "DENY", "rules": [{"from": [{"account": [format!("{LONG}/{LONG}")]}]}]}]),
            vec![(of(LONG_ID), false), (of("mesh.org/ns/a/sa/x"), true)],
        ),
        row(
            "long-suffix",
            Http,
            json!([{"action": "DENY", "rules": [{"from": [{"principal": [format!("*/ns/{LONG}/sa/{LONG}")]}]}]}]),
            vec![(of(LONG_ID), false), (of("mesh.org/ns/a/sa/x"), true)],
        ),
        row(
            "namespace-not",
            Http,
            json!([{"action": "DENY", "rules": [{"from": [{"!namespace": ["a"]}]}]}]),
            vec![(of("mesh.org/ns/a/sa/x"), true), (of("mesh.org/ns/b/sa/x"), false), (get(), false)],
        ),
        row(
            "account",
            Http,
            json!([{"rules": [{"from": [{"account": ["a/x.y"]}]}]}]),
            vec![
                (of("west.org/ns/a/sa/x.y"), true),
                (of("mesh.org/ns/a/sa/xzy"), false),
                (of("mesh.org/ns/b/sa/x.y"), false),
            ],
        ),
        row(
            "ip",
            Http,
            json!([{"rules": [{"from": [{"ip": ["127.0.7.0/24"], "!ip": ["127.0.7.9"]}]}]}]),
            vec![
                (get().from("127.0.7.1"), true),
                (get().from("127.0.7.9"), false),
                (get().from("127.0.8.1"), false),
            ],
        ),
        row(
            "remote-ip",
            Http,
            json!([{"action": "DENY", "rules": [{"from": [{"remote": ["127.0.7.0/24"]}]}]}]),
            vec![(get().from("127.0.7.1"), false), (get().from("127.0.8.1"), true)],
        ),
    ]
}

fn operations() -> Vec<Row> {
    let allow = |field: &str, values: Value| json!([{"rules": [{"to": [{field: values}]}]}]);
    let deny = |field: &str, values: Value| json!([{"action": "DENY", "rules": [{"to": [{field: values}]}]}]);
    vec![
        row(
            "method",
            Http,
            allow("method", json!(["GET", "PO*"])),
            vec![(get(), true), (get().method("POST"), true), (get().method("PUT"), false)],
        ),
        row(
            "method-not",
            Http,
            allow("!method", json!(["GET"])),
            vec![(get(), false), (get().method("PUT"), true)],
        ),
        row(
            "path",
            Http,
            allow("path", json!(["/a"])),
            paths(&["/a", "/a?q=/b", "/b/../a"], &["/A", "/a/", "/"]),
        ),
        row("path-prefix", Http, allow("path", json!(["/a/*"])), paths(&["/a/", "/a/b"], &["/a", "/b?/a/"])),
        row("path-suffix", Http, allow("path", json!(["*/z"])), paths(&["/z", "/a/z"], &["/z/", "/?x=/z"])),
        row("path-any", Http, allow("path", json!(["*"])), paths(&["/"], &[])),
        row(
            "path-template",
            Http,
            allow("path", json!(["/a/{*}/b", "/c/{**}", "/e/{*}/"])),
            paths(&["/a/x/b", "/a/x/b?q", "/c/x/y", "/e/x/"], &["/a/x/y/b", "/a/b", "/d/c/x", "/e/x"]),
        ),
        row("path-not", Http, deny("!path", json!(["/a*"])), paths(&["/a", "/ab"], &["/b", "/b?/a"])),
        row(
            "host",
            Http,
            allow("host", json!(["a.org", "*.b.org"])),
            vec![
                (get(), true),
                (get().host("A.org"), true),
                (get().host("x.B.org"), true),
                (get().host("a.org:80"), false),
                (get().host("axorg"), false),
                (get().host("b.org"), false),
            ],
        ),
        row(
            "host-refused",
            Http,
            deny("host", json!(["a.org", "*.b.org"])),
            vec![
                (get().host("A.org"), false),
                (get().host("a.org:8080"), false),
                (get().host("a.org."), false),
                (get().host("A.org.:8080"), false),
                (get().host("x.b.org:1"), false),
                (get().host("x.b.org."), false),
                (get().host("x.B.org.:1"), false),
                (get().host("axorg"), true),
                (get().host("a.org.c"), true),
                (get().host("x.b.org.c"), true),
            ],
        ),
        row(
            "host-long",
            Http,
            deny("host", json!([LONG_HOST, format!("*.{LONG_HOST}")])),
            vec![(get().host(LONG_HOST), false), (get(), true)],
        ),
        row(
            "host-not-allowed",
            Http,
            allow("!host", json!(["a.org"])),
            vec![(get(), false), (get().host("a.org:1"), false), (get().host("b.org"), true)],
        ),
        row("port", Http, allow("port", json!(["1"])), vec![(get(), false)]),
        row("port-not", Http, allow("!port", json!(["1"])), vec![(get(), true)]),
    ]
}

fn conditions() -> Vec<Row> {
    let when = |field: &str, values: Value| json!([{"rules": [{"when": {field: values}}]}]);
    vec![
        row(
            "header",
            Http,
            when("header:x-a", json!(["1", "b*"])),
            vec![
                (get().header("X-A", "1"), true),
                (get().header("x-a", "bc"), true),
                (get().header("x-a", "2"), false),
                (get(), false),
            ],
        ),
        row(
            "header-any",
            Http,
            when("header:x-a", json!(["*"])),
            vec![(get().header("x-a", "2"), true), (get(), false)],
        ),
        row(
            "header-not",
            Http,
            when("!header:x-a", json!(["1"])),
            vec![(get().header("x-a", "1"), false), (get(), true)],
        ),
        row(
            "sni",
            Http,
            when("sni", json!(["x.org", "*.y.org"])),
            vec![
                (of("mesh.org/ns/a/sa/x").sni("x.org"), true),
                (of("mesh.org/ns/a/sa/x").sni("z.y.org"), true),
                (of("mesh.org/ns/a/sa/x").sni("y.org"), false),
                (get(), false),
            ],
        ),
        row("to-ip", Http, when("to-ip", json!(["127.93.0.0/16"])), vec![(get(), true)]),
        row("to-ip-not", Http, when("!to-ip", json!(["127.93.0.0/16"])), vec![(get(), false)]),
        row(
            "two-conditions",
            Http,
            json!([{"rules": [{"when": {"header:x-a": ["1"], "namespace": ["a"]}}]}]),
            vec![
                (of("mesh.org/ns/a/sa/x").header("x-a", "1"), true),
                (of("mesh.org/ns/a/sa/x"), false),
                (get().header("x-a", "1"), false),
            ],
        ),
    ]
}

/// Opaque connections: what only requests have never allows more.
fn connections() -> Vec<Row> {
    let mesh = || of("mesh.org/ns/a/sa/x");
    vec![
        row("tcp-none", Tcp, json!([]), vec![(get(), true), (mesh(), true)]),
        row("tcp-allow-nothing", Tcp, json!([{}]), vec![(get(), false), (mesh(), false)]),
        row(
            "tcp-principal",
            Tcp,
            json!([{"rules": [{"from": [{"principal": ["mesh.org/ns/a/sa/x"]}]}]}]),
            vec![(mesh(), true), (of("west.org/ns/a/sa/x"), false), (get(), false)],
        ),
        row(
            "tcp-allow-of-requests",
            Tcp,
            json!([{"rules": [{"from": [{"namespace": ["a"]}], "to": [{"method": ["GET"]}]}]}]),
            vec![(mesh(), false), (get(), false)],
        ),
        row(
            "tcp-allow-not-of-requests",
            Tcp,
            json!([{"rules": [{"to": [{"!path": ["/admin"]}]}]}]),
            vec![(mesh(), false), (get(), false)],
        ),
        row(
            "tcp-allow-one-operation",
            Tcp,
            json!([{"rules": [{"to": [{"method": ["GET"]}, {"!port": ["1"]}]}]}]),
            vec![(get(), true)],
        ),
        row(
            "tcp-deny-of-requests",
            Tcp,
            json!([{"action": "DENY", "rules": [{"from": [{"namespace": ["a"]}], "to": [{"method": ["GET"]}]}]}]),
            vec![(mesh(), false), (of("mesh.org/ns/b/sa/x"), true), (get(), true)],
        ),
        row(
            "tcp-deny-header",
            Tcp,
            json!([{"action": "DENY", "rules": [{"when": {"header:x-a": ["1"]}}]}]),
            vec![(get(), false)],
        ),
        row(
            "tcp-ip",
            Tcp,
            json!([{"action": "DENY", "rules": [{"from": [{"ip": ["127.0.7.0/24"]}]}]}]),
            vec![(get().from("127.0.7.1"), false), (get().from("127.0.8.1"), true)],
        ),
        row("tcp-audit", Tcp, json!([{"action": "AUDIT", "rules": [{}]}]), vec![(get(), true)]),
    ]
}
