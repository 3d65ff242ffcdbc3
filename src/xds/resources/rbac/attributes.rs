//! What one value of one attribute means.

use envoy_types::pb::envoy::config::core::v3::{CidrRange, TypedExtensionConfig};
use envoy_types::pb::envoy::config::rbac::v3::{Permission, Principal, permission, principal};
use envoy_types::pb::envoy::config::route::v3::{HeaderMatcher, header_matcher};
use envoy_types::pb::envoy::extensions::path::r#match::uri_template::v3::UriTemplateMatchConfig;
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::envoy::r#type::matcher::v3::{PathMatcher, StringMatcher, path_matcher};
use envoy_types::util::pack_any;

use super::identities;
use super::terms::{IntoTerm, Term};
use crate::model::Name;
use crate::model::policy::{Attribute, TextPattern, block, path_template};
use crate::xds::resources::parts::number;

/// Whether an attribute is one of the operation, not of the source.
pub(super) fn is_of_operation(attribute: &Attribute) -> bool {
    matches!(
        attribute,
        Attribute::DestinationIp
            | Attribute::DestinationPort
            | Attribute::Sni
            | Attribute::Host
            | Attribute::Method
            | Attribute::Path
    )
}

/// What a value of an attribute of the operation means.
pub(super) fn permission(attribute: &Attribute, value: &str, wide: bool, _: &[Name]) -> Option<Permission> {
    use permission::Rule;
    Some(match attribute {
        Attribute::DestinationIp => Rule::DestinationIp(range(value)?).into_term(),
        Attribute::DestinationPort => Rule::DestinationPort(value.parse::<u16>().ok()?.into()).into_term(),
        Attribute::Sni => Rule::RequestedServerName(pattern(value, false)?).into_term(),
        Attribute::Method => Rule::Header(header(":method", value)?).into_term(),
        Attribute::Host => Term::one_of(hosts(value, wide)?),
        Attribute::Path if value.contains(['{', '}']) => Rule::UriTemplate(template(value)?).into_term(),
        Attribute::Path => {
            let path = path_matcher::Rule::Path(pattern(value, false)?);
            Rule::UrlPath(PathMatcher { rule: Some(path) }).into_term()
        }
        _ => return None,
    })
}

/// What a value of an attribute of the source means.
pub(super) fn principal(
    attribute: &Attribute,
    value: &str,
    wide: bool,
    trust_domains: &[Name],
) -> Option<Principal> {
    use principal::Identifier;
    Some(match attribute {
        Attribute::SourcePrincipal => identities::principal(value, wide, trust_domains),
        Attribute::SourceNamespace => identities::namespace(value),
        Attribute::SourceAccount => identities::account(value)?,
        Attribute::SourceIp => Identifier::DirectRemoteIp(range(value)?).into_term(),
        Attribute::RemoteIp => Identifier::RemoteIp(range(value)?).into_term(),
        Attribute::Header(name) => Identifier::Header(header(name, value)?).into_term(),
        _ => return None,
    })
}

/// A text that is matched; `None` for an empty one.
fn pattern(value: &str, ignore_case: bool) -> Option<StringMatcher> {
    let pattern = match TextPattern::of(value) {
        TextPattern::Exact("") => return None,
        TextPattern::Exact(text) => MatchPattern::Exact(text.to_owned()),
        TextPattern::Prefix(text) => MatchPattern::Prefix(text.to_owned()),
        TextPattern::Suffix(text) => MatchPattern::Suffix(text.to_owned()),
        TextPattern::Present => identities::regex(".+".to_owned()),
    };
    Some(StringMatcher { match_pattern: Some(pattern), ignore_case: ignore_case && value != "*" })
}

fn header(name: &str, value: &str) -> Option<HeaderMatcher> {
    use header_matcher::HeaderMatchSpecifier;
    let matched = match TextPattern::of(value) {
        TextPattern::Present => HeaderMatchSpecifier::PresentMatch(true),
        _ => HeaderMatchSpecifier::StringMatch(pattern(value, false)?),
    };
    Some(HeaderMatcher { name: name.to_owned(), header_match_specifier: Some(matched), ..Default::default() })
}

/// A host in any case; widely meant also as an absolute name and with a port.
fn hosts(value: &str, wide: bool) -> Option<Vec<Permission>> {
    use header_matcher::HeaderMatchSpecifier;
    let matching = |pattern: StringMatcher| {
        let header = HeaderMatcher {
            name: ":authority".to_owned(),
            header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(pattern)),
            ..Default::default()
        };
        permission::Rule::Header(header).into_term()
    };
    let mut hosts = vec![matching(pattern(value, true)?)];
    let any_case = |pattern| matching(StringMatcher { match_pattern: Some(pattern), ignore_case: true });
    let ends = |host: &str| [format!("{host}."), format!("{host}:"), format!("{host}.:")];
    match TextPattern::of(value) {
        TextPattern::Exact(host) if wide => {
            let [absolute, port, both] = ends(host);
            hosts.push(any_case(MatchPattern::Exact(absolute)));
            hosts.extend([port, both].map(|start| any_case(MatchPattern::Prefix(start))));
        }
        TextPattern::Suffix(host) if wide => {
            let [absolute, port, both] = ends(host);
            hosts.push(any_case(MatchPattern::Suffix(absolute)));
            hosts.extend([port, both].map(|middle| any_case(MatchPattern::Contains(middle))));
        }
        _ => {}
    }
    Some(hosts)
}

fn template(value: &str) -> Option<TypedExtensionConfig> {
    Some(TypedExtensionConfig {
        name: "uri-template".to_owned(),
        typed_config: Some(pack_any(UriTemplateMatchConfig { path_template: path_template(value)? })),
    })
}

fn range(value: &str) -> Option<CidrRange> {
    let block = block(value)?;
    Some(CidrRange {
        address_prefix: block.network().to_string(),
        prefix_len: number(block.prefix_len().into()),
    })
}
