//! Routes of requests after VirtualServices.

use std::sync::Arc;
use std::time::Duration;

use envoy_types::pb::envoy::config::route::v3 as rds;
use envoy_types::pb::envoy::config::route::v3::route_action::{ClusterSpecifier, HostRewriteSpecifier};
use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;

use super::fixtures::{HOST, around, built_under, decode, names, port, service, sidecar, table};
use crate::model::policy::{
    Abort, Cors, Delay, Destination, DirectResponse, Fault, HeaderChanges, Headers, HostPattern, HttpAction,
    HttpMatch, HttpRoute, MeshConfig, Mirror, OutboundPolicy, Percent, PolicyId, PolicyMeta, Redirect,
    RedirectPort, Retries, Rewrite, Sources, TextMatch, VirtualService, Weighted,
};
use crate::model::{ExportTo, InterceptionMode, PortProtocol, Service};
use crate::registry::{PolicyObject, PolicySnapshot};
use crate::view::{Client, OutboundKey};
use crate::xds::resources::{host, route};

pub(super) fn to(host: &str, subset: &str, weight: u32) -> Weighted {
    Weighted {
        destination: Destination { host: host.into(), subset: subset.into(), port: None },
        weight,
        headers: Headers::default(),
    }
}

pub(super) fn forward(matches: Vec<HttpMatch>, to: Vec<Weighted>) -> HttpRoute {
    HttpRoute { matches, ..HttpRoute::new(HttpAction::Forward(to)) }
}

pub(super) fn prefix(prefix: &str) -> HttpMatch {
    HttpMatch { uri: Some(TextMatch::Prefix(prefix.into())), ..HttpMatch::default() }
}

pub(super) fn virtual_service(hosts: &[&str], http: Vec<HttpRoute>) -> VirtualService {
    VirtualService {
        meta: PolicyMeta { created: 1, id: PolicyId::new("sample", "routes") },
        hosts: hosts.iter().map(|host| HostPattern::new(*host)).collect(),
        gateways: vec!["mesh".into()],
        export_to: ExportTo::Unset,
        http,
        tls: Vec::new(),
        tcp: Vec::new(),
    }
}

pub(super) fn snapshot(all: impl IntoIterator<Item = VirtualService>) -> PolicySnapshot {
    let objects = all.into_iter().map(|one| PolicyObject::VirtualService(Arc::new(one)));
    PolicySnapshot::with(MeshConfig::default(), objects)
}

fn http() -> Service {
    service("helloworld", vec![port(80, PortProtocol::Http)])
}

fn key() -> OutboundKey {
    sidecar(InterceptionMode::Redirect)
}

fn routes_for(key: &OutboundKey, all: Vec<VirtualService>) -> Vec<rds::Route> {
    let policies = snapshot(all);
    let made = built_under(&http(), key, &policies, &[http()]);
    table(&made, key, &policies).virtual_hosts[0].routes.clone()
}

fn routes(http: Vec<HttpRoute>) -> Vec<rds::Route> {
    routes_for(&key(), vec![virtual_service(&[HOST], http)])
}

fn action(route: &rds::Route) -> &rds::RouteAction {
    match &route.action {
        Some(rds::route::Action::Route(action)) => action,
        other => panic!("{other:?}"),
    }
}

