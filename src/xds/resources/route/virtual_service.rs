//! Routes of requests after a VirtualService.

use std::time::Duration;

use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use envoy_types::pb::envoy::config::route::v3 as rds;
use envoy_types::pb::envoy::config::route::v3::route_action::{
    ClusterSpecifier, HostRewriteSpecifier, RequestMirrorPolicy,
};
use envoy_types::pb::envoy::extensions::retry::priority::previous_priorities::v3::PreviousPrioritiesConfig;
use envoy_types::pb::envoy::r#type::matcher::v3::RegexMatchAndSubstitute;
use envoy_types::util::pack_any;
use prost::Message;

use super::{hashing, matching, operation, retry, side_effects, to_cluster};
use crate::model::policy::{
    DirectResponse, HeaderChanges, Headers, HttpAction, HttpMatch, HttpRoute, Redirect, RedirectPort,
    Retries, TextMatch, VirtualService, Weighted,
};
use crate::xds::resources::destination::{Reads, Surroundings, Target};
use crate::xds::resources::parts::{number, time};

/// The encoded routes of a VirtualService.
#[derive(Default)]
pub(in crate::xds::resources) struct Routes {
    /// Those for some requests, in order.
    pub(in crate::xds::resources) some: Vec<Bytes>,
    /// The one after them that takes everything.
    pub(in crate::xds::resources) rest: Option<Bytes>,
}

/// The encoded routes for clients that ask for `port`, in order; none after one that takes everything. Empty when
/// no route is for them.
pub(super) fn routes(
    one: &VirtualService,
    host: &str,
    port: u16,
    around: &Surroundings<'_>,
    reads: &mut Reads,
) -> Vec<Bytes> {
    let Routes { mut some, rest } = split(one, host, port, around, reads);
    some.extend(rest);
    some
}

/// The same, with the one that takes everything apart.
pub(in crate::xds::resources) fn split(
    one: &VirtualService,
    host: &str,
    port: u16,
    around: &Surroundings<'_>,
    reads: &mut Reads,
) -> Routes {
    let mut routes = Routes::default();
    for route in &one.http {
        let matches = route.matches.iter().filter(|one| around.client.are(&one.sources, port));
        let mut matches: Vec<Option<&HttpMatch>> = matches.map(Some).collect();
        if route.matches.is_empty() {
            matches.push(None);
        }
        for matched in matches {
            let place = Place { host, port, around };
            let Some(made) = place.route(route, matched, reads) else {
                break;
            };
            if matched.is_none_or(HttpMatch::is_everything) {
                return Routes { rest: Some(made), ..routes };
            }
            routes.some.push(made);
        }
    }
    routes
}

/// Where a route is used.
struct Place<'a> {
    host: &'a str,
    port: u16,
    around: &'a Surroundings<'a>,
}

