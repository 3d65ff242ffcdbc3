//! Which requests a route is for.

use envoy_types::pb::envoy::config::route::v3 as rds;
use envoy_types::pb::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use envoy_types::pb::envoy::config::route::v3::query_parameter_matcher::QueryParameterMatchSpecifier;
use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::envoy::r#type::matcher::v3::{RegexMatcher, StringMatcher};

use crate::model::Name;
use crate::model::policy::{HttpMatch, TextMatch};
use crate::xds::resources::parts::flag;

/// The match of Envoy; every request without conditions.
pub(super) fn of(one: Option<&HttpMatch>) -> rds::RouteMatch {
    let Some(one) = one else {
        return everything();
    };
    let pseudo = [(":scheme", &one.scheme), (":method", &one.method), (":authority", &one.authority)];
    let pseudo = pseudo.into_iter().filter_map(|(name, text)| Some(header(name, Some(text.as_ref()?))));
    let told = one.headers.iter().map(|(name, text)| header(name, text.as_ref()));
    let without = one.without_headers.iter().map(|(name, text)| rds::HeaderMatcher {
        invert_match: true,
        // A header that is not there does not match either.
        treat_missing_header_as_empty: text.is_some(),
        ..header(name, text.as_ref())
    });
    let regex = matches!(one.uri, Some(TextMatch::Regex(_)));
    rds::RouteMatch {
        path_specifier: one.uri.as_ref().map(path).or_else(|| everything().path_specifier),
        case_sensitive: (one.ignore_case && !regex).then_some(false).and_then(flag),
        headers: pseudo.chain(told).chain(without).collect(),
        query_parameters: one.query.iter().map(parameter).collect(),
        ..Default::default()
    }
}

/// Every path.
pub(super) fn everything() -> rds::RouteMatch {
    rds::RouteMatch { path_specifier: Some(PathSpecifier::Prefix("/".to_owned())), ..Default::default() }
}

fn path(text: &TextMatch) -> PathSpecifier {
    match text {
        TextMatch::Exact(text) => PathSpecifier::Path(text.to_string()),
        TextMatch::Prefix(text) => PathSpecifier::Prefix(text.to_string()),
        TextMatch::Regex(text) => PathSpecifier::SafeRegex(regex(text)),
    }
}

/// An RE2 expression.
pub(super) fn regex(text: &str) -> RegexMatcher {
    RegexMatcher { regex: text.to_owned(), ..Default::default() }
}

/// The matcher of a text. An empty prefix, which Envoy does not take, is every text.
pub(super) fn text(text: &TextMatch) -> StringMatcher {
    let pattern = match text {
        TextMatch::Exact(text) => MatchPattern::Exact(text.to_string()),
        TextMatch::Prefix(text) if text.is_empty() => MatchPattern::SafeRegex(regex(".*")),
        TextMatch::Prefix(text) => MatchPattern::Prefix(text.to_string()),
        TextMatch::Regex(text) => MatchPattern::SafeRegex(regex(text)),
    };
    StringMatcher { match_pattern: Some(pattern), ..Default::default() }
}

fn header(name: &str, matched: Option<&TextMatch>) -> rds::HeaderMatcher {
    let specifier = match matched {
        None => HeaderMatchSpecifier::PresentMatch(true),
        Some(matched) => HeaderMatchSpecifier::StringMatch(text(matched)),
    };
    rds::HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(specifier),
        ..Default::default()
    }
}

fn parameter((name, matched): &(Name, Option<TextMatch>)) -> rds::QueryParameterMatcher {
    let specifier = match matched {
        None => QueryParameterMatchSpecifier::PresentMatch(true),
        Some(matched) => QueryParameterMatchSpecifier::StringMatch(text(matched)),
    };
    rds::QueryParameterMatcher { name: name.to_string(), query_parameter_match_specifier: Some(specifier) }
}