fn cluster(route: &rds::Route) -> String {
    match &action(route).cluster_specifier {
        Some(ClusterSpecifier::Cluster(cluster)) => cluster.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn without_a_virtual_service_routes_are_as_ever() {
    let policies =
        snapshot([virtual_service(&["other.example"], vec![forward(Vec::new(), vec![to(HOST, "", 1)])])]);
    let with = built_under(&http(), &key(), &policies, &[]);
    assert_eq!(with.virtual_hosts, super::fixtures::built(&http(), &key()).virtual_hosts);
}

#[test]
fn routes_come_in_order_and_end_with_the_one_for_everything() {
    let made = routes(vec![
        forward(vec![prefix("/a"), prefix("/b")], vec![to(HOST, "v1", 1)]),
        forward(Vec::new(), vec![to(HOST, "", 1)]),
        forward(vec![prefix("/never")], vec![to(HOST, "v2", 1)]),
    ]);
    let paths: Vec<_> =
        made.iter().map(|route| route.r#match.clone().and_then(|one| one.path_specifier)).collect();
    let expected = ["/a", "/b", "/"].map(|path| Some(PathSpecifier::Prefix(path.to_owned())));
    assert_eq!(paths, expected);
    assert_eq!(cluster(&made[0]), format!("outbound|80|v1|{HOST}"));
    assert_eq!(
        action(&made[2]).retry_policy.as_ref().expect("as the mesh does").retriable_status_codes,
        [503]
    );
}

#[test]
fn weights_are_shares_of_their_sum() {
    let made = routes(vec![forward(Vec::new(), vec![to(HOST, "v1", 90), to("other.example", "", 10)])]);
    let Some(ClusterSpecifier::WeightedClusters(weighted)) = &action(&made[0]).cluster_specifier else {
        panic!("not weighted")
    };
    let shares: Vec<_> =
        weighted.clusters.iter().map(|one| (one.name.clone(), one.weight.expect("weight").value)).collect();
    let expected = [(format!("outbound|80|v1|{HOST}"), 90), ("outbound|80||other.example".to_owned(), 10)];
    assert_eq!(shares, expected);
}

#[test]
fn destinations_that_nobody_knows_are_named_and_counted() {
    let policies =
        snapshot([virtual_service(&[HOST], vec![forward(Vec::new(), vec![to("no.where", "", 1)])])]);
    let made = built_under(&http(), &key(), &policies, &[http()]);
    assert_eq!(made.reads.unknown, 1);
    assert!(made.reads.hosts.iter().any(|host| host.as_str() == "no.where"));
    assert_eq!(cluster(&table(&made, &key(), &policies).virtual_hosts[0].routes[0]), "outbound|80||no.where");
    let other = service("other", vec![port(8080, PortProtocol::Http)]);
    let policies =
        snapshot([virtual_service(&[HOST], vec![forward(Vec::new(), vec![to(&other.key.hostname, "", 1)])])]);
    let made = built_under(&http(), &key(), &policies, &[http(), other.clone()]);
    assert_eq!(made.reads.unknown, 0);
    let routes = table(&made, &key(), &policies).virtual_hosts[0].routes.clone();
    assert_eq!(cluster(&routes[0]), format!("outbound|8080||{}", other.key.hostname), "its only port");
}

#[test]
fn routes_are_for_those_who_ask() {
    let only = |sources: Sources| HttpMatch { sources, ..prefix("/x") };
    let http = || {
        vec![
            forward(vec![only(Sources { port: Some(81), ..Sources::default() })], vec![to(HOST, "port", 1)]),
            forward(
                vec![only(Sources { namespace: "other".into(), ..Sources::default() })],
                vec![to(HOST, "ns", 1)],
            ),
            forward(
                vec![only(Sources { gateways: vec!["ns/gw".into()], ..Sources::default() })],
                vec![to(HOST, "gw", 1)],
            ),
            forward(
                vec![only(Sources {
                    labels: [("app".into(), "web".into())].into_iter().collect(),
                    ..Sources::default()
                })],
                vec![to(HOST, "labels", 1)],
            ),
            forward(Vec::new(), vec![to(HOST, "", 1)]),
        ]
    };
    let subsets = |key: &OutboundKey| -> Vec<String> {
        let made = routes_for(key, vec![virtual_service(&[HOST], http())]);
        made.iter().map(cluster).map(|name| name.split('|').nth(2).expect("subset").to_owned()).collect()
    };
    assert_eq!(subsets(&key()), [""]);
    assert_eq!(subsets(&OutboundKey { namespace: "other".into(), ..key() }), ["ns", ""]);
    let labels = [("app".into(), "web".into())].into_iter().collect();
    assert_eq!(subsets(&OutboundKey { labels, ..key() }), ["labels", ""]);
    let gateway_only =
        VirtualService { gateways: vec!["sample/gw".into()], ..virtual_service(&[HOST], http()) };
    assert_eq!(routes_for(&key(), vec![gateway_only])[0].name, "default", "not for the mesh");
}

#[test]
fn of_several_the_oldest_holds_and_the_host_itself_before_wildcards() {
    let named = |name: &str, created, hosts: &[&str], export_to| VirtualService {
        meta: PolicyMeta { created, id: PolicyId::new("far", name) },
        export_to,
        ..virtual_service(hosts, vec![forward(Vec::new(), vec![to(HOST, name, 1)])])
    };
    let all = vec![
        named("wide", 1, &["*.cluster.local"], ExportTo::Unset),
        named("young", 3, &[HOST], ExportTo::Unset),
        named("old", 2, &[HOST], ExportTo::Everywhere),
        named("hidden", 1, &[HOST], ExportTo::Nowhere),
    ];
    assert_eq!(cluster(&routes_for(&key(), all)[0]), format!("outbound|80|old|{HOST}"));
}

#[test]
fn what_a_route_says_of_requests_is_what_envoy_does() {
    let mut told = forward(
        vec![HttpMatch {
            ignore_case: true,
            method: Some(TextMatch::Exact("GET".into())),
            headers: vec![("x-a".into(), None)],
            without_headers: vec![("x-b".into(), Some(TextMatch::Exact("1".into())))],
            query: vec![("q".into(), Some(TextMatch::Regex("a+".into())))],
            ..prefix("/api")
        }],
        vec![to(HOST, "", 1)],
    );
    told.timeout = Some(Duration::from_millis(2500));
    told.retries = Some(Retries {
        attempts: 4,
        per_try_timeout: Some(Duration::from_secs(1)),
        conditions: vec!["5xx".into()],
        codes: vec![418],
        other_localities: true,
        skip_previous: false,
        backoff: None,
    });
    told.rewrite = Rewrite { uri: "/".into(), authority: "elsewhere".into(), regex: None };
    told.mirrors = vec![Mirror { destination: to("copy.example", "", 1).destination, share: Percent::ALL }];
    told.headers.request = HeaderChanges {
        set: vec![("x-s".into(), "1".into())],
        add: vec![("x-t".into(), "2".into())],
        remove: vec!["x-r".into()],
    };
    told.fault = Some(Fault {
        delay: Some(Delay { fixed: Duration::from_secs(1), share: Percent::ALL }),
        abort: Some(Abort { status: Ok(503), share: Percent::ALL }),
    });
    told.cors = Some(Cors { origins: vec![TextMatch::Exact("https://o".into())], ..Cors::default() });
    let made = routes(vec![told]);
    let route = &made[0];
    let matched = route.r#match.as_ref().expect("match");
    assert_eq!((matched.headers.len(), matched.query_parameters.len()), (3, 1));
    assert_eq!(matched.case_sensitive.map(|flag| flag.value), Some(false));
    assert!(matched.headers[2].invert_match && matched.headers[2].treat_missing_header_as_empty);
    let action = action(route);
    assert_eq!(action.timeout.as_ref().map(|time| (time.seconds, time.nanos)), Some((2, 500_000_000)));
    let retry = action.retry_policy.as_ref().expect("retries");
    assert_eq!(retry.retry_on, "5xx,retriable-status-codes");
    assert!(retry.retry_host_predicate.is_empty() && retry.retry_priority.is_some());
    assert_eq!(
        action.host_rewrite_specifier,
        Some(HostRewriteSpecifier::HostRewriteLiteral("elsewhere".into()))
    );
    let rewrite = action.regex_rewrite.as_ref().expect("one slash is enough");
    assert_eq!(rewrite.pattern.as_ref().expect("pattern").regex, "^/api(/?)(.*)");
    assert_eq!(action.request_mirror_policies[0].cluster, "outbound|80||copy.example");
    assert_eq!((route.request_headers_to_add.len(), route.request_headers_to_remove.len()), (2, 1));
    let mut filters: Vec<_> = route.typed_per_filter_config.keys().map(String::as_str).collect();
    filters.sort_unstable();
    assert_eq!(filters, ["envoy.filters.http.cors", "envoy.filters.http.fault"]);
}

#[test]
fn headers_of_the_only_destination_are_those_of_its_route() {
    let changes = |name: &str, gone: &str| HeaderChanges {
        set: vec![(name.into(), "1".into())],
        remove: vec![gone.into()],
        ..HeaderChanges::default()
    };
    let headers = |at: &str| Headers {
        request: changes(&format!("x-{at}"), &format!("cookie-{at}")),
        response: changes(&format!("y-{at}"), &format!("server-{at}")),
    };
    let mut told = forward(Vec::new(), vec![Weighted { headers: headers("to"), ..to(HOST, "", 1) }]);
    told.headers = headers("route");
    let alone = &routes(vec![told.clone()])[0];
    let added = |all: &[envoy_types::pb::envoy::config::core::v3::HeaderValueOption]| -> Vec<String> {
        all.iter().filter_map(|one| one.header.as_ref()).map(|header| header.key.clone()).collect()
    };
    assert_eq!(added(&alone.request_headers_to_add), ["x-route", "x-to"]);
    assert_eq!(added(&alone.response_headers_to_add), ["y-route", "y-to"]);
    assert_eq!(alone.request_headers_to_remove, ["cookie-route", "cookie-to"]);
    assert_eq!(alone.response_headers_to_remove, ["server-route", "server-to"]);
    let HttpAction::Forward(several) = &mut told.action else { panic!("{told:?}") };
    several.push(to(HOST, "v1", 1));
    let shared = &routes(vec![told])[0];
    assert_eq!(added(&shared.request_headers_to_add), ["x-route"], "not for the other destination");
}

#[test]
fn redirects_and_answers_need_no_upstream() {
    let redirect = HttpRoute {
        action: HttpAction::Redirect(Redirect {
            authority: "new.example".into(),
            port: Some(RedirectPort::OfRequest),
            code: 308,
            ..Redirect::default()
        }),
        ..forward(vec![prefix("/old")], Vec::new())
    };
    let answer = HttpRoute {
        action: HttpAction::Respond(DirectResponse { status: 418, body: b"tea".to_vec() }),
        ..forward(Vec::new(), Vec::new())
    };
    let made = routes(vec![redirect, answer]);
    let Some(rds::route::Action::Redirect(redirect)) = &made[0].action else { panic!("{made:?}") };
    assert_eq!((redirect.host_redirect.as_str(), redirect.port_redirect), ("new.example", 80));
    let Some(rds::route::Action::DirectResponse(answer)) = &made[1].action else { panic!("{made:?}") };
    assert_eq!(answer.status, 418);
}

#[test]
fn hosts_that_are_no_service_are_reached_on_port_80() {
    let told = virtual_service(&["web.example"], vec![forward(Vec::new(), vec![to(HOST, "", 1)])]);
    let policies = snapshot([told.clone()]);
    let made = around(&key(), &policies, &[http()], |around| host("web.example", &told, around));
    assert_eq!(names(&made.listeners), ["0.0.0.0_80"]);
    assert_eq!(
        made.listeners,
        super::fixtures::built(&http(), &key()).listeners,
        "the listener of all services"
    );
    let routes = table(&made, &key(), &policies);
    assert_eq!(routes.virtual_hosts[0].domains, ["web.example", "web.example."]);
    assert_eq!(cluster(&routes.virtual_hosts[0].routes[0]), format!("outbound|80||{HOST}"));
}

#[test]
fn a_host_for_everything_leaves_no_room_for_unknown_ones() {
    let told = virtual_service(&["*"], vec![forward(Vec::new(), vec![to(HOST, "", 1)])]);
    let policies = snapshot([told.clone()]);
    let made = around(&key(), &policies, &[http()], |around| host("*", &told, around));
    let routes = table(&made, &key(), &policies);
    assert_eq!(routes.virtual_hosts.len(), 1, "domains are unique");
}

#[test]
fn unknown_hosts_are_refused_under_registry_only() {
    let mesh = MeshConfig { outbound_policy: OutboundPolicy::RegistryOnly, ..MeshConfig::default() };
    let (policies, key) = (PolicySnapshot::with(mesh, []), key());
    let table: rds::RouteConfiguration =
        decode(&route("80", &Client::new(&key, &policies), std::iter::empty()));
    assert_eq!(table.virtual_hosts[0].name, "block_all");
    let Some(rds::route::Action::DirectResponse(answer)) = &table.virtual_hosts[0].routes[0].action else {
        panic!("{table:?}")
    };
    assert_eq!(answer.status, 502);
}