impl Place<'_> {
    /// `None` for one that leads on to routes nobody knows.
    fn route(&self, told: &HttpRoute, matched: Option<&HttpMatch>, reads: &mut Reads) -> Option<Bytes> {
        let action = match &told.action {
            HttpAction::Forward(to) => rds::route::Action::Route(self.forward(told, matched, to, reads)),
            HttpAction::Redirect(redirect) => rds::route::Action::Redirect(self.redirect(redirect)),
            HttpAction::Respond(answer) => rds::route::Action::DirectResponse(respond(answer)),
            HttpAction::Delegate(_) => return None,
        };
        let match_name = matched.map_or("", |one| one.name.as_str());
        let names = [told.name.as_str(), match_name];
        let names: Vec<_> = names.into_iter().filter(|name| !name.is_empty()).collect();
        let mut route = rds::Route {
            name: names.join("."),
            r#match: Some(matching::of(matched)),
            decorator: operation(&format!("{}:{}", self.host, self.port)),
            action: Some(action),
            ..Default::default()
        };
        for headers in [Some(&told.headers), single(told).map(|one| &one.headers)].into_iter().flatten() {
            let changes = added(headers);
            route.request_headers_to_add.extend(changes.request);
            route.response_headers_to_add.extend(changes.response);
            route.request_headers_to_remove.extend(removed(&headers.request));
            route.response_headers_to_remove.extend(removed(&headers.response));
        }
        let mut message = route.encode_to_vec();
        side_effects::put(&mut message, told, self.around.client.key().dialect);
        Some(message.into())
    }

    fn forward(
        &self,
        told: &HttpRoute,
        matched: Option<&HttpMatch>,
        to: &[Weighted],
        reads: &mut Reads,
    ) -> rds::RouteAction {
        let targets = self.around.targets(to, self.port, reads);
        let Some(rds::route::Action::Route(mut action)) = to_cluster("", String::new(), None).action else {
            return rds::RouteAction::default();
        };
        action.retry_policy = retries(told.retries.as_ref());
        if let Some(timeout) = told.timeout {
            limit(&mut action, timeout);
        }
        action.hash_policy =
            targets.iter().find_map(Target::hash_key).map(hashing::policy).into_iter().collect();
        action.request_mirror_policies = self.mirrors(told, reads);
        rewrite(&mut action, told, matched);
        let single = targets.len() == 1;
        action.cluster_specifier = Some(if single {
            ClusterSpecifier::Cluster(targets.into_iter().map(|target| target.cluster).collect())
        } else {
            let clusters = targets.into_iter().zip(to).map(|(target, told)| share(target, told)).collect();
            ClusterSpecifier::WeightedClusters(rds::WeightedCluster { clusters, ..Default::default() })
        });
        action
    }

    fn mirrors(&self, told: &HttpRoute, reads: &mut Reads) -> Vec<RequestMirrorPolicy> {
        let copies = told.mirrors.iter().filter(|mirror| mirror.share.millionths() > 0);
        copies
            .map(|mirror| RequestMirrorPolicy {
                cluster: self.around.target(&mirror.destination, self.port, reads).cluster,
                runtime_fraction: Some(core::RuntimeFractionalPercent {
                    default_value: Some(side_effects::fraction(mirror.share)),
                    ..Default::default()
                }),
                ..Default::default()
            })
            .collect()
    }

    fn redirect(&self, told: &Redirect) -> rds::RedirectAction {
        use rds::redirect_action::{PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier};
        let path = match told.uri.strip_prefix("%PREFIX()%") {
            Some(rest) => Some(PathRewriteSpecifier::PrefixRewrite(rest.to_owned())),
            None => (!told.uri.is_empty()).then(|| PathRewriteSpecifier::PathRedirect(told.uri.to_string())),
        };
        let scheme = (!told.scheme.is_empty())
            .then(|| SchemeRewriteSpecifier::SchemeRedirect(told.scheme.to_string()));
        let code = match told.code {
            302 => RedirectResponseCode::Found,
            303 => RedirectResponseCode::SeeOther,
            307 => RedirectResponseCode::TemporaryRedirect,
            308 => RedirectResponseCode::PermanentRedirect,
            _ => RedirectResponseCode::MovedPermanently,
        };
        rds::RedirectAction {
            host_redirect: told.authority.to_string(),
            port_redirect: match told.port {
                Some(RedirectPort::Number(port)) => port.into(),
                Some(RedirectPort::OfRequest) => self.port.into(),
                Some(RedirectPort::OfProtocol) | None => 0,
            },
            response_code: code.into(),
            scheme_rewrite_specifier: scheme,
            path_rewrite_specifier: path,
            ..Default::default()
        }
    }
}

/// The only destination of a route: what it says of headers is then the route's.
fn single(told: &HttpRoute) -> Option<&Weighted> {
    match &told.action {
        HttpAction::Forward(to) if to.len() == 1 => to.first(),
        _ => None,
    }
}

fn respond(told: &DirectResponse) -> rds::DirectResponseAction {
    let body = (!told.body.is_empty()).then(|| core::DataSource {
        specifier: Some(core::data_source::Specifier::InlineBytes(told.body.clone())),
        ..Default::default()
    });
    rds::DirectResponseAction { status: told.status.into(), body, ..Default::default() }
}

/// How long an answer may take; clients of gRPC may ask for less.
fn limit(action: &mut rds::RouteAction, timeout: Duration) {
    action.timeout = time(timeout);
    if let Some(stream) = &mut action.max_stream_duration {
        stream.grpc_timeout_header_max = time(timeout);
    }
}

fn share(target: Target, told: &Weighted) -> rds::weighted_cluster::ClusterWeight {
    let changes = added(&told.headers);
    rds::weighted_cluster::ClusterWeight {
        name: target.cluster,
        weight: number(target.weight),
        request_headers_to_add: changes.request,
        request_headers_to_remove: removed(&told.headers.request),
        response_headers_to_add: changes.response,
        response_headers_to_remove: removed(&told.headers.response),
        host_rewrite_specifier: authority(&told.headers.request)
            .map(rds::weighted_cluster::cluster_weight::HostRewriteSpecifier::HostRewriteLiteral),
        ..Default::default()
    }
}

/// Headers to add, of both directions.
struct Added {
    request: Vec<core::HeaderValueOption>,
    response: Vec<core::HeaderValueOption>,
}

fn added(headers: &Headers) -> Added {
    let of = |changes: &HeaderChanges| {
        let set = changes.set.iter().map(|pair| (pair, HeaderAppendAction::OverwriteIfExistsOrAdd));
        let add = changes.add.iter().map(|pair| (pair, HeaderAppendAction::AppendIfExistsOrAdd));
        let headers = set.chain(add).filter(|((name, _), _)| !is_authority(name));
        headers
            .map(|((name, value), action)| core::HeaderValueOption {
                header: Some(core::HeaderValue {
                    key: name.to_string(),
                    value: value.to_string(),
                    ..Default::default()
                }),
                append_action: action.into(),
                ..Default::default()
            })
            .collect()
    };
    Added { request: of(&headers.request), response: of(&headers.response) }
}

fn removed(changes: &HeaderChanges) -> Vec<String> {
    changes.remove.iter().map(ToString::to_string).collect()
}

fn is_authority(name: &str) -> bool {
    name.eq_ignore_ascii_case("host") || name == ":authority"
}

/// The authority that header changes ask for: Envoy rewrites it, it is no header to add.
fn authority(changes: &HeaderChanges) -> Option<String> {
    changes
        .set
        .iter()
        .chain(&changes.add)
        .find(|(name, _)| is_authority(name))
        .map(|(_, value)| value.to_string())
}

fn rewrite(action: &mut rds::RouteAction, told: &HttpRoute, matched: Option<&HttpMatch>) {
    let of_headers = authority(&told.headers.request)
        .or_else(|| single(told).and_then(|one| authority(&one.headers.request)));
    let host = Some(told.rewrite.authority.to_string()).filter(|host| !host.is_empty()).or(of_headers);
    action.host_rewrite_specifier = host.map(HostRewriteSpecifier::HostRewriteLiteral);
    let uri = told.rewrite.uri.as_str();
    let prefix = match matched.and_then(|one| one.uri.as_ref()) {
        Some(TextMatch::Prefix(prefix)) => prefix.as_str(),
        _ => "",
    };
    if let Some(regex) = &told.rewrite.regex {
        action.regex_rewrite = Some(substitution(&regex.pattern, &regex.substitution));
    } else if uri == "/" && prefix.len() > 1 && !prefix.ends_with('/') {
        // What follows the prefix may begin with a slash of its own: one is enough.
        action.regex_rewrite = Some(substitution(&format!("^{}(/?)(.*)", quoted(prefix)), r"/\2"));
    } else {
        action.prefix_rewrite = uri.to_owned();
    }
}

fn substitution(pattern: &str, substitution: &str) -> RegexMatchAndSubstitute {
    RegexMatchAndSubstitute { pattern: Some(matching::regex(pattern)), substitution: substitution.to_owned() }
}

/// A text as an expression for itself.
fn quoted(text: &str) -> String {
    let special = |c: char| c.is_ascii_punctuation() && c != '/' && c != '_';
    text.chars().flat_map(|c| special(c).then_some('\\').into_iter().chain([c])).collect()
}

fn retries(told: Option<&Retries>) -> Option<rds::RetryPolicy> {
    let Some(told) = told else {
        return Some(retry());
    };
    if told.attempts == 0 {
        return None;
    }
    let mut policy = rds::RetryPolicy {
        num_retries: number(told.attempts),
        per_try_timeout: told.per_try_timeout.and_then(time),
        ..retry()
    };
    if !told.conditions.is_empty() || !told.codes.is_empty() {
        let by_code = (!told.codes.is_empty()).then_some("retriable-status-codes");
        let named = told.conditions.iter().map(|name| name.as_str()).filter(|name| Some(*name) != by_code);
        policy.retry_on = named.chain(by_code).collect::<Vec<_>>().join(",");
        policy.retriable_status_codes = told.codes.clone();
    }
    if !told.skip_previous {
        policy.retry_host_predicate.clear();
        policy.host_selection_retry_max_attempts = 0;
    }
    if told.other_localities {
        policy.retry_priority = Some(other_priorities());
    }
    policy.retry_back_off = told
        .backoff
        .map(|base| rds::retry_policy::RetryBackOff { base_interval: time(base), max_interval: None });
    Some(policy)
}

fn other_priorities() -> rds::retry_policy::RetryPriority {
    let config = pack_any(PreviousPrioritiesConfig { update_frequency: 2 });
    rds::retry_policy::RetryPriority {
        name: "envoy.retry_priorities.previous_priorities".to_owned(),
        config_type: Some(rds::retry_policy::retry_priority::ConfigType::TypedConfig(config)),
    }
}
